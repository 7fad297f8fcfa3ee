"""Find the model files of an install, check them by kind and hash them; no file is changed."""

import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar

from scripts.common.concurrently import run_concurrently
from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.file_format import PICKLED_KINDS, check_structure
from scripts.common.fetch.hashing import sha256_of
from scripts.common.fetch.spec import ProgressCallback
from scripts.common.models.folder_listing import describe_error, natural_key
from scripts.common.models.kinds import KINDS, PICKLE_SUFFIXES, identify
from scripts.common.models.layouts import PlacedModel
from scripts.common.models.model_search import FoundModel, discover
from scripts.host.importer.user_flags import LeftOut
from scripts.host.importer.webui_install import WebuiInstall
from scripts.host.models.store import Store

_SEARCH_TIMEOUT: Final = 600.0  # seconds to list all folders
_OWN_FILES: Final = (PurePosixPath("models/VAE-approx/model.pt"),)  # A1111's repository has them
_UNFINISHED: Final = (
    ".part",
    ".partial",
    ".crdownload",
    ".download",
    ".incomplete",
    ".aria2",
    ".tmp",
)
_PICKLE: Final = "a pickle can run code when it is loaded; --allow-pickle imports it"

Key = TypeVar("Key")

_WEIGHTS: Final = (".safetensors", *PICKLE_SUFFIXES, ".onnx", ".gguf")


@dataclass(frozen=True)
class InstalledModel:
    """A model file of an install that passed the checks of its kind.

    Args:
        path: the file.
        placed: its kind, and its place in the data folder.
        size: bytes.
        sha256: of its content; empty until it is hashed.
        is_pickle: it is a pickle of a kind that commonly is none.
    """

    path: Path
    placed: PlacedModel
    size: int
    sha256: str = ""
    is_pickle: bool = False


def find_models(install: WebuiInstall) -> tuple[list[FoundModel], list[LeftOut]]:
    """List the models of an install by kind and name; of one name the one that the WebUI uses."""
    search = discover(install.bases, frozenset(), _SEARCH_TIMEOUT)
    left_out = [LeftOut(str(problem.path), problem.reason) for problem in search.problems]
    for path in search.unplaced:
        if path.name.lower().endswith(_UNFINISHED):
            left_out.append(LeftOut(str(path), "an unfinished download"))
        elif path.name.lower().endswith(_WEIGHTS):
            left_out.append(LeftOut(str(path), "the WebUI loads no file of this name from there"))
    used: dict[tuple[str, ...], FoundModel] = {}
    # Of several below one folder the WebUI keeps the last.
    models = sorted(search.found, key=lambda each: natural_key(str(each.path)), reverse=True)
    for model in sorted(models, key=lambda each: each.rank):
        placed = model.placed
        if placed.place in _OWN_FILES:
            continue
        identity = (placed.kind, placed.family, identify(placed.kind, placed.name))
        first = used.setdefault(identity, model)
        if first is not model:
            reason = f"the WebUI sees only one {placed.kind} of this name, {first.path}"
            left_out.append(LeftOut(str(model.path), reason))
    kinds = list(KINDS)
    found = sorted(
        used.values(),
        key=lambda each: (
            kinds.index(each.placed.kind),
            each.placed.family,
            natural_key(each.placed.name),
        ),
    )
    return [companion for model in found for companion in _with_configuration(model)], left_out


def _with_configuration(model: FoundModel) -> Iterator[FoundModel]:
    """Give a model and, for those that the WebUI configures by one, its `.yaml`."""
    yield model
    configuration = PurePosixPath(model.placed.name).with_suffix(".yaml")
    if model.placed.kind in ("checkpoint", "controlnet") and configuration.name in model.companions:
        placed = PlacedModel(
            model.placed.kind,
            "",
            str(configuration),
            model.placed.place.with_suffix(".yaml"),
        )
        yield FoundModel(placed, model.path.with_suffix(".yaml"), model.rule, model.root)


