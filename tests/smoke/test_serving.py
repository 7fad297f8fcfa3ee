"""Green means it drew a picture: the worker's API, from the first answer to a clean stop."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import pytest

from scripts.host.config.load import Loaded
from scripts.host.smoke.api import Api, Picture

Saw = Callable[[object], None]
SEED = 1234


@pytest.fixture(scope="module")
def draw(api: Api, loaded: Loaded) -> Callable[..., Picture]:
    """Draws one small picture, the same one every time."""
    smoke = loaded.config.smoke
    fields = {"prompt": "a lighthouse at dusk", "seed": SEED, "steps": smoke.steps}
    fields |= {"width": smoke.image_size, "height": smoke.image_size, "sampler_name": "Euler"}
    return lambda **more: api.draw(**{**fields, **more})


def test_draws_a_picture_of_the_asked_size(
    draw: Callable[..., Picture], loaded: Loaded, saw: Saw
) -> None:
    picture = draw()
    edge = loaded.config.smoke.image_size
    saw(f"{picture.size[0]}x{picture.size[1]}, {picture.colours} colours")
    assert picture.size == (edge, edge)
    assert picture.colours > 1, "one flat colour"
    folder = loaded.root / "reports"
    folder.mkdir(exist_ok=True)
    (folder / f"smoke-{loaded.variant}.png").write_bytes(picture.png)


def test_the_same_seed_draws_the_same_picture(draw: Callable[..., Picture]) -> None:
    assert draw().png == draw().png


def test_lists_the_checkpoint_and_has_it_loaded(api: Api, saw: Saw) -> None:
    models = api.call("/sdapi/v1/sd-models").body
    assert isinstance(models, list)
    titles = [model["title"] for model in models]
    saw(", ".join(titles))
    chosen = api.call("/sdapi/v1/options").body["sd_model_checkpoint"]
    assert any(title.startswith("model.safetensors") for title in titles)
    assert chosen.startswith("model.safetensors")


def test_img2img_draws_on_a_picture(api: Api, draw: Callable[..., Picture], loaded: Loaded) -> None:
    edge = loaded.config.smoke.image_size
    first = draw()
    second = api.draw(
        "/sdapi/v1/img2img",
        init_images=[base64.b64encode(first.png).decode()],
        **{"prompt": "night", "seed": SEED, "steps": loaded.config.smoke.steps},
        **{"width": edge, "height": edge, "denoising_strength": 0.9},
    )
    assert second.size == (edge, edge)


def test_an_error_is_answered_and_survived(api: Api, draw: Callable[..., Picture]) -> None:
    assert 400 <= api.call("/sdapi/v1/txt2img", {"width": "wide"}).status < 500
    draw()


def test_the_serving_process_is_not_root_and_has_tcmalloc(
    pytestconfig: pytest.Config, request: pytest.FixtureRequest, saw: Saw
) -> None:
    if pytestconfig.getoption("--url"):
        pytest.skip("an address has no processes to look at")
    running = request.getfixturevalue("container")
    code = "for p in $(pgrep -f [w]ebui.py); do stat -c %u /proc/$p; done"
    owners = running.exec_run(["sh", "-c", code]).output.decode().split()
    saw(f"uid {', '.join(owners)}")
    assert owners
    assert "0" not in owners
    look = ["sh", "-c", "cat /proc/$(pgrep -f [w]ebui.py | head -1)/maps"]
    maps = running.exec_run(look, user=owners[0])  # nobody else may read them
    assert b"libtcmalloc" in maps.output


def test_stops_within_its_deadline(
    pytestconfig: pytest.Config, request: pytest.FixtureRequest, loaded: Loaded, saw: Saw
) -> None:
    if pytestconfig.getoption("--url"):
        pytest.skip("somebody else's worker is left running")
    running: Any = request.getfixturevalue("container")
    limit = loaded.config.smoke.stop_timeout
    began = time.monotonic()
    running.stop(timeout=limit + 5)
    seconds = time.monotonic() - began
    saw(f"{seconds:.1f} s")
    assert seconds < limit
