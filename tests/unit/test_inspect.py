"""`invoke inspect` without an engine: own layers, checks, tables, differences, the bill."""

from __future__ import annotations

import json
from urllib.parse import unquote

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import diagnostics
from scripts.common.extensions.extension_manifest import BakedExtension, as_json
from scripts.host.build.image_labels import BASE_DIGEST_LABEL, BASE_NAME_LABEL
from scripts.host.build.inputs import resolve
from scripts.host.config.load import load
from scripts.host.config.lock import ResolvedSource
from scripts.host.config.schema import Smoke
from scripts.host.inspect.inspect_view import format_difference, format_inspection
from scripts.host.inspect.packages import parse_manifest
from scripts.host.inspect.sbom import make_sbom
from scripts.host.inspect.structure import (
    ImageLayer,
    Inspection,
    check_structure,
    model_paths,
    own_steps,
    require,
)
from scripts.host.inspect.violations import Violation
from scripts.host.models.artifacts import image_artifacts
from tests.support.errors import user_error

COMMIT = "1c0a0c4c26f78c32095ebc7f8af82f5c04fca8c0"
LISTING = f"""\
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
MANIFEST = parse_manifest(LISTING)
GOOD = Inspection(
    image="a/b:c",
    image_id="sha256:" + "1" * 64,
    size=6_000,
    base_size=4_000,
    created="2026-11-01T00:00:00.123456789Z",
    labels={BASE_NAME_LABEL: "a/base:1"},
    layers=(
        ImageLayer(size=1_100, models=1_000, hidden=50, instruction="COPY model"),
        ImageLayer(size=900, models=0, instruction="RUN |1 A= /bin/bash -o pipefail -c packages"),
    ),
    found=(),
    wasted_bytes=50,
    manifest=MANIFEST,
)
GIT_FOLDER = Violation("leftovers", "/srv/.git", "history of git", layer=2, gone=True)
NO_LIMITS = Smoke()


def test_own_layers_begin_at_the_final_stage() -> None:
    steps = [
        *("ADD root", "RUN /bin/sh -c install torch", "WORKDIR /workspace"),
        "ENV DEBIAN_FRONTEND=noninteractive ROOT=/stable-diffusion-webui PYTHONUNBUFFERED=1",
        *("RUN apt", "LABEL a=b", "COPY b", "ENV ARGUMENT=1", "WORKDIR /x", "ENTRYPOINT [run]"),
    ]
    assert own_steps(steps, 6) == (3, ("RUN apt", "COPY b", "WORKDIR /x"))


def test_dockerfile_has_the_step_that_ends_the_base() -> None:
    stage = (load("cpu").root / "Dockerfile").read_text().partition(" AS build_final_image\n")[2]
    instruction = stage[stage.index("ENV ") :].replace("\\\n", " ")
    steps = ["RUN base", " ".join(instruction.splitlines()[0].split()), "COPY a"]
    assert own_steps(steps, 2) == (1, ("COPY a",))


def test_every_layer_of_another_image_is_its_own() -> None:
    assert own_steps(["COPY a", "CMD [b]"], 1) == (0, ("COPY a",))
    assert own_steps(["CMD [b]"], 0) == (0, ())
    assert own_steps(["COPY a"], 0) == (0, ())
    assert own_steps(["/bin/sh -c #(nop)  CMD [b]", "RUN c"], 2) == (0, ("", "RUN c"))


def test_first_of_two_packages_with_one_name_counts() -> None:
    assert MANIFEST.versions() == {
        "apt:git": "1:2.39.5-0+deb12u2",
        "git:BLIP": "b" * 40,
        "git:stable-diffusion-webui": COMMIT,
        "python:runpod:Jinja2": "3.1.6",
        "python:webui:Jinja2": "3.1.2",
        "python:webui:torch": "2.7.0",
    }


def test_folder_sizes_are_in_bytes() -> None:
    assert MANIFEST.folders == {"/": 6_291_456, "/a folder": 2_097_152}
    assert MANIFEST.files == {"/opt": 7, "/": 9}


def failed_checks(image: Inspection, smoke: Smoke) -> tuple[str, ...]:
    return tuple(code for code, lines in check_structure(image, smoke).items() if lines)


def test_image_without_violations_passes_every_check() -> None:
    assert failed_checks(GOOD, NO_LIMITS) == ()
    for code in check_structure(GOOD, NO_LIMITS):
        require(code, GOOD, NO_LIMITS)
        assert code in diagnostics()


def test_violation_fails_its_own_check_and_is_located() -> None:
    image = GOOD.model_copy(update={"found": (GIT_FOLDER,) * 7})
    assert failed_checks(image, NO_LIMITS) == ("leftovers",)
    error = user_error(require, "leftovers", image, NO_LIMITS)
    assert error.code == "leftovers"
    assert "/srv/.git (history of git, layer 2, deleted later)" in error.message
    assert error.message.endswith("and 2 more")


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
def test_base_and_models_count_against_no_size_limit(limits: dict[str, int], lines: int) -> None:
    found = check_structure(GOOD, Smoke.model_validate(limits))
    assert len(found["image-too-large"]) == lines


@pytest.mark.parametrize(("limit", "codes"), [(50, ()), (49, ("wasted-bytes",)), (None, ())])
def test_wasted_bytes_are_compared_with_their_limit(
    limit: int | None, codes: tuple[str, ...]
) -> None:
    assert failed_checks(GOOD, Smoke(waste_limit=limit)) == codes


def test_wasted_bytes_name_the_worst_layer() -> None:
    with pytest.raises(UserError, match=r"hide 50 B, the limit is 9 B; .* layer 1, 50 B: COPY"):
        require("wasted-bytes", GOOD, Smoke(waste_limit=9))


def test_shipped_config_has_every_limit_and_a_checkpoint() -> None:
    loaded = load("cuda128")
    smoke = loaded.config.smoke
    assert None not in (smoke.total_size_limit, smoke.layer_size_limit, smoke.waste_limit)
    assert model_paths(image_artifacts(loaded)) == ("/model.safetensors",)


def test_tables_show_layers_folders_waste_and_checks() -> None:
    text = format_inspection(GOOD.model_copy(update={"found": (GIT_FOLDER,)}), NO_LIMITS)
    for part in ("the base image", "RUN packages", "/a folder", "1 apt, 2 git, 3 python"):
        assert part in text
    assert ["1", "1.1", "kB", "50", "B", "COPY", "model"] in map(str.split, text.splitlines())
    rows = [line.split()[:2] for line in text.splitlines()]
    assert ["leftovers", "failed"] in rows
    assert ["wasted-bytes", "passed"] in rows


def test_difference_shows_only_what_changed() -> None:
    listing = LISTING.replace("2048\t/opt", "2000\t/opt").replace("7\t/opt", "5\t/opt")
    listing = listing.replace("torch 2.7.0", "torch 2.8.0").replace("git 1:2", "curl 1:2")
    update = {"size": 7_000, "manifest": parse_manifest(listing)}
    text = format_difference(GOOD, GOOD.model_copy(update=update))
    rows = [line.split() for line in text.splitlines()]
    assert text.startswith("+1 kB against a/b:c")
    assert ["/opt", "-49.2", "kB", "-2"] in rows
    assert ["python:webui:torch", "2.7.0", "2.8.0"] in rows
    assert ["apt:curl", "-", "1:2.39.5-0+deb12u2"] in rows
    assert "Jinja2" not in text


def bill(labels: dict[str, str] | None = None, blip: str = "") -> str:
    sources = (
        ResolvedSource("webui", "AUTOMATIC1111/stable-diffusion-webui", "", COMMIT),
        ResolvedSource("blip", blip, "", "b" * 40),
    )
    return make_sbom(GOOD.model_copy(update={"labels": labels or GOOD.labels}), sources)


def purls(text: str) -> set[str]:
    return {
        component["purl"] for component in json.loads(text)["components"] if "purl" in component
    }


def test_bill_of_materials_is_valid_and_names_every_package() -> None:
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


def test_bill_has_the_same_bytes_for_the_same_image_only() -> None:
    assert bill() == bill()
    assert json.loads(bill())["metadata"]["timestamp"] == "2026-11-01T00:00:00+00:00"
    other = make_sbom(GOOD.model_copy(update={"image_id": "sha256:" + "2" * 64}), ())
    assert json.loads(other)["serialNumber"] != json.loads(bill())["serialNumber"]


def test_bill_names_the_base_image_by_known_digest() -> None:
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
def test_git_source_is_named_by_its_repository(repository: str, purl: str) -> None:
    assert any(found.startswith(purl) for found in purls(bill(blip=repository)))


def test_bill_names_extensions_by_the_manifest_of_the_image() -> None:
    extension = BakedExtension("One", "https://github.com/o/one", "main", COMMIT, {"sub": "c" * 40})
    listing = LISTING.replace("== folders", f"== extensions\n{as_json([extension])}== folders")
    manifest = parse_manifest(listing)
    assert manifest.versions()["git:extension:One"] == COMMIT
    assert manifest.versions()["git:extension:One/sub"] == "c" * 40
    made = make_sbom(GOOD.model_copy(update={"manifest": manifest}), ())
    assert f"pkg:github/o/one@{COMMIT}" in purls(made)


def test_bill_names_the_sources_of_the_config() -> None:
    webui = f"pkg:github/automatic1111/stable-diffusion-webui@{COMMIT}"
    assert webui in purls(make_sbom(GOOD, resolve(load("cuda128")).sources))
