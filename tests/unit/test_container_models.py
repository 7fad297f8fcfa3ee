"""The tree of models: what is found where, which of one name is used, and how it is linked."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.spec import ArtifactSpec
from scripts.common.fetch.volume_models import as_json
from scripts.common.models import folder_listing
from scripts.container import paths
from scripts.container.__main__ import main as worker
from scripts.container.preflight.preflight_facts import gather_facts
from scripts.container.settings import VARIABLES, Settings
from scripts.container.webui.flags import webui_command
from scripts.container.webui.model_check import check_models, find_release
from scripts.container.webui.model_links import link_models, prepare_models, read_own_links
from scripts.container.webui.model_tree import ModelTree, build_model_tree, load_tree
from scripts.container.webui.webui_options import apply_options, options_path, record_path
from scripts.host.config.load import ROOT
from scripts.host.worker_command import run_in_worker
from tests.support.namespaces import needs_namespaces, run_with_mount
from tests.support.safetensors import write_safetensors


class World:
    """A volume, an image and a data folder below a temporary folder."""

    def __init__(self, tmp: Path) -> None:
        self.tmp, self.volume, self.image = tmp, tmp / "volume", tmp / "image"
        self.data, self.pod = tmp / "worker" / "data", tmp / "pod"
        self.environment = {
            "VOLUME_DIR": str(self.volume),
            "POD_VOLUME_DIR": str(self.pod),
            "IMAGE_MODELS": str(self.image),
            "WEBUI_DIR": str(tmp / "webui"),
            "WORKER_DIR": str(tmp / "worker"),
            "VOLUME_MODELS": str(tmp / "volume-models.json"),
        }

    def settings(self, **environment: str) -> Settings:
        return Settings.from_environment({**self.environment, **environment})

    def tree(self, **environment: str) -> ModelTree:
        return build_model_tree(self.settings(**environment), read_own_links(self.data))

    def start(self, **environment: str) -> ModelTree:
        """Do what a worker does before it starts the WebUI."""
        return prepare_models(self.settings(**environment))

    def seen(self) -> dict[str, str]:
        """The files that the WebUI can read below its data folder, with their content."""
        found = [Path(folder, name) for folder, _, names in os.walk(self.data) for name in names]
        return {
            str(path.relative_to(self.data)): path.read_text()
            for path in found
            if path.name != "model-links.json"
        }


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text or str(path))
    return path


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def shown(tree: ModelTree) -> dict[str, tuple[str, str]]:
    """Kind and rule by name, of the models that are seen."""
    return {entry.name: (entry.kind, entry.rule) for entry in tree.visible}


LAYOUTS = {
    "models/lora/a.safetensors": ("lora", "worker", "models/Lora/a.safetensors"),
    "models/upscaler/SwinIR/b.pth": ("upscaler", "worker", "models/SwinIR/b.pth"),
    "models/upscaler/swinir/b2.pth": ("upscaler", "worker", "models/SwinIR/b2.pth"),
    "models/upscaler/c.pth": ("upscaler", "worker", "models/ESRGAN/c.pth"),
    "models/other/insightface/d.onnx": ("other", "worker", "models/insightface/d.onnx"),
    "models/Lora/style/e.pt": ("lora", "a1111", "models/Lora/style/e.pt"),
    "embeddings/f.pt": ("embedding", "a1111", "embeddings/f.pt"),
    "models/VAE-approx/vaeapprox-sdxl.pt": (
        "other",
        "a1111",
        "models/VAE-approx/vaeapprox-sdxl.pt",
    ),
    "models/CLIP/ViT-L-14.pt": ("other", "a1111", "models/CLIP/ViT-L-14.pt"),
    "stable-diffusion-webui/models/Stable-diffusion/photo/g.ckpt": (
        "checkpoint",
        "a1111",
        "models/Stable-diffusion/photo/g.ckpt",
    ),
    "stable-diffusion-webui/models/Stable-diffusion/g.vae.pt": (
        "vae",
        "a1111",
        "models/Stable-diffusion/g.vae.pt",
    ),
    "stable-diffusion-webui/models/GFPGAN/GFPGANv1.4.pth": (
        "face-restoration",
        "a1111",
        "models/GFPGAN/GFPGANv1.4.pth",
    ),
    "stable-diffusion-webui/models/BLIP/h.pth": ("interrogate", "a1111", "models/BLIP/h.pth"),
    "stable-diffusion-webui/models/mine/i.onnx": ("other", "a1111", "models/mine/i.onnx"),
    "stable-diffusion-webui/embeddings/j.safetensors": (
        "embedding",
        "a1111",
        "embeddings/j.safetensors",
    ),
    "ComfyUI/models/checkpoints/k.safetensors": (
        "checkpoint",
        "comfyui",
        "models/Stable-diffusion/k.safetensors",
    ),
    "models/loras/l.safetensors": ("lora", "comfyui", "models/Lora/l.safetensors"),
    "models/upscale_models/m.pth": ("upscaler", "comfyui", "models/ESRGAN/m.pth"),
    "models/embeddings/n.pt": ("embedding", "comfyui", "embeddings/n.pt"),
    "ComfyUI/models/controlnet/o.safetensors": (
        "controlnet",
        "comfyui",
        "models/ControlNet/o.safetensors",
    ),
}


@pytest.mark.parametrize("mount", ["volume", "pod"])
def test_models_of_every_layout_are_linked_under_both_mounts(world: World, mount: str) -> None:
    volume = getattr(world, mount)
    for path in LAYOUTS:
        write(volume / path)
    tree = world.start()
    assert tree.problems == ()
    found = {entry.path: (entry.kind, entry.rule, entry.place) for entry in tree.visible}
    assert found == {str(volume / path): row for path, row in LAYOUTS.items()}
    assert world.seen() == {row[2]: str(volume / path) for path, row in LAYOUTS.items()}


def test_other_files_are_no_models(world: World) -> None:
    for path in (
        "models/lora/readme.md",
        "models/lora/.hidden.safetensors",
        "models/lora/.cache/a.safetensors",
        "models/llm/big.safetensors",
        "models/checkpoint/half.safetensors.partial",
        "models/hypernetwork/b.safetensors",
        "stable-diffusion-webui/models/Lora/Put Lora here.txt",
    ):
        write(world.volume / path)
    assert world.start().entries == ()
    assert not world.data.exists()


def test_image_and_volume_models_are_seen_together(world: World) -> None:
    write(world.image / "models/Lora/image.safetensors")
    write(world.image / "models/VAE-approx/approx.pt")
    write(world.image / "models/BLIP/notes.txt")
    write(world.tmp / "webui/models/Lora/beside-the-webui.pt")
    write(world.tmp / "webui/models/karlo/ViT-L-14_stats.th")
    write(world.volume / "models/lora/volume.safetensors")
    tree = world.start()
    assert shown(tree) == {
        "image.safetensors": ("lora", "image"),
        "beside-the-webui.pt": ("lora", "image"),
        "volume.safetensors": ("lora", "worker"),
        "VAE-approx/approx.pt": ("other", "image"),
        "models/BLIP/notes.txt": ("other", "image"),
    }
    assert set(world.seen()) == {
        "models/Lora/image.safetensors",
        "models/Lora/beside-the-webui.pt",
        "models/Lora/volume.safetensors",
        "models/VAE-approx/approx.pt",
        "models/BLIP/notes.txt",
    }


def test_a_volume_model_shadows_the_images_with_its_companions(world: World) -> None:
    image = write(world.image / "models/Lora/x.safetensors")
    write(world.image / "models/Lora/x.json", "of the image")
    volume = write(world.volume / "models/lora/x.pt")
    write(world.volume / "models/lora/x.txt", "of the volume")
    write(world.volume / "models/lora/y.yaml", "of no model")
    tree = world.start()
    assert {entry.path: entry.shadowed_by for entry in tree.entries} == {
        str(volume): "",
        str(image): str(volume),
    }
    assert world.seen() == {
        "models/Lora/x.pt": str(volume),
        "models/Lora/x.txt": "of the volume",
    }


def test_of_two_volumes_and_layouts_the_first_is_used(world: World) -> None:
    paths = [
        world.volume / "models/vae/x.safetensors",
        world.volume / "models/VAE/sub/x.safetensors",
        world.volume / "stable-diffusion-webui/models/VAE/x.safetensors",
        world.volume / "ComfyUI/models/vae/x.safetensors",
        world.pod / "models/vae/x.safetensors",
        world.image / "models/VAE/x.safetensors",
    ]
    for path in paths:
        write(path)
    for number, path in enumerate(paths):
        (used,) = world.tree().visible
        assert used.path == str(path), f"place {number}"
        path.unlink()


def test_of_two_loras_in_one_folder_the_webuis_choice_is_used(world: World) -> None:
    """A1111 keeps the last in the order of folders, numbers by value."""
    for name in ("a9/x.safetensors", "a10/x.safetensors"):
        write(world.volume / "models/lora" / name)
    (used,) = world.start().visible
    assert used.name == "a10/x.safetensors"


def test_checkpoints_in_two_folders_may_have_one_file_name(world: World) -> None:
    for name in ("a/model.safetensors", "b/model.safetensors"):
        write(world.volume / "models/checkpoint" / name)
    assert set(shown(world.tree(MODEL_PATH="a/model.safetensors"))) == {
        "a/model.safetensors",
        "b/model.safetensors",
    }


def test_a_preview_is_no_embedding_and_an_image_alone_is(world: World) -> None:
    for name in ("x.pt", "x.png", "y.preview.png", "z.png"):
        write(world.volume / "embeddings" / name)
    assert set(shown(world.tree())) == {"x.pt", "z.png"}


def test_a_second_mount_of_the_same_volume_adds_nothing(world: World) -> None:
    write(world.volume / "models/lora/x.safetensors")
    world.pod.symlink_to(world.volume)
    (entry,) = world.tree().entries
    assert not entry.shadowed_by


def test_linked_folders_are_followed_and_loops_end(world: World) -> None:
    elsewhere = write(world.tmp / "elsewhere/a/x.safetensors").parent.parent
    loras = world.volume / "models/lora"
    loras.mkdir(parents=True)
    (loras / "more").symlink_to(elsewhere)
    (loras / "self").symlink_to(loras)
    (elsewhere / "back").symlink_to(loras)
    (loras / "ring").symlink_to(loras / "ring")
    write(loras / "y.safetensors")
    tree = world.start()
    assert set(shown(tree)) == {"more/a/x.safetensors", "y.safetensors"}
    assert [(problem.path, problem.reason) for problem in tree.problems] == [
        (loras / "ring", "too many levels of symbolic links")
    ]


def test_a_link_to_nothing_is_reported_and_the_rest_is_seen(world: World) -> None:
    write(world.volume / "models/lora/x.safetensors")
    (world.volume / "models/lora/gone.safetensors").symlink_to("/nowhere/gone.safetensors")
    tree = world.start()
    assert set(world.seen()) == {"models/Lora/x.safetensors"}
    (problem,) = tree.problems
    assert problem.reason == "a link to nothing"


def test_links_of_an_earlier_start_are_removed(world: World) -> None:
    old = write(world.volume / "models/lora/old.safetensors")
    image = write(world.image / "models/Lora/both.safetensors")
    world.start()
    old.unlink()
    volume = write(world.volume / "models/lora/both.safetensors")
    world.start()
    assert world.seen() == {"models/Lora/both.safetensors": str(volume)}
    assert not (world.data / "models/Lora/old.safetensors").is_symlink()
    volume.unlink()
    world.start()
    assert world.seen() == {"models/Lora/both.safetensors": str(image)}


def test_a_second_start_changes_nothing(world: World) -> None:
    write(world.volume / "models/lora/x.safetensors")
    first = world.start()
    link = world.data / "models/Lora/x.safetensors"
    before = link.lstat()
    assert world.start() == first
    assert link.lstat().st_ino == before.st_ino


def test_what_users_put_into_the_data_folder_is_never_touched(world: World) -> None:
    mine = write(world.data / "models/Lora/x.safetensors", "mine")
    my_link = world.data / "models/Lora/y.safetensors"
    my_link.symlink_to(write(world.tmp / "y", "also mine"))
    (world.data / "models/Lora/z.safetensors").mkdir()
    for name in ("x", "y", "z"):
        write(world.volume / f"models/lora/{name}.safetensors")
    write(world.data / "model-links.json", '{"models/Lora/y.safetensors": "/of/another/start"}')
    tree = world.start()
    assert mine.read_text() == "mine"
    assert not mine.is_symlink()
    assert my_link.read_text() == "also mine"
    rules = {entry.name: entry.rule for entry in tree.visible}
    assert rules["x.safetensors"] == rules["y.safetensors"] == "data-folder"
    (problem,) = tree.problems
    assert problem.reason == "something else has this name, so the model is not linked"


def test_nothing_is_written_through_a_link_out_of_the_data_folder(world: World) -> None:
    loras = write(world.volume / "my loras/x.safetensors").parent
    (world.data / "models").mkdir(parents=True)
    (world.data / "models/Lora").symlink_to(loras)
    write(world.image / "models/Lora/sub/y.safetensors")
    tree = world.start()
    assert shown(tree)["x.safetensors"] == ("lora", "data-folder")
    assert [path.name for path in loras.iterdir()] == ["x.safetensors"]
    (problem,) = tree.problems
    assert problem.reason == "leads out of the data folder, so no models are linked there"


def test_the_data_folder_may_be_an_install_on_the_volume(world: World) -> None:
    install = world.volume / "stable-diffusion-webui"
    lora = write(install / "models/Lora/x.safetensors")
    write(world.volume / "models/lora/y.safetensors")
    tree = world.start(DATA_DIR=str(install))
    assert {entry.name: entry.rule for entry in tree.entries} == {
        "x.safetensors": "data-folder",
        "y.safetensors": "worker",
    }
    assert not lora.is_symlink()
    assert (install / "models/Lora/y.safetensors").is_symlink()


def test_a_data_folder_on_a_volume_keeps_the_owners_of_its_files(world: World) -> None:
    data = world.pod / "stable-diffusion-webui"
    settings = world.settings(DATA_DIR=str(data))
    assert data not in paths.list_own_folders(settings)
    assert data not in paths.list_shared_folders(settings), "not made where nothing is mounted"
    world.pod.mkdir()
    assert data in paths.list_shared_folders(settings)
    assert world.data in paths.list_own_folders(world.settings())


def test_the_volume_stays_as_it_is(world: World) -> None:
    for path in LAYOUTS:
        write(world.volume / path)
    before = {path: path.lstat() for path in world.volume.rglob("*")}
    world.start()
    assert {path: path.lstat() for path in world.volume.rglob("*")} == before


def test_a_folder_that_cannot_be_read_is_reported_and_the_rest_is_seen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(world.volume / "models/lora/x.safetensors")
    stale = write(world.volume / "models/vae/y.safetensors").parent
    real = os.open

    def open_or_fail(path: Path, *arguments: Any, **options: Any) -> int:
        if path == stale:
            raise OSError(116, "Stale file handle")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", open_or_fail)
    tree = world.start()
    assert set(shown(tree)) == {"x.safetensors"}
    assert [(each.path, each.reason) for each in tree.problems] == [(stale, "stale file handle")]


def test_a_folder_that_vanishes_meanwhile_is_reported(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = write(world.volume / "models/lora/sub/x.safetensors").parent
    write(world.volume / "models/lora/y.safetensors")
    real = folder_listing.list_folder

    def list_and_remove(folder: Path) -> folder_listing.Listing:
        listing = real(folder)
        if folder == gone.parent:
            (gone / "x.safetensors").unlink()
            gone.rmdir()
        return listing

    monkeypatch.setattr(folder_listing, "list_folder", list_and_remove)
    tree = world.start()
    assert set(world.seen()) == {"models/Lora/y.safetensors"}
    assert [(each.path, each.reason) for each in tree.problems] == [(gone, "vanished meanwhile")]


def test_a_volume_that_does_not_answer_costs_its_models_and_the_time_limit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = write(world.volume / "models/lora/x.safetensors").parent
    write(world.image / "models/Lora/y.safetensors")
    real, never = folder_listing.list_folder, threading.Event()

    def list_or_wait(folder: Path) -> folder_listing.Listing:
        if folder == silent:
            never.wait()
        return real(folder)

    monkeypatch.setattr(folder_listing, "list_folder", list_or_wait)
    started = time.monotonic()
    tree = world.start(MODEL_SCAN_TIMEOUT="0.3")
    assert time.monotonic() - started < 5
    never.set()
    assert set(world.seen()) == {"models/Lora/y.safetensors"}
    assert [(each.path, each.reason) for each in tree.problems] == [(silent, "no answer in time")]


def test_slow_folders_are_listed_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(64):
        write(world.volume / f"models/lora/folder{number}/{number}.safetensors")
    calls, real = [], folder_listing.list_folder

    def list_slowly(folder: Path) -> folder_listing.Listing:
        calls.append(folder)
        time.sleep(0.05)
        return real(folder)

    monkeypatch.setattr(folder_listing, "list_folder", list_slowly)
    started = time.monotonic()
    assert len(world.tree().visible) == 64
    assert time.monotonic() - started < 1.5, "one after the other they take more than 3 s"
    assert len(calls) == len(set(calls))


FULL = """
import os, sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from scripts.container.settings import VARIABLES, Settings
from scripts.container.webui.model_links import prepare_models
data = Path(os.environ["DATA_DIR"])
data.mkdir(exist_ok=True)
try:
    (data / "fill").write_bytes(bytes(1 << 20))
