"""Images that would fail in production fail a smoke check first, with the right code."""

from __future__ import annotations

import base64
import json
from itertools import groupby
from typing import Any

import pytest

from tests.faults.conftest import Broken, Smoke
from tests.support.baked_models import config_with_models, dockerfile_lines

SITE = "/opt/webui/lib/python3.11/site-packages"
TOKEN = "hf_" + "x" * 34  # of a token's form only


def standin(fault: str, *more: str) -> tuple[str, ...]:
    """Give a worker's WebUI a fault; without torch, which is not needed, it starts faster."""
    variables = (f"STANDIN_FAULT={fault}", "STANDIN_TORCH=0", *more)
    return tuple(f"ENV {variable}" for variable in variables)


EXTENSION = "/opt/extensions/sd-webui-standin"
SCRIPT = """from modules import scripts
class Quiet(scripts.Script):
    def title(self): return "Quiet"
    def show(self, is_img2img): return scripts.AlwaysVisible
    def ui(self, is_img2img): return []
"""


def extension(script: str, *, listed: bool = True) -> tuple[str, ...]:
    """Add an extension with one script, in a repository or not."""
    git = (
        f"git init -q -b main && git remote add origin {EXTENSION} && git add --all"
        " && git -c user.name=a -c user.email=a@invalid commit -q -m first"
    )
    encoded = base64.b64encode(script.encode()).decode()
    return (
        f"WORKDIR {EXTENSION}",
        f"RUN mkdir scripts && echo {encoded} | base64 -d >scripts/quiet.py",
        *([f"RUN {git}"] if listed else []),
        "WORKDIR /stable-diffusion-webui",
        "ENV STANDIN_TORCH=0",
    )


def extension_config(*scripts: str) -> str:
    """Return a config with that extension, and a check that names scripts."""
    body: dict[str, Any] = {"alwayson_scripts": {name: {"args": []} for name in scripts}}
    check = {"check": {"body": body}} if scripts else {}
    return json.dumps({"extensions": [{"repo": "stand-in/sd-webui-standin", **check}]})


