"""Extensions in the config, and the manifest of those that an image contains."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.common.diagnostics.error import UserError
from scripts.common.extensions.extension_manifest import (
    BakedExtension,
    DeclaredCheck,
    as_json,
    read_extensions,
)
from scripts.host.build.image_labels import EXTENSIONS_LABEL
from scripts.host.build.inputs import resolve
from scripts.host.config.load import load
from tests.support.checkout import from_url, loaded_from, make_checkout

COMMIT = "36189cb" + "0" * 33
DETECTOR = {"name": "face", "source": {"url": "https://host.invalid/face_yolov8n.pt"}}


def configured(root: Path, *extensions: dict[str, Any]) -> Path:
    """Make a checkout with extensions."""
    model = from_url("https://host.invalid/model.safetensors")
    return make_checkout(root, model, extensions=list(extensions))


def error_of(root: Path, *extensions: dict[str, Any]) -> str:
    """Return the message about a config with extensions that are not valid."""
    with pytest.raises(UserError) as raised:
        loaded_from(configured(root, *extensions))
    return str(raised.value)


def test_an_extension_is_named_after_its_repository(tmp_path: Path) -> None:
    addresses = ["Bing-su/adetailer", "https://host.invalid/some/Other.git", "file:///x/third/"]
    root = configured(tmp_path, *({"repo": each} for each in addresses))
    names = [each.folder_name for each in loaded_from(root).config.extensions]
    assert names == ["adetailer", "Other", "third"]


@pytest.mark.parametrize(
    ("extension", "expected"),
    [
        ({"repo": "Bing-su/adetailer", "name": "../x"}, "extensions.0.name"),
        ({"repo": "Bing-su/adetailer", "name": ".hidden"}, "extensions.0.name"),
        ({"repo": "Bing-su/.."}, "the repository's name"),
        ({"repo": "--upload-pack=touch/x"}, "expected owner/name"),
        ({"repo": "ext::sh -c true/x"}, "expected owner/name"),
        ({"repo": "https://user:secret@host.invalid/o/n"}, "without user and password"),
        ({"repo": "o/n", "commit": "--all"}, "extensions.0.commit"),
        ({"repo": "o/n", "commit": "a..b"}, "expected the name of a branch or tag"),
        ({"repo": "o/n", "routes": ["no-slash"]}, "extensions.0.routes.0"),
        ({"repo": "o/n", "requirements": ["-r /etc/passwd"]}, "extensions.0.requirements.0"),
        ({"repo": "o/n", "requirements": ["a b"]}, "a b is no requirement"),
        ({"repo": "o/n", "overrides": ["protobuf<4;"]}, "protobuf<4; is no requirement"),
        ({"repo": "o/lora"}, "an extension of the WebUI itself"),
        ({"repo": "o/extensions.json"}, "one name in the WebUI"),
        ({"repo": "o/n", "instal": "none"}, "unknown key"),
        (
            {
                "repo": "o/n",
                "models": [{**DETECTOR, "path": "models/x.safetensors", "placement": "volume"}],
            },
            "a folder of the image",
        ),
    ],
)
def test_an_extension_that_could_not_be_baked_is_refused(
    tmp_path: Path, extension: dict[str, Any], expected: str
) -> None:
    message = error_of(tmp_path, extension)
    assert expected in message
    assert "secret" not in message


def test_names_are_distinct_without_their_case(tmp_path: Path) -> None:
    assert "A/x and b/X" not in (message := error_of(tmp_path, {"repo": "A/x"}, {"repo": "b/X"}))
    assert "x and X have one name" in message


def test_models_of_an_extension_are_models_of_the_image(tmp_path: Path) -> None:
    own = {**DETECTOR, "path": "weights/face.pt", "allow_pickle": True}
    by_kind = {**DETECTOR, "name": "hand", "kind": "adetailer", "path": "hand.pt"}
    root = configured(tmp_path, {"repo": "Bing-su/adetailer", "models": [own, by_kind]})
    targets = [each.target for each in loaded_from(root).config.all_models]
    assert targets[1:] == [
        "/opt/extensions/adetailer/weights/face.pt",
        "/opt/a1111/models/adetailer/hand.pt",
    ]


def test_a_model_of_an_extension_has_a_name_of_its_own(tmp_path: Path) -> None:
    model = {"name": "u", "source": DETECTOR["source"], "kind": "adetailer"}
    assert "name used twice: u" in error_of(tmp_path, {"repo": "o/n", "models": [model]})


def test_a_ref_is_pinned_by_the_lock(tmp_path: Path) -> None:
    root = configured(
        tmp_path,
        {"repo": "o/by-commit", "commit": COMMIT, "licence": "MIT"},
        {"repo": "o/by-branch", "commit": "dev"},
        {"repo": "o/by-nothing"},
    )
    (root / "config.lock.yaml").write_text(f"sources:\n  o/by-branch@dev: {COMMIT}\n")
    inputs = resolve(loaded_from(root))
    assert [each.commit for each in inputs.extensions] == [COMMIT, COMMIT, ""]
    assert "extension by-nothing (o/by-nothing)" in inputs.unpinned
    assert not any("by-branch" in each or "by-commit" in each for each in inputs.unpinned)
    assert (
        f'"by-commit": {{"commit": "{COMMIT}", "licence": "MIT"'
        in (inputs.labels[EXTENSIONS_LABEL])
    )


def test_a_variant_has_its_own_extensions(tmp_path: Path) -> None:
    root = configured(tmp_path, {"repo": "o/all"})
    text = (root / "config.yaml").read_text()
    (root / "config.yaml").write_text(f"{text}\n  faces: {{extensions: [{{repo: o/faces}}]}}\n")
    tree = yaml.safe_load((root / "config.local.yaml").read_text())
    del tree["extensions"]
    (root / "config.local.yaml").write_text(yaml.safe_dump(tree))
    chosen = {
        name: [each.repo for each in load(name, root=root).config.extensions]
        for name in ("cuda128", "faces")
    }
    assert chosen == {"cuda128": [], "faces": ["o/faces"]}


def test_an_image_without_extensions_has_no_label_of_them(tmp_path: Path) -> None:
    assert EXTENSIONS_LABEL not in resolve(loaded_from(configured(tmp_path))).labels


def test_the_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    check = DeclaredCheck(body={"alwayson_scripts": {"ADetailer": {"args": [True]}}})
    extensions = (
        BakedExtension("a", "o/a", "main", COMMIT, {"sub": COMMIT}, "none", ("/a/",), check, "MIT"),
        BakedExtension("b", "o/b", "dev", COMMIT),
    )
    (tmp_path / "extensions.json").write_text(as_json(extensions))
    assert read_extensions(tmp_path / "extensions.json") == extensions
    assert read_extensions(tmp_path / "none.json") == ()


def test_a_damaged_manifest_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "extensions.json").write_text('[{"name": "a"}]')
    with pytest.raises(UserError, match="cannot be read"):
        read_extensions(tmp_path / "extensions.json")
