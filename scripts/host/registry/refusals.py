"""Recognise why a registry does not accept a push, by the words of registries and of the engine.

Registries answer with codes of the OCI distribution specification and texts of their own, which the
engine passes on. The first row that matches decides, so a cause stands above what it looks like.
"""

import re
from dataclasses import dataclass
from typing import Final

LOST: Final = "registry-lost"
"""Code of a failure that another attempt may not meet."""
REFUSED: Final = "registry-refused"
"""Code of a failure of credentials or rights."""


@dataclass(frozen=True)
class Refusal:
    """A reason for which a push fails.

    Args:
        code: in `scripts.common.diagnostics.table`; empty for none.
        hint: next step; {host} is the registry; empty for that of the code.
        signature: regular expression of the texts, in any case.
    """

    code: str
    hint: str
    signature: str


_LOGIN: Final = "log in: docker login {host}"

_REFUSALS: Final = (
    Refusal(
        LOST,
        "check the engine's proxy: docker info shows it, /etc/docker/daemon.json or its service"
        " sets it",
        r"proxyconnect tcp",
    ),
    # Of throttling, which ends within seconds; Docker Hub's limit of pulls is another matter.
    Refusal(LOST, "", r"too ?many ?requests(?!.*(?:pull rate|upgrade))|rate exceeded"),
    Refusal(
        "certificate",
        "give the engine its CA as /etc/docker/certs.d/{host}/ca.crt; if it has expired, renew it",
        r"x509: |certificate signed by unknown|failed to verify certificate",
    ),
    Refusal(
        "registry-plain",
        "",
        r"server gave HTTP response to HTTPS client|does not look like a TLS handshake",
    ),
    Refusal(
        "registry-immutable",
        "",
        # ECR; Harbor; Docker Hub and others that offer it; GitLab's protected tags.
        r"repository is immutable|configured as immutable|tag is immutable|immutable tag"
        r"|cannot (?:be )?overwrit|already exists.{0,80}overwrit|tag.{0,40}protected",
    ),
    Refusal(
        "registry-full",
        "",
        # Harbor; Docker Hub and Quay; Artifactory (507); the registry's disk.
        r"quota|exceeds? the.{0,30}limit|limit.{0,20}exceeded|exceed the configured upper limit"
        r"|no space left|507 |storage (?:limit|is full)|private repositor(?:y|ies).{0,30}limit",
    ),
    Refusal(
        "registry-too-large",
        "",
        r"\b413\b|(?:entity|payload|body) too large|blob upload.{0,30}too large",
    ),
    Refusal(
        "registry-limited",
        "",
        r"pull rate limit|rate limit.{0,60}(?:upgrade|authenticat)",
    ),
    Refusal(
        REFUSED,
        "log in again, the login has expired: docker login {host}; on ECR: aws ecr"
        " get-login-password | docker login --username AWS --password-stdin {host}",
        r"token has expired|token (?:is )?expired|expired token|jwt expired|session expired",
    ),
    Refusal(
        REFUSED,
        "the login lacks a right: on GHCR a token with write:packages, in Actions `packages:"
        " write`, and the package linked to the repository",
        r"write_package|installation not allowed to|token provided does not match expected scopes",
    ),
    Refusal(
        REFUSED,
        "let its policy allow pushes (ecr:InitiateLayerUpload, ecr:PutImage and the others of"
        " AmazonEC2ContainerRegistryPowerUser)",
        r"not authorized to perform: ecr|ecr:\w+ on resource",
    ),
    Refusal(REFUSED, _LOGIN, r"may require authorization"),
    Refusal(
        "registry-missing",
        "",
        # ECR; Artifact Registry; Harbor; the specification's NAME_UNKNOWN.
        r"name unknown|repository.{0,120}(?:does not exist|not found)|repo(?:sitory)? not found"
        r"|project .{0,80}not found|name_unknown",
    ),
    Refusal(
        REFUSED,
        "log in, with an account that owns the first part of the name: docker login {host}",
        r"requested access to the resource is denied|access forbidden|unauthorized to access"
        r"|not permitted|insufficient_scope|permission.{0,60}denied on resource",
    ),
    Refusal(
        REFUSED,
        _LOGIN,
        r"no basic auth credentials|\bunauthorized\b|(?<!permission )denied:\s"
        r"|HTTP Basic: Access denied|incorrect username or password|40[13] (?:Unauthorized|Forb)"
        r"|HTTP (?:status: )?40[13]\b|authentication required|invalid_token",
    ),
    Refusal(
        "",
        "check image.repository, and the engine's name server",
        r"no such host",
    ),
    Refusal(
        "",
        "give image.repository the registry's own path, such as host/project/name",
        r"name invalid|invalid repository name|repository name.{0,40}(?:must|invalid)",
    ),
    Refusal(
        "",
        "the registry does not take this kind of manifest: build with an engine without the"
        " containerd image store, or update the registry",
        r"manifest invalid|unsupported media ?type|manifest_invalid",
    ),
    Refusal(
        LOST,
        "",
        # Errors of Go's net, net/http and http2 packages that another attempt may not meet.
        r"\bEOF\b"
        r"|connection (?:refused|reset|aborted|closed|lost|broken)|broken pipe"
        r"|closed (?:idle |network |the )?connection|transport (?:was )?closed|GOAWAY|stream error"
        r"|time(?:d )?-?out|deadline exceeded"
        r"|no route to host|network is unreachable|server misbehaving|temporary failure"
        r"|blob unknown|blob upload (?:unknown|invalid)"
        r"|(?:status:?|:|HTTP) (?:429|5\d\d)\b",
    ),
)
_OTHER: Final = Refusal("", "check image.repository", "")


def find_refusal(message: str, host: str) -> Refusal:
    """Return why a push failed, its hint filled in.

    Args:
        message: of the engine, in one line.
        host: the registry, as `docker login` takes it.
    """
    found = next(
        (row for row in _REFUSALS if re.search(row.signature, message, re.IGNORECASE)), _OTHER
    )
    return Refusal(found.code, found.hint.format(host=host), found.signature)
