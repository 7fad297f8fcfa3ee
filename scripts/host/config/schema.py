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

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Image(Section):
    """Names and labels of the image."""

    repository: str
    """Registry and repository the image is pushed to."""
    tags: tuple[str, ...] = Field(min_length=1)
    """Immutable tags; {release}, {variant} and {revision} are filled in."""
    moving_tags: tuple[str, ...] = ()
    """Tags that move, pushed only after every immutable one is up."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Further OCI labels."""


class Base(Section):
    """The two images the Dockerfile starts from."""

    download: str
    """Stage `download`: git, a shell and wget."""
    runtime: str
    """Stage `build_final_image`: Python, torch, CUDA, cuDNN."""


class GitSource(Section):
    """A git repository at a commit."""

    repo: Annotated[str, AfterValidator(addresses.check_credentials)]
    """owner/name under mirrors.github, or a whole URL."""
    commit: Commit | None = None
    """40 hex digits; unpinned when absent."""


class A1111(Section):
    """The WebUI and the repositories it is made of."""

    release: str
    """Tag of the WebUI."""
    sources: dict[str, GitSource]
    """The WebUI and its components, by name."""


class Mirrors(Section):
    """Where outside sources are reached."""

    github: Url = "https://github.com"
    """Prefix of owner/name sources."""
    huggingface: Url = "https://huggingface.co"
    """Hub endpoint."""
    pytorch: Url | None = None
    """Extra package index for xformers, such as PyTorch's cu128 one."""
    python: Url | None = None
    """Package index (PEP 503); null: the installer's own default."""
    apt: Url | None = None
    """Package mirror, /debian-security beside it; null: as the base image has it."""
    apk: Url | None = None
    """Alpine mirror for stage `download`; null: as the base has it."""
    registry: Annotated[str, AfterValidator(addresses.check_registry)] | None = None
    """Registry prefix put before base images, such as host:5000."""
    ca_bundle: str | None = None
    """PEM file trusted by every download, on the host and in builds."""


class HubSource(Section):
    """Files of a Hugging Face Hub repository."""

    hub: Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")]
    """owner/repo"""
    file: str | None = None
    """One file of the repository."""
    files: tuple[str, ...] = ()
    """Several files of the repository."""
    revision: str = "main"
    """Branch, tag or commit."""

    @model_validator(mode="after")
    def _one_or_many(self) -> HubSource:
        if (self.file is None) == (not self.files):
            raise ValueError("exactly one of `file` and `files`")
        return self

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
    ]
    """Address of the file; its host's token is in TOKEN_<HOST>."""

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

    name: Name
    """Name of the model in tasks."""
    source: Source
    """{hub: owner/repo, file or files, revision}, or {url: …}; https, http or file."""
    path: AbsolutePath
    """File in the image; with layout hub-cache, the Hub cache folder."""
    layout: Literal["file", "hub-cache"] = "file"
    """One file at `path`, or the Hub's cache layout below it."""
    placement: Literal["image", "volume"] = "image"
    """Baked into the image, or fetched by the worker at start."""
    sha256: Sha256 | None = None
    """Expected SHA-256."""
    size: int | None = Field(default=None, ge=1)
    """Expected size in bytes."""
    allow_pickle: bool = False
    """Accept .ckpt and .pt (they run code)."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its files: in the repository, at the end of the URL, or in the image."""
        if isinstance(self.source, HubSource):
            return (self.source.file,) if self.source.file else self.source.files
        return (addresses.file_name(self.source.url) or PurePosixPath(self.path).name,)

    @model_validator(mode="after")
    def _files_fit_the_layout(self) -> Model:
        if len(self.files) > 1 and (self.layout == "file" or self.sha256 or self.size):
            raise ValueError("several files need `layout: hub-cache`, and no `sha256` or `size`")
        if self.layout == "hub-cache" and not isinstance(self.source, HubSource):
            raise ValueError("`layout: hub-cache` needs a Hub source")
        return self


class Store(Section):
    """Folder of verified model files on the building machine."""

    path: str = "models"
    """Folder; may be shared by checkouts."""
    concurrency: int = Field(default=4, ge=1, le=32)
    """Downloads at once."""


class Cache(Section):
    """BuildKit cache import and export, as options of buildx."""

    from_: tuple[str, ...] = Field(default=(), alias="from")
    """--cache-from values."""
    to: tuple[str, ...] = ()
    """--cache-to values."""


class Build(Section):
    """Settings of the build."""

    accelerator: Literal["cuda", "cpu"] = "cuda"
    """Device that draws; cpu leaves xformers out."""
    requirements: PathBelow
    """Hashed lock of the image's Python packages."""
    cache: Cache = Field(default_factory=Cache)
    builder: str | None = None
    """buildx builder; null: the current one."""
    network: Literal["default", "host", "none"] = "default"
    """Network of RUN steps; host where a mirror is on loopback."""


class Smoke(Section):
    """Limits and settings of the smoke tests."""

    targets: tuple[Annotated[str, StringConstraints(pattern=r"^\d+\.\d$")], ...] = ("8.9",)
    """Compute capabilities the image must carry code for."""
    ready_timeout: int = Field(default=600, ge=1)
    """Seconds until the API must draw."""
    stop_timeout: int = Field(default=30, ge=1)
    """Seconds a stop may take."""
    image_size: int = Field(default=64, ge=64, le=2048)
    """Edge of test pictures, px."""
    steps: int = Field(default=1, ge=1, le=50)
    """Sampling steps of test pictures."""
    total_size_limit: int | None = None
    """Bytes over the base image, models apart."""
    layer_size_limit: int | None = None
    """Bytes of one layer, models apart."""
    waste_limit: int | None = None
    """Bytes that later layers overwrite or delete."""


class Ci(Section):
    """The machines that CI runs on."""

    runner: tuple[str, ...] = Field(default=("ubuntu-24.04",), min_length=1)
    """Labels of machines without a GPU."""
    gpu_runner: tuple[str, ...] = ()
    """Labels of machines with one; []: none, so CI ships no CUDA image."""


class Config(Section):
    """All of `config.yaml`, one variant applied."""

    image: Image
    base: Base
    a1111: A1111
    mirrors: Mirrors = Field(default_factory=Mirrors)
    models: tuple[Model, ...]
    """Model files to download and verify."""
    store: Store = Field(default_factory=Store)
    build: Build
    smoke: Smoke = Field(default_factory=Smoke)
    ci: Ci = Field(default_factory=Ci)
    variants: dict[Name, dict[str, Any]]
    """Named overrides of any key above; one variant is one image."""

    @model_validator(mode="after")
    def _unique_models(self) -> Config:
        for attribute in ("name", "path"):
            values = [getattr(model, attribute) for model in self.models]
            twice = {value for value in values if values.count(value) > 1}
            if twice:
                raise ValueError(f"models: {attribute} used twice: {', '.join(sorted(twice))}")
        return self
