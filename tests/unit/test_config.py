"""The config: layers, origins, and errors in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.config.describe import SCHEMA_NAME, render_config, schema_text
from scripts.host.config.load import ROOT, load
from tests.support.errors import user_error


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    return tmp_path


def test_later_layers_win_and_have_origins(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "config.local.yaml").write_text("smoke:\n  steps: 2\n  image_size: 128\n")
    named = checkout / "ci.yaml"
    named.write_text("smoke:\n  steps: 3\n  ready_timeout: 5\n")
    monkeypatch.setenv("IMAGE_CONFIG", str(named))

    loaded = load("cpu", ["smoke.ready_timeout=6"], root=checkout)

    smoke = loaded.config.smoke
    assert (smoke.image_size, smoke.steps, smoke.ready_timeout) == (128, 3, 6)
    assert loaded.origins["smoke.image_size"] == "config.local.yaml:3"
    assert loaded.origins["smoke.steps"] == f"{named}:2"
    assert loaded.origins["smoke.ready_timeout"] == "-D smoke.ready_timeout"


def test_the_variant_lies_between_config_yaml_and_the_local_file(checkout: Path) -> None:
    assert load("cpu", root=checkout).config.build.accelerator == "cpu"
    (checkout / "config.local.yaml").write_text("build: {accelerator: cuda}\n")
    assert load("cpu", root=checkout).config.build.accelerator == "cuda"


def test_a_variant_may_have_dots_in_its_name(checkout: Path) -> None:
    loaded = load("a1111-v1.10.1", root=checkout)
    assert loaded.config.a1111.release == "v1.10.1"
    assert loaded.origins["a1111.release"].startswith("config.yaml:")


def test_a_variant_may_come_from_a_later_file(checkout: Path) -> None:
    (checkout / "config.local.yaml").write_text("variants: {mine: {smoke: {steps: 9}}}\n")
    assert load("mine", root=checkout).config.smoke.steps == 9


def test_maps_merge_and_lists_are_replaced(checkout: Path) -> None:
    (checkout / "config.local.yaml").write_text(
        "smoke: {targets: ['9.0', '8.0']}\na1111: {sources: {blip: {repo: me/blip}}}\n"
    )
    config = load(root=checkout).config
    assert config.smoke.targets == ("9.0", "8.0")
    assert config.a1111.sources["blip"].repo == "me/blip"
    assert config.a1111.sources["blip"].commit
    assert "clip" in config.a1111.sources


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image: [", "config.local.yaml:"),
        ("image: {repositry: x}\n", "image.repositry: unknown key: config.local.yaml:1"),
        ("\nbuild:\n  network: hst\n", "build.network: Input should be 'default'"),
        ("\nbuild:\n  network: hst\n", ": config.local.yaml:3"),
        ("models: [{name: a, path: /a}]\n", "models.0.source: missing value"),
        ("smoke: {steps: many}\n", "smoke.steps: expected a whole number: config.local.yaml:1"),
        ("smoke: 3\n", "smoke: expected a map"),
        ("models: {}\n", "models: expected a list"),
        ("image: {repository: 3}\n", "image.repository: expected text"),
        ("smoke: &a {steps: *a}\n", "an alias contains itself: config.local.yaml"),
        ("a: 1\n---\nb: 1\n", "not valid YAML: but found another document: config.local.yaml:2"),
        ("smoke: {steps: 1}\nsmoke: {steps: 2}\n", "duplicate key smoke"),
        ("- a\n", "expected a map of keys"),
        (
            "models: [{name: a, path: /a, source: {hub: a/b, fil: c}}]\n",
            "models.0.source.fil: unknown key",
        ),
    ],
)
def test_a_wrong_config_is_located_by_file_line_and_key(
    checkout: Path, text: str, expected: str
) -> None:
    (checkout / "config.local.yaml").write_text(text)
    error = user_error(load, root=checkout)
    assert expected in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    "key", ["github", "huggingface", "pytorch", "python", "apt", "apk", "registry"]
)
def test_a_password_in_a_mirror_is_refused_and_not_repeated(checkout: Path, key: str) -> None:
    scheme = "" if key == "registry" else "https://"
    with pytest.raises(UserError, match=f"^mirrors.{key}: ") as caught:
        load(define=[f"mirrors.{key}={scheme}joe:s3cret@mirror.example:8443/x"], root=checkout)
    assert "s3cret" not in str(caught.value)
    assert "joe" not in str(caught.value)


def test_a_token_in_a_source_is_refused_and_not_repeated(checkout: Path) -> None:
    with pytest.raises(UserError, match=r"a1111.sources.blip.repo: expected .*history") as caught:
        load(define=["a1111.sources.blip.repo=https://s3cret@git.example/a/b"], root=checkout)
    assert "s3cret" not in str(caught.value)
    ssh = load(define=["a1111.sources.blip.repo=ssh://git@git.example/a/b"], root=checkout)
    assert ssh.config.a1111.sources["blip"].repo == "ssh://git@git.example/a/b"


def test_a_password_in_a_models_url_is_refused_and_not_repeated(checkout: Path) -> None:
    url = "https://joe:s3cret@models.example/a.safetensors"
    model = f"models: [{{name: a, path: /model.safetensors, source: {{url: '{url}'}}}}]\n"
    (checkout / "config.local.yaml").write_text(model)
    with pytest.raises(UserError, match=r"^models.0.source.url: expected an address") as caught:
        load(root=checkout)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["host", "host:5000", "[::1]:5000", "host:5000/a/b", "10.0.0.1"])
def test_a_mirror_may_end_in_a_slash(checkout: Path, kind: str) -> None:
    define = [f"mirrors.python=http://{kind}//", f"mirrors.registry={kind}/"]
    mirrors = load(define=define, root=checkout).config.mirrors
    assert (mirrors.python, mirrors.registry) == (f"http://{kind}", kind)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("python=pypi.example/simple", "expected an address such as https://host/path"),
        ("python=ftp://pypi.example/simple", "expected an address such as https://host/path"),
        ("python=http://host:99999/simple", "the address has a wrong host or port"),
        ("python=http://[::1/simple", "the address has a wrong host or port"),
        ("registry=https://registry.example", "without https://"),
    ],
)
def test_a_mirror_that_is_no_address_is_refused(
    checkout: Path, setting: str, expected: str
) -> None:
    with pytest.raises(UserError, match=r"^mirrors\.") as caught:
        load(define=[f"mirrors.{setting}"], root=checkout)
    assert expected in str(caught.value)
    assert ": -D mirrors." in str(caught.value)


def test_an_unknown_variant_is_refused_with_the_known_ones(checkout: Path) -> None:
    with pytest.raises(UserError, match=r"no variant cud.*cuda128, cpu"):
        load("cud", root=checkout)


def test_an_override_without_value_is_refused(checkout: Path) -> None:
    with pytest.raises(UserError, match=r"key\.path=value"):
        load(define=["smoke.steps"], root=checkout)


def test_two_models_cannot_share_a_path(checkout: Path) -> None:
    model = "{name: %s, path: /model.safetensors, source: {url: 'https://h/x'}}"
    (checkout / "config.local.yaml").write_text(f"models: [{model % 'a'}, {model % 'b'}]\n")
    with pytest.raises(UserError, match="path used twice"):
        load(root=checkout)


def test_every_value_is_shown_with_its_origin(checkout: Path) -> None:
    lines = render_config(load("cpu", ["smoke.steps=7"], root=checkout)).splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert rows["smoke.steps"].split()[1:] == ["-D", "smoke.steps", "7"]
    assert "config.yaml:" in rows["build.accelerator"]
    assert rows["models.0.allow_pickle"].split()[1:] == ["default", "false"]


def test_the_schema_file_is_current() -> None:
    assert (ROOT / SCHEMA_NAME).read_text() == schema_text(), "run: invoke config --schema"


@pytest.mark.parametrize(
    "settings",
    [
        "path: /model.safetensors",
        "path: /h, layout: hub-cache, size: 3",
        f"path: /h, layout: hub-cache, sha256: {'a' * 64}",
    ],
)
def test_settings_of_one_file_are_refused_for_several(checkout: Path, settings: str) -> None:
    source = "{hub: o/r, files: [a, b]}"
    (checkout / "config.local.yaml").write_text(
        f"models: [{{name: m, source: {source}, {settings}}}]\n"
    )
    with pytest.raises(UserError, match="several files need"):
        load(root=checkout)


@pytest.mark.parametrize("path", ["/etc/passwd", "../elsewhere.txt", "a/../../b.txt"])
def test_the_lock_of_packages_lies_in_the_checkout(checkout: Path, path: str) -> None:
    with pytest.raises(UserError, match=r"build\.requirements"):
        load(define=[f"build.requirements={path}"], root=checkout)


def test_every_value_of_a_map_that_an_override_sets_has_its_origin() -> None:
    rendered = render_config(load("cpu", ["webui.settings={tiling: true, n_rows: 2}"]))
    lines = [line.split() for line in rendered.splitlines() if "webui.settings." in line]
    assert lines == [
        ["webui.settings.tiling", "-D", "webui.settings", "true"],
        ["webui.settings.n_rows", "-D", "webui.settings", "2"],
    ]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("flags.add", "['--port 1']", "set its variable WEBUI_PORT"),
        ("flags.add", "['--api-auth a:b']", "is a secret.* set API_AUTH instead"),
        ("flags.add", "[medvram]", "does not begin with --"),
        ("flags.add", '["--vae-dir \'/x"]', "open quote"),
        ("flags.remove", "['--nowebui']", "the worker needs --nowebui"),
        ("flags.remove", "['--medvram']", "not one of the worker's own flags: --no-hashing"),
        ("settings", "{sd_model_checkpoint: x}", "MODEL_PATH"),
        ("settings", "{outdir_samples: outputs}", "absolute path"),
        ("settings", "{samples_format: avif}", "not one of png, jpg, jpeg, webp"),
        ("settings", "{civitai_api_key: x}", "looks like a secret"),
        ("settings", "{samples_format: null}", "samples_format is neither"),
        ("settings", "{sd_vae: {a: b}}", "sd_vae is neither"),
    ],
)
def test_what_the_webui_must_not_have_is_refused(key: str, value: str, expected: str) -> None:
    error = user_error(load, "cpu", [f"webui.{key}={value}"])
    assert f"webui.{key}" in error.message
    assert re.search(expected, error.message)
