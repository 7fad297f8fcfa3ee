"""Recognize what servers send in place of a model: a page, a Git LFS pointer, an error, nothing.

Such an answer often has status 200, and becomes a file whose only fault shows when it is loaded.
"""

import html
import json
import re
from pathlib import Path
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.common.models.kinds import COMPANION_SUFFIXES

_TEXT_SUFFIXES: Final = (*COMPANION_SUFFIXES, ".yml", ".md", ".html", ".htm", ".xml", ".csv")
ANSWER: Final = 1 << 16
"""Bytes in which a page, its title and an error's text are looked for."""

_MAX_ANSWER: Final = 1 << 20  # a longer JSON document is no server's error

_BOMS: Final = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_LFS: Final = re.compile(r"version https://git-lfs\.github\.com/spec/|version https://hawser\.")
_IGNORABLE: Final = r"(?:\s|<!--.*?-->|<\?xml[^>]*\?>)*"
_PAGE: Final = re.compile(
    _IGNORABLE + r"<(?:!doctype\s+html|html|head|body|title|meta|script)\b", re.I | re.S
)
_XML: Final = re.compile(r"\s*<(?:\?xml|Error)\b")
_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title", re.I | re.S)
_XML_MESSAGE: Final = re.compile(r"<(?:Message|Code)>(.*?)</", re.S)
_MESSAGE_KEYS: Final = ("message", "error_description", "detail", "error")


def refuse_impostor(path: Path, name: str, *, kind: str = "") -> None:
    """Refuse a file that is no model whatever its name says.

    Args:
        path: the file.
        name: its name at the source; JSON, XML and empty files are accepted where it promises text.
        kind: its kind of model; empty or `other` for files that need not be weights.

    Raises:
        UserError: what was sent instead (code `not-a-model`).
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(ANSWER)
    found = _identify(start, path, size, name, must_be_weights=kind not in ("", "other"))
    if found:
        raise UserError(f"{found}, not a model", location=name, code="not-a-model")


def identify_answer(start: bytes, name: str) -> str:
    """Return what the beginning of an answer is in place of a model; empty if it may be one.

    Args:
        start: some kilobytes; a JSON document is recognised only as a whole.
        name: the file's name at the source.
    """
    return _identify(start, start, len(start), name, must_be_weights=False) if start else ""


def quote_answer(answer: bytes) -> str:
    """Return what a server's answer to a failed request says, as one line; empty for nothing.

    Hub and Civitai send JSON with `error` or `message`, storages XML, most others a page.
    """
    text = _decode(answer[:ANSWER])
    if text.lstrip()[:1] in ("{", "["):
        return _json_message(answer) or ""
    if match := _PAGE.match(text) and _TITLE.search(text):
        return _shortened(html.unescape(match[1]))
    if _XML.match(text):
        found = _XML_MESSAGE.search(text)
        return _shortened(html.unescape(found[1])) if found else ""
    is_page = text.lstrip().startswith("<")
    return "" if is_page else _shortened(text)


def _identify(
    start: bytes, whole: Path | bytes, size: int, name: str, *, must_be_weights: bool
) -> str:
    """Return what a file is in place of a model; empty if it may be one."""
    promises_text = name.lower().endswith(_TEXT_SUFFIXES)
    has_suffix = bool(Path(name).suffix)
    if not size:
        return "an empty file" if must_be_weights or (has_suffix and not promises_text) else ""
    text = _decode(start)
    if _LFS.match(text):
        return f"a Git LFS pointer ({size} bytes; git lfs pull fetches the file itself)"
    if name.lower().endswith((".html", ".htm")):
        return "a web page" if must_be_weights else ""
    if _PAGE.match(text):
        return f"a web page{_quoted(_TITLE.search(text))}"
    if promises_text:
        return ""
    if _XML.match(text):
        return f"an XML document{_quoted(_XML_MESSAGE.search(text))}"
    if size <= _MAX_ANSWER and text.lstrip()[:1] in ("{", "["):
        message = _json_message(whole if isinstance(whole, bytes) else whole.read_bytes())
        return "" if message is None else f"a JSON document{f' ({message})' if message else ''}"
    return ""


def _decode(start: bytes) -> str:
    for bom, encoding in _BOMS:
        if start.startswith(bom):
            return start[len(bom) :].decode(encoding, "replace")
    return start.decode("latin-1")


def _json_message(answer: bytes) -> str | None:
    """Return what an error as JSON says; empty for nothing, None for what is not JSON."""
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    values = [document.get(key) for key in _MESSAGE_KEYS] if isinstance(document, dict) else []
    # Some nest it: {"error": {"message": …}}.
    values += [each.get("message") for each in values if isinstance(each, dict)]
    return next((_shortened(each) for each in values if isinstance(each, str) and each), "")


def _quoted(match: re.Match[str] | None) -> str:
    text = _shortened(html.unescape(match[1])) if match else ""
    return f" ({text})" if text else ""


def _shortened(text: str) -> str:
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return words if len(words) <= 80 else f"{words[:79]}…"
