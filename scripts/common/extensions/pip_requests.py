"""Read what an extension asks of pip: its lists of requirements, and recorded calls.

Seven of eighteen installers call pip past `launch.run_pip`, so `pip_recorder` records it at pip.

Needs `packaging`, which the host and the WebUI's environment have, the worker's own has not.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

CONFIG: Final = "config.yaml"
"""Source of a request that the config makes for an extension."""
REQUIREMENTS: Final = "requirements.txt"
"""An extension's own list of requirements."""

# Options of `pip install` that take a value in the next word (pip 23 to 26, `pip install --help`).
_OPTIONS: Final = """
    -b -c -C -e -f -i -r -t --abi --build-option --cache-dir --cert --client-cert --config-settings
    --constraint --editable --exists-action --extra-index-url --find-links --global-option --group
    --implementation --index-url --keyring-provider --log --no-binary --only-binary --platform
    --prefix --progress-bar --proxy --python --python-version --report --requirement
    --resume-retries --retries --root --root-user-action --src --target --timeout --trusted-host
    --upgrade-strategy --use-deprecated --use-feature
"""
_VALUES: Final = frozenset(_OPTIONS.split())
_ARCHIVE: Final = re.compile(r"^(?P<name>.+?)-\d[^/]*\.(tar\.\w+|tgz|zip)$")


@dataclass(frozen=True)
class PipRequest:
    """One package that something asks pip for.

    Args:
        text: the requirement, such as `timm<=0.9.5` or `dsine @ https://…`, in PEP 508's form where
            pip's was another; what cannot be read, such as a folder, is as it was written.
        source: what asks: `install.py`, `requirements.txt`, `pyproject.toml` or `config.yaml`.
        with_dependencies: whether the packages that it requires are wanted, too.
    """

    text: str
    source: str
    with_dependencies: bool = True

    @property
    def requirement(self) -> Requirement | None:
        """The parsed requirement; None for what names no package."""
        try:
            return Requirement(self.text)
        except InvalidRequirement:
            return None

    @property
    def name(self) -> str:
        """Canonical name of the package; empty for what names none."""
        parsed = self.requirement
        return canonicalize_name(parsed.name) if parsed else ""


def read_recorded_calls(log: str, source: str = "install.py") -> tuple[PipRequest, ...]:
    """Return the requests of a log of `pip_recorder`, each once, in order."""
    requests: list[PipRequest] = []
    for line in log.splitlines():
        call = json.loads(line)
        requests += read_arguments(call["arguments"], call["files"], source)
    return tuple(dict.fromkeys(requests))


def read_arguments(
    arguments: Sequence[str], files: Mapping[str, str], source: str
) -> tuple[PipRequest, ...]:
    """Return what one call of pip asks for; nothing for `uninstall` and the like.

    Args:
        arguments: the words after `pip`.
        files: texts of the files that `-r` names, by name as written there.
        source: what calls.
    """
    words, texts, lists = _split_arguments(arguments)
    if not words or words[0] not in ("install", "download", "wheel"):
        return ()
    dependencies = "--no-deps" not in arguments
    # depthmap's installer asks for `install networkx`; nobody means the package of that name.
    asked = [*(word for word in words[1:] if word != "install"), *texts]
    found = [PipRequest(to_requirement(text), source, dependencies) for text in asked]
    for name in lists:
        found += read_requirement_list(files.get(name, ""), source, files, dependencies, name)
    return tuple(found)


def _split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Split pip's arguments into words, editable sources and names of requirement files."""
    words: list[str] = []
    values: dict[str, list[str]] = {"-e": [], "-r": []}
    following = iter(arguments)
    for word in following:
        option, equals, value = word.partition("=")
        if not word.startswith("-"):
            words.append(word)
            continue
        if not word.startswith("--") and word[:2] in _VALUES and len(word) > 2:
            option, value = word[:2], word[2:]
        elif word in _VALUES:
            option, value = word, next(following, "")
        elif not equals:
            continue
        short = {"--requirement": "-r", "--editable": "-e"}.get(option, option)
        if short in values and value:
            values[short].append(value)
    return words, values["-e"], values["-r"]


def read_requirement_list(
    text: str,
    source: str,
    files: Mapping[str, str] | None = None,
    with_dependencies: bool = True,
    name: str = "",
) -> tuple[PipRequest, ...]:
    """Return the requests of a requirements.txt; of its options, `-r` and `-e` only.

    Args:
        text: its content; the last line may lack its end.
        source: what asks for them.
        files: texts of files that it may name with `-r`.
        with_dependencies: as in `PipRequest`.
        name: of the file, for names relative to it.
    """
    found: list[PipRequest] = []
    for line in re.sub(r"\\\r?\n", " ", text.lstrip("\ufeff")).splitlines():
        # A comment begins the line or follows a space; a URL may contain #.
        stripped = re.split(r"(?:^|\s)#", line)[0].strip()
        if not stripped:
            continue
        if stripped.startswith("-"):
            _, editable, lists = _split_arguments(stripped.split(maxsplit=1))
            found += [PipRequest(to_requirement(each), source) for each in editable]
            for each in lists:
                inner = str(PurePosixPath(name).parent / each) if name else each
                others = dict(files or {})
                inner_text = others.pop(inner, "")
                found += read_requirement_list(inner_text, source, others, with_dependencies, inner)
            continue
        asked = re.split(r"\s--(?:hash|config-settings|global-option)\b", stripped)[0]
        found.append(PipRequest(to_requirement(asked), source, with_dependencies))
    return tuple(found)


def to_requirement(text: str) -> str:
    """Return what pip was asked for in PEP 508's form, for a bare URL with the name in it."""
    text = text.strip()
    url, _, marker = text.partition(" ;")
    if re.match(r"^(git\+)?https?://", url) is None:
        parsed = PipRequest(text, "").requirement
        return str(parsed) if parsed else text
    parts = urlsplit(url)
    file = unquote(PurePosixPath(parts.path).name)
    egg = re.search(r"(?:^|&)egg=([\w.-]+)", parts.fragment)
    archive = _ARCHIVE.match(file)
    name = egg[1] if egg else archive["name"] if archive else ""
    if file.endswith(".whl"):
        name = file.partition("-")[0]
    elif not name and url.startswith("git+"):
        name = file.partition("@")[0].removesuffix(".git")
    if not name:
        return text
    return f"{name} @ {url}" + (f" ; {marker.strip()}" if marker else "")
