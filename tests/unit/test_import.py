"""Import an install: what becomes config, what is left out, and that its folder is only read."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.common.fetch.spec import no_progress
from scripts.host.build.inputs import resolve
from scripts.host.config.load import ROOT, LoadedConfig, load
from scripts.host.importer.config_write import change_local, change_shared
from scripts.host.importer.found_extensions import find_extensions
from scripts.host.importer.import_install import ImportOptions, plan_import, render_plan
from scripts.host.importer.import_plan import ImportPlan
from scripts.host.importer.installed_models import find_models, read_models
from scripts.host.importer.user_flags import read_user_flags
from scripts.host.importer.user_settings import choose_settings, read_user_settings
from scripts.host.importer.webui_install import find_install
from scripts.host.models.store import Store
from tests.support.checkout import prefetched, sha
from tests.support.civitai import civitai
from tests.support.errors import user_error
from tests.support.hub import hub
from tests.support.inputs import CHECKPOINT_REPO, make_hub
from tests.support.install import (
    CHECKPOINT,
    EMBEDDING,
    LORA,
    VAE,
    make_extension,
    safetensors,
    tree_state,
    upscaler,
    write,
)
from tests.support.pickles import Global, torch_zip
from tests.support.running import invoke

PHOTO, ART = safetensors(CHECKPOINT, 1), safetensors(CHECKPOINT, 2)
DETAIL, PEOPLE = safetensors(LORA, 1), safetensors(LORA, 2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with the project's own config, and sources that do not answer."""
    tree = yaml.safe_load((ROOT / "config.yaml").read_text())
    nowhere = "http://127.0.0.1:9"
    tree["mirrors"] |= {"civitai": nowhere, "huggingface": nowhere}
    tree["store"] = {"path": str(tmp_path / "store")}
    text = yaml.safe_dump(tree, sort_keys=False)
    write(tmp_path / "checkout" / "config.yaml", f"# by hand\n{text}# the end\n")
    return tmp_path / "checkout"


@pytest.fixture
def webui(tmp_path: Path) -> Path:
    """The folder of a WebUI with one model of several kinds."""
    folder = tmp_path / "webui"
    write(folder / "webui.py", "raise SystemExit('the install was run')\n")
    write(folder / "CHANGELOG.md", "## 1.9.3\n")
    models = folder / "models"
    write(models / "Stable-diffusion" / "photo.safetensors", PHOTO)
    write(models / "Stable-diffusion" / "art" / "draw v2.safetensors", ART)
    write(models / "Lora" / "detail.safetensors", DETAIL)
    write(models / "Lora" / "people" / "ann.safetensors", PEOPLE)
    write(models / "VAE" / "soft.safetensors", safetensors(VAE))
    write(models / "ESRGAN" / "4x-sharp.pth", upscaler())
    write(models / "VAE-approx" / "model.pt", upscaler(1))  # of A1111's own repository
    write(folder / "embeddings" / "bad.safetensors", safetensors(EMBEDDING))
    return folder


def imported(
    folder: Path, root: Path, *, warnings: list[str] | None = None, **options: bool
) -> ImportPlan:
    options = {"offline": True, **options}
    given: list[str] = [] if warnings is None else warnings
    return plan_import(
        folder,
        load(root=root, environment={}),
        ImportOptions(**options),
        on_progress=no_progress,
        warn=given.append,
    )


def loaded(root: Path, variant: str = "cuda128") -> LoadedConfig:
    return load(variant, root=root, environment={})


def written(plan: ImportPlan, root: Path) -> LoadedConfig:
    """Write an import into `config.local.yaml` and load the result."""
    change_local(plan, loaded(root)).write()
    return loaded(root)


def entries(plan: ImportPlan) -> dict[str, dict[str, Any]]:
    return {planned.entry["name"]: planned.entry for planned in plan.models}


def reasons(plan: ImportPlan) -> dict[str, str]:
    """Return what was left out, by file name."""
    return {Path(each.name).name: each.reason for each in plan.left_out}


