"""Add models to `config.yaml` and remove them without changing any other byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from scripts.host.config.load import ROOT, load
from scripts.host.models.config_edit import add_model, model_entry, remove_model
from tests.support.errors import user_error

HASH = "a" * 64
BODY = f"source: {{url: https://h.example/m.safetensors}}, sha256: {HASH}"
TREE = yaml.safe_load((ROOT / "config.yaml").read_text())
HEAD = yaml.safe_dump({key: TREE[key] for key in TREE.keys() - {"models", "store"}})


def block(name: str, comment: str = "") -> str:
    """Return a model as lines."""
    lines = (
        f"  - name: {name}{comment}",
        "    source:",
        "      url: https://h.example/m.safetensors",
        f"    path: /{name}.safetensors",
        f"    sha256: {HASH}",
    )
    return "".join(f"{line}\n" for line in lines)


def flow(name: str) -> str:
    """Return a model in one line."""
    return f"{{name: {name}, path: /{name}.safetensors, {BODY}}}"


def entry(name: str) -> dict[str, object]:
    return model_entry(name, "https://h.example/m.safetensors", f"/{name}.safetensors", sha256=HASH)


def write(root: Path, models: str) -> bytes:
    """Write the project's config with other models."""
    content = f"{HEAD}\n{models}".encode()
    (root / "config.yaml").write_bytes(content)
    load(root=root, environment={})
    return content


def read(root: Path) -> bytes:
    return (root / "config.yaml").read_bytes()


def names(root: Path) -> list[str]:
    return [model.name for model in load(root=root, environment={}).config.models]


FILES = {
    "block": f"models:\n{block('one')}{block('two')}",
    "comments": (
        f"models:  # ours\n  # first\n{block('one', '  # small')}  # second\n{block('two')}# end\n"
    ),
    "not-indented": "models:\n"
    + "".join(line[2:] for line in (block("one") + block("two")).splitlines(keepends=True)),
    "key-follows": f"models:\n{block('one')}\n{block('two')}\nstore: {{path: models}}\n",
    "crlf": f"models:\n{block('one')}{block('two')}".replace("\n", "\r\n"),
    "no-last-newline": f"models:\n{block('one')}{block('two')}".rstrip(),
    "flow-items": f"models:\n  - {flow('one')}\n  - {flow('two')}\n",
    "flow-list": f"models: [{flow('one')}, {flow('two')}]  # both\n",
    "flow-lines": f"models: [\n  {flow('one')},  # first\n  {flow('two')},\n]\n",
    "flow-crlf": f"models: [\r\n  {flow('one')},\r\n  {flow('two')}\r\n]",
    "anchors": f"models: &all\n  - &one {flow('one')}\n  - {{<<: *one, name: two, path: /t}}\n",
    "anchored-value": (
        f"models:\n  - name: one\n    source: &from {{url: https://h.example/m}}\n"
        f"    path: /one\n    sha256: {HASH}\n"
        f"  - sha256: {HASH}\n    name: two\n    path: /two\n    source: *from\n"
    ),
    "dash-alone": f"models:\n  -\n    {block('one')[4:]}  -\n    {block('two')[4:]}",
    "folded": block("one").join(["models:\n", block("two").replace("two\n", ">-\n      two\n", 1)]),
    "document": f"models:\n{block('one')}{block('two')}...\n",
}


@pytest.mark.parametrize("name", FILES)
def test_added_model_is_the_only_change_and_can_be_removed_again(tmp_path: Path, name: str) -> None:
    before = write(tmp_path, FILES[name])
    add_model(tmp_path, entry("new"))
    after = read(tmp_path)
    assert names(tmp_path) == ["one", "two", "new"]
    added = len(after) - len(before)
    assert any(after[:i] + after[i + added :] == before for i in range(len(before) + 1))
    assert b"\r" not in after or after.replace(b"\r\n", b"").count(b"\n") == HEAD.count("\n") + 1
    remove_model(tmp_path, "new")
    assert read(tmp_path).rstrip() == before.rstrip()


@pytest.mark.parametrize("name", FILES)
def test_removed_model_is_the_only_change(tmp_path: Path, name: str) -> None:
    before = write(tmp_path, FILES[name])
    remove_model(tmp_path, "two")
    assert names(tmp_path) == ["one"]
    after = read(tmp_path)
    cut = len(before) - len(after)
    splits = (i for i in range(len(after) + 1) if after == before[:i] + before[i + cut :])
    assert any(b"two" in before[i : i + cut] for i in splits)
    assert after.count(b"#") == before.count(b"#")


