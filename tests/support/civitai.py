"""Serve Civitai's API of models by hash, and the files that its answers name.

The answer's form is that of https://developer.civitai.com/site/reference/model-versions: addresses
of files always name the site itself, whichever mirror was asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.support.checkout import sha
from tests.support.serving import Quiet, Server, running

SITE = "https://civitai.com"


class _Handler(Quiet):
    server: CivitaiServer

    def do_GET(self) -> None:  # noqa: N802 - http.server's own name
        self.server.requests.append(self.path)
        if self.server.status != 200:
            return self.answer(self.server.status)
        path = urlsplit(self.path).path
        if match := re.fullmatch(r"/api/v1/model-versions/by-hash/([0-9A-Fa-f]{64})", path):
            return self._version(match[1].lower())
        if match := re.fullmatch(r"/api/download/models/(\d+)", path):
            content = self.server.files[int(match[1])]
            name = f'attachment; filename="{self.server.names[int(match[1])]}"'
            return self.answer(200, content, {"Content-Disposition": name})
        return self.answer(404, b'{"error":"Not found"}')

    def _version(self, sha256: str) -> None:
        for number, content in self.server.files.items():
            if sha(content) == sha256:
                address = f"{SITE}/api/download/models/{number}?type=Model&token=secret"
                training = {"hashes": {"SHA256": "0" * 64}, "downloadUrl": f"{SITE}/training"}
                file = {
                    "name": self.server.names[number],
                    "hashes": {"SHA256": sha256.upper(), "AutoV2": sha256[:10].upper()},
                    "downloadUrl": address,
                }
                body = json.dumps({"id": number, "files": [training, file]})
                return self.answer(200, body.encode(), {"Content-Type": "application/json"})
        return self.answer(404, b'{"error":"Model not found"}')


class CivitaiServer(Server):
    """The stand-in's server; `requests` holds the path of every request."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.names = dict(enumerate(files, start=15236))
        self.files = dict(zip(self.names, files.values(), strict=True))
        self.status = 200  # of every answer
        self.requests: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)


@contextmanager
def civitai(files: Mapping[str, bytes]) -> Iterator[CivitaiServer]:
    """Serve files by name until the block ends."""
    server = CivitaiServer(files)
    with running(server):
        yield server
