"""The memory that a checkpoint needs, estimated from the header of its file."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from scripts.container.webui.checkpoint_memory import (
    CheckpointWeights,
    estimate_gpu_memory,
    estimate_main_memory,
    estimate_resident_weights,
    read_weights,
    saves_gpu_memory,
)

GB = 1_000_000_000
SD1 = CheckpointWeights("SD1", 2_132_625_894, 982_580_000, 83_650_000)
SDXL = CheckpointWeights("SDXL", 6_938_078_334, 3_385_184_082, 83_653_863)
"""Numbers of weights as A1111's own configuration for SDXL makes them."""


def checkpoint(path: Path, tensors: dict[str, tuple[int, ...]], width: int = 2) -> int:
    """Write a sparse safetensors file; return its length."""
    rows, end = {}, 0
    for name, shape in tensors.items():
        start, end = end, end + math.prod(shape) * width
        dtype = {2: "F16", 4: "F32"}[width]
        rows[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(rows).encode()
    with path.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.truncate(8 + len(header) + end)
    return path.stat().st_size


@pytest.mark.parametrize("width", [2, 4])
def test_weights_are_counted_by_the_header_whatever_their_precision(
    tmp_path: Path, width: int
) -> None:
    file = tmp_path / "x.safetensors"
    tensors = {
        "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
        "conditioner.embedders.1.model.ln_final.weight": (1280,),
        "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3),
        "model_ema.diffusion_modelinput_blocks00weight": (320, 4, 3, 3),  # not loaded
    }
    size = checkpoint(file, tensors, width)
    model, vae = 320 * 36 + 1280, 512 * 36
    assert read_weights(file, size) == CheckpointWeights("SDXL", size, model, vae)


@pytest.mark.parametrize("name", ["x.ckpt", "broken.safetensors", "gone.safetensors"])
def test_a_file_without_a_readable_header_counts_by_its_length(tmp_path: Path, name: str) -> None:
    if "gone" not in name:
        (tmp_path / name).write_bytes(bytes(1000))
    assert read_weights(tmp_path / name, 1000) == CheckpointWeights("", 1000, 500)


def test_sdxl_on_the_processor_takes_twice_its_file() -> None:
    assert estimate_main_memory("cpu", [SDXL]) == pytest.approx(15.1 * GB, rel=0.01)
    assert estimate_main_memory("cpu", [SD1]) == pytest.approx(5.5 * GB, rel=0.01)
    assert estimate_main_memory("cpu", []) < 2 * GB


def test_checkpoints_that_wait_for_the_gpu_count_with_their_weights() -> None:
    assert estimate_main_memory("cuda", [SDXL]) == SDXL.file_size + GB
    both = estimate_main_memory("cuda", [SDXL, SD1])
    assert both == SDXL.file_size + GB + SD1.mixed_size
    assert estimate_resident_weights("cuda", [SDXL, SD1]) == SD1.mixed_size
    assert estimate_resident_weights("cpu", [SDXL, SD1]) == SDXL.single_size + SD1.single_size


@pytest.mark.parametrize(
    ("checkpoint", "cards"),
    [(SD1, {4: True}), (SDXL, {8: False, 10: False, 12: True, 24: True})],
)
def test_the_gpu_memory_needed_agrees_with_upstreams_advice(
    checkpoint: CheckpointWeights, cards: dict[int, bool]
) -> None:
    needed = estimate_gpu_memory(checkpoint)
    assert {card: card * 2**30 >= needed for card in cards} == cards


def test_flags_that_save_gpu_memory_are_known_by_base_model() -> None:
    assert saves_gpu_memory(("--lowvram",), "SD1")
    assert saves_gpu_memory(("--medvram-sdxl",), "SDXL refiner")
    assert not saves_gpu_memory(("--medvram-sdxl",), "SD1")
    assert not saves_gpu_memory((), "SDXL")
