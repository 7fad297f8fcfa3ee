"""`smoke [--json]`: test this image inside its container, and on a pod serve the report."""

import argparse
import os
import sys
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from scripts.common.checks.check import CheckResult, format_results
from scripts.common.checks.expectations import Expectations
from scripts.common.diagnostics.error import UserError
from scripts.container.settings import Settings


def main(settings: Settings, arguments: Sequence[str]) -> int:
    """Run the checks and print them; return 0 if they passed.

    On a RunPod pod the report is served on WEBUI_PORT until the container is stopped: a pod starts
    a container again that ends.

    Raises:
        UserError: the image holds no valid expectations.
    """
    parser = argparse.ArgumentParser(prog="smoke", description="Test this image in its container.")
    parser.add_argument("--json", action="store_true", help="print the report on standard output")
    options = parser.parse_args(arguments)
    from scripts.container.smoke.smoke_run import SmokeRun

    def show(result: CheckResult) -> None:
        print(format_results([result]), file=sys.stderr, flush=True)

    bundle = SmokeRun(settings, _read_expectations(settings), show).run(os.environ)
    report = bundle.report
    text = f"{report.verdict}: {len(report.ran)} checks in {report.seconds:.0f} s"
    print(text, file=sys.stderr, flush=True)
    document = bundle.model_dump_json()
    if options.json:
        print(document, flush=True)
    if "RUNPOD_POD_ID" in os.environ:
        _serve(document.encode(), settings.webui_port)
    return 0 if report.passed else 1


def _read_expectations(settings: Settings) -> Expectations:
    """Read what `invoke build` has left; an image of plain `docker build` has no expectations."""
    try:
        return Expectations.model_validate_json(settings.image_smoke or "{}")
    except ValueError as error:
        raise UserError(f"IMAGE_SMOKE is not valid: {error}", code="setting-invalid") from None


def _serve(document: bytes, port: int) -> None:
    """Answer every GET with the report until the process ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(document)))
            self.end_headers()
            self.wfile.write(document)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    print(f"the report is served on port {port} until this container stops", file=sys.stderr)
    ThreadingHTTPServer(("0.0.0.0", port), Handler).serve_forever()  # noqa: S104 - a pod's proxy asks
