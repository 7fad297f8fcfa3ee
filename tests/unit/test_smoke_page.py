"""The report's page in a real browser: it needs nothing, shows everything, and fits the window."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from PIL import Image

from scripts.common.checks.check import CheckResult
from scripts.common.checks.smoke_report import (
    HostRecord,
    MemorySample,
    RunRecord,
    SmokeReport,
    SubjectRecord,
)
from scripts.common.diagnostics.table import diagnostics
from scripts.common.gpu.gpu_facts import Device
from scripts.host.reports.smoke_rendering import render_page, write_report
from tests.support.smoke_reports import png

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND",  # so that the browser's own requests fail, too
)
if not BROWSER:
    pytest.skip("the page needs a browser: apt-get install chromium", allow_module_level=True)
pytestmark = pytest.mark.timeout(120)
MAGENTA = (250, 20, 240)
RUN = RunRecord(
    started="2026-11-24T07:00:00+00:00",
    seconds=31.0,
    host=HostRecord(name="builder", system="Debian GNU/Linux 12", processors=8, memory=2**35),
    gpus=(Device("NVIDIA RTX 6000 Ada Generation", 49140 * 2**20, (8, 9), "570.195.03"),),
    versions={"A1111": "v1.9.3 (1c0a0c4)", "torch": "2.7.0+cu128"},
    phases={"started": 0.1, "answers": 9.0, "drawn": 16.0},
    memory=tuple(MemorySample(seconds=at, memory=at * 10**8) for at in range(1, 30)),
    pictures=("smoke-cuda128-txt2img.png",),
)
SUBJECT = SubjectRecord(
    image="registry.example/team/a-rather-long-repository-name/a1111-worker:v1.9.3-cuda128",
    image_id=f"sha256:{'0123456789abcdef' * 4}",
    variant="cuda128",
    digests=(f"registry.example/a1111-worker@sha256:{'f' * 64}",),
)
GOOD = CheckResult(
    name="draws an image of the requested size",
    outcome="passed",
    seconds=1.5,
    group="serving",
    evidence="64x64, at least 256 colours",
)
BAD = CheckResult(
    name="container becomes ready",
    outcome="failed",
    seconds=600.0,
    group="start",
    evidence="the worker is not ready: <script>alert(1)</script>",
    code="model-corrupt",
    excerpt="SafetensorError: Error while deserializing header " + "x" * 400,
)
SKIPPED = CheckResult(name="gpu", outcome="skipped", seconds=0, group="gpu", evidence="no GPU")
# Measured by the page itself, on a copy that may run a script.
MEASURE = """<script>addEventListener("load", () => {
  const size = (node) => node.getBoundingClientRect();
  const images = [...document.images].map((image) => image.naturalWidth);
  const empty = [...document.querySelectorAll("svg, .bar, h2, td")].filter(
    (node) => !size(node).height).length;
  document.body.dataset.facts = JSON.stringify({
    width: innerWidth, needed: document.documentElement.scrollWidth, images, empty,
    page: getComputedStyle(document.body).backgroundColor, text: document.body.innerText});
})</script></body>"""


def browse(page: Path, *options: str) -> str:
    """Open a page in a browser with a profile of its own; return what it prints."""
    profile = page.parent / "profile"
    command = [BROWSER, *QUIET, f"--user-data-dir={profile}", *options, page.as_uri()]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    shutil.rmtree(profile, ignore_errors=True)
    return answer.stdout


def measure(page: Path, width: int, *options: str) -> dict[str, object]:
    """Return facts about a page in a window of that width."""
    text = page.read_text(encoding="utf-8").replace("</body>", MEASURE)
    copy = page.with_name("measured.html")
    copy.write_text(re.sub("<meta http-equiv.*?>", "", text), encoding="utf-8")
    shown = browse(copy, f"--window-size={width},900", "--dump-dom", *options)
    found = re.search(r'data-facts="([^"]*)"', shown)
    assert found, shown[-300:]
    facts: dict[str, object] = json.loads(unescape(found[1]))
    return facts


@pytest.fixture(params=["passed", "failed"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The page of a run that passed, and of one that failed."""
    (tmp_path / RUN.pictures[0]).write_bytes(png(MAGENTA))
    checks = (GOOD, SKIPPED) if request.param == "passed" else (BAD, GOOD, SKIPPED)
    write_report(SmokeReport.of(SUBJECT, checks, RUN), tmp_path, "the container's log\n" * 500)
    return tmp_path / "smoke-cuda128.html"


@pytest.mark.parametrize("width", [500, 1280])
def test_everything_is_shown_within_the_window(written: Path, width: int) -> None:
    facts = measure(written, width)
    assert facts["width"] == width
    assert facts["needed"] == width
    assert facts["images"] == [64]
    assert facts["empty"] == 0
    for text in (
        SUBJECT.image,
        SUBJECT.image_id,
        "570.195.03",
        "builder",
        "2.7.0+cu128",
        "16.0 s",
    ):
        assert text in str(facts["text"])


def test_a_failure_is_shown_with_hint_and_log(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(render_page(SmokeReport.of(SUBJECT, (BAD, GOOD), RUN), {}), encoding="utf-8")
    text = str(measure(path, 1000)["text"])
    assert ": failed" in text
    assert text.index("What failed") < text.index("What was tested")
    assert diagnostics()["model-corrupt"].hint in text
    assert "SafetensorError: Error while deserializing" in text
    assert "<script>alert(1)</script>" in text


def test_the_drawn_image_is_visible(written: Path) -> None:
    shot = written.with_name("shot.png")
    browse(written, "--window-size=1000,1600", f"--screenshot={shot}")
    with Image.open(io.BytesIO(shot.read_bytes())) as image:
        counted = image.convert("RGB").getcolors(image.width * image.height) or []
    pixels = {colour: count for count, colour in counted}
    assert isinstance(pixels.get(MAGENTA), int)
    assert pixels[MAGENTA] > 170 * 170


def test_a_dark_desktop_gets_a_dark_page(written: Path) -> None:
    light, dark = measure(written, 1000)["page"], measure(written, 1000, "--force-dark-mode")
    assert light == "rgb(255, 255, 255)"
    assert dark["page"] == "rgb(22, 24, 27)"


def requests_of(page: Path) -> list[str]:
    """Return the addresses that a page requests; the browser's own requests have no origin."""
    log = page.with_name("net.json")
    browse(page, "--dump-dom", f"--log-net-log={log}")
    events = json.loads(log.read_text(encoding="utf-8"))["events"]
    sent = (event["params"] for event in events if "initiator" in event.get("params", {}))
    return [params["url"] for params in sent if params["initiator"] != "not an origin"]


def test_the_page_requests_nothing(written: Path) -> None:
    requesting = written.with_name("requesting.html")
    requesting.write_text("<!doctype html><img src='http://picture.example/x.png'>")
    assert requests_of(requesting) == ["http://picture.example/x.png"]
    assert requests_of(written) == []
