"""The plan of the variant `sdxl`: which files it bakes, and where the WebUI looks for them."""

import re
from pathlib import Path

from scripts.common.models.weights import weights_for
from scripts.host.build.inputs import resolve
from scripts.host.config.load import ROOT, load

MODELS = "/opt/a1111/models"
TOKENIZER = "/opt/huggingface/hub/models--openai--clip-vit-large-patch14"


def test_it_has_what_an_sdxl_checkpoint_needs_without_a_network() -> None:
    paths = {str(each.image_path) for each in resolve(load("sdxl")).artifacts}
    assert "/model.safetensors" in paths
    previews, tokenizer = weights_for("preview", "SDXL"), weights_for("tokenizer", "SDXL")
    assert [f"/opt/a1111/{row.data_path}" in paths for row in previews] == [True]
    for row in tokenizer:
        assert f"{TOKENIZER}/snapshots/{row.revision}/{row.file}" in paths
    assert len(paths) == 1 + len(previews) + len(tokenizer)


def test_its_files_are_known_by_hash_before_anything_is_downloaded() -> None:
    specs = [each.spec for each in resolve(load("sdxl")).artifacts]
    assert all(spec.sha256 and spec.size for spec in specs)
    assert max(spec.size or 0 for spec in specs) == 6_938_078_334


def test_a_gpu_draws_it_at_the_size_that_it_was_trained_on() -> None:
    config = load("sdxl").config
    assert (config.build.accelerator, config.smoke.image_size) == ("cuda", 1024)


def test_the_vae_in_the_comments_is_a_whole_option(tmp_path: Path) -> None:
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    before, block = text.split("\n  sdxl:", 1)
    uncommented = re.sub(r"^( +)# (?=- name|  |webui)", r"\1", block, flags=re.MULTILINE)
    (tmp_path / "config.yaml").write_text(f"{before}\n  sdxl:{uncommented}")
    config = load("sdxl", root=tmp_path).config
    assert config.models[1].target == f"{MODELS}/VAE/sd_xl_base_1.0-fp16-fix.vae.safetensors"
    assert config.models[1].size == 334_641_162
    assert config.webui.flags.remove == ("--no-half-vae",)
