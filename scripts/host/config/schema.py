"""Define the keys of `config.yaml`, typed and frozen.

Each field's description is shown in an editor by `config.schema.json` and printed in the config
reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from scripts.common.webui_flags import check_removed, split_added
from scripts.common.webui_settings import check_baked
from scripts.host.config import addresses, model_place
from scripts.host.config.deploy_schema import Deploy
from scripts.host.config.extension_schema import Extension, check_extensions, models_of
from scripts.host.config.features import ChosenFeature, expand_features
from scripts.host.config.grammar import (
    BuilderName,
    CacheOption,
    Commit,
    GitRef,
    ImageReference,
    LabelName,
    LocalPath,
    Matching,
    Name,
    PathBelow,
    Repository,
    TagTemplate,
)
from scripts.host.config.model_schema import HubSource, Model, Section

Url = Annotated[
    str,
    AfterValidator(addresses.check_mirror),
    WithJsonSchema({"type": "string", "pattern": r"^https?://[^\s/]"}),
]
# Build arguments of the Dockerfile have these names.
SourceName = Literal[
    "webui", "assets", "stable-diffusion", "generative-models", "k-diffusion", "blip", "clip"
]


class Image(Section):
    """Names and labels of the image."""

    repository: Repository
    """Registry and repository the image is pushed to."""
    tags: tuple[TagTemplate, ...] = Field(min_length=1)
    """Immutable tags; {release}, {variant} and {revision} are filled in."""
    moving_tags: tuple[TagTemplate, ...] = ()
    """Tags that move, pushed only after every immutable one is up."""
    labels: dict[LabelName, str] = Field(default_factory=dict)
    """Further OCI labels."""

    @model_validator(mode="after")
    def _either_immutable_or_moving(self) -> Image:
        if both := set(self.tags) & set(self.moving_tags):
            raise ValueError(f"{min(both)} cannot be immutable and moving; expected it once")
        return self


class Base(Section):
    """The two images the Dockerfile starts from."""

    download: ImageReference
    """Stage `download`: git, a shell and wget."""
    runtime: ImageReference
    """Stage `build_final_image`: Python, torch, CUDA, cuDNN."""


class GitSource(Section):
    """A git repository at a commit."""

    repo: Annotated[str, AfterValidator(addresses.check_repository)]
    """owner/name under mirrors.github, or a whole URL."""
    commit: Commit | None = None
    """40 hex digits; unpinned when absent."""


class A1111(Section):
    """The WebUI and the repositories it is made of."""

    release: GitRef
    """Tag of the WebUI."""
    sources: dict[SourceName, GitSource]
    """The WebUI and its components, by name."""


def _checked(check: Callable[[Any], object]) -> AfterValidator:
    """Return the validator of a function that raises ValueError for a wrong value."""

    def keep(value: Any) -> Any:  # noqa: ANN401 - whatever is checked
        check(value)
        return value

    return AfterValidator(keep)


class WebuiFlags(Section):
    """Changes of the WebUI's flags; WEBUI_ARGS comes after them."""

    add: Annotated[tuple[str, ...], _checked(split_added)] = ()
    """Further flags, each with its value."""
    remove: Annotated[tuple[str, ...], _checked(check_removed)] = ()
    """The worker's own flags that are left out."""


class Webui(Section):
    """Flags and options that the image gives the WebUI."""

    flags: WebuiFlags = Field(default_factory=WebuiFlags)
    settings: Annotated[dict[str, Any], _checked(check_baked)] = Field(default_factory=dict)
    """The WebUI's options by the names in its config.json, such as CLIP_stop_at_last_layers."""


class Mirrors(Section):
    """Addresses of outside sources."""

    github: Url = addresses.GITHUB
    """Prefix of owner/name sources, and of the files of features."""
    googleapis: Url = addresses.SITES["googleapis"]
    """Site of BLIP, a file of feature interrogate."""
    openaipublic: Url = addresses.SITES["openaipublic"]
    """Site of CLIP, a file of feature interrogate."""
    heibox: Url = addresses.SITES["heibox"]
    """Site of the files of feature upscale-ldsr."""
    huggingface: Url = "https://huggingface.co"
    """Hub endpoint."""
    civitai: Url = "https://civitai.com"
    """Site that is asked for imported models by their SHA-256."""
    pytorch: Url | None = None
    """Extra package index for xformers, such as PyTorch's cu128 one."""
    python: Url | None = None
    """Package index (PEP 503); null: the installer's own default."""
    apt: Url | None = None
    """Package mirror, /debian-security beside it; null: as the base image has it. `{snapshot}` in
    it stands for the locked day; without, packages are today's."""
    apk: Url | None = None
    """Alpine mirror for stage `download`; null: as the base has it."""
    registry: Annotated[str, AfterValidator(addresses.check_registry)] | None = None
    """Registry prefix put before base images, such as host:5000."""
    ca_bundle: LocalPath | None = None
    """PEM file trusted by every download, on the host and in builds."""

    def apply(self, url: str) -> str:
        """Return the address of a feature's file on the mirror of its site."""
        site = addresses.find_site(url)
        return f"{getattr(self, site)}{url.removeprefix(addresses.SITES[site])}" if site else url


