"""Define the keys of `config.yaml`, typed and frozen.

Each field's description is shown in an editor by `config.schema.json` and printed in the config
reference.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    WithJsonSchema,
    model_validator,
)

from scripts.host.config import addresses

Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Url = Annotated[
    str,
    AfterValidator(addresses.check_mirror),
    WithJsonSchema({"type": "string", "pattern": r"^https?://[^\s/]"}),
]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[^\s]*[^\s/]$")]
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
    """A checkpoint, or a folder of small files, and where it goes in the image."""

    name: Name = Field(description="Name of the model in tasks.")
    source: Source = Field(
        description="{hub: owner/repo, file or files, revision}, or {url: …}; https, http or file."
    )
    path: AbsolutePath = Field(
        description="File in the image; with layout hub-cache, the Hub cache folder."
    )
    layout: Literal["file", "hub-cache"] = Field(
        default="file", description="One file at `path`, or the Hub's cache layout below it."
    )
    placement: Literal["image", "volume"] = Field(
        default="image", description="Baked into the image, or fetched by the worker at start."
    )
    sha256: Sha256 | None = Field(default=None, description="Expected SHA-256.")
    size: int | None = Field(default=None, ge=1, description="Expected size in bytes.")
    allow_pickle: bool = Field(default=False, description="Accept .ckpt and .pt (they run code).")

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its files: in the repository, at the end of the URL, or in the image."""
        if isinstance(self.source, HubSource):
            return self.source.names
        return (addresses.file_name(self.source.url) or PurePosixPath(self.path).name,)

    @model_validator(mode="after")
    def _several_files(self) -> Model:
        if len(self.files) > 1 and (self.layout == "file" or self.sha256 or self.size):
            raise ValueError("several files need `layout: hub-cache`, and no `sha256` or `size`")
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
        for attribute in ("name", "path"):
            values = [getattr(model, attribute) for model in self.models]
            twice = {value for value in values if values.count(value) > 1}
            if twice:
                raise ValueError(f"models: {attribute} used twice: {', '.join(sorted(twice))}")
        return self
