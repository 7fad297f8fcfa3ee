"""`invoke pin --python` with a git repository and a package index of the tests."""

from __future__ import annotations

import sys

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.config.load import load
from scripts.host.pin.pin_packages import pin_packages
from tests.support.errors import user_error
from tests.support.namespaces import needs_namespaces, run_with_mount
from tests.support.package_place import Place, names


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