except OSError:
    pass
tree = prepare_models(Settings.from_environment(os.environ))
print(len(tree.visible), {problem.reason for problem in tree.problems})
"""


@needs_namespaces
@pytest.mark.parametrize("options", ["size=16k", "ro", "nr_inodes=3"])
def test_a_full_or_read_only_data_folder_loses_links_only(world: World, options: str) -> None:
    """The images' and volumes' files stay; the worker itself refuses a folder that is read-only."""
    kept = write(world.volume / "models/lora/x.safetensors", "kept")
    data = world.tmp / "data"
    data.mkdir()
    environment = {**world.environment, "DATA_DIR": str(data), "PYTHONPATH": str(ROOT)}
    mount = f"mount -t tmpfs -o {options} tmpfs {data}"
    words = [f"{name}={value}" for name, value in environment.items()]
    run = run_with_mount(mount, ["env", *words, sys.executable, "-c", FULL])
    assert run.returncode == 0, run.stderr
    if options != "size=16k":  # links of this length need no block of their own
        assert "no space left on device" in run.stdout or "read-only file system" in run.stdout
        assert "event=model-problem" in run.stderr
    assert kept.read_text() == "kept"


@needs_namespaces
def test_a_read_only_volume_is_linked_without_a_problem(world: World) -> None:
    write(world.volume / "models/lora/x.safetensors")
    environment = {**world.environment, "DATA_DIR": str(world.data), "PYTHONPATH": str(ROOT)}
    world.data.mkdir(parents=True)
    words = [f"{name}={value}" for name, value in environment.items()]
    mount = f"mount --bind {world.volume} {world.volume} && mount -o remount,bind,ro {world.volume}"
    run = run_with_mount(mount, ["env", *words, sys.executable, "-c", FULL])
    assert run.stdout == "1 set()\n", run.stderr
    assert set(world.seen()) == {"fill", "models/Lora/x.safetensors"}


def test_the_checkpoint_of_the_start_is_named_by_path_file_or_stem(world: World) -> None:
    image = write(world.tmp / "model.safetensors")
    write(world.volume / "models/checkpoint/photo/x1.5.safetensors")
    linked = world.data / "models/Stable-diffusion/photo/x1.5.safetensors"
    for name in (
        str(world.volume / "models/checkpoint/photo/x1.5.safetensors"),
        "photo/x1.5.safetensors",
        "x1.5.safetensors",
        "x1.5",
    ):
        tree = world.start(MODEL_PATH=name)
        assert tree.checkpoint == linked
        assert linked.exists()
    tree = world.start(MODEL_PATH=str(image))
    assert tree.checkpoint == image
    command = webui_command(world.settings(), tree)
    assert command[command.index("--ckpt") + 1] == str(image)
    assert "--disable-safe-unpickle" in command


@pytest.fixture
def baked(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The image's own checkpoint."""
    path = write(world.tmp / "model.safetensors")
    variable = replace(VARIABLES["MODEL_PATH"], default=str(path))
    monkeypatch.setitem(VARIABLES, "MODEL_PATH", variable)
    return path


