"""The plan of the variant `sdxl`: which files it bakes, and where the WebUI looks for them."""

from pathlib import PurePosixPath

from scripts.common.models.weights import weights_for
from scripts.host.build.inputs import resolve
from scripts.host.config.load import load

MODELS = "/opt/a1111/models"


def test_it_has_what_an_sdxl_checkpoint_needs_without_a_network() -> None:
    inputs = resolve(load("sdxl"))
    files = {PurePosixPath(each.model.target, each.file): each for each in inputs.artifacts}
    places = {each.model.target for each in inputs.artifacts}
    assert places == {
        "/model.safetensors",
        "/opt/huggingface/hub",
        f"{MODELS}/VAE-approx/vaeapprox-sdxl.pt",
    }
    baked = {place.name for place in files}
    for use in ("tokenizer", "preview"):
        rows = weights_for(use, "SDXL")
        assert rows
        for row in rows:
            assert (row.file or PurePosixPath(row.path).name) in baked


def test_its_files_are_known_by_hash_before_anything_is_downloaded() -> None:
    inputs = resolve(load("sdxl"))
    sizes = {
        each.model.name: each.spec.size
        for each in inputs.artifacts
        if each.is_pinned and each.model.layout == "file"
    }
    assert sizes == {"sdxl-base": 6_938_078_334, "vaeapprox-sdxl": 213_777}
    [preview] = weights_for("preview", "SDXL")
    [ours] = [each for each in inputs.artifacts if each.model.name == "vaeapprox-sdxl"]
    assert (ours.spec.url, ours.spec.sha256) == (preview.url, preview.sha256)


def test_a_gpu_draws_it_at_the_size_that_it_was_trained_on() -> None:
    loaded = load("sdxl")
    assert loaded.config.smoke.image_size == 1024
    assert loaded.config.build.accelerator == "cuda"
