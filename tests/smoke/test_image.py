"""What can be known of an image without a GPU: its files, packages, user and labels."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from scripts.common.cuda import capability, carrier
from scripts.host.config.load import Loaded
from scripts.host.docker.engine import client

Saw = Callable[[object], None]

WEBUI = "/opt/webui/bin/python"
FACTS = "/opt/worker/scripts/container/preflight/torch_facts.py"
SECRET = re.compile(
    r"hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{36,}|AKIA[0-9A-Z]{16}|rpa_[A-Z0-9]{30,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


def output(image: Any, *words: str) -> str:
    """What a command prints in the image, with no network; a failed one raises with its stderr."""
    text: bytes = client().containers.run(
        image.id, list(words), entrypoint="", remove=True, network_mode="none"
    )
    return text.decode()


@pytest.mark.fails_as("model-corrupt")
def test_checkpoint_is_a_whole_safetensors_file(image: Any, saw: Saw) -> None:
    code = (
        "from scripts.common.safetensors import check\n"
        "from pathlib import Path\n"
        "print(check(Path('/model.safetensors')))"
    )
    saw(output(image, "/opt/runpod/bin/python", "-c", code).strip()[:60])


@pytest.mark.fails_as("torch-replaced")
def test_torch_is_the_base_images_own(image: Any, saw: Saw) -> None:
    code = "import importlib.util as u; print(u.find_spec('torch').origin)"
    path = output(image, WEBUI, "-c", code).split()[-1]
    saw(path)
    assert path.startswith("/opt/conda/"), f"torch is imported from {path}"


@pytest.mark.fails_as("no-kernel-image")
def test_torch_carries_code_for_every_target(image: Any, loaded: Loaded, saw: Saw) -> None:
    targets = loaded.config.smoke.targets
    if not targets:
        pytest.skip("this variant has no GPU target")
    archs = json.loads(output(image, WEBUI, FACTS).splitlines()[-1])["archs"]
    saw(" ".join(archs))
    missing = [target for target in targets if not carrier(capability(target), archs)]
    assert not missing, f"no code for {', '.join(missing)}"


@pytest.mark.fails_as("xformers-mismatch")
def test_attention_library_fits_torch(image: Any, loaded: Loaded, saw: Saw) -> None:
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
    assert made_for.partition("+")[0] == torch.partition("+")[0]


@pytest.mark.fails_as("package-missing")
def test_what_the_webui_imports_is_there(image: Any) -> None:
    names = "cv2, gradio, transformers, pytorch_lightning, open_clip, clip, kornia, spandrel"
    assert "fine" in output(image, WEBUI, "-c", f"import {names}; print('fine')")


@pytest.mark.fails_as("tokenizer-missing")
def test_the_tokenizer_loads_without_a_network(image: Any, saw: Saw) -> None:
    code = (
        "from transformers import CLIPTokenizer as T;"
        "print(len(T.from_pretrained('openai/clip-vit-large-patch14')), 'words')"
    )
    saw(output(image, WEBUI, "-c", code).strip().splitlines()[-1])


@pytest.mark.fails_as("tcmalloc-missing")
def test_tcmalloc_can_be_preloaded(image: Any, saw: Saw) -> None:
    code = "from scripts.container.environment import tcmalloc; print(tcmalloc('auto'))"
    found = output(image, "/opt/runpod/bin/python", "-c", code).strip()
    saw(found)
    assert found, "no library that the linker would preload"


@pytest.mark.fails_as("labels-wrong")
def test_labels_say_what_it_is(image: Any, loaded: Loaded, saw: Saw) -> None:
    labels = image.labels
    saw(json.dumps({key.rpartition(".")[2]: value for key, value in labels.items()}))
    assert labels.get("org.opencontainers.image.version") == loaded.config.a1111.release
    assert labels.get("org.opencontainers.image.revision")


@pytest.mark.fails_as("leftovers")
def test_nothing_of_the_build_is_left(image: Any) -> None:
    looked_for = (
        "find / -xdev ( -name .git -o -path /tools -o -path /root/.cache/* "
        "-o -path /run/secrets/* ) -print -quit"
    )
    found = output(image, *looked_for.split()).strip()
    assert not found, found


@pytest.mark.fails_as("world-writable")
def test_no_file_may_be_changed_by_anybody(image: Any) -> None:
    looked_for = (
        "find /stable-diffusion-webui /opt/worker /opt/webui /opt/runpod /opt/huggingface "
        "/model.safetensors /etc /usr/local ( -type f -o -type d ) "
        "-perm -0002 -print -quit"
    )
    found = output(image, *looked_for.split()).strip()
    assert not found, found


@pytest.mark.fails_as("secret-in-image")
def test_no_secret_is_in_its_environment_or_history(image: Any) -> None:
    told = [
        *(image.attrs["Config"].get("Env") or []),
        *(entry["CreatedBy"] for entry in image.history()),
    ]
    places = [text.partition("=")[0][:40] for text in told if SECRET.search(text)]
    assert not places, f"in {', '.join(places)}"


@pytest.mark.fails_as("secret-in-image")
def test_no_secret_is_in_its_files(image: Any) -> None:
    """Names only: what was found is never printed."""
    found = output(
        *(image, "sh", "-c"),
        "find /root /home -type f \\( -name .netrc -o -name .git-credentials -o -name token "
        "-o -name config.json -path '*/.docker/*' -o -name 'id_*' \\) 2>/dev/null; "
        "grep -rlE --exclude-dir=lib --binary-files=without-match "
        f"'{SECRET.pattern.replace('-----BEGIN', '[-]----BEGIN')}' "
        "/root /home /etc /run /tmp /opt/worker /opt/huggingface/token /stable-diffusion-webui "
        "2>/dev/null | head -5; true",
    ).split()
    assert not found, ", ".join(found)
