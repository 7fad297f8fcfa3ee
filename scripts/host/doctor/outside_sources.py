"""Request from every outside source something that the build really needs from it."""

import ipaddress
import re
import ssl
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from typing import Final
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from scripts.common.checks.check import CheckResult
from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.http import TrustingAdapter, ssl_context
from scripts.common.fetch.http_errors import root_cause
from scripts.common.fetch.spec import redact_url
from scripts.common.run import run_program
from scripts.host.build.inputs import BuildInputs
from scripts.host.config.addresses import find_site
from scripts.host.config.features import FeatureModel
from scripts.host.git_sources import source_url

_TIMEOUT: Final = 10.0  # seconds without a byte
# Seconds for all sources together, host names that never resolve and slow answers included.
_DEADLINE: Final = 15.0
_DOCKER_HUB: Final = "registry-1.docker.io"  # where `docker pull alpine` goes
_LOCKED: Final = (401, 403)  # the source exists, and needs a token
_WANTS_TLS: Final = 400  # the answer of a TLS port to plain HTTP


@dataclass(frozen=True)
class Request:
    """One request to an outside source.

    Args:
        setting: key of `mirrors` that replaces the source.
        url: what is requested.
        accepted: statuses that prove the source to be there, besides success.
    """

    setting: str
    url: str
    accepted: tuple[int, ...] = ()

    @property
    def shown(self) -> str:
        """Return the address as a person knows it."""
        return redact_url(self.url).removesuffix("/info/refs")


def check_sources(
    inputs: BuildInputs, local_images: Collection[str], insecure: Collection[str] = ()
) -> Iterator[CheckResult]:
    """Send every request of a build at once, and expect every outside source to answer.

    Args:
        inputs: of the build.
        local_images: base images that need no registry, because the engine has them.
        insecure: registries that the engine may reach without TLS.
    """
    planned = plan_requests(inputs, local_images, insecure)
    try:
        bundle = str(inputs.ca_bundle or "")
        ssl_context(bundle)
    except UserError as error:
        yield _failed("ca_bundle", [error])
        bundle = ""
    yield from judge_answers(_send(planned, bundle))


def plan_requests(
    inputs: BuildInputs, local_images: Collection[str] = (), insecure: Collection[str] = ()
) -> tuple[Request, ...]:
    """Return every request that a build's sources need, each once."""
    mirrors = inputs.config.mirrors
    planned = []
    for base in (inputs.download_base, inputs.runtime_base):
        if base.reference not in local_images:
            url = _registry_url(base.reference, insecure)
            planned.append(Request("registry", url, (*_LOCKED, _WANTS_TLS)))
    repositories = [each.repo for each in inputs.sources]
    for repo in (*repositories, *(each.repo for each in inputs.extensions)):
        url = source_url(mirrors.github, repo)
        planned.append(Request("github", f"{url}/info/refs?service=git-upload-pack"))
    for artifact in (*inputs.artifacts, *inputs.volume_artifacts, *inputs.cached_artifacts):
        if artifact.repo:
            url = f"{mirrors.huggingface}/api/models/{artifact.repo}"
            planned.append(Request("huggingface", url, _LOCKED))
        elif isinstance(artifact.model, FeatureModel) and (site := find_site(artifact.source)):
            planned.append(Request(site, artifact.spec.url))
    for index in find_indexes(mirrors.python):
        planned.append(Request("python", f"{index}/setuptools/"))
    if mirrors.pytorch:
        planned.append(Request("pytorch", f"{mirrors.pytorch}/xformers/"))
    for setting, mirror in (("apt", inputs.arguments["APT_MIRROR"]), ("apk", mirrors.apk)):
        if mirror:
            planned.append(Request(setting, f"{mirror}/", (403, 404)))  # may list nothing
    return tuple(dict.fromkeys(each for each in planned if each.url.startswith("http")))


