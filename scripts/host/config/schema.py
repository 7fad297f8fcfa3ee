"""Define the keys of `config.yaml`, typed and frozen.

Each field's description is shown in an editor by `config.schema.json` and printed in the config
reference.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from scripts.common.models.kinds import Kind
from scripts.host.config import addresses, model_place

Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Url = Annotated[
    str,
    AfterValidator(addresses.check_mirror),
    WithJsonSchema({"type": "string", "pattern": r"^https?://[^\s/]"}),
]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
ModelPath = Annotated[str, StringConstraints(pattern=model_place.PATH_PATTERN)]
PathBelow = Annotated[str, StringConstraints(pattern=r"^[\w-][\w.-]*(/[\w-][\w.-]*)*$")]


class Section(BaseModel):
    """A frozen part of the config; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Image(Section):
    """Names and labels of the image."""

    repository: str = Field(description="Registry and repository the image is pushed to.")
    tags: tuple[str, ...] = Field(
        min_length=1,
        description="Immutable tags; {release}, {variant} and {revision} are filled in.",
    )
    moving_tags: tuple[str, ...] = Field(
        default=(), description="Tags that move, pushed only after every immutable one is up."
    )
    labels: dict[str, str] = Field(default_factory=dict, description="Further OCI labels.")


class Base(Section):
    """The two images the Dockerfile starts from."""

    download: str = Field(description="Stage `download`: git, a shell and wget.")
    runtime: str = Field(description="Stage `build_final_image`: Python, torch, CUDA, cuDNN.")


class GitSource(Section):
    """A git repository at a commit."""

    repo: Annotated[str, AfterValidator(addresses.check_repository)] = Field(
        description="owner/name under mirrors.github, or a whole URL."
    )
    commit: Commit | None = Field(default=None, description="40 hex digits; unpinned when absent.")


class A1111(Section):
    """The WebUI and the repositories it is made of."""

    release: str = Field(description="Tag of the WebUI.")
    sources: dict[str, GitSource] = Field(description="The WebUI and its components, by name.")


class Mirrors(Section):
    """Where outside sources are reached."""

    github: Url = Field(default="https://github.com", description="Prefix of owner/name sources.")
    huggingface: Url = Field(default="https://huggingface.co", description="Hub endpoint.")
    pytorch: Url | None = Field(
        default=None, description="Extra package index for xformers, such as PyTorch's cu128 one."
    )
    python: Url | None = Field(
        default=None, description="Package index (PEP 503); null: the installer's own default."
    )
    apt: Url | None = Field(
        default=None,
        description="Package mirror, /debian-security beside it; null: as the base image has it.",
    )
    apk: Url | None = Field(
        default=None, description="Alpine mirror for stage `download`; null: as the base has it."
    )
    registry: Annotated[str, AfterValidator(addresses.check_registry)] | None = Field(
        default=None, description="Registry prefix put before base images, such as host:5000."
    )
    ca_bundle: str | None = Field(
        default=None, description="PEM file trusted by every download, on the host and in builds."
    )


class HubSource(Section):
    """Files of a Hugging Face Hub repository."""

    hub: Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")] = Field(
        description="owner/repo"
    )
    file: str | None = Field(default=None, description="One file of the repository.")
    files: tuple[str, ...] = Field(default=(), description="Several files of the repository.")
    revision: str = Field(default="main", description="Branch, tag or commit.")

    @model_validator(mode="after")
    def _one_or_many(self) -> HubSource:
        if (self.file is None) == (not self.files):
            raise ValueError("exactly one of `file` and `files`")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The files of the model, one or more."""
        return (self.file,) if self.file else self.files

    @property
    def id(self) -> str:
        """The repository, without a revision."""
        return f"hub:{self.hub}"

    @property
    def lock_key(self) -> str:
        """The source as the lock records it."""
        return f"{self.id}@{self.revision}"


class UrlSource(Section):
    """A file behind a URL: https:, http: or file:."""

    url: Annotated[
        str,
        StringConstraints(pattern=r"^(https?|file)://[^\s]+$"),
        AfterValidator(addresses.check_credentials),
    ] = Field(description="Address of the file; its host's token is in TOKEN_<HOST>.")

    @property
    def id(self) -> str:
        """The address."""
        return self.url

    @property
    def lock_key(self) -> str:
        """The source as the lock records it."""
        return self.url


def _kind(source: Any) -> str:  # noqa: ANN401 - raw YAML, or a section already made
    """Return which source a map describes, so that errors concern that one only."""
    names = source if isinstance(source, dict) else type(source).model_fields
    return "url" if "url" in names else "hub"


Source = Annotated[
    Annotated[HubSource, Tag("hub")] | Annotated[UrlSource, Tag("url")], Discriminator(_kind)
]


class Model(Section):
    """A model file of any kind, or a folder of small files, and where it goes."""

    name: Name = Field(description="Name of the model in tasks.")
    source: Source = Field(
        description="{hub: owner/repo, file or files, revision}, or {url: …}; https, http or file."
    )
    kind: Kind | None = Field(
        default=None, description="What it is for the WebUI, which decides where it goes."
    )
    family: str | None = Field(
        default=None,
        description="Architecture of an upscaler or face restorer, such as SwinIR; null: by name.",
    )
    path: ModelPath | None = Field(
        default=None,
        description="File in the container; with a kind optional, or relative to the kind's folder;"
        " with layout hub-cache, the Hub cache folder.",
    )
    layout: Literal["file", "hub-cache"] = Field(
        default="file", description="One file at `path`, or the Hub's cache layout below it."
    )
    placement: model_place.Placement = Field(
        default="image", description="Baked into the image, or fetched by the worker at start."
    )
    sha256: Sha256 | None = Field(default=None, description="Expected SHA-256.")
    size: int | None = Field(default=None, ge=1, description="Expected size in bytes.")
    allow_pickle: bool = Field(default=False, description="Accept .ckpt and .pt (they run code).")
    licence: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        default=None, description="Licence of the model, for models.list and the image's label."
    )

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its files: in the repository, at the end of the URL, or in the image."""
        if isinstance(self.source, HubSource):
            return self.source.names
        return (addresses.file_name(self.source.url) or PurePosixPath(self.path or "").name,)

    @property
    def location(self) -> model_place.Location:
        """Its place in the container, and its name in the WebUI."""
        kind, family, path = self.kind, self.family or "", self.path or ""
        return model_place.locate(kind, family, path, self.files[0], self.placement)

    @property
    def target(self) -> str:
        """Absolute path in the container: of the file, or of the Hub cache folder."""
        return self.location.path

    @property
    def filled_path(self) -> str:
        """Path that no other model may have: its file, or its repository in the Hub cache."""
        if self.layout == "hub-cache" and isinstance(self.source, HubSource):
            return f"{self.target}/models--{self.source.hub.replace('/', '--')}"
        return self.target

    @property
    def actual_kind(self) -> Kind:
        """Its kind; without a configured one a checkpoint at the checkpoint's path, else other."""
        at_start = self.target == model_place.CHECKPOINT_PATH
        return self.kind or ("checkpoint" if at_start else "other")

    @field_validator("path")
    @classmethod
    def _absolute_without_kind(cls, path: str | None, info: ValidationInfo) -> str | None:
        is_relative = path and not path.startswith("/")
        if is_relative and info.data.get("kind", "other") is None:
            raise ValueError("expected an absolute path, or a kind")
        return path

    @model_validator(mode="after")
    def _several_files(self) -> Model:
        if len(self.files) > 1 and (self.layout == "file" or self.sha256 or self.size):
            raise ValueError("several files need `layout: hub-cache`, and no `sha256` or `size`")
        return self

    @model_validator(mode="after")
    def _visible_to_the_webui(self) -> Model:
        if self.kind is None:
            if self.path is None:
                raise ValueError(f"expected a kind ({', '.join(get_args(Kind))}), or a path")
            if self.family is not None:
                raise ValueError(f"family {self.family} needs a kind")
            return self
        if self.layout == "hub-cache" or (self.kind == "other" and self.path is None):
            needed = "no kind" if self.layout == "hub-cache" else "a path"
            raise ValueError(f"kind {self.kind}, layout {self.layout}: expected {needed}")
        model_place.check_kind(self.kind, self.family or "", self.location, self.placement)
        return self


