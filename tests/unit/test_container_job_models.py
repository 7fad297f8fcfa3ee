"""Models that a job names by address: downloaded once, verified, used, and kept in bounds."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from scripts.common.fetch import public_address
from scripts.common.fetch.stamps import stamp_path
from scripts.common.files import shared_lock
from scripts.container.paths import choose_job_models_folder
from scripts.container.serverless.job_context import JobContext
from scripts.container.serverless.job_downloads import downloaded_models
from scripts.container.serverless.job_downloads.downloaded_models import DownloadedModels
from scripts.container.serverless.job_downloads.job_models import DownloadPolicy, parse_job_models
from scripts.container.serverless.job_downloads.model_setup import ModelSetup
from scripts.container.serverless.jobs import run_job
from scripts.container.settings import Settings
from scripts.container.webui.model_links import link_models
from scripts.container.webui.model_tree import ModelTree
from tests.support import scripted_webui
from tests.support.errors import user_error
from tests.support.fault_server import Behaviour, FaultServer, misbehaving
from tests.support.install import CHECKPOINT, LORA, safetensors
from tests.support.request_checks import make_context
from tests.support.scripted_webui import DRAWN, WebUI

LORAS = {f"/{name}.safetensors": safetensors(LORA, seed) for seed, name in enumerate("abc")}
SIZE = len(LORAS["/a.safetensors"])
MODEL = safetensors(CHECKPOINT)
PAGES = {**LORAS, "/model.safetensors": MODEL, "/page": b"<!doctype html><title>Log in</title>"}


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def loopback_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count 127.0.0.1 as an address of the internet, and no other of this machine."""
    monkeypatch.setattr(public_address, "is_public", lambda address: address == "127.0.0.1")
    quick = replace(downloaded_models._POLICY, attempts=2, pause=0.01, stall_timeout=1.0)
    monkeypatch.setattr(downloaded_models, "_POLICY", quick)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with misbehaving(b"") as running:
        running.pages = dict(PAGES)
        yield running


