"""Checks of an image's files and packages by commands in it; they need neither GPU nor worker."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from scripts.common.checks.check import CheckSkipped, check, judge
from scripts.common.checks.image_facts import ImageFacts
from scripts.common.gpu.gpu_facts import parse_capability
from scripts.common.gpu.judge import Judgement, judge_code, public_version
from scripts.common.units import size

WEBUI: Final = "/opt/webui/bin/python"
WORKER: Final = "/opt/runpod/bin/python"


@dataclass(frozen=True)
class ImageSubject:
    """An image, and what is expected of it.

    Args:
        run: runs a command in the image and returns its output; raises CommandError.
        facts: returns the image's facts.
        accelerator: cuda or cpu.
        targets: compute capabilities that torch must carry code for, such as 8.9.
        checkpoint: path of the baked checkpoint; empty for an image without one.
    """

    run: Callable[..., str]
    facts: Callable[[], ImageFacts]
    accelerator: str
    targets: tuple[str, ...]
    checkpoint: str


@check("checkpoint is a complete safetensors file", "model-corrupt")
def checkpoint_is_complete(subject: ImageSubject) -> Judgement:
    """Read the header, and compare it with the file's size."""
    if not subject.checkpoint:
        raise CheckSkipped("this image has no checkpoint: MODEL_PATH names one of the Hub")
    code = (
        "from scripts.common.fetch.file_format import check_safetensors\n"
        "from pathlib import Path\n"
        f"shapes, _, data = check_safetensors(Path({subject.checkpoint!r}))\n"
        "print(len(shapes), data)"
    )
    tensors, data = subject.run(WORKER, "-c", code).split()
    return judge(f"{tensors} tensors, {size(int(data))}")


@check("torch comes from the base image", "torch-replaced")
def torch_is_of_the_base(subject: ImageSubject) -> Judgement:
    """Look up where torch would be imported from."""
    code = "import importlib.util as u; print(u.find_spec('torch').origin)"
    path = subject.run(WEBUI, "-c", code).split()[-1].removesuffix("/__init__.py")
    problem = "" if path.startswith("/opt/conda/") else "torch is not imported from /opt/conda"
    return judge(path, problem)


@check("torch carries code for every target", "no-kernel-image")
def torch_has_code_for_targets(subject: ImageSubject) -> Judgement:
    """Compare the architectures of torch with the config's GPUs."""
    targets = subject.targets
    if not targets:
        raise CheckSkipped("this variant has no GPU target")
    torch = subject.facts().torch
    if not torch.version:
        return judge("", f"torch cannot be imported: {torch.error or 'no answer'}")
    return judge_code([parse_capability(target) for target in targets], torch.archs)


@check("attention library fits torch", "xformers-mismatch")
def attention_library_fits(subject: ImageSubject) -> Judgement:
    """Load the library of xformers, and compare the torch it was built for with the image's."""
    if subject.accelerator == "cpu":
        find = "import importlib.util as u; print(u.find_spec('xformers') is not None)"
        found = subject.run(WEBUI, "-c", find).splitlines()[-1] == "True"
        return judge("xformers" if found else "no xformers", "it breaks the CPU" if found else "")
    code = (
        "import json, torch, xformers, xformers.ops, xformers._cpp_lib as lib;"
        "metadata = lib._build_metadata;"
        "made = metadata.build_env and metadata.torch_version if metadata else '';"
        "print(json.dumps([xformers.__version__, made, torch.__version__,"
        " str(lib._cpp_library_load_exception or '')]))"
    )
    version, built_for, torch, error = json.loads(subject.run(WEBUI, "-c", code).splitlines()[-1])
    evidence = f"xformers {version} for torch {built_for or 'unknown'}, torch is {torch}"
    if not error and public_version(built_for) != public_version(torch):
        error = "it is built for another torch"
    return judge(evidence, error)


@check("WebUI packages can be imported", "package-missing")
def packages_can_be_imported(subject: ImageSubject) -> Judgement:
    """Import those that a start of the WebUI needs."""
    names = "cv2, gradio, transformers, pytorch_lightning, open_clip, clip, kornia, spandrel"
    subject.run(WEBUI, "-c", f"import {names}")
    return judge(names)


@check("tokenizer loads without a network", "tokenizer-missing")
def tokenizer_loads(subject: ImageSubject) -> Judgement:
    """Load it from the Hub's cache in the image."""
    code = (
        "from transformers import CLIPTokenizer as T;"
        "print(len(T.from_pretrained('openai/clip-vit-large-patch14')), 'words')"
    )
    return judge(subject.run(WEBUI, "-c", code).splitlines()[-1])


@check("tcmalloc can be preloaded", "tcmalloc-missing")
def tcmalloc_can_be_preloaded(subject: ImageSubject) -> Judgement:
    """Ask the worker for the library that it would preload."""
    code = "from scripts.container.webui import environment as e; print(e.find_tcmalloc('auto'))"
    found = subject.run(WORKER, "-c", code)
    return judge(found, "" if found else "no library that the linker would preload")


IMAGE_CHECKS: Final = (
    checkpoint_is_complete,
    torch_is_of_the_base,
    torch_has_code_for_targets,
    attention_library_fits,
    packages_can_be_imported,
    tokenizer_loads,
    tcmalloc_can_be_preloaded,
)