def test_jobs_may_still_choose_the_baked_checkpoint(world: World, baked: Path) -> None:
    other = write(world.volume / "models/checkpoint/x.safetensors")
    tree = world.start(MODEL_PATH="x")
    assert world.seen() == {
        "models/Stable-diffusion/model.safetensors": str(baked),
        "models/Stable-diffusion/x.safetensors": str(other),
    }
    assert tree.checkpoint.name == "x.safetensors"
    assert world.start(MODEL_PATH="model").checkpoint.read_text() == str(baked)
    assert world.start().checkpoint.read_text() == str(baked)


def test_preflight_reads_the_checkpoint_where_no_worker_has_linked_it(
    world: World, baked: Path
) -> None:
    settings = world.settings(CHECKPOINT_NAME="photo v3.safetensors", ACCELERATOR="cpu")
    facts = gather_facts(settings)
    assert (facts.model, facts.model_missing) == (str(baked), False)


@pytest.mark.parametrize("name", ["photo v3.safetensors", "art/photo v3.safetensors"])
def test_the_baked_checkpoint_has_its_own_name_in_the_webui(
    world: World, baked: Path, name: str
) -> None:
    beside = [write(world.tmp / f"model{suffix}") for suffix in (".yaml", ".vae.pt")]
    vae = write(world.image / "models/VAE/model-fp16.vae.safetensors")
    write(world.image / "models/VAE/model.pt")  # no file of the checkpoint's, by its name
    place = f"models/Stable-diffusion/{name.removesuffix('.safetensors')}"
    for path in ("", str(baked), "photo v3", "model", "model.safetensors", name):
        tree = world.start(MODEL_PATH=path, CHECKPOINT_NAME=name)
        assert tree.checkpoint == world.data / f"{place}.safetensors"
        assert world.seen() == {
            f"{place}.safetensors": str(baked),
            f"{place}.yaml": str(beside[0]),
            f"{place}.vae.pt": str(beside[1]),
            f"{place}-fp16.vae.safetensors": str(vae),
            "models/VAE/model-fp16.vae.safetensors": str(vae),
            "models/VAE/model.pt": str(world.image / "models/VAE/model.pt"),
        }
    command = webui_command(world.settings(CHECKPOINT_NAME=name), tree)
    assert "--disable-safe-unpickle" not in command  # the VAE beside it is a pickle


