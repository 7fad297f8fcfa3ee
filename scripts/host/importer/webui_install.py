"""Recognize an install: the WebUI's folder, its data folder, its release, its folders of models."""

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.common.models.model_search import ModelBase, list_volume_bases
from scripts.host.importer.user_flags import MODEL_FOLDERS, LeftOut, UserFlags, read_user_flags

_SIGNS: Final = ("webui.py", "launch.py", "webui-user.sh", "webui-user.bat")
_CONTROLNET: Final = "extensions/sd-webui-controlnet/models"


@dataclass(frozen=True)
class WebuiInstall:
    """An existing folder to import.

    Args:
        root: the folder as given: of the WebUI, or a volume's.
        data: folder that holds `models`, `extensions` and `config.json`.
        bases: folders to search for models, in order of precedence.
        release: A1111 release, for example `v1.9.3`; empty if unknown.
        flags: of `webui-user.sh` or `webui-user.bat`.
        missing: folders that flags name and that are not here.
    """

    root: Path
    data: Path
    bases: tuple[ModelBase, ...]
    release: str = ""
    flags: UserFlags = field(default_factory=UserFlags)
    missing: tuple[LeftOut, ...] = ()


def find_install(root: Path) -> WebuiInstall:
    """Recognize the install in a folder; nothing in it is run or written.

    Args:
        root: folder of the WebUI, a data folder (`--data-dir`), or a volume with one of the layouts
            that the worker finds.

    Raises:
        UserError: it is no folder, or cannot be read.
    """
    try:
        next(root.iterdir(), None)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot be read: {reason}", location=str(root)) from None
    webui = next(
        (each for each in (root, root / "stable-diffusion-webui") if _is_webui(each)), None
    )
    if webui is None:
        return WebuiInstall(root, root, tuple(list_volume_bases(root)))
    flags = read_user_flags(webui)
    missing: list[LeftOut] = []
    data = webui
    if flags.data_folder:
        named = webui / flags.data_folder
        if named.is_dir():
            data = named
        else:
            missing.append(LeftOut("--data-dir", f"its folder {flags.data_folder} is not here"))
    bases: list[ModelBase] = []
    for flag, folder in flags.folders:
        if (webui / folder).is_dir():
            bases.append(_base(webui / folder, MODEL_FOLDERS[flag]))
        else:
            missing.append(LeftOut(flag, f"its folder {folder} is not here"))
    bases.append(ModelBase(data, data, "a1111"))
    bases.append(_base(data / _CONTROLNET, "models/ControlNet"))
    if webui != root:
        bases += [base for base in list_volume_bases(root) if base.folder != data]
    return WebuiInstall(root, data, tuple(bases), _read_release(webui), flags, tuple(missing))


def _is_webui(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _SIGNS)


def _base(folder: Path, place: str) -> ModelBase:
    """Return a folder that stands for one of the data folder."""
    return ModelBase(folder, folder, "a1111", inside=PurePosixPath(place))


def _read_release(webui: Path) -> str:
    """Return the release by the first line of CHANGELOG.md, such as `## 1.9.3`."""
    try:
        with (webui / "CHANGELOG.md").open(encoding="utf-8", errors="replace") as stream:
            match = re.fullmatch(r"## (\d+\.\d+\.\d+)", stream.readline().strip())
    except OSError:
        return ""
    return f"v{match[1]}" if match else ""
