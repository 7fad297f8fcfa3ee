"""The checkpoint as a builder downloads it: whole, with the time of its layer, from one address."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from scripts.common.fetch.hashing import layer_time
from scripts.common.fetch.spec import VerifiedFile
from scripts.host.build.checkpoint_server import served_checkpoint


@pytest.fixture
def stored(tmp_path: Path) -> VerifiedFile:
    content = os.urandom(3_000_000)
    path = tmp_path / "object"
    path.write_bytes(content)
    return VerifiedFile(path, hashlib.sha256(content).hexdigest(), len(content), "cached")


def url_of(arguments: Mapping[str, str]) -> str:
    return f"http://{arguments['CHECKPOINT_ADDRESS']}"


def test_the_file_is_sent_with_the_time_of_its_layer(stored: VerifiedFile) -> None:
    with served_checkpoint(stored) as arguments:
        answer = requests.get(url_of(arguments), timeout=10)
    assert url_of(arguments).endswith("/model.safetensors")
    assert hashlib.sha256(answer.content).hexdigest() == arguments["CHECKPOINT_SHA256"]
    time = parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp()
    assert time == layer_time(stored.sha256)


def test_nothing_else_is_served_and_nothing_afterwards(stored: VerifiedFile) -> None:
    with served_checkpoint(stored) as arguments, served_checkpoint(stored) as others:
        url = urlsplit(url_of(arguments))
        for path in ("/", "/model.safetensors", urlsplit(url_of(others)).path):
            wrong = url._replace(path=path).geturl()
            assert requests.get(wrong, timeout=10).status_code == 404
    with pytest.raises(requests.ConnectionError):
        requests.get(url_of(arguments), timeout=10)