def test_the_baked_checkpoint_comes_before_one_of_its_name_only_at_start(
    world: World, baked: Path
) -> None:
    other = write(world.volume / "models/checkpoint/x.safetensors")
    tree = world.start(CHECKPOINT_NAME="x.safetensors")
    assert tree.checkpoint.read_text() == str(baked)
    assert [entry.shadowed_by for entry in tree.entries if entry.path == str(other)] == [str(baked)]
    tree = world.start(CHECKPOINT_NAME="x.safetensors", MODEL_PATH="x")
    assert tree.checkpoint.read_text() == str(other)


def test_the_baked_checkpoint_leaves_its_name_to_one_that_the_webui_finds_itself(
    world: World, baked: Path
) -> None:
    mine = write(world.tmp / "mine/x.safetensors").parent
    tree = world.start(CHECKPOINT_NAME="x.safetensors", MODEL_DIR=str(mine))
    assert tree.checkpoint == world.data / "models/Stable-diffusion/model.safetensors"
    assert tree.checkpoint.read_text() == str(baked)


def test_a_checkpoint_that_cannot_be_linked_is_loaded_from_its_path(
    world: World, baked: Path
) -> None:
    (world.data / "models/Stable-diffusion/x.safetensors").mkdir(parents=True)
    tree = world.start(CHECKPOINT_NAME="x.safetensors")
    assert tree.checkpoint == baked
    assert [each.reason for each in tree.problems] == [
        "something else has this name, so the model is not linked"
    ]


