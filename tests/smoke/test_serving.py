"""Green means it drew a picture: the worker's API, as its users call it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import pytest

from scripts.common.checks.api import Api, Picture, difference
from scripts.common.diagnostics.error import UserError
from scripts.host.build.inputs import CHECKPOINT_PATH
from scripts.host.config.load import LoadedConfig

Saw = Callable[[object], None]
Keep = Callable[[str, Picture], None]
Draw = Callable[..., Picture]
SEED = 1234
# Levels of 255 by which two pictures of one seed may differ on average: libraries for GPUs add up
# in an order that may change, which shows in the last bit.
NOISE_OF_GPUS = 1.0


@pytest.fixture
def draw(api: Api, loaded: LoadedConfig) -> Draw:
    """Draws one small picture, the same one every time."""
    smoke = loaded.config.smoke
    fields = {"prompt": "a lighthouse at dusk", "seed": SEED, "steps": smoke.steps}
    fields |= {"width": smoke.image_size, "height": smoke.image_size, "sampler_name": "Euler"}
    return lambda **more: api.draw(**{**fields, **more})


@pytest.fixture(scope="module")
def drawn() -> list[Picture]:
    """The first picture, once it is there: one is enough for what several checks look at."""
    return []


@pytest.fixture
def first(draw: Draw, drawn: list[Picture], run: Any) -> Picture:
    """The first picture; whoever needs it first fails where none comes, the others are skipped."""
    if not drawn:
        try:
            drawn.append(draw())
        except UserError as failure:
            run.needs(failure)
    return drawn[0]


def look(picture: Picture, edge: int, saw: Saw) -> None:
    """See that a picture has the asked size and shows something."""
    shown = f"{picture.size[0]}x{picture.size[1]}"
    colours = "more than 255" if picture.colours > 255 else picture.colours
    saw(f"{shown}, {colours} colours")
    if picture.size != (edge, edge):
        raise UserError(f"the picture is {shown}, not {edge}x{edge}", code="picture-size")
    if picture.colours == 1:
        raise UserError("the picture has one colour throughout", code="picture-flat")


@pytest.mark.fails_as("model-not-loaded")
def test_lists_the_checkpoint(api: Api, saw: Saw, pytestconfig: pytest.Config) -> None:
    models = api.call("/sdapi/v1/sd-models").json()
    assert isinstance(models, list), "no list of models"
    titles = [model["title"] for model in models]
    chosen = api.call("/sdapi/v1/options").json()["sd_model_checkpoint"]
    saw(f"{', '.join(titles)}; chosen: {chosen}")
    names = [title.partition(" [")[0] for title in titles]
    assert chosen.partition(" [")[0] in names, f"{chosen} is chosen, but not listed"
    if not pytestconfig.getoption("--url"):
        wanted = PurePosixPath(CHECKPOINT_PATH).name
        assert chosen.startswith(wanted), f"{chosen} is chosen, not {wanted}"


def test_draws_a_picture_of_the_asked_size(
    first: Picture, loaded: LoadedConfig, saw: Saw, keep: Keep
) -> None:
    keep("txt2img", first)
    look(first, loaded.config.smoke.image_size, saw)


@pytest.mark.fails_as("labels-wrong")
def test_the_webui_is_the_configured_release(
    first: Picture, loaded: LoadedConfig, saw: Saw
) -> None:
    if not first.version:
        pytest.skip("the API does not tell the WebUI's version")
    saw(first.version)
    # From git it is v1.9.3; without a history, from the first line of CHANGELOG.md, 1.9.3.
    wanted = loaded.config.a1111.release
    assert first.version.removeprefix("v") == wanted.removeprefix("v"), f"it is not {wanted}"


@pytest.mark.fails_as("model-not-loaded")
def test_the_picture_is_by_the_chosen_model(api: Api, first: Picture, saw: Saw) -> None:
    told = first.model
    chosen = api.call("/sdapi/v1/options").json()["sd_model_checkpoint"]
    saw(f"drawn by {told or 'an unnamed model'}")
    assert told, "the WebUI does not say which model drew"
    wanted = PurePosixPath(chosen.partition(" [")[0]).stem
    assert told == wanted, f"it is by {told}, not by {wanted}"


@pytest.mark.fails_as("not-repeatable")
def test_the_same_seed_draws_the_same_picture(
    first: Picture, draw: Draw, saw: Saw, keep: Keep, pytestconfig: pytest.Config
) -> None:
    second = draw()
    apart = difference(first, second)
    saw("every pixel is the same" if not apart else f"{apart:.3f} of 255 levels apart")
    on_cpu = not (pytestconfig.getoption("--gpu") or pytestconfig.getoption("--url"))
    if apart > (0.0 if on_cpu else NOISE_OF_GPUS):
        keep("again", second)
        raise UserError("the same seed drew two pictures", code="not-repeatable")


def test_img2img_draws_on_a_picture(
    api: Api, first: Picture, loaded: LoadedConfig, saw: Saw, keep: Keep
) -> None:
    edge = loaded.config.smoke.image_size
    second = api.draw(
        "/sdapi/v1/img2img",
        init_images=[base64.b64encode(first.png).decode()],
        **{"prompt": "night", "seed": SEED, "steps": loaded.config.smoke.steps},
        **{"width": edge, "height": edge, "denoising_strength": 0.9},
    )
    keep("img2img", second)
    look(second, edge, saw)


@pytest.mark.fails_as("not-drawn")
def test_an_error_is_answered_and_survived(api: Api, draw: Draw, saw: Saw) -> None:
    status = api.call("/sdapi/v1/txt2img", {"width": "wide"}).status
    saw(f"answered {status}")
    assert 400 <= status < 500, f"a wrong request was answered {status}"
    draw()
    saw("and drew again")
