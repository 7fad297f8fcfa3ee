"""Asks every outside source for something that this build really wants from it."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scripts.host.config.load import Loaded
from scripts.host.config.schema import HubSource
from scripts.host.docker.arguments import base_reference
from scripts.host.doctor.facts import Mirror
from scripts.host.pin.sources import source_url

_TIMEOUT = 10.0  # seconds
_PYPI = "https://pypi.org/simple"  # what installers ask when nobody says otherwise
_DOCKER_HUB = "registry-1.docker.io"
_LOCKED = (401, 403)  # it is there, and wants a token


@dataclass(frozen=True)
class Probe:
    """One question.

    Args:
        setting: the key of `mirrors` that would answer it elsewhere.
        url: what is asked for.
        fine: statuses that show the source to be there, besides success.
    """

    setting: str
    url: str
    fine: tuple[int, ...] = ()


def reach(loaded: Loaded, local_images: Iterable[str]) -> tuple[Mirror, ...]:
    """Ask all of them at once.

    Args:
        loaded: says where they are.
        local_images: base images that need no registry, because the engine has them.
    """
    asked = probes(loaded, frozenset(local_images))
    bundle = loaded.config.mirrors.ca_bundle
    try:
        context = _context(str(loaded.root / Path(bundle).expanduser()) if bundle else "")
    except OSError as error:
        return (Mirror("ca_bundle", (), (f"{bundle}: {error.strerror or error}",)),)
    with ThreadPoolExecutor(max_workers=len(asked) or 1) as pool:
        troubles = tuple(pool.map(lambda probe: trouble(probe, context), asked))
    return grouped(asked, troubles)


def probes(loaded: Loaded, local_images: frozenset[str] = frozenset()) -> tuple[Probe, ...]:
    """Every question that a config raises. Pure."""
    config = loaded.config
    places = config.mirrors
    found = []
    for reference in (config.base.download, config.base.runtime):
        whole = base_reference(loaded, reference)
        if whole not in local_images:
            found.append(Probe("registry", _registry(whole), _LOCKED))
    for source in config.a1111.sources.values():
        url = source_url(loaded, source.repo)
        if url.startswith("http"):
            found.append(Probe("github", f"{url}/info/refs?service=git-upload-pack"))
    for model in config.models:
        if isinstance(model.source, HubSource):
            url = f"{places.huggingface}/api/models/{model.source.hub}"
            found.append(Probe("huggingface", url, _LOCKED))
    found.append(Probe("python", f"{places.python or _PYPI}/setuptools/"))
    if places.pytorch:
        found.append(Probe("pytorch", f"{places.pytorch}/xformers/"))
    for setting, mirror in (("apt", places.apt), ("apk", places.apk)):
        if mirror:
            found.append(Probe(setting, f"{mirror}/", (*_LOCKED, 404)))  # may list nothing
    return tuple(dict.fromkeys(found))


def trouble(probe: Probe, context: ssl.SSLContext | None = None) -> str:
    """What is wrong with an answer; empty when nothing is."""
    shown = probe.url.partition("?")[0].removesuffix("/info/refs")
    request = urllib.request.Request(probe.url, headers={"User-Agent": "git/2"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT, context=context):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return "" if error.code in probe.fine else f"{shown}: {error.code} {error.reason}"
    except urllib.error.URLError as error:
        reason = error.reason
        return f"{shown}: {getattr(reason, 'strerror', None) or reason}"
    except (OSError, http.client.HTTPException) as error:
        return f"{shown}: {error or type(error).__name__}"


def grouped(asked: Sequence[Probe], troubles: Sequence[str]) -> tuple[Mirror, ...]:
    """One row a setting. Pure."""
    rows = []
    for setting in dict.fromkeys(probe.setting for probe in asked):
        pairs = [
            (probe, why)
            for probe, why in zip(asked, troubles, strict=True)
            if probe.setting == setting
        ]
        hosts = dict.fromkeys("/".join(probe.url.split("/")[:3]) for probe, _ in pairs)
        rows.append(Mirror(setting, tuple(hosts), tuple(why for _, why in pairs if why)))
    return tuple(rows)


def _registry(reference: str) -> str:
    """Where the registry of a reference says that it is one.

    See https://distribution.github.io/distribution/spec/api/, "API version check".
    """
    host, slash, _ = reference.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host = _DOCKER_HUB
    loopback = host.partition(":")[0] in ("localhost", "127.0.0.1")
    return f"{'http' if loopback else 'https'}://{host}/v2/"


def _context(bundle: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if bundle:
        context.load_verify_locations(bundle)
    return context
