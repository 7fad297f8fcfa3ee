"""Extensions are fetched from a git host into the store, and laid out as the image has them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from scripts.common.extensions.extension_manifest import read_extensions
from scripts.host.build.inputs import resolve
from scripts.host.config.load import LoadedConfig
from scripts.host.config.lock import read_lock
from scripts.host.extensions.extensions_context import staged_extensions
from scripts.host.extensions.fetch_extensions import fetch_extensions
from scripts.host.models.models_display import Display
from scripts.host.models.store_maintenance import delete, find_unused, verify_objects
from scripts.host.pin.pin_network import pin_network
from tests.support.checkout import from_url, loaded_from, make_checkout, store_of
from tests.support.errors import user_error
from tests.support.git_server import EXTENSION, SOURCES, GitServer, repositories, serving
from tests.support.serving import running

FILES = SOURCES[1] / EXTENSION
PHRASES = f"{EXTENSION}-phrases"
MAIN = {"repo": EXTENSION, "commit": "main"}


@pytest.fixture(scope="module")
def git_root(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    root = tmp_path_factory.mktemp("git")
    return root, repositories(root)


@pytest.fixture
def git_url(git_root: tuple[Path, dict[str, str]]) -> Iterator[str]:
    with serving(git_root[0]) as url:
        yield url


@pytest.fixture
def commits(git_root: tuple[Path, dict[str, str]]) -> dict[str, str]:
    return git_root[1]


def checkout(root: Path, url: str, *extensions: dict[str, Any]) -> Path:
    """Make a checkout with extensions, whose GitHub is a host of its own."""
    digest = "sha256:" + "0" * 64
    return make_checkout(
        root,
        from_url("https://host.invalid/model.safetensors", sha256="0" * 64, size=1),
        extensions=list(extensions),
        mirrors={"github": url},
        base={"download": f"a/b@{digest}", "runtime": f"c/d@{digest}"},
    )


class States(Display):
    """A display that keeps the states of each extension."""

    def __init__(self) -> None:
        self.seen: dict[str, list[str]] = {}

    def labelled(self, label: str, _: Mapping[str, str]) -> Any:
        """Keep the states of one extension."""
        states = self.seen.setdefault(label, [])
        return lambda state, _done, _total, _detail="": states.append(state)


def staged(root: Path, into: Path, display: Display | None = None) -> Path:
    """Fetch the extensions of a checkout, and copy the build context that is made of them."""
    inputs = resolve(loaded_from(root))
    fetched = fetch_extensions(inputs, inputs.extensions, display or Display())
    with staged_extensions(inputs, fetched) as folder:
        subprocess.run(["cp", "-a", folder, into], check=True)
    return into


def git(folder: Path, *arguments: str) -> str:
    """Ask git about a staged extension."""
    done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make_commit(
    bare: Path,
    files: Mapping[str, tuple[str, bytes]],
    *,
    raw: bytes = b"",
    parents: Sequence[str] = (),
) -> str:
    """Make a commit of files (mode and content), or of a raw tree object, and its repository."""

    def run(*arguments: str, content: bytes = b"") -> str:
        env = {**os.environ, **dict.fromkeys(("GIT_CONFIG_GLOBAL",), os.devnull)}
        env |= {
            f"GIT_{who}_{what}": "x@invalid"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        command = ["git", f"--git-dir={bare}", *arguments]
        done = subprocess.run(command, input=content, env=env, capture_output=True, check=True)
        return done.stdout.decode().strip()

    bare.mkdir(parents=True, exist_ok=True)
    run("init", "--quiet", "--bare", "--initial-branch=main")
    for path, (mode, content) in files.items():
        name = (
            content.decode()
            if mode == "160000"
            else run("hash-object", "-w", "--stdin", content=content)
        )
        run("update-index", "--add", "--cacheinfo", f"{mode},{name},{path}")
    write = ("hash-object", "-w", "-t", "tree", "--literally", "--stdin")
    tree = run(*write, content=raw) if raw else run("write-tree")
    commit = run("commit-tree", tree, "-m", "one", *(f"-p{parent}" for parent in parents))
    run("update-ref", "refs/heads/main", commit)
    return commit


def test_a_staged_extension_has_the_files_of_its_commit_and_submodules(
    tmp_path: Path, git_url: str, commits: dict[str, str]
) -> None:
    folder = staged(checkout(tmp_path / "checkout", git_url, MAIN), tmp_path / "out")
    extension = folder / "sd-webui-standin"
    for path in ("install.py", "scripts/standin.py", "requirements.txt"):
        assert (extension / path).read_bytes() == (FILES / path).read_bytes()
    phrases = SOURCES[1] / PHRASES / "phrases.ini"
    assert (extension / "phrases" / "phrases.ini").read_bytes() == phrases.read_bytes()
    [baked] = read_extensions(folder / "extensions.json")
    assert baked.repo == f"https://github.com/{EXTENSION}"
    assert (baked.name, baked.branch) == ("sd-webui-standin", "main")
    assert (baked.commit, baked.submodules) == (commits[EXTENSION], {"phrases": commits[PHRASES]})


def test_git_knows_branch_commit_and_remote_of_a_staged_extension(
    tmp_path: Path, git_url: str, commits: dict[str, str]
) -> None:
    entry = {"repo": EXTENSION, "commit": commits[EXTENSION]}
    folder = staged(checkout(tmp_path / "checkout", git_url, entry), tmp_path / "out")
    extension = folder / "sd-webui-standin"
    assert git(extension, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert git(extension, "log", "--format=%H %s") == f"{commits[EXTENSION]} first"
    assert git(extension, "remote", "get-url", "origin") == f"https://github.com/{EXTENSION}"


def test_two_machines_stage_the_same_bytes_modes_and_times(tmp_path: Path, git_url: str) -> None:
    def facts(folder: Path) -> dict[str, tuple[int, float, bytes]]:
        found = {}
        for path in sorted(folder.rglob("*")):
            stat = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            found[str(path.relative_to(folder))] = (stat.st_mode, stat.st_mtime, content)
        return found

    first, second = (
        facts(staged(checkout(tmp_path / name, git_url, MAIN), tmp_path / f"{name}-out"))
        for name in ("one", "two")
    )
    assert first == second
    assert any("scripts/standin.py" in path for path in first)


def test_a_stored_extension_needs_no_network(
    tmp_path: Path, git_root: tuple[Path, dict[str, str]]
) -> None:
    with serving(git_root[0]) as url:
        root = checkout(tmp_path / "checkout", url, {**MAIN, "commit": git_root[1][EXTENSION]})
        first = States()
        staged(root, tmp_path / "first", first)
    second = States()
    staged(root, tmp_path / "second", second)
    assert first.seen["sd-webui-standin"][0] == "fetching"
    assert first.seen["sd-webui-standin"][-1] == "fetched"
    assert second.seen == {"sd-webui-standin": []}


def test_a_fetch_that_breaks_once_is_repeated(
    tmp_path: Path, git_root: tuple[Path, dict[str, str]]
) -> None:
    server = GitServer(git_root[0])
    asked = []

    class BreaksOnce(server.RequestHandlerClass):  # type: ignore[name-defined,misc]  # made above
        def do_POST(self) -> None:  # noqa: N802 - http.server's own name
            asked.append(self.path)
            if len(asked) == 1:
                self.drain()
                self.answer(503, b"", {})
            else:
                super().do_POST()

    server.RequestHandlerClass = BreaksOnce
    entry = {"repo": EXTENSION, "commit": git_root[1][EXTENSION]}
    with running(server):
        folder = staged(checkout(tmp_path / "checkout", server.url, entry), tmp_path / "out")
    assert (folder / "sd-webui-standin" / "install.py").exists()
    assert len(asked) > 1


def pinnable(root: Path, commits: dict[str, str]) -> LoadedConfig:
    """Load a checkout of which only the extensions need a look-up."""
    sources = loaded_from(root).config.a1111.sources
    define = [
        f"a1111.sources.{name}.commit={commits[source.repo]}" for name, source in sources.items()
    ]
    return loaded_from(root, "models=[]", *define)


def test_pin_locks_the_commit_of_a_branch(
    tmp_path: Path, git_url: str, commits: dict[str, str]
) -> None:
    root = checkout(tmp_path / "checkout", git_url, MAIN)
    changes = pin_network([pinnable(root, commits)])
    assert f"source {EXTENSION}@main: new, {commits[EXTENSION]}" in changes
    assert read_lock(root).sources[f"{EXTENSION}@main"] == commits[EXTENSION]
    assert pin_network([pinnable(root, commits)], check=True) == ()
    assert resolve(loaded_from(root)).extensions[0].commit == commits[EXTENSION]


def test_pin_check_sees_a_branch_that_moved_and_a_submodule_that_is_gone(
    tmp_path: Path, git_root: tuple[Path, dict[str, str]], git_url: str
) -> None:
    inner = git_root[0] / "moving" / "inner"
    link = make_commit(inner, {"f": ("100644", b"")}).encode()
    modules = b'[submodule "s"]\npath = s\nurl = ../inner\n'
    files = {"s": ("160000", link), ".gitmodules": ("100644", modules)}
    first = make_commit(git_root[0] / "moving" / "outer", files)
    entry = {"repo": "moving/outer", "commit": "main"}
    root = checkout(tmp_path / "checkout", git_url, entry)
    pin_network([pinnable(root, git_root[1])])
    more = {**files, "more": ("100644", b"")}
    second = make_commit(git_root[0] / "moving" / "outer", more, parents=[first])
    [change] = pin_network([pinnable(root, git_root[1])], check=True)
    assert change == f"source moving/outer@main: was {first}, is {second}"
    inner.rename(inner.with_name("elsewhere"))
    error = user_error(pin_network, [pinnable(root, git_root[1])], check=True)
    assert "moving/inner" in error.location


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"repo": EXTENSION, "commit": "no-branch"}, "there is no branch or tag no-branch"),
        ({"repo": EXTENSION, "commit": "0" * 40}, "git: "),
        ({"repo": "no/where"}, "git: "),
    ],
)
def test_a_commit_that_cannot_be_had_is_named(
    tmp_path: Path, git_url: str, entry: dict[str, Any], expected: str
) -> None:
    root = checkout(tmp_path / "checkout", git_url, entry)
    assert expected in str(user_error(staged, root, tmp_path / "out"))


def test_a_file_in_git_lfs_is_refused_until_a_model_takes_its_place(
    tmp_path: Path, git_root: tuple[Path, dict[str, str]], git_url: str
) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64
    files = {"weights/net.pth": ("100644", pointer + b"\nsize 999\n"), "a.py": ("100644", b"")}
    make_commit(git_root[0] / "o" / "large", files)
    root = checkout(tmp_path / "checkout", git_url, {"repo": "o/large"})
    assert "Git LFS pointers of weights/net.pth" in str(user_error(staged, root, tmp_path / "out"))
    model = {"name": "net", "source": {"url": "https://host.invalid/net.pth"}, "allow_pickle": True}
    entry = {"repo": "o/large", "models": [{**model, "path": "weights/net.pth"}]}
    folder = staged(checkout(tmp_path / "other", git_url, entry), tmp_path / "out")
    assert sorted(path.name for path in (folder / "large").iterdir()) == [".git", "a.py"]


def entry_of(mode: bytes, name: bytes, blob: str) -> bytes:
    """Return one row of a raw tree object."""
    return mode + b" " + name + b"\0" + bytes.fromhex(blob)


EMPTY_BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


@pytest.mark.parametrize(
    ("name", "files", "raw", "expected"),
    [
        ("dots", {}, entry_of(b"100644", b"..", EMPTY_BLOB), "has the path '..'"),
        ("git", {}, entry_of(b"100644", b".GIT", EMPTY_BLOB), "has the path '.GIT'"),
        ("out", {"a": ("120000", b"../../etc/passwd")}, b"", "a is a link out of its folder"),
        ("root", {"d/a": ("120000", b"/etc/passwd")}, b"", "d/a is a link out of its folder"),
        (
            "module",
            {
                "s": ("160000", b"1" * 40),
                ".gitmodules": ("100644", b'[submodule "s"]\npath = s\nurl = ext::sh -c x\n'),
            },
            b"",
            "address of a submodule cannot be used",
        ),
        (
            "local",
            {
                "s": ("160000", b"1" * 40),
                ".gitmodules": ("100644", b'[submodule "s"]\npath = s\nurl = file:///etc\n'),
            },
            b"",
            "file is not https, http or ssh",
        ),
    ],
)
def test_a_repository_that_reaches_out_of_its_folder_is_refused(
    tmp_path: Path,
    git_root: tuple[Path, dict[str, str]],
    git_url: str,
    name: str,
    files: Mapping[str, tuple[str, bytes]],
    raw: bytes,
    expected: str,
) -> None:
    make_commit(git_root[0] / "evil" / name, {**files, "empty": ("100644", b"")}, raw=raw)
    root = checkout(tmp_path / "checkout", git_url, {"repo": f"evil/{name}"})
    assert expected in str(user_error(staged, root, tmp_path / "out"))


def test_links_and_programs_stay_what_they_are(
    tmp_path: Path, git_root: tuple[Path, dict[str, str]], git_url: str
) -> None:
    files = {
        "d/run.sh": ("100755", b"#!/bin/sh\r\n"),
        "link": ("120000", b"d/run.sh"),
        ".gitattributes": ("100644", b"*.sh text eol=lf\n"),
    }
    make_commit(git_root[0] / "o" / "links", files)
    folder = staged(checkout(tmp_path / "checkout", git_url, {"repo": "o/links"}), tmp_path / "out")
    assert (folder / "links" / "link").readlink() == Path("d/run.sh")
    assert os.access(folder / "links" / "d" / "run.sh", os.X_OK)
    assert (folder / "links" / "d" / "run.sh").read_bytes() == b"#!/bin/sh\r\n"


def test_prune_keeps_extensions_of_the_config_only(
    tmp_path: Path, git_url: str, commits: dict[str, str]
) -> None:
    entry = {"repo": EXTENSION, "commit": commits[EXTENSION]}
    root = checkout(tmp_path / "checkout", git_url, entry)
    staged(root, tmp_path / "out")
    store = store_of(root)
    assert find_unused(loaded_from(root), store) == []
    [checked] = verify_objects(store)
    assert (checked.models, checked.damage) == (("sd-webui-standin",), "")
    checkout(root, git_url)
    unused = find_unused(loaded_from(root), store)
    assert len(unused) == 2
    delete(each.path for each in unused)
    assert list(store.objects()) == []


def test_a_damaged_archive_is_not_used(
    tmp_path: Path, git_url: str, commits: dict[str, str]
) -> None:
    root = checkout(
        tmp_path / "checkout", git_url, {"repo": EXTENSION, "commit": commits[EXTENSION]}
    )
    staged(root, tmp_path / "first")
    [archive] = store_of(root).objects()
    archive.chmod(0o644)
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    assert user_error(staged, root, tmp_path / "second").code == "model-damaged"
