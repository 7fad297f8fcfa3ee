"""README and docs: current tables, links that lead somewhere, commands and configs that exist."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

import tasks
from scripts.container.serverless.request.job_input import parse_job_input
from scripts.container.serverless.request.job_request import InputPolicy, JobRequest, make_request
from scripts.host.config.load import ROOT, load
from scripts.reference import blocks
from tests.support.ci import check, sessions
from tests.support.releases import RecordedFacts
from tests.support.serving import Quiet, Server, running

README = ROOT / "README.md"
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
        ROOT / "benchmarks" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
)
FENCE = re.compile(r"^```(\S*)(?: (\S+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")
# Programs of other people: their own documentation says what they take.
PROGRAMS = {"cd", "curl", "docker", "export", "gh", "git", "pre-commit", "python3", "source"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def fenced(page: Path, language: str) -> list[tuple[str, str]]:
    """Return the name (mostly none) and the text of a page's code blocks in a language."""
    return [
        (name, text)
        for found, name, text in FENCE.findall(page.read_text(encoding="utf-8"))
        if found == language
    ]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    texts = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Give the target and anchor of every link within the project."""
    for markdown, image in LINK.findall(prose(page)):
        target, _, anchor = (markdown or image).partition("#")
        if "://" not in target:
            yield ((page.parent / target).resolve() if target else page), anchor


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target}#{anchor}"


def test_every_page_is_two_clicks_from_the_readme() -> None:
    seen = {README}
    for _ in range(2):
        seen |= {target for page in seen if page.suffix == ".md" for target, _ in links(page)}
    assert set(PAGES) <= seen


def test_the_generated_tables_are_current() -> None:
    stale = [path for path, text in blocks.pages().items() if path.read_text() != text]
    assert not stale, "run: python -m scripts.reference"


def test_every_generated_table_is_on_a_page() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert not [name for name in blocks.BLOCKS if f"<!-- {name} -->" not in text]


def test_only_missed_goals_have_a_reason() -> None:
    ratios: list[dict[str, Any]] = [
        ratio
        for path in blocks.RESULTS.glob("*.json")
        for ratio in json.loads(path.read_text())["ratios"]
    ]
    reasons = yaml.safe_load((blocks.RESULTS / "missed-goals.yaml").read_text())
    assert set(reasons) == {ratio["what"] for ratio in ratios if not ratio["holds"]}


def commands(text: str) -> Iterator[list[str]]:
    """Give each command of a shell block, without assignments before it."""
    for line in re.sub(r"\\\n|(?<=\|)\n", " ", text).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not set(word) <= set("|&;"):
                words.append(word)
                continue
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words.pop(0)
            if words:
                yield words
            words = []


def check_command(words: list[str]) -> None:
    """Parse a command against the real tasks, sessions, modules and container commands."""
    if words[0] == "scripts/bootstrap":
        return check_command(words[2:] if words[1] == "--yes" else words[1:])
    if words[:2] == ["python", "-m"]:
        assert find_spec(words[2]), words
        return check_command(words[words.index("--") + 1 :]) if "--" in words else None
    if words[0] == "python3" and words[1] == "-c":
        compile(words[2], "docs", "exec")
    if words[:2] == ["docker", "run"] and "a1111-worker" in words:
        assert words[words.index("a1111-worker") + 1 :][:1] in ([], ["preflight"])
    if words[0] in PROGRAMS:
        return None
    return check([word for word in words if word != "--debug"])  # invoke's own, before the task


@each_page
def test_every_command_exists(page: Path) -> None:
    for _, text in fenced(page, "sh"):
        for words in commands(text):
            check_command(words)


@each_page
def test_every_task_and_session_named_in_text_exists(page: Path) -> None:
    for name in re.findall(r"`invoke ([a-z][\w.]*)", prose(page)):
        assert name in tasks.namespace.task_names or f"{name}." in str(tasks.namespace.task_names)
    for name in re.findall(r"`nox -s (\w+)", prose(page)):
        assert name in sessions()


@each_page
def test_every_config_loads(page: Path, tmp_path: Path) -> None:
    for name, text in fenced(page, "yaml"):
        if name:  # another program's file, which a test of its own checks
            continue
        file = tmp_path / "config.yaml"
        file.write_text(text)
        for variant in yaml.safe_load(text).get("variants") or ["cuda128"]:
            load(variant, environment={"IMAGE_CONFIG": str(file)})


def request_for(given: Any) -> JobRequest:
    return make_request(parse_job_input(given, 600), RecordedFacts(), InputPolicy())


@each_page
def test_every_job_is_valid(page: Path) -> None:
    for _, text in fenced(page, "json"):
        for line in text.splitlines():
            assert not request_for(json.loads(line)["input"]).warnings


class Txt2img(Quiet):
    """Answer a valid txt2img request with one image, as the WebUI or as RunPod's queue."""

    def do_POST(self) -> None:  # noqa: N802 - http.server's own name
        given = json.loads(self.drain())
        is_job = self.path == "/v2/ENDPOINT/runsync"
        request = request_for(given["input"] if is_job else given)
        assert is_job or self.path == request.path
        assert not is_job or self.headers["Authorization"] == "Bearer key"
        assert not request.warnings
        body = {"images": [base64.b64encode(b"image").decode()]}
        self.answer(200, json.dumps({"output": body} if is_job else body).encode())


@pytest.mark.parametrize(
    ("name", "count"), [("README.md", 1), ("docs/tutorial.md", 2), ("docs/how-to/deploy.md", 1)]
)
def test_the_documented_requests_write_an_image(name: str, count: int, tmp_path: Path) -> None:
    requests = [text for _, text in fenced(ROOT / name, "sh") if text.startswith("curl")]
    assert len(requests) == count
    for request in requests:
        with running(Server(("127.0.0.1", 0), Txt2img)) as server:
            script = re.sub(r"http://127.0.0.1:3000|https://api.runpod.ai", server.url, request)
            environment = {**os.environ, "RUNPOD_API_KEY": "key"}
            command = ["bash", "-ec", script]
            subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=60)
        image = tmp_path / "lighthouse.png"
        assert image.read_bytes() == b"image"
        image.unlink()


def test_the_readme_fits_a_few_screens() -> None:
    assert len(README.read_text().splitlines()) <= 150


def test_the_changelog_has_the_current_version() -> None:
    [version] = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d$", text, re.M)


@pytest.mark.parametrize(
    ("schema", "pattern"),
    [
        ("vendor.dependabot", ".github/dependabot.yml"),
        ("vendor.github-issue-forms", ".github/ISSUE_TEMPLATE/*.yml"),
        ("vendor.compose-spec", "compose.yaml"),
    ],
)
def test_project_files_match_their_schemas(schema: str, pattern: str) -> None:
    files = [str(path) for path in ROOT.glob(pattern)]
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout
