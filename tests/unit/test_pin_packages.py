"""`invoke pin --python` with a git repository and a package index of the tests."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.config.load import ROOT, LoadedConfig, load
from scripts.host.pin.pin_packages import pin_packages
from tests.support.errors import user_error
from tests.support.namespaces import needs_namespaces, run_with_mount
from tests.support.serving import Server, running


class _Index(SimpleHTTPRequestHandler):
    """Serve folders of wheels; their listings are a package index (PEP 503)."""

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@dataclass(frozen=True)
class Place:
    """A checkout, the WebUI's repository and a package index.

    Args:
        root: the checkout.
        webui: the repository.
        wheels: what the index serves.
        url: where it answers.
    """

    root: Path
    webui: Path
    wheels: Path
    url: str

    def publish(self, name: str, version: str, *needs: str) -> None:
        """Put a wheel with nothing but metadata into the index."""
        folder = self.wheels / name
        folder.mkdir(exist_ok=True)
        stem = f"{name.replace('-', '_')}-{version}"
        metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        metadata += [f"Requires-Dist: {need}" for need in needs]
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{stem}.dist-info/METADATA", "\n".join(metadata) + "\n")
            wheel.writestr(
                f"{stem}.dist-info/WHEEL",
                "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            )
            wheel.writestr(f"{stem}.dist-info/RECORD", "")

    def release(self, *requirements: str) -> None:
        """Commit the WebUI's list of requirements."""
        (self.webui / "requirements_versions.txt").write_text("\n".join(requirements) + "\n")
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        for command in (["add", "."], ["commit", "--quiet", "-m", "release"], ["tag", "-f", "v1"]):
            run = ["git", "-C", str(self.webui), *identity, *command]
            subprocess.run(run, check=True, capture_output=True)

    def commit(self) -> str:
        """Return the WebUI's newest commit."""
        command = ["git", "-C", str(self.webui), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def variant(self, name: str = "cuda128") -> LoadedConfig:
        """Load the config of a variant."""
        return load(name, root=self.root)

    def read(self, name: str) -> str:
        """Read a file below `requirements/`."""
        return (self.root / "requirements" / name).read_text()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in ("IMAGE_CONFIG", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    root, webui, wheels = tmp_path / "checkout", tmp_path / "webui", tmp_path / "wheels"
    for folder in (root / "requirements", webui, wheels):
        folder.mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", str(webui)], check=True)
    handler = partial(_Index, directory=str(wheels))
    with running(Server(("127.0.0.1", 0), handler)) as server:
        made = Place(root, webui, wheels, server.url)
        _fill(made)
        yield made


def _fill(place: Place) -> None:
    """Write a config, lists of requirements and packages that depend as the real ones do."""
    (place.root / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    webui = {"repo": place.webui.as_uri(), "commit": None}
    config = {
        "mirrors": {"python": place.url},
        "a1111": {"release": "v1", "sources": {"webui": webui}},
    }
    (place.root / "config.local.yaml").write_text(json.dumps(config))
    for name, lines in {
        "runpod.in": "runpod",
        "tools.in": "uv",
        "image.in": "ftfy",
        "image-cuda.in": "xformers==0.0.30",
        "base.in": "torch==2.7.0",
    }.items():
        (place.root / "requirements" / name).write_text(lines + "\n")
    groups = {"host": ["invoke"], "test": [], "lint": [], "bench": []}
    (place.root / "pyproject.toml").write_text(
        "[dependency-groups]\n" + "".join(f"{name} = {each}\n" for name, each in groups.items())
    )
    for name in ("invoke", "runpod", "uv", "ftfy", "mpmath", "numpy", "networkx"):
        place.publish(name, "1.0")
    place.publish("gradio", "1.0", "networkx")
    place.publish("sympy", "1.0", "mpmath")
    place.publish("nvidia-cudnn-cu12", "9.0")
    place.publish("triton", "3.3.0")
    place.publish("torch", "2.7.0", "nvidia-cudnn-cu12", "triton", "numpy", "sympy", "networkx")
    place.publish("xformers", "0.0.30", "torch==2.7.0")
    place.publish("torchsde", "0.2.6", "torch>=1.6", "numpy")
    place.release("gradio", "torch", "torchsde")


def names(lock: str) -> list[str]:
    return [line.partition("==")[0] for line in lock.splitlines() if line[:1].isalpha()]


def test_image_lock_has_hashes_and_nothing_of_the_base_image(
    place: Place,
) -> None:
    changed = pin_packages([place.variant()])
    lock = place.read("cuda128.txt")
    assert "requirements/cuda128.txt" in changed
    # numpy and networkx have another user; sympy and mpmath are torch's alone.
    assert names(lock) == ["ftfy", "gradio", "networkx", "numpy", "torchsde", "xformers"]
    assert lock.count("--hash=sha256:") == 6
    assert "# via -r v1/requirements_versions.txt" in lock, "a reader sees what a package is for"
    assert place.url not in lock


def test_cpu_variant_locks_no_xformers(place: Place) -> None:
    pin_packages([place.variant("cuda128"), place.variant("cpu")])
    assert "xformers" in names(place.read("cuda128.txt"))
    assert "xformers" not in names(place.read("cpu.txt"))


def test_host_and_build_tools_are_locked_too(place: Place) -> None:
    pin_packages([place.variant()])
    assert names(place.read("dev.txt")) == ["invoke"]
    assert names(place.read("runpod.txt")) == ["runpod"]
    assert names(place.read("tools.txt")) == ["uv"]


def test_locked_versions_stay_without_upgrade(place: Place) -> None:
    pin_packages([place.variant()])
    place.publish("gradio", "2.0", "networkx")
    assert pin_packages([place.variant()]) == ()
    assert pin_packages([place.variant()], upgrade=True) == ("requirements/cuda128.txt",)
    assert "gradio==2.0" in place.read("cuda128.txt")


def test_conflicting_packages_fail_and_change_no_lock(place: Place) -> None:
    place.publish("torchsde", "0.3.0", "torch>=3")
    place.release("gradio", "torchsde==0.3.0")
    with pytest.raises(UserError, match=r"cannot be locked: .*torchsde==0\.3\.0.*cuda128\.txt"):
        pin_packages([place.variant()])
    assert not list(place.root.glob("requirements/*.txt")), "dev.txt was compiled before it"


def test_check_names_stale_locks_and_writes_nothing(place: Place) -> None:
    pin_packages([place.variant()])
    (place.root / "requirements" / "image.in").write_text("ftfy\ninvoke\n")
    before = place.read("cuda128.txt")
    assert pin_packages([place.variant()], check=True) == ("requirements/cuda128.txt",)
    assert place.read("cuda128.txt") == before


def test_different_packages_need_different_locks(place: Place) -> None:
    (place.root / "config.local.yaml").write_text("build: {requirements: requirements/one.txt}\n")
    with pytest.raises(UserError, match="share a lock"):
        pin_packages([place.variant("cuda128"), place.variant("cpu")])


def test_each_commit_of_a_release_has_its_own_list(
    place: Place,
) -> None:
    old = place.commit()
    place.release("gradio", "ftfy")
    define = [f"a1111.sources.webui.commit={old}", "build.requirements=locks/old.txt"]
    pin_packages([place.variant(), load(define=define, root=place.root)])
    assert "torchsde" not in names(place.read("cuda128.txt"))
    assert "torchsde" in names(place.read("../locks/old.txt"))


def test_locked_versions_stay_in_another_folder_too(place: Place) -> None:
    elsewhere = load(define=["build.requirements=locks/mine.txt"], root=place.root)
    pin_packages([elsewhere])
    place.publish("gradio", "2.0", "networkx")
    assert pin_packages([elsewhere]) == ()


@needs_namespaces
def test_lock_that_cannot_be_written_is_one_line(place: Place) -> None:
    program = (
        "import sys; from pathlib import Path;"
        "from scripts.common.diagnostics.error import UserError;"
        "from scripts.host.pin.pin_packages import _write\n"
        "try: _write(Path(sys.argv[2]), Path(sys.argv[1]).read_bytes())\n"
        "except UserError as failure: print(failure)"
    )
    new, folder = place.root / "requirements" / "image.in", place.root / "locks"
    folder.mkdir()
    mount = f"mount -t tmpfs -o ro n {folder}"
    command = [sys.executable, "-c", program, str(new), str(folder / "x.txt")]
    [line] = run_with_mount(mount, command).stdout.splitlines()
    assert line.startswith("the lock cannot be written: Read-only file system; it is unchanged")


def test_unreachable_index_is_one_line(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    loaded = load("cpu", ["mirrors.python=http://127.0.0.1:9/simple"], root=place.root)
    error = user_error(pin_packages, [loaded])
    assert "mirrors.python" in str(error)
    assert "\n" not in str(error)
