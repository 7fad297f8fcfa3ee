"""Define the grammars of the config's texts: names of images, commits, checksums, paths.

Image names follow https://github.com/distribution/reference (`regexp.go`), as the engine and every
registry do; names of branches and tags follow git-check-ref-format.
"""

import csv
import os
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, GetCoreSchemaHandler

_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN: Final = rf"({_LABEL}(\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(:[0-9]{{1,5}})?"
_COMPONENT: Final = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_BELOW: Final = rf"{_COMPONENT}(/{_COMPONENT})*"
# The first part is a host if it has a dot or a port, or is localhost; else Docker Hub is meant.
_NAME: Final = rf"(?=[^@]{{1,255}}(@|$))((?=[^/]*[.:]|localhost/){_DOMAIN}/)?{_BELOW}"
_TAG: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST: Final = r"sha256:[0-9a-f]{64}"
_CACHES: Final = ("registry", "local", "inline", "gha", "s3", "azblob")
_CACHE_SECRETS: Final = ("access_key_id", "secret_access_key", "session_token", "token")


@dataclass(frozen=True)
class Matching:
    """Accept a text that a regular expression matches as a whole; annotates a `str`.

    Args:
        pattern: the expression, which the JSON Schema shows, too.
        expected: what it admits, for the message.
    """

    pattern: str
    expected: str

    def check(self, text: str) -> str:
        """Return the text.

        Raises:
            ValueError: it does not match; the message says what is expected.
        """
        if not re.fullmatch(self.pattern, text, re.ASCII):
            raise ValueError(f"expected {self.expected}")
        return text

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:  # noqa: ANN401 - as pydantic has it
        return AfterValidator(self.check).__get_pydantic_core_schema__(source, handler)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:  # noqa: ANN401 - as pydantic has it
        return {**handler(schema), "pattern": f"^{self.pattern}$"}


IMAGE: Final = Matching(
    rf"{_NAME}(:{_TAG})?(@{_DIGEST})?", "an image such as registry.example/owner/name:tag"
)
REGISTRY: Final = Matching(
    rf"{_DOMAIN}(/{_COMPONENT})*/*",
    "host, host:port or a path below it, without https://; for credentials use docker login",
)


def expand_path(path: str) -> str:
    """Return a path of this machine with `~` and environment variables replaced.

    Raises:
        ValueError: it names a variable that is not set, or a user that there is not.
    """
    expanded = os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111 - as the shell: ~ after variables
    if missing := re.search(r"\$\{?(\w+)", expanded):
        raise ValueError(f"the environment variable {missing[1]} is not set")
    if not expanded or expanded.startswith("~"):
        raise ValueError("expected a path; ~ stands for the home folder")
    return expanded


def _check_ref(ref: str) -> str:
    if ".." in ref or ref.endswith((".", ".lock")):
        raise ValueError(f"expected {_REF.expected}")
    return ref


def _check_tag(template: str) -> str:
    known = ("release", "variant", "revision")
    for field in re.findall(r"\{(.*?)\}", template):
        if field not in known:
            fields = ", ".join(f"{{{each}}}" for each in known)
            raise ValueError(f"unknown placeholder {{{field}}}; expected one of {fields}")
    if not re.fullmatch(_TAG, re.sub(r"\{\w+\}", "x", template), re.ASCII):
        raise ValueError("expected a tag of letters, digits, _ . - and placeholders")
    return template


def _check_cache(option: str) -> str:
    """Return an option of buildx (https://docs.docker.com/build/cache/backends/)."""
    if "=" not in option:
        return IMAGE.check(option)
    pairs = [field.partition("=") for field in next(csv.reader([option]))]
    fields = {key.strip(): value for key, _, value in pairs}
    if fields.get("type") not in _CACHES or not all(equals for _, equals, _ in pairs):
        raise ValueError(f"expected type=…, then key=value; a type of {', '.join(_CACHES)}")
    if found := fields.keys() & set(_CACHE_SECRETS):
        raise ValueError(f"{min(found)} would be in the process list; set it for the builder")
    if fields["type"] == "registry":
        IMAGE.check(fields.get("ref", ""))
    paths = ("src", "dest") if fields["type"] == "local" else ()
    fields |= {key: expand_path(fields[key]) for key in paths if key in fields}
    return ",".join(f"{key}={value}" for key, value in fields.items())


def _plain_digest(text: str) -> str:
    return text.lower().removeprefix("sha256:")


_REF: Final = Matching(
    r"[A-Za-z0-9_][\w.+-]*(/[A-Za-z0-9_][\w.+-]*)*", "the name of a branch or tag, or a commit"
)

BuilderName = Annotated[
    str, Matching(r"[A-Za-z0-9][A-Za-z0-9_.+*-]*", "a name that docker buildx ls shows")
]
CacheOption = Annotated[str, AfterValidator(_check_cache)]
Commit = Annotated[str, Matching(r"[0-9A-Fa-f]{40}", "40 hex digits"), AfterValidator(str.lower)]
Digest = Annotated[str, Matching(_DIGEST, "sha256: and 64 hex digits")]
Snapshot = Annotated[str, Matching(r"\d{8}T\d{6}Z", "a time such as 20260131T000000Z")]
GitRef = Annotated[str, _REF, AfterValidator(_check_ref)]
"""A branch or tag as git admits it, or all digits of a commit."""
ImageReference = Annotated[str, IMAGE]
LabelName = Annotated[str, Matching(r"[^\s=]+", "a name without spaces and =")]
LocalPath = Annotated[str, AfterValidator(expand_path)]
"""A path on the machine that builds."""
Name = Annotated[
    str, Matching(r"[A-Za-z0-9][A-Za-z0-9._-]*", "letters, digits, . _ -; the first no dot")
]
PathBelow = Annotated[
    str, Matching(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", "a path below the checkout, without ..")
]
Repository = Annotated[
    str, Matching(_NAME, "registry/owner/name in lower case, without https:// and tag")
]
RepositoryFile = Annotated[
    str,
    Matching(
        r"(?!.*://)(?!.*(^|/)\.{1,2}(/|$))[^/\\\r\n\t]([^\\\r\n\t]*[^/\\\r\n\t])?",
        "the path of a file in the repository",
    ),
]
Sha256 = Annotated[
    str,
    Matching(r"([Ss][Hh][Aa]256:)?[0-9A-Fa-f]{64}", "the 64 hex digits of a SHA-256"),
    AfterValidator(_plain_digest),
]
TagTemplate = Annotated[str, AfterValidator(_check_tag)]
