"""Check what can be known of an image without a GPU: its files, packages, user and labels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from docker.errors import ContainerError

from scripts.common.checks.check import Check, CommandError, check, judge
from scripts.common.checks.image_checks import IMAGE_CHECKS, ImageSubject
from scripts.common.gpu.judge import Judgement
from scripts.common.units import size
from scripts.host.engine.client import client
from scripts.host.engine.containers import container_output
from scripts.host.inspect.structure import require
from tests.smoke.recording import Run


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


LAYER_CHECKS = (
    labels_are_right,
    layers_obey("no build leftovers in any layer", "leftovers"),
    layers_obey("no world-writable files", "world-writable"),
    layers_obey("no setuid files", "setuid-file"),
    layers_obey("no secrets in layers, environment or history", "secret-in-image"),
    layers_obey("little space wasted by overwritten files", "wasted-bytes"),
    layers_obey("image and layers within their size limits", "image-too-large"),
)


@pytest.mark.parametrize("check", IMAGE_CHECKS, ids=str)
def test_image(check: Check[ImageSubject], image_run: Run, examine: Callable[..., None]) -> None:
    expected, config = image_run.target.expectations, image_run.loaded.config
    subject = ImageSubject(
        partial(output, image_run),
        image_run.facts,
        config.build.accelerator,
        expected.targets,
        expected.checkpoint,
    )
    examine(check, subject)


@pytest.mark.parametrize("check", LAYER_CHECKS, ids=str)
def test_layers(check: Check[Run], image_run: Run, examine: Callable[..., None]) -> None:
    examine(check, image_run)
