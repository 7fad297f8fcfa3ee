"""What `invoke inspect` makes of the facts: own layers, checks, tables, differences, the bill."""

from __future__ import annotations

import json
from urllib.parse import unquote

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import diagnostics
from scripts.host.build.inputs import BASE_DIGEST_LABEL, BASE_NAME_LABEL, resolve
from scripts.host.config.load import load
from scripts.host.config.schema import Smoke
from scripts.host.inspect.image import (
    Found,
    Inspection,
    Layer,
    known_repositories,
    model_paths,
    own_steps,
)
from scripts.host.inspect.inspect_view import shown, shown_difference
from scripts.host.inspect.overlay import Wasted
from scripts.host.inspect.packages import parsed
from scripts.host.inspect.rules import CHECKS, failed, judged
from scripts.host.inspect.sbom import sbom

COMMIT = "1c0a0c4c26f78c32095ebc7f8af82f5c04fca8c0"
SAID = f"""\
== system
debian 12
== apt
git 1:2.39.5-0+deb12u2 amd64
== python webui
torch 2.7.0
Jinja2 3.1.2
torch 2.6.0
== python runpod
Jinja2 3.1.6
== git
stable-diffusion-webui {COMMIT}
BLIP {"b" * 40}
== folders
6144\t/
2048\t/a folder
== sizes
2048\t/opt
6144\t/
== files
7\t/opt
9\t/
"""
MANIFEST = parsed(SAID)
GOOD = Inspection(
    image="a/b:c",
    image_id="sha256:" + "1" * 64,
    size=6_000,
    base_size=4_000,
    created="2026-11-01T00:00:00.123456789Z",
    labels={BASE_NAME_LABEL: "a/base:1"},
    layers=(
        Layer(size=1_100, models=1_000, instruction="COPY model"),
        Layer(size=900, models=0, instruction="RUN |1 A= /bin/bash -o pipefail -c packages"),
    ),
    found=(),
    wasted_bytes=50,
    wasted=(Wasted(path="/old", size=50, layer=1, hidden_by=2),),
    manifest=MANIFEST,
)
LEFT = Found(code="leftovers", path="/srv/.git", what="history of git", layer=2, gone=True)
NO_LIMITS = Smoke()


def test_own_layers_begin_where_the_dockerfiles_final_stage_does() -> None:
    steps = [
        *("ADD root", "RUN /bin/sh -c install torch", "WORKDIR /workspace"),
        "ENV DEBIAN_FRONTEND=noninteractive ROOT=/stable-diffusion-webui PYTHONUNBUFFERED=1",
        *("RUN apt", "LABEL a=b", "COPY b", "ENV ARGUMENT=1", "WORKDIR /x", "ENTRYPOINT [run]"),
    ]
    assert own_steps(steps, 6) == (3, ("RUN apt", "COPY b", "WORKDIR /x"))


def test_the_dockerfile_has_the_step_that_ends_the_base() -> None:
    stage = (load("cpu").root / "Dockerfile").read_text().partition(" AS build_final_image\n")[2]
    instruction = stage[stage.index("ENV ") :].replace("\\\n", " ")
    steps = ["RUN base", " ".join(instruction.splitlines()[0].split()), "COPY a"]
    assert own_steps(steps, 2) == (1, ("COPY a",))


def test_of_another_image_every_layer_is_its_own() -> None:
    assert own_steps(["COPY a", "CMD [b]"], 1) == (0, ("COPY a",))
    assert own_steps(["CMD [b]"], 0) == (0, ())
    assert own_steps(["COPY a"], 0) == (0, ())
    assert own_steps(["/bin/sh -c #(nop)  CMD [b]", "RUN c"], 2) == (0, ("", "RUN c"))


def test_packages_keep_what_manages_them_and_the_first_of_two_counts() -> None:
    assert MANIFEST.versions() == {
        "apt:git": "1:2.39.5-0+deb12u2",
        "git:BLIP": "b" * 40,
        "git:stable-diffusion-webui": COMMIT,
        "python:runpod:Jinja2": "3.1.6",
        "python:webui:Jinja2": "3.1.2",
        "python:webui:torch": "2.7.0",
    }


def test_folders_are_told_in_bytes_whatever_their_names() -> None:
    assert MANIFEST.folders == {"/": 6_291_456, "/a folder": 2_097_152}
    assert MANIFEST.files == {"/opt": 7, "/": 9}


def test_an_image_without_flaws_passes_every_check() -> None:
    assert failed(GOOD, NO_LIMITS) == ()
    for code in CHECKS:
        judged(code, GOOD, NO_LIMITS)
        assert code in diagnostics()


def test_a_flaw_fails_its_own_check_and_says_where() -> None:
    flawed = GOOD.model_copy(update={"found": (LEFT,) * 7})
    assert failed(flawed, NO_LIMITS) == ("leftovers",)
    with pytest.raises(UserError) as failure:
        judged("leftovers", flawed, NO_LIMITS)
    assert failure.value.code == "leftovers"
    assert "/srv/.git (history of git, layer 2, deleted later)" in failure.value.message
    assert failure.value.message.endswith("and 2 more")


