"""Flags that the worker gives the WebUI by itself, and what config may add to them or remove.

Every flag of the WebUI is described in its `modules/cmd_args.py`; what it does there was read in
v1.9.3 and v1.10.1.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Condition = Literal["always", "cuda", "cpu", "sdxl", "no-pickle"]

CONDITIONS: Final[Mapping[Condition, str]] = {
    "always": "always",
    "cuda": "on a GPU",
    "cpu": "on the CPU",
    "sdxl": "on a GPU, unless the checkpoint's header shows SD 1, 2 or 3",
    "no-pickle": "where no model is a pickle",
}
"""Conditions under which a flag is given, as the reference describes them."""


@dataclass(frozen=True)
class BuiltinFlag:
    """A flag that the worker gives by itself.

    Args:
        arguments: the flag, and its values.
        condition: when it is given.
        reason: its purpose here, for the reference.
        required: the worker needs it, so config cannot remove it.
    """

    arguments: tuple[str, ...]
    condition: Condition
    reason: str
    required: bool = False

    @property
    def name(self) -> str:
        """The flag without its values."""
        return self.arguments[0]


BUILTIN_FLAGS: Final = (
    BuiltinFlag(("--api",), "always", "the worker and its jobs use the API", required=True),
    BuiltinFlag(
        ("--nowebui",), "always", "no interface of Gradio, which serves nobody here", required=True
    ),
    BuiltinFlag(
        ("--no-hashing",),
        "always",
        "a start does not read gigabytes for a SHA-256; images then name no hash of the model",
    ),
    BuiltinFlag(
        ("--no-download-sd-model",),
        "always",
        "without a checkpoint the WebUI would download one of 4 GB; here that is an error",
    ),
    BuiltinFlag(
        ("--skip-version-check",),
        "always",
        "the image's torch and xformers are newer than those that the WebUI compares with",
    ),
    BuiltinFlag(
        ("--skip-python-version-check",),
        "always",
        "as above for Python 3.11; acts where an extension starts the WebUI's launcher",
    ),
    BuiltinFlag(
        ("--skip-torch-cuda-test",), "always", "the worker's preflight tests the GPU; likewise"
    ),
    BuiltinFlag(
        ("--skip-install",), "always", "the image holds all packages of the WebUI; likewise"
    ),
    BuiltinFlag(
        ("--xformers",),
        "cuda",
        "fastest attention on GPUs from 6.0 to 9.0, where the WebUI prefers it",
    ),
    BuiltinFlag(
        ("--opt-sdp-attention",),
        "cuda",
        "torch's own attention for all other GPUs, for which xformers has no kernel",
    ),
    BuiltinFlag(
        ("--no-half-vae",),
        "sdxl",
        "the VAE of SDXL overflows in half precision "
        "(https://huggingface.co/madebyollin/sdxl-vae-fp16-fix); those of SD 1 and 2 do not, and "
        "half precision takes half their memory",
    ),
    BuiltinFlag(("--use-cpu", "all"), "cpu", "draws without a GPU"),
    BuiltinFlag(("--no-half",), "cpu", "CPUs do not compute all layers in half precision"),
    BuiltinFlag(("--precision", "full"), "cpu", "likewise"),
    BuiltinFlag(
        ("--disable-safe-unpickle",),
        "no-pickle",
        "the WebUI's scan of pickles costs time and finds nothing in safetensors",
    ),
)
"""All of them, in the order of the command line."""

VARIABLE_FLAGS: Final[Mapping[str, str]] = {
    "--ckpt": "MODEL_PATH",
    "--ckpt-dir": "MODEL_DIR",
    "--data-dir": "DATA_DIR",
    "--server-name": "WEBUI_HOST",
    "--listen": "WEBUI_HOST",
    "--port": "WEBUI_PORT",
    "--loglevel": "LOG_LEVEL",
    "--api-auth": "API_AUTH",
}
"""Flags that the worker makes from a variable, which config must not set beside it."""

SECRET_FLAGS: Final = ("--api-auth", "--gradio-auth", "--ngrok", "--ngrok-options")
"""Flags whose values are secrets: in config they would be in the image and in process lists."""

MEMORY_FLAGS: Final = ("--lowvram", "--medvram", "--medvram-sdxl")
"""Flags that keep parts of a model in main memory; GPU_MEMORY chooses one where none is given."""


def select_builtin_flags(conditions: Iterable[Condition], removed: Iterable[str] = ()) -> list[str]:
    """Return the arguments of the built-in flags whose condition holds, without removed ones."""
    holding, gone = set(conditions), set(removed)
    chosen = (each for each in BUILTIN_FLAGS if each.condition in holding)
    return [argument for each in chosen if each.name not in gone for argument in each.arguments]


def split_added(flags: Iterable[str]) -> tuple[str, ...]:
    """Split what config adds, a flag with its values in each item, into arguments.

    Raises:
        ValueError: it is no flag, or one that config must not add.
    """
    arguments: list[str] = []
    for flag in flags:
        try:
            words = shlex.split(flag)
        except ValueError:
            raise ValueError(f"{flag!r} has an open quote") from None
        if not words or not words[0].startswith("--"):
            raise ValueError(f"{flag!r} does not begin with --; write a flag and its value as one")
        arguments += words
    for name in list_flags(arguments):
        if name in SECRET_FLAGS:
            instead = f"; set {VARIABLE_FLAGS[name]} instead" if name in VARIABLE_FLAGS else ""
            raise ValueError(f"the value of {name} is a secret, which no image may hold{instead}")
        if name in VARIABLE_FLAGS:
            raise ValueError(f"the worker sets {name}; set its variable {VARIABLE_FLAGS[name]}")
    return tuple(arguments)


def check_removed(flags: Iterable[str]) -> None:
    """Check what config removes.

    Raises:
        ValueError: it is no built-in flag, or one that the worker needs.
    """
    known = {each.name: each for each in BUILTIN_FLAGS}
    for flag in flags:
        if flag not in known:
            removable = ", ".join(name for name, each in known.items() if not each.required)
            raise ValueError(f"{flag!r} is not one of the worker's own flags: {removable}")
        if known[flag].required:
            raise ValueError(f"the worker needs {flag}: {known[flag].reason}")


def list_flags(arguments: Sequence[str]) -> list[str]:
    """Return the names of the flags among arguments, without values."""
    return [each.partition("=")[0] for each in arguments if each.startswith("--")]
