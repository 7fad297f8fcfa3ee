"""`invoke inspect` on real images: a small one with violations, and the worker's own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from scripts.host.engine.client import client
from scripts.host.inspect.export import export_trees, read_saved_trees
from scripts.host.inspect.layer_tree import LayerTree, overlay
from scripts.host.inspect.packages import read_manifest
from scripts.host.inspect.structure import Structure, read_structure
from tests.support.engine import copy_image
from tests.support.images import base_download, debian_root
from tests.support.running import build_image, error_line, invoke

pytestmark = pytest.mark.engine

TOKEN = "hf_" + "x" * 34  # only the format of a token
DOCKERFILE = f"""
ENV ROOT=/stable-diffusion-webui
RUN mkdir -p /srv/.git /srv/d && echo ref >/srv/.git/HEAD && echo 123 >/srv/d/old \\
    && echo machine example.org pass''word x >/root/.netrc && chmod 4755 /srv/d/old
RUN head -c 300000 /dev/urandom >/srv/big && ln /srv/big /srv/link && mkdir -m 777 /srv/open
RUN rm -r /srv/.git /root/.netrc && rm -r /srv/d && mkdir /srv/d && echo 4 >/srv/d/new
RUN echo 1 >/srv/'a b' && rm /srv/big
RUN chmod 755 /srv/open && rm /srv/link && mkdir -m 777 "/srv/o'pen" && echo 22 >/srv/'a b'
RUN echo {TOKEN}
LABEL note={TOKEN}
"""
FOUND = {
    ("leftovers", "/srv/.git", 1, True),
    ("secret-in-image", "/root/.netrc", 1, True),
    ("world-writable", "/srv/o'pen", 5, False),
    ("secret-in-image", "label note", 0, False),
    ("secret-in-image", "step 8 of the history", 0, False),
    ("secret-in-image", "step 9 of the history", 0, False),
}
HIDDEN = {
    ("/srv/big", 300_000, 2),
    ("/srv/link", 0, 2),
    ("/root/.netrc", 31, 1),
    ("/srv/.git/HEAD", 4, 1),
    ("/srv/d/old", 4, 1),
    ("/srv/a b", 2, 4),
}
HIDDEN_BYTES = [39, 300_000, 0, 2, 0, 0]


@pytest.fixture(scope="module")
def flawed() -> Iterator[str]:
    """A small image with violations that only its layers show."""
    tag = "a1111-worker-flawed:test"
    build_image(tag, f"FROM {debian_root()}\n{DOCKERFILE}")
    yield tag
    subprocess.run(["docker", "rmi", "--force", tag], check=True, capture_output=True)


def found(seen: Structure) -> set[tuple[str, str, int, bool]]:
    return {(each.code, each.path, each.layer, each.gone) for each in seen.found}


def hidden(trees: list[LayerTree]) -> set[tuple[str, int, int]]:
    return {(path, trees[layer].files[path], layer + 1) for layer, path in overlay(trees).hidden}


def test_violations_and_bytes_hidden_by_later_layers_are_found(flawed: str) -> None:
    engine = client()
    seen = read_structure(engine, flawed, ())
    left = engine.containers.list(all=True, filters={"ancestor": flawed})
    engine.close()
    assert found(seen) == FOUND
    assert [layer.hidden for layer in seen.layers] == HIDDEN_BYTES
    assert seen.wasted_bytes == sum(HIDDEN_BYTES)
    assert [layer.size for layer in seen.layers[1:2]] == [300_000]
    assert left == []


def test_mounted_and_saved_layers_have_the_same_hidden_files(flawed: str) -> None:
    engine = client()
    image = engine.images.get(flawed)
    diff_ids = image.attrs["RootFS"]["Layers"]
    saved = read_saved_trees(image.save(), diff_ids[1:], skipped=diff_ids[:1])
    mounted = export_trees(engine, image, len(diff_ids) - 1)
    engine.close()
    assert hidden(saved) == hidden(mounted) == HIDDEN


def test_engine_with_containerd_store_finds_the_same(
    flawed: str,
    second_engine: str,
) -> None:
    copy_image(flawed, second_engine)
    engine = docker.DockerClient(base_url=second_engine)
    seen = read_structure(engine, flawed, ())
    engine.close()
    assert found(seen) == FOUND
    assert [layer.hidden for layer in seen.layers] == HIDDEN_BYTES


def test_failed_check_is_an_error_below_the_tables(flawed: str) -> None:
    answer = invoke("inspect", "--image", flawed, "-D", "smoke.waste_limit=1000")
    line = error_line(answer)
    assert answer.returncode == 1
    for code in ("leftovers", "secret-in-image", "world-writable", "wasted-bytes"):
        assert code in line
    assert "/root/.netrc (credentials by name, layer 1, deleted later)" in answer.stdout
    as_json = invoke("inspect", "--image", flawed, "--json")
    for output in (answer, as_json):
        assert "password" not in output.stdout + output.stderr
        assert TOKEN not in output.stdout + output.stderr


def test_missing_image_is_a_user_error() -> None:
    line = error_line(invoke("inspect", "--image", "a1111-worker-test:never-built"))
    assert "there is no such image" in line
    assert line.endswith("see: docker image ls")


@pytest.mark.parametrize("command", [("inspect",), ("push",), ("serve", "--port", "0")])
def test_hint_for_an_unbuilt_image_is_its_build_command(
    command: tuple[str, ...],
) -> None:
    never = ("-D", "image={repository: a1111-worker-never, tags: [built], moving_tags: []}")
    line = error_line(invoke(*command, "--variant", "cpu", *never))
    assert line.endswith("run: invoke build --variant cpu")


def test_cache_tool_over_a_volume_hints_at_the_build(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("image: {repository: 127.0.0.1:9/never, tags: [built], moving_tags: []}\n")
    command = ("cache.stats", "--volume", str(tmp_path), "--variant", "cpu")
    line = error_line(invoke(*command, config=config))
    assert line.endswith("if the image does not exist: invoke build --variant cpu")


def test_worker_image_passes_and_its_bill_is_reproducible(
    cpu_image: str, image_config: Path, tmp_path: Path
) -> None:
    files = [tmp_path / "first.json", tmp_path / "second.json"]
    for file in files:
        command = ("inspect", "--variant", "cpu", "--image", cpu_image, "--sbom", str(file))
        answer = invoke(*command, config=image_config)
        assert answer.returncode == 0, answer.stdout + answer.stderr
    assert files[0].read_bytes() == files[1].read_bytes()
    text = files[0].read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    named = {part.get("purl", "").partition("@")[0] for part in json.loads(text)["components"]}
    webui = "pkg:github/automatic1111/stable-diffusion-webui"
    components = {webui, "pkg:github/salesforce/blip", "pkg:github/openai/clip"}
    installed = {"pkg:pypi/torch", "pkg:deb/debian/tini", "pkg:deb/debian/libgl1"}
    assert {*components, *installed} <= named


def test_difference_of_two_variants_is_shown(
    cpu_image: str, cuda_image: str, image_config: Path
) -> None:
    command = ("inspect", "--image", cuda_image, "--diff", cpu_image)
    answer = invoke(*command, config=image_config)
    assert answer.returncode == 0, answer.stderr
    rows = [line.split() for line in answer.stdout.splitlines()]
    assert ["python:webui:xformers", "-", "0.0.30"] in rows
    assert any(row[0] == "/opt" and row[-1].startswith("+") for row in rows if row)
    assert not any(row[0] == "python:webui:torch" for row in rows if row)


def test_image_whose_tools_are_busybox_is_listed() -> None:
    engine = client()
    listed = read_manifest(engine, base_download())
    engine.close()
    assert listed.sizes["/usr"] > 0
    assert listed.files == {}, "its du counts no files"