def test_every_kind_becomes_a_model_that_the_webui_sees_by_its_old_name(
    webui: Path, root: Path
) -> None:
    config = written(imported(webui, root), root).config
    models = {model.location.name: model for model in config.models if model.kind}
    assert {name: model.kind for name, model in models.items()} == {
        "photo.safetensors": "checkpoint",
        "art/draw v2.safetensors": "checkpoint",
        "detail.safetensors": "lora",
        "people/ann.safetensors": "lora",
        "soft.safetensors": "vae",
        "4x-sharp.pth": "upscaler",
        "bad.safetensors": "embedding",
    }
    ann = models["people/ann.safetensors"]
    assert (ann.sha256, ann.size) == (sha(PEOPLE), len(PEOPLE))
    assert models["4x-sharp.pth"].target == "/opt/a1111/models/ESRGAN/4x-sharp.pth"
    assert "clip-tokenizer" in {model.name for model in config.models}
    assert "deliberate-v6" not in {model.name for model in config.models}


def test_checkpoint_that_was_loaded_last_is_loaded_at_start_with_its_files(
    webui: Path, root: Path
) -> None:
    write(webui / "config.json", json.dumps({"sd_model_checkpoint": "photo.safetensors [abcd]"}))
    checkpoints = webui / "models" / "Stable-diffusion"
    write(checkpoints / "photo.yaml", "model: {}\n")
    write(checkpoints / "photo.vae.safetensors", safetensors(VAE, 5))
    write(checkpoints / "art" / "draw v2.yaml", "model: {}\n")
    config = written(imported(webui, root), root).config
    targets = {model.name: model.target for model in config.models}
    assert targets["photo"] == "/model.safetensors"
    assert targets["photo.yaml"] == "/model.yaml"
    tree = "/opt/a1111/models/Stable-diffusion"
    assert targets["photo.vae"] == "/opt/a1111/models/VAE/photo.vae.safetensors"
    assert targets["draw-v2"] == f"{tree}/art/draw v2.safetensors"
    assert targets["draw-v2.yaml"] == f"{tree}/art/draw v2.yaml"


@pytest.mark.parametrize("name", ["art/draw v2.safetensors", "photo.safetensors"])
def test_checkpoint_at_start_keeps_its_name(webui: Path, root: Path, name: str) -> None:
    write(webui / "config.json", json.dumps({"sd_model_checkpoint": name}))
    plan = imported(webui, root)
    inputs = resolve(written(plan, root))
    assert inputs.arguments["CHECKPOINT_NAME"] == name
    assert f"{name} is loaded at start" in render_plan(plan, 0).splitlines()


def test_checkpoint_at_start_of_the_config_may_have_another_name(webui: Path, root: Path) -> None:
    photo = (webui / "models/Stable-diffusion/photo.safetensors").read_bytes()
    own = {"name": "own", "source": {"url": "https://h.example/mine.safetensors"}}
    own |= {"path": "/model.safetensors", "sha256": sha(photo)}
    write(root / "config.local.yaml", yaml.safe_dump({"models": [own]}))
    plan = imported(webui, root)
    assert "own" in plan.known
    last = render_plan(plan, 0).splitlines()[-1]
    assert last == "photo.safetensors is loaded at start, and named mine.safetensors by the WebUI"


def test_checkpoint_with_the_name_of_the_configs_start_is_left_out(webui: Path, root: Path) -> None:
    own = {"name": "own", "source": {"url": "https://h.example/photo.safetensors"}}
    own |= {"path": "/model.safetensors", "sha256": "a" * 64}
    write(root / "config.local.yaml", yaml.safe_dump({"models": [own]}))
    plan = imported(webui, root)
    assert (
        reasons(plan)["photo.safetensors"] == "own of the config has its place, with other content"
    )
    written(plan, root)


def test_install_without_checkpoint_keeps_the_configured_one(tmp_path: Path, root: Path) -> None:
    write(tmp_path / "volume" / "models" / "loras" / "detail.safetensors", DETAIL)
    config = written(imported(tmp_path / "volume", root), root).config
    kinds = {model.name: model.actual_kind for model in config.models}
    assert kinds == {"deliberate-v6": "checkpoint", "clip-tokenizer": "other", "detail": "lora"}


@pytest.mark.parametrize(
    "place",
    [
        "models/lora/detail.safetensors",
        "ComfyUI/models/loras/detail.safetensors",
        "stable-diffusion-webui/models/Lora/detail.safetensors",
    ],
)
def test_volume_is_read_by_each_layout(tmp_path: Path, root: Path, place: str) -> None:
    write(tmp_path / "volume" / place, DETAIL)
    [entry] = entries(imported(tmp_path / "volume", root)).values()
    assert (entry["name"], entry["kind"]) == ("detail", "lora")