class Store(Section):
    """Folder of verified model files on the building machine."""

    path: LocalPath = "models"
    """Folder; may be shared by checkouts; ~ and $VARIABLE are replaced."""
    concurrency: int = Field(default=4, ge=1, le=32)
    """Downloads at once."""


class Cache(Section):
    """BuildKit cache import and export, as options of buildx."""

    from_: tuple[CacheOption, ...] = Field(default=(), alias="from")
    """--cache-from values."""
    to: tuple[CacheOption, ...] = ()
    """--cache-to values."""


class Build(Section):
    """Settings of the build."""

    accelerator: Literal["cuda", "cpu"] = "cuda"
    """Device that draws; cpu leaves xformers out."""
    requirements: PathBelow
    """Hashed lock of the image's Python packages."""
    cache: Cache = Field(default_factory=Cache)
    builder: BuilderName | None = None
    """buildx builder; null: the current one."""
    network: Literal["default", "host", "none"] = "default"
    """Network of RUN steps; host where a mirror is on loopback."""


class Smoke(Section):
    """Limits and settings of the smoke tests."""

    targets: tuple[Annotated[str, Matching(r"\d+\.\d", "such as 8.9")], ...] = ("8.9",)
    """Compute capabilities the image must carry code for."""
    ready_timeout: int = Field(default=600, ge=1)
    """Seconds until the API must draw."""
    stop_timeout: int = Field(default=30, ge=1)
    """Seconds a stop may take."""
    image_size: int = Field(default=64, ge=64, le=2048, multiple_of=8)
    """Edge of test pictures, px."""
    steps: int = Field(default=1, ge=1, le=50)
    """Sampling steps of test pictures."""
    total_size_limit: int | None = Field(default=None, ge=1)
    """Bytes over the base image, models apart."""
    layer_size_limit: int | None = Field(default=None, ge=1)
    """Bytes of one layer, models apart."""
    waste_limit: int | None = Field(default=None, ge=0)
    """Bytes that later layers overwrite or delete."""

    @model_validator(mode="after")
    def _limits_fit(self) -> Smoke:
        layer, total = self.layer_size_limit, self.total_size_limit
        if layer and total and layer > total:
            raise ValueError(f"layer_size_limit {layer} is above total_size_limit {total}")
        return self


class Push(Section):
    """How the image is sent to a registry."""

    compression: Literal["gzip", "zstd"] = "gzip"
    """Of the layers over the base, where the engine keeps images in containerd's store."""


class Ci(Section):
    """The machines that CI runs on."""

    runner: tuple[str, ...] = ("ubuntu-24.04",)
    """Labels of machines without a GPU; []: CI leaves the variant out."""
    gpu_runner: tuple[str, ...] = ()
    """Labels of machines with one; []: none, so CI ships no CUDA image."""


class Config(Section):
    """All of `config.yaml`, one variant applied."""

    image: Image
    base: Base
    a1111: A1111
    webui: Webui = Field(default_factory=Webui)
    mirrors: Mirrors = Field(default_factory=Mirrors)
    models: tuple[Model, ...]
    """Model files to download and verify."""
    features: tuple[ChosenFeature, ...] = ()
    """Sets of files that A1111 would fetch at first use; a name, or {name, placement}."""
    extensions: tuple[Extension, ...] = ()
    """Extensions of the WebUI that are baked into the image."""
    store: Store = Field(default_factory=Store)
    build: Build
    smoke: Smoke = Field(default_factory=Smoke)
    deploy: Deploy = Field(default_factory=Deploy)
    push: Push = Field(default_factory=Push)
    ci: Ci = Field(default_factory=Ci)
    variants: dict[Name, dict[str, Any]]
    """Named overrides of any key above; one variant is one image."""

    @property
    def all_models(self) -> tuple[Model, ...]:
        """The configured models, and those of the extensions and features."""
        models = (*self.models, *models_of(self.extensions))
        return (*models, *expand_features(self.features, self.a1111.release, models))

    @model_validator(mode="after")
    def _distinct_extensions(self) -> Config:
        check_extensions(self.extensions)
        return self

    @model_validator(mode="after")
    def _unique_models(self) -> Config:
        names = [model.name for model in (*self.models, *models_of(self.extensions))]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"models: name used twice: {', '.join(sorted(twice))}")
        model_place.check_clashes(
            (model.name, model.actual_kind, model.location, model.filled_paths)
            for model in self.all_models
        )
        revisions: dict[str, tuple[str, str]] = {}
        for model in self.all_models:
            if model.cache_folder and isinstance(model.source, HubSource):
                revision = model.source.revision
                name, other = revisions.setdefault(model.cache_folder, (model.name, revision))
                if other != revision:
                    raise ValueError(
                        f"models: {name} and {model.name} take {model.source.hub} at two revisions,"
                        f" but the Hub's cache has one; expected {revision} for both"
                    )
        return self
