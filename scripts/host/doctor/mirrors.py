"""Asks every outside source for something that this build really wants from it."""

from __future__ import annotations

import http.client
import ipaddress
import re
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.http import trusting
from scripts.host.build.inputs import resolve_base
from scripts.host.config.load import LoadedConfig
from scripts.host.config.schema import HubSource
from scripts.host.doctor.doctor_facts import Mirror
from scripts.host.pin.git_sources import source_url

_TIMEOUT = 10.0  # seconds of silence
_PATIENCE = 15.0  # seconds for all, names that are not looked up and answers that drip included
_PYPI = "https://pypi.org/simple"  # what installers ask when nobody says otherwise
_DOCKER_HUB = "registry-1.docker.io"
_LOCKED = (401, 403)  # it is there, and wants a token
_WANTS_TLS = 400  # what a server answers that was spoken to in plain HTTP, but speaks TLS only


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


def reach(
    loaded: LoadedConfig, local_images: Collection[str], insecure: Collection[str] = ()
) -> tuple[Mirror, ...]:
    """Ask all of them at once.

    Args:
        loaded: says where they are.
        local_images: base images that need no registry, because the engine has them.
        insecure: registries that the engine may speak to without TLS.
    """
    asked = probes(loaded, local_images, insecure)
    try:
        context = trusting(str(loaded.ca_bundle or ""))
    except UserError as failure:
        unusable = Mirror("ca_bundle", (), (f"{failure.location}: {failure.message}",))
        return unusable, *grouped(asked, _answers(asked, ssl.create_default_context()))
    return grouped(asked, _answers(asked, context))


def _answers(asked: Sequence[Probe], context: ssl.SSLContext) -> tuple[str, ...]:
    """What is wrong with each, or that it said nothing in time."""
    found: dict[Probe, str] = {}

    def ask(probe: Probe) -> None:
        found[probe] = trouble(probe, context)

    # Daemons: nothing else ends a name server's silence, and the program must not wait for it.
    threads = [threading.Thread(target=ask, args=(probe,), daemon=True) for probe in asked]
    for thread in threads:
        thread.start()
    end = time.monotonic() + _PATIENCE
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    late = f"no answer within {_PATIENCE:.0f} s"
    return tuple(found.get(probe, f"{_shown(probe)}: {late}") for probe in asked)


def probes(
    loaded: LoadedConfig, local_images: Collection[str] = (), insecure: Collection[str] = ()
) -> tuple[Probe, ...]:
    """Every question that a config raises. Pure."""
    config = loaded.config
    places = config.mirrors
    found = []
    for reference in (config.base.download, config.base.runtime):
        whole = resolve_base(reference, loaded.lock, places.registry).reference
        if whole not in local_images:
            found.append(Probe("registry", _registry(whole, insecure), (*_LOCKED, _WANTS_TLS)))
    for source in config.a1111.sources.values():
        url = source_url(places.github, source.repo)
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
            found.append(Probe(setting, f"{mirror}/", (403, 404)))  # may list nothing
    return tuple(dict.fromkeys(found))


def trouble(probe: Probe, context: ssl.SSLContext | None = None) -> str:
    """What is wrong with an answer; empty when nothing is."""
    shown = _shown(probe)
    request = urllib.request.Request(probe.url, headers={"User-Agent": "git/2"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT, context=context):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return "" if error.code in probe.fine else f"{shown}: {error.code} {error.reason}"
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, ssl.SSLCertVerificationError):
            return f"{shown}: the certificate is not trusted: {reason.verify_message}"
        return f"{shown}: {getattr(reason, 'strerror', None) or reason}"
    except (OSError, http.client.HTTPException, UnicodeError) as error:  # UnicodeError: host..name
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


def _shown(probe: Probe) -> str:
    return probe.url.partition("?")[0].removesuffix("/info/refs")


def _registry(reference: str, insecure: Collection[str]) -> str:
    """Where the registry of a reference says that it is one.

    See https://distribution.github.io/distribution/spec/api/, "API version check".
    """
    host, slash, _ = reference.partition("/")
    if not slash or host == "docker.io" or not re.search(r"[.:]|^localhost$", host):
        host = _DOCKER_HUB
    is_plain = host in insecure or _is_loopback(urlsplit(f"//{host}").hostname or "")
    return f"{'http' if is_plain else 'https'}://{host}/v2/"


def _is_loopback(host: str) -> bool:
    """Whether the engine speaks to a host without TLS by itself."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
