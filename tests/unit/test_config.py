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
        ("\nbuild:\n  network: hst\n", "build.network: expected 'default'"),
        ("\nbuild:\n  network: hst\n", ": config.local.yaml:3"),
        ("models: [{name: a, path: /a}]\n", "models.0.source: missing value"),
        (
            "smoke: {steps: many}\n",
            'smoke.steps: expected a whole number, not "many": config.',
        ),
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


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("image.repository=https://ghcr.io/me/app", "registry/owner/name in lower case"),
        ("image.repository=me/App", 'without https:// and tag, not "me/App"'),
        ("image.repository=ghcr.io/me/app:v1", "without https:// and tag"),
        ("image.repository=-x/app", "registry/owner/name"),
        ("image.repository=me//app", "registry/owner/name"),
        ("image.tags=['{realease}']", r"tags\.0: unknown placeholder {realease}; expected one of"),
        ("image.tags=['a b']", 'image.tags.0: expected a tag of letters, .*, not "a b"'),
        ("image.tags=['{release}{']", "expected a tag"),
        ("image.moving_tags=['{release}-{variant}-{revision}']", "immutable and moving"),
        ("image.labels={'a=b': c}", "expected a name without spaces and ="),
        ('image.labels={a: "b\\0"}', "image.labels: expected text without control characters"),
        (
            "base.runtime=https://hub.docker.com/r/pytorch/pytorch",
            "base.runtime: expected an image",
        ),
        ("base.runtime=pytorch/pytorch@sha256:12", "base.runtime: expected an image"),
        ("a1111.release=v1.9.3 --upload-pack=x", "a1111.release: expected the name of a branch"),
        ("a1111.sources.webui.commit=v1.9.3", '40 hex digits, not "v1.9.3"'),
        ("a1111.sources.wbui.repo=a/b", "a1111.sources.wbui"),
        (
            "a1111.sources.blip.repo=https://github.com/a/b/tree/main",
            "address of a page; expected a/b",
        ),
        ("a1111.sources.blip.repo=git@github.com:a/b.git", "ssh://git@github.com/a/b.git"),
        ("mirrors.python=https://pypi.example/simple?token=x", "such as https://host/path: -D"),
        ("mirrors.ca_bundle=$NOT_SET_HERE/ca.pem", "variable NOT_SET_HERE is not set"),
        ("store.path=~nobody-at-all/models", "expected a path"),
        ("store.path=''", "expected a path"),
        ("build.requirements=../x.txt", "a path below the checkout"),
        ("build.builder='--help'", "docker buildx ls"),
        ("build.cache.to=['type=local,dest']", "then key=value"),
        ("build.cache.to=['type=ftp,dest=/x']", "a type of registry, local"),
        ("build.cache.to=['type=registry,ref=Cache:x']", "expected an image"),
        ("build.cache.to=['type=s3,secret_access_key=abc']", "secret_access_key would be in the"),
        ("smoke.ready_timeout=0", "expected greater than or equal to 1, not 0"),
        ("smoke.stop_timeout=-1", "expected greater than or equal to 1, not -1"),
        ("smoke.image_size=100", "expected a multiple of 8, not 100"),
        ("smoke.layer_size_limit=0", "expected greater than or equal to 1"),
        ("smoke.targets=['8,9']", "smoke.targets.0: expected"),
        ("deploy.endpoint=../pods", "expected an ID as RunPod's console shows it"),
        ("deploy.volumes=['a b']", "deploy.volumes.0: expected an ID"),
        ("deploy.workers={min: 4, max: 3}", "min 4 is above max 3"),
        ("deploy={timeout: 600, env: {JOB_TIMEOUT: '600'}}", "timeout 600 is not above env.JOB"),
        ("smoke={total_size_limit: 5, layer_size_limit: 6}", "layer_size_limit.*total_size_limit"),
    ],
)
def test_what_a_text_becomes_decides_what_it_may_be(
    checkout: Path, setting: str, expected: str
) -> None:
    error = user_error(load, root=checkout, define=[setting])
    assert re.search(expected, str(error)), str(error)
    key = setting.partition("=")[0]
    assert error.message.startswith(key.rpartition(".")[0])
    assert error.location.startswith("-D ")
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    "name",
    [
        "app",
        "me/app",
        "ghcr.io/me/app",
        "localhost:5000/app",
        "[::1]:5000/a/b",
        "h.example/a_b/c--d",
    ],
)
def test_every_form_of_an_images_name_is_taken(checkout: Path, name: str) -> None:
    config = load(root=checkout, define=[f"image.repository={name}"]).config
    assert config.image.repository == name


def test_a_wrong_value_that_may_be_secret_is_not_repeated(checkout: Path) -> None:
    token = "hf_" + "a" * 34
    error = user_error(load, root=checkout, define=[f"a1111.release={token}/"])
    assert token not in str(error)


def test_home_and_variables_are_replaced_in_every_path_of_this_machine(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(checkout))
    monkeypatch.setenv("SHARED", str(checkout / "shared"))
    monkeypatch.delenv("MODELS_STORE", raising=False)
    (checkout / "ca.pem").touch()
    define = ["mirrors.ca_bundle=~/ca.pem", "build.cache.to=['type=local,dest=~/cache,mode=max']"]
    loaded = load(root=checkout, define=["store.path=${SHARED}/models", *define])
    assert loaded.store == checkout / "shared" / "models"
    assert loaded.ca_bundle == checkout / "ca.pem"
    assert loaded.config.build.cache.to == (f"type=local,dest={checkout}/cache,mode=max",)
    monkeypatch.setenv("MODELS_STORE", "~/x")
    assert loaded.store == checkout / "x"
    (checkout / "mine.yaml").write_text("smoke: {steps: 9}\n")
    named = load(root=checkout, environment={"IMAGE_CONFIG": "$HOME/mine.yaml"})
    assert named.config.smoke.steps == 9


@pytest.mark.parametrize("path", ["/../../x", "/a/../b", "/a/./b", "/a//b", "/.."])
def test_a_models_path_stays_where_it_says(checkout: Path, path: str) -> None:
    source = "{url: 'https://h/x.safetensors'}"
    (checkout / "config.local.yaml").write_text(
        f"models: [{{name: m, source: {source}, path: {path}}}]\n"
    )
    error = user_error(load, root=checkout)
    assert (
        error.message
        == f'models.0.path: expected an absolute path, or with a kind a file name, not "{path}"'
    )
    assert error.location == "config.local.yaml:1"


def test_a_checksum_is_taken_as_pages_show_it(checkout: Path) -> None:
    model = "{name: m, path: /m, source: {url: ' https://h/x '}, sha256: ' SHA256:%s '}"
    (checkout / "config.local.yaml").write_text(f"models: [{model % ('AB' * 32)}]\n")
    found = load(root=checkout).config.models[0]
    assert (found.sha256, found.source.id) == ("ab" * 32, "https://h/x")


@pytest.mark.parametrize("file", ["../x.safetensors", "/x.safetensors", "a/../b", "https://h/x"])
def test_a_file_of_a_repository_lies_in_it(checkout: Path, file: str) -> None:
    model = f"{{name: m, path: /m, source: {{hub: a/b, file: '{file}'}}}}"
    (checkout / "config.local.yaml").write_text(f"models: [{model}]\n")
    assert "the path of a file in the repository" in str(user_error(load, root=checkout))
