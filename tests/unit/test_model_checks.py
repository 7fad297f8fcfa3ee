"""Checks of the models in an image, against answers of a WebUI that uses or ignores them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from scripts.common.checks.api_checks import ApiSubject
from scripts.common.checks.check import CheckResult
from scripts.common.checks.images import decode_png
from scripts.common.checks.model_checks import BakedModel, ModelSubject, model_checks
from scripts.common.models.kinds import Kind, image_path
from tests.support.webui import png as noise
from tests.unit.test_checks import RecordedClient

CHECKPOINT = BakedModel("checkpoint", "", "model.safetensors", "/model.safetensors")
FALLBACK = "Unable to load face-restoration model"


def baked(kind: Kind, name: str, family: str = "") -> BakedModel:
    return BakedModel(kind, family, name, str(image_path(kind, name, family)))


class Worker:
    """A WebUI that draws another image for whatever it uses.

    Args:
        models: that it lists.
        ignored: those that it lists and does not use.
    """

    def __init__(self, *models: BakedModel, ignored: tuple[str, ...] = ()) -> None:
        self.models, self.ignored = models, ignored
        self.hidden: list[str] = []
        self.log, self.captions = "", ["a lighthouse", "nothing"]
        self.options: dict[str, Any] = {"interrogate_return_ranks": False, "other": 1}
        self.set_options: list[dict[str, Any]] = []
        self.restored = 0  # number of the image that a face restorer answers with
        self.drawn: list[dict[str, Any]] = []

    def used(self, kind: str) -> list[str]:
        names = [model.label for model in self.models if model.kind == kind]
        return [name for name in names if name not in (*self.ignored, *self.hidden)]

    def txt2img(self, body: Any) -> Any:
        self.drawn.append(body)
        settings, prompt = body.get("override_settings", {}), body["prompt"]
        vae = settings.get("sd_vae", "None")
        vae = vae if vae in self.used("vae") else None
        title = settings.get("sd_model_checkpoint")
        title = title if title in self.used("checkpoint") else CHECKPOINT.label
        seen = [title, vae]
        for kind, tag in (("lora", "<lora:{}:1>"), ("hypernetwork", "<hypernet:{}:1>")):
            seen += [name for name in self.used(kind) if tag.format(name) in prompt]
        seen += [name for name in self.used("embedding") if name in prompt]
        words = prompt.partition(" <")[0]
        info = {
            "infotexts": ["Version: v1.9.3"],
            "sd_model_name": title.removesuffix(".safetensors"),
            "sd_vae_name": vae,
        }
        number = sum(map(ord, f"{seen}{words}"))
        return {"images": [encoded(number)], "info": json.dumps(info)}

    def extras(self, body: Any) -> Any:
        if body["upscaler_1"] == "None":
            return {"image": encoded(self.restored) if self.restored else body["image"]}
        name = body["upscaler_1"]
        used = name if name in (*self.used("upscaler"), "Nearest") else "Lanczos"
        return {"image": encoded(sum(map(ord, used)), 32)}

    def client(self) -> RecordedClient:
        def rows(kind: str, key: str) -> list[dict[str, str]]:
            return [{key: model.label} for model in self.models if model.kind == kind]

        files = [{"title": each.name, "filename": each.path} for each in self.models]
        return RecordedClient(
            answers={
                "txt2img": self.txt2img,
                "extra-single-image": self.extras,
                "interrogate": lambda body: {"caption": self.captions[self.is_grey(body["image"])]},
                "options": self.change_options,
                "sd-models": files,
                "sd-vae": rows("vae", "model_name"),
                "loras": rows("lora", "name"),
                "hypernetworks": rows("hypernetwork", "name"),
                "upscalers": rows("upscaler", "name"),
                "face-restorers": [{"name": "GFPGAN"}, {"name": "CodeFormer"}],
                "embeddings": {
                    "loaded": {name: {"vectors": 2} for name in self.used("embedding")},
                    "skipped": {},
                },
            }
        )

    def is_grey(self, image: str) -> bool:
        found = decode_png(base64.b64decode(image))
        assert (found.width, found.height) == (16, 16)
        return found.colours == 1

    def change_options(self, body: Any) -> Any:
        self.set_options += [body] if body else []
        return self.options

    @contextmanager
    def hide(self, model: BakedModel) -> Iterator[None]:
        self.hidden.append(model.label)
        yield
        self.hidden.remove(model.label)

    def check(self, *models: BakedModel, bases: dict[str, str] | None = None) -> list[CheckResult]:
        """Run the checks of some models, or of all that are listed."""
        everything = (CHECKPOINT, *(models or self.models))
        api = ApiSubject(self.client(), image_size=16, steps=1, release="v1.9.3")
        logs = iter(["", *[self.log] * 99])
        subject = ModelSubject(
            api, everything, bases or {}, CHECKPOINT.path, lambda: next(logs), self.hide
        )
        return [each.run(subject) for each in model_checks(everything, CHECKPOINT.path)]


def encoded(number: int, edge: int = 16) -> str:
    return base64.b64encode(noise(edge, edge, number)).decode()


ALL = (
    baked("checkpoint", "second.safetensors"),
    baked("vae", "soft.safetensors"),
    baked("lora", "style.safetensors"),
    baked("embedding", "easy.safetensors"),
    baked("hypernetwork", "old.pt"),
    baked("upscaler", "4x-Sharp.pth", "ESRGAN"),
    baked("upscaler", "RealESRGAN_x4plus.pth", "RealESRGAN"),
)


def test_models_that_are_used_pass_with_evidence() -> None:
    results = Worker(*ALL).check()
    assert [(each.name, each.evidence) for each in results if each.outcome != "passed"] == []
    assert [each.name for each in results] == [
        "checkpoint second.safetensors draws",
        "VAE soft.safetensors changes the image",
        "LoRA style changes the image",
        "embedding easy changes the image",
        "hypernetwork old changes the image",
        "upscaler 4x-Sharp differs from resampling",
        "upscaler R-ESRGAN 4x+ differs from resampling",
    ]
    assert all(each.evidence for each in results)


@pytest.mark.parametrize("model", ALL[1:], ids=lambda model: model.label)
def test_a_model_that_is_listed_and_ignored_fails(model: BakedModel) -> None:
    code = "models-unseen" if model.kind == "embedding" else "model-not-used"
    [result] = Worker(model, ignored=(model.label,)).check()
    assert (result.outcome, result.code) == ("failed", code), result.evidence


@pytest.mark.parametrize("model", ALL, ids=lambda model: model.label)
def test_a_model_that_is_not_listed_fails(model: BakedModel) -> None:
    [result] = Worker().check(model)
    assert (result.outcome, result.code) == ("failed", "models-unseen"), result.evidence


def test_a_checkpoint_that_another_one_draws_for_fails() -> None:
    worker = Worker(ALL[0], ignored=(ALL[0].label,))
    [result] = worker.check()
    assert (result.outcome, result.code) == ("failed", "model-not-used")
    assert "drawn by model" in result.evidence


def test_a_lora_for_another_base_is_skipped_or_drawn_with_its_checkpoint() -> None:
    lora, other = baked("lora", "style.safetensors"), baked("checkpoint", "xl.safetensors")
    bases = {CHECKPOINT.path: "SD1", lora.path: "SDXL", other.path: "SDXL"}
    [result] = Worker(lora).check(bases=bases)
    assert (result.outcome, result.evidence) == (
        "skipped",
        "it is made for SDXL, and no checkpoint in the image is (SD1)",
    )
    worker = Worker(other, lora)
    [_, result] = worker.check(bases=bases)
    assert result.outcome == "passed", result.evidence
    [settings] = [job["override_settings"] for job in worker.drawn if "<lora:" in job["prompt"]]
    assert settings == {"sd_model_checkpoint": "xl.safetensors"}


@pytest.mark.parametrize(
    ("log", "restored", "outcome", "evidence"),
    [
        ("", 0, "passed", "unproven"),
        ("", 7, "passed", "changed the image"),
        (FALLBACK, 0, "failed", "could not load weights"),
    ],
)
def test_a_face_restorer_passes_when_its_weights_load(
    log: str, restored: int, outcome: str, evidence: str
) -> None:
    files = ("GFPGANv1.4.pth", "detection_Resnet50_Final.pth")
    worker = Worker(*(baked("face-restoration", file, "GFPGAN") for file in files))
    worker.log, worker.restored = log, restored
    [result] = worker.check()
    assert result.name == "face restorer GFPGAN runs"
    assert (result.outcome, result.code) == (outcome, "weights-not-loaded" if log else "")
    assert evidence in result.evidence


def test_files_that_find_faces_are_no_restorer() -> None:
    files = {"codeformer-v0.1.0.pth": "Codeformer", "parsing_parsenet.pth": "GFPGAN"}
    models = [baked("face-restoration", file, family) for file, family in files.items()]
    assert [each.name for each in model_checks(models, CHECKPOINT.path)] == [
        "face restorer CodeFormer runs"
    ]


@pytest.mark.parametrize(
    ("family", "captions", "problem"),
    [
        ("BLIP", ["a lighthouse", "a wall"], ""),
        ("BLIP", ["a lighthouse<error>", "a wall<error>"], "it failed"),
        ("BLIP", ["a lighthouse", "<error>"], "it failed"),
        ("BLIP", ["", "a wall"], "the caption is empty"),
        ("BLIP", ["a lighthouse", "a lighthouse"], "of a grey image is the same"),
        ("torch_deepdanbooru", ["(sea:0.502)", "(sea:0.498)"], ""),
        ("torch_deepdanbooru", ["(sea:0.502)", "(sea:0.502)"], "of a grey image is the same"),
    ],
)
def test_an_interrogator_passes_when_its_caption_depends_on_the_image(
    family: str, captions: list[str], problem: str
) -> None:
    worker = Worker(baked("interrogate", "weights.pth", family))
    worker.captions = captions
    [result] = worker.check()
    assert (result.outcome == "failed") == bool(problem)
    assert problem in result.evidence
    assert worker.set_options[0]["interrogate_return_ranks"] is True
    assert worker.set_options[1:] == [{"interrogate_return_ranks": False}]


def test_without_further_models_the_reason_is_given() -> None:
    [result] = Worker().check(CHECKPOINT)
    assert (result.outcome, result.evidence) == ("skipped", "the image has none")
