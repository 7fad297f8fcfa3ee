"""Addresses that people paste for a model: converted, or refused with the right form."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.common.fetch.spec import ArtifactSpec
from scripts.host.config.load import load
from scripts.host.config.model_links import check_url, read_source
from scripts.host.models.artifacts import image_artifacts
from scripts.host.models.config_edit import add_model, model_entry
from scripts.host.models.hub_client import find_token
from tests.support.checkout import loaded_from, make_checkout
from tests.support.errors import user_error

HUB = "https://huggingface.co"
CIVITAI = "https://civitai.com"
X = {"hub": "a/b", "file": "x.safetensors", "revision": "main"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{HUB}/a/b/blob/main/x.safetensors", X),
        (f" <{HUB}/a/b/resolve/main/x.safetensors?download=true> ", X),
        ("https://hf.co/a/b/raw/v1.0/x.safetensors", {**X, "revision": "v1.0"}),
        (
            f"{HUB}/a/b/blob/refs%2Fpr%2F1/d/x%20y.pt",
            {**X, "file": "d/x y.pt", "revision": "refs/pr/1"},
        ),
        ("a/b/x.safetensors", X),
        ("hub:a/b/x.safetensors", X),
        ("hf://a/b/x.safetensors", X),
        ("hf://a/b@dev/d/x.pt", {"hub": "a/b", "file": "d/x.pt", "revision": "dev"}),
        (f"{HUB}/datasets/a/b/blob/main/x.pt", {"url": f"{HUB}/datasets/a/b/resolve/main/x.pt"}),
        (
            f"{CIVITAI}/models/1/name?modelVersionId=22",
            {"url": f"{CIVITAI}/api/download/models/22"},
        ),
        ("urn:air:sd1:lora:civitai:1@22", {"url": f"{CIVITAI}/api/download/models/22"}),
        (
            f"{CIVITAI}/api/download/models/22?type=Model&format=SafeTensor&size=pruned",
            {"url": f"{CIVITAI}/api/download/models/22?type=Model&format=SafeTensor&size=pruned"},
        ),
        (
            "https://drive.google.com/file/d/1aB-c_/view?usp=sharing",
            {
                "url": "https://drive.usercontent.google.com/download?id=1aB-c_&export=download&confirm=t"
            },
        ),
        (
            "https://drive.google.com/uc?id=1aB&export=download",
            {
                "url": "https://drive.usercontent.google.com/download?id=1aB&export=download&confirm=t"
            },
        ),
        (
            "https://www.dropbox.com/scl/fi/a/x.pt?rlkey=k&st=s&dl=0",
            {"url": "https://www.dropbox.com/scl/fi/a/x.pt?rlkey=k&dl=1"},
        ),
        (
            "https://modelscope.cn/models/a/b/file/view/master/d/x.pt?status=2",
            {"url": "https://modelscope.cn/models/a/b/resolve/master/d/x.pt"},
        ),
        (
            "https://github.com/a/b/blob/main/x.pth",
            {"url": "https://github.com/a/b/raw/main/x.pth"},
        ),
        ("huggingface.co/a/b/blob/main/x.safetensors", X),
        (
            "https://hf-mirror.com/a/b/blob/main/x.pt",
            {"url": "https://hf-mirror.com/a/b/resolve/main/x.pt"},
        ),
        (f"{CIVITAI}/api/v1/model-versions/22", {"url": f"{CIVITAI}/api/download/models/22"}),
        (f"{CIVITAI}/api/download/models/22", {"url": f"{CIVITAI}/api/download/models/22"}),
        (
            "https://www.dropbox.com/s/abc/x.pt?dl=0",
            {"url": "https://www.dropbox.com/s/abc/x.pt?dl=1"},
        ),
        (
            "https://drive.usercontent.google.com/download?id=1aB&export=download&at=S3cret",
            {
                "url": "https://drive.usercontent.google.com/download?id=1aB&export=download&confirm=t"
            },
        ),
        (
            "https://github.com/a/b/releases/latest/download/x.pth",
            {"url": "https://github.com/a/b/releases/latest/download/x.pth"},
        ),
        ("https://b.s3.amazonaws.com/x.pt", {"url": "https://b.s3.amazonaws.com/x.pt"}),
        ("https://h.example/x y.pt#top", {"url": "https://h.example/x%20y.pt"}),
    ],
)
def test_what_people_paste_becomes_a_source(text: str, expected: dict[str, str]) -> None:
    assert read_source(text) == expected
    if "url" in expected:
        assert check_url(expected["url"]) == expected["url"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{HUB}/a/b", "expected the name of a file: hub:a/b/FILE"),
        (f"{HUB}/a/b/tree/main", "expected the name of a file: hub:a/b/FILE"),
        (f"{HUB}/a/b.git", "expected the name of a file: hub:a/b/FILE"),
        (f"{HUB}/spaces/a/b", f"a file: {HUB}/spaces/a/b/resolve/main/FILE"),
        ("https://hf-mirror.com/a/b", "a file: https://hf-mirror.com/a/b/resolve/main/FILE"),
        ("hub:a/b", "expected hub:owner/repo/file"),
        (f"{CIVITAI}/models/1/name", f"Download button: {CIVITAI}/api/download/models/VERSION"),
        ("https://github.com/a/b", "expected the file: https://github.com/a/b/releases/download/"),
        ("https://github.com/a/b/releases/tag/v1", "/releases/download/TAG/FILE"),
        ("https://drive.google.com/drive/folders/1", "this is a folder"),
        ("https://www.dropbox.com/scl/fo/a?rlkey=k", "this is a folder"),
        ("https://modelscope.cn/models/a/b", "models/a/b/resolve/master/FILE"),
        ("https://mega.nz/file/x#key", "fetch the file yourself"),
        ("https://onedrive.live.com/?id=x", "fetch the file yourself"),
        ("s3://bucket/x.safetensors", "expected an address: https://host/file"),
        ("~/no-such-file.safetensors", "there is no file /"),
        ("x.safetensors", "expected hub:owner/repo/file, an address, or the path of a file"),
    ],
)
def test_what_names_no_file_is_refused_with_the_right_form(text: str, expected: str) -> None:
    error = user_error(model_entry, "m", text, "/m")
    assert expected in str(error)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"{CIVITAI}/api/download/models/1?type=Model&token=S3cret", "TOKEN_CIVITAI_COM"),
        ("https://h.example/x.pt?api_key=S3cret", "TOKEN_H_EXAMPLE"),
        ("https://h.example/x.pt?X-Amz-Credential=S3cret&X-Amz-Expires=9", "signed"),
        ("https://a.blob.core.windows.net/c/x.pt?sv=1&sig=S3cret", "signed"),
        ("https://d.cloudfront.net/x?Expires=1&Signature=S3cret&Key-Pair-Id=K", "signed"),
        ("https://storage.googleapis.com/b/x?X-Goog-Signature=S3cret", "signed"),
        ("https://h.example/x.pt?AWSAccessKeyId=S3cret&Signature=S3cret&Expires=1", "signed"),
        (f"https://h.example/x.pt?who=hf_S3cret{'x' * 30}", "TOKEN_H_EXAMPLE"),
        ("https://user:S3cret@h.example/x.pt", "without user and password"),
    ],
)
def test_a_secret_in_an_address_reaches_no_file(tmp_path: Path, url: str, expected: str) -> None:
    added = user_error(model_entry, "m", url, "/m")
    root = make_checkout(tmp_path, {"name": "m", "path": "/m", "source": {"url": url}})
    configured = user_error(loaded_from, root)
    for error in (added, configured):
        assert expected in str(error)
        assert "S3cret" not in str(error)
    assert configured.location.startswith("config.local.yaml:")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"{HUB}/a/b/blob/main/x.pt", "expected {hub: a/b, file: x.pt, revision: main}"),
        (f"{CIVITAI}/models/1?modelVersionId=2", f"{{url: {CIVITAI}/api/download/models/2}}"),
        (f"{HUB}/a/b", "expected the name of a file: hub:a/b/FILE"),
        ("ftp://h.example/x.pt", "expected an address: https://host/file"),
    ],
)
def test_a_page_in_the_config_is_refused_with_the_right_form(
    tmp_path: Path, url: str, expected: str
) -> None:
    root = make_checkout(tmp_path, {"name": "m", "path": "/m", "source": {"url": url}})
    error = user_error(loaded_from, root)
    assert error.message.startswith("models.0.source.url: ")
    assert expected in error.message


def test_a_local_file_is_added_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ä b.safetensors").touch()
    uri = (tmp_path / "ä b.safetensors").as_uri()
    assert model_entry("m", "~/ä b.safetensors", "/m")["source"] == {"url": uri}
    root = make_checkout(
        tmp_path / "c", {"name": "m", "path": "/m", "source": {"url": "~/ä b.safetensors"}}
    )
    assert f"expected {{url: {uri}}}" in str(user_error(loaded_from, root))


def test_an_option_overrules_the_revision_of_a_link(tmp_path: Path) -> None:
    entry = model_entry("m", f"{HUB}/a/b/blob/main/x.pt", kind="lora", revision="v2")
    assert entry["source"] == {"hub": "a/b", "file": "x.pt", "revision": "v2"}
    (tmp_path / "config.yaml").write_bytes(Path("config.yaml").read_bytes())
    add_model(tmp_path, entry)
    assert load(root=tmp_path, environment={}).config.models[-1].source.lock_key == "hub:a/b@v2"


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        (f"{HUB}/a/b/resolve/main/x.safetensors", "HF_TOKEN"),
        ("https://hf.co/a/b/resolve/main/x.safetensors", "HF_TOKEN"),
        (f"{HUB}/datasets/a/b/resolve/main/x.safetensors", "HUGGING_FACE_HUB_TOKEN"),
        ("https://hub.mirror.example/a/b/x.safetensors", "HF_TOKEN"),
        (f"{CIVITAI}/api/download/models/1", "TOKEN_CIVITAI_COM"),
        (f"{CIVITAI}/api/download/models/1", "CIVITAI_TOKEN"),
        (f"{CIVITAI}/api/download/models/1", "CIVITAI_API_TOKEN"),
        ("https://h.example/x.safetensors", "TOKEN_H_EXAMPLE"),
    ],
)
def test_the_token_of_a_site_is_sent_for_its_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, variable: str
) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv(variable, "secret")
    root = make_checkout(tmp_path, {"name": "m", "path": "/m", "source": {"url": url}})
    mirror = "mirrors.huggingface=https://hub.mirror.example"
    (artifact,) = image_artifacts(loaded_from(root, *[mirror] * ("mirror" in url)), ["m"])
    assert find_token(artifact.spec) == "secret"
    other = "TOKEN_ELSEWHERE_EXAMPLE"
    assert find_token(ArtifactSpec("https://elsewhere.example/x", "x", token_variable=other)) == ""