@pytest.mark.parametrize(
    ("limits", "lines"),
    [
        ({"total_size_limit": 1_000, "layer_size_limit": 900}, 0),
        ({"total_size_limit": 999, "layer_size_limit": 900}, 1),
        ({"total_size_limit": 999, "layer_size_limit": 899}, 2),
        ({"total_size_limit": 999, "layer_size_limit": 99}, 3),
        ({}, 0),
    ],
)
def test_base_and_models_count_against_no_budget(limits: dict[str, int], lines: int) -> None:
    assert len(CHECKS["image-too-large"](GOOD, Smoke.model_validate(limits))) == lines


@pytest.mark.parametrize(("limit", "codes"), [(50, ()), (49, ("wasted-bytes",)), (None, ())])
def test_waste_is_held_to_its_limit(limit: int | None, codes: tuple[str, ...]) -> None:
    assert failed(GOOD, Smoke(waste_limit=limit)) == codes


def test_the_shipped_config_has_every_limit_and_knows_the_checkpoint() -> None:
    loaded = load("cuda128")
    smoke = loaded.config.smoke
    assert None not in (smoke.total_size_limit, smoke.layer_size_limit, smoke.waste_limit)
    assert model_paths(loaded) == ("/model.safetensors",)


def test_a_person_sees_layers_folders_waste_and_checks() -> None:
    text = shown(GOOD.model_copy(update={"found": (LEFT,)}), NO_LIMITS)
    for words in ("the base image", "RUN packages", "/a folder", "/old", "1 apt, 2 git, 3 python"):
        assert words in text
    rows = [line.split()[:2] for line in text.splitlines()]
    assert ["leftovers", "failed"] in rows
    assert ["wasted-bytes", "passed"] in rows


def test_a_difference_tells_sizes_files_and_packages_and_nothing_that_stayed() -> None:
    said = SAID.replace("2048\t/opt", "2000\t/opt").replace("7\t/opt", "5\t/opt")
    newer = parsed(said.replace("torch 2.7.0", "torch 2.8.0").replace("git 1:2", "curl 1:2"))
    text = shown_difference(GOOD, GOOD.model_copy(update={"size": 7_000, "manifest": newer}))
    rows = [line.split() for line in text.splitlines()]
    assert text.startswith("+1 kB against a/b:c")
    assert ["/opt", "-49.2", "kB", "-2"] in rows
    assert ["python:webui:torch", "2.7.0", "2.8.0"] in rows
    assert ["apt:curl", "-", "1:2.39.5-0+deb12u2"] in rows
    assert "Jinja2" not in text


def bill(labels: dict[str, str] | None = None, blip: str = "") -> str:
    known = {COMMIT: "AUTOMATIC1111/stable-diffusion-webui", "b" * 40: blip}
    return sbom(GOOD.model_copy(update={"labels": labels or GOOD.labels}), known)


def purls(text: str) -> set[str]:
    return {
        component["purl"] for component in json.loads(text)["components"] if "purl" in component
    }


def test_the_bill_of_materials_is_valid_and_names_every_package() -> None:
    text = bill()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert purls(text) == {
        "pkg:deb/debian/git@1:2.39.5-0%2Bdeb12u2?arch=amd64&distro=debian-12",
        f"pkg:generic/BLIP@{'b' * 40}",
        f"pkg:github/automatic1111/stable-diffusion-webui@{COMMIT}",
        "pkg:pypi/jinja2@3.1.2",
        "pkg:pypi/jinja2@3.1.6",
        "pkg:pypi/torch@2.7.0",
    }


def test_the_bill_of_the_same_image_is_the_same_to_the_byte_and_of_another_is_not() -> None:
    assert bill() == bill()
    assert json.loads(bill())["metadata"]["timestamp"] == "2026-11-01T00:00:00+00:00"
    other = sbom(GOOD.model_copy(update={"image_id": "sha256:" + "2" * 64}), {})
    assert json.loads(other)["serialNumber"] != json.loads(bill())["serialNumber"]


def test_the_bill_names_the_base_image_by_digest_where_that_is_known() -> None:
    digest = "sha256:" + "3" * 64
    labels = {BASE_NAME_LABEL: "docker.io/a/base:1", BASE_DIGEST_LABEL: digest}
    expected = f"pkg:oci/base@{digest}?repository_url=docker.io/a/base"
    assert expected in {unquote(purl) for purl in purls(bill(labels))}


@pytest.mark.parametrize(
    ("repository", "purl"),
    [
        ("https://github.com/o/BLIP.git", f"pkg:github/o/blip@{'b' * 40}"),
        ("https://git.example/o/BLIP", f"pkg:generic/BLIP@{'b' * 40}?vcs_url="),
    ],
)
def test_a_git_source_is_named_by_where_it_is_from(repository: str, purl: str) -> None:
    assert any(found.startswith(purl) for found in purls(bill(blip=repository)))


def test_commits_are_known_by_the_config_that_names_them() -> None:
    assert (
        known_repositories(resolve(load("cuda128")))[COMMIT]
        == "AUTOMATIC1111/stable-diffusion-webui"
    )
