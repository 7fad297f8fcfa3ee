"""Compare jobs through the handler with the same calls by hand, inside a worker container.

Prints the seconds of each pair, as a JSON list of [direct, handled].
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from scripts.common.webui_client import WebuiClient
from scripts.container.serverless.handler import Handler, make_context
from scripts.container.settings import Settings

JOB = {"prompt": "a lighthouse", "width": 64, "height": 64, "steps": 1, "seed": 1}


async def measure(rounds: int) -> list[tuple[float, float]]:
    """Run each job both ways, one after the other, so that a busy moment hits both alike."""
    settings = Settings.from_environment(os.environ)
    api = WebuiClient.local(settings.webui_host, settings.webui_port, settings.api_auth)
    handler = Handler(settings, make_context(settings))
    pairs = []
    for number in range(rounds):
        began = time.perf_counter()
        direct = api.request("POST", "/sdapi/v1/txt2img", JOB, timeout=60).json()
        between = time.perf_counter()
        handled = await handler.handle({"id": f"{number}", "input": JOB})
        pairs.append((between - began, time.perf_counter() - between))
        if direct["images"] != handled["images"]:
            raise SystemExit("the handler's image differs")
    return pairs


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(int(sys.argv[1])))))
