"""Describe the extensions that an image contains: what the build writes, and the worker reads.

Each extension lies in the image at `/opt/extensions/<name>`, read-only, with a `.git` of one
commit; the manifest lies beside them. The parent folder must be called `extensions`: ADetailer
looks for ControlNet in the folder of that name above itself (`controlnet_ext.py`).

Imports nothing but the standard library, because steps of the build read it, too.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from scripts.common.diagnostics.error import UserError

EXTENSIONS: Final = Path("/opt/extensions")
"""Folder of the image that holds one folder for each baked extension."""

MANIFEST_NAME: Final = "extensions.json"

MANIFEST: Final = EXTENSIONS / MANIFEST_NAME
"""Path of the manifest in the image; an empty list in an image without extensions."""


@dataclass(frozen=True)
class DeclaredCheck:
    """The request by which the smoke test proves an extension.

    It passes when the answer has status 200. If it holds images, and the body names
    `alwayson_scripts` or `script_name`, they must differ from those of the same body without.

    Args:
        route: path below the WebUI's address.
        method: of HTTP.
        body: JSON body; not sent with GET.
    """

    route: str = "/sdapi/v1/txt2img"
    method: Literal["GET", "POST"] = "POST"
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BakedExtension:
    """An extension that the image contains.

    Args:
        name: its folder below `/opt/extensions`, and so its identity in the WebUI.
        repo: address of its repository, without a mirror.
        branch: the branch that its HEAD is on.
        commit: 40 hex digits.
        submodules: commit of each submodule, by its folder in the extension.
        install: `auto`: its installer is run in the build; `none`: it is not.
        routes: prefixes of the paths that it adds to the WebUI's API, such as `/controlnet/`.
        check: the request that proves it; None without one.
        licence: its licence; empty if the config has none.
    """

    name: str
    repo: str
    branch: str
    commit: str
    submodules: Mapping[str, str] = field(default_factory=dict)
    install: Literal["auto", "none"] = "auto"
    routes: tuple[str, ...] = ()
    check: DeclaredCheck | None = None
    licence: str = ""

    @property
    def folder(self) -> Path:
        """Its folder in the image."""
        return EXTENSIONS / self.name


def as_json(extensions: Iterable[BakedExtension]) -> str:
    """Return the manifest as the image carries it; the same extensions make the same bytes."""
    return json.dumps([asdict(each) for each in extensions], indent=2, sort_keys=True) + "\n"


def read_extensions(path: Path = MANIFEST) -> tuple[BakedExtension, ...]:
    """Read the manifest of an image, in the order of the config; empty if there is none.

    Raises:
        UserError: it is not such a manifest.
    """
    try:
        return parse_extensions(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise _broken(error, str(path)) from None


def parse_extensions(text: str, location: str = str(MANIFEST)) -> tuple[BakedExtension, ...]:
    """Parse the text of a manifest.

    Args:
        text: JSON.
        location: of the manifest, for the message.

    Raises:
        UserError: it is not such a manifest.
    """
    try:
        return tuple(map(_read_extension, json.loads(text)))
    except (ValueError, TypeError, KeyError) as error:
        raise _broken(error, location) from None


def _broken(error: Exception, location: str) -> UserError:
    return UserError(
        f"the manifest of the extensions cannot be read: {error}",
        location=location,
        hint="build the image again",
    )


def _read_extension(row: dict[str, Any]) -> BakedExtension:
    check = DeclaredCheck(**row["check"]) if row["check"] else None
    return BakedExtension(**{**row, "check": check, "routes": tuple(row["routes"])})
