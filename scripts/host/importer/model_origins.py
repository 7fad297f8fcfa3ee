"""Find where model files can be downloaded again, by their SHA-256.

In this order: models that are configured already, the table of auxiliary weights, the Hub's
repositories that the config names, Civitai. Only SHA-256 sums are sent.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from scripts.common.concurrently import run_concurrently
from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.http import open_url
from scripts.common.fetch.http_errors import RetryableError
from scripts.common.fetch.spec import RetryPolicy, redact_url
from scripts.common.models.weights import AuxiliaryWeight, auxiliary_weights
from scripts.host.config.load import LoadedConfig, load_variants
from scripts.host.config.model_schema import HubSource, Model
from scripts.host.config.schema import Mirrors
from scripts.host.models.artifacts import Artifact, artifacts_of
from scripts.host.models.hub_client import Hub, list_lfs_files

_BY_HASH: Final = "/api/v1/model-versions/by-hash/"
"""Source: https://developer.civitai.com/site/reference/model-versions."""

_AT_ONCE: Final = 4  # requests
_TIMEOUT: Final = 20.0  # seconds without a byte
_LONGEST: Final = 10_000_000  # bytes of an answer
_UNKNOWN: Final = 404

Source = Mapping[str, str]


@dataclass(frozen=True)
class Origin:
    """The source of a file.

    Args:
        source: as in the config: `{hub, file, revision}` or `{url}`.
        found_at: `config`, `weights`, `hub` or `civitai`.
        licence: its licence; empty if unknown.
    """

    source: Source
    found_at: str
    licence: str = ""


def find_origins(
    hashes: Collection[str],
    loaded: LoadedConfig,
    *,
    offline: bool,
    warn: Callable[[str], None],
) -> dict[str, Origin]:
    """Find the origin of each file, as far as it is known somewhere.

    Args:
        hashes: SHA-256 of the files.
        loaded: config and lock.
        offline: ask neither the Hub nor Civitai.
        warn: called with what could not be asked.
    """
    variants = load_variants(root=loaded.root)
    found = {**_from_weights(loaded.config.mirrors), **_from_config([*variants, loaded])}
    found = {sha256: found[sha256] for sha256 in hashes if sha256 in found}
    if not offline and (unknown := [each for each in hashes if each not in found]):
        listed = _from_hub(loaded, warn)
        found |= {sha256: listed[sha256] for sha256 in unknown if sha256 in listed}
        unknown = [each for each in unknown if each not in found]
        found |= _from_civitai(unknown, loaded, warn)
    return found


def _from_weights(mirrors: Mirrors) -> dict[str, Origin]:
    def source(weight: AuxiliaryWeight) -> Source:
        if weight.hub:
            return {"hub": weight.hub, "file": weight.file, "revision": weight.revision}
        return {"url": mirrors.apply(weight.url)}

    rows = (row for row in auxiliary_weights() if row.sha256)
    return {row.sha256: Origin(source(row), "weights", row.licence) for row in rows}


def _from_config(variants: Collection[LoadedConfig]) -> dict[str, Origin]:
    return {
        artifact.spec.sha256: Origin(_source(artifact), "config", artifact.model.licence or "")
        for loaded in variants
        for artifact in artifacts_of(loaded, loaded.config.models)
        if artifact.spec.sha256
    }


def _source(artifact: Artifact) -> Source:
    source = artifact.model.source
    if isinstance(source, HubSource):
        return {"hub": source.hub, "file": artifact.file, "revision": source.revision}
    return {"url": source.url}


def _from_hub(loaded: LoadedConfig, warn: Callable[[str], None]) -> dict[str, Origin]:
    """List the large files of every repository that the config names."""
    hub = Hub.from_config(loaded)
    models: dict[tuple[str, str], Model] = {
        (model.source.hub, model.source.revision): model
        for model in loaded.config.models
        if isinstance(model.source, HubSource)
    }
    work = {
        (repo, revision): partial(list_lfs_files, repo, revision, hub) for repo, revision in models
    }
    found: dict[str, Origin] = {}
    answers = dict(run_concurrently(work, _AT_ONCE))
    for repo, revision in work:
        files = answers[repo, revision]
        if isinstance(files, UserError):
            warn(f"{repo} was not searched: {files.message}")
            continue
        for sha256, file in files.items():
            source = {"hub": repo, "file": file, "revision": revision}
            found[sha256] = Origin(source, "hub", models[repo, revision].licence or "")
    return found


def _from_civitai(
    hashes: Collection[str], loaded: LoadedConfig, warn: Callable[[str], None]
) -> dict[str, Origin]:
    mirror = loaded.config.mirrors.civitai
    policy = RetryPolicy(stall_timeout=_TIMEOUT, ca_bundle=str(loaded.ca_bundle or ""))
    found: dict[str, Origin] = {}
    failed: list[UserError] = []

    def ask(sha256: str) -> Origin | None:
        # A site that does not answer at all need not be waited for once per file.
        return None if failed else ask_civitai(sha256, mirror, policy)

    for sha256, origin in run_concurrently(
        {sha256: partial(ask, sha256) for sha256 in hashes}, _AT_ONCE
    ):
        if isinstance(origin, UserError):
            failed.append(origin)
        elif origin:
            found[sha256] = origin
    if failed:
        count = len(hashes) - len(found)
        warn(f"Civitai was not asked about all of {count} files: {failed[0]}")
    return found


def ask_civitai(sha256: str, mirror: str, policy: RetryPolicy) -> Origin | None:
    """Ask Civitai for a file; None where it does not know the file.

    Args:
        sha256: of the file.
        mirror: address of the site, or of a mirror of it.
        policy: timeout and certificates.

    Raises:
        UserError: the site does not answer, or not as documented.
    """
    url = f"{mirror}{_BY_HASH}{sha256.upper()}"
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    try:
        response = open_url(url, headers=headers, token="", policy=policy, accepted=(_UNKNOWN,))
        try:
            body = b""
            while (some := response.read_some(1 << 16)) and len(body) <= _LONGEST:
                body += some
        finally:
            response.close()
        if response.status == _UNKNOWN:
            return None
        answer = json.loads(body)
        address = _download_address(answer["files"], sha256)
    except RetryableError as error:
        hint = "check mirrors.civitai and the network, or add --offline"
        raise UserError(str(error), location=redact_url(url), hint=hint) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            "the answer is not that of Civitai's API",
            location=redact_url(url),
            hint=f"check mirrors.civitai, now {mirror}",
        ) from None
    return Origin({"url": _at_mirror(address, mirror)}, "civitai") if address else None


def _download_address(files: list[dict[str, Any]], sha256: str) -> str:
    """Return the address of the version's file with that content; a version has several files."""
    for file in files:
        if str(file.get("hashes", {}).get("SHA256", "")).lower() == sha256:
            return str(file.get("downloadUrl") or "")
    return ""


def _at_mirror(address: str, mirror: str) -> str:
    """Return an address of the site below its mirror, without a token, which no config may hold."""
    parts, base = urlsplit(address), urlsplit(mirror)
    query = urlencode([pair for pair in parse_qsl(parts.query) if pair[0].lower() != "token"])
    path = base.path + parts.path
    return urlunsplit((base.scheme, base.netloc, path, query, ""))
