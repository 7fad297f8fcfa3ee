"""`invoke pin --python` locks what extensions ask for, together with the WebUI's packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.common.extensions.locked_requests import (
    ExtensionRequests,
    as_comments,
    read_locked_requests,
)
from scripts.common.extensions.pip_requests import PipRequest
from scripts.host.build.inputs import resolve
from scripts.host.build.lock_problem import find_lock_problem
from scripts.host.extensions.git_tree import TreeFile
from scripts.host.pin.extension_packages import describe_extensions, write_inputs
from scripts.host.pin.extension_requests import list_model_files, read_listed_requests
from scripts.host.pin.pin_packages import pin_packages
from tests.support.errors import user_error
from tests.support.package_place import Place, names

LOCK = "cpu.txt"


def lock(place: Place) -> str:
    """Compile the lock of a variant, and return it."""
    pin_packages([place.variant("cpu")])
    return place.read(LOCK)


def test_lists_and_config_of_extensions_are_locked_together(place: Place) -> None:
    for name in ("listed", "declared", "configured"):
        place.publish(name, "1.0")
        place.publish(name, "2.0")
    place.publish("listed", "3.0", "networkx>=7")
    project = '[project]\nname = "x"\ndependencies = ["declared<2"]\n'
    files = {
        "requirements.txt": "listed<3\n-r more.txt",
        "more.txt": "ftfy",
        "pyproject.toml": project,
    }
    commit = place.extend("one", files, requirements=["configured==1.0"])
    text = lock(place)
    packages = {line.removesuffix(" \\") for line in text.splitlines()}
    assert {"listed==2.0", "declared==1.0", "configured==1.0", "gradio==1.0"} <= packages
    assert "# via -r extensions/one.in" in text
    [locked] = read_locked_requests(text)
    assert (locked.name, locked.commit) == ("one", commit)
    assert [(each.source, each.text) for each in locked.requests] == [
        ("config.yaml", "configured==1.0"),
        ("requirements.txt", "listed<3"),
        ("requirements.txt", "ftfy"),
        ("pyproject.toml", "declared<2"),
    ]


def test_bounds_of_extensions_hold_for_packages_of_the_webui(place: Place) -> None:
    place.publish("gradio", "2.0", "networkx")
    assert "gradio==2.0" in lock(place)
    place.extend("one", {"requirements.txt": "gradio<=1.5"})
    assert "gradio==1.0" in lock(place)


def test_locks_without_extensions_say_nothing_of_them(place: Place) -> None:
    place.extend("one", {"requirements.txt": "mpmath"})
    with_extension = lock(place)
    assert "# extension one " in with_extension
    place.drop_extensions()
    without = lock(place)
    assert "extension" not in without
    assert "mpmath" not in names(without)


def test_packages_asked_for_without_dependencies_bring_none(place: Place) -> None:
    bare = ExtensionRequests("one", "0" * 40, (PipRequest("lonely", "install.py", False),))
    full = ExtensionRequests("two", "0" * 40, (PipRequest("lonely", "config.yaml"),))
    write_inputs(place.root, [bare])
    assert 'name = "lonely"' in (place.root / "uv.toml").read_text()
    write_inputs(place.root, [bare, full])
    assert "lonely" not in (place.root / "uv.toml").read_text()


def test_conflict_names_both_sides_and_the_override(place: Place) -> None:
    place.publish("protobuf", "3.20")
    place.publish("protobuf", "4.25")
    place.publish("open-clip-torch", "2.20", "protobuf<4")
    place.publish("mediapipe", "0.10", "protobuf>=4.25")
    place.release("gradio", "open-clip-torch==2.20")
    place.extend("adetailer", {"requirements.txt": "mediapipe"})
    error = user_error(lock, place)
    assert error.message.startswith("adetailer and the WebUI exclude each other: ")
    assert "adetailer asks for mediapipe; the WebUI asks for open-clip-torch==2.20" in error.message
    assert 'the override "protobuf>=4.25"' in error.hint
    assert not (place.root / "requirements" / LOCK).exists()
    place.extend("adetailer", {}, overrides=["protobuf>=4.25"])
    assert "protobuf==4.25" in lock(place)


def test_a_bound_of_the_image_is_a_side_too(place: Place) -> None:
    for version in ("1.0", "2.0"):
        place.publish("tool", version)
    (place.root / "requirements" / "image.in").write_text("ftfy\ntool<=1.0\n")
    place.extend("new", {"requirements.txt": "tool>=2"})
    error = user_error(lock, place)
    assert "new and the image exclude each other: new asks for tool>=2" in error.message
    assert "the image asks for tool<=1.0" in error.message


def test_two_extensions_that_exclude_each_other_are_named(place: Place) -> None:
    place.publish("tool", "1.0")
    place.publish("tool", "2.0")
    place.extend("old", {"requirements.txt": "tool<2"})
    place.extend("new", {"requirements.txt": "tool>=2"})
    error = user_error(lock, place)
    assert "old and new exclude each other: old asks for tool<2; new asks for tool>=2" in str(error)


def test_packages_at_addresses_are_locked_with_their_checksums(place: Place) -> None:
    place.publish("dsine", "2024.3")
    url = f"{place.url}/dsine/dsine-2024.3-py3-none-any.whl"
    place.extend("one", {"requirements.txt": url})
    assert f"dsine @ {url} \\\n    --hash=sha256:" in lock(place)


def test_wheels_at_github_are_locked_through_its_mirror(place: Place) -> None:
    place.publish("dsine", "2024.3")
    path = "dsine/dsine-2024.3-py3-none-any.whl"
    extension = ExtensionRequests(
        "one", "0" * 40, (PipRequest(f"dsine @ https://github.com/{path}", "install.py"),)
    )
    write_inputs(place.root, [extension], place.url)
    assert (place.root / "extensions" / "one.in").read_text() == f"dsine @ {place.url}/{path}\n"
    text = f"# by uv\ndsine @ {place.url}/{path} \\\n"
    described = describe_extensions(text, [extension], place.url)
    assert described.endswith(f"\ndsine @ https://github.com/{path} \\\n")


@pytest.mark.parametrize("ending", ["strange-1.0.tar.gz", "x.zip#egg=strange"])
def test_source_archives_at_addresses_are_not_run(
    place: Place, tmp_path: Path, ending: str
) -> None:
    trace = tmp_path / "trace"
    place.publish_source("strange", "1.0", f"open({str(trace)!r}, 'w')")
    place.extend("one", {"requirements.txt": f"{place.url}/strange/{ending}"})
    with pytest.raises(UserError, match=r"asks pip for strange @ http.*, which is no wheel"):
        lock(place)
    assert not trace.exists()


def test_overrides_leave_packages_out(place: Place) -> None:
    listed = (
        "git+https://example.invalid/dino\nhttp://127.0.0.1:9/gone-1.0-py3-none-any.whl\nnetworkx"
    )
    out = ["gone; python_version < '0'"]
    place.extend("one", {"requirements.txt": listed}, overrides=out)
    with pytest.raises(
        UserError,
        match=r"requirements\.txt of one asks pip for dino @ git\+https.*, which is no wheel",
    ):
        lock(place)
    place.extend(
        "one", {"requirements.txt": listed}, overrides=[*out, "dino; python_version < '0'"]
    )
    assert not {"gone", "dino"} & set(names(lock(place)))


def test_requests_without_a_name_are_refused(place: Place) -> None:
    place.extend("one", {"requirements.txt": "./vendored"})
    with pytest.raises(UserError, match=r"asks pip for \./vendored, which names no package"):
        lock(place)


def test_variants_with_other_extensions_need_other_locks(place: Place) -> None:
    plain = place.variant("cpu")
    place.extend("one", {})
    with pytest.raises(UserError, match="share a lock"):
        pin_packages([plain, place.variant("cpu")])


def test_an_installer_finds_the_models_that_the_image_will_have(place: Place) -> None:
    hub = {"source": {"hub": "owner/repo", "file": "x.pth"}}
    models = [
        {"name": "shared", "kind": "other", "path": "insightface/x.onnx", **hub},
        {"name": "own", "path": "weights/x.pth", **hub},
        {"name": "later", "kind": "controlnet", "placement": "volume", **hub},
    ]
    place.extend("one", {}, models=models)
    assert set(map(str, list_model_files(place.variant().config))) == {
        "models/insightface/x.onnx",
        "extensions/one/weights/x.pth",
    }


def test_installers_need_an_engine_and_say_so(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    place.extend("one", {"install.py": "import launch"})
    error = user_error(lock, place)
    assert "the installer of one is run in a container, and no Docker engine answers" in str(error)
    assert "install: none" in error.hint
    place.extend("one", {}, install="none")
    assert "# extension one " in lock(place)


def test_broken_projects_list_nothing() -> None:
    for text in (b"[project", b"project = 1", b'[project]\ndependencies = "x"'):
        assert read_listed_requests([TreeFile("pyproject.toml", text)]) == ()


def test_comments_of_a_lock_are_read_as_written(place: Place) -> None:
    place.extend("one", {"requirements.txt": "networkx"}, overrides=["numpy>=1"])
    place.extend("two", {})
    text = lock(place)
    assert as_comments(read_locked_requests(text)) in text
    assert [each.name for each in read_locked_requests(text)] == ["one", "two"]
    assert text.startswith("# This file was autogenerated by uv")


def test_locks_of_other_extensions_are_refused(place: Place) -> None:
    def problem() -> str:
        return find_lock_problem(resolve(place.variant("cpu")))

    assert problem() == "requirements/cpu.txt is missing"
    first = place.extend("one", {}, requirements=["networkx"], overrides=["numpy>=1"])
    lock(place)
    assert problem() == ""
    second = place.extend("one", {"new.py": ""}, requirements=["networkx"], overrides=["numpy>=1"])
    assert problem() == f"requirements/cpu.txt is made for one at {first}, not {second}"
    place.extend("one", {}, commit=first, overrides=["numpy>=1"])
    assert problem() == "requirements/cpu.txt is made with other `requirements` of one"
    place.extend("one", {}, commit=first, requirements=["networkx"])
    assert problem() == "requirements/cpu.txt is made with other `overrides` of one"
    unasked = {"requirements": ["networkx"], "overrides": ["numpy>=1"], "install": "none"}
    place.extend("one", {}, commit=first, **unasked)
    assert problem() == "requirements/cpu.txt is made with `install: auto` of one"
    lock(place)
    assert problem() == ""
    place.extend("one", {}, commit=first, **unasked | {"install": "auto"})
    assert problem() == "requirements/cpu.txt is made with `install: none` of one"
    place.drop_extensions()
    assert problem().endswith("made for the extensions one, too, which are not built")
    lock(place)
    place.extend("one", {})
    assert problem() == "requirements/cpu.txt is made without the extensions one"
