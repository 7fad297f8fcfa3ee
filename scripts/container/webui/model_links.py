"""Link models into the WebUI's data folder, and remove the links of an earlier start.

The data folder may be a user's own, on a volume, so a list of the links that the worker made lies
in it: nothing else in it is replaced or removed. Where a link cannot be made, the worker goes on
without that model and says so.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from scripts.common.concurrently import run_concurrently
from scripts.common.diagnostics.error import UserError
from scripts.common.files import write_atomically
from scripts.common.models.folder_listing import Problem, describe_error
from scripts.container.log import log
from scripts.container.settings import Settings
from scripts.container.webui.hub_checkpoint import with_hub_path
from scripts.container.webui.model_tree import (
    ModelTree,
    build_model_tree,
    format_counts,
    save_tree,
)

_LIST: Final = "model-links.json"
_LIMIT: Final = 16  # links at once; the data folder may be on a network file system
_LOGGED: Final = 20  # problems with a line each


def prepare_models(settings: Settings) -> ModelTree:
    """Find all models, link them, and log and save what was found.

    Raises:
        UserError: as for `build_model_tree`.
    """
    started = time.monotonic()
    settings = with_hub_path(settings)
    tree = build_model_tree(settings, read_own_links(settings.data_dir))
    problems = link_models(settings, tree)
    checkpoint = find_start(settings, tree)
    tree = replace(tree, problems=(*tree.problems, *problems), checkpoint=checkpoint)
    try:
        save_tree(settings.worker_dir, tree)
    except OSError as error:  # the WebUI can serve without it
        log("models-not-saved", level="warning", reason=describe_error(error))
    for problem in tree.problems[:_LOGGED]:
        log("model-problem", level="warning", path=problem.path, reason=problem.reason)
    log(
        "models",
        found=format_counts(tree),
        shadowed=len(tree.entries) - len(tree.visible),
        problems=len(tree.problems),
        seconds=time.monotonic() - started,
    )
    wanted = settings.model_path
    if wanted.is_absolute() and all(entry.path != str(wanted) for entry in tree.visible):
        reason = f"{wanted} does not exist"
        log("checkpoint-chosen", level="warning", checkpoint=tree.checkpoint, reason=reason)
    return tree


def find_start(settings: Settings, tree: ModelTree) -> Path:
    """Return the path for `--ckpt`: the link, or the file itself where the link was not made."""
    for entry in tree.visible:
        is_start = entry.place and settings.data_dir / entry.place == tree.checkpoint
        if is_start and _read_link(tree.checkpoint) != entry.path:
            return Path(entry.path)
    return tree.checkpoint


def read_own_links(data_dir: Path) -> frozenset[Path]:
    """Return the links in the data folder that a worker made and nobody has changed since."""
    return frozenset(
        data_dir / place
        for place, target in _read_list(data_dir).items()
        if _read_link(data_dir / place) == target
    )


def link_models(settings: Settings, tree: ModelTree) -> list[Problem]:
    """Make the links of a tree, and remove those of an earlier start that are not in it.

    Returns:
        What could not be done.
    """
    data_dir = settings.data_dir
    before = _read_list(data_dir)
    wanted = {place: target for entry in tree.visible for place, target in entry.links().items()}
    if not before and not wanted:
        return []
    problems = []
    try:
        # Before the first link: one that is on no list would never be removed.
        _write_list(data_dir, {**before, **wanted})
    except OSError as error:
        problems.append(Problem(data_dir / _LIST, describe_error(error)))
    for place in before.keys() - wanted.keys():
        with suppress(OSError):
            if _read_link(data_dir / place) == before[place]:
                (data_dir / place).unlink()
    problems += _make_links(settings, wanted, before)
    with suppress(OSError):  # the longer list does no harm
        _write_list(data_dir, wanted)
    return sorted(problems, key=lambda problem: str(problem.path))


def add_link(data_dir: Path, place: str, target: Path) -> None:
    """Make one more link while the WebUI runs; the worker's next start removes it.

    Links to nothing that were added so before are removed: their models were evicted.

    Args:
        data_dir: the data folder.
        place: of the link in it.
        target: where it leads.

    Raises:
        OSError: the list of links cannot be written.
        UserError: the link cannot be made (code `models-unseen`).
    """
    before = _read_list(data_dir)
    link, name = data_dir / place, str(target)
    if before.get(place) != name or _read_link(link) != name:
        folder = Path(place).parent
        gone = [
            each
            for each in before
            if Path(each).parent == folder and not (data_dir / each).exists()
        ]
        kept = {each: before[each] for each in before if each not in gone}
        _write_list(data_dir, {**before, place: name})
        for each in gone:
            with suppress(OSError):
                if _read_link(data_dir / each) == before[each]:
                    (data_dir / each).unlink()
        reason = _make_folder(data_dir.resolve(), link.parent) or _make_link(
            link, name, before.get(place)
        )
        if reason:
            raise UserError(reason, location=str(link), code="models-unseen")
        _write_list(data_dir, {**kept, place: name})


def _make_links(
    settings: Settings, wanted: Mapping[str, str], before: Mapping[str, str]
) -> Iterator[Problem]:
    """Make links, several at once; return what could not be done."""
    data_dir, timeout = settings.data_dir, settings.model_scan_timeout
    root = data_dir.resolve()
    links = {data_dir / place: place for place in wanted}
    for folder in sorted({link.parent for link in links}):
        if reason := _make_folder(root, folder):
            yield Problem(folder, reason)
            links = {link: place for link, place in links.items() if link.parent != folder}
    calls = {
        link: partial(_make_link, link, wanted[place], before.get(place))
        for link, place in links.items()
    }
    for link, refusal in run_concurrently(calls, _LIMIT, timeout=timeout):
        del links[link]
        if refusal:
            yield Problem(link, str(refusal))
    if links:
        yield Problem(data_dir, f"{len(links)} links were not made within {timeout:.0f} s")


def _make_folder(root: Path, folder: Path) -> str:
    """Make a folder in the data folder; return why not, empty when it is there.

    Args:
        root: the data folder, resolved.
        folder: the folder.
    """
    try:
        if not folder.resolve().is_relative_to(root):
            return "leads out of the data folder, so no models are linked there"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        return f"no models are linked there: {describe_error(error)}"
    return ""


def _make_link(link: Path, target: str, replaceable: str | None) -> str:
    """Make one link; return why not, empty when it is there.

    Args:
        link: the link.
        target: where it leads.
        replaceable: target of the link of an earlier start that may be there.
    """
    try:
        present = _read_link(link)
        if present == target:
            return ""
        if present is not None and present == replaceable:
            link.unlink()
        link.symlink_to(target)
    except FileExistsError:
        return "something else has this name, so the model is not linked"
    except OSError as error:
        return f"the model is not linked: {describe_error(error)}"
    return ""


def _read_link(link: Path) -> str | None:
    """Return where a link leads; None where there is no link."""
    try:
        return str(link.readlink())
    except OSError:
        return None


def _read_list(data_dir: Path) -> dict[str, str]:
    """Return the links that a worker made, as target by place in the data folder."""
    try:
        found = json.loads((data_dir / _LIST).read_text(encoding="utf-8"))
        return {str(place): str(target) for place, target in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _write_list(data_dir: Path, links: Mapping[str, str]) -> None:
    text = json.dumps(links, indent=0, sort_keys=True) + "\n"
    write_atomically(data_dir / _LIST, text)
