"""Define the keys of one model in `config.yaml`, and what all sections of it share."""

from __future__ import annotations

import re
from dataclasses import replace
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
    field_validator,
    model_validator,
)

from scripts.common.models.kinds import Kind
from scripts.host.config import addresses, model_links, model_place
from scripts.host.config.grammar import GitRef, Matching, Name, RepositoryFile, Sha256

ModelPath = Annotated[
    str, Matching(model_place.PATH_PATTERN, "an absolute path, or with a kind a file name")
]


class Section(BaseModel):
    """A frozen part of the config; an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        str_strip_whitespace=True,
        use_attribute_docstrings=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _without_control_characters(cls, value: Any) -> Any:  # noqa: ANN401 - raw YAML
        """Refuse what no program's argument and no file name can hold."""
        texts = value.values() if isinstance(value, dict) else value
        for text in texts if isinstance(value, (dict, list, tuple)) else (value,):
            if isinstance(text, str) and re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text):
                raise ValueError("expected text without control characters")
        return value


class HubSource(Section):
    """Files of a Hugging Face Hub repository."""

    hub: Annotated[str, Matching(r"\w[\w.-]*(/\w[\w.-]*)?", "owner/repo")]
    """owner/repo; a few old repositories have no owner"""
    file: RepositoryFile | None = None
    """One file of the repository."""
    files: tuple[RepositoryFile, ...] = ()
    """Several files of the repository."""
    revision: GitRef = "main"
    """Branch, tag or commit."""

    @model_validator(mode="after")
    def _one_or_many(self) -> HubSource:
        if (self.file is None) == (not self.files):
            raise ValueError("exactly one of `file` and `files`")
        return self

    @property
    def owner(self) -> str:
        """Owner of the repository; empty for an old one without."""
        return self.hub.rpartition("/")[0]

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

    url: Annotated[str, AfterValidator(model_links.check_url)]
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
    """A model file of any kind, or a folder of small files, and where it goes."""

    name: Name
    """Name of the model in tasks."""
    source: Source
    """{hub: owner/repo, file or files, revision}, or {url: …}; https, http or file."""
    kind: Kind | None = None
    """Its use in the WebUI, such as lora or vae, which decides where it goes."""
    family: str | None = None
    """Architecture of an upscaler or face restorer, such as SwinIR; null: by name."""
    path: ModelPath | None = None
    """File; with a kind optional or relative to its folder; with hub-cache the cache's folder."""
    layout: Literal["file", "hub-cache"] = "file"
    """One file at `path`, or the Hub's cache layout below it."""
    placement: model_place.Placement | Literal["cache"] = "image"
    """Baked into the image, or fetched by the worker at start; cache: only if it is not cached."""
    sha256: Sha256 | None = None
    """Expected SHA-256."""
    size: int | None = Field(default=None, ge=1)
    """Expected size in bytes."""
    allow_pickle: bool = False
    """Accept .ckpt and .pt (they run code)."""
    webui_name: ModelPath | None = None
    """Name of the checkpoint at /model.safetensors in the WebUI; null: its file's at the source."""
    licence: Annotated[str, StringConstraints(min_length=1)] | None = None
    """Licence of the model, for models.list and the image's label."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its files: in the repository, at the end of the URL, or in the image."""
        if isinstance(self.source, HubSource):
            return (self.source.file,) if self.source.file else self.source.files
        return (addresses.file_name(self.source.url) or PurePosixPath(self.path or "").name,)

    @property
    def _base(self) -> model_place.Placement:
        """Where its path counts from; a cached model has the path of a baked one."""
        return "volume" if self.placement == "volume" else "image"

    @property
    def location(self) -> model_place.Location:
        """Its place in the container, and its name in the WebUI."""
        kind, family, path = self.kind, self.family or "", self.path or ""
        found = model_place.locate(kind, family, path, self.files[0], self._base)
        if found.path != model_place.CHECKPOINT_PATH:
            return found
        file = PurePosixPath(self.files[0])
        is_safetensors = file.suffix.lower() == ".safetensors"
        usual = file.name if is_safetensors else file.with_suffix(".safetensors").name
        return replace(found, name=self.webui_name or usual)

    @property
    def target(self) -> str:
        """Absolute path in the container: of the file, or of the Hub cache folder."""
        return self.location.path

    @property
    def cache_folder(self) -> str:
        """Folder of its repository in the Hub cache, for layout `hub-cache`; else empty."""
        if self.layout == "file" or not isinstance(self.source, HubSource):
            return ""
        return f"{self.target}/models--{self.source.hub.replace('/', '--')}"

    @property
    def filled_paths(self) -> tuple[str, ...]:
        """Paths that no other model may have: its file, or its files in the Hub cache."""
        folder = self.cache_folder
        return tuple(f"{folder}/{file}" for file in self.files) if folder else (self.target,)

    @property
    def checked_kind(self) -> Kind | None:
        """Kind by whose loader the file is checked."""
        return self.kind

    @property
    def declared_in(self) -> str:
        """The file that holds its source and checksum."""
        return "config.yaml"

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
    def _files_fit_the_layout(self) -> Model:
        if len(self.files) > 1 and (self.layout == "file" or self.sha256 or self.size):
            raise ValueError("several files need `layout: hub-cache`, and no `sha256` or `size`")
        if self.layout == "hub-cache" and not isinstance(self.source, HubSource):
            raise ValueError("`layout: hub-cache` needs a Hub source")
        return self

    @model_validator(mode="after")
    def _cached_by_the_platform(self) -> Model:
        if self.placement != "cache":
            return self
        is_hub_file = isinstance(self.source, HubSource) and self.source.file and self.source.owner
        if not is_hub_file or self.target != model_place.CHECKPOINT_PATH or self.webui_name:
            raise ValueError(
                "`placement: cache` is for a `file` of owner/repo on the Hub with"
                f" `path: {model_place.CHECKPOINT_PATH}`, without `webui_name`"
            )
        return self

    @model_validator(mode="after")
    def _named_in_the_webui(self) -> Model:
        if self.webui_name is None:
            return self
        if self.target != model_place.CHECKPOINT_PATH:
            place = model_place.CHECKPOINT_PATH
            raise ValueError(f"`webui_name` is for the model at {place}; `path` names another one")
        if self.webui_name[0] == "/" or not self.webui_name.lower().endswith(".safetensors"):
            raise ValueError("expected a `webui_name` such as photo.safetensors")
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
        model_place.check_kind(self.kind, self.family or "", self.location, self._base)
        return self