def find_indexes(mirror: str | None) -> Iterator[str]:
    """Yield the package indexes in use, as their programs report them.

    Builds use `mirrors.python`, or uv's built-in index because their containers have no
    configuration; pins use uv's configuration here, and scripts/bootstrap that of pip.

    Args:
        mirror: `mirrors.python`, None where it is not set.
    """
    uv = [sys.executable, "-m", "uv", "pip", "compile", "--emit-index-url", "--no-header"]
    uv += ["--quiet", "--offline", "-"]
    unset = {"UV_DEFAULT_INDEX": "", "UV_INDEX_URL": "", "UV_INDEX": "", "UV_EXTRA_INDEX_URL": ""}
    if mirror:
        yield mirror
    else:
        yield from _index_urls(run_program([*uv, "--no-config"], env=unset, input="").stdout)
        yield from _index_urls(run_program(uv, input="").stdout)
    pip = [sys.executable, "-m", "pip", "config", "list"]
    yield from _index_urls(run_program(pip).stdout)


def _index_urls(text: str) -> Iterator[str]:
    """Find index URLs in uv's `--index-url URL` and pip's `global.index-url='URL'`."""
    for found in re.finditer(r"(?<!extra-)index-url[= ]'?([^\s']+)", text):
        yield found[1].rstrip("/")


def find_error(request: Request, ca_bundle: str = "") -> UserError | None:
    """Send a request, and return what is wrong with the answer, if anything.

    Args:
        request: what to send.
        ca_bundle: certificates to trust besides the usual ones; empty for none.
    """
    code = "mirror-unreachable"
    try:
        with requests.Session() as session:
            session.mount("https://", TrustingAdapter(ca_bundle))
            session.headers["User-Agent"] = "git/2"  # some git hosts answer only git
            answer = session.get(request.url, timeout=_TIMEOUT, stream=True)
        if answer.ok or answer.status_code in request.accepted:
            return None
        reason = f"{answer.status_code} {answer.reason}"
    except UserError as error:
        return error
    except (requests.RequestException, HTTPError) as error:
        cause = root_cause(error)
        reason = str(getattr(cause, "strerror", None) or cause)
        if isinstance(cause, ssl.SSLCertVerificationError):
            code, reason = "certificate", f"its certificate is not trusted: {cause.verify_message}"
    return UserError(reason, location=request.shown, code=code)


def judge_answers(answers: Mapping[Request, UserError | None]) -> Iterator[CheckResult]:
    """Judge all requests of each setting together, by their errors, None for success."""
    grouped: dict[str, list[Request]] = {}
    for request in answers:
        grouped.setdefault(request.setting, []).append(request)
    for setting, asked in grouped.items():
        if errors := [error for each in asked if (error := answers[each])]:
            yield _failed(setting, errors)
        else:
            addresses = dict.fromkeys("/".join(each.shown.split("/")[:3]) for each in asked)
            yield CheckResult(f"mirrors.{setting}", "passed", ", ".join(addresses))


def _failed(setting: str, errors: Sequence[UserError]) -> CheckResult:
    [first, *others] = errors
    more = f" (and {len(others)} more)" if others else ""
    evidence = f"{first.location}: {first.message}{more}"
    return CheckResult(f"mirrors.{setting}", "failed", evidence, first.code)


def _send(planned: Sequence[Request], ca_bundle: str) -> dict[Request, UserError | None]:
    """Send requests concurrently, and return an error for each, None for success."""
    end = time.monotonic() + _DEADLINE
    # Daemon threads: nothing else ends a lookup of a host name, and the program must not wait.
    with ThreadPool(max(1, len(planned))) as pool:
        pending = {each: pool.apply_async(find_error, (each, ca_bundle)) for each in planned}
        for answer in pending.values():
            answer.wait(max(0.0, end - time.monotonic()))
        late = f"no answer within {_DEADLINE:.0f} s"
        return {
            request: answer.get()
            if answer.ready()
            else UserError(late, location=request.shown, code="mirror-unreachable")
            for request, answer in pending.items()
        }


def _registry_url(reference: str, insecure: Collection[str]) -> str:
    """Return the address at which the registry of a reference identifies itself.

    See https://distribution.github.io/distribution/spec/api/, "API version check".
    """
    host, slash, _ = reference.partition("/")
    if not slash or host == "docker.io" or not re.search(r"[.:]|^localhost$", host):
        host = _DOCKER_HUB
    is_plain = host in insecure or _is_loopback(urlsplit(f"//{host}").hostname or "")
    return f"{'http' if is_plain else 'https'}://{host}/v2/"


def _is_loopback(host: str) -> bool:
    """Return whether the engine connects to a host without TLS by default."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
