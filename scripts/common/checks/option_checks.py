"""Compare options of config or environment with those that the running WebUI has.

`/sdapi/v1/options` answers with every option of the release, whatever the settings file holds:
unknown ones are left out, and a value of another type may make it fail (`OptionsModel` in
`modules/api/models.py`). Their defaults, which show the types, are in the API's description. The
options of extensions are in neither: the model is made before `on_ui_settings` adds them (seen with
v1.9.3, ControlNet and ADetailer).
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from scripts.common.checks.api_requests import get_json, request
from scripts.common.checks.check import CheckSkipped, check, judge
from scripts.common.diagnostics.error import UserError
from scripts.common.gpu.judge import Judgement
from scripts.common.webui_client import OPTIONS, WebuiClient

CODE: Final = "option-invalid"
_DESCRIPTION: Final = "/openapi.json"
_LIKE_A_KNOWN_ONE: Final = 0.8  # ratio of difflib from which on a name is taken as misspelled
_TIMEOUT: Final = 60.0  # seconds; a WebUI that loads a checkpoint is slow to describe itself


@dataclass(frozen=True)
class OptionSubject:
    """A WebUI and the options that it should have.

    Args:
        client: of the WebUI.
        options: values by name.
    """

    client: WebuiClient
    options: Mapping[str, Any]


@dataclass(frozen=True)
class OptionProblem:
    """An option that the WebUI does not have as it should.

    Args:
        name: of the option.
        reason: what is wrong, as a clause.
        is_mistyped: its value is of another type than its default. In v1.9.3 and v1.10.1 that
            makes `/sdapi/v1/options` answer 500, unless the default is empty, zero or false.
    """

    name: str
    reason: str
    is_mistyped: bool = False


@check("the WebUI has the configured options", CODE)
def has_configured_options(subject: OptionSubject) -> Judgement:
    """Compare names, types and values of `webui.settings` with the WebUI's options."""
    if not subject.options:
        raise CheckSkipped("webui.settings is empty")
    problems = find_option_problems(subject.client, subject.options)
    return judge(", ".join(subject.options), "; ".join(problem.reason for problem in problems))


def find_option_problems(client: WebuiClient, wanted: Mapping[str, Any]) -> list[OptionProblem]:
    """Return what is wrong with options.

    Args:
        client: of the WebUI.
        wanted: values by name.

    Raises:
        UserError: the API does not answer, or does not describe its options.
    """
    known = _read_schemas(client)
    wanted = {name: wanted[name] for name in _without_extensions(client, wanted, known)}
    problems = []
    for name, value in wanted.items():
        if name not in known:
            problems.append(OptionProblem(name, _unknown(name, known)))
            continue
        default = known[name].get("default")
        if default is not None and _kind(default) != _kind(value):
            reason = f"{name} is {value!r}, not {_kind(default)} such as {default!r}"
            problems.append(OptionProblem(name, reason, is_mistyped=True))
    if problems:
        return problems
    response = request(client, OPTIONS, timeout=_TIMEOUT)
    if response.status != 200:
        raise UserError(f"the WebUI answered {response.error()}", location=OPTIONS, code=CODE)
    actual = response.json()
    return [
        OptionProblem(name, f"{name} is {actual.get(name)!r} in the WebUI, not {value!r}")
        for name, value in wanted.items()
        if actual.get(name) != value
    ]


def _without_extensions(
    client: WebuiClient, names: Iterable[str], known: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return the names but for those that only an extension can have, where there is any."""
    names = list(names)
    unknown = [name for name in names if name not in known]
    if not unknown or not get_json(client, "/sdapi/v1/extensions"):
        return names
    spelled = _list_spellings(known)
    misspelled = {
        name
        for name in unknown
        if difflib.get_close_matches(_simplify(name), spelled, n=1, cutoff=_LIKE_A_KNOWN_ONE)
    }
    return [name for name in names if name in known or name in misspelled]


def _read_schemas(client: WebuiClient) -> dict[str, dict[str, Any]]:
    """Return the schema of every option: its default, and its label as the description."""
    response = request(client, _DESCRIPTION, timeout=_TIMEOUT)
    try:
        properties = response.json()["components"]["schemas"]["Options"]["properties"]
        return {name: dict(schema) for name, schema in properties.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        message = f"the WebUI does not describe its options, but answered {response.status}"
        raise UserError(message, location=_DESCRIPTION, code=CODE) from None


def _unknown(name: str, known: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a message with the options whose names or labels are nearest."""
    spelled = _list_spellings(known)
    near = difflib.get_close_matches(_simplify(name), spelled, n=3)
    found = ", ".join(dict.fromkeys(spelled[each] for each in near))
    return f"the WebUI has no option {name}" + (f"; near it: {found}" if found else "")


def _list_spellings(known: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return names by their simplified spellings, and by those of their labels."""
    spelled = {_simplify(str(row.get("description"))): each for each, row in known.items()}
    return spelled | {_simplify(each): each for each in known}


def _simplify(name: str) -> str:
    return name.lower().replace(" ", "_")


def _kind(value: object) -> str:
    """Return the type of a value as A1111 compares it with the default's (`Options.same_type`)."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    return "text" if isinstance(value, str) else "a list"
