"""Turn the addresses that people paste for a model into sources: pages are no files.

Forms are those of the sites themselves. A Hub address becomes a Hub source, so that `invoke pin`
knows its commit; what cannot be converted is refused with the form that can be used.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult as Address
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from scripts.common.secrets import has_token, token_variable
from scripts.host.config.addresses import check_credentials
from scripts.host.config.grammar import expand_path

Source = dict[str, str]
"""A source as `config.yaml` has it: `hub`, `file` and `revision`, or `url`."""

_HUB_FILE: Final = re.compile(
    r"(?:hub:|hf://(?:models/)?)?([\w.-]+/[\w.-]+?)(?:@([^/@]+))?/(?!/)([^:]+)", re.ASCII
)
_AIR: Final = re.compile(r"(?:urn:air:|air:)?[\w.-]+:[\w.-]+:civitai:\d+@(\d+)(?:\.\w+)?")
# Query parameters that give access to what is not public, and those of addresses that expire.
_TOKENS: Final = re.compile(
    r"(?:access|auth|api|download|private)?[_-]?(?:token|key)|auth(?:orization)?|jwt|pass(?:word|wd)"
    r"|(?:client[_-]?)?secret"
)
_SIGNATURES: Final = re.compile(
    r"sig|(?:x-(?:amz|goog|oss)-)?(?:signature|credential|security-token)|awsaccesskeyid"
    r"|googleaccessid|ossaccesskeyid|key-pair-id|policy|hmac|hdnts"
)
_HUB_MIRROR: Final = "hf-mirror.com"
_CLOSED: Final = {
    "mega.nz": "MEGA decrypts files in the browser",
    "mediafire.com": "MediaFire hands out addresses that expire",
    **dict.fromkeys(("1drv.ms", "onedrive.live.com"), "OneDrive hands out addresses that expire"),
    "gofile.io": "GoFile hands out files in the browser only",
    "pan.baidu.com": "Baidu needs its own client",
}


def read_source(text: str, revision: str = "") -> Source:
    """Return the source that a pasted text means.

    Args:
        text: `hub:owner/repo/file`, an address, the address of a page, or a path of this machine.
        revision: of a Hub repository; empty for the one in the text, or `main`.

    Raises:
        ValueError: it names no file, or holds a secret, which is not repeated.
    """
    text = text.strip().strip("<>\"'").strip()
    if air := _AIR.fullmatch(text):
        return {"url": f"https://civitai.com/api/download/models/{air[1]}"}
    if _find_site(text.partition("/")[0]):  # as browsers show an address
        text = f"https://{text}"
    is_hub = text.startswith(("hub:", "hf://"))
    if "://" in text and not is_hub:
        found = _convert(text.replace(" ", "%20"))
    elif not is_hub and (text.startswith(("/", "~", "$", ".")) or Path(text).is_file()):
        path = Path(expand_path(text)).resolve()
        if not path.is_file():
            raise ValueError(f"there is no file {path}")
        found = {"url": path.as_uri()}
    elif match := _HUB_FILE.fullmatch(text):
        found = _hub_source(match[1], unquote(match[2] or "main"), match[3])
    else:
        raise ValueError("expected hub:owner/repo/file, an address, or the path of a file here")
    if revision and "hub" in found:
        found["revision"] = revision
    return found


def check_url(url: str) -> str:
    """Return the `url` of a model's source, which must be a file's and hold no secret.

    Raises:
        ValueError: with the form that is expected.
    """
    is_address = re.match(r"(https?://[^\s/]|file:///)\S*$", url)
    source = read_source(url)
    # A file of the Hub may be named by its address: a token is sent to the Hub's own hosts, too.
    if is_address and (source.get("url") == url or "/resolve/" in url):
        return url
    expected = ", ".join(f"{key}: {value}" for key, value in source.items())
    raise ValueError(f"this is no file's address; expected {{{expected}}}")


def _convert(url: str) -> Source:
    """Return the source behind an address; any other than a known page unchanged."""
    if not re.match(r"https?://[^\s/]|file:///", url):
        raise ValueError("expected an address: https://host/file, http://… or file:///path")
    parts = urlsplit(check_credentials(url))
    _refuse_secrets(parts)
    if reason := _CLOSED.get((parts.hostname or "").removeprefix("www.")):
        raise ValueError(f"{reason}; fetch the file yourself, and give its path")
    if (convert := _find_site(parts.hostname or "")) and (source := convert(parts)):
        return source
    return {"url": urlunsplit(parts._replace(fragment=""))}


def _find_site(host: str) -> Callable[[Address], Source] | None:
    host = host.removeprefix("www.")
    return next((convert for sites, convert in _SITES.items() if host in sites), None)


def _refuse_secrets(parts: Address) -> None:
    for name, value in parse_qsl(parts.query):
        if value and _SIGNATURES.fullmatch(name.lower()):
            raise ValueError(
                f"the address is signed ({name}=…) and expires; expected a lasting one, or the"
                " path of the file once you have fetched it"
            )
        if value and (_TOKENS.fullmatch(name.lower()) or has_token(value.encode())):
            variable = token_variable(parts.hostname or "")
            raise ValueError(
                f"the address holds a secret ({name}=…); expected it without, and the secret in"
                f" the environment variable {variable}"
            )


def _hub_source(repo: str, revision: str, file: str) -> Source:
    return {"hub": repo, "file": unquote(file), "revision": unquote(revision)}


def _from_hub(parts: Address) -> Source:
    match = re.fullmatch(
        r"/((?:datasets/|spaces/)?)([^/]+/[^/]+?)(?:\.git)?"
        r"(?:/(blob|resolve|raw|tree)/([^/]+)(?:/(.+))?)?/?",
        parts.path,
    )
    if not match:
        return {}
    kind, repo, view, revision, file = match.groups()
    # Only repositories of models are Hub sources, and a mirror is asked itself.
    is_source = not kind and parts.netloc != _HUB_MIRROR
    root = f"https://{parts.netloc}/{kind}{repo}/resolve"
    if not file or view == "tree":
        form = f"hub:{repo}/FILE" if is_source else f"{root}/main/FILE"
        raise ValueError(f"this is a page; expected the name of a file: {form}")
    return _hub_source(repo, revision, file) if is_source else {"url": f"{root}/{revision}/{file}"}


def _from_civitai(parts: Address) -> Source:
    match = re.match(r"/(?:models?|(?:api/v1/)?model-versions/(\d+))(?:/|$)", parts.path)
    if not match:
        return {}
    base = f"https://{parts.netloc}/api/download/models"
    if version := match[1] or dict(parse_qsl(parts.query)).get("modelVersionId"):
        return {"url": f"{base}/{version}"}
    raise ValueError(
        f"this is a model's page; expected the address of its Download button: {base}/VERSION"
    )


def _from_github(parts: Address) -> Source:
    owner, repo, *rest = (*parts.path.strip("/").split("/"), "")
    rest = [each for each in rest if each]
    root = f"https://github.com/{owner}/{repo}"
    if rest[:1] == ["blob"] and "raw=true" in parts.query:
        return {}
    if rest[:1] == ["blob"] and len(rest) > 2:
        return {"url": f"{root}/raw/{'/'.join(rest[1:])}"}
    is_asset = rest[:2] == ["releases", "download"] or rest[:3] == [
        "releases",
        "latest",
        "download",
    ]
    if is_asset or rest[:1] in (["raw"], ["archive"]):
        return {}
    raise ValueError(f"this is a page; expected the file: {root}/releases/download/TAG/FILE")


def _from_drive(parts: Address) -> Source:
    if "/folders/" in parts.path:
        raise ValueError("this is a folder; expected the link of one file: Share, Copy link")
    query = dict(parse_qsl(parts.query))
    match = re.search(r"/d/([\w-]+)", parts.path)
    if not (found := match[1] if match else query.get("id", "")):
        return {}
    # This host sends large files without asking whether they may go without a virus scan.
    wanted = {"id": found, "export": "download", "confirm": "t"}
    wanted |= {key: query[key] for key in ("resourcekey",) if key in query}
    return {"url": f"https://drive.usercontent.google.com/download?{urlencode(wanted)}"}


def _from_dropbox(parts: Address) -> Source:
    if parts.path.startswith(("/home", "/scl/fo/", "/sh/")):
        raise ValueError("this is a folder; expected the link of one file: Share, Copy link")
    query = dict(parse_qsl(parts.query))
    kept = {"rlkey": query["rlkey"]} if "rlkey" in query else {}
    wanted = urlencode({**kept, "dl": "1"})
    return {"url": urlunsplit(("https", "www.dropbox.com", parts.path, wanted, ""))}


def _from_modelscope(parts: Address) -> Source:
    match = re.fullmatch(
        r"/models/([^/]+/[^/]+)(?:/(?:file/view|resolve)/([^/]+)/(.+))?.*", parts.path
    )
    if not match:
        return {}
    repo, revision, file = match.groups()
    root = f"https://{parts.netloc}/models/{repo}/resolve"
    if not file:
        raise ValueError(f"this is a page; expected the file: {root}/master/FILE")
    return {"url": f"{root}/{revision}/{file}"}


_SITES: Final[Mapping[tuple[str, ...], Callable[[Address], Source]]] = {
    ("huggingface.co", "hf.co", _HUB_MIRROR): _from_hub,
    ("civitai.com", "civitai.green"): _from_civitai,
    ("github.com",): _from_github,
    ("drive.google.com", "docs.google.com", "drive.usercontent.google.com"): _from_drive,
    ("dropbox.com",): _from_dropbox,
    ("modelscope.cn", "modelscope.ai"): _from_modelscope,
}
