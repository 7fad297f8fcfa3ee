"""Check files by kind before they get their final names: impostors, pickles, content."""

from __future__ import annotations

import base64
import json
import math
import pickle
import random
import struct
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.file_format import check_safetensors, check_structure, refuse_pickle
from scripts.common.fetch.model_content import ModelContent, Shapes, describe
from scripts.common.fetch.spec import ArtifactSpec
from scripts.common.fetch.stamps import find_verified, verify_file
from tests.support.pickles import (
    NEWER_MEMBERS,
    Global,
    Storage,
    pickled,
    tensor,
    torch_legacy,
    torch_zip,
)

UNET = "model.diffusion_model."
CROSS = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
LORA = {
    "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": (4, 320),
    "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight": (320, 4),
    "lora_unet_down_blocks_0_attentions_0_proj_in.alpha": (),
}
CHECKPOINT = {
    f"{UNET}{CROSS}": (320, 768),
    "first_stage_model.decoder.conv_in.weight": (1,),
    "cond_stage_model.transformer.text_model.final_layer_norm.bias": (768,),
}
LDSR = {f"{UNET}a": (1,), "first_stage_model.quantize.embedding.weight": (8192, 3)}
VAE = {"encoder.conv_in.weight": (1,), "decoder.mid.block_1.conv1.weight": (1,)}
DIFFUSERS_VAE = {"encoder.conv_in.weight": (1,), "decoder.up_blocks.0.resnets.0.conv1.bias": (1,)}
DIFFUSERS_LORA = {
    "unet.down_blocks.0.attn1.to_q.lora.down.weight": (4, 320),
    "unet.down_blocks.0.attn1.to_q.lora.up.weight": (320, 4),
}
DIFFUSERS_UNET = {"conv_in.weight": (320, 4), "down_blocks.0.resnets.0.conv1.bias": (1,)}


