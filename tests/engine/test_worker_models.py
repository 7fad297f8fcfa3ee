"""Models of the image and of a volume, as the WebUI of a running container sees them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from scripts.common.webui_client import WebuiClient
from tests.support.checkout import safetensors_bytes
from tests.support.pickles import tensor, torch_zip
from tests.support.running import build_image, container, eventually

IMAGE = "a1111-worker-test:with-models"
WORKER = ["/opt/runpod/bin/python", "-m", "scripts.container"]
QUICK = {"STANDIN_TORCH": "0", "METRICS_PORT": "9090"}
METRICS = """/opt/runpod/bin/python -c 'import urllib.request as url
print(url.urlopen("http://127.0.0.1:9090/metrics").read().decode())'"""
VOLUME = {
    "models/lora/style.safetensors": "lora",
    "stable-diffusion-webui/models/Lora/people/face.pt": "lora",
    "stable-diffusion-webui/embeddings/easy.pt": "embedding",
    "ComfyUI/models/vae/soft.safetensors": "vae",
    "models/upscale_models/4x-Sharp.pth": "upscaler",
    "models/Lora/baked.safetensors": "lora",
}


@pytest.fixture
def image(cpu_image: str) -> str:
    """The worker's image with models in it."""
    baked = ("models/Lora/baked.safetensors", "models/Lora/only.safetensors", "embeddings/own.pt")
    folders = " ".join(sorted({f"/opt/a1111/{os.path.dirname(path)}" for path in baked}))  # noqa: PTH120
    files = " ".join(f"/opt/a1111/{path}" for path in baked)
    build_image(IMAGE, f"FROM {cpu_image}\nRUN mkdir -p {folders} && touch {files}\n")
    return IMAGE


@pytest.mark.parametrize("mode", ["rw", "ro"])
def test_models_of_image_and_volume_are_listed_by_the_webui(
    image: str, tmp_path: Path, mode: str
) -> None:
    tmp_path.chmod(0o755)
    for path in VOLUME:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(_content(path))
    before = _files(tmp_path)
    with container(
        image,
        environment={**QUICK, "WEBUI_HOST": "0.0.0.0"},
        volumes={str(tmp_path): {"bind": "/runpod-volume", "mode": mode}},
        ports={"3000/tcp": ("127.0.0.1", None)},
    ) as running:
        _wait_until_ready(running)
        api = WebuiClient.local("127.0.0.1", int(running.ports["3000/tcp"][0]["HostPort"]))
        loras = {row["name"]: os.path.realpath(row["path"]) for row in _get(api, "loras")}
        data = "/tmp/a1111-worker/data"  # noqa: S108 - the container's own
        assert loras == {
            name: f"{data}/models/Lora/{name}.safetensors" if name != "face" else loras["face"]
            for name in ("baked", "only", "style", "face")
        }
        assert loras["face"] == f"{data}/models/Lora/people/face.pt"
        assert set(_get(api, "embeddings")["loaded"]) == {"easy", "own"}
        assert [row["model_name"] for row in _get(api, "sd-vae")] == ["soft.safetensors"]
        assert "4x-Sharp" in {row["name"] for row in _get(api, "upscalers")}
        assert _run(running, f"readlink {data}/models/Lora/baked.safetensors") == (
            "/runpod-volume/models/Lora/baked.safetensors"
        )

        report = json.loads(_run(running, "models", "--json"))
        rows = {row["path"]: row for row in report["models"]}
        assert rows["/opt/a1111/models/Lora/baked.safetensors"]["shadowed_by"] == (
            "/runpod-volume/models/Lora/baked.safetensors"
        )
        assert {path: rows[f"/runpod-volume/{path}"]["kind"] for path in VOLUME} == VOLUME
        assert 'a1111_worker_models{kind="lora"} 4.0' in _run(running, METRICS)
        results = json.loads(_run(running, "preflight", "--json"))["verdicts"]
        [line] = [row for row in results if row["check"] == "models"]
        assert line["level"] == "ok"
        assert "4 lora" in line["evidence"]
        assert "1 shadowed" in line["evidence"]
    assert _files(tmp_path) == before, "nothing on the volume changes, owners included"


def _content(path: str) -> bytes:
    """Return a file that the checks of its kind accept: preflight reads what no build checked."""
    if path.endswith(".safetensors"):
        return safetensors_bytes(2000)
    vectors = {"string_to_param": {"*": tensor(2, 768)}}
    return torch_zip(vectors if "embeddings/" in path else {"params": tensor(3, 3)})


def _wait_until_ready(running: Any) -> None:
    def is_healthy() -> bool:
        running.reload()
        assert running.status == "running", running.logs().decode()
        return bool(running.exec_run([*WORKER, "health"]).exit_code == 0)

    eventually(is_healthy, seconds=120, what="a drawn picture")


def _get(api: WebuiClient, route: str) -> Any:
    return api.request("GET", f"/sdapi/v1/{route}", timeout=10).json()


def _run(running: Any, *command: str) -> str:
    """Run a command of the worker, or one line of shell, in the container."""
    line = ["sh", "-c", command[0]] if len(command) == 1 else [*WORKER, *command]
    done = running.exec_run(line, demux=True)
    return (done.output[0] or b"").decode().strip()


def _files(folder: Path) -> dict[str, tuple[int, int, float]]:
    """Owner, size and time by path, without the worker's own cache."""
    found = (path for path in folder.rglob("*") if ".cache" not in path.parts)
    return {
        str(path): (path.lstat().st_uid, path.lstat().st_size, path.lstat().st_mtime)
        for path in found
        if path != folder
    }
