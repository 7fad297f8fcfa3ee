"""Extensions of the config are in the image, as the WebUI lists them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.common.extensions.extension_manifest import MANIFEST, read_extensions
from scripts.common.extensions.locked_requests import ExtensionRequests, as_comments
from scripts.host.build.image_labels import EXTENSIONS_LABEL
from scripts.host.engine.client import client
from tests.support.git_server import EXTENSION
from tests.support.running import copy_of_the_checkout, invoke, output

pytestmark = [pytest.mark.engine, pytest.mark.slow]

TAG = "a1111-worker-test:extensions"
FOLDER = "/opt/extensions/sd-webui-standin"

# As A1111 reads one (`read_info_from_repo` in `modules/extensions.py`).
_READ = f"""
import git, json
repo = git.Repo({FOLDER!r})
print(json.dumps([repo.active_branch.name, repo.head.commit.hexsha, next(repo.remote().urls)]))
"""


@pytest.fixture(scope="module")
def extension_image(
    image_config: Path, model_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """An image with an extension, built in a checkout whose lock is made for it."""
    folder = tmp_path_factory.mktemp("extension")
    tree: dict[str, Any] = yaml.safe_load(image_config.read_text())
    entry = {"repo": EXTENSION, "commit": "main", "licence": "MIT", "install": "none"}
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({**tree, "extensions": [entry]}))
    root = copy_of_the_checkout(folder / "checkout")
    with (root / "requirements" / "cpu.txt").open("a") as lock:
        lock.write(
            as_comments([ExtensionRequests("sd-webui-standin", "0" * 40, (), install="none")])
        )
    answer = invoke(
        *("build", "--variant", "cpu", "--tag", TAG),
        config=config,
        root=root,
        MODELS_STORE=str(model_store),
    )
    assert answer.returncode == 0, answer.stderr
    assert f"extension sd-webui-standin ({EXTENSION})" in answer.stderr  # it is not pinned
    yield TAG
    client().images.remove(TAG, force=True)


def test_git_python_reads_an_extension_as_the_webui_does(extension_image: str) -> None:
    read = output(extension_image, "-c", _READ, entrypoint="/opt/webui/bin/python")
    branch, commit, url = json.loads(read)
    assert (branch, url) == ("main", f"https://github.com/{EXTENSION}")
    labels = client().images.get(extension_image).labels
    fact = {"repo": EXTENSION, "commit": "unknown", "licence": "MIT"}
    assert json.loads(labels[EXTENSIONS_LABEL]) == {"sd-webui-standin": fact}
    assert len(commit) == 40


def test_the_manifest_in_the_image_names_its_extensions(
    extension_image: str, tmp_path: Path
) -> None:
    manifest = tmp_path / "extensions.json"
    manifest.write_text(output(extension_image, str(MANIFEST), entrypoint="cat"))
    [extension] = read_extensions(manifest)
    assert (extension.name, extension.install, list(extension.submodules)) == (
        *("sd-webui-standin", "none", ["phrases"]),
    )


def test_an_extension_belongs_to_root_and_can_be_read_by_all(extension_image: str) -> None:
    odd = ("!", "-user", "root", "-o", "-perm", "/022", "-o", "!", "-perm", "-444")
    assert output(extension_image, "/opt/extensions", *odd, entrypoint="find") == ""
    phrases = output(extension_image, f"{FOLDER}/phrases/phrases.ini", entrypoint="cat")
    assert phrases.startswith("[phrases]")


def test_an_image_without_extensions_has_none_of_another_build(
    extension_image: str, cpu_image: str
) -> None:
    assert output(extension_image, "/opt/extensions", entrypoint="ls").split() == [
        *("extensions.json", "sd-webui-standin"),
    ]
    assert output(cpu_image, "/opt/extensions", entrypoint="ls").split() == ["extensions.json"]
    assert json.loads(output(cpu_image, str(MANIFEST), entrypoint="cat")) == []