@dataclass
class Drawing:
    """A WebUI that sees models as upstream does: by the links there are when it last looked."""

    webui: WebUI
    data_dir: Path
    seen: dict[str, list[str]] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    is_blind: bool = False

    def __post_init__(self) -> None:
        self.webui.on("loras", lambda _: self.rows("Lora"))
        self.webui.on("sd-models", lambda _: self.rows("Stable-diffusion"))
        for route, folder in (("loras", "Lora"), ("checkpoints", "Stable-diffusion")):
            self.webui.on(f"refresh-{route}", lambda _, at=folder: self.look(at))
        self.webui.on("txt2img", self.draw)

    def rows(self, folder: str) -> list[dict[str, Any]]:
        """The rows of both lists, in one."""
        rows = []
        for name in self.seen.get(folder, ()):
            file = f"{self.data_dir}/models/{folder}/{name}.safetensors"
            lora = {"name": name, "alias": name, "path": file}
            checkpoint = {"title": f"{name}.safetensors", "model_name": name, "hash": None}
            rows.append({**lora, **checkpoint, "sha256": None, "filename": file})
        return rows

    def look(self, folder: str) -> dict[str, Any]:
        paths = (self.data_dir / "models" / folder).glob("*.safetensors")
        self.seen[folder] = [] if self.is_blind else sorted(path.stem for path in paths)
        return {}

    def draw(self, body: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(body)
        model = body.get("override_settings", {}).get("sd_model_checkpoint", "usual")
        return {**DRAWN, "info": json.dumps({"sd_model_name": model})}


@pytest.fixture
def drawing(tmp_path: Path) -> Iterator[Drawing]:
    with scripted_webui.running() as webui:
        yield Drawing(webui, tmp_path / "data")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "volume/job-models"


def context_of(drawing: Drawing, folder: Path, *, limit: int = 10**9, **more: Any) -> JobContext:
    policy = DownloadPolicy(("127.0.0.1",), **more)
    store = DownloadedModels(folder, limit)
    setup = ModelSetup(policy, drawing.data_dir, store)
    return make_context(drawing.webui.client, drawing.data_dir, models=setup)


@pytest.fixture
def context(drawing: Drawing, folder: Path) -> JobContext:
    return context_of(drawing, folder)


def lora(server: FaultServer, name: str = "a", **more: Any) -> dict[str, Any]:
    path = f"/{name}.safetensors"
    return {"url": server.url + path, "sha256": sha(PAGES[path]), **more}


def run(context: JobContext, **job: Any) -> dict[str, Any]:
    return run_job({"id": "1", "input": {"prompt": "a lighthouse", **job}}, context)


def files(folder: Path) -> list[str]:
    """Names in a folder, without stamps."""
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    return [name for name in names if not name.endswith(".stamp")]


def kept(*names: str) -> list[str]:
    return sorted(f"{sha(PAGES[f'/{name}.safetensors'])}.safetensors" for name in names)


def test_a_lora_by_address_is_in_the_prompt(
    server: FaultServer, drawing: Drawing, context: JobContext, folder: Path
) -> None:
    rows = [lora(server, "a", weight=0.8), lora(server, "b")]
    result = run(context, loras=rows)
    names = [f"job-{sha(LORAS[f'/{each}.safetensors'])[:16]}" for each in "ab"]
    assert drawing.requests == [
        {"prompt": f"a lighthouse <lora:{names[0]}:0.8> <lora:{names[1]}:1>"}
    ]
    assert [each["name"] for each in result["downloads"]] == names
    assert [each["sha256"] for each in result["downloads"]] == [row["sha256"] for row in rows]
    assert {each["state"] for each in result["downloads"]} == {"fetched"}
    link = drawing.data_dir / f"models/Lora/{names[0]}.safetensors"
    assert link.read_bytes() == LORAS["/a.safetensors"]
    assert files(folder) == kept("a", "b")


def test_a_checkpoint_by_address_draws(
    server: FaultServer, drawing: Drawing, context: JobContext
) -> None:
    source = {"url": f"{server.url}/model.safetensors", "sha256": sha(MODEL).upper()}
    result = run(context, checkpoint=source)
    name = f"job-{sha(MODEL)[:16]}"
    assert drawing.requests[0]["override_settings"] == {"sd_model_checkpoint": name}
    assert result["parsed_info"]["sd_model_name"] == name


def test_a_second_job_downloads_nothing_and_looks_for_no_files(
    server: FaultServer, drawing: Drawing, context: JobContext
) -> None:
    run(context, loras=[lora(server)])
    drawing.webui.requests.clear()
    assert run(context, loras=[lora(server)])["downloads"][0]["state"] == "cached"
    assert len(server.asked) == 1
    assert drawing.webui.paths() == ["txt2img"]  # and no refresh


def test_no_token_is_sent(
    server: FaultServer, context: JobContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("TOKEN_127_0_0_1", "secret")
    run(context, loras=[lora(server)])
    assert "Authorization" not in server.asked[0].headers


def test_a_redirect_may_lead_to_another_public_host(
    server: FaultServer, context: JobContext
) -> None:
    target = {"Location": f"{server.url}/a.safetensors"}
    with misbehaving(b"", Behaviour(status=302, headers=target)) as first:
        row = {**lora(server), "url": f"{first.url}/download/123"}
        assert "error" not in run(context, loras=[row])


@pytest.mark.parametrize(
    ("row", "code", "named"),
    [
        ({"sha256": "0" * 64}, "wrong-bytes", "check the job's sha256"),
        ({"path": "/page"}, "not-a-model", "a web page (Log in), not a model"),
        ({"path": "/model.safetensors"}, "wrong-kind", "name a LoRA in loras"),
        ({"path": "/gone", "status": 404}, "download-refused", "404"),
        ({"path": "/file", "name": "model.ckpt"}, "pickle-refused", "use a .safetensors file"),
        ({"redirect": "http://127.0.0.2/"}, "address-not-public", "127.0.0.2"),
        ({"stop_at": 0}, "download-broken", "what arrived is kept and resumed"),
    ],
)
def test_a_failed_download_is_named_and_leaves_no_model(
    context: JobContext,
    drawing: Drawing,
    folder: Path,
    row: dict[str, Any],
    code: str,
    named: str,
) -> None:
    path = row.get("path", "/a.safetensors")
    content = PAGES.get(path, LORAS["/a.safetensors"])
    headers = {"Location": row["redirect"]} if "redirect" in row else {}
    if "name" in row:
        headers["Content-Disposition"] = f'attachment; filename="{row["name"]}"'
    status = 302 if "redirect" in row else row.get("status", 200)
    act = Behaviour(status=status, headers=headers, stop_at=row.get("stop_at"))
    with misbehaving(content, act) as server:
        source = {
            "url": f"{server.url}{path}?key=secret",
            "sha256": row.get("sha256", sha(content)),
        }
        error = run(context, loras=[source])["error"]
    assert f"[{code}]" in error
    assert "input.loras[0]" in error
    assert named in error
    assert "secret" not in error
    assert not drawing.requests
    left = files(folder)
    if code == "download-broken":  # the beginning, for the next job
        assert left != []
        assert all(".partial" in name for name in left)
    else:
        assert left == []


def test_an_interrupted_download_is_resumed_by_the_next_job(
    context: JobContext, folder: Path
) -> None:
    content = LORAS["/a.safetensors"]
    broken = Behaviour(stop_at=1000)
    with misbehaving(content, broken, replace(broken, stop_at=0), Behaviour()) as server:
        row = {"url": f"{server.url}/a.safetensors", "sha256": sha(content)}
        assert "[download-broken]" in run(context, loras=[row])["error"]
        assert run(context, loras=[row])["downloads"][0]["state"] == "resumed"
    assert files(folder) == kept("a")


def test_a_download_ends_with_the_jobs_time(context: JobContext, folder: Path) -> None:
    with misbehaving(LORAS["/a.safetensors"], Behaviour(rate=SIZE // 8)) as server:
        began = time.monotonic()
        error = run(context, loras=[lora(server)], timeout=1)["error"]
    assert "[job-timeout]" in error
    assert "input.loras[0]" in error
    assert time.monotonic() - began < 4
    assert all(".partial" in name for name in files(folder))


@pytest.mark.parametrize(
    ("job", "code", "named"),
    [
        ({"loras": "x"}, "input-invalid", "input.loras must be a list"),
        ({"loras": ["x"]}, "input-invalid", "input.loras[0] must be an object"),
        ({"loras": [{"url": "x"}]}, "input-invalid", "input.loras[0].url"),
        ({"loras": [{"url": "file:///etc/passwd"}]}, "input-invalid", "input.loras[0].url"),
        ({"loras": [{"url": "https://[::1"}]}, "input-invalid", "input.loras[0].url"),
        ({"loras": [{"url": "https://u:p@127.0.0.1/x"}]}, "input-invalid", "no login"),
        ({"loras": [{"url": "https://other.test/x"}]}, "downloads-off", "other.test"),
        ({"loras": [{"url": "https://127.0.0.1.other.test/x"}]}, "downloads-off", "other.test"),
        ({"loras": [{"url": "http://127.0.0.1/x"}]}, "input-invalid", "sha256 is missing"),
        ({"loras": [{"url": "http://127.0.0.1/x", "sha256": "abc"}]}, "input-invalid", "64"),
        ({"loras": [{"url": "http://127.0.0.1/x", "sh256": "a"}]}, "input-invalid", "object"),
        (
            {"loras": [{"url": "http://127.0.0.1/x", "sha256": "a" * 64, "weight": "1"}]},
            "input-invalid",
            "weight",
        ),
        (
            {"loras": [{"url": "http://127.0.0.1/x", "sha256": "a" * 64, "weight": 1e999}]},
            "input-invalid",
            "weight",
        ),
        ({"checkpoint": {"url": "http://127.0.0.1/x"}}, "input-invalid", "input.checkpoint.sha256"),
        (
            {"checkpoint": {"url": "http://127.0.0.1/x", "sha256": "a" * 64, "weight": 1}},
            "input-invalid",
            "input.checkpoint must be",
        ),
    ],
)
def test_an_invalid_source_fails_before_anything_is_sent(
    drawing: Drawing, context: JobContext, job: dict[str, Any], code: str, named: str
) -> None:
    error = run(context, **job)["error"]
    assert f"[{code}]" in error
    assert named in error
    assert drawing.webui.requests == []


def test_nothing_is_downloaded_unless_the_worker_allows_it(
    server: FaultServer, context: JobContext
) -> None:
    error = run(replace(context, models=None), loras=[lora(server)])["error"]
    assert "[downloads-off]" in error
    assert "JOB_DOWNLOADS" in error
    assert server.asked == []


@pytest.mark.parametrize(
    ("job", "named"),
    [
        ({"api": "extras", "image": "x"}, "extra-single-image uses none"),
        ({"override_settings": {"sd_model_checkpoint": "other"}}, "name two checkpoints"),
    ],
)
def test_a_model_without_use_is_not_downloaded(
    server: FaultServer, context: JobContext, job: dict[str, Any], named: str
) -> None:
    source = {"url": f"{server.url}/model.safetensors", "sha256": sha(MODEL)}
    assert named in run(context, checkpoint=source, **job)["error"]
    assert server.asked == []


def test_a_model_without_checksum_is_kept_by_its_address(
    server: FaultServer, drawing: Drawing, folder: Path
) -> None:
    context = context_of(drawing, folder, allows_unverified=True)
    row = {"url": f"{server.url}/a.safetensors"}
    first = run(context, loras=[row])["downloads"][0]
    assert first["sha256"] == sha(LORAS["/a.safetensors"])
    assert first["name"] == f"job-{first['sha256'][:16]}"
    assert run(context, loras=[row])["downloads"][0]["state"] == "cached"
    assert files(folder)[0].startswith("address-")


def test_the_least_recently_used_is_deleted_for_a_new_one(
    server: FaultServer, drawing: Drawing, folder: Path
) -> None:
    context = context_of(drawing, folder, limit=2 * SIZE + 100)
    for number, name in enumerate("ab"):
        run(context, loras=[lora(server, name)])
        used = 1_000_000 + number
        os.utime(stamp_path(folder / kept(name)[0]), (used, used))
    run(context, loras=[lora(server, "a")])  # used again
    run(context, loras=[lora(server, "c")])
    assert files(folder) == kept("a", "c")
    links = {path.stem for path in (drawing.data_dir / "models/Lora").iterdir()}
    assert links == {f"job-{sha(LORAS[f'/{name}.safetensors'])[:16]}" for name in "ac"}


def test_a_model_in_use_is_never_deleted(
    server: FaultServer, drawing: Drawing, folder: Path
) -> None:
    context = context_of(drawing, folder, limit=SIZE + 100)
    run(context, loras=[lora(server, "a")])
    with shared_lock(folder / kept("a")[0]):  # as another worker's job holds it
        error = run(context, loras=[lora(server, "b")])["error"]
        assert "[downloads-full]" in error
        assert files(folder) == kept("a")
    assert "error" not in run(context, loras=[lora(server, "b")])
    assert files(folder) == kept("b")


def test_the_models_of_one_job_do_not_displace_each_other(
    server: FaultServer, drawing: Drawing, folder: Path
) -> None:
    context = context_of(drawing, folder, limit=SIZE + 100)
    rows = [lora(server, "a"), lora(server, "b")]
    assert "[downloads-full]" in run(context, loras=rows)["error"]
    assert not drawing.requests


def test_a_file_over_the_limit_is_not_downloaded(
    server: FaultServer, drawing: Drawing, folder: Path
) -> None:
    context = context_of(drawing, folder, limit=SIZE - 1)
    assert "[downloads-full]" in run(context, loras=[lora(server)])["error"]
    assert files(folder) == []


def test_an_old_unfinished_download_makes_room_too(
    server: FaultServer, drawing: Drawing, folder: Path
) -> None:
    folder.mkdir(parents=True)
    (folder / "old.safetensors.partial").write_bytes(bytes(SIZE))
    context = context_of(drawing, folder, limit=SIZE + 100)
    assert "error" not in run(context, loras=[lora(server)])
    assert files(folder) == kept("a")


def test_a_full_disk_is_freed_of_unused_models(
    server: FaultServer, drawing: Drawing, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(drawing, folder)
    run(context, loras=[lora(server, "a")])

    @dataclass
    class Usage:
        free: int

    def measure(_: object) -> Usage:
        return Usage(0 if kept("a")[0] in files(folder) else 10**9)

    monkeypatch.setattr("scripts.common.fetch.transfer.shutil.disk_usage", measure)
    assert "error" not in run(context, loras=[lora(server, "b")])
    assert files(folder) == kept("b")


def test_a_full_disk_is_named_and_nothing_is_left(
    server: FaultServer, drawing: Drawing, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("scripts.common.fetch.body.os.pwrite", fail)
    error = run(context_of(drawing, folder), loras=[lora(server)])["error"]
    assert "[disk-full]" in error
    assert "JOB_DOWNLOADS_MAX" in error
    assert files(folder) == []


@pytest.mark.parametrize("number", [errno.ESTALE, errno.ENOTCONN, errno.EROFS])
def test_a_volume_that_vanished_is_named(
    server: FaultServer,
    drawing: Drawing,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("scripts.common.fetch.body.os.pwrite", fail)
    error = run(context_of(drawing, folder), loras=[lora(server)])["error"]
    assert "[store-unwritable]" in error
    assert "input.loras[0]" in error
    assert not drawing.requests


def test_a_model_that_vanishes_while_it_draws_fails_the_job(
    server: FaultServer, drawing: Drawing, context: JobContext, folder: Path
) -> None:
    def draw(body: Any) -> Any:
        (folder / kept("a")[0]).unlink()
        return drawing.draw(body)

    drawing.webui.on("txt2img", draw)
    assert "[job-model-lost]" in run(context, loras=[lora(server)])["error"]


def test_another_checkpoint_than_the_asked_one_fails_the_job(
    server: FaultServer, drawing: Drawing, context: JobContext
) -> None:
    info = json.dumps({"sd_model_name": "usual"})
    drawing.webui.on("txt2img", {**DRAWN, "info": info})
    source = {"url": f"{server.url}/model.safetensors", "sha256": sha(MODEL)}
    error = run(context, checkpoint=source)["error"]
    assert "drew with usual instead" in error
    assert "[model-not-loaded]" in error


def test_a_webui_that_does_not_see_the_model_draws_nothing(
    server: FaultServer, drawing: Drawing, context: JobContext
) -> None:
    drawing.is_blind = True
    assert "[models-unseen]" in run(context, loras=[lora(server)])["error"]
    assert not drawing.requests


def test_a_damaged_file_is_downloaded_again(
    server: FaultServer, context: JobContext, folder: Path
) -> None:
    run(context, loras=[lora(server)])
    path = folder / kept("a")[0]
    path.write_bytes(path.read_bytes()[:-4] + b"evil")
    assert run(context, loras=[lora(server)])["downloads"][0]["state"] == "fetched"
    assert path.read_bytes() == LORAS["/a.safetensors"]


def test_two_workers_share_one_download(drawing: Drawing, folder: Path) -> None:
    results: list[dict[str, Any]] = []
    content = LORAS["/a.safetensors"]
    with misbehaving(content, Behaviour(rate=SIZE * 2)) as server:
        row = {"url": f"{server.url}/a.safetensors", "sha256": sha(content)}
        threads = [
            threading.Thread(
                target=lambda: results.append(run(context_of(drawing, folder), loras=[row]))
            )
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(server.asked) == 1
    assert [result.get("error") for result in results] == [None] * 3
    states = sorted(result["downloads"][0]["state"] for result in results)
    assert states == ["fetched", "waited", "waited"]


def test_progress_of_a_download_is_reported(server: FaultServer, context: JobContext) -> None:
    reports: list[dict[str, Any]] = []
    reporting = replace(context, report_progress=lambda _, progress: reports.append(progress))
    run(reporting, loras=[lora(server)])
    first = next(report for report in reports if "download" in report)
    assert first == {"download": "a.safetensors", "bytes": first["bytes"], "total": SIZE}


def test_the_next_start_removes_the_links(
    server: FaultServer, drawing: Drawing, context: JobContext
) -> None:
    run(context, loras=[lora(server)])
    settings = Settings.from_environment({"DATA_DIR": str(drawing.data_dir)})
    assert link_models(settings, ModelTree()) == []
    assert list((drawing.data_dir / "models/Lora").iterdir()) == []


def test_a_file_of_the_user_is_not_replaced_by_a_link(
    server: FaultServer, drawing: Drawing, context: JobContext
) -> None:
    name = f"job-{sha(LORAS['/a.safetensors'])[:16]}.safetensors"
    own = drawing.data_dir / "models/Lora" / name
    own.parent.mkdir(parents=True)
    own.write_text("a user's")
    error = run(context, loras=[lora(server)])["error"]
    assert "something else has this name" in error
    assert own.read_text() == "a user's"


@pytest.mark.parametrize(("mounted", "place"), [(True, "volume/.cache/"), (False, "worker/")])
def test_models_are_kept_on_the_volume_if_there_is_one(
    tmp_path: Path, mounted: bool, place: str
) -> None:
    if mounted:
        (tmp_path / "volume").mkdir()
    names = {"VOLUME_DIR": "volume", "WORKER_DIR": "worker"}
    settings = Settings.from_environment({key: f"{tmp_path}/{to}" for key, to in names.items()})
    assert str(choose_job_models_folder(settings)).startswith(f"{tmp_path}/{place}")


@pytest.mark.parametrize(
    ("name", "value", "parsed"),
    [
        ("JOB_DOWNLOADS", " HuggingFace.co, civitai.com,", ("huggingface.co", "civitai.com")),
        ("JOB_DOWNLOADS_MAX", "1.5TB", 1_500_000_000_000),
        ("JOB_DOWNLOADS_MAX", "5000", 5000),
    ],
)
def test_settings_are_parsed(name: str, value: str, parsed: object) -> None:
    assert getattr(Settings.from_environment({name: value}), name.lower()) == parsed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JOB_DOWNLOADS", "https://huggingface.co"),
        ("JOB_DOWNLOADS", "*"),
        ("JOB_DOWNLOADS_MAX", "much"),
        ("JOB_DOWNLOADS_MAX", "0"),
        ("JOB_DOWNLOADS_UNVERIFIED", "maybe"),
    ],
)
def test_an_invalid_setting_is_refused(name: str, value: str) -> None:
    assert user_error(Settings.from_environment, {name: value}).code == "setting-invalid"


def test_jobs_without_models_by_address_are_not_changed() -> None:
    assert parse_job_models({}, DownloadPolicy()) == ()
    assert parse_job_models({"loras": None, "checkpoint": None}, DownloadPolicy()) == ()
    assert parse_job_models({"loras": []}, DownloadPolicy()) == ()
