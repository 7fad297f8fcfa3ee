"""Serve a stand-in over TLS, with a certificate of its own."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

from tests.support.serving import Server


def serve_tls(server: Server, folder: Path, *, days: int = 2) -> Path:
    """Wrap a server's socket in TLS.

    Args:
        server: before its first request.
        folder: where key and certificate are kept.
        days: how long the certificate is valid; 0 for one that has expired.

    Returns:
        The certificate, to be used as a CA bundle.
    """
    key, cert, request = (folder / name for name in ("key.pem", "cert.pem", "request.pem"))
    request_key = (
        f"openssl req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1"
        f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {request}"
    )
    sign = (
        f"openssl x509 -req -in {request} -signkey {key} -days {days}"
        f" -copy_extensions copy -out {cert}"
    )
    for command in (request_key, sign):
        subprocess.run(command.split(), capture_output=True, check=True)
    reuse_certificate(server, folder)
    return cert


def reuse_certificate(server: Server, folder: Path) -> None:
    """Wrap another server's socket in TLS with the certificate of an earlier `serve_tls`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
