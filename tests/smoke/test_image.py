"""What can be known of an image without a GPU: its files, packages, user and labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from scripts.host.config.load import Loaded
from scripts.host.docker.engine import client

Saw = Callable[[object], None]


@pytest.fixture(autouse=True)
def _only_with_an_image(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--url"):
        pytest.skip("an address has no image to look into")


def output(image: Any, *words: str) -> str:
    text: bytes = client().containers.run(
        image.id, list(words), entrypoint="", remove=True, network_mode="none"
    )
    return text.decode()


def test_checkpoint_is_a_whole_safetensors_file(image: Any, saw: Saw) -> None:
    code = (
        "from scripts.common.safetensors import check\n"
        "from pathlib import Path\n"
        "print(check(Path('/model.safetensors')))"
    )
    saw(output(image, "/opt/runpod/bin/python", "-c", code).strip()[:60])


def test_torch_is_the_base_images_own(image: Any, saw: Saw) -> None:
    code = "import torch; print(torch.__version__, torch.__file__)"
    version, path = output(image, "/opt/webui/bin/python", "-c", code).split()[-2:]
    saw(f"{version} {path}")
    assert path.startswith("/opt/conda/")


def test_torch_carries_code_for_every_target(image: Any, loaded: Loaded, saw: Saw) -> None:
    targets = loaded.config.smoke.targets
    if not targets:
        pytest.skip("this variant has no GPU target")
    code = "import torch; print(torch._C._cuda_getArchFlags() or '')"
    arch = output(image, "/opt/webui/bin/python", "-c", code).split()
    saw(" ".join(arch))
    for target in targets:
        assert runs_on(target, arch), f"no code for {target} in {arch}"


def runs_on(target: str, arch: list[str]) -> bool:
    """Whether a device of a compute capability runs code of an arch list.

    A cubin runs on the same major version and an equal or higher minor one; PTX on anything newer
    (https://docs.nvidia.com/cuda/ada-compatibility-guide/).
    """
    major, minor = (int(part) for part in target.split("."))
    for word in arch:
        kind, _, number = word.partition("_")
        if not number[-1].isdigit():
            if kind == "sm" and number[:-1] == f"{major}{minor}":
                return True
            continue
        has = (int(number[:-1]), int(number[-1]))
        if kind == "sm" and has[0] == major and has[1] <= minor:
            return True
        if kind == "compute" and has <= (major, minor):
            return True
    return False


def test_attention_library_fits_torch(image: Any, loaded: Loaded, saw: Saw) -> None:
    find = "import importlib.util as u; print(bool(u.find_spec('xformers')))"
    present = output(image, "/opt/webui/bin/python", "-c", find).strip() == "True"
    if loaded.config.build.accelerator == "cpu":
        saw("no xformers, as the CPU needs it")
        assert not present
        return
    code = (
        "import torch, xformers, xformers.ops, xformers._cpp_lib as lib;"
        "print(xformers.__version__, lib._cpp_library_load_exception or 'loads')"
    )
    answer = output(image, "/opt/webui/bin/python", "-c", code).strip().splitlines()[-1]
    saw(answer)
    assert answer.endswith("loads")


def test_what_the_webui_imports_is_there(image: Any) -> None:
    names = "cv2, gradio, transformers, pytorch_lightning, open_clip, clip, kornia, spandrel"
    assert "fine" in output(image, "/opt/webui/bin/python", "-c", f"import {names}; print('fine')")


def test_labels_say_what_it_is(image: Any, loaded: Loaded, saw: Saw) -> None:
    labels = image.labels
    saw(json.dumps({key.rpartition(".")[2]: value for key, value in labels.items()})[:60])
    assert labels["org.opencontainers.image.version"] == loaded.config.a1111.release
    assert labels["org.opencontainers.image.revision"]


def test_nothing_of_the_build_is_left(image: Any) -> None:
    looked_for = (
        "find / -xdev ( -name .git -o -path /tools -o -path /root/.cache/* "
        "-o -path /run/secrets/* ) -print -quit"
    )
    found = output(image, *looked_for.split()).strip()
    assert not found, found