def test_folders_that_flags_name_are_searched(webui: Path, tmp_path: Path, root: Path) -> None:
    write(tmp_path / "loras" / "far.safetensors", safetensors(LORA, 7))
    flags = f"--lora-dir {tmp_path / 'loras'} --vae-dir /nowhere"
    write(webui / "webui-user.sh", f'export COMMANDLINE_ARGS="{flags}"\n')
    extension = webui / "extensions" / "sd-webui-controlnet" / "models"
    write(extension / "canny.safetensors", safetensors({"control_model.x": (2,)}))
    plan = imported(webui, root)
    kinds = {name: entry["kind"] for name, entry in entries(plan).items()}
    assert (kinds["far"], kinds["canny"]) == ("lora", "controlnet")
    assert reasons(plan)["--vae-dir"] == "its folder /nowhere is not here"


def test_what_is_no_model_of_its_kind_is_named_and_left_out(webui: Path, root: Path) -> None:
    loras, kept = webui / "models" / "Lora", entries(imported(webui, root))
    write(loras / "wrong.safetensors", safetensors(CHECKPOINT, 9))
    write(loras / "page.safetensors", "<html><title>Sign in</title></html>")
    write(loras / "cut.safetensors", DETAIL[:-1])
    write(loras / "empty.safetensors", "")
    write(loras / "new.safetensors.part", "x")
    write(loras / "weights.gguf", "x")
    write(loras / "old.pt", upscaler(3))
    write(loras / "same.safetensors", DETAIL)
    write(loras / "other" / "ann.safetensors", safetensors(LORA, 8))
    (loras / "gone.safetensors").symlink_to("/nowhere")
    plan = imported(webui, root)
    assert entries(plan) == kept
    assert reasons(plan) == {
        "wrong.safetensors": "the file is a checkpoint of SD1, not a LoRA",
        "page.safetensors": "a web page (Sign in), not a model",
        "cut.safetensors": "not a whole safetensors file: tensors fill 8704 bytes, the file holds"
        " 8703",
        "empty.safetensors": "an empty file, not a model",
        "new.safetensors.part": "an unfinished download",
        "weights.gguf": "the WebUI loads no file of this name from there",
        "old.pt": "a pickle can run code when it is loaded; --allow-pickle imports it",
        "same.safetensors": f"the same content as {loras / 'detail.safetensors'}",
        "ann.safetensors": "the WebUI sees only one lora of this name,"
        f" {loras / 'people' / 'ann.safetensors'}",
        "gone.safetensors": "a link to nothing",
    }


def test_pickle_is_imported_with_permission(webui: Path, root: Path) -> None:
    write(webui / "models" / "Lora" / "old.pt", upscaler(3))
    config = written(imported(webui, root, allow_pickle=True), root).config
    [old] = [model for model in config.models if model.name == "old"]
    assert old.allow_pickle
    assert not next(model for model in config.models if model.name == "4x-sharp").allow_pickle


def test_pickle_of_a_known_file_needs_no_permission(webui: Path, root: Path) -> None:
    known, other = upscaler(3), upscaler(4)  # of one size
    write(webui / "models" / "VAE-approx" / "vaeapprox-sdxl.pt", known)
    write(webui / "models" / "VAE-approx" / "mine.pt", other)
    found, _ = find_models(find_install(webui))
    models, left_out = read_models(
        found,
        Store(root / "store"),
        release="v1.9.3",
        allow_pickle=False,
        trusted={sha(known): len(known)},
        rehash=False,
        on_progress=no_progress,
    )
    assert [model.path.name for model in models if model.is_pickle] == ["vaeapprox-sdxl.pt"]
    assert [Path(each.name).name for each in left_out] == ["mine.pt"]


