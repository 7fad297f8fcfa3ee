"""Hands RunPod's jobs to the WebUI, once something answers."""

import time
from typing import Any

import requests
import runpod  # type: ignore[import-not-found]  # in the baseline image only

API = "http://127.0.0.1:3000/sdapi/v1"


def wait() -> None:
    """Ask until an answer comes."""
    while True:
        try:
            requests.get(f"{API}/txt2img", timeout=120)
        except requests.RequestException:
            time.sleep(0.2)
        else:
            return


def handler(event: dict[str, Any]) -> dict[str, Any]:
    """One job, one picture."""
    answer: dict[str, Any] = requests.post(
        f"{API}/txt2img", json=event["input"], timeout=600
    ).json()
    return answer


wait()
runpod.serverless.start({"handler": handler})
