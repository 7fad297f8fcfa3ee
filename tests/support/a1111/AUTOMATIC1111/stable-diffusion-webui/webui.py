"""A stand-in for AUTOMATIC1111's webui.py: the same command line, the same order of events.

Imports first, then the extensions' scripts; then the checkpoint loads in a thread while the API is
made and the port opens. A failed load leaves a server that answers everything but pictures: an open
port proves nothing.
"""

from __future__ import annotations

import signal
import threading

from modules import faults, paths
from modules.cmd_args import parse
from modules.timer import Timer


def main() -> None:
    """Serve until a signal ends it."""
    flags = parse()
    timer = Timer()
    faults.at_start()
    paths.prepare(flags)
    from modules import engines  # the slow imports: torch, transformers and the repositories

    engine = engines.make(flags)
    timer.record("import torch")

    import uvicorn
    from modules import script_callbacks
    from modules.api import make_app
    from modules.state import WebUI

    webui = WebUI(flags, engine)
    webui.load_extensions()
    timer.record("load scripts")
    if not flags.skip_load_model_at_start:
        threading.Thread(target=webui.load, daemon=True).start()
    app = make_app(webui)
    timer.record("create API")
    script_callbacks.before_ui_callback()
    script_callbacks.app_started_callback(app)
    print(f"Startup time: {timer.summary()}.", flush=True)
    faults.before_listening()
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            # None, as upstream passes it: every interface, IPv4 and IPv6.
            host=flags.server_name or ("0.0.0.0" if flags.listen else None),  # type: ignore[arg-type]
            port=flags.port,
            timeout_keep_alive=flags.timeout_keep_alive,
            access_log=False,
        )
    )
    if faults.is_stubborn():
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        server.handle_exit = lambda *_: None  # type: ignore[method-assign]
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server.run()


if __name__ == "__main__":
    main()
