"""Replace the secrets of the environment in texts."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

_SECRET_NAMES: Final = re.compile(
    r"API_AUTH|HF_TOKEN|HUGGING_FACE_HUB_TOKEN|TOKEN_.+|RUNPOD_(AI_)?API_KEY"
    r"|BUCKET_(ACCESS_KEY_ID|SECRET_ACCESS_KEY)"
)
_SHORTEST_SECRET: Final = 4  # shorter ones are in too many words


def is_secret(variable: str) -> bool:
    """Return whether the value of an environment variable is a secret."""
    return bool(_SECRET_NAMES.fullmatch(variable))


def make_redactor(environ: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that replaces the secrets of an environment in a text."""
    found = {value for name, value in environ.items() if is_secret(name)}
    for login in environ.get("API_AUTH", "").split(","):
        found |= {login, login.partition(":")[2]}
    secrets = sorted((text for text in found if len(text) >= _SHORTEST_SECRET), key=len)
    if not secrets:
        return str
    return partial(re.compile("|".join(map(re.escape, reversed(secrets)))).sub, "***")
