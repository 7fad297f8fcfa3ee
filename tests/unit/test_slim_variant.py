"""The variant `slim`: what an image has in place of a checkpoint that the platform caches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.hub_record import HubReference
from scripts.common.fetch.volume_models import CACHED_LIST, read_list
from scripts.container.paths import find_hub_reference
from scripts.container.settings import Settings
from scripts.host.build.inputs import BuildOptions, resolve
from scripts.host.build.pipeline import build_image
from scripts.host.config.load import load
from scripts.host.models.models_context import staged_context
from scripts.host.models.store import Store
from tests.support.checkout import loaded_from, make_checkout

CACHED: dict[str, Any] = {
    "name": "photo",
    "source": {"hub": "ann/photo", "file": "photo.safetensors"},
    "path": "/model.safetensors",
    "placement": "cache",
}


def test_slim_is_the_default_image_without_its_checkpoint() -> None:
    slim, default = resolve(load("slim")), resolve(load())
    [checkpoint] = slim.cached_artifacts
    assert {checkpoint.spec, *(each.spec for each in slim.artifacts)} == {
        each.spec for each in default.artifacts
    }
    changed = {
        name for name in default.arguments if slim.arguments.get(name) != default.arguments[name]
    }
    assert changed == {
        *("MODEL_PATH", "MODEL_REPO", "MODEL_FILE"),
        *("MODEL_REVISION", "MODEL_SHA256", "MODEL_SIZE"),
    }


def test_the_worker_reads_what_the_image_says(tmp_path: Path) -> None:
    inputs = resolve(load("slim"))
    with staged_context(Store(tmp_path), {}, (), inputs.cached_artifacts) as folder:
        assert not (folder / "model.safetensors").exists()
        listed = read_list(folder / "extra" / str(CACHED_LIST)[1:])
    settings = Settings.from_environment({"MODEL_PATH": inputs.arguments["MODEL_PATH"]})
    reference = find_hub_reference(settings)
    assert reference
    assert [HubReference.parse(key) for key in listed] == [reference]
    assert settings.cached_models == CACHED_LIST


def test_the_list_names_the_hub_whatever_mirror_built_it(tmp_path: Path) -> None:
    texts = []
    for define in ((), ("mirrors.huggingface=http://mirror.invalid",)):
        [checkpoint] = resolve(load("slim", define)).cached_artifacts
        with staged_context(Store(tmp_path), {}, (), [checkpoint]) as folder:
            listed = folder / "extra" / str(CACHED_LIST)[1:]
            texts.append(listed.read_text())
            [spec] = read_list(listed, "http://mirror.worker").values()
    assert texts[0] == texts[1]
    assert "mirror.invalid" not in texts[1]
    assert spec.url.startswith("http://mirror.worker/XpucT/Deliberate/resolve/")


def test_a_cached_checkpoint_must_be_pinned(tmp_path: Path) -> None:
    inputs = resolve(loaded_from(make_checkout(tmp_path / "c", CACHED)))
    context = staged_context(Store(tmp_path), {}, (), inputs.cached_artifacts)
    with pytest.raises(UserError, match="the cache model photo is not pinned"), context:
        pass


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/other.safetensors"},
        {"webui_name": "x.safetensors"},
        {"source": {"url": "https://host.invalid/photo.safetensors"}},
        {"source": {"hub": "photo", "file": "photo.safetensors"}},
    ],
)
def test_only_the_checkpoint_of_a_repository_can_be_cached(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match="placement: cache"):
        loaded_from(make_checkout(tmp_path, {**CACHED, **change}))


def test_the_dockerfile_alone_cannot_list_it() -> None:
    with pytest.raises(UserError, match="does not list"):
        build_image(resolve(load("slim")), BuildOptions(prefetch=False))