def test_pickle_that_would_run_code_is_left_out(webui: Path, root: Path) -> None:
    evil = torch_zip({"a": Global("os", "system", ("true",))})
    write(webui / "models" / "Lora" / "evil.pt", evil)
    plan = imported(webui, root, allow_pickle=True)
    assert "evil" not in entries(plan)
    assert "os" in reasons(plan)["evil.pt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable_file_is_named(webui: Path, root: Path) -> None:
    (webui / "models" / "Lora" / "detail.safetensors").chmod(0)
    assert reasons(imported(webui, root)) == {"detail.safetensors": "permission denied"}


def test_folder_is_only_read(webui: Path, root: Path) -> None:
    make_extension(webui / "extensions" / "one", "https://git.example/a/one")
    write(webui / "config.json", '{"CLIP_stop_at_last_layers": 2}')
    for path in webui.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    webui.chmod(0o555)
    before = tree_state(webui)
    done = written(imported(webui, root, rehash=True), root)
    assert tree_state(webui) == before
    assert len(prefetched(root, *[each.name for each in done.config.models if each.kind])) == 7
    assert tree_state(webui) == before
    for path in (webui, *webui.rglob("*")):
        path.chmod(0o755)  # pytest removes the folder


@pytest.fixture
def sources(root: Path, tmp_path: Path) -> Iterator[list[str]]:
    """A Hub and a Civitai that have two of the models; the paths that Civitai was asked for."""
    make_hub(tmp_path / "hub")
    write(tmp_path / "hub" / CHECKPOINT_REPO / "photo.safetensors", PHOTO)
    with hub(tmp_path / "hub") as hub_server, civitai({"detail_v3.safetensors": DETAIL}) as site:
        tree = yaml.safe_load((root / "config.yaml").read_text())
        tree["mirrors"] |= {"civitai": site.url, "huggingface": hub_server.url}
        write(root / "config.yaml", yaml.safe_dump(tree, sort_keys=False))
        yield site.requests


def test_source_is_found_again_and_downloads_the_same_file(
    webui: Path, root: Path, sources: list[str]
) -> None:
    warnings: list[str] = []
    plan = imported(webui, root, offline=False, warnings=warnings)
    assert warnings == []
    found = {planned.entry["name"]: planned.found_at for planned in plan.models}
    assert (found["photo"], found["detail"], found["ann"]) == ("hub", "civitai", "file")
    photo = {"hub": CHECKPOINT_REPO, "file": "photo.safetensors", "revision": "main"}
    assert entries(plan)["photo"]["source"] == photo
    site = loaded(root).config.mirrors.civitai
    address = f"{site}/api/download/models/15236?type=Model"
    assert entries(plan)["detail"]["source"] == {"url": address}
    assert entries(plan)["detail"]["path"] == "detail.safetensors"
    asked = {path.rpartition("/")[2].lower() for path in sources}
    assert asked == {planned.model.sha256 for planned in plan.models} - {sha(PHOTO)}
    written(plan, root)
    files = prefetched(root, "photo", "detail")
    assert [file.sha256 for file in files] == [sha(PHOTO), sha(DETAIL)]


def test_offline_asks_nobody(webui: Path, root: Path, sources: list[str]) -> None:
    plan = imported(webui, root)
    assert all(planned.is_local for planned in plan.models)
    assert sources == []


def test_source_that_does_not_answer_is_named_once(webui: Path, root: Path) -> None:
    warnings: list[str] = []
    plan = imported(webui, root, offline=False, warnings=warnings)
    assert all(planned.is_local for planned in plan.models)
    assert [warning.split(" ")[0] for warning in warnings] == [
        "XpucT/Deliberate",
        "openai/clip-vit-large-patch14",
        "Civitai",
    ]


def test_civitai_that_answers_something_else_is_named(webui: Path, root: Path) -> None:
    with civitai({}) as site:
        site.status = 500
        tree = yaml.safe_load((root / "config.yaml").read_text())
        tree["mirrors"]["civitai"] = site.url
        write(root / "config.yaml", yaml.safe_dump(tree))
        warnings: list[str] = []
        imported(webui, root, offline=False, warnings=warnings)
    assert "500" in warnings[-1]


def test_models_of_the_config_are_known_by_content(webui: Path, root: Path) -> None:
    written(imported(webui, root), root)
    again = imported(webui, root)
    assert sorted(again.known) == ["4x-sharp", "ann", "bad", "detail", "draw-v2", "photo", "soft"]
    assert (again.models, change_local(again, loaded(root)).diff()) == ((), "")
    write(webui / "models" / "Lora" / "new.safetensors", safetensors(LORA, 11))
    write(webui / "models" / "Lora" / "detail.safetensors", safetensors(LORA, 12))
    more = imported(webui, root)
    assert list(entries(more)) == ["new"]
    assert reasons(more) == {
        "detail.safetensors": "detail of the config has its place, with other content"
    }


def test_checkpoint_at_start_stays_once_it_is_in_the_config(webui: Path, root: Path) -> None:
    write(webui / "config.json", '{"sd_model_checkpoint": "photo.safetensors"}')
    written(imported(webui, root), root)
    write(webui / "config.json", '{"sd_model_checkpoint": "art/draw v2.safetensors"}')
    assert change_local(imported(webui, root), loaded(root)).diff() == ""


def test_checkpoint_at_start_of_local_models_stays(webui: Path, root: Path) -> None:
    own = {"name": "own", "source": {"url": "https://h.example/own.safetensors"}}
    own |= {"path": "/model.safetensors", "sha256": "a" * 64}
    write(root / "config.local.yaml", yaml.safe_dump({"models": [own]}))
    config = written(imported(webui, root), root).config
    targets = {model.name: model.target for model in config.models}
    assert targets["own"] == "/model.safetensors"
    assert targets["photo"] == "/opt/a1111/models/Stable-diffusion/photo.safetensors"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_local_config_stays_as_it_is(webui: Path, root: Path, newline: str) -> None:
    text = "# mine\nmodels:\n  - name: own   # kept\n    source: {url: https://h.example/own.safetensors}\n"
    text += f"    path: /own.safetensors\n    sha256: {'a' * 64}\nsmoke: {{steps: 2}}  # last"
    text = text.replace("\n", newline)
    (root / "config.local.yaml").write_bytes(text.encode())
    plan = imported(webui, root)
    written(plan, root)
    after = (root / "config.local.yaml").read_bytes().decode()
    begin, end = text[: text.index("smoke")], text[text.index("smoke") :]
    assert after.startswith(begin)
    assert after.rstrip().endswith(end)
    assert "\n" not in after.replace("\r\n", "") or newline == "\n"


def test_new_variant_has_what_its_model_variant_overrides(webui: Path, root: Path) -> None:
    before = (root / "config.yaml").read_text()
    cpu = load("cpu", root=root, environment={})
    change_shared(imported(webui, root), cpu, "mine").write()
    after = (root / "config.yaml").read_text()
    assert [line for line in before.splitlines() if line not in after.splitlines()] == []
    mine = load("mine", root=root, environment={}).config
    assert mine.build == cpu.config.build
    assert "detail" in {model.name for model in mine.models}
    assert loaded(root).config.models == cpu.config.models
    assert "no variant" not in str(user_error(change_shared, imported(webui, root), cpu, "cpu"))


def test_variant_that_local_models_would_hide_is_refused(webui: Path, root: Path) -> None:
    plan = imported(webui, root)
    written(plan, root)
    write(webui / "models" / "Lora" / "new.safetensors", safetensors(LORA, 11))
    error = user_error(change_shared, imported(webui, root), loaded(root), "mine")
    assert (error.location or "").startswith("config.local.yaml:")
    assert "leave out --new-variant" in (error.hint or "")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("models", "models: []"),
        ("webui.flags.add", "webui: {flags: {add: [--no-half]}}"),
        ("webui.settings", "webui: {settings: {CLIP_stop_at_last_layers: 1}}"),
        ("extensions", "extensions: []"),
    ],
)
@pytest.mark.parametrize("variant", ["", "mine"])
def test_what_image_config_would_hide_is_not_written(
    webui: Path, root: Path, tmp_path: Path, key: str, text: str, variant: str
) -> None:
    write(webui / "webui-user.sh", 'export COMMANDLINE_ARGS="--medvram"\n')
    write(webui / "config.json", '{"CLIP_stop_at_last_layers": 2}')
    make_extension(webui / "extensions" / "one", "https://github.com/o/one")
    plan = imported(webui, root)
    over = tmp_path / "over.yaml"
    over.write_text(f"# for this machine\n{text}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMAGE_CONFIG", str(over))
        if variant:
            error = user_error(change_shared, plan, loaded(root), variant)
        else:
            error = user_error(change_local, plan, loaded(root))
    assert error.location == f"{over}:2"
    assert f"`{key}` of a stronger layer" in error.message
    assert "unset IMAGE_CONFIG" in error.hint