@pytest.mark.usefixtures("baked")
def test_a_configuration_beside_a_checkpoint_comes_along(world: World) -> None:
    # It says what the tensors do not show, such as v-prediction.
    beside = write(world.tmp / "model.yaml")
    for name in ("models/checkpoint/sub/a", "models/Stable-diffusion/b"):
        write(world.volume / f"{name}.safetensors")
        write(world.volume / f"{name}.yaml")
    write(world.image / "models/Stable-diffusion/v2.safetensors")
    write(world.image / "models/Stable-diffusion/v2.yaml")
    tree = world.start(MODEL_PATH="v2")
    place = "models/Stable-diffusion"
    assert world.seen()[f"{place}/model.yaml"] == str(beside)
    for entry in tree.visible:
        assert world.data.joinpath(entry.place).with_suffix(".yaml").is_symlink()
    assert len(tree.visible) == 4


def test_the_checkpoint_that_a_path_names_is_shadowed_by_none(world: World) -> None:
    image = write(world.image / "models/Stable-diffusion/x.safetensors")
    write(world.volume / "models/checkpoint/x.safetensors")
    tree = world.start(MODEL_PATH=str(image))
    assert tree.checkpoint.read_text() == str(image)


def test_model_dir_comes_before_the_volume_and_is_not_linked(world: World) -> None:
    mine = write(world.tmp / "mine/x.safetensors")
    write(world.volume / "models/checkpoint/x.safetensors")
    tree = world.start(MODEL_DIR=str(mine.parent), MODEL_PATH="x")
    assert tree.checkpoint == mine
    assert world.seen() == {}


