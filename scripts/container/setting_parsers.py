"""Parse the texts of environment variables into settings.

A parser raises ValueError with a hint, or UserError.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.hub_record import HubReference
from scripts.common.units import parse_size
from scripts.common.webui_flags import check_removed

Parser = Callable[[str], Any]


@dataclass(frozen=True)
class Warmup:
    """Size in pixels and sampling steps of an image that is drawn before the worker is ready."""

    width: int
    height: int
    steps: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class ImageFlags:
    """Changes of the WebUI's flags that the image brings: `webui.flags` of config.yaml.

    Args:
        add: further arguments.
        remove: built-in flags that are left out.
    """

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


def parse_number(text: str) -> float:
    """Parse a number of seconds, bytes and the like."""
    if not re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text):
        raise ValueError("set it to a number, or leave it out")
    return float(text)


def parse_limit(text: str) -> float:
    """Parse a number of seconds within which nothing would ever be done if it were 0."""
    seconds = parse_number(text)
    if not seconds:
        raise ValueError("set it to more than 0, or leave it out")
    return seconds


def parse_port(text: str) -> int:
    """Parse the number of a TCP port; 0 for none."""
    if not re.fullmatch(r"\d{1,5}", text) or int(text) > 65535:
        raise ValueError("set it to a number below 65536, or leave it out")
    return int(text)


def parse_arguments(text: str) -> tuple[str, ...]:
    """Split a command line as a shell does."""
    try:
        return tuple(shlex.split(text))
    except ValueError:
        raise ValueError("close every quote") from None


def parse_image_flags(text: str) -> ImageFlags:
    """Parse what the build makes of `webui.flags`."""
    try:
        changes = json.loads(text or "{}")
    except (ValueError, RecursionError):
        changes = None
    if not isinstance(changes, dict) or not all(map(_is_list_of_texts, changes.values())):
        raise ValueError('set it to JSON such as {"add": ["--medvram"], "remove": ["--xformers"]}')
    if unknown := changes.keys() - {"add", "remove"}:
        raise ValueError(f"there is no {min(unknown)}, only add and remove")
    check_removed(changes.get("remove", ()))
    return ImageFlags(tuple(changes.get("add", ())), tuple(changes.get("remove", ())))


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def parse_credentials(text: str) -> str:
    """Check users and passwords; the value is in no message, since it is a secret."""
    # The WebUI splits them at commas, then at the one colon.
    if text and not all(re.fullmatch(r"[^:]+:[^:]+", part) for part in text.split(",")):
        hint = "set user:password, with no further colon or comma; several with commas"
        # The value is not shown: it is a secret.
        raise UserError("API_AUTH is not user:password", hint=hint, code="setting-invalid")
    return text


def parse_alloc_conf(text: str) -> str:
    """Check the form of PYTORCH_CUDA_ALLOC_CONF, which the WebUI inherits; torch knows the names.

    Source: https://docs.pytorch.org/docs/2.7/notes/cuda.html
    """
    option = r"\w+:(\[[^\[\]\s]+\]|[^,\s\[\]]+)"
    if text and not re.fullmatch(f"{option}(,{option})*", text):
        raise ValueError("set it to option:value,option:value, or leave it out")
    return text


def parse_model_path(text: str) -> Path:
    """Parse MODEL_PATH: a path, a name, or a reference to a file of the Hub."""
    if text.startswith("hub:"):
        HubReference.parse(text)
    return Path(text)


def parse_folders(text: str) -> tuple[Path, ...]:
    """Parse absolute paths of folders, separated by commas."""
    folders = tuple(Path(part.strip()) for part in text.split(",") if part.strip())
    if not all(folder.is_absolute() for folder in folders):
        raise ValueError("set it to absolute paths, separated by commas")
    return folders


def parse_checkpoint_name(text: str) -> str:
    """Check a name in the WebUI's list of checkpoints: a path below their folder."""
    parts = text.split("/")
    if not text.lower().endswith(".safetensors") or any(part[:1] in ("", ".") for part in parts):
        raise ValueError("set it to a name such as photo.safetensors, or leave it out")
    return text


def parse_checkpoint_count(text: str) -> int:
    """Parse CHECKPOINTS_IN_MEMORY."""
    # The range of the WebUI's own option (modules/shared_options.py, sd_checkpoints_limit).
    if not re.fullmatch(r"\d{1,2}", text) or int(text) > 10:
        raise ValueError("set it to a whole number from 1 to 10, or to 0")
    return int(text)


def parse_prefixes(text: str) -> tuple[str, ...]:
    """Parse API_ALLOW: paths, separated by commas."""
    prefixes = tuple(part.strip() for part in text.split(",") if part.strip())
    if not all(re.fullmatch(r"(/[\w.~-]+)+/?", prefix, re.ASCII) for prefix in prefixes):
        raise ValueError("set it to paths such as /controlnet/, separated by commas")
    return prefixes


def parse_hosts(text: str) -> tuple[str, ...]:
    """Parse JOB_DOWNLOADS: names of hosts, separated by commas."""
    hosts = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    if not all(re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", host) for host in hosts):
        raise ValueError("set it to host names such as huggingface.co,civitai.com, or leave it out")
    return hosts


def parse_bytes(text: str) -> int:
    """Parse a number of bytes, such as 20GB."""
    size = parse_size(text)
    if not size:
        raise ValueError("set it to a size such as 20GB")
    return size


def parse_warmup(text: str) -> tuple[Warmup, ...]:
    """Parse the sizes of WARMUP; none where it is off."""
    if text.lower() in ("off", "0", "no", "false"):
        return ()
    return tuple(_parse_size(part.strip()) for part in text.split(","))


def _parse_size(text: str) -> Warmup:
    match = re.fullmatch(r"(\d{2,4})x(\d{2,4})(?:x(\d{1,3}))?", text)
    sides = (int(match[1]), int(match[2])) if match else ()
    steps = int(match[3] or 1) if match else 0
    if not sides or any(side % 8 or not side for side in sides) or not steps:
        form = "width x height or width x height x steps, sides in multiples of 8"
        example = "512x512,832x1216 or 64x64x1, or off"
        raise ValueError(f"{text!r} is not {form}; for example {example}")
    return Warmup(*sides, steps)
