"""What is found in layers that are read as streams: flaws, and bytes that no container shows."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.common.diagnostics.error import UserError
from scripts.host.inspect.export import saved_trees
from scripts.host.inspect.image import found_in
from scripts.host.inspect.layer import Tree
from scripts.host.inspect.overlay import Wasted, doubtful, settle, wasted
from scripts.host.inspect.violations import has_token, redacted, secrets_told
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


def codes(*trees: Tree) -> list[tuple[str, str, int, bool]]:
    return [(one.code, one.path, one.layer, one.gone) for one in found_in(trees)]


def hidden(*trees: Tree) -> list[tuple[str, int]]:
    return [(one.path, one.size) for one in wasted(trees, settle(trees))]


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token[:12].decode())
def test_a_token_is_found_whatever_its_maker(token: bytes) -> None:
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
def test_text_about_tokens_is_no_token(text: bytes) -> None:
    assert not has_token(text)


def test_a_secret_that_a_later_layer_deletes_is_found_and_its_content_never_told() -> None:
    [found] = found_in([layer(SECRET), layer(file("root/.wh.x", b""))])
    assert (found.code, found.path, found.layer, found.gone) == (
        "secret-in-image",
        "/root/x",
        1,
        True,
    )
    assert TOKENS[0].decode() not in found.model_dump_json()


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
def test_a_credential_file_is_found_by_its_name(path: str) -> None:
    assert codes(layer(file(path))) == [("secret-in-image", f"/{path}", 1, False)]
    assert codes(layer(file(path, b""))) == []  # what a secret mount leaves is empty


def test_docker_login_is_a_secret_only_with_credentials_in_it() -> None:
    path = "root/.docker/config.json"
    assert codes(layer(file(path, b'{"credsStore": "pass"}'))) == []
    assert codes(layer(file(path, b'{"auths": {"a": {"auth": "eDp5"}}}'))) != []


def test_a_secret_is_looked_for_in_texts_only() -> None:
    binary = file("lib/a.so", b"\x7fELF\0" + TOKENS[0])
    large = file("log", TOKENS[0] + b"\n" * 300_000)
    assert codes(layer(binary, large)) == []


@pytest.mark.parametrize(
    ("path", "told"),
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
def test_a_leftover_is_told_by_its_folder(path: str, told: str) -> None:
    assert ("leftovers", told, 1, False) in codes(layer(file(path)))


def test_what_only_looks_like_a_leftover_is_none() -> None:
    kept = ("opt/x/lib/pip/_internal/cache.py", "srv/.gitignore", "srv/.github/x", "opt/tools/a")
    assert codes(layer(*(file(path) for path in kept), file("tools/a", b""))) == []


def test_a_cache_of_thousands_of_files_is_one_line() -> None:
    assert len(codes(layer(*(file(f"root/.cache/pip/{n}") for n in range(2000))))) == 1


def test_a_git_folder_deleted_by_a_later_layer_is_found() -> None:
    below = layer(folder("srv/.git"), file("srv/.git/HEAD"))
    assert codes(below, layer(file("srv/.wh..git", b""))) == [("leftovers", "/srv/.git", 1, True)]


def test_what_anybody_may_change_is_found_but_for_sticky_folders() -> None:
    made = layer(
        *(folder("tmp", 0o1777), folder("open", 0o777), file("a", mode=0o666), file("b")),
        link("c", "a"),
    )
    assert codes(made) == [
        ("world-writable", "/open", 1, False),
        ("world-writable", "/a", 1, False),
    ]


def test_a_permission_that_a_later_layer_corrects_is_no_flaw() -> None:
    wide = layer(folder("open", 0o777), file("open/a", mode=0o666))
    corrected = layer(folder("open"), file("open/a"))
    assert codes(wide, corrected) == []
    assert codes(wide, layer(file(".wh.open", b""))) == []
    assert len(codes(corrected, wide)) == 2


def test_a_file_that_lends_its_owners_rights_is_found() -> None:
    assert codes(layer(file("bin/su", mode=0o4755))) == [("setuid-file", "/bin/su", 1, False)]


def test_an_overwritten_file_is_wasted_and_its_layers_are_told() -> None:
    trees = [layer(file("a", b"x" * 5000)), layer(file("b")), layer(file("a", b"y"))]
    assert wasted(trees, settle(trees)) == (Wasted(path="/a", size=5000, layer=1, hidden_by=3),)


def test_deleted_files_and_folders_are_wasted() -> None:
    below = layer(file("a", b"1234"), folder("d"), file("d/e/f", b"123"), file("dd", b"12"))
    assert hidden(below, layer(file(".wh.a", b""))) == [("/a", 4)]
    assert hidden(below, layer(file(".wh.d", b""))) == [("/d/e/f", 3)]
    assert hidden(below, layer(whiteout_device("d"))) == [("/d/e/f", 3)]


def test_two_deletions_may_be_links_of_each_other() -> None:
    below = layer(file("a", b"1"), file("b", b"22"))
    above = layer(whiteout_device("a"), link("b", "a"))
    assert hidden(below, above) == [("/b", 2), ("/a", 1)]
    assert codes(layer(folder("x/.git")), layer(whiteout_device("a"), link("x/.git", "a"))) == [
        ("leftovers", "/x/.git", 1, True)
    ]


def test_an_opaque_folder_hides_what_is_below_and_not_what_it_brings() -> None:
    below = layer(folder("d"), file("d/old", b"123"), file("d/deep/old", b"12"))
    above = layer(folder("d"), file("d/.wh..wh..opq", b""), file("d/new", b"1"))
    assert hidden(below, above) == [("/d/old", 3), ("/d/deep/old", 2)]


def test_a_folder_that_becomes_a_link_hides_what_was_in_it_and_the_reverse() -> None:
    below = layer(folder("d"), file("d/a", b"123"), file("e", b"12"))
    assert hidden(below, layer(link("d", "x"))) == [("/d/a", 3)]
    assert hidden(below, layer(folder("e"), file("e/a"))) == [("/e", 2)]


def test_a_file_is_of_use_while_one_of_its_links_shows() -> None:
    below = layer(file("a", b"123"), link("b", "a"))
    assert hidden(below, layer(file(".wh.a", b""))) == []
    assert hidden(below, layer(file(".wh.a", b""), file(".wh.b", b""))) == [("/a", 3)]


def test_a_folder_that_may_have_been_replaced_is_asked_for_once_a_layer() -> None:
    below = layer(folder("d"), file("d/a"), file("d/b"), folder("d/kept"), file("d/kept/c"))
    trees = [below, layer(folder("d"), file("d/new")), layer(folder("e"))]
    assert doubtful(trees, settle(trees)) == {(1, "/d"): "/d/a"}


@pytest.mark.parametrize(
    "name", ["a b", "ünïcode", "-rf", "x" * 200 + "/" + "y" * 150, "a\\b", ".wh", "%s", "'$(x)"]
)
def test_weird_names_are_paths_like_others(name: str) -> None:
    assert hidden(layer(file(name, b"1")), layer(file(name, b"2"))) == [(f"/{name}", 1)]


@pytest.mark.parametrize(
    ("name", "told"), [("a\nb", r"a\nb"), ("\033[31m", r"\x1b[31m"), ("caf\udce9", r"caf\xe9")]
)
def test_names_that_would_break_a_line_are_escaped_when_they_are_told(name: str, told: str) -> None:
    trees = [layer(file(f"{name}/.netrc", b"1")), layer(file(f"{name}/.netrc", b"2"))]
    assert hidden(*trees) == [(f"/{told}/.netrc", 1)]
    assert codes(*trees)[0][1] == f"/{told}/.netrc"


@pytest.mark.parametrize("layout", ["new", "old", "gzip"])
def test_a_saved_image_is_read_in_every_layout(layout: str) -> None:
    layers = [tar(file("base")), tar(SECRET), tar(file("root/.wh.x", b"")), bytes(1024)]
    wanted = [diff_id(content) for content in layers[1:]]
    trees = saved_trees(chunks(saved(layers, layout)), wanted, skipped=[diff_id(layers[0])])
    assert [sorted(one.files) for one in trees] == [["/root/x"], [], []]
    assert hidden(*trees) == [("/root/x", len(SECRET[1]))]


@pytest.mark.parametrize("layout", ["new", "old", "gzip"])
def test_a_stream_cut_off_anywhere_is_one_failure(layout: str) -> None:
    layers = [tar(file("a", b"x" * 3000)), tar(file("b", b"y" * 3000))]
    wanted = [diff_id(content) for content in layers]
    whole = saved(layers, layout)
    end = whole.rindex(b"config.json")  # all layers came by then
    for cut in range(0, end, 97):
        with pytest.raises(UserError, match="cannot be read to its end"):
            saved_trees(chunks(whole[:cut]), wanted)


def test_zstd_is_refused_with_a_cure() -> None:
    with pytest.raises(UserError, match=r"zstd.*gzip"):
        saved_trees([tar(file("blobs/sha256/1", b"\x28\xb5\x2f\xfd" + bytes(600)))], [])


def test_a_large_layer_is_never_held_in_memory() -> None:
    large = [tar(file("model", bytes(64_000_000)))]
    whole = saved(large, "new")
    tracemalloc.start()
    saved_trees(chunks(whole, 1 << 20), [diff_id(large[0])])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16_000_000


def test_secrets_in_the_config_are_told_by_place_only() -> None:
    token = TOKENS[0].decode()
    told = secrets_told([f"HF_TOKEN={token}", "A=b"], {"note": token}, ["COPY a", f"RUN x {token}"])
    assert told == ("variable HF_TOKEN", "label note", "step 2 of the history")
    assert redacted(f"RUN x {token} y") == "RUN x *** y"


@pytest.mark.parametrize("layout", ["new", "old", "gzip"])
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_stream_is_a_failure_and_never_another_error(
    layout: str, data: st.DataObject
) -> None:
    layers = [tar(folder("x" * 120), file("a", b"x" * 700), link("b", "a"), file("é"))]
    whole = bytearray(saved(layers, layout))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    try:
        trees = saved_trees(chunks(bytes(whole)), [diff_id(layers[0])])
    except UserError:
        return
    assert sorted(trees[0].files) == ["/a", "/b", "/é"]