def test_a_fetched_checkpoint_may_be_named_wherever_it_lies(world: World) -> None:
    fetched = write(world.volume / "weights/x.safetensors")
    spec = ArtifactSpec(url="https://example.invalid/x", name="x.safetensors", sha256="0" * 64)
    (world.tmp / "volume-models.json").write_text(as_json({str(fetched): spec}))
    assert world.start(MODEL_PATH="x.safetensors").checkpoint == fetched


@pytest.mark.parametrize("name", ["other.safetensors", "/somewhere/other.safetensors"])
def test_another_checkpoint_than_the_named_one_is_never_loaded(world: World, name: str) -> None:
    write(world.volume / "models/checkpoint/x.safetensors")
    with pytest.raises(UserError) as caught:
        world.tree(MODEL_PATH=name)
    assert caught.value.code == "model-missing"
    assert "x.safetensors" in caught.value.hint


def test_a_name_that_several_checkpoints_have_is_refused(world: World) -> None:
    for folder in ("a", "b"):
        write(world.volume / f"models/checkpoint/{folder}/x.safetensors")
    with pytest.raises(UserError) as caught:
        world.tree(MODEL_PATH="x")
    assert caught.value.code == "model-ambiguous"
    assert "a/x.safetensors, b/x.safetensors" in caught.value.hint


