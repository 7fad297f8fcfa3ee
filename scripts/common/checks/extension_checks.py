"""Check the extensions that an image is said to contain: listed, loaded, their routes and effects.

A1111 v1.9.3 and v1.10.1 go on where a script of an extension fails to load, and list an extension
whether its scripts have loaded or not.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from scripts.common.checks.api_checks import ApiSubject
from scripts.common.checks.api_requests import get_json, read_images, request
from scripts.common.checks.check import Check, CheckSkipped, judge
from scripts.common.diagnostics.error import UserError
from scripts.common.extensions.extension_manifest import BakedExtension, DeclaredCheck
from scripts.common.gpu.judge import Judgement

_CODE: Final = "extension-broken"
_BROKEN: Final = re.compile(r" event=extension-broken .*")
_FIELD: Final = re.compile(r'\b(extension|reason)=("(?:[^"\\]|\\.)*"|\S+)')
_TABS: Final = {"/sdapi/v1/txt2img": "txt2img", "/sdapi/v1/img2img": "img2img"}


@dataclass(frozen=True)
class ExtensionSubject:
    """A worker whose extensions are checked.

    Args:
        api: its API.
        read_log: returns all that the worker has printed.
    """

    api: ApiSubject
    read_log: Callable[[], str]


def extension_checks(
    extensions: Iterable[BakedExtension],
) -> tuple[Check[ExtensionSubject], ...]:
    """Return the checks of extensions, some for each, or one that is skipped."""
    checks = []
    for extension in extensions:
        named: list[tuple[str, Callable[[BakedExtension, ExtensionSubject], Judgement]]] = [
            ("extension {} is loaded", _is_loaded)
        ]
        if extension.routes:
            named.append(("extension {} adds its routes", _adds_routes))
        if extension.check:
            named.append(("extension {} passes its check", _passes_check))
        checks += [
            Check(name.format(extension.name), _CODE, partial(function, extension))
            for name, function in named
        ]
    return tuple(checks) or (Check("extensions are loaded", "", _skip),)


def _skip(_subject: ExtensionSubject) -> Judgement:
    raise CheckSkipped("the image has none")


def find_broken(log: str) -> dict[str, str]:
    """Return why extensions are broken, by name, as the worker's log says."""
    broken = {}
    for line in _BROKEN.findall(log):
        fields = {name: value.strip('"') for name, value in _FIELD.findall(line)}
        broken[fields.get("extension", "")] = fields.get("reason", "see the log")
    return broken


def _is_loaded(extension: BakedExtension, subject: ExtensionSubject) -> Judgement:
    """Compare the WebUI's lists of extensions and scripts with the config; read the log."""
    if reason := find_broken(subject.read_log()).get(extension.name):
        return judge("", reason)
    client = subject.api.client
    rows = {row["name"]: row for row in get_json(client, "/sdapi/v1/extensions") or ()}
    row = rows.get(extension.name)
    if row is None:
        listed = ", ".join(rows) or "none"
        return judge("", f"the WebUI does not list it; it lists: {listed}")
    commit = str(row.get("commit_hash"))
    evidence = f"{row.get('branch')} at {commit[:12]}"
    if extension.commit and commit != extension.commit:
        return judge(evidence, f"configured is {extension.commit[:12]}")
    if not row.get("enabled"):
        return judge(evidence, "it is disabled in the WebUI's options")
    return _judge_scripts(extension, client, evidence)


def _judge_scripts(extension: BakedExtension, client: Any, evidence: str) -> Judgement:  # noqa: ANN401
    """Judge whether the scripts that the extension's check names are listed."""
    names = _named_scripts(extension.check.body) if extension.check else []
    if not names or not extension.check:
        return judge(evidence)
    tab = _TABS.get(extension.check.route, "txt2img")
    listed = [name.lower() for name in (get_json(client, "/sdapi/v1/scripts") or {}).get(tab, ())]
    missing = [name for name in names if name.lower() not in listed]
    problem = f"there is no script {', '.join(missing)}; there are: {', '.join(listed)}"
    return judge(f"{evidence}, {', '.join(names)}", problem if missing else "")


def _adds_routes(extension: BakedExtension, subject: ExtensionSubject) -> Judgement:
    """Look for its routes in the API's description; an application of its own is asked instead."""
    _skip_if_broken(extension, subject)
    client = subject.api.client
    paths = (get_json(client, "/openapi.json") or {}).get("paths", {})
    counts = {
        route: sum(path.startswith(route.rstrip("/")) for path in paths)
        for route in extension.routes
    }
    missing = [route for route, count in counts.items() if not count]
    missing = [route for route in missing if request(client, route).status == 404]
    evidence = ", ".join(f"{route}: {count or 'answers'}" for route, count in counts.items())
    return judge(evidence, f"there is no path below {', '.join(missing)}" if missing else "")


def _passes_check(extension: BakedExtension, subject: ExtensionSubject) -> Judgement:
    """Send the request that the config declares; an image must differ from one without it."""
    _skip_if_broken(extension, subject)
    declared = extension.check
    if declared is None:
        raise CheckSkipped("the config declares no check")
    tab = _TABS.get(declared.route)
    body = subject.api.complete_job(tab, declared.body) if tab else declared.body
    declared = replace(declared, body=body)
    answer = _send(declared, subject.api)
    scripts = _named_scripts(body)
    if not tab or not scripts:
        return judge(f"{declared.method} {declared.route}: 200")
    plain = {key: value for key, value in body.items() if key not in _SCRIPT_FIELDS}
    before = read_images(_send(replace(declared, body=plain), subject.api))
    after = read_images(answer)
    return subject.api.judge_change(before[0], after[0], f"with {', '.join(scripts)}", _CODE)


_SCRIPT_FIELDS: Final = ("alwayson_scripts", "script_name", "script_args")


def _skip_if_broken(extension: BakedExtension, subject: ExtensionSubject) -> None:
    if extension.name in find_broken(subject.read_log()):
        raise CheckSkipped("the extension is broken")


def _named_scripts(body: Mapping[str, Any]) -> list[str]:
    """Return the scripts that a body names."""
    names = [*(body.get("alwayson_scripts") or {}), body.get("script_name")]
    return [str(name) for name in names if name]


def _send(declared: DeclaredCheck, api: ApiSubject) -> Any:  # noqa: ANN401 - any JSON
    """Send a request and return its answer.

    Raises:
        UserError: its status is not 200.
    """
    body = declared.body if declared.method == "POST" else None
    response = request(api.client, declared.route, body)
    if response.status != 200:
        message = f"{declared.method} {declared.route}: {response.error()}"
        raise UserError(message, code=_CODE)
    return response.json() if response.body else {}