class Store(Section):
    """Folder of verified model files on the building machine."""

    path: str = Field(default="models", description="Folder; may be shared by checkouts.")
    concurrency: int = Field(default=4, ge=1, le=32, description="Downloads at once.")


class Cache(Section):
    """BuildKit cache import and export, as options of buildx."""

    from_: tuple[str, ...] = Field(default=(), alias="from", description="--cache-from values.")
    to: tuple[str, ...] = Field(default=(), description="--cache-to values.")


class Build(Section):
    """Settings of the build."""

    accelerator: Literal["cuda", "cpu"] = Field(
        default="cuda", description="Device that draws; cpu leaves xformers out."
    )
    requirements: PathBelow = Field(description="Hashed lock of the image's Python packages.")
    cache: Cache = Field(default_factory=Cache)
    builder: str | None = Field(default=None, description="buildx builder; null: the current one.")
    network: Literal["default", "host", "none"] = Field(
        default="default", description="Network of RUN steps; host where a mirror is on loopback."
    )


class Smoke(Section):
    """Limits and settings of the smoke tests."""

    targets: tuple[Annotated[str, StringConstraints(pattern=r"^\d+\.\d$")], ...] = Field(
        default=("8.9",), description="Compute capabilities the image must carry code for."
    )
    ready_timeout: int = Field(default=600, ge=1, description="Seconds until the API must draw.")
    stop_timeout: int = Field(default=30, ge=1, description="Seconds a stop may take.")
    image_size: int = Field(default=64, ge=64, le=2048, description="Edge of test pictures, px.")
    steps: int = Field(default=1, ge=1, le=50, description="Sampling steps of test pictures.")
    total_size_limit: int | None = Field(
        default=None, description="Bytes over the base image, models apart."
    )
    layer_size_limit: int | None = Field(
        default=None, description="Bytes of one layer, models apart."
    )
    waste_limit: int | None = Field(
        default=None, description="Bytes that later layers overwrite or delete."
    )


class Ci(Section):
    """The machines that CI runs on."""

    runner: tuple[str, ...] = Field(
        default=("ubuntu-24.04",), min_length=1, description="Labels of machines without a GPU."
    )
    gpu_runner: tuple[str, ...] = Field(
        default=(), description="Labels of machines with one; []: none, so CI ships no CUDA image."
    )


class Config(Section):
    """All of `config.yaml`, one variant applied."""

    image: Image
    base: Base
    a1111: A1111
    mirrors: Mirrors = Field(default_factory=Mirrors)
    models: tuple[Model, ...] = Field(description="Model files to download and verify.")
    store: Store = Field(default_factory=Store)
    build: Build
    smoke: Smoke = Field(default_factory=Smoke)
    ci: Ci = Field(default_factory=Ci)
    variants: dict[Name, dict[str, Any]] = Field(
        description="Named overrides of any key above; one variant is one image."
    )

    @model_validator(mode="after")
    def _unique_models(self) -> Config:
        names = [model.name for model in self.models]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"models: name used twice: {', '.join(sorted(twice))}")
        model_place.check_clashes(
            (model.name, model.kind, model.location, model.filled_path) for model in self.models
        )
        return self
