"""Scripts of the Dockerfile: their checks, and that no unverified file gets its final name."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.common.fetch.hashing import layer_time, sha256_of
from scripts.host.config.load import ROOT, load
from tests.support import pip_index
from tests.support.checkout import safetensors_bytes
from tests.support.hub import HubServer, hub
from tests.support.wheels import make_wheel, serve_index

REPO = "owner/repo"
COMMIT = "c" * 40


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "hub" / REPO
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(safetensors_bytes())
    (folder / "vocab.json").write_text("{}")
    return folder


@pytest.fixture
def server(files: Path) -> Iterator[HubServer]:
    with hub(files.parents[1]) as running:
        yield running


def hub_file(server: HubServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts/image/hub-file", REPO, "main", *arguments],
        env={"PATH": os.environ["PATH"], "HF_ENDPOINT": server.url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_model_is_checked_against_its_lfs_record(
    server: HubServer, files: Path, tmp_path: Path
) -> None:
    dest = tmp_path / "out" / "model.safetensors"
    answer = hub_file(server, "model.safetensors", str(dest))
    assert answer.returncode == 0, answer.stderr
    assert dest.read_bytes() == (files / "model.safetensors").read_bytes()
    assert hashlib.sha256(dest.read_bytes()).hexdigest() in answer.stdout
    assert dest.stat().st_mtime == layer_time(sha256_of(dest))


def test_a_small_file_is_checked_against_its_git_blob(server: HubServer, tmp_path: Path) -> None:
    answer = hub_file(server, "vocab.json", str(tmp_path / "vocab.json"))
    assert answer.returncode == 0, answer.stderr
    assert "git blob 9e26dfeeb6e641a33dae4961196235bdb965b21b" in answer.stdout  # `{}`


@pytest.mark.parametrize(
    ("name", "content", "arguments", "expected"),
    [
        ("a.safetensors", safetensors_bytes(), ["0" * 64], "expected " + "0" * 64),
        ("b.safetensors", b"<html>not found</html>", [], "is not a safetensors file"),
        ("c.safetensors", struct.pack("<Q", 10**12) + b"{}" * 99, [], "not a safetensors file"),
    ],
    ids=["wrong sha256", "a page", "an absurd header"],
)
def test_an_unverified_file_never_gets_its_name(
    server: HubServer,
    files: Path,
    tmp_path: Path,
    name: str,
    content: bytes,
    arguments: list[str],
    expected: str,
) -> None:
    (files / name).write_bytes(content)
    dest = tmp_path / name
    answer = hub_file(server, name, str(dest), *arguments)
    assert answer.returncode == 1
    assert expected in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert not dest.exists()
    assert not list(tmp_path.glob("*.partial"))


@pytest.fixture
def repository(tmp_path: Path) -> tuple[str, str]:
    """A git repository with one commit: its address and the commit."""
    folder = tmp_path / "upstream"
    (folder / "assets").mkdir(parents=True)
    (folder / "assets" / "demo.png").write_bytes(b"demo")
    (folder / "code.py").write_text("x = 1\n")

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        run = ["git", "-C", str(folder), *identity, *arguments]
        return subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("config", "uploadpack.allowAnySHA1InWant", "true")
    git("add", ".")
    git("commit", "--quiet", "-m", "one", "--date", "2024-01-02T03:04:05Z")
    git("tag", "v1")
    return folder.as_uri(), git("rev-parse", "HEAD")


def fetch_source(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts/image/fetch-source", *arguments],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_source_has_no_history_or_demo_media(repository: tuple[str, str], tmp_path: Path) -> None:
    url, commit = repository
    dest = tmp_path / "dest"
    answer = fetch_source(url, commit, "HEAD", str(dest), "assets")
    assert answer.returncode == 0, answer.stderr
    assert sorted(path.name for path in dest.iterdir()) == [".commit", "code.py"]
    assert (dest / ".commit").read_text().strip() == commit


def test_every_source_can_be_fetched_without_a_commit(
    repository: tuple[str, str], tmp_path: Path
) -> None:
    url, commit = repository
    text = (ROOT / "Dockerfile").read_text()
    refs = re.findall(r'"\$(\w+)_COMMIT" "?([^\s"]+)', text)
    assert len(refs) == len(load().config.a1111.sources)
    for name, ref in refs:
        dest = tmp_path / name
        answer = fetch_source(url, "", ref.replace("$A1111_RELEASE", "v1"), str(dest))
        assert answer.returncode == 0, answer.stderr
        assert (dest / ".commit").read_text().strip() == commit


def test_the_same_commit_gives_the_same_times(repository: tuple[str, str], tmp_path: Path) -> None:
    url, commit = repository
    times = []
    for name in ("one", "two"):
        fetch_source(url, commit, "HEAD", str(tmp_path / name))
        times.append((tmp_path / name / "code.py").stat().st_mtime)
    assert times[0] == times[1]


@pytest.mark.slow
def test_a_missing_commit_is_reported_in_one_line(
    repository: tuple[str, str], tmp_path: Path
) -> None:
    url, _ = repository
    answer = fetch_source(url, "0" * 40, "HEAD", str(tmp_path / "dest"))
    assert answer.returncode == 1
    errors = [line for line in answer.stderr.splitlines() if line.startswith("fetch-source:")]
    assert len(errors) == 1, "git's own messages may come before and after"
    assert errors[0].startswith(f"fetch-source: cannot fetch {'0' * 40}")


# A package that is built with Python's own modules only.
BACKEND = """
import zipfile
def build_wheel(folder, *_):
    with zipfile.ZipFile(f"{folder}/clip-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("clip.py", "")
        info = "clip-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: clip\\nVersion: 1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return "clip-1.0-py3-none-any.whl"
"""
PROJECT = 'build-system = {requires = [], build-backend = "backend", backend-path = ["."]}\n'


def install_packages(
    venv: Path, lock: Path, *trees: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    tools = Path(sys.executable).parent
    path = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(venv.parent)}
    return subprocess.run(
        [ROOT / "scripts/image/install-packages", venv, lock, *trees],
        env={**path, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_source_installed_as_a_package_keeps_its_commit(tmp_path: Path) -> None:
    tree, venv, lock = tmp_path / "clip", tmp_path / "venv", tmp_path / "lock.txt"
    tree.mkdir()
    lock.touch()
    for name, text in {".commit": COMMIT, "backend.py": BACKEND, "pyproject.toml": PROJECT}.items():
        (tree / name).write_text(text)
    answer = install_packages(venv, lock, tree)
    assert answer.returncode == 0, answer.stderr
    assert list(venv.glob("lib/*/site-packages/clip.py"))
    assert (venv / "src" / "clip" / ".commit").read_text() == COMMIT


@pytest.mark.parametrize(
    "asked",
    [
        ("opencv_contrib_python", "opencv_python", "opencv_python_headless"),
        ("opencv_python", "opencv_python_headless"),
        ("opencv_python_headless",),
    ],
)
def test_of_several_opencvs_the_fullest_one_is_imported(
    asked: tuple[str, ...], tmp_path: Path
) -> None:
    lock, wheels = tmp_path / "lock.txt", tmp_path / "wheels"
    entries = []
    for name in asked:
        files = {"cv2/__init__.py": name.encode(), f"{name}.libs/libav.so": b"library"}
        wheel = make_wheel(wheels, name, files=files)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        entries.append(f"{name.replace('_', '-')}==1.0 \\\n    --hash=sha256:{digest}\n")
    lock.write_text("".join(entries))
    with serve_index(wheels) as index:
        answer = install_packages(tmp_path / "venv", lock, PYTHON_INDEX=index)
    assert answer.returncode == 0, answer.stderr
    [packages] = (tmp_path / "venv").glob("lib/*/site-packages")
    assert (packages / "cv2/__init__.py").read_text() == asked[0]
    assert [each.name for each in packages.glob("*.libs")] == [f"{asked[0]}.libs"]
    assert {each.name for each in packages.glob("*.dist-info")} == {
        f"{name}-1.0.dist-info" for name in asked
    }


@pytest.mark.skipif(not shutil.which("busybox"), reason="busybox is not installed")
def test_the_scripts_parse_in_busybox_ash() -> None:
    for name in ("hub-file", "fetch-source"):
        subprocess.run(["busybox", "ash", "-n", ROOT / "scripts/image" / name], check=True)


def split_lock(lock: Path, dest: Path, *names: str) -> tuple[str, str]:
    run = [str(ROOT / "scripts/image/split-lock"), str(lock), str(dest), *names]
    subprocess.run(run, check=True, timeout=60)
    return (dest / "large.txt").read_text(), (dest / "rest.txt").read_text()


def entries(lock: str) -> list[str]:
    return [line.partition("==")[0] for line in lock.splitlines() if line[:1].isalnum()]


@pytest.mark.parametrize("variant", ["cpu", "cuda128"])
def test_splitting_a_lock_loses_no_package_or_hash(variant: str, tmp_path: Path) -> None:
    lock = ROOT / f"requirements/{variant}.txt"
    large, rest = split_lock(lock, tmp_path / "locks", "scipy", "xformers", "numba")
    expected = {"numba", "scipy"} | ({"xformers"} if variant == "cuda128" else set())
    assert set(entries(large)) == expected
    assert sorted(entries(large) + entries(rest)) == sorted(entries(lock.read_text()))
    hashes = large.count("--hash=") + rest.count("--hash=")
    assert hashes == lock.read_text().count("--hash=")


def test_a_changed_small_package_leaves_the_large_ones_alone(tmp_path: Path) -> None:
    before = "scipy==1.0 \\\n    --hash=a\ntqdm==1.0 \\\n    --hash=b\n"
    lock = tmp_path / "lock"
    lock.write_text(before)
    large, rest = split_lock(lock, tmp_path / "one", "scipy")
    lock.write_text(before.replace("tqdm==1.0", "tqdm==2.0"))
    assert split_lock(lock, tmp_path / "two", "scipy") == (
        large,
        rest.replace("tqdm==1.0", "tqdm==2.0"),
    )


def test_tools_from_an_index_without_tls_must_match_their_hashes(tmp_path: Path) -> None:
    _, data = pip_index.FILES["fetched"]
    lock = tmp_path / "tools.txt"
    with pip_index.running() as url:
        # 0.0.0.0 leads to this machine, but unlike 127.0.0.1 pip does not trust it by itself.
        index = url.replace("127.0.0.1", "0.0.0.0")
        lock.write_text(f"fetched==1.0 --hash=sha256:{hashlib.sha256(data).hexdigest()}\n")
        good = install_tools(tmp_path / "good", lock, index)
        lock.write_text(f"fetched==1.0 --hash=sha256:{'0' * 64}\n")
        bad = install_tools(tmp_path / "bad", lock, index)
    assert good.returncode == 0, good.stderr
    assert (tmp_path / "good" / "fetched.py").exists()
    assert bad.returncode != 0
    assert "DO NOT MATCH THE HASHES" in bad.stderr
    assert not (tmp_path / "bad" / "fetched.py").exists()


def install_tools(folder: Path, lock: Path, index: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts/image/install-tools", folder, lock],
        env={
            **{"PATH": os.environ["PATH"], "HOME": str(folder.parent), "no_proxy": "0.0.0.0"},
            **{"PYTHON_INDEX": index, "PIP_NO_CACHE_DIR": "1"},
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def environment(folder: Path, packages: dict[str, str]) -> Path:
    """Write the metadata of an environment's packages."""
    for name, version in packages.items():
        info = folder / f"lib/python3.11/site-packages/{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder


@pytest.mark.parametrize(
    ("accelerator", "packages", "expected"),
    [
        ("cuda", {"xformers": "0.0.30"}, "torch 2.7.0+cu128 is the base image's own"),
        ("cpu", {"numpy": "1.26.2"}, "torch 2.7.0+cu128 is the base image's own"),
        ("cpu", {"nvidia-ml-py": "13.615.71"}, "torch 2.7.0+cu128 is the base image's own"),
        ("cuda", {"xformers": "0.0.29"}, "xformers 0.0.29 is not made for torch 2.7.0+cu128"),
        ("cuda", {"numpy": "1.26.2"}, "xformers is missing"),
        ("cuda", {"xformers": "0.0.30", "torch": "2.8.0"}, "torch 2.8.0 was installed over"),
        ("cpu", {"nvidia-cublas-cu12": "1.0"}, "nvidia-cublas-cu12 1.0 was installed over"),
        ("cpu", {"xformers": "0.0.30"}, "xformers is installed, and breaks drawing on the CPU"),
    ],
)
def test_packages_that_replace_torch_fail_the_build(
    accelerator: str, packages: dict[str, str], expected: str, tmp_path: Path
) -> None:
    base = environment(tmp_path / "base", {"torch": "2.7.0+cu128"})
    folders = [
        environment(tmp_path / "one", {"ftfy": "6.1.1"}),
        environment(tmp_path / "other", packages),
    ]
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/image/check-packages.py", *folders],
        env={"ACCELERATOR": accelerator, "PYTHONPATH": str(base / "lib/python3.11/site-packages")},
        capture_output=True,
        text=True,
        check=False,
    )
    if "own" in expected:
        assert (done.returncode, done.stdout.strip()) == (0, expected)
    else:
        assert done.returncode == 1
        assert done.stderr.startswith(f"check-packages: {expected}")
        assert done.stderr.endswith("run: invoke pin --python\n")


def test_packages_at_github_are_taken_from_its_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(
        "dsine @ https://github.com/sdbds/DSINE/dsine.whl \\\n    --hash=sha256:00\n"
        "other @ https://host/other.whl \\\n    --hash=sha256:00\n"
    )
    _, plain = split_lock(lock, tmp_path / "plain", "scipy")
    assert plain == lock.read_text()
    monkeypatch.setenv("GITHUB", "https://mirror/github")
    _, mirrored = split_lock(lock, tmp_path / "mirrored", "scipy")
    assert mirrored == lock.read_text().replace("https://github.com", "https://mirror/github")
