"""`invoke pin` with a git host, a Hub and a file server on loopback."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.build.inputs import resolve
from scripts.host.config.load import ROOT, LoadedConfig, load
from scripts.host.config.lock import LOCK_NAME, read_lock
from scripts.host.pin.pin_network import pin_network
from tests.support.checkout import prefetched
from tests.support.errors import user_error
from tests.support.git_server import RELEASES, WEBUI, repositories, serving
from tests.support.hub import commit_of, hub
from tests.support.running import error_line, invoke
from tests.support.serving import Server, running

DIGEST = "sha256:" + "0" * 64
CHECKPOINT_REPO, CHECKPOINT_FILE = "owner/checkpoint", "weights.safetensors"
TOKENIZER_REPO = "openai/clip-vit-large-patch14"


class _Files(SimpleHTTPRequestHandler):
    """A plain file server that logs nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@dataclass(frozen=True)
class World:
    """A checkout and the servers it uses.

    Args:
        root: the checkout.
        git: folder of bare repositories, as owner/name.
        hub: folder of Hub repositories, as owner/repo.
        files: folder behind `url`.
        url: address of a plain file server.
        commits: of each git repository.
    """

    root: Path
    git: Path
    hub: Path
    files: Path
    url: str
    commits: dict[str, str]

    def configure(self, tree: dict[str, Any]) -> None:
        """Write the named config; JSON is YAML."""
        (self.root / "config.local.yaml").write_text(json.dumps(tree))

    def variants(self, *names: str) -> list[LoadedConfig]:
        """Load some variants, or all."""
        chosen = names or tuple(load(root=self.root).config.variants)
        return [load(name, root=self.root) for name in chosen]


@pytest.fixture(scope="module")
def git_host(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, str, dict[str, str]]]:
    root = tmp_path_factory.mktemp("git")
    commits = repositories(root)
    with serving(root) as url:
        yield root, url, commits


