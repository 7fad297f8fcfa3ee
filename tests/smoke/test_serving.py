"""Green means it drew a picture: the worker's API, from the first answer to a clean stop."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable

import pytest

from scripts.common.errors import Failure
from scripts.common.findings import FINDINGS
from scripts.host.config.load import Loaded
from scripts.host.smoke.api import Api, Picture
from scripts.host.smoke.worker import Worker

Saw = Callable[[object], None]
Keep = Callable[[str, Picture], None]
SEED = 1234


@pytest.fixture(scope="module")
def draw(api: Api, loaded: Loaded) -> Callable[..., Picture]:
    """Draws one small picture, the same one every time."""
    smoke = loaded.config.smoke
    fields = {"prompt": "a lighthouse at dusk", "seed": SEED, "steps": smoke.steps}
    fields |= {"width": smoke.image_size, "height": smoke.image_size, "sampler_name": "Euler"}
    return lambda **more: api.draw(**{**fields, **more})


@pytest.mark.fails_as("not-ready")
def test_container_reaches_ready(ready: Worker, saw: Saw) -> None:
    saw(", ".join(f"{name} after {seconds:.1f} s" for name, seconds in ready.phases.items()))
    assert "drawn" in ready.phases


def test_draws_a_picture_of_the_asked_size(
    draw: Callable[..., Picture], loaded: Loaded, saw: Saw, keep: Keep
) -> None:
    picture = draw()
    keep("txt2img", picture)
    edge = loaded.config.smoke.image_size
    shown = f"{picture.size[0]}x{picture.size[1]}"
    saw(f"{shown}, {picture.colours} colours")
    if picture.size != (edge, edge):
        raise Failure(f"the picture is {shown}, not {edge}x{edge}", code="picture-size")
    if picture.colours == 1:
        raise Failure("the picture has one colour throughout", code="picture-flat")


@pytest.mark.fails_as("not-repeatable")
def test_the_same_seed_draws_the_same_picture(draw: Callable[..., Picture]) -> None:
    assert draw().png == draw().png, "the same seed drew two pictures"


@pytest.mark.fails_as("model-not-loaded")
def test_lists_the_checkpoint_and_has_it_loaded(api: Api, saw: Saw) -> None:
    models = api.call("/sdapi/v1/sd-models").body
    assert isinstance(models, list)
    titles = [model["title"] for model in models]
    saw(", ".join(titles))
    chosen = api.call("/sdapi/v1/options").body["sd_model_checkpoint"]
    assert any(title.startswith("model.safetensors") for title in titles)
    assert chosen.startswith("model.safetensors")


@pytest.mark.fails_as("picture-size")
def test_img2img_draws_on_a_picture(
    api: Api, draw: Callable[..., Picture], loaded: Loaded, keep: Keep
) -> None:
    edge = loaded.config.smoke.image_size
    first = draw()
    second = api.draw(
        "/sdapi/v1/img2img",
        init_images=[base64.b64encode(first.png).decode()],
        **{"prompt": "night", "seed": SEED, "steps": loaded.config.smoke.steps},
        **{"width": edge, "height": edge, "denoising_strength": 0.9},
    )
    keep("img2img", second)
    assert second.size == (edge, edge)


@pytest.mark.fails_as("not-drawn")
def test_an_error_is_answered_and_survived(api: Api, draw: Callable[..., Picture]) -> None:
    assert 400 <= api.call("/sdapi/v1/txt2img", {"width": "wide"}).status < 500
    draw()


@pytest.mark.fails_as("served-by-root")
def test_the_serving_process_is_not_root(ready: Worker, saw: Saw) -> None:
    code = "for p in $(pgrep -f [w]ebui.py); do stat -c %u /proc/$p; done"
    owners = ready.container.exec_run(["sh", "-c", code]).output.decode().split()
    saw(f"uid {', '.join(owners)}")
    assert owners, "no serving process"
    assert "0" not in owners, "it is root"


@pytest.mark.fails_as("tcmalloc-missing")
def test_the_serving_process_has_tcmalloc(ready: Worker) -> None:
    # As the process's own user: another may not read its maps.
    code = "p=$(pgrep -f [w]ebui.py | head -1); exec cat /proc/$p/maps"
    maps = ready.container.exec_run(["sh", "-c", code], user="worker")
    assert b"libtcmalloc" in maps.output


def test_the_log_speaks_of_no_known_failure(api: Api, ready: Worker) -> None:
    assert api
    for row in FINDINGS.values():
        if row.signature and (found := re.search(row.signature, ready.log)):
            raise Failure(f"the log says: {found[0]}", code=row.code)


@pytest.mark.fails_as("stop-late")
def test_stops_within_its_deadline(started: Worker, loaded: Loaded, saw: Saw) -> None:
    limit = loaded.config.smoke.stop_timeout
    began = time.monotonic()
    started.container.stop(timeout=limit + 2)
    seconds = time.monotonic() - began
    saw(f"{seconds:.1f} s")
    assert seconds < limit, f"{seconds:.1f} s, allowed are {limit} s"
