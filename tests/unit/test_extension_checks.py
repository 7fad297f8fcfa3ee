"""Checks of the extensions in an image, against answers of a WebUI that has them or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scripts.common.checks.api_checks import ApiSubject
from scripts.common.checks.check import CheckResult
from scripts.common.checks.extension_checks import ExtensionSubject, extension_checks, find_broken
from scripts.common.extensions.extension_manifest import BakedExtension, DeclaredCheck
from tests.support.webui import png as noise
from tests.unit.test_checks import RecordedClient, drawn

COMMIT = "852687522dbb009b3cb3491224871097539f9294"
JOB = {"alwayson_scripts": {"Stand-in phrase": {"args": [True, "hill"]}}}
EXTENSION = BakedExtension(
    "sd-webui-standin",
    "stand-in/sd-webui-standin",
    "",
    COMMIT,
    routes=("/standin/",),
    check=DeclaredCheck(body=JOB),
)
BROKEN = (
    "time=2026-01-01T00:00:00.000Z level=error event=extension-broken"
    ' extension=sd-webui-standin reason="Error loading script: standin.py: ModuleNotFoundError: No'
    " module named 'roman'\" code=extension-broken"
)


def txt2img(body: Any) -> Any:
    return drawn(noise(16, 16, 2 if body.get("alwayson_scripts") else 1))


def run(extension: BakedExtension = EXTENSION, log: str = "", **answers: Any) -> list[CheckResult]:
    row = {"name": EXTENSION.name, "branch": "main", "commit_hash": COMMIT, "enabled": True}
    usual = {
        "extensions": [row],
        "scripts": {"txt2img": ["seed", "stand-in phrase"], "img2img": []},
        "openapi.json": {"paths": {"/standin/phrases": {}, "/sdapi/v1/txt2img": {}}},
        "txt2img": txt2img,
    }
    client = RecordedClient(answers={**usual, **answers})
    api = ApiSubject(client, image_size=16, steps=1, release="v1.9.3")
    subject = ExtensionSubject(api, lambda: log)
    return [check.run(subject) for check in extension_checks([extension])]


def test_an_extension_that_works_passes_with_evidence() -> None:
    loaded, routes, effect = run()
    assert {each.outcome for each in (loaded, routes, effect)} == {"passed"}
    assert loaded.name == "extension sd-webui-standin is loaded"
    assert loaded.evidence == "main at 852687522dbb, Stand-in phrase"
    assert routes.evidence == "/standin/: 1"
    assert effect.evidence.startswith("with Stand-in phrase; mean difference ")


def test_an_extension_without_routes_and_check_has_one_check() -> None:
    [loaded] = run(replace(EXTENSION, routes=(), check=None))
    assert (loaded.outcome, loaded.evidence) == ("passed", "main at 852687522dbb")


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"extensions": []}, "the WebUI does not list it; it lists: none"),
        (
            {"extensions": [{"name": EXTENSION.name, "commit_hash": "0" * 40, "enabled": True}]},
            "configured is 852687522dbb",
        ),
        (
            {"extensions": [{"name": EXTENSION.name, "commit_hash": COMMIT, "enabled": False}]},
            "it is disabled in the WebUI's options",
        ),
        (
            {"scripts": {"txt2img": ["seed"]}},
            "there is no script Stand-in phrase; there are: seed",
        ),
    ],
)
def test_an_extension_that_is_not_loaded_fails(answers: dict[str, Any], reason: str) -> None:
    loaded = run(**answers)[0]
    assert (loaded.outcome, loaded.code) == ("failed", "extension-broken")
    assert reason in loaded.evidence


def test_a_broken_extension_is_one_failure_with_the_last_line_of_its_traceback() -> None:
    loaded, *others = run(log=f"Startup time: 3 s.\n{BROKEN}\nother")
    assert loaded.outcome == "failed"
    assert "ModuleNotFoundError: No module named 'roman'" in loaded.evidence
    assert [each.outcome for each in others] == ["skipped", "skipped"]


def test_other_extensions_that_are_broken_are_no_failure_of_this_one() -> None:
    log = BROKEN.replace("sd-webui-standin", "sd-webui-other")
    assert list(find_broken(log)) == ["sd-webui-other"]
    assert {each.outcome for each in run(log=log)} == {"passed"}


def test_routes_that_are_not_there_fail_and_applications_of_their_own_are_asked() -> None:
    undescribed: dict[str, Any] = {"openapi.json": {"paths": {}}}
    missing = run(EXTENSION, "", **undescribed)[1]
    assert (missing.outcome, missing.code) == ("failed", "extension-broken")
    assert "there is no path below /standin/" in missing.evidence
    mounted = run(replace(EXTENSION, routes=("/mounted",)), mounted={})[1]
    assert (mounted.outcome, mounted.evidence) == ("passed", "/mounted: answers")


def test_a_check_without_an_effect_fails() -> None:
    effect = run(txt2img=lambda _: drawn(noise(16, 16, 1)))[2]
    assert (effect.outcome, effect.code) == ("failed", "extension-broken")
    assert "every pixel is the same with and without it" in effect.evidence


def test_a_check_that_is_refused_fails_with_the_webuis_reason() -> None:
    def refuse(body: Any) -> Any:
        return (422, {"detail": "no such phrase"}) if body.get("alwayson_scripts") else txt2img({})

    effect = run(txt2img=refuse)[2]
    assert (effect.outcome, effect.code) == ("failed", "extension-broken")
    assert "no such phrase" in effect.evidence


def test_a_check_of_another_route_passes_with_status_200() -> None:
    check = DeclaredCheck("/standin/phrases", "GET")
    effect = run(replace(EXTENSION, check=check), phrases={"phrases": ["sea"]})[2]
    assert (effect.outcome, effect.evidence) == ("passed", "GET /standin/phrases: 200")
    failing = run(replace(EXTENSION, check=check), phrases=(500, {"error": "x"}))[2]
    assert failing.outcome == "failed"
