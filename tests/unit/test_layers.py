"""Layers read as streams: their violations, and bytes that no container can read."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.common.diagnostics.error import UserError
from scripts.common.secrets import has_token, redact
from scripts.host.inspect.export import read_saved_trees
from scripts.host.inspect.layer_tree import LayerTree, overlay, replaced_folder_probes
from scripts.host.inspect.structure import locate_violations
from scripts.host.inspect.violations import find_config_secrets
from tests.support.tars import (
    chunks,
    diff_id,
    file,
    folder,
    layer,
    link,
    saved,
    tar,
    whiteout_device,
)

# Of the forms only; put together here so that no file of the project holds one.
TOKENS = (
    b"hf_" + b"x" * 34,
    b"ghp_" + b"a" * 36,
    b"github_pat_" + b"a" * 60,
    b"glpat-" + b"a" * 20,
    b"AKIA" + b"A" * 16,
    b"rpa_" + b"A" * 40,
    b"npm_" + b"a" * 36,
    b"-----BEGIN OPENSSH " + b"PRIVATE KEY-----\n" + b"A" * 64,
)
SECRET = file("root/x", b"token=" + TOKENS[0])


def codes(*trees: LayerTree) -> list[tuple[str, str, int, bool]]:
    return [(found.code, found.path, found.layer, found.gone) for found in locate_violations(trees)]


def hidden(*trees: LayerTree) -> dict[str, int]:
    return {path: trees[layer].files[path] for layer, path in overlay(trees).hidden}


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token[:12].decode())
def test_tokens_of_every_issuer_are_found(token: bytes) -> None:
    assert has_token(b"login = '" + token + b"'\n")


@pytest.mark.parametrize(
    "text",
    [
        b"hf_hub_download(repo)",
        b"AKIA" + b"IOSFODNN7" + b"EXAMPLE",
        b"starts with '-----BEGIN PRIVATE KEY-----' and ends",
        b"# ghp_xxxx goes here",
    ],
)
def test_text_about_tokens_is_not_a_token(text: bytes) -> None:
    assert not has_token(text)


def test_deleted_secret_is_found_and_its_content_not_reported() -> None:
    [found] = locate_violations([layer(SECRET), layer(file("root/.wh.x", b""))])
    assert (found.code, found.path, found.layer, found.gone) == (
        "secret-in-image",
        "/root/x",
        1,
        True,
    )
    assert TOKENS[0].decode() not in str(found)


@pytest.mark.parametrize(
    "path",
    [
        "root/.netrc",
        "home/worker/.git-credentials",
        "root/.aws/credentials",
        "root/.ssh/id_ed25519",
        "opt/huggingface/token",
        "run/secrets/hf_token",
    ],
)
def test_credential_file_is_found_by_name(path: str) -> None:
    assert codes(layer(file(path))) == [("secret-in-image", f"/{path}", 1, False)]
    assert codes(layer(file(path, b""))) == []  # what a secret mount leaves is empty


def test_docker_config_is_a_secret_only_with_credentials() -> None:
    path = "root/.docker/config.json"
    assert codes(layer(file(path, b'{"credsStore": "pass"}'))) == []
    assert codes(layer(file(path, b'{"auths": {"a": {"auth": "eDp5"}}}'))) != []


def test_only_small_text_files_are_searched_for_secrets() -> None:
    binary = file("lib/a.so", b"\x7fELF\0" + TOKENS[0])
    large = file("log", TOKENS[0] + b"\n" * 300_000)
    assert codes(layer(binary, large)) == []


@pytest.mark.parametrize(
    ("path", "reported"),
    [
        ("srv/app/.git/HEAD", "/srv/app/.git"),
        ("srv/submodule/.git", "/srv/submodule/.git"),
        ("root/.cache/pip/http-v2/a/b", "/root/.cache/pip"),
        ("home/worker/.cache/uv/x", "/home/worker/.cache/uv"),
        ("srv/cache/pip/http-v2/a", "/srv/cache/pip/http-v2"),
        ("opt/uv-cache/wheels-v5/pypi/x.whl", "/opt/uv-cache"),
        ("var/cache/apt/archives/git.deb", "/var/cache/apt/archives/git.deb"),
        ("var/lib/apt/lists/deb.debian.org_InRelease", "/var/lib/apt/lists"),
        ("tools/bin/uv", "/tools"),
        ("requirements.txt", "/requirements.txt"),
    ],
)
def test_leftover_is_reported_by_its_folder(path: str, reported: str) -> None:
    assert ("leftovers", reported, 1, False) in codes(layer(file(path)))


def test_similar_names_are_not_leftovers() -> None:
    kept = ("opt/x/lib/pip/_internal/cache.py", "srv/.gitignore", "srv/.github/x", "opt/tools/a")
    assert codes(layer(*(file(path) for path in kept), file("tools/a", b""))) == []


def test_cache_of_thousands_of_files_is_one_violation() -> None:
    assert len(codes(layer(*(file(f"root/.cache/pip/{n}") for n in range(2000))))) == 1


def test_git_folder_deleted_by_a_later_layer_is_found() -> None:
    below = layer(folder("srv/.git"), file("srv/.git/HEAD"))
    assert codes(below, layer(file("srv/.wh..git", b""))) == [("leftovers", "/srv/.git", 1, True)]


def test_one_commit_of_an_extension_is_no_history() -> None:
    git = "opt/extensions/one/.git"
    small = layer(folder(git), file(f"{git}/HEAD"), file(f"{git}/objects/ab/cd"))
    assert codes(small) == []
    packed = layer(folder(git), file(f"{git}/objects/pack/p.pack"))
    assert codes(packed) == [("leftovers", f"/{git}", 1, False)]
    assert codes(layer(folder("opt/extensions/one/sub/.git")))[0][0] == "leftovers"


def test_world_writable_paths_are_found_except_sticky_folders() -> None:
    made = layer(
        *(folder("tmp", 0o1777), folder("open", 0o777), file("a", mode=0o666), file("b")),
        link("c", "a"),
    )
    assert codes(made) == [
        ("world-writable", "/open", 1, False),
        ("world-writable", "/a", 1, False),
    ]


def test_permission_corrected_by_a_later_layer_is_no_violation() -> None:
    wide = layer(folder("open", 0o777), file("open/a", mode=0o666))
    corrected = layer(folder("open"), file("open/a"))
    assert codes(wide, corrected) == []
    assert codes(wide, layer(file(".wh.open", b""))) == []
    assert len(codes(corrected, wide)) == 2


def test_setuid_file_is_found() -> None:
    assert codes(layer(file("bin/su", mode=0o4755))) == [("setuid-file", "/bin/su", 1, False)]


def test_overwritten_file_is_hidden_in_its_layer() -> None:
    trees = [layer(file("b")), layer(file("a", b"x" * 5000)), layer(), layer(file("a", b"y"))]
    assert overlay(trees).hidden == ((1, "/a"),)
    assert hidden(*trees) == {"/a": 5000}


def test_deleted_files_and_folders_are_hidden() -> None:
    below = layer(file("a", b"1234"), folder("d"), file("d/e/f", b"123"), file("dd", b"12"))
    assert hidden(below, layer(file(".wh.a", b""))) == {"/a": 4}
    assert hidden(below, layer(file(".wh.d", b""))) == {"/d/e/f": 3}
    assert hidden(below, layer(whiteout_device("d"))) == {"/d/e/f": 3}


def test_linked_whiteout_devices_are_both_deletions() -> None:
    below = layer(file("a", b"1"), file("b", b"22"))
    above = layer(whiteout_device("a"), link("b", "a"))
    assert hidden(below, above) == {"/b": 2, "/a": 1}
    assert codes(layer(folder("x/.git")), layer(whiteout_device("a"), link("x/.git", "a"))) == [
        ("leftovers", "/x/.git", 1, True)
    ]


def test_opaque_folder_hides_lower_files_but_not_its_own() -> None:
    below = layer(folder("d"), file("d/old", b"123"), file("d/deep/old", b"12"))
    above = layer(folder("d"), file("d/.wh..wh..opq", b""), file("d/new", b"1"))
    assert hidden(below, above) == {"/d/old": 3, "/d/deep/old": 2}


def test_folder_replaced_by_link_hides_its_files_and_the_reverse() -> None:
    below = layer(folder("d"), file("d/a", b"123"), file("e", b"12"))
    assert hidden(below, layer(link("d", "x"))) == {"/d/a": 3}
    assert hidden(below, layer(folder("e"), file("e/a"))) == {"/e": 2}


def test_file_is_not_hidden_while_a_hard_link_shows() -> None:
    below = layer(file("a", b"123"), link("b", "a"))
    assert hidden(below, layer(file(".wh.a", b""))) == {}
    assert hidden(below, layer(file(".wh.a", b""), file(".wh.b", b""))) == {"/a": 3, "/b": 0}


def test_possibly_replaced_folder_is_probed_once_per_layer() -> None:
    below = layer(folder("d"), file("d/a"), file("d/b"), folder("d/kept"), file("d/kept/c"))
    trees = [below, layer(folder("d"), file("d/new")), layer(folder("e"))]
    assert replaced_folder_probes(trees, overlay(trees).shown) == {(1, "/d"): "/d/a"}


@pytest.mark.parametrize(
    "name", ["a b", "ünïcode", "-rf", "x" * 200 + "/" + "y" * 150, "a\\b", ".wh", "%s", "'$(x)"]
)
def test_unusual_names_are_handled_like_others(name: str) -> None:
    assert hidden(layer(file(name, b"1")), layer(file(name, b"2"))) == {f"/{name}": 1}


@pytest.mark.parametrize(
    ("name", "reported"), [("a\nb", r"a\nb"), ("\033[31m", r"\x1b[31m"), ("caf\udce9", r"caf\xe9")]
)
def test_control_characters_in_reported_names_are_escaped(name: str, reported: str) -> None:
    trees = [layer(file(f"{name}/.netrc", b"1")), layer(file(f"{name}/.netrc", b"2"))]
    assert hidden(*trees) == {f"/{name}/.netrc": 1}
    path = f"/{reported}/.netrc"
    assert codes(*trees) == [
        ("secret-in-image", path, n, gone) for n, gone in ((1, True), (2, False))
    ]


@pytest.mark.parametrize("layout", ["new", "old", "gzip"])
def test_saved_image_is_read_in_every_layout(layout: str) -> None:
    layers = [tar(file("base")), tar(SECRET), tar(file("root/.wh.x", b"")), bytes(1024)]
    wanted = [diff_id(content) for content in layers[1:]]
    trees = read_saved_trees(chunks(saved(layers, layout)), wanted, skipped=[diff_id(layers[0])])
    assert [sorted(tree.files) for tree in trees] == [["/root/x"], [], []]
    assert hidden(*trees) == {"/root/x": len(SECRET[1])}


@pytest.mark.parametrize("layout", ["new", "old", "gzip"])
def test_truncated_stream_is_a_user_error(layout: str) -> None:
    layers = [tar(file("a", b"x" * 3000)), tar(file("b", b"y" * 3000))]
    wanted = [diff_id(content) for content in layers]
    whole = saved(layers, layout)
    end = whole.rindex(b"config.json")  # all layers came by then
    for cut in range(0, end, 97):
        with pytest.raises(UserError, match="cannot be read to its end"):
            read_saved_trees(chunks(whole[:cut]), wanted)


def test_zstd_layer_is_refused_with_a_hint() -> None:
    with pytest.raises(UserError, match=r"zstd.*gzip"):
        read_saved_trees([tar(file("blobs/sha256/1", b"\x28\xb5\x2f\xfd" + bytes(600)))], [])


def test_large_layer_is_not_held_in_memory() -> None:
    large = [tar(file("model", bytes(64_000_000)))]
    whole = saved(large, "new")
    tracemalloc.start()
    read_saved_trees(chunks(whole, 1 << 20), [diff_id(large[0])])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16_000_000


def test_secrets_in_the_config_are_reported_by_place_only() -> None:
    token = TOKENS[0].decode()
    environment, steps = [f"HF_TOKEN={token}", "A=b"], ["COPY a", f"RUN x {token}"]
    found = find_config_secrets(environment, {"note": token}, steps)
    assert [violation.path for violation in found] == [
        "variable HF_TOKEN",
        "label note",
        "step 2 of the history",
    ]
    assert token not in str(found)
    assert redact(f"RUN x {token} y") == "RUN x *** y"


@pytest.mark.parametrize("layout", ["new", "old", "gzip"])
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_stream_raises_no_error_but_user_error(layout: str, data: st.DataObject) -> None:
    layers = [tar(folder("x" * 120), file("a", b"x" * 700), link("b", "a"), file("é"))]
    whole = bytearray(saved(layers, layout))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    try:
        trees = read_saved_trees(chunks(bytes(whole)), [diff_id(layers[0])])
    except UserError:
        return
    assert sorted(trees[0].files) == ["/a", "/b", "/é"]
