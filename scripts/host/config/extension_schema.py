"""Define the keys of one extension in `config.yaml`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from scripts.common.extensions.extension_manifest import (
    EXTENSIONS,
    MANIFEST_NAME,
    DeclaredCheck,
)
from scripts.host.config import addresses
from scripts.host.config.grammar import GitRef, Name
from scripts.host.config.model_schema import Model, Section

COMMIT_PATTERN: Final = r"^[0-9a-f]{40}$"

# `extensions-builtin` of A1111 v1.9.3 and v1.10.1. Of two extensions with one name, compared
# without case, the WebUI drops the second (`list_extensions` in `modules/extensions.py`).
_BUILTIN: Final = (
    *("canvas-zoom-and-pan", "extra-options-section", "hypertile", "ldsr", "lora", "mobile"),
    *("postprocessing-for-training", "prompt-bracket-checker", "scunet", "soft-inpainting"),
    "swinir",
)

Route = Annotated[str, StringConstraints(pattern=r"^/[\w./{}-]*$")]


def _check_requirement(text: str) -> str:
    """Check that a line of the config names a package as PEP 508 has it."""
    # Imported here: most configs have no extensions.
    from scripts.common.extensions.pip_requests import PipRequest

    if not PipRequest(text, "").name:
        raise ValueError(
            f"{text} is no requirement; expected for example name>=1, name @ https://…"
        )
    return text


Requirement = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][^\r\n]*$"), AfterValidator(_check_requirement)
]


class ExtensionCheck(Section):
    """A request that proves an extension in the smoke test."""

    route: Route = "/sdapi/v1/txt2img"
    """Path of the request."""
    method: Literal["GET", "POST"] = "POST"
    """Method of the request."""
    body: dict[str, Any] = Field(default_factory=dict)
    """JSON body; with alwayson_scripts its images must differ from those without."""

    @property
    def declared(self) -> DeclaredCheck:
        """The check as the image carries it."""
        return DeclaredCheck(self.route, self.method, self.body)


class Extension(Section):
    """An extension of the WebUI, baked into the image."""

    name: Name | None = None
    """Its folder, by which the WebUI and other extensions know it; null: the repository's name."""
    repo: Annotated[str, AfterValidator(addresses.check_repository)]
    """owner/name under mirrors.github, or a whole URL."""
    commit: GitRef | None = None
    """40 hex digits; or a branch or tag that `invoke pin` looks up; null: the default branch."""
    requirements: tuple[Requirement, ...] = ()
    """Python packages that it needs and does not ask for, such as ultralytics>=8.3."""
    install: Literal["auto", "none"] = "auto"
    """Run its installer in the build, or not."""
    models: tuple[Model, ...] = ()
    """Model files that it needs; a path without kind is relative to its folder."""
    routes: tuple[Route, ...] = ()
    """Prefixes of the paths that it adds to the API, such as /controlnet/."""
    overrides: tuple[Requirement, ...] = ()
    """Replace all packages' bounds: protobuf>=4.25.3,<5; "x; python_version < '0'": without x."""
    check: ExtensionCheck | None = None
    """Request that proves it in the smoke test."""
    licence: Annotated[str, StringConstraints(min_length=1)] | None = None
    """Licence of the extension, for the image's label."""

    @model_validator(mode="before")
    @classmethod
    def _place_models(cls, values: Any) -> Any:  # noqa: ANN401 - raw YAML
        """Make paths relative to the extension's folder absolute."""
        if not isinstance(values, dict) or not isinstance(values.get("models"), (list, tuple)):
            return values
        name = str(values.get("name") or repository_name(str(values.get("repo", ""))))
        models = [_place_model(model, EXTENSIONS / name) for model in values["models"]]
        return {**values, "models": models}

    @field_validator("repo")
    @classmethod
    def _has_name(cls, repo: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", repository_name(repo)):
            raise ValueError("expected an address that ends with the repository's name")
        return repo

    @model_validator(mode="after")
    def _models_in_its_folder_are_baked(self) -> Extension:
        for model in self.models:
            in_image = PurePosixPath(model.target).is_relative_to(EXTENSIONS)
            if in_image and model.placement != "image":
                raise ValueError(
                    f"model {model.name}: {EXTENSIONS} is a folder of the image; expected"
                    " `placement: image`, or a kind"
                )
        return self

    @property
    def folder_name(self) -> str:
        """Name of its folder."""
        return self.name or repository_name(self.repo)

    @property
    def ref(self) -> str:
        """Return what an unpinned build fetches: a branch, a tag, or HEAD."""
        return self.commit or "HEAD"

    @property
    def pinned_commit(self) -> str:
        """The commit by the config; empty if it has none."""
        return self.commit if self.commit and re.fullmatch(COMMIT_PATTERN, self.commit) else ""


def _place_model(model: Any, folder: Path) -> Any:  # noqa: ANN401 - raw YAML
    if not isinstance(model, dict) or model.get("kind") is not None:
        return model
    path = model.get("path")
    if not isinstance(path, str) or path.startswith("/") or ".." in PurePosixPath(path).parts:
        return model
    return {**model, "path": str(folder / path)}


def repository_name(repo: str) -> str:
    """Return the last part of a repository's address, without `.git`."""
    return repo.rstrip("/").rpartition("/")[2].removesuffix(".git")


def check_extensions(extensions: Iterable[Extension]) -> None:
    """Check that the WebUI can tell the extensions apart.

    Raises:
        ValueError: two have one name, or one has the name of a built-in extension, or of the
            manifest beside them.
    """
    seen = {MANIFEST_NAME: MANIFEST_NAME}
    for extension in extensions:
        name = extension.folder_name
        if name.lower() in _BUILTIN:
            raise ValueError(f"extensions: {name} is the name of an extension of the WebUI itself")
        if other := seen.get(name.lower()):
            raise ValueError(
                f"extensions: {other} and {name} have one name in the WebUI;"
                " expected another `name`"
            )
        seen[name.lower()] = name


def models_of(extensions: Iterable[Extension]) -> Iterator[Model]:
    """Yield the models of all extensions."""
    for extension in extensions:
        yield from extension.models
