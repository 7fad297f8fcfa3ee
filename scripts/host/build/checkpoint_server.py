"""Serve the checkpoint to a builder on this machine.

BuildKit receives files of a folder as messages, which takes both its process and buildx's more time
than the disk. What it downloads by itself costs a fourth of that, and with a SHA-256 that it knows
already it asks for nothing at all (`ADD --checksum`,
https://docs.docker.com/reference/dockerfile/#add---checksum).
"""

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from scripts.common.fetch.hashing import layer_time
from scripts.common.fetch.spec import VerifiedFile
from scripts.host.config.model_place import CHECKPOINT_PATH

FETCHED = "fetched"
"""Stage of the Dockerfile that downloads the checkpoint from http://CHECKPOINT_ADDRESS."""


@contextmanager
def served_checkpoint(file: VerifiedFile) -> Iterator[Mapping[str, str]]:
    """Serve a file of the store until the block ends.

    Yields:
        Build arguments that make the Dockerfile take it from there.
    """
    # Random, because a web page in a browser of this machine may ask 127.0.0.1, too.
    path = f"/{secrets.token_urlsafe()}{CHECKPOINT_PATH}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != path:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            with file.path.open("rb") as stream:
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Length", str(file.size))
                # The time that the file gets, as in the layer of a folder.
                time = formatdate(layer_time(file.sha256), usegmt=True)
                self.send_header("Last-Modified", time)
                self.end_headers()
                self.connection.sendfile(stream)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: BuildKit reports the download."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False  # a cancelled build's download does not hold this one up
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield {
                "CHECKPOINT_STAGE": FETCHED,
                "CHECKPOINT_SHA256": file.sha256,
                "CHECKPOINT_ADDRESS": f"127.0.0.1:{server.server_port}{path}",
            }
        finally:
            server.shutdown()
