"""Read the flags of `webui-user.sh` and `webui-user.bat`, and choose those that a worker can use.

Both files are read as text and never run. Flags are those of `modules/cmd_args.py`, alike in A1111
v1.9.3 and v1.10.1 but for `--models-dir`, which is new in v1.10.1. The WebUI ends at a flag that it
does not know (`modules/shared_cmd_options.py`), so only known ones are taken over.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.common.models.kinds import KINDS, MOVING_FLAGS
from scripts.common.webui_flags import BUILTIN_FLAGS, VARIABLE_FLAGS

_VARIABLE: Final = "COMMANDLINE_ARGS"
_SHELL: Final = re.compile(rf"^[ \t]*(?:export[ \t]+)?{_VARIABLE}=(.*)$", re.M)
_BATCH: Final = re.compile(rf'^[ \t]*@?set[ \t]+"?{_VARIABLE}=(.*)$', re.M | re.I)
_OWN_VALUE: Final = re.compile(rf"\$\{{?{_VARIABLE}\b\}}?|%{_VARIABLE}%", re.I)
_EXPANSION: Final = re.compile(r"\$[({\w]|`|%\w+%")

_CARRIED: Final[Mapping[str, int]] = {
    **dict.fromkeys(
        (
            "--no-half",
            "--no-half-vae",
            "--medvram",
            "--medvram-sdxl",
            "--lowvram",
            "--lowram",
            "--upcast-sampling",
            "--force-enable-xformers",
            "--xformers-flash-attention",
            "--opt-split-attention",
            "--opt-split-attention-v1",
            "--opt-split-attention-invokeai",
            "--opt-sub-quad-attention",
            "--opt-sdp-attention",
            "--opt-sdp-no-mem-attention",
            "--opt-channelslast",
            "--disable-opt-split-attention",
            "--disable-nan-check",
            "--disable-model-loading-ram-optimization",
        ),
        0,
    ),
    **dict.fromkeys(
        (
            "--precision",
            "--sub-quad-q-chunk-size",
            "--sub-quad-kv-chunk-size",
            "--sub-quad-chunk-threshold",
        ),
        1,
    ),
}
"""Flags that change how images are drawn, with the number of their values."""

_BUILTIN: Final = tuple(flag.name for flag in BUILTIN_FLAGS)

MODEL_FOLDERS: Final[Mapping[str, str]] = {
    "--models-dir": "models",
    "--ckpt-dir": KINDS["checkpoint"].folder,
    "--vae-dir": KINDS["vae"].folder,
    "--controlnet-dir": KINDS["controlnet"].folder,
    **{
        flag: str(PurePosixPath(KINDS[kind].folder, family))
        for flag, (kind, family) in MOVING_FLAGS.items()
    },
}
"""Flags that name a folder of models, and the folder of the data folder that it stands for."""


@dataclass(frozen=True)
class LeftOut:
    """Something that is not imported; `reason` follows `name` in a sentence."""

    name: str
    reason: str


@dataclass(frozen=True)
class UserFlags:
    """Flags of an install.

    Args:
        carried: those for the image, each with its values in one text.
        folders: flags of `MODEL_FOLDERS`, and the folder that each names.
        data_folder: value of `--data-dir`; empty without one.
        left_out: names of all others, without values: some are passwords.
    """

    carried: tuple[str, ...] = ()
    folders: tuple[tuple[str, str], ...] = ()
    data_folder: str = ""
    left_out: tuple[LeftOut, ...] = ()


def read_user_flags(webui: Path) -> UserFlags:
    """Read the flags of a WebUI's folder; of the two files the first that sets any.

    Raises:
        UserError: a file cannot be read.
    """
    for name, pattern in (("webui-user.sh", _SHELL), ("webui-user.bat", _BATCH)):
        path = webui / name
        try:
            text = path.read_bytes().decode("utf-8", "replace").replace("\r\n", "\n")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}", location=str(path)) from None
        if arguments := _assigned(text, pattern, is_batch=pattern is _BATCH):
            return choose_flags(arguments)
    return UserFlags()


def _assigned(text: str, pattern: re.Pattern[str], *, is_batch: bool) -> list[str]:
    """Return the arguments in the last value of the variable; it may repeat the value before."""
    text = re.sub(r"\^\n" if is_batch else r"\\\n", " ", text)
    arguments: list[str] = []
    for match in pattern.finditer(text):
        value = match[1].strip()
        if is_batch:
            value = value.removesuffix('"') if value.count('"') % 2 else value
        else:  # the value is one word of the shell
            value = next(iter(_split(value, is_batch=False)), "")
        words = _split(_OWN_VALUE.sub(" ", value), is_batch=is_batch)
        arguments = [*(arguments if _OWN_VALUE.search(value) else []), *words]
    return arguments


def _split(value: str, *, is_batch: bool) -> list[str]:
    """Split at blanks outside quotes; in a batch file backslashes are parts of paths."""
    lexer = shlex.shlex(value, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = "" if is_batch else "#"
    if is_batch:
        lexer.escape, lexer.quotes = "", '"'
    try:
        return list(lexer)
    except ValueError:
        raise UserError(
            f"{_VARIABLE} has a quotation mark without its other half",
            location="webui-user.bat" if is_batch else "webui-user.sh",
            hint="correct the line; quotation marks come in pairs",
        ) from None


def choose_flags(arguments: list[str]) -> UserFlags:
    """Choose among command line arguments."""
    carried: list[str] = []
    folders: list[tuple[str, str]] = []
    left_out: dict[str, str] = {}
    data_folder = ""
    for flag, values in _group(arguments):
        expanded = [value for value in values if _EXPANSION.search(value)]
        if expanded or _EXPANSION.search(flag):
            left_out[flag] = "its value is made by a shell, which is not run"
        elif flag in _CARRIED and len(values) == _CARRIED[flag]:
            carried.append(shlex.join([flag, *values]))
        elif flag in _CARRIED:
            left_out[flag] = f"expected {_CARRIED[flag]} values, found {len(values)}"
        elif flag == "--data-dir" and values:
            data_folder = values[0]
        elif flag in MODEL_FOLDERS and values:
            folders.append((flag, values[0]))
        elif flag in VARIABLE_FLAGS:
            left_out[flag] = f"the worker sets it, see {VARIABLE_FLAGS[flag]}"
        elif flag in _BUILTIN:
            left_out[flag] = "the worker sets it where it applies"
        else:
            left_out[flag] = "of that machine, of the browser's page or of an extension"
    rest = tuple(LeftOut(name, reason) for name, reason in left_out.items())
    return UserFlags(tuple(carried), tuple(folders), data_folder, rest)


def _group(arguments: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Give each flag with its values, written as `--flag value` or `--flag=value`."""
    flag = ""
    values: list[str] = []
    for argument in arguments:
        if argument.startswith("-") and not re.fullmatch(r"-\d+(\.\d+)?", argument):
            if flag:
                yield flag, values
            flag, equals, value = argument.partition("=")
            values = [value] if equals else []
        elif flag:
            values.append(argument)
    if flag:
        yield flag, values