@pytest.fixture
def world(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    git_host: tuple[Path, str, dict[str, str]],
) -> Iterator[World]:
    for name in ("IMAGE_CONFIG", "MODELS_STORE", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    git, git_url, commits = git_host
    root, models, files = tmp_path / "checkout", tmp_path / "hub", tmp_path / "files"
    for folder in (root, files, models / TOKENIZER_REPO):
        folder.mkdir(parents=True)
    write_checkpoint(models / CHECKPOINT_REPO / CHECKPOINT_FILE)
    for name in ("config.json", "vocab.json"):
        (models / TOKENIZER_REPO / name).write_text(f'{{"{name}": 1}}')
    (root / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    handler = partial(_Files, directory=str(files))
    with hub(models) as hub_server, running(Server(("127.0.0.1", 0), handler)) as plain:
        made = World(root, git, models, files, plain.url, commits)
        made.configure(_config(made, git_url, hub_server.url))
        yield made


def _config(world: World, git_url: str, hub_url: str) -> dict[str, Any]:
    """Return a config without commits, and with digests of both bases: no engine is needed."""
    names = load(root=world.root).config.a1111.sources
    return {
        "base": {"download": f"a/b@{DIGEST}", "runtime": f"c/d@{DIGEST}"},
        "a1111": {"sources": {name: {"commit": None} for name in names}},
        "mirrors": {"github": git_url, "huggingface": hub_url},
        "models": [
            {
                "name": "checkpoint",
                "source": {"hub": CHECKPOINT_REPO, "file": CHECKPOINT_FILE},
                "path": "/model.safetensors",
            },
            {
                "name": "tokenizer",
                "source": {"hub": TOKENIZER_REPO, "files": ["config.json", "vocab.json"]},
                "path": "/opt/huggingface/hub",
                "layout": "hub-cache",
            },
        ],
        "variants": {
            "cuda128": {},
            "a1111-v1.10.1": {"a1111": {"release": "v1.10.1"}},
            "cpu": {},
            "sdxl": {"features": ["previews"]},  # the tokenizer is another one here
        },
    }


def _configured(world: World, **changes: Any) -> None:
    tree = json.loads((world.root / "config.local.yaml").read_text())
    world.configure(tree | changes)


def write_checkpoint(path: Path, content: bytes = b"one") -> Path:
    """Write the smallest complete safetensors file with a content."""
    tensor = {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]}
    header = json.dumps({"t": tensor}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(header).to_bytes(8, "little") + header + content)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def in_git(repository: Path, *arguments: str) -> str:
    answer = subprocess.run(
        ["git", f"--git-dir={repository}", *arguments], capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()


def test_releases_are_pinned_to_the_commits_of_their_tags(
    world: World,
) -> None:
    pin_network(world.variants())
    sources = read_lock(world.root).sources
    assert sources[f"{WEBUI}@{RELEASES[0]}"] == world.commits[WEBUI]
    tip = in_git(world.git / WEBUI, "rev-parse", f"{RELEASES[1]}^{{commit}}")
    assert sources[f"{WEBUI}@{RELEASES[1]}"] == tip
    assert sources["openai/CLIP@HEAD"] == world.commits["openai/CLIP"]


def test_hub_models_are_pinned_to_commit_checksum_and_size(
    world: World,
) -> None:
    pin_network(world.variants("cuda128"))
    models = read_lock(world.root).models
    checkpoint, path = models["checkpoint"], world.hub / CHECKPOINT_REPO / CHECKPOINT_FILE
    assert checkpoint.source == f"hub:{CHECKPOINT_REPO}@main"
    assert checkpoint.revision == commit_of(world.hub / CHECKPOINT_REPO)
    assert checkpoint.files[CHECKPOINT_FILE].sha256 == sha256(path)
    assert checkpoint.files[CHECKPOINT_FILE].size == path.stat().st_size
    small = world.hub / TOKENIZER_REPO / "vocab.json"
    assert models["tokenizer"].files["vocab.json"].sha256 == sha256(small)


def test_file_of_a_plain_url_is_measured_and_kept_in_the_store(world: World) -> None:
    file = write_checkpoint(world.files / "some model.safetensors")
    url = f"{world.url}/some%20model.safetensors"
    source = {"name": "plain", "source": {"url": url}, "path": "/model.safetensors"}
    _configured(world, models=[source])
    pin_network(world.variants("cuda128"))
    locked = read_lock(world.root).models["plain"]
    assert locked.source == url
    assert locked.files["some model.safetensors"].sha256 == sha256(file)
    kept = world.root / "models" / "objects" / sha256(file)[:2] / sha256(file)
    assert kept.read_bytes() == file.read_bytes()


def test_local_file_is_measured(world: World) -> None:
    file = write_checkpoint(world.files / "mine.safetensors")
    source = {"name": "mine", "source": {"url": file.as_uri()}, "path": "/model.safetensors"}
    _configured(world, models=[source])
    pin_network(world.variants("cuda128"))
    assert read_lock(world.root).models["mine"].files["mine.safetensors"].sha256 == sha256(file)


@pytest.mark.parametrize(("key", "said"), [("sha256", "0" * 64), ("size", 7)])
def test_model_that_differs_from_config_is_refused(world: World, key: str, said: object) -> None:
    [checkpoint, _] = json.loads((world.root / "config.local.yaml").read_text())["models"]
    _configured(world, models=[checkpoint | {key: said}])
    with pytest.raises(UserError, match=f"config.yaml says {key} {said}, the source has"):
        pin_network(world.variants("cuda128"))
    assert not (world.root / LOCK_NAME).exists()


def test_missing_pinned_commit_fails_and_writes_nothing(world: World) -> None:
    gone = "f" * 40
    _pin_blip(world, gone)
    with pytest.raises(UserError, match=rf"git: .*{gone}.*salesforce/BLIP"):
        pin_network(world.variants("cuda128"))
    assert not (world.root / LOCK_NAME).exists()


def test_commit_in_config_gets_no_entry_in_the_lock(world: World) -> None:
    _pin_blip(world, world.commits["salesforce/BLIP"])
    pin_network(world.variants("cuda128"))
    assert not [name for name in read_lock(world.root).sources if "BLIP" in name]


def _pin_blip(world: World, commit: str) -> None:
    tree = json.loads((world.root / "config.local.yaml").read_text())
    tree["a1111"]["sources"]["blip"]["commit"] = commit
    world.configure(tree)


def test_everything_that_cannot_be_pinned_is_shown(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    (world.hub / CHECKPOINT_REPO / CHECKPOINT_FILE).unlink()
    (world.hub / TOKENIZER_REPO / "config.json").unlink()
    error = user_error(pin_network, world.variants("cuda128"))
    said = f"{capsys.readouterr().err}{error}"
    assert CHECKPOINT_FILE in said
    assert "config.json" in said


def test_nothing_is_unpinned_after_a_pin(world: World) -> None:
    assert resolve(*world.variants("cuda128")).unpinned
    pin_network(world.variants())
    assert {resolve(loaded).unpinned for loaded in world.variants()} == {()}


def test_check_passes_after_a_pin(world: World) -> None:
    pin_network(world.variants())
    assert pin_network(world.variants(), check=True) == ()


def test_check_keeps_the_locked_day_and_a_pin_takes_a_later_one(world: World) -> None:
    pin_network(world.variants())
    lock = world.root / LOCK_NAME
    day = str(read_lock(world.root).snapshot)
    lock.write_text(lock.read_text().replace(day, "20200101T000000Z"))
    assert pin_network(world.variants(), check=True) == ()
    [line] = pin_network(world.variants())
    assert line == f"system packages: was of 20200101T000000Z, is of {day}"


def test_check_shows_changes_and_keeps_the_lock(world: World) -> None:
    pin_network(world.variants())
    before = (world.root / LOCK_NAME).read_bytes()
    write_checkpoint(world.hub / CHECKPOINT_REPO / CHECKPOINT_FILE, b"another")
    [line] = pin_network(world.variants(), check=True)
    assert line.startswith("model checkpoint: was ")
    assert commit_of(world.hub / CHECKPOINT_REPO) in line
    assert (world.root / LOCK_NAME).read_bytes() == before


def test_check_before_the_first_pin_shows_new_pins(world: World) -> None:
    lines = pin_network(world.variants("cuda128"), check=True)
    assert any(line.startswith("model checkpoint: new, ") for line in lines)
    assert not (world.root / LOCK_NAME).exists()


def test_pin_of_one_variant_keeps_the_pins_of_others(world: World) -> None:
    pin_network(world.variants())
    pin_network(world.variants("a1111-v1.10.1"), partly=True)
    assert f"{WEBUI}@{RELEASES[0]}" in read_lock(world.root).sources


def test_full_pin_removes_unused_pins(world: World) -> None:
    pin_network(world.variants())
    lines = pin_network(world.variants("cuda128"))
    assert lines == (f"source {WEBUI}@{RELEASES[1]}: no longer named in config.yaml",)


def test_one_model_name_for_two_files_is_refused(world: World) -> None:
    one, other = world.variants("cuda128", "cpu")
    [first, *rest] = other.config.models
    other_file = first.model_copy(update={"size": 1})
    config = other.config.model_copy(update={"models": (other_file, *rest)})
    with pytest.raises(
        UserError, match="two variants use the name checkpoint for different model files"
    ):
        pin_network([one, replace(other, config=config)])


def test_release_tag_at_another_commit_gives_a_warning(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    webui = {"a1111.sources.webui.commit": world.commits[WEBUI]}  # that of RELEASES[0]
    define = [f"{key}={value}" for key, value in webui.items()]
    pin_network([load(define=[*define, f"a1111.release={RELEASES[0]}"], root=world.root)])
    assert "warning" not in capsys.readouterr().err
    pin_network([load(define=[*define, f"a1111.release={RELEASES[1]}"], root=world.root)])
    tip = in_git(world.git / WEBUI, "rev-parse", f"{RELEASES[1]}^{{commit}}")
    said = capsys.readouterr().err
    assert f"a1111.release {RELEASES[1]} is {tip}, but {world.commits[WEBUI]} is built" in said
    pin_network([load(define=[*define, "a1111.release=v0"], root=world.root)])
    assert "warning: there is no tag v0" in capsys.readouterr().err


def test_what_may_be_secret_in_an_address_is_never_shown(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(world.files / "m.safetensors")
    address = f"{world.url}/m.safetensors?v=opensesame"
    model = {"name": "m", "source": {"url": address}, "path": "/model.safetensors"}
    _configured(world, models=[model])
    said = pin_network(world.variants("cuda128"))
    with pytest.raises(UserError):
        pin_network(
            [load(define=["mirrors.github=http://u:opensesame@127.0.0.1:9"], root=world.root)]
        )
    assert "opensesame" not in "".join([*said, *capsys.readouterr()])


def test_two_partial_pins_both_arrive(world: World) -> None:
    one, other = world.variants("cuda128"), world.variants("a1111-v1.10.1")
    pin_network(one, partly=True)
    pin_network(other, partly=True)  # its config was read when there was no lock
    assert {f"{WEBUI}@{release}" for release in RELEASES} <= read_lock(world.root).sources.keys()


def test_interrupt_ends_a_pin_and_keeps_the_lock(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, answers none
        port = silent.getsockname()[1]
        _pin_blip(world, world.commits["salesforce/BLIP"])
        mirrors = json.loads((world.root / "config.local.yaml").read_text())["mirrors"]
        _configured(world, mirrors=mirrors | {"github": f"http://127.0.0.1:{port}"})
        program = (
            "import sys; from pathlib import Path; from scripts.host.config.load import load;"
            "from scripts.host.pin.pin_network import pin_network\n"
            "pin_network([load(root=Path(sys.argv[1]))])"
        )
        pin = subprocess.Popen(
            [sys.executable, "-c", program, str(world.root)],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
            # As at a terminal: what runs in the background of a script inherits that it is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        silent.settimeout(30)
        held, _ = silent.accept()
        with held:
            pin.send_signal(signal.SIGINT)
            pin.wait(timeout=10)
    assert pin.returncode != 0
    assert not (world.root / LOCK_NAME).exists()


@pytest.mark.parametrize("size", [7, 10**6])
def test_size_alone_is_verified(world: World, size: int) -> None:
    [checkpoint, _] = json.loads((world.root / "config.local.yaml").read_text())["models"]
    _configured(world, models=[checkpoint | {"size": size}])
    with pytest.raises(UserError, match=r"wrong-bytes"):
        prefetched(world.root)


def test_upgrade_needs_python() -> None:
    error = error_line(invoke("pin", "--upgrade"))
    assert error == "error: only packages are upgraded: --upgrade\nhint: add --python"


def test_invoke_pin_check_fails_and_lists_the_changes(world: World, tmp_path: Path) -> None:
    config, store = world.root / "config.local.yaml", str(tmp_path / "store")
    answer = invoke("pin", "--check", "--variant", "cpu", config=config, MODELS_STORE=store)
    assert "model checkpoint: " in answer.stdout
    assert "invoke pin" in error_line(answer)
