"""`invoke inspect` on real images: small ones made for one flaw each, and the worker's own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from scripts.host.inspect.export import saved_trees
from scripts.host.inspect.image import Structure, structure
from scripts.host.inspect.overlay import settle, wasted
from tests.engine.test_build_cache import second_engine, short_folder  # noqa: F401 - fixtures
from tests.support.engine import copy_image
from tests.support.images import debian_root
from tests.support.running import build_image, error_line, invoke

pytestmark = pytest.mark.engine

TOKEN = "hf_" + "x" * 34  # of a token's form only
FLAWED = f"""
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
WASTED = {
    ("/srv/big", 300_000, 2, 4),
    ("/root/.netrc", 31, 1, 3),
    ("/srv/.git/HEAD", 4, 1, 3),
    ("/srv/d/old", 4, 1, 3),
    ("/srv/a b", 2, 4, 5),
}


@pytest.fixture(scope="module")
def flawed() -> Iterator[str]:
    """A small image with flaws that only its layers show."""
    tag = "a1111-worker-flawed:test"
    build_image(tag, f"FROM {debian_root()}\n{FLAWED}")
    yield tag
    subprocess.run(["docker", "rmi", "--force", tag], check=True, capture_output=True)


def found(seen: Structure) -> set[tuple[str, str, int, bool]]:
    return {(one.code, one.path, one.layer, one.gone) for one in seen.found}


def test_what_later_layers_hide_is_found_and_its_bytes_are_counted(flawed: str) -> None:
    client = docker.from_env()
    seen = structure(client, flawed, ())
    left = client.containers.list(all=True, filters={"ancestor": flawed})
    client.close()
    assert found(seen) == FOUND
    told = {(one.path, one.size, one.layer, one.hidden_by) for one in seen.wasted}
    assert told == WASTED
    assert [layer.size for layer in seen.layers[1:2]] == [300_000]
    assert left == []


def test_the_saved_image_tells_the_same_as_the_mounted_layers(flawed: str) -> None:
    client = docker.from_env()
    image = client.images.get(flawed)
    diff_ids = image.attrs["RootFS"]["Layers"]
    trees = saved_trees(image.save(), diff_ids[1:], skipped=diff_ids[:1])
    client.close()
    waste = wasted(trees, settle(trees))
    assert {(one.path, one.size, one.layer, one.hidden_by) for one in waste} == WASTED


def test_an_engine_with_the_containerd_store_tells_the_same(
    flawed: str,
    second_engine: str,  # noqa: F811 - the fixture
) -> None:
    copy_image(flawed, second_engine)
    client = docker.DockerClient(base_url=second_engine)
    seen = structure(client, flawed, ())
    client.close()
    assert found(seen) == FOUND
    assert {(one.path, one.size, one.layer, one.hidden_by) for one in seen.wasted} == WASTED


def test_a_failed_check_is_an_error_and_the_tables_are_shown_all_the_same(flawed: str) -> None:
    answer = invoke("inspect", "--image", flawed, "-D", "smoke.waste_limit=1000")
    line = error_line(answer)
    assert answer.returncode == 1
    for code in ("leftovers", "secret-in-image", "world-writable", "wasted-bytes"):
        assert code in line
    assert "/root/.netrc (credentials by name, layer 1, deleted later)" in answer.stdout
    as_json = invoke("inspect", "--image", flawed, "--json")
    for told in (answer, as_json):
        assert "password" not in told.stdout + told.stderr
        assert TOKEN not in told.stdout + told.stderr


def test_an_image_that_is_not_there_is_one_line() -> None:
    line = error_line(invoke("inspect", "--image", "a1111-worker-test:never-built"))
    assert "there is no such image" in line
    assert line.endswith("see: docker image ls")


@pytest.mark.parametrize("words", [("inspect",), ("push",), ("serve", "--port", "0")])
def test_an_image_that_was_never_built_is_built_by_the_words_of_its_cure(
    words: tuple[str, ...],
) -> None:
    never = ("-D", "image={repository: a1111-worker-never, tags: [built], moving_tags: []}")
    line = error_line(invoke(*words, "--variant", "cpu", *never))
    assert line.endswith("run: invoke build --variant cpu")


def test_over_a_volume_the_cache_tool_names_the_build_that_its_image_lacks(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("image: {repository: 127.0.0.1:9/never, tags: [built], moving_tags: []}\n")
    words = ("cache.stats", "--volume", str(tmp_path), "--variant", "cpu")
    line = error_line(invoke(*words, config=config))
    assert line.endswith("if the image is not there: invoke build --variant cpu")


def test_the_workers_image_passes_and_its_bill_is_the_same_twice(
    cpu_image: str, image_config: Path, tmp_path: Path
) -> None:
    files = [tmp_path / "first.json", tmp_path / "second.json"]
    for file in files:
        words = ("inspect", "--variant", "cpu", "--image", cpu_image, "--sbom", str(file))
        answer = invoke(*words, config=image_config)
        assert answer.returncode == 0, answer.stdout + answer.stderr
    assert files[0].read_bytes() == files[1].read_bytes()
    text = files[0].read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    named = {part.get("purl", "").partition("@")[0] for part in json.loads(text)["components"]}
    webui = "pkg:github/automatic1111/stable-diffusion-webui"
    components = {webui, "pkg:github/salesforce/blip", "pkg:github/openai/clip"}
    assert {*components, "pkg:pypi/torch", "pkg:deb/debian/tini"} <= named


def test_what_two_variants_differ_in_is_told(
    cpu_image: str, cuda_image: str, image_config: Path
) -> None:
    words = ("inspect", "--image", cuda_image, "--diff", cpu_image)
    answer = invoke(*words, config=image_config)
    assert answer.returncode == 0, answer.stderr
    rows = [line.split() for line in answer.stdout.splitlines()]
    assert ["python:webui:xformers", "-", "0.0.30"] in rows
    assert any(row[0] == "/opt" and row[-1].startswith("+") for row in rows if row)
    assert not any(row[0] == "python:webui:torch" for row in rows if row)
