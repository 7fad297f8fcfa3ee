"""Read the secrets of the environment, and replace them in texts."""

import os
import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Final

from scripts.common.diagnostics.error import UserError

_SECRET_NAMES: Final = re.compile(
    r"API_AUTH|HF_TOKEN|HUGGING_FACE_HUB_TOKEN|TOKEN_.+|RUNPOD_(AI_)?API_KEY"
    r"|BUCKET_(ACCESS_KEY_ID|SECRET_ACCESS_KEY)|CIVITAI_(API_)?(TOKEN|KEY)"
)
_HUB_HOSTS: Final = ("huggingface.co", "www.huggingface.co", "hf.co")
_ALIASES: Final[Mapping[str, Sequence[str]]] = {
    "HF_TOKEN": ("HUGGING_FACE_HUB_TOKEN",),
    "TOKEN_CIVITAI_COM": ("CIVITAI_TOKEN", "CIVITAI_API_TOKEN", "CIVITAI_API_KEY"),
}
_PLACEHOLDER: Final = re.compile(r"\{\{\s*RUNPOD_SECRET_(\w+)\s*\}\}")
_SHORTEST_SECRET: Final = 4  # shorter ones are in too many words
# Formats that their issuers document: Hugging Face, GitHub, GitLab, AWS (whose documentation's own
# examples end in EXAMPLE), RunPod, PyPI, npm, and PEM with at least a line of key in it.
_TOKEN: Final = re.compile(
    rb"\b(?:hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,}"
    rb"|glpat-[A-Za-z0-9_-]{20,}|(?:AKIA|ASIA)(?![0-9A-Z]{9}EXAMPLE)[0-9A-Z]{16}\b"
    rb"|rpa_[A-Z0-9]{30,}|pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}|npm_[A-Za-z0-9]{36})"
    rb"|-----BEGIN [A-Z ]*PRIVATE KEY-----\s+(?:[A-Za-z-]+: .*\s+)*[A-Za-z0-9+/=]{60}"
)
# Searched first: most texts have none of them, and this is many times faster.
_BEGINNINGS: Final = (
    *(b"hf_", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_", b"glpat-", b"AKIA"),
    *(b"ASIA", b"rpa_", b"pypi-AgE", b"npm_", b"PRIVATE KEY-----"),
)


def is_secret(variable: str) -> bool:
    """Return whether the value of an environment variable is a secret."""
    return bool(_SECRET_NAMES.fullmatch(variable))


def strip_secrets(environ: MutableMapping[str, str]) -> None:
    """Remove white space around secrets: the line break of a file, a space from the clipboard.

    A password may begin or end with spaces, so API_AUTH loses line breaks only.
    """
    for name in filter(is_secret, list(environ)):
        environ[name] = environ[name].strip("\r\n" if name == "API_AUTH" else None)


def token_variable(host: str) -> str:
    """Return the environment variable that may hold a token for a host."""
    if host in _HUB_HOSTS:
        return "HF_TOKEN"
    return "TOKEN_" + re.sub(r"[^A-Z0-9]", "_", host.removeprefix("www.").upper())


def refuse_unresolved(environ: Mapping[str, str]) -> None:
    """Refuse placeholders in which RunPod has not put a secret.

    A name that it does not know reaches the container as it was typed:
    https://docs.runpod.io/pods/templates/secrets

    Raises:
        UserError: a variable holds one (code `secret-unresolved`).
    """
    for variable, value in environ.items():
        if found := _PLACEHOLDER.search(value):
            message = f"{variable} holds no secret, but the name of one: {found[1]}"
            raise UserError(message, code="secret-unresolved")


def read_token(variable: str) -> str:
    """Return a token of the environment without white space around it; empty where none is set.

    Variables that tools of the same site read are read, too.

    Raises:
        UserError: no HTTP header can hold it; the message does not quote it.
    """
    names = (variable, *_ALIASES.get(variable, ()))
    variable = next((name for name in names if os.environ.get(name, "").strip()), "")
    token = os.environ[variable].strip() if variable else ""
    if not re.fullmatch(r"[!-~]*", token):
        message = f"{variable} holds a space, a line break or a letter that no token has"
        raise UserError(message, hint="set the token alone", code="setting-invalid")
    return token


def make_redactor(environ: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that replaces the secrets of an environment in a text."""
    found = {value.strip() for name, value in environ.items() if is_secret(name)}
    for login in environ.get("API_AUTH", "").split(","):
        found |= {login, login.partition(":")[2]}
    secrets = sorted((text for text in found if len(text) >= _SHORTEST_SECRET), key=len)
    if not secrets:
        return str
    return partial(re.compile("|".join(map(re.escape, reversed(secrets)))).sub, "***")


def has_token(text: bytes) -> bool:
    """Return whether a text holds what has the format of a token or a private key."""
    return any(word in text for word in _BEGINNINGS) and bool(_TOKEN.search(text))


def redact(text: str) -> str:
    """Replace what looks like a secret in a text by asterisks."""
    return _TOKEN.sub(b"***", text.encode()).decode()