def test_sha256_is_remembered_until_the_file_changes(webui: Path, root: Path) -> None:
    path = webui / "models" / "Lora" / "detail.safetensors"
    imported(webui, root)
    stat = path.stat()
    path.write_bytes(safetensors(LORA, 20))  # the same length
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert entries(imported(webui, root))["detail"]["sha256"] == sha(DETAIL)
    new = entries(imported(webui, root, rehash=True))["detail"]["sha256"]
    assert new == sha(safetensors(LORA, 20))
    os.utime(path)
    assert entries(imported(webui, root))["detail"]["sha256"] == new


def test_a_thousand_models_are_imported(tmp_path: Path, root: Path) -> None:
    for number in range(1000):
        content = safetensors({"lora_unet_a.lora_up.weight": (1, number + 1)})
        write(tmp_path / "volume" / "models" / "Lora" / f"{number}.safetensors", content)
    config = written(imported(tmp_path / "volume", root), root).config
    assert len([model for model in config.models if model.kind == "lora"]) == 1000


SH, BAT = "webui-user.sh", "webui-user.bat"


@pytest.mark.parametrize(
    ("name", "text", "carried"),
    [
        (SH, 'export COMMANDLINE_ARGS="--medvram --precision full"', "--medvram --precision full"),
        (SH, "COMMANDLINE_ARGS='--no-half --precision=full' # mine", "--no-half --precision full"),
        (SH, 'export COMMANDLINE_ARGS="--lowvram \\\n  --no-half"', "--lowvram --no-half"),
        (SH, '#export COMMANDLINE_ARGS="--medvram"', ""),
        (
            SH,
            'COMMANDLINE_ARGS="--medvram"\nexport COMMANDLINE_ARGS="${COMMANDLINE_ARGS} --no-half"',
            "--medvram --no-half",
        ),
        (BAT, "@echo off\r\nset COMMANDLINE_ARGS=--medvram --no-half\r\n", "--medvram --no-half"),
        (BAT, 'set "COMMANDLINE_ARGS=--xformers --opt-channelslast"', "--opt-channelslast"),
        (BAT, 'set COMMANDLINE_ARGS=--ckpt-dir "D:\\my models" ^\n --no-half', "--no-half"),
        (BAT, "rem set COMMANDLINE_ARGS=--medvram", ""),
        (BAT, "set COMMANDLINE_ARGS=--medvram\nset COMMANDLINE_ARGS=", ""),
    ],
)
def test_flags_are_read_without_a_shell(tmp_path: Path, name: str, text: str, carried: str) -> None:
    write(tmp_path / name, text)
    assert " ".join(read_user_flags(tmp_path).carried) == carried


