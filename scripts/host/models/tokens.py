"""Which secret opens which host; secrets come from the environment, or from the Hub's own login."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from scripts.host.config.schema import HubSource
from scripts.host.models.artifacts import Item


def variable_for(item: Item) -> str:
    """Environment variable of a file's host: HF_TOKEN, or TOKEN_CIVITAI_COM for civitai.com."""
    if isinstance(item.model.source, HubSource):
        return "HF_TOKEN"
    host = urlsplit(item.wanted.url).hostname or ""
    return "TOKEN_" + re.sub(r"[^A-Z0-9]", "_", host.upper())


def token_for(item: Item) -> str:
    """The token for a file's own host; empty for none."""
    given = os.environ.get(variable_for(item), "").strip()
    if given or not isinstance(item.model.source, HubSource):
        return given
    from huggingface_hub import get_token  # reads what `hf auth login` wrote

    return get_token() or ""
