"""Has a stand-in speak TLS, with a certificate made on the spot."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

from tests.support.serving import Server


def serve_tls(server: Server, folder: Path, *, days: int = 2) -> Path:
    """Wrap a server's socket.

    Args:
        server: not yet asked anything.
        folder: where key and certificate are kept.
        days: how long the certificate is valid; 0: it has expired when it is made.

    Returns:
        The certificate, to be trusted as a bundle.
    """
    key, cert, request = (folder / name for name in ("key.pem", "cert.pem", "request.pem"))
    asked = (
        f"openssl req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1"
        f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {request}"
    )
    signed = (
        f"openssl x509 -req -in {request} -signkey {key} -days {days}"
        f" -copy_extensions copy -out {cert}"
    )
    for words in (asked, signed):
        subprocess.run(words.split(), capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return cert