def safetensors(shapes: Shapes, metadata: dict[str, str] | None = None) -> bytes:
    """Return a safetensors file of 8-bit zeros."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape)
        header[name] = {"dtype": "U8", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


def tensors(shapes: Shapes) -> dict[str, Global]:
    """Return a state dict to pickle."""
    return {name: tensor(*shape) for name, shape in shapes.items()}


def checked(folder: Path, content: bytes, name: str, kind: str = "", release: str = "") -> str:
    """Check a file that config allows to be a pickle."""
    path = folder / "partial"
    path.write_bytes(content)
    return check_structure(path, name, kind=kind, allow_pickle=True, release=release)


def refused(
    folder: Path, content: bytes, name: str, kind: str = "", release: str = ""
) -> UserError:
    """Return the error of a file that must be refused."""
    with pytest.raises(UserError) as caught:
        checked(folder, content, name, kind, release)
    return caught.value


PAGE = "<html><head><title>Sign in &amp; accept</title></head></html>"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (PAGE.encode(), "a web page (Sign in & accept)"),
        (b"<!DOCTYPE html>\n<title>\n  Log\n in </title>", "a web page (Log in)"),
        (b"\xef\xbb\xbf \r\n<!doctype HTML PUBLIC '-//W3C'>", "a web page"),
        (b"\xff\xfe" + PAGE.encode("utf-16-le"), "a web page (Sign in & accept)"),
        (b"<!-- cached -->\n<HTML lang=en>", "a web page"),
        (b'<?xml version="1.0"?><!DOCTYPE html><html>', "a web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "(AccessDenied)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n", "Git LFS pointer"),
        (b'{"error": "Unauthorized", "message": "Log in first"}', "(Log in first)"),
        (b"\n[1, 2]", "a JSON document"),
        (b"", "an empty file"),
    ],
)
@pytest.mark.parametrize("name", ["m.safetensors", "m.pth"])
def test_what_servers_send_in_place_of_a_model_is_named(
    tmp_path: Path, content: bytes, said: str, name: str
) -> None:
    error = refused(tmp_path, content, name, "upscaler")
    assert error.code == "not-a-model"
    assert said in error.message
    assert refused(tmp_path, content, name).code == "not-a-model"


@pytest.mark.parametrize(
    ("content", "name", "kind"),
    [
        (b'{"a": 1}', "vocab.json", ""),
        (b'{"a": 1}', "model.yaml", "checkpoint"),
        (b"", "merges.txt", ""),
        (b"", ".gitattributes", ""),
        (b"{not JSON", "data", ""),
    ],
)
def test_text_where_text_is_expected_is_data(
    tmp_path: Path, content: bytes, name: str, kind: str
) -> None:
    assert checked(tmp_path, content, name, kind) == "data"


def test_pointer_and_page_are_refused_where_text_is_expected(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\n"
    assert refused(tmp_path, pointer, "vocab.json").code == "not-a-model"
    assert refused(tmp_path, PAGE.encode(), "vocab.json").code == "not-a-model"


@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
@pytest.mark.parametrize("kind", ["checkpoint", "upscaler", "face-restoration", "other", ""])
def test_pickle_of_tensors_is_accepted(tmp_path: Path, write: Any, kind: str) -> None:
    state = OrderedDict(params=tensor(3, 4, type="HalfStorage"))
    assert checked(tmp_path, write(state), "m.pth", kind) == "pickle"


EVIL = [
    Global("os", "system", ("true",)),
    Global("posix", "system", ("true",)),
    Global("__builtin__", "eval", ("1",)),
    Global("builtins", "getattr", (1, "real")),
    Global("runpy", "_run_code", ("1",)),
]


@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
@pytest.mark.parametrize("evil", EVIL, ids=lambda evil: f"{evil.module}.{evil.name}")
@pytest.mark.parametrize("kind", ["upscaler", "embedding", "adetailer", "other", ""])
def test_dangerous_import_is_refused(tmp_path: Path, write: Any, evil: Global, kind: str) -> None:
    error = refused(tmp_path, write({"a": tensor(1), "b": evil}), "m.pt", kind)
    assert error.code == "pickle-unsafe"
    assert f"{evil.module}.{evil.name}" in error.message


def test_import_whose_name_is_put_together_is_refused(tmp_path: Path) -> None:
    hidden = (
        b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94"
        b"00\x93\x8c\x04true\x85R."
    )
    error = refused(tmp_path, b"".join([hidden] * 5), "m.pt", "upscaler")
    assert error.code == "pickle-unsafe"


def test_pickle_without_torchs_form_is_refused_as_the_webui_does(tmp_path: Path) -> None:
    for content in (pickle.dumps({"a": 1}), torch_legacy({})[:20], torch_zip({})[:-30], b"abc"):
        assert refused(tmp_path, content, "m.pt", "upscaler").code == "pickle-unreadable"


@pytest.mark.parametrize("member", NEWER_MEMBERS)
def test_archive_of_newer_torch_is_refused_for_v1_9_3(tmp_path: Path, member: str) -> None:
    content = torch_zip({"a": tensor(1)}, members=("version", "data/0", member))
    error = refused(tmp_path, content, "m.pth", "upscaler", "v1.9.3")
    assert error.code == "pickle-unreadable"
    assert member in error.message
    assert "v1.9.3" in error.message
    for release in ("v1.10.1", "v2.0.0", "", "main"):
        assert checked(tmp_path, content, "m.pth", "upscaler", release) == "pickle-newer"


@pytest.mark.parametrize("member", ["code/x.py", ".format_version", "data/x", "evil.pkl"])
def test_archive_with_another_member_is_refused(tmp_path: Path, member: str) -> None:
    content = torch_zip({"a": tensor(1)}, members=("version", member))
    error = refused(tmp_path, content, "m.pth", "upscaler")
    assert error.code == "pickle-unreadable"
    assert (member in error.message) == (not member.startswith("code"))  # TorchScript
    assert ("torch 2.7" in error.message) == (member == ".format_version")


def test_torchscript_is_accepted_where_torch_jit_loads_it(tmp_path: Path) -> None:
    content = torch_zip({}, members=("version", "constants.pkl", "code/__torch__.py"))
    assert checked(tmp_path, content, "m.pt", "upscaler") == "torchscript"
    assert checked(tmp_path, content, "m.pt", "other") == "torchscript"
    assert refused(tmp_path, content, "m.pt", "embedding").code == "pickle-unreadable"


def test_zip_behind_another_pickle_is_refused(tmp_path: Path) -> None:
    hidden = torch_legacy({"a": EVIL[0]}) + torch_zip({"a": tensor(1)})
    assert refused(tmp_path, hidden, "m.pth", "upscaler").code == "pickle-unsafe"


def test_pickle_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    bomb = b"\x80\x02}r\xff\xff\xff\x7f."
    path = tmp_path / "m.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", bomb)
    error = refused(tmp_path, path.read_bytes(), "m.pth", "upscaler")
    assert error.code == "pickle-unsafe"


def test_upscaler_is_checked_by_what_spandrel_allows(tmp_path: Path) -> None:
    content = torch_zip({"a": Global("numpy", "dtype", ("f4", 0, 1)), "b": tensor(1)})
    assert refused(tmp_path, content, "m.pth", "upscaler").code == "pickle-unsafe"
    assert checked(tmp_path, content, "model.ckpt", "upscaler") == "pickle"  # LDSR
    assert checked(tmp_path, content, "m.pth", "face-restoration") == "pickle"


def test_training_state_of_a_checkpoint_is_accepted(tmp_path: Path) -> None:
    callback = Global("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    state = {"callbacks": {callback: {"best": 1}}, "state_dict": tensors(CHECKPOINT), "epoch": 3}
    assert checked(tmp_path, torch_zip(state), "m.ckpt", "checkpoint") == "pickle"
    error = refused(tmp_path, torch_zip({"state_dict": tensors(LORA)}), "m.ckpt", "checkpoint")
    assert error.code == "wrong-kind"


def test_detector_may_import_classes_of_ultralytics_only(tmp_path: Path) -> None:
    network = Global("ultralytics.nn.tasks", "DetectionModel", (), {"training": False})
    assert checked(tmp_path, torch_zip({"model": network}), "m.pt", "adetailer") == "pickle"
    for module, name in (
        ("ultralytics.nn.tasks", "torch_safe_load"),
        ("ultralytics.utils", "JSONDict"),
        ("ultralytics.utils.checks", "check_requirements"),
    ):
        content = torch_zip({"model": Global(module, name, ())})
        assert refused(tmp_path, content, "m.pt", "adetailer").code == "pickle-unsafe"
    assert refused(tmp_path, torch_zip({"model": network}), "m.pt", "upscaler")


@pytest.mark.parametrize("kind", ["", "checkpoint", "vae", "lora", "other"])
def test_pickle_needs_permission_for_kinds_that_have_safetensors(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m"
    path.write_bytes(torch_zip(tensors(VAE)))
    for name in ("m.pt", "m"):
        with pytest.raises(UserError) as caught:
            check_structure(path, name, kind=kind, allow_pickle=False)
        assert caught.value.code == "pickle-refused"
    with pytest.raises(UserError):
        refuse_pickle("m.pt", kind)


@pytest.mark.parametrize("kind", ["upscaler", "embedding", "hypernetwork", "controlnet"])
def test_kind_that_is_commonly_a_pickle_needs_no_permission(tmp_path: Path, kind: str) -> None:
    refuse_pickle("m.pt", kind)
    path = tmp_path / "m"
    path.write_bytes(torch_zip({320: (tensors(VAE), {}), "string_to_param": {"*": tensor(1, 768)}}))
    if kind == "embedding":
        assert check_structure(path, "m.pt", kind=kind, allow_pickle=False) == "pickle"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (torch_zip({"string_to_param": {"*": tensor(2, 768)}, "step": 5}), "e.pt"),
        (torch_legacy({"string_to_param": {"*": tensor(2, 768)}}), "e.pt"),
        (
            torch_zip(
                {
                    "string_to_param": Global(
                        "torch.nn.modules.container",
                        "ParameterDict",
                        (),
                        {"_parameters": OrderedDict({"*": tensor(2, 768)})},
                    )
                }
            ),
            "e.pt",
        ),
        (torch_zip({"<cat>": tensor(768)}), "learned_embeds.bin"),
        (safetensors({"emb_params": (2, 768)}), "e.safetensors"),
        (safetensors({"clip_g": (2, 1280), "clip_l": (2, 768)}), "e.safetensors"),
    ],
)
def test_embedding_is_accepted(tmp_path: Path, content: bytes, name: str) -> None:
    assert checked(tmp_path, content, name, "embedding") in ("pickle", "safetensors")


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (torch_zip({"string_to_param": {"a": tensor(1, 768), "b": tensor(1, 768)}}), "e.pt"),
        (torch_zip({"a": tensor(1), "b": tensor(1)}), "e.bin"),
        (torch_zip(tensors(LORA)), "e.pt"),
        (safetensors(LORA), "e.safetensors"),
        (safetensors(CHECKPOINT), "e.safetensors"),
    ],
)
def test_file_without_one_embedding_is_refused(tmp_path: Path, content: bytes, name: str) -> None:
    assert refused(tmp_path, content, name, "embedding").code == "wrong-kind"


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG file's frame with some chunks."""
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (*chunks, (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + body


def embedded_text(data: object) -> bytes:
    """Return an embedding as A1111 writes it into an image (`image_embedding.py`)."""
    return base64.b64encode(json.dumps(data).encode())


KEYWORD = b"sd-ti-embedding"
VECTOR = {"TORCHTENSOR": [[0.5] * 768]}
EMBEDDED = embedded_text({"string_to_param": {"*": VECTOR}, "name": "cat"})
WEBP = b"RIFF\x10\0\0\0WEBPVP8L"


@pytest.mark.parametrize(
    "chunk",
    [
        (b"tEXt", KEYWORD + b"\0" + EMBEDDED),
        (b"zTXt", KEYWORD + b"\0\0" + zlib.compress(EMBEDDED)),
        (b"iTXt", KEYWORD + b"\0\0\0\0\0" + EMBEDDED),
        (b"iTXt", KEYWORD + b"\0\1\0\0\0" + zlib.compress(EMBEDDED)),
    ],
)
def test_embedding_in_a_png_file_is_read(tmp_path: Path, chunk: tuple[bytes, bytes]) -> None:
    assert checked(tmp_path, png(chunk), "cat.png", "embedding") == "data"
    wrong = png((b"tEXt", KEYWORD + b"\0" + embedded_text({"a": VECTOR, "b": VECTOR})))
    assert refused(tmp_path, wrong, "cat.png", "embedding").code == "wrong-kind"
    cut = png(chunk)[:-20]
    assert refused(tmp_path, cut, "cat.png", "embedding").code == "wrong-kind"


def test_image_of_an_embedding_is_told_from_previews_and_other_files(tmp_path: Path) -> None:
    assert checked(tmp_path, WEBP, "cat.webp", "embedding") == "data"
    assert refused(tmp_path, WEBP, "cat.preview.webp", "embedding").code == "wrong-kind"
    assert refused(tmp_path, b"no image at all", "cat.png", "embedding").code == "wrong-kind"


@pytest.mark.parametrize(
    ("shapes", "content"),
    [
        (CHECKPOINT, ModelContent("checkpoint", "SD1")),
        ({f"{UNET}a": (1,), "cond_stage_model.model.ln_final.weight": (1024,)}, "SD2"),
        ({f"{UNET}a": (1,), "conditioner.embedders.1.model.ln_final.weight": (1280,)}, "SDXL"),
        (
            {f"{UNET}a": (1,), "conditioner.embedders.0.model.ln_final.weight": (1280,)},
            "SDXL refiner",
        ),
        ({f"{UNET}a": (1,), "conditioner.embedders.0.model.ln_final.weight": (1024,)}, "SD2"),
        ({f"{UNET}x_embedder.proj.weight": (1,)}, "SD3"),
        ({f"{UNET}{CROSS}": (640, 2048)}, "SDXL"),
        (LDSR, ModelContent("upscaler")),
        (VAE, ModelContent("vae")),
        (DIFFUSERS_VAE, ModelContent("vae", "", "diffusers")),
        ({"first_stage_model.decoder.conv_in.bias": (1,)}, ModelContent("vae", "", "checkpoint")),
        (DIFFUSERS_UNET, ModelContent("checkpoint", "", "diffusers")),
        (LORA, ModelContent("lora")),
        (DIFFUSERS_LORA, ModelContent("lora", "", "diffusers")),
        ({**LORA, "lora_te2_text_model_x.alpha": ()}, ModelContent("lora", "SDXL")),
        ({"lora_unet_a_attn2_to_k.lora_down.weight": (4, 2048)}, ModelContent("lora", "SDXL")),
        ({"lora_unet_a.hada_w1_a": (1,)}, ModelContent("lora")),
        ({"lora_unet_a.weight": (1,), "lora_unet_a.on_input": (1,)}, ModelContent("lora")),
        ({"oft_unet_a.oft_blocks": (1,)}, ModelContent("lora")),
        ({"control_model.input_hint_block.0.bias": (1,), **CHECKPOINT}, ModelContent("controlnet")),
        ({"clip_g": (1, 1280), "clip_l": (1, 768)}, ModelContent("embedding", "SDXL")),
        ({"emb_params": (4, 1024)}, ModelContent("embedding", "SD2")),
        ({"conv_first.weight": (64, 3, 3, 3), "body.0.weight": (1,)}, ModelContent()),
    ],
)
def test_content_is_told_by_the_names_of_tensors(
    shapes: Shapes, content: ModelContent | str
) -> None:
    expected = ModelContent("checkpoint", content) if isinstance(content, str) else content  # type: ignore[arg-type]  # a Base
    assert describe(shapes) == expected


def test_base_of_a_lora_is_read_from_its_metadata(tmp_path: Path) -> None:
    path = tmp_path / "l.safetensors"
    for metadata, base in (
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "SDXL"),
        ({"ss_v2": "True"}, "SD2"),
        ({"ss_v2": "False"}, ""),
    ):
        path.write_bytes(safetensors(LORA, metadata))
        shapes, found, _ = check_safetensors(path)
        assert describe(shapes, found) == ModelContent("lora", base)  # type: ignore[arg-type]  # a Base


@pytest.mark.parametrize(
    ("shapes", "kind", "said"),
    [
        (CHECKPOINT, "lora", "a checkpoint of SD1, not a LoRA"),
        (CHECKPOINT, "vae", "a checkpoint of SD1, not a VAE"),
        (LORA, "checkpoint", "a LoRA, not a checkpoint"),
        (VAE, "checkpoint", "a VAE, not a checkpoint"),
        (VAE, "upscaler", "a VAE, not a model of kind upscaler"),
        (DIFFUSERS_VAE, "vae", "diffusers, which the WebUI cannot load"),
        (DIFFUSERS_LORA, "lora", "diffusers, which the WebUI cannot load"),
        (DIFFUSERS_UNET, "checkpoint", "a UNet alone, in the layout of diffusers"),
    ],
)
def test_model_of_another_kind_is_refused_by_name(
    tmp_path: Path, shapes: Shapes, kind: str, said: str
) -> None:
    for content, name in (
        (safetensors(shapes), "m.safetensors"),
        (torch_zip(tensors(shapes)), "m.pt"),
        (torch_legacy(tensors(shapes)), "m.pt"),
    ):
        error = refused(tmp_path, content, name, kind)
        assert error.code == "wrong-kind"
        assert said in error.message
    for other in ("", "other"):
        assert checked(tmp_path, safetensors(shapes), "m.safetensors", other) == "safetensors"


def test_hypernetwork_needs_layers(tmp_path: Path) -> None:
    layers = {320: (tensors(VAE), tensors(VAE)), "step": 1, "name": "h"}
    assert checked(tmp_path, torch_zip(layers), "h.pt", "hypernetwork") == "pickle"
    for other in (tensors(LORA), {"string_to_param": {"*": tensor(1, 768)}}):
        error = refused(tmp_path, torch_zip(other), "h.pt", "hypernetwork")
        assert error.code == "wrong-kind"


def test_embedding_is_no_checkpoint(tmp_path: Path) -> None:
    content = torch_zip({"string_to_param": {"*": tensor(1, 768)}})
    assert refused(tmp_path, content, "e.pt", "vae").code == "wrong-kind"


def spec_of(kind: str, name: str, release: str = "") -> ArtifactSpec:
    """Return a spec without expected bytes."""
    return ArtifactSpec(url="", name=name, kind=kind, allow_pickle=True, release=release)


def test_stamp_of_another_kind_is_checked_again_but_not_hashed(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(safetensors(LORA))
    verify_file(spec_of("", "m.safetensors"), path)
    lora, checkpoint = (spec_of(kind, "m.safetensors") for kind in ("lora", "checkpoint"))
    assert find_verified(lora, path) is None
    hashed: list[str] = []
    verify_file(lora, path, on_progress=lambda *_: hashed.append("read"))
    assert not hashed
    assert find_verified(lora, path)
    with pytest.raises(UserError) as caught:
        verify_file(checkpoint, path)
    assert caught.value.code == "wrong-kind"
    assert find_verified(lora, path)


def test_stamp_for_a_newer_release_does_not_count_for_an_older(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(torch_zip({"a": tensor(1)}, members=("version", *NEWER_MEMBERS)))
    verify_file(spec_of("upscaler", "m.pth", "v1.10.1"), path)
    assert find_verified(spec_of("upscaler", "m.pth", "v1.10.1"), path)
    older = spec_of("upscaler", "m.pth", "v1.9.3")
    assert find_verified(older, path) is None
    with pytest.raises(UserError) as caught:
        verify_file(older, path)
    assert caught.value.code == "pickle-unreadable"


@pytest.mark.parametrize("seed", range(20))
def test_bin_file_that_is_no_pickle_is_data(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "m.bin"
    path.write_bytes(b"\x01" + random.Random(seed).randbytes(5000))  # noqa: S311 - content, no secret
    assert check_structure(path, "m.bin", allow_pickle=True) == "data"


def test_import_before_what_the_scanner_cannot_follow_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.bin"
    # A loader stops behind the first pickle; the scanner fails at the second.
    path.write_bytes(b"cos\nsystem\n)R." + b"\x93.")
    with pytest.raises(UserError) as caught:
        check_structure(path, "m.bin", allow_pickle=True)
    assert caught.value.code == "pickle-unsafe"


def test_pickle_writer_of_these_tests_writes_what_python_reads() -> None:
    assert pickle.loads(pickled({"a": [1, (2,)]})) == {"a": [1, (2,)]}  # noqa: S301 - our own
    assert Storage().type == "FloatStorage"
