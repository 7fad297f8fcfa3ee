"""Test that what extensions ask of pip is in the image, or the build says what is not.

Packages come from the index that this machine uses, as those of all builds do.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.common.extensions.locked_requests import read_locked_requests
from scripts.host.engine.client import client
from tests.support.git_server import EXTENSION
from tests.support.inputs import CHECKPOINT_FILE, CHECKPOINT_REPO
from tests.support.running import copy_of_the_checkout, error_line, invoke, output
from tests.support.smoke_reports import run_smoke_checks

pytestmark = [pytest.mark.engine, pytest.mark.slow]

TAG = "a1111-worker-test:extension-packages"
TOKEN = "hf_of_this_machine_and_nobody_else"  # noqa: S105 - to be searched for
OWN_TOKEN = f"hf_{'x' * 34}"
INSTALLED = (
    *("standin", "prints-a-token", "downloads-its-model"),
    *("swallows-errors:none", "fails-to-install:none"),
)
MODELS = [
    {
        "name": path.partition("/")[0],
        "source": {"hub": CHECKPOINT_REPO, "file": CHECKPOINT_FILE},
        "path": path,
        **kind,
    }
    for path, kind in {
        "StandIn/shared.safetensors": {"kind": "other"},
        "own.safetensors": {},
    }.items()
]
"""Models of sd-webui-downloads-its-model: one beside those of the WebUI, one in its folder."""


@dataclass(frozen=True)
class Checkout:
    """A checkout whose lock is made for extensions.

    Args:
        root: the checkout.
        config: the file that names the stand-ins.
        store: the model store.
    """

    root: Path
    config: Path
    store: Path

    def run(
        self,
        *arguments: str,
        extensions: Iterable[str] = INSTALLED,
        models: list[dict[str, Any]] = MODELS,
    ) -> subprocess.CompletedProcess[str]:
        """Run `invoke` for the variant cpu with some extensions: `name`, or `name:none`."""
        tree: dict[str, Any] = yaml.safe_load(self.config.read_text())
        tree["extensions"] = []
        for each in extensions:
            name, _, install = each.partition(":")
            entry = {"repo": f"stand-in/sd-webui-{name}", "commit": "main"}
            entry["install"] = install or "auto"
            needed = models if name == "downloads-its-model" else []
            tree["extensions"].append({**entry, "models": needed})
        config = self.root / "standins.yaml"
        config.write_text(yaml.safe_dump(tree))
        tokens = {"HF_TOKEN": TOKEN, "MODELS_STORE": str(self.store)}
        return invoke(*arguments, "--variant", "cpu", config=config, root=self.root, **tokens)


@pytest.fixture(scope="module")
def checkout(
    image_config: Path, model_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Checkout:
    root = copy_of_the_checkout(tmp_path_factory.mktemp("checkout"))
    made = Checkout(root, image_config, model_store)
    answer = made.run("pin", "--python")
    assert answer.returncode == 0, answer.stderr
    assert TOKEN not in answer.stdout + answer.stderr
    return made


@pytest.fixture(scope="module")
def image(checkout: Checkout) -> Iterator[str]:
    answer = checkout.run("build", "--tag", TAG)
    assert answer.returncode == 0, answer.stderr
    assert not {word for word in (TOKEN, OWN_TOKEN) if word in answer.stdout + answer.stderr}
    yield TAG
    client().images.remove(TAG, force=True)


def test_the_lock_has_what_installers_ask_of_pip(checkout: Checkout) -> None:
    lock = (checkout.root / "requirements" / "cpu.txt").read_text()
    locked = {each.name: each.requests for each in read_locked_requests(lock)}
    assert {each.text for each in locked["sd-webui-standin"]} == {
        *("roman<6,>=4", "webcolors>=24", "iniconfig<3,>=2"),
    }
    # The model that its installer would download first is there, as it will be in the build.
    assert [each.text for each in locked["sd-webui-downloads-its-model"]] == ["editables"]
    for name in ("roman", "webcolors", "iniconfig", "editables"):
        assert f"\n{name}==" in lock
    assert locked["sd-webui-fails-to-install"] == ()


def test_packages_of_extensions_are_in_the_image(image: str) -> None:
    program = "import roman, webcolors, iniconfig, torch; print(roman.__file__, torch.__file__)"
    printed = output(image, "-c", program, entrypoint="/opt/webui/bin/python").split()
    assert printed[0].startswith("/opt/webui/")
    assert not printed[1].startswith("/opt/webui/"), "torch is the base's"


def test_models_are_in_the_image_at_the_paths_that_installers_look_at(image: str) -> None:
    folder = "/opt/extensions/sd-webui-downloads-its-model"
    models = ("/opt/a1111/models/StandIn/shared.safetensors", f"{folder}/own.safetensors")
    sizes = output(image, "-c", f"stat -c %s {' '.join(models)}", entrypoint="/bin/sh").split()
    assert len(sizes) == 2
    assert min(map(int, sizes)) > 1_000_000


def test_the_build_names_what_installers_miss(checkout: Checkout, image: str) -> None:  # noqa: ARG001 - its layers are cached
    # Had it been made with these installers, the first of them had ended `pin`.
    lock = checkout.root / "requirements" / "cpu.txt"
    made = lock.read_text()
    lock.write_text(made.replace("#   install: none\n", ""))
    extensions = [each.removesuffix(":none") for each in INSTALLED]
    answer = checkout.run("build", extensions=extensions, models=[])
    lock.write_text(made)
    assert "[extension-uninstalled]" in error_line(answer)
    download = "sd-webui-downloads-its-model: install.py failed: urllib.error.URLError"
    assert download in answer.stderr
    missing = "install.py asks for no-such-package-of-a-stand-in, but it is not installed"
    assert f"extension sd-webui-swallows-errors: {missing}" in answer.stderr
    failed = "install.py failed: fails-to-install: no compiler was found"
    assert f"extension sd-webui-fails-to-install: {failed}" in answer.stderr


def test_pin_names_both_sides_of_a_conflict(checkout: Checkout) -> None:
    before = (checkout.root / "requirements" / "cpu.txt").read_text()
    answer = checkout.run("pin", "--python", extensions=["conflicts"])
    line = error_line(answer)
    assert "sd-webui-conflicts and the image exclude each other" in line
    assert "sd-webui-conflicts asks for pydantic>=2; the image asks for pydantic<=1.10.17" in line
    assert (checkout.root / "requirements" / "cpu.txt").read_text() == before


def test_pin_names_an_installer_that_fails_and_what_cannot_be_had(checkout: Checkout) -> None:
    answer = checkout.run(
        "pin", "--python", "--check", extensions=["fails-to-install", "swallows-errors"]
    )
    assert "install.py of sd-webui-fails-to-install ended with 1: fails-to-install: no" in (
        answer.stderr
    )
    assert "sd-webui-swallows-errors asks for no-such-package-of-a-stand-in" in error_line(answer)


def test_smoke_proves_an_extension_by_its_check(
    checkout: Checkout, image: str, tmp_path: Path
) -> None:
    tree: dict[str, Any] = yaml.safe_load(checkout.config.read_text())
    job = {"alwayson_scripts": {"Stand-in phrase": {"args": [True, "hill", 3]}}}
    entry = {"repo": EXTENSION, "routes": ["/standin/"], "check": {"body": job}}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({**tree, "extensions": [entry]}))
    printed, report = run_smoke_checks(
        image, "tests/smoke/test_extensions.py", variant="cpu", config=config, folder=tmp_path
    )
    assert "3 passed" in printed
    found = {check.name: check for check in report.checks}
    assert list(found) == [
        "extension sd-webui-standin is loaded",
        "extension sd-webui-standin adds its routes",
        "extension sd-webui-standin passes its check",
    ]
    assert {check.outcome for check in found.values()} == {"passed"}
    assert "mean difference" in found["extension sd-webui-standin passes its check"].evidence