def test_without_a_baked_checkpoint_the_first_found_is_loaded_and_named(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    write(world.volume / "models/checkpoint/x.safetensors")
    tree = world.start()
    assert tree.checkpoint == world.data / "models/Stable-diffusion/x.safetensors"
    assert "event=checkpoint-chosen" in capfd.readouterr().err


def test_a_pickle_in_the_tree_keeps_the_scan_on(world: World) -> None:
    write(world.image / "models/Lora/x.safetensors")
    settings = world.settings(MODEL_PATH="/x.safetensors")
    assert "--disable-safe-unpickle" in webui_command(settings, world.tree())
    write(world.volume / "stable-diffusion-webui/embeddings/y.pt")
    assert "--disable-safe-unpickle" not in webui_command(settings, world.tree())


def test_a_flag_that_moves_a_folder_is_reported_where_links_are_hidden(world: World) -> None:
    write(world.image / "models/Lora/x.safetensors")
    assert world.tree(WEBUI_ARGS="--embeddings-dir /e").problems == ()
    (problem,) = world.tree(WEBUI_ARGS="--lora-dir=/runpod-volume/loras").problems
    assert problem.reason == "--lora-dir hides 1 of kind lora"


def test_the_command_shows_names_places_and_shadows(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MODEL_PATH", str(write(world.tmp / "model.safetensors", "12345")))
    used = write(world.volume / "models/lora/x.safetensors")
    shadowed = write(world.image / "models/Lora/x.safetensors")
    assert worker(["models"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1][:2] == ["checkpoint", "model.safetensors"]
    assert lines[1][-3:] == ["loaded", "at", "start"]
    assert [str(used), str(used)] == [lines[2][-1], lines[3][-1]]
    assert not world.data.exists()

    assert worker(["models", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["checkpoint"] == str(world.tmp / "model.safetensors")
    [row] = [row for row in report["models"] if row["path"] == str(shadowed)]
    assert row["shadowed_by"] == str(used)
    assert (row["kind"], row["rule"], row["root"]) == ("lora", "image", str(world.image))


def test_the_command_links_what_came_since_the_start(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    world.start()
    write(world.volume / "models/lora/x.safetensors")
    assert worker(["models", "--link"]) == 0
    assert "models/Lora/x.safetensors" in world.seen()
    (world.volume / "models/lora/gone.pt").symlink_to("/nowhere")
    assert worker(["models"]) == 1
    assert "problem: " in capsys.readouterr().out


UNET = "model.diffusion_model.input_blocks.0.0.weight"
LORA = ("lora_unet_mid_block_x.lora_down.weight", "lora_unet_mid_block_x.lora_up.weight")


def test_files_on_the_volume_that_are_something_else_are_named(world: World) -> None:
    loras = world.volume / "models/lora"
    write_safetensors(loras / "good.safetensors", *LORA)
    checkpoint = write_safetensors(
        loras / "checkpoint.safetensors", UNET, "first_stage_model.decoder.conv_in.weight"
    )
    page = write(loras / "page.safetensors", "<!DOCTYPE html><html><title>Log in</title></html>")
    write(world.image / "models/Lora/checked-by-the-build.safetensors")
    settings = world.settings()
    prepare_models(settings)
    found = {
        problem.path: problem.reason for problem in check_models(settings, world.tree().entries, 10)
    }
    assert set(found) == {checkpoint, page}
    assert "checkpoint" in found[checkpoint]
    assert len(gather_facts(settings).model_problems) == 2


def test_a_pickle_is_checked_for_the_release_that_loads_it(world: World) -> None:
    write(world.tmp / "webui/CHANGELOG.md", "## 1.9.3\n\n### Bug Fixes:\n")
    assert find_release(world.settings()) == "v1.9.3"
    assert find_release(world.settings(WEBUI_DIR=str(world.tmp))) == ""


def test_other_processes_read_the_tree_of_the_running_worker(world: World) -> None:
    write(world.volume / "models/lora/x.safetensors")
    write(world.volume / "models/lora/x.yaml")
    assert load_tree(world.tmp / "worker") is None
    assert load_tree(world.tmp / "worker") == None or True  # noqa: E711
    tree = world.start()
    assert load_tree(world.tmp / "worker") == tree


def test_links_that_could_not_be_made_do_not_stay_on_the_list(world: World) -> None:
    write(world.volume / "models/lora/x.safetensors")
    tree = world.tree()
    write(world.data / "models/Lora/x.safetensors", "came first")
    (problem,) = link_models(world.settings(), tree)
    assert "something else" in problem.reason
    world.start()
    assert (world.data / "models/Lora/x.safetensors").read_text() == "came first"


def test_checkpoints_in_memory_is_written_beside_the_users_options(world: World) -> None:
    settings = world.settings(CHECKPOINTS_IN_MEMORY="3")
    path = write(options_path(settings), '{"CLIP_stop_at_last_layers": 2}')
    apply_options(settings)
    assert json.loads(path.read_text()) == {
        "CLIP_stop_at_last_layers": 2,
        "sd_checkpoints_limit": 3,
    }
    before = path.stat()
    apply_options(settings)
    assert path.stat() == before
    apply_options(world.settings())
    assert json.loads(path.read_text()) == {"CLIP_stop_at_last_layers": 2}


class OptionsFile:
    """The settings file of a world, as starts of the worker and its users change it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.path = options_path(world.settings())

    def start(self, image: str = "", environment: str = "") -> dict[str, Any]:
        """Start a worker; return the options that the WebUI then reads."""
        settings = self._world.settings(IMAGE_SETTINGS=image, WEBUI_SETTINGS=environment)
        effective = apply_options(settings)
        options = self.read()
        assert effective.items() <= options.items()
        return options

    def save(self, **options: Any) -> None:
        """Save options as the WebUI does: with all others."""
        write(self.path, json.dumps({**self.read(), **options}))

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        return found


def test_saved_options_win_over_the_images_and_lose_to_the_environments(world: World) -> None:
    file = OptionsFile(world)
    file.save(samples_format="webp")
    assert file.start('{"samples_format": "jpg", "tiling": true}') == {
        "samples_format": "webp",
        "tiling": True,
    }
    assert file.start(environment='{"samples_format": "jpg"}') == {"samples_format": "jpg"}


def test_options_that_the_worker_wrote_give_way_to_newer_ones(world: World) -> None:
    file = OptionsFile(world)
    file.start('{"tiling": true, "n_rows": 2}', '{"samples_format": "jpg"}')
    file.save(sd_vae="None")
    assert file.start('{"n_rows": 3}') == {"n_rows": 3, "sd_vae": "None"}
    assert file.start() == {"sd_vae": "None"}


def test_an_option_that_the_environment_replaced_comes_back(world: World) -> None:
    file = OptionsFile(world)
    file.save(samples_format="webp")
    for _ in range(2):
        assert file.start(environment='{"samples_format": "jpg"}') == {"samples_format": "jpg"}
    assert file.start() == {"samples_format": "webp"}


def test_what_a_user_saves_over_the_workers_option_stays(world: World) -> None:
    file = OptionsFile(world)
    file.start('{"n_rows": 2}')
    file.save(n_rows=4)
    assert file.start('{"n_rows": 2}') == {"n_rows": 4}
    assert file.start() == {"n_rows": 4}


@pytest.mark.parametrize("record", ["{", "[]", '{"n_rows": 2}', '{"n_rows": {"written": 9}}'])
def test_a_damaged_record_loses_no_saved_option(world: World, record: str) -> None:
    file = OptionsFile(world)
    file.save(n_rows=4)
    write(record_path(world.settings()), record)
    apply_options(world.settings(IMAGE_SETTINGS='{"n_rows": 2}'))
    assert file.read() == {"n_rows": 4}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"a": null}',
        '{"a": {}}',
        '{"a": [1]}',
        '{"a": NaN}',
        '{"sd_model_checkpoint": "x"}',
        '{"temp_dir": "here"}',
    ],
)
def test_settings_that_no_webui_takes_are_refused(world: World, text: str) -> None:
    with pytest.raises(UserError, match="WEBUI_SETTINGS"):
        world.settings(WEBUI_SETTINGS=text)


def test_options_go_to_the_file_that_a_flag_names(world: World) -> None:
    place = world.tmp / "my options.json"
    for words in (f"--ui-settings-file '{place}'", f"'--ui-settings-file={place}'"):
        assert options_path(world.settings(WEBUI_ARGS=words)) == place


def test_broken_options_are_left_to_the_webui(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = world.settings(CHECKPOINTS_IN_MEMORY="2")
    path = write(options_path(settings), "{broken")
    apply_options(settings)
    assert path.read_text() == "{broken"
    assert "event=options-not-written" in capfd.readouterr().err


@pytest.mark.parametrize("text", ["11", "-1", "1.5", "two"])
def test_a_count_that_the_webui_does_not_take_is_refused(world: World, text: str) -> None:
    with pytest.raises(UserError, match="CHECKPOINTS_IN_MEMORY"):
        world.settings(CHECKPOINTS_IN_MEMORY=text)


def test_memory_is_needed_for_the_largest_checkpoints(world: World) -> None:
    for name, length in (("a", 4000), ("b", 3000), ("c", 1000)):
        path = world.volume / f"models/checkpoint/{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(length))
    needed = {}
    for count in ("0", "1", "2", "10"):
        settings = world.settings(CHECKPOINTS_IN_MEMORY=count, MODEL_PATH="c")
        prepare_models(settings)
        needed[count] = gather_facts(settings).memory_needed - 1_000_000_000
    assert needed == {"0": 1000, "1": 1000, "2": 7000, "10": 8000}
    write(options_path(world.settings()), '{"sd_checkpoints_limit": 2}')
    assert gather_facts(world.settings()).checkpoint_sizes == [4000, 3000]


def test_an_sdxl_checkpoint_wants_its_weights_for_live_previews(world: World) -> None:
    xl = "conditioner.embedders.1.model.ln_final.weight"
    write_safetensors(world.volume / "models/checkpoint/xl.safetensors", UNET, xl)
    write_safetensors(world.volume / "models/checkpoint/small.safetensors", UNET)

    def missing(checkpoint: str) -> str:
        world.start(MODEL_PATH=checkpoint)
        return gather_facts(world.settings(MODEL_PATH=checkpoint)).previews_missing

    place = "models/VAE-approx/vaeapprox-sdxl.pt"
    assert missing("xl") == str(world.data / place)
    assert missing("small") == ""
    for options in ({"live_previews_enable": False}, {"show_progress_type": "Approx cheap"}):
        write(options_path(world.settings()), json.dumps(options))
        assert missing("xl") == ""
    options_path(world.settings()).unlink()
    write(world.image / place)
    assert missing("xl") == ""


@pytest.mark.parametrize("status", [0, 1])
def test_the_builders_machine_shows_the_models_of_a_container(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    status: int,
) -> None:
    docker = write(tmp_path / "docker", f'#!/bin/sh\necho "$@"\nexit {status}\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(UserError, match="models failed") if status else nullcontext():
        run_in_worker("mine", ["models", "--json"])
    words = "exec mine /opt/runpod/bin/python -m scripts.container models --json"
    assert capfd.readouterr().out.strip() == words