def test_command_in_a_flag_is_not_run_and_passwords_are_not_shown(
    webui: Path, root: Path, tmp_path: Path
) -> None:
    evil = f"--medvram --precision $(touch {tmp_path}/ran) --gradio-auth me:secret --new-flag 1"
    write(webui / SH, f"export COMMANDLINE_ARGS='{evil}'\ntouch {tmp_path}/ran\n")
    plan = imported(webui, root)
    assert not (tmp_path / "ran").exists()
    assert plan.flags == ("--medvram",)
    assert {"--precision", "--gradio-auth", "--new-flag"} <= reasons(plan).keys()
    text = render_plan(plan, 0) + change_local(plan, loaded(root)).diff()
    assert "secret" not in text
    assert written(plan, root).config.webui.flags.add == ("--medvram",)
    assert imported(webui, root).flags == ()


def test_half_a_quotation_mark_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / SH, 'export COMMANDLINE_ARGS="--medvram\n')
    assert "quotation mark" in user_error(read_user_flags, tmp_path).message


def test_settings_that_differ_from_the_releases_defaults_are_kept() -> None:
    options = {
        "CLIP_stop_at_last_layers": 2.0,  # as after a change by the API
        "samples_format": "png",
        "sd_vae": "soft.safetensors",
        "outdir_samples": "/home/me/pictures",
        "beta_dist_alpha": 0.5,
        "openai_key": "sk-secret",
        "disabled_extensions": ["two"],
        "sd_model_checkpoint": "art/draw v2.safetensors [0123456789]",
    }
    old = choose_settings(options, "v1.9.3")
    assert old.changed == {"sd_vae": "soft.safetensors", "CLIP_stop_at_last_layers": 2}
    assert type(old.changed["CLIP_stop_at_last_layers"]) is int
    assert old.unusable == ("beta_dist_alpha", "openai_key")
    assert old.checkpoint == "art/draw v2.safetensors"
    assert old.disabled_extensions == ("two",)
    assert choose_settings(options, "v1.10.1").changed["beta_dist_alpha"] == 0.5


