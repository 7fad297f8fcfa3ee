"""What can be known of an image without a GPU: its files, packages, user and labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from scripts.common.gpu.device import parse_capability
from scripts.common.gpu.judge import judge_code
from scripts.host.config.load import LoadedConfig
from scripts.host.console import size
from scripts.host.engine.client import client
from scripts.host.engine.containers import container_output
from scripts.host.inspect.rules import require
from scripts.host.inspect.structure import Structure

Saw = Callable[[object], None]

WEBUI = "/opt/webui/bin/python"


def output(image: Any, *words: str) -> str:
    """What a command prints in the image, with no network; a failed one raises with its stderr."""
    return container_output(client(), image.id, words)


@pytest.mark.fails_as("model-corrupt")
def test_checkpoint_is_a_whole_safetensors_file(image: Any, saw: Saw) -> None:
    code = (
        "from scripts.common.fetch.safetensors_header import check\n"
        "from pathlib import Path\n"
        "found = check(Path('/model.safetensors'))\n"
        "print(found.tensors, found.data)"
    )
    tensors, data = output(image, "/opt/runpod/bin/python", "-c", code).split()
    saw(f"{tensors} tensors, {size(int(data))}")


@pytest.mark.fails_as("torch-replaced")
def test_torch_comes_from_the_base_image(image: Any, saw: Saw) -> None:
    code = "import importlib.util as u; print(u.find_spec('torch').origin)"
    path = output(image, WEBUI, "-c", code).split()[-1]
    saw(path.removesuffix("/__init__.py"))
    assert path.startswith("/opt/conda/"), f"torch is imported from {path}"


@pytest.mark.fails_as("no-kernel-image")
def test_torch_carries_code_for_every_target(
    told: dict[str, Any], loaded: LoadedConfig, saw: Saw
) -> None:
    targets = loaded.config.smoke.targets
    if not targets:
        pytest.skip("this variant has no GPU target")
    assert "archs" in told, f"torch cannot be imported: {told.get('error', 'no answer')}"
    judgement = judge_code(map(parse_capability, targets), told["archs"])
    saw(judgement.evidence)
    assert judgement.outcome == "passed", judgement.evidence


@pytest.mark.fails_as("xformers-mismatch")
def test_attention_library_fits_torch(image: Any, loaded: LoadedConfig, saw: Saw) -> None:
    if loaded.config.build.accelerator == "cpu":
        find = "import importlib.util as u; print(bool(u.find_spec('xformers')))"
        assert output(image, WEBUI, "-c", find).strip() == "False", "it breaks drawing on the CPU"
        saw("no xformers, as the CPU needs it")
        return
    code = (
        "import json, torch, xformers, xformers.ops, xformers._cpp_lib as lib;"
        "metadata = lib._build_metadata;"
        "made = metadata.build_env and metadata.torch_version if metadata else '';"
        "print(json.dumps([xformers.__version__, made, torch.__version__,"
        " str(lib._cpp_library_load_exception or '')]))"
    )
    version, made_for, torch, error = json.loads(output(image, WEBUI, "-c", code).splitlines()[-1])
    saw(f"xformers {version} for torch {made_for or 'unknown'}, torch is {torch}")
    assert not error, error
    same = made_for.partition("+")[0] == torch.partition("+")[0]
    assert same, f"it is made for torch {made_for or 'unknown'}"


@pytest.mark.fails_as("package-missing")
def test_what_the_webui_imports_is_there(image: Any, saw: Saw) -> None:
    names = "cv2, gradio, transformers, pytorch_lightning, open_clip, clip, kornia, spandrel"
    assert "fine" in output(image, WEBUI, "-c", f"import {names}; print('fine')")
    saw(names)


@pytest.mark.fails_as("tokenizer-missing")
def test_the_tokenizer_loads_without_a_network(image: Any, saw: Saw) -> None:
    code = (
        "from transformers import CLIPTokenizer as T;"
        "print(len(T.from_pretrained('openai/clip-vit-large-patch14')), 'words')"
    )
    saw(output(image, WEBUI, "-c", code).strip().splitlines()[-1])


@pytest.mark.fails_as("tcmalloc-missing")
def test_tcmalloc_can_be_preloaded(image: Any, saw: Saw) -> None:
    code = "from scripts.container.webui import environment as e; print(e.find_tcmalloc('auto'))"
    found = output(image, "/opt/runpod/bin/python", "-c", code).strip()
    saw(found)
    assert found, "no library that the linker would preload"


@pytest.mark.fails_as("labels-wrong")
def test_labels_say_what_it_is(image: Any, loaded: LoadedConfig, saw: Saw) -> None:
    labels = image.labels
    version = labels.get("org.opencontainers.image.version", "")
    revision = labels.get("org.opencontainers.image.revision", "")
    saw(f"{version or 'no version'}, {f'revision {revision[:12]}' if revision else 'no revision'}")
    assert version == loaded.config.a1111.release, (
        f"the version is not {loaded.config.a1111.release}"
    )
    assert revision, "no revision"


def test_nothing_of_the_build_is_left_in_any_layer(
    inspection: Structure, loaded: LoadedConfig, saw: Saw
) -> None:
    saw(f"{len(inspection.layers)} layers looked into")
    require("leftovers", inspection, loaded.config.smoke)


def test_no_file_may_be_changed_by_anybody(
    inspection: Structure, loaded: LoadedConfig, saw: Saw
) -> None:
    saw(f"{len(inspection.layers)} layers looked into")
    require("world-writable", inspection, loaded.config.smoke)


def test_no_file_lends_its_owners_rights(
    inspection: Structure, loaded: LoadedConfig, saw: Saw
) -> None:
    saw(f"{len(inspection.layers)} layers looked into")
    require("setuid-file", inspection, loaded.config.smoke)


def test_no_secret_is_in_its_layers_environment_or_history(
    inspection: Structure, loaded: LoadedConfig, saw: Saw
) -> None:
    saw(f"{len(inspection.layers)} layers looked into")
    require("secret-in-image", inspection, loaded.config.smoke)


def test_few_bytes_lie_hidden_below_later_layers(
    inspection: Structure, loaded: LoadedConfig, saw: Saw
) -> None:
    saw(f"{size(inspection.wasted_bytes)} hidden")
    require("wasted-bytes", inspection, loaded.config.smoke)


def test_image_and_layers_are_within_their_budgets(
    inspection: Structure, loaded: LoadedConfig, saw: Saw
) -> None:
    saw(f"{size(inspection.own_size)} over base and models")
    require("image-too-large", inspection, loaded.config.smoke)
