"""The smallest WebUI that a supervisor can be tested with: one file, standard library only.

Run as `webui.py` with the worker's own flags. `STANDIN_FAULT` names what goes wrong, and a file
named by `STANDIN_ONCE` makes it go wrong one time only. What it was started with is written to
`seen.json` in its data folder.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import runpy
import shlex
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import traceback
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar


def fault() -> str:
    """Faults of this process."""
    once = os.environ.get("STANDIN_ONCE")
    if not once:
        return os.environ.get("STANDIN_FAULT", "")
    if Path(once).exists():
        return ""
    Path(once).touch()
    return os.environ.get("STANDIN_FAULT", "")


FAULT = fault()


def png(width: int, height: int, seed: int) -> bytes:
    """Noise, or black where that is the fault."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    noise = random.Random(seed)  # noqa: S311 - a picture
    rows = [
        bytes(width * 3) if FAULT == "flat" else noise.randbytes(width * 3) for _ in range(height)
    ]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


DAEMONS = """
setsid sh -c 'trap "" TERM; echo $$ >"$0/daemon"; exec sleep 600' "$0" &
setsid sh -c 'echo $$ >"$0/short-lived"' "$0" &
"""


OPTIONS = {
    "CLIP_stop_at_last_layers": 1,
    "samples_format": "png",
    "upscaler_for_img2img": None,
    "disabled_extensions": [],
}
"""Some of the WebUI's options with their defaults."""


class Handler(BaseHTTPRequestHandler):
    """The few routes that the worker uses."""

    pictures = 0
    options: ClassVar[dict[str, Any]] = {}

    def do_GET(self) -> None:
        if FAULT == "silent" and Handler.pictures:
            threading.Event().wait()
        if self.path == "/openapi.json":
            rows = {
                name: {} if value is None else {"default": value} for name, value in OPTIONS.items()
            }
            return self.answer(200, {"components": {"schemas": {"Options": {"properties": rows}}}})
        if self.path == "/sdapi/v1/options":
            return self.answer(
                200, {name: Handler.options.get(name, OPTIONS[name]) for name in OPTIONS}
            )
        if self.path == "/sdapi/v1/extensions":
            return self.answer(200, [])
        return self.answer(200, {"progress": 0.0})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/sdapi/v1/options":
            Handler.options |= request
            return self.answer(200, None)
        Handler.pictures += 1
        if Handler.pictures > 1:  # the first is the supervisor's own
            self.go_wrong()
        if request.get("wait_for"):
            # A job that runs until a test says so: it waits for a reader of a named pipe.
            Path(request["wait_for"]).read_bytes()
        if FAULT == "no-model":
            if below := int(os.environ.get("STANDIN_CAUSE_ABOVE", "0")):
                # As A1111 v1.9.3 does with a damaged checkpoint: the reason, then tracebacks.
                cause = "SafetensorError: Error while deserializing header: HeaderTooLarge"
                print(cause, *range(below), "Stable diffusion model failed to load", sep="\n")
                print("AttributeError: 'NoneType' object has no attribute 'lowvram'", flush=True)
            return self.answer(500, {"error": "TypeError", "errors": "NoneType has no model"})
        if FAULT == "fallback":  # as modules/esrgan_model.py prints before it goes on without
            print("*** Unable to load ESRGAN model /models/ESRGAN/4x.pth", file=sys.stderr)
        if FAULT == "garbage":
            return self.answer(200, {"images": ["nonsense"]})
        width = request["width"] - (8 if FAULT == "wrong-size" else 0)
        drawn = png(width, request["height"], request.get("seed", 0))
        if Handler.options.get("samples_format", "png") != "png":
            drawn = b"RIFF\0\0\0\0WEBP"  # of that format only
        picture = base64.b64encode(drawn)
        return self.answer(200, {"images": [picture.decode()], "parameters": {}, "info": "{}"})

    def go_wrong(self) -> None:
        """The faults of a second picture."""
        if FAULT == "killed-mid-job":
            os.kill(os.getpid(), signal.SIGKILL)
        if FAULT in ("hang", "stubborn"):
            threading.Event().wait()

    def answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class Server(ThreadingHTTPServer):
    """Waits for running requests when it is closed, as the real server does."""

    daemon_threads = False
    allow_reuse_address = True


def report(message: str) -> None:
    """Print the error that is being handled as upstream's modules/errors.py does."""
    print("***", message, file=sys.stderr)
    print(textwrap.indent(traceback.format_exc(), "    "), file=sys.stderr)
    print("---", file=sys.stderr, flush=True)


def load_extensions(folder: Path, parser: argparse.ArgumentParser) -> None:
    """Load extensions as upstream does: what `ui()` raises, and SystemExit, ends the process."""
    disabled = Handler.options.get("disabled_extensions", [])
    folders = sorted(folder.iterdir()) if folder.is_dir() else []
    enabled = [each for each in folders if each.is_dir() and each.name not in disabled]
    for path in (each / "preload.py" for each in enabled):
        try:
            if path.exists():
                runpy.run_path(str(path))["preload"](parser)
        except Exception:
            report(f"Error running preload() for {path}")
    if "IGNORE_CMD_ARGS_ERRORS" not in os.environ and "--extension-flag" in sys.argv:
        parser.parse_args(["--extension-flag"])
    scripts = []
    for path in (script for each in enabled for script in sorted(each.glob("scripts/*.py"))):
        try:
            scripts.append(runpy.run_path(str(path)))
        except Exception:
            report(f"Error loading script: {path.name}")
    for script in scripts:
        script.get("ui", lambda: None)()


def main() -> None:
    sys.argv += shlex.split(os.environ.get("COMMANDLINE_ARGS", ""))
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--server-name")
    parser.add_argument("--data-dir", type=Path)
    flags, others = parser.parse_known_args()
    if "--no-such-flag" in others:
        parser.error("unrecognized arguments: --no-such-flag")
    if FAULT == "crash-at-start":
        raise RuntimeError("the stand-in was asked to crash")
    seen = {"argv": sys.argv[1:], "env": dict(os.environ), "uid": os.getuid(), "pid": os.getpid()}
    (flags.data_dir / "seen.json").write_text(json.dumps(seen))
    if (flags.data_dir / "config.json").exists():
        Handler.options = json.loads((flags.data_dir / "config.json").read_text())
    load_extensions(flags.data_dir / "extensions", parser)
    if FAULT == "daemons":  # one that stays, and one that ends as an orphan
        subprocess.run(["sh", "-c", DAEMONS, str(flags.data_dir)], check=True)
    if FAULT == "hang-at-start":
        threading.Event().wait()
    if FAULT == "endless-line":
        print("x" * 50_000_000, end="", flush=True)
    server = Server((flags.server_name, flags.port), Handler)
    if FAULT == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        stop = threading.Thread(target=server.shutdown)
        signal.signal(signal.SIGTERM, lambda *_: stop.start())
    print("the stand-in serves", flush=True)
    server.serve_forever(poll_interval=0.05)
    server.server_close()


if __name__ == "__main__":
    main()