def test_setting_that_the_webui_would_not_take_is_left_out() -> None:
    options = {"sd_vae": None, "CLIP_stop_at_last_layers": "2", "tiling": 1, "SWIN_tile": 256}
    found = choose_settings({**options, "SWIN_tile_overlap": 8}, "v1.9.3")
    assert found.changed == {}
    assert found.unusable == ("CLIP_stop_at_last_layers", "SWIN_tile", "sd_vae", "tiling")


def test_settings_and_flags_become_config(webui: Path, root: Path) -> None:
    write(webui / SH, "COMMANDLINE_ARGS='--medvram --precision full'\n")
    write(webui / "config.json", '{"sd_vae": "soft.safetensors", "tiling": true}')
    options = written(imported(webui, root), root).config.webui
    assert options.flags.add == ("--medvram", "--precision full")
    assert options.settings == {"sd_vae": "soft.safetensors", "tiling": True}
    assert change_local(imported(webui, root), loaded(root)).diff() == ""
    write(webui / "config.json", '{"sd_vae": "None"}')
    error = user_error(change_local, imported(webui, root), loaded(root))
    assert error.message == "it has webui of its own"


def test_setting_names_the_vae_as_the_image_does(webui: Path, root: Path) -> None:
    write(webui / "models" / "Stable-diffusion" / "photo.vae.safetensors", safetensors(VAE, 5))
    options = {"sd_model_checkpoint": "photo.safetensors", "sd_vae": "photo.vae.safetensors"}
    write(webui / "config.json", json.dumps(options))
    expected = {"sd_vae": "photo.vae.safetensors"}
    assert written(imported(webui, root), root).config.webui.settings == expected
    assert imported(webui, root).settings == {}
    write(webui / "config.json", json.dumps({**options, "sd_vae": "gone.safetensors"}))
    plan = imported(webui, root)
    assert plan.settings == {}
    assert reasons(plan)["the setting sd_vae"] == "its VAE gone.safetensors is not imported"


def test_name_that_config_cannot_hold_is_left_out(webui: Path, root: Path) -> None:
    loras = webui / "models" / "Lora"
    (loras / "detail.safetensors").rename(loras / os.fsdecode(b"\xff.safetensors"))
    write(loras / " blank.safetensors", safetensors(LORA, 5))
    write(loras / "two\nlines.safetensors", safetensors(LORA, 6))
    write(loras / "colour\x1b[31m: {x}.safetensors", safetensors(LORA, 7))
    plan = imported(webui, root)
    assert sorted(reasons(plan).values()) == [
        "its name has a dot, a blank or a line break where none may be; rename it",
        "its name has a dot, a blank or a line break where none may be; rename it",
        "its name is not UTF-8; rename it",
    ]
    assert render_plan(plan, 0).isprintable() is False
    assert all(line.isprintable() for line in render_plan(plan, 0).splitlines())
    names = {model.location.name for model in written(plan, root).config.models}
    assert "colour\x1b[31m: {x}.safetensors" in names


@pytest.mark.parametrize("text", ["[1]", "{", "1" * 5000])
def test_settings_that_are_no_object_are_an_error(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "config.json", text)
    assert user_error(read_user_settings, path, "v1.9.3").message == "not a JSON object"


def test_extension_is_described_by_its_repository(tmp_path: Path) -> None:
    folder = tmp_path / "extensions"
    one = make_extension(folder / "one", "https://user:token@git.example/a/one")
    two = make_extension(folder / "two", "git@git.example:a/two")
    write(folder / "two" / "scripts" / "main.py", "print('changed')\n")
    write(folder / "two" / "new.txt", "untracked")
    write(folder / "three" / "script.py", "")
    subprocess.run(["git", "-C", str(folder / "one"), "gc", "--quiet"], check=True)  # packed refs
    found = {each.name: each for each in find_extensions(tmp_path, ["two"])}
    assert (found["one"].remote, found["one"].commit) == ("https://git.example/a/one", one)
    assert (found["one"].changed, found["one"].is_disabled) == (0, False)
    assert (found["two"].remote, found["two"].commit) == ("git@git.example:a/two", two)
    assert (found["two"].changed, found["two"].is_disabled) == (1, True)
    assert (found["three"].remote, found["three"].changed) == ("", None)


