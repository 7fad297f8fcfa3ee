"""Serve `/metrics` for Prometheus and `/health` (200 or 503) on a loopback port."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from scripts.container.log import log
from scripts.container.settings import Settings
from scripts.container.status.state import check_health


def serve(settings: Settings) -> None:
    """Answer requests in a thread until the process ends; a port in use is a warning."""
    if not settings.metrics_port:
        return

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                from scripts.container.status.metrics import format_metrics  # at the first scrape

                return self._answer(200, format_metrics(settings))
            if self.path == "/health":
                is_ready, message = check_health(settings.worker_dir)
                return self._answer(200 if is_ready else 503, f"{message}\n".encode())
            return self._answer(404, b"/metrics or /health\n")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing: scrapes are frequent."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", settings.metrics_port), Handler)
    except OSError as error:
        log("no-metrics", level="warning", port=settings.metrics_port, reason=str(error))
        return
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