def read_models(
    found: Iterable[FoundModel],
    store: Store,
    *,
    release: str,
    allow_pickle: bool,
    trusted: Mapping[str, int],
    rehash: bool,
    on_progress: ProgressCallback,
) -> tuple[list[InstalledModel], list[LeftOut]]:
    """Check every model by its kind and hash it, one on each core at once.

    Args:
        found: the models.
        store: remembers the SHA-256 of a file by path, size, time and inode.
        release: A1111 release that will load them.
        allow_pickle: accept pickles of kinds that commonly are none.
        trusted: size of files that are accepted all the same, by SHA-256.
        rehash: read every file, whatever the store remembers.
        on_progress: called with the bytes hashed of all files together.

    Returns:
        The models in the given order, each content once; and what was left out.
    """
    sizes = None if allow_pickle else frozenset(trusted.values())
    check = partial(_check, release=release, pickle_sizes=sizes)
    checked = _run({model: partial(check, model) for model in found})
    models = [each for each in checked if isinstance(each, InstalledModel)]
    left_out = [each for each in checked if isinstance(each, LeftOut)]
    progress = _Progress(sum(model.size for model in models), on_progress)
    hashed = _run(
        {model: partial(_hash, model, store, progress, rehash=rehash) for model in models}
    )
    on_progress("verified", progress.total, progress.total)
    left_out += [each for each in hashed if isinstance(each, LeftOut)]
    unique: dict[tuple[str, ...], InstalledModel] = {}
    for model in hashed:
        if isinstance(model, LeftOut):
            continue
        if model.is_pickle and not allow_pickle and model.sha256 not in trusted:
            left_out.append(LeftOut(str(model.path), _PICKLE))
            continue
        # Several checkpoints may have the same configuration, each its own copy.
        own = str(model.path) if model.path.suffix.lower() == ".yaml" else ""
        key = (model.placed.kind, model.placed.family, model.sha256, own)
        first = unique.setdefault(key, model)
        if first is not model:
            left_out.append(LeftOut(str(model.path), f"the same content as {first.path}"))
    return list(unique.values()), left_out


def _check(
    model: FoundModel, *, release: str, pickle_sizes: Collection[int] | None
) -> InstalledModel | LeftOut:
    """Check one model by its kind.

    Args:
        model: the model.
        release: A1111 release that will load it.
        pickle_sizes: sizes that a pickle of a kind that commonly is none must have; None for any.
    """
    path, kind = model.path, model.placed.kind
    is_configuration = path.suffix.lower() == ".yaml"
    try:
        form = check_structure(
            path,
            path.name,
            kind="" if is_configuration else kind,
            allow_pickle=True,
            release=release,
        )
        size = path.stat().st_size
    except UserError as error:
        return LeftOut(str(path), error.message)
    except OSError as error:
        return LeftOut(str(path), describe_error(error))
    is_pickle = form != "safetensors" and (
        form != "data" or path.name.lower().endswith(PICKLE_SUFFIXES)
    )
    is_pickle = is_pickle and kind not in PICKLED_KINDS
    if is_pickle and pickle_sizes is not None and size not in pickle_sizes:
        return LeftOut(str(path), _PICKLE)
    return InstalledModel(path, model.placed, size, is_pickle=is_pickle)


class _Progress:
    """Adds up the bytes that several threads have hashed."""

    def __init__(self, total: int, on_progress: ProgressCallback) -> None:
        self.total = total
        self._done = 0
        self._lock = threading.Lock()
        self._report = on_progress

    def add(self, count: int) -> None:
        """Report further bytes."""
        with self._lock:
            self._done += count
            self._report("verifying", self._done, self.total)


def _hash(
    model: InstalledModel, store: Store, progress: _Progress, *, rehash: bool
) -> InstalledModel | LeftOut:
    path, done = model.path, 0

    def report(count: int) -> None:
        nonlocal done
        progress.add(count - done)
        done = count

    try:
        origin = _identify_file(path)
        sha256 = "" if rehash else store.recall(origin)
        if sha256:
            progress.add(model.size)
        else:
            sha256 = sha256_of(path, report)
            if _identify_file(path) != origin:
                return LeftOut(str(path), "it changed while it was read")
            store.remember(origin, sha256)
    except OSError as error:
        return LeftOut(str(path), describe_error(error))
    return replace(model, sha256=sha256)


def _identify_file(path: Path) -> str:
    """Return what stays the same while a file is not changed."""
    stat = path.stat()
    return f"{path.absolute().as_uri()}?{stat.st_size}.{stat.st_mtime_ns}.{stat.st_ino}"


def _run(
    work: Mapping[Key, Callable[[], InstalledModel | LeftOut]],
) -> list[InstalledModel | LeftOut]:
    """Call every function, one on each core at once; return the results in the given order."""
    done = dict(run_concurrently(work, os.cpu_count() or 1))
    return [each for key in work if not isinstance(each := done[key], UserError)]