FAULTS = (
    Broken("no-model-loaded", "model-not-loaded", standin("no-model"), "becomes_ready"),
    Broken(
        "xformers-for-another-torch",
        "xformers-mismatch",
        (f'RUN sed -i \'s/"torch": "2.7.0/"torch": "2.6.0/\' {SITE}/xformers/cpp_lib.json',),
        "attention_library",
        "cuda128",
    ),
    Broken(
        "xformers-library-broken",
        "xformers-mismatch",
        (f"RUN for f in {SITE}/xformers/_C*.so; do echo broken >$f; done",),
        "attention_library",
        "cuda128",
    ),
    Broken(
        "torch-replaced",
        "torch-replaced",
        (f"RUN mkdir {SITE}/torch && touch {SITE}/torch/__init__.py",),
        "from_the_base_image",
    ),
    Broken(
        "libgl-missing",
        "libgl-missing",
        ("RUN rm -f /usr/lib/x86_64-linux-gnu/libGL.so.1*",),
        "packages_can_be_imported",
    ),
    Broken(
        "package-missing",
        "package-missing",
        (f"RUN mv {SITE}/kornia /gone",),
        "packages_can_be_imported",
    ),
    Broken(
        "tcmalloc-missing",
        "tcmalloc-missing",
        ("RUN rm -f /usr/lib/x86_64-linux-gnu/libtcmalloc*",),
        "tcmalloc_can",
    ),
    Broken(
        "tokenizer-missing",
        "tokenizer-missing",
        ("RUN rm -rf /opt/huggingface/hub/models--*",),
        "tokenizer_loads",
    ),
    Broken(
        "served-by-root",
        "served-by-root",
        ("ENV WORKER_USER=root STANDIN_TORCH=0",),
        "not_root",
    ),
    Broken("wrong-port", "port-closed", ("ENV WEBUI_PORT=3001 STANDIN_TORCH=0",), "draws_an_image"),
    Broken(
        "dies-on-second-request",
        "webui-died",
        standin("crash-mid-job", "STANDIN_AFTER=1"),
        "draws_an_image",
    ),
    Broken("dies-at-start", "webui-died", standin("crash-at-start"), "becomes_ready"),
    Broken(
        "flag-unknown",
        "flag-unknown",
        ("ENV WEBUI_ARGS=--no-such-flag STANDIN_TORCH=0",),
        "becomes_ready",
    ),
    Broken(
        "option-unknown",
        "option-invalid",
        ("ENV IMAGE_SETTINGS='{\"clip_skip\":2}' STANDIN_TORCH=0",),
        "test_options",
    ),
    Broken(
        "port-never-opens",
        "port-closed",
        standin("hang-at-start", "READY_TIMEOUT=3"),
        "becomes_ready",
    ),
    # Without the worker's own check of its first image, the smoke check must find it.
    Broken("flat-picture", "picture-flat", standin("flat", "WARMUP=off"), "draws_an_image"),
    Broken("flat-warm-up", "picture-flat", standin("flat"), "becomes_ready"),
    Broken(
        "truncated-png", "picture-broken", standin("truncated-png", "WARMUP=off"), "draws_an_image"
    ),
    Broken("wrong-size", "picture-size", standin("wrong-size", "WARMUP=off"), "draws_an_image"),
    Broken(
        "out-of-memory", "out-of-memory", standin("out-of-memory", "WARMUP=off"), "draws_an_image"
    ),
    Broken(
        "model-corrupt",
        "model-corrupt",
        ("RUN truncate -s 1000 /model.safetensors",),
        "complete_safetensors",
    ),
    Broken(
        "lora-ignored",
        "model-not-used",
        (*dockerfile_lines(broken=["style.safetensors"]), "ENV STANDIN_TORCH=0"),
        "LoRA_style",
        config=config_with_models(),
    ),
    Broken(
        "upscaler-falls-back",  # the WebUI lists it whether its weights are there or not
        "model-not-used",
        (*dockerfile_lines(missing=["RealESRGAN_x4plus.pth"]), "ENV STANDIN_TORCH=0"),
        "upscaler_R_ESRGAN",
        config=config_with_models(),
    ),
    Broken(
        "restorer-without-weights",
        "weights-not-loaded",
        (*dockerfile_lines(missing=["GFPGANv1.4.pth"]), "ENV STANDIN_TORCH=0"),
        "face_restorer",
        config=config_with_models(),
    ),
    Broken(
        "embedding-missing",
        "models-unseen",
        (*dockerfile_lines(missing=["easy.safetensors"]), "ENV STANDIN_TORCH=0"),
        "embedding_easy",
        config=config_with_models(),
    ),
    Broken(
        "extension-lacks-a-package",
        "extension-broken",
        extension("import no_such_package"),
        "standin_is_loaded",
        config=extension_config(),
    ),
    Broken(
        "extension-raises-in-ui",  # which ends the WebUI; the worker goes on without it
        "extension-broken",
        extension(SCRIPT.replace("return []", "raise TypeError('no presets')")),
        "standin_is_loaded",
        config=extension_config(),
    ),
    Broken(
        "extension-not-listed",
        "extension-broken",
        extension(SCRIPT, listed=False),
        "standin_is_loaded",
        config=extension_config(),
    ),
    Broken(
        "extension-without-its-script",
        "extension-broken",
        extension(SCRIPT),
        "standin_is_loaded",
        config=extension_config("Loud"),
    ),
    Broken(
        "extension-without-effect",
        "extension-broken",
        extension(SCRIPT),
        "standin_passes_its_check",
        config=extension_config("Quiet"),
    ),
    Broken(
        "git-left-behind",
        "leftovers",
        ("RUN git init -q /stable-diffusion-webui/repositories/BLIP",),
        "no_build_leftovers",
        group="left behind",
    ),
    Broken(
        "cache-deleted-later",
        "leftovers",
        (
            "RUN mkdir -p /root/.cache/pip && echo wheel >/root/.cache/pip/x",
            "RUN rm -r /root/.cache",
        ),
        "no_build_leftovers",
        group="deleted later",
    ),
    Broken("secret-in-environment", "secret-in-image", (f"ENV HF_TOKEN={TOKEN}",), "no_secrets"),
    Broken(
        "secret-in-file",
        "secret-in-image",
        # In two parts, so that only the file holds it and not the history.
        (f"RUN echo {TOKEN[:9]}''{TOKEN[9:]} >/etc/x",),
        "no_secrets",
        group="left behind",
    ),
    Broken(
        "secret-deleted-later",
        "secret-in-image",
        ("RUN echo machine example.org password x >/root/.netrc", "RUN rm /root/.netrc"),
        "no_secrets",
        group="deleted later",
    ),
    Broken(
        "bytes-wasted",
        "wasted-bytes",
        ("RUN head -c 20000000 /dev/urandom >/srv/x", "RUN rm /srv/x"),
        "little_space_wasted",
        group="left behind",
    ),
    Broken(
        "layer-over-budget",
        "image-too-large",
        ("RUN truncate -s 1800M /srv/x",),  # a hole, which takes no time to write
        "size_limits",
        group="deleted later",
    ),
    Broken(
        "setuid",
        "setuid-file",
        ("RUN chmod u+s /usr/bin/tini",),
        "no_setuid",
        group="left behind",
    ),
    Broken(
        "arch-list-without-the-target",
        "no-kernel-image",
        ("LABEL a=b",),
        "every_target",
        "cuda128",
        'smoke: {targets: ["3.5"]}\n',
    ),
    Broken(
        "world-writable",
        "world-writable",
        ("RUN chmod 777 /opt/worker/scripts/container/__main__.py",),
        "no_world_writable",
        group="deleted later",
    ),
    Broken(
        "no-version",
        "labels-wrong",
        ('LABEL org.opencontainers.image.version=""',),
        "labels",
        group="left behind",
    ),
    Broken(
        "stops-late",
        "stop-late",
        ("STOPSIGNAL SIGCONT", "ENV STANDIN_TORCH=0"),
        "stops_within or becomes_ready",
        config="smoke: {stop_timeout: 2}\n",
    ),
)


GROUPS = [
    [*group]
    for _, group in groupby(
        sorted(FAULTS, key=lambda broken: broken.group or broken.name),
        key=lambda broken: broken.group or broken.name,
    )
]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: " ".join(each.name for each in group))
def test_a_broken_image_fails_with_its_code(group: list[Broken], smoke: Smoke) -> None:
    report = smoke(*group)
    failed = [check for check in report.checks if check.outcome == "failed"]
    assert not report.passed
    assert sorted(check.code for check in failed) == sorted(each.code for each in group), failed
