"""List the files of configured models, with what config and lock say of each. Pure."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote, urlsplit

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.file_format import refuse_pickle
from scripts.common.fetch.hub_record import HubReference
from scripts.common.fetch.spec import ArtifactSpec, redact_url
from scripts.common.models.kinds import COMPANION_SUFFIXES
from scripts.common.secrets import token_variable
from scripts.host.config.features import FeatureModel
from scripts.host.config.load import LoadedConfig
from scripts.host.config.lock import LockedFile, LockedModel
from scripts.host.config.model_schema import HubSource, Model
from scripts.host.config.schema import Mirrors


@dataclass(frozen=True)
class Artifact:
    """One file of a configured model.

    Args:
        model: the model it belongs to.
        file: its name in the repository, at the end of its URL, or else in the image.
        spec: its address and expected properties, as far as known.
        published: the same without mirrors, for a worker elsewhere.
        revision: revision of the Hub repository; empty for URLs.
    """

    model: Model
    file: str
    spec: ArtifactSpec
    published: ArtifactSpec
    revision: str = ""

    @property
    def is_pinned(self) -> bool:
        """True if config or lock give its SHA-256."""
        return bool(self.spec.sha256)

    @property
    def repo(self) -> str:
        """Its Hub repository, owner/name; empty for URLs."""
        source = self.model.source
        return source.hub if isinstance(source, HubSource) else ""

    @property
    def origin(self) -> str:
        """Immutable name of its content, `hub:owner/repo@COMMIT/file`; empty if it can change."""
        is_commit = re.fullmatch(r"[0-9a-f]{40}", self.revision)
        return f"{self.model.source.id}@{self.revision}/{self.file}" if is_commit else ""

    @property
    def reference(self) -> HubReference:
        """Its name for the worker's MODEL_PATH; of a file of the Hub."""
        return HubReference(self.repo, self.file, self.revision)

    @property
    def label(self) -> str:
        """Its name in displays: the model's, and the file's if the model has several."""
        name = self.model.name
        return name if len(self.model.files) == 1 else f"{name}/{self.file}"

    @property
    def source(self) -> str:
        """Its source without what may be secret."""
        source = self.model.source.id
        return source if self.repo else redact_url(source)

    @property
    def cache_folder(self) -> PurePosixPath:
        """Folder of its repository in the image, for layout `hub-cache`."""
        return PurePosixPath(self.model.cache_folder)

    @property
    def image_path(self) -> PurePosixPath:
        """Its path in the image.

        The Hub cache's layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache

        Raises:
            UserError: layout `hub-cache` without a known commit.
        """
        if self.model.layout == "file":
            return PurePosixPath(self.model.target)
        if not self.origin:
            raise UserError(
                f"{self.model.name}: the Hub cache needs a commit, not {self.revision}",
                location="config.yaml",
                hint="run: invoke pin",
            )
        return self.cache_folder / "snapshots" / self.revision / self.file


def image_artifacts(loaded: LoadedConfig, names: Collection[str] = ()) -> tuple[Artifact, ...]:
    """List the files of the models that are baked into the image, or of the named models.

    Args:
        loaded: config and lock.
        names: model names; empty for all with `placement: image`.

    Raises:
        UserError: a name is unknown, a pickle is not allowed, or config and lock disagree.
    """
    models = loaded.config.all_models
    unknown = set(names) - {model.name for model in models}
    if unknown:
        raise UserError(
            f"there is no model {', '.join(sorted(unknown))}",
            location="config.yaml",
            hint=f"one of: {', '.join(model.name for model in models)}",
        )
    chosen = (m for m in models if m.name in names or (not names and m.placement == "image"))
    return artifacts_of(loaded, chosen)


def artifacts_of(loaded: LoadedConfig, models: Iterable[Model]) -> tuple[Artifact, ...]:
    """List the files of some models of a config."""
    mirrors, release = loaded.config.mirrors, loaded.config.a1111.release
    return tuple(
        artifact
        for model in models
        for artifact in model_artifacts(model, loaded.pin_of(model), mirrors, release)
    )


def model_artifacts(
    model: Model, locked: LockedModel | None, mirrors: Mirrors, release: str = ""
) -> list[Artifact]:
    """List the files of one model.

    Args:
        model: the model.
        locked: its pin; None if unpinned.
        mirrors: addresses of outside sources.
        release: A1111 release that will load it; empty if unknown.

    Raises:
        UserError: a pickle is not allowed, or config and lock disagree.
    """
    revision = ""
    if isinstance(model.source, HubSource):
        revision = (locked and locked.revision) or model.source.revision
    artifacts = []
    for file in model.files:
        name = file if model.layout == "hub-cache" else PurePosixPath(model.target).name
        kind, allow = model.checked_kind or "", model.allow_pickle
        if not allow:
            refuse_pickle(file, kind)
            refuse_pickle(name, kind)
        if name.lower().endswith(COMPANION_SUFFIXES):
            kind = ""  # a configuration beside a model is no model of its kind
        sha256, size = _expected(model, locked.files.get(file) if locked else None)
        spec, published = (
            ArtifactSpec(url, name, sha256, size or None, "", allow, variable, kind, release)
            for url, variable in (
                _find_address(model, file, revision, each) for each in (mirrors, Mirrors())
            )
        )
        artifacts.append(Artifact(model, file, spec, published, revision))
    return artifacts


def _find_address(model: Model, file: str, revision: str, mirrors: Mirrors) -> tuple[str, str]:
    """Return the address of a model's file, and the variable that may hold a token for it."""
    source = model.source
    if isinstance(source, HubSource):
        return hub_url(mirrors.huggingface, source.hub, revision, file), "HF_TOKEN"
    is_ours = isinstance(model, FeatureModel)  # an address in config.yaml is used as it is
    address = mirrors.apply(source.url) if is_ours else source.url
    host = urlsplit(address).hostname or ""
    is_hub = host == urlsplit(mirrors.huggingface).hostname
    return address, "HF_TOKEN" if is_hub else token_variable(host)


def hub_url(endpoint: str, repo: str, revision: str, file: str) -> str:
    """Return the address of a Hub repository's file."""
    return f"{endpoint}/{repo}/resolve/{quote(revision, safe='')}/{quote(file)}"


def _expected(model: Model, pin: LockedFile | None) -> tuple[str, int | None]:
    """Return SHA-256 and size by config and lock; the config need not give both."""
    if pin is None:
        return model.sha256 or "", model.size
    if (pin.sha256, pin.size) != (model.sha256 or pin.sha256, model.size or pin.size):
        raise UserError(
            f"config and lock disagree about {model.name}",
            location="config.lock.yaml",
            hint="decide which is right, then run: invoke pin",
        )
    return pin.sha256, pin.size