@pytest.mark.parametrize("name", [name for name in FILES if "anchor" not in name])
def test_every_model_can_be_removed_and_one_added_again(tmp_path: Path, name: str) -> None:
    write(tmp_path, FILES[name])
    for each in ("one", "two"):
        remove_model(tmp_path, each)
    assert names(tmp_path) == []
    add_model(tmp_path, entry("new"))
    assert names(tmp_path) == ["new"]


def test_model_is_added_to_a_config_in_one_pair_of_braces(tmp_path: Path) -> None:
    shutil.copy(ROOT / "config.yaml", tmp_path)
    tree = yaml.safe_load(read(tmp_path)) | {"models": []}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree, default_flow_style=True, width=80))
    add_model(tmp_path, entry("new"))
    assert names(tmp_path) == ["new"]
    remove_model(tmp_path, "new")
    assert yaml.safe_load(read(tmp_path)) == tree


def test_anchored_model_in_use_is_not_removed(tmp_path: Path) -> None:
    before = write(tmp_path, FILES["anchors"])
    assert "alias" in str(user_error(remove_model, tmp_path, "one"))
    assert read(tmp_path) == before


def test_model_that_stands_elsewhere_is_edited_by_hand(tmp_path: Path) -> None:
    cpu = TREE["variants"]["cpu"]
    variants = {"variants": TREE["variants"] | {"cpu": cpu | {"models": []}}}
    shown = yaml.safe_dump(variants).replace("models: []", f"models: [&one {flow('one')}]")
    head = yaml.safe_dump({key: TREE[key] for key in TREE.keys() - {"models", "variants"}})
    (tmp_path / "config.yaml").write_text(f"{head}{shown}models: [*one]\n")
    assert names(tmp_path) == ["one"]
    assert "by hand" in user_error(remove_model, tmp_path, "one").hint


def test_project_config_keeps_every_line(tmp_path: Path) -> None:
    shutil.copy(ROOT / "config.yaml", tmp_path)
    before = read(tmp_path)
    add_model(tmp_path, model_entry("extra", "hub:o/r/sub/m.safetensors", "/extra.safetensors"))
    assert names(tmp_path)[-1] == "extra"
    assert [line for line in before.splitlines() if line not in read(tmp_path).splitlines()] == []
    remove_model(tmp_path, "extra")
    assert read(tmp_path) == before


def test_model_of_a_kind_is_added_without_a_path(tmp_path: Path) -> None:
    shutil.copy(ROOT / "config.yaml", tmp_path)
    source = "hub:o/r/sub/4x-x.pth"
    add_model(tmp_path, model_entry("x", source, kind="upscaler", family="DAT", licence="MIT"))
    added = yaml.safe_load(read(tmp_path))["models"][-1]
    assert {key: added[key] for key in added.keys() - {"name", "source"}} == {
        "kind": "upscaler",
        "family": "DAT",
        "licence": "MIT",
    }
    [*_, model] = load(root=tmp_path, environment={}).config.models
    assert model.target == "/opt/a1111/models/DAT/4x-x.pth"


def test_model_with_neither_kind_nor_path_is_not_added(tmp_path: Path) -> None:
    shutil.copy(ROOT / "config.yaml", tmp_path)
    before = read(tmp_path)
    error = user_error(add_model, tmp_path, model_entry("x", "hub:o/r/m.safetensors"))
    assert "expected a kind (checkpoint, vae, lora," in str(error)
    assert read(tmp_path) == before


def test_invalid_model_is_not_added(tmp_path: Path) -> None:
    shutil.copy(ROOT / "config.yaml", tmp_path)
    before = read(tmp_path)
    user_error(add_model, tmp_path, model_entry("x", "hub:o/r/m.safetensors", "not-absolute"))
    assert read(tmp_path) == before


def test_removing_an_unknown_model_lists_the_known_ones(tmp_path: Path) -> None:
    shutil.copy(ROOT / "config.yaml", tmp_path)
    assert "clip-tokenizer" in user_error(remove_model, tmp_path, "nothing").hint
