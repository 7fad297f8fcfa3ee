"""Check what can be known of an image without a GPU: its files, packages, user and labels."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from docker.errors import ContainerError

from scripts.common.checks.check import (
    Check,
    CheckSkipped,
    CommandError,
    check,
    judge,
)
from scripts.common.gpu.gpu_facts import parse_capability
from scripts.common.gpu.judge import Judgement, judge_code, public_version
from scripts.common.units import size
from scripts.host.engine.client import client
from scripts.host.engine.containers import container_output
from scripts.host.inspect.structure import require
from tests.smoke.recording import Run

WEBUI = "/opt/webui/bin/python"
WORKER = "/opt/runpod/bin/python"


def output(run: Run, *command: str) -> str:
    """Return what a command prints in the image, without a network.

    Raises:
        CommandError: its exit code is not 0.
    """
    try:
        return container_output(client(), run.target.image.id, command).strip()
    except ContainerError as error:
        stderr = error.stderr or b""
        raise CommandError(stderr.decode("utf-8", "replace")) from None


@check("checkpoint is a complete safetensors file", "model-corrupt")
def checkpoint_is_complete(run: Run) -> Judgement:
    """Read the header, and compare it with the file's size."""
    code = (
        "from scripts.common.fetch.file_format import check_safetensors\n"
        "from pathlib import Path\n"
        "shapes, _, data = check_safetensors(Path('/model.safetensors'))\n"
        "print(len(shapes), data)"
    )
    tensors, data = output(run, WORKER, "-c", code).split()
    return judge(f"{tensors} tensors, {size(int(data))}")


@check("torch comes from the base image", "torch-replaced")
def torch_is_of_the_base(run: Run) -> Judgement:
    """Look up where torch would be imported from."""
    code = "import importlib.util as u; print(u.find_spec('torch').origin)"
    path = output(run, WEBUI, "-c", code).split()[-1].removesuffix("/__init__.py")
    problem = "" if path.startswith("/opt/conda/") else "torch is not imported from /opt/conda"
    return judge(path, problem)


@check("torch carries code for every target", "no-kernel-image")
def torch_has_code_for_targets(run: Run) -> Judgement:
    """Compare the architectures of torch with the config's GPUs."""
    targets = run.loaded.config.smoke.targets
    if not targets:
        raise CheckSkipped("this variant has no GPU target")
    torch = run.facts().torch
    if not torch.version:
        return judge("", f"torch cannot be imported: {torch.error or 'no answer'}")
    return judge_code([parse_capability(target) for target in targets], torch.archs)


@check("attention library fits torch", "xformers-mismatch")
def attention_library_fits(run: Run) -> Judgement:
    """Load the library of xformers, and compare the torch it was built for with the image's."""
    if run.loaded.config.build.accelerator == "cpu":
        find = "import importlib.util as u; print(u.find_spec('xformers') is not None)"
        found = output(run, WEBUI, "-c", find).splitlines()[-1] == "True"
        return judge("xformers" if found else "no xformers", "it breaks the CPU" if found else "")
    code = (
        "import json, torch, xformers, xformers.ops, xformers._cpp_lib as lib;"
        "metadata = lib._build_metadata;"
        "made = metadata.build_env and metadata.torch_version if metadata else '';"
        "print(json.dumps([xformers.__version__, made, torch.__version__,"
        " str(lib._cpp_library_load_exception or '')]))"
    )
    version, built_for, torch, error = json.loads(output(run, WEBUI, "-c", code).splitlines()[-1])
    evidence = f"xformers {version} for torch {built_for or 'unknown'}, torch is {torch}"
    if not error and public_version(built_for) != public_version(torch):
        error = "it is built for another torch"
    return judge(evidence, error)


@check("WebUI packages can be imported", "package-missing")
def packages_can_be_imported(run: Run) -> Judgement:
    """Import those that a start of the WebUI needs."""
    names = "cv2, gradio, transformers, pytorch_lightning, open_clip, clip, kornia, spandrel"
    output(run, WEBUI, "-c", f"import {names}")
    return judge(names)


@check("tokenizer loads without a network", "tokenizer-missing")
def tokenizer_loads(run: Run) -> Judgement:
    """Load it from the Hub's cache in the image."""
    code = (
        "from transformers import CLIPTokenizer as T;"
        "print(len(T.from_pretrained('openai/clip-vit-large-patch14')), 'words')"
    )
    return judge(output(run, WEBUI, "-c", code).splitlines()[-1])


@check("tcmalloc can be preloaded", "tcmalloc-missing")
def tcmalloc_can_be_preloaded(run: Run) -> Judgement:
    """Ask the worker for the library that it would preload."""
    code = "from scripts.container.webui import environment as e; print(e.find_tcmalloc('auto'))"
    found = output(run, WORKER, "-c", code)
    return judge(found, "" if found else "no library that the linker would preload")


@check("labels name release and revision", "labels-wrong")
def labels_are_right(run: Run) -> Judgement:
    """Compare the image's labels with the config."""
    labels, release = run.target.image.labels, run.loaded.config.a1111.release
    version = labels.get("org.opencontainers.image.version", "")
    revision = labels.get("org.opencontainers.image.revision", "")
    evidence = f"version {version or 'missing'}, revision {revision[:12] or 'missing'}"
    if version != release:
        return judge(evidence, f"configured is {release}")
    return judge(evidence, "" if revision else "there is no revision")


def layers_obey(name: str, code: str) -> Check[Run]:
    """Make a check of the layers by a rule of `scripts.host.inspect.structure`."""

    def examine_layers(run: Run) -> Judgement:
        structure = run.structure()
        require(code, structure, run.loaded.config.smoke)
        return judge(
            f"{len(structure.layers)} layers, {size(structure.own_size)} over base and models,"
            f" {size(structure.wasted_bytes)} overwritten"
        )

    return Check(name, code, examine_layers)


CHECKS = (
    checkpoint_is_complete,
    torch_is_of_the_base,
    torch_has_code_for_targets,
    attention_library_fits,
    packages_can_be_imported,
    tokenizer_loads,
    tcmalloc_can_be_preloaded,
    labels_are_right,
    layers_obey("no build leftovers in any layer", "leftovers"),
    layers_obey("no world-writable files", "world-writable"),
    layers_obey("no setuid files", "setuid-file"),
    layers_obey("no secrets in layers, environment or history", "secret-in-image"),
    layers_obey("little space wasted by overwritten files", "wasted-bytes"),
    layers_obey("image and layers within their size limits", "image-too-large"),
)


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_image(check: Check[Run], image_run: Run, examine: Callable[..., None]) -> None:
    examine(check, image_run)
