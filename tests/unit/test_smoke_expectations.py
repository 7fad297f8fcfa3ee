"""Test the expectations that the build derives from the config for the smoke test."""

from __future__ import annotations

from scripts.common.checks.expectations import Expectations
from scripts.common.checks.image_checks import ImageSubject, checkpoint_is_complete
from scripts.common.checks.image_facts import ImageFacts
from scripts.host.build.smoke_expectations import make_expectations
from scripts.host.config.load import load


def test_the_image_is_told_what_the_config_expects() -> None:
    expected = make_expectations(load("cpu", ("smoke.image_size=128",)))
    text = expected.model_dump_json(exclude_defaults=True)
    assert Expectations.model_validate_json(text) == expected
    assert expected.image_size == 128
    assert expected.checkpoint_name == "Deliberate_v6.safetensors"
    assert expected.release == "v1.9.3"


def test_an_image_without_a_checkpoint_is_not_asked_for_one() -> None:
    expected = make_expectations(load("slim"))
    assert expected.checkpoint == ""
    asked: list[tuple[str, ...]] = []

    def run(*command: str) -> str:
        asked.append(command)
        return "1131 2132625894"

    slim = ImageSubject(run, ImageFacts, "cuda", expected.targets, expected.checkpoint)
    assert checkpoint_is_complete.run(slim).outcome == "skipped"
    usual = ImageSubject(run, ImageFacts, "cuda", (), "/model.safetensors")
    assert checkpoint_is_complete.run(usual).evidence == "1131 tensors, 2.13 GB"
    assert len(asked) == 1
