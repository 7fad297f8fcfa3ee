"""A feature's files reach the image under A1111's own names, through a mirror of their host."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from scripts.host.build.image_labels import LICENCES_LABEL
from scripts.host.build.inputs import BuildOptions, resolve
from scripts.host.build.pipeline import build_image
from scripts.host.config.load import load
from scripts.host.config.lock import Lock
from scripts.host.engine.client import client
from scripts.host.models.hub_client import Hub
from scripts.host.models.store import Store
from scripts.host.pin.pin_network import find_model_files
from tests.support.checkout import sha
from tests.support.pickles import tensor, torch_zip
from tests.support.running import output
from tests.support.serving import Server, running

pytestmark = [pytest.mark.engine, pytest.mark.slow]

TAG = "a1111-worker-test:features"
COMMIT = "58a76e0018208dc3d3c56dd441cc42117c554c06"


def test_a_pinned_feature_is_baked_where_a1111_looks(
    image_config: Path, model_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELS_STORE", str(model_store))
    environment = {"IMAGE_CONFIG": str(image_config)}
    folder = tmp_path / "madebyollin" / "taesd" / "raw" / COMMIT
    folder.mkdir(parents=True)
    contents = {}
    for name in ("taesd_decoder", "taesd_encoder", "taesdxl_decoder", "taesdxl_encoder"):
        contents[name] = torch_zip({name: tensor(3)})
        (folder / f"{name}.pth").write_bytes(contents[name])

    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with running(Server(("127.0.0.1", 0), handler)) as mirror:
        define = ("features=[taesd]", f"mirrors.github={mirror.url}")
        loaded = load("cpu", define, environment=environment)
        mirrors, hub, store = loaded.config.mirrors, Hub.from_config(loaded), Store(loaded.store)
        pins = {
            model.name: find_model_files(model, mirrors, hub, store)
            for model in loaded.config.all_models
            if model not in loaded.config.models
        }

    # The build's own mirror does not have them: the lock finds them in the store.
    loaded = load("cpu", ("features=[taesd]",), environment=environment)
    inputs = resolve(replace(loaded, lock=Lock(models=pins)))
    report = build_image(inputs, BuildOptions(tags=(TAG,), progress="plain"))
    for name, content in contents.items():
        path = f"/opt/a1111/models/VAE-taesd/{name}.pth"
        assert output(TAG, path, entrypoint="sha256sum").split() == [sha(content), path]
    labels = client().images.get(report.image_id).labels
    assert json.loads(labels[LICENCES_LABEL])["taesd-decoder"] == "MIT"