@pytest.mark.parametrize(
    ("remote", "entry"),
    [
        ("https://github.com/a/one.git", {"repo": "a/one"}),
        ("git@github.com:a/one.git", {"repo": "a/one"}),
        ("https://git.example/a/one", {"repo": "https://git.example/a/one"}),
        ("git@git.example:a/one", {"repo": "ssh://git@git.example/a/one"}),
        ("https://github.com/a/other", {"name": "one", "repo": "a/other"}),
    ],
)
def test_extension_becomes_an_entry_at_its_commit(
    webui: Path, root: Path, remote: str, entry: dict[str, str]
) -> None:
    commit = make_extension(webui / "extensions" / "one", remote)
    [extension] = written(imported(webui, root), root).config.extensions
    assert extension.model_dump(exclude_unset=True) == {**entry, "commit": commit}
    assert extension.folder_name == "one"
    assert change_local(imported(webui, root), loaded(root)).diff() == ""


def test_extension_that_the_config_has_stays_as_it_is(webui: Path, root: Path) -> None:
    make_extension(webui / "extensions" / "One", "https://github.com/b/One")
    text = (root / "config.yaml").read_text()
    (root / "config.yaml").write_text(f"extensions:\n  - {{repo: a/one, commit: dev}}\n{text}")
    make_extension(webui / "extensions" / "two", "https://github.com/a/two")
    first, second = written(imported(webui, root), root).config.extensions
    assert (first.repo, first.commit, second.repo) == ("a/one", "dev", "a/two")


def test_extension_that_cannot_be_baked_is_left_out(webui: Path, root: Path) -> None:
    folder = webui / "extensions"
    make_extension(folder / "one\nmodels: []", "https://git.example/a/one")
    make_extension(folder / "elsewhere", "/srv/git/elsewhere")
    make_extension(folder / "off", "https://github.com/a/off")
    make_extension(folder / "changed", "https://github.com/a/changed")
    write(folder / "changed" / "scripts" / "main.py", "print('changed')\n")
    write(folder / "copied" / "script.py", "")
    write(webui / "config.json", '{"disabled_extensions": ["off"]}')
    plan = imported(webui, root)
    assert [each["repo"] for each in plan.extensions] == ["a/changed"]
    reasons = {each.name: each.reason for each in plan.left_out}
    assert reasons["extension off"] == "it is switched off"
    assert reasons["extension copied"] == "its repository or its commit is not known"
    assert "expected owner/name" in reasons["extension elsewhere"]
    assert reasons["changes of extension changed"].startswith("1 changed files")
    assert "name" in reasons["extension one\nmodels: []"]
    assert "\nmodels: []\n" not in render_plan(plan, 0)


def test_nothing_that_a_repository_configures_is_run(tmp_path: Path) -> None:
    folder = tmp_path / "extensions" / "evil"
    make_extension(folder, "https://git.example/a/evil")
    ran = tmp_path / "ran"
    write(folder / ".gitattributes", "* filter=evil\n")
    script = write(tmp_path / "evil.sh", f"#!/bin/sh\ntouch {ran}\n")
    script.chmod(0o755)
    with (folder / ".git" / "config").open("a") as stream:
        stream.write(f"[core]\n\tfsmonitor = {script}\n\thooksPath = {tmp_path}\n")
        stream.write(f'[filter "evil"]\n\tclean = {script}\n[alias]\n\tstatus = !{script}\n')
    write(folder / "scripts" / "main.py", "print('changed')\n")
    before = tree_state(folder)
    [found] = find_extensions(tmp_path, [])
    assert found.changed == 1
    assert not ran.exists()
    assert tree_state(folder) == before


def test_folder_without_an_install_is_an_error(tmp_path: Path, root: Path) -> None:
    assert user_error(imported, tmp_path / "nowhere", root).location.endswith("nowhere")
    (tmp_path / "empty").mkdir()
    assert user_error(imported, tmp_path / "empty", root).message == "nothing to import was found"


def test_install_of_another_release_is_a_warning(webui: Path, root: Path) -> None:
    write(webui / "CHANGELOG.md", "## 1.10.1\n")
    warnings: list[str] = []
    imported(webui, root, warnings=warnings)
    assert "the install is v1.10.1" in warnings[0]


def test_task_shows_the_change_and_writes_nothing_on_a_dry_run(webui: Path, tmp_path: Path) -> None:
    store = f"store.path={tmp_path / 'store'}"
    done = invoke("import", str(webui), "--offline", "--dry-run", "-D", store)
    assert done.returncode == 0, done.stderr
    assert "7 models to import" in done.stdout
    assert "+  - name: detail" in done.stdout
    assert not (ROOT / "config.local.yaml").exists()
