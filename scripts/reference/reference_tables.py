"""Generate reference tables from the code: host, reports, worker, and the Markdown they share."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from invoke.parser.context import ParserContext
from nox import registry
from pydantic import BaseModel

import noxfile
import tasks
from scripts.common.checks.check import LEVELS, CheckResult
from scripts.common.diagnostics.table import diagnostics
from scripts.common.webui_flags import BUILTIN_FLAGS, CONDITIONS, VARIABLE_FLAGS, BuiltinFlag
from scripts.container.serverless.request.job_fields import MISNAMED, OPTION_NAMES
from scripts.container.serverless.request.job_input import OWN_KEYS
from scripts.container.serverless.request.job_options import PATH_OPTIONS
from scripts.container.serverless.request.job_routes import DENIED, NAMES
from scripts.container.serverless.request.webui_api import PREFIX
from scripts.container.settings import VARIABLES
from scripts.host.config.load import ROOT
from scripts.host.config.schema import Config
from scripts.host.matrix import Matrix

_ARGUMENT = re.compile(r"^    (\w+): (.*?)(?=^    \w+: |^\S|\Z)", re.MULTILINE | re.DOTALL)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; its cells are Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    """Escape what would end a cell, and placeholders outside of code that would be read as HTML."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    parts[::2] = [re.sub(r"<(\w+)>", r"&lt;\1&gt;", part) for part in parts[::2]]
    return "`".join(parts)


def code(text: object) -> str:
    """Return text as code; nothing for an empty one."""
    return f"`{text}`" if str(text) else ""


def summary(docstring: str) -> str:
    """Return the first paragraph of a docstring."""
    return " ".join(inspect.cleandoc(docstring).partition("\n\n")[0].split())


def arguments(docstring: str) -> dict[str, str]:
    """Return the descriptions of a docstring's `Args:` section, by name."""
    _, _, section = inspect.cleandoc(docstring).partition("\nArgs:\n")
    return {name: " ".join(text.split()).rstrip(".") for name, text in _ARGUMENT.findall(section)}


def config_keys() -> str:
    """List every config key with type, default and meaning."""
    rows = [
        (code(key), _type(node), _default(node), node.get("description", ""))
        for key, node in _leaves(Config.model_json_schema())
    ]
    return table(("key", "type", "default", "meaning"), rows)


def _leaves(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Walk the schema's leaf keys in the order of the code."""
    definitions = schema.get("$defs", {})

    def walk(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, child in node.get("properties", {}).items():
            inner, suffix = _section(child, definitions)
            here = f"{path}{name}{suffix}"
            if inner is None or not inner.get("properties"):
                yield here, child
            else:
                yield from walk(inner, f"{here}.")

    return walk(schema, "")


def _section(
    child: dict[str, Any], definitions: dict[str, Any]
) -> tuple[dict[str, Any] | None, str]:
    """Return the section that a key holds, and its path's suffix: nothing, `[]` or `.<name>`."""
    for suffix, node in (
        ("", child),
        ("[]", child.get("items", {})),
        (".<name>", child.get("additionalProperties", {})),
    ):
        reference = node.get("$ref") if isinstance(node, dict) else None
        if reference:
            return definitions[reference.rpartition("/")[2]], suffix
    return None, ""


def _type(node: dict[str, Any]) -> str:
    """Describe a type of a JSON schema: its choices where it has some, else as JSON names it."""
    if "enum" in node:
        return " or ".join(code(choice) for choice in node["enum"])
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_type(each) for each in node["anyOf"]))
    for key, prefix in (("items", "list of "), ("additionalProperties", "object of ")):
        if isinstance(node.get(key), dict):
            return prefix + _type(node[key])
    if "prefixItems" in node:
        return "list of " + ", ".join(map(_type, node["prefixItems"]))
    return str(node.get("type") or node.get("$ref", "object").rpartition("/")[2])


def _default(node: dict[str, Any]) -> str:
    return code(json.dumps(node["default"])) if "default" in node else ""


def task_list() -> str:
    """List every task with its options."""
    parts = []
    for context in sorted(tasks.namespace.to_contexts(), key=lambda context: str(context.name)):
        rows = [
            (_option(argument), argument.help or "")
            for argument in dict.fromkeys(context.args.values())
            if argument.name not in ("define", "variant") or context.name == "pin"
        ]
        parts += [f"## {_usage(context)}", summary(tasks.namespace[context.name].__doc__ or "")]
        parts += [table(("option", "meaning"), rows)] if rows else []
    return "\n\n".join(parts)


def _usage(context: ParserContext) -> str:
    positional = (str(each.name).upper() for each in context.positional_args)
    name = next(iter(context.aliases), context.name)  # `deploy` for `deploy.up`
    return code(" ".join(["invoke", str(name), *positional]))


def _option(argument: Any) -> str:  # noqa: ANN401 - an invoke Argument, which is not typed
    """Spell an option, with its default where that says something."""
    spelled = f"--{argument.name.replace('_', '-')}"
    if argument.kind is bool:
        spelled = f"--no-{spelled[2:]}" if argument.default else spelled
        return code(spelled)
    default = f", default {code(argument.default)}" if isinstance(argument.default, str) else ""
    return code(f"{spelled} …") + (default if argument.default else "")


def sessions() -> str:
    """List the nox sessions."""
    rows = [
        (
            code(f"nox -s {name}"),
            "yes" if name in noxfile.DEFAULT else "",
            summary(function.func.__doc__ or ""),
        )
        for name, function in registry.get().items()
    ]
    return table(("session", "default", "purpose"), rows)


def smoke_options() -> str:
    """List the options of the smoke sessions, from pytest's own help."""
    help_text = subprocess.run(
        [sys.executable, "-m", *noxfile.SMOKE, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    section = help_text.partition("\nsmoke:\n")[2].partition("\n\n")[0]
    options: list[tuple[str, str]] = []
    for line in section.splitlines():
        text = line.strip()
        if text.startswith("--"):
            option, _, meaning = text.partition("  ")
            options.append((code(option), meaning.strip()))
        else:
            options[-1] = (options[-1][0], f"{options[-1][1]} {text}".strip())
    return table(("option", "meaning"), options)


def check_fields() -> str:
    """List the fields of a check in JSON, and the levels."""
    fields = ", ".join(code(name) for name in CheckResult("name", "passed").to_json())
    return f"{fields}; `level` is one of {', '.join(code(level) for level in LEVELS.values())}."


def matrix_fields() -> str:
    """List the fields of `invoke matrix`."""
    return table(
        ("field", "meaning"), [(code(k), v) for k, v in arguments(Matrix.__doc__ or "").items()]
    )


def record_fields(record: type[BaseModel]) -> str:
    """List the fields of a record and, after it, of every record that its fields hold."""
    schema = record.model_json_schema(mode="serialization")
    docstrings = [base.__doc__ or "" for base in reversed(record.__mro__)]
    parts = [_field_table(schema, *docstrings)]
    for name, each in schema.get("$defs", {}).items():
        text = each["description"]
        parts += [f"**{name}**: {summary(text)}", _field_table(each, text)]
    return "\n\n".join(parts)


def _field_table(schema: dict[str, Any], *docstrings: str) -> str:
    """List a record's fields, with the meanings that docstrings of it and its bases give."""
    meanings = {name: text for doc in docstrings for name, text in arguments(doc).items()}
    rows = [
        (code(name), _type(node), meanings[name]) for name, node in schema["properties"].items()
    ]
    return table(("field", "type", "meaning"), rows)


def builtin_flags() -> str:
    """List the flags that the worker gives the WebUI by itself."""
    rows = [
        (code(" ".join(flag.arguments)), CONDITIONS[flag.condition], _purpose(flag))
        for flag in BUILTIN_FLAGS
    ]
    made = [(code(f"{flag} …"), f"from {code(name)}", "") for flag, name in VARIABLE_FLAGS.items()]
    return table(("flag", "given", "purpose"), [*rows, *made])


def _purpose(flag: BuiltinFlag) -> str:
    return f"{flag.reason}; cannot be removed" if flag.required else flag.reason


def worker_variables() -> str:
    """List every environment variable of the container."""
    rows = [
        (code(name), code(row.default), ", ".join(map(code, row.choices)), row.meaning)
        for name, row in VARIABLES.items()
    ]
    return table(("variable", "default", "choices", "meaning"), rows)


def diagnostic_codes() -> str:
    """List every known failure with its hint, and whether it poisons the process."""
    rows = [
        (code(row.code), row.message, row.hint, "yes" if row.poisons else "")
        for row in diagnostics().values()
    ]
    return table(("code", "what is wrong", "what to do", "poisons"), rows)


def job_keys() -> str:
    """List the keys of a job's input that are the worker's own."""
    return table(("key", "meaning"), [(code(key), text) for key, text in OWN_KEYS.items()])


def route_names() -> str:
    """List names of routes that differ from the route."""
    rows = [
        (code(name), f"{method} {path if path.startswith('/') else PREFIX + path}")
        for name, (method, path) in NAMES.items()
    ]
    return table(("api", "request"), rows)


def denied_routes() -> str:
    """List what jobs may not use."""
    routes = [(code(f"{PREFIX}{path}"), f"it {effect}") for path, effect in DENIED.items()]
    options = ", ".join(map(code, PATH_OPTIONS))
    return table(
        ("what", "why"), [*routes, (f"options {options}", "they choose where files are written")]
    )


def misnamed_fields() -> str:
    """List names of fields in other programs, with the WebUI's own."""
    rows = [(code(wrong), code(right), "a warning names it") for wrong, right in MISNAMED.items()]
    options = OPTION_NAMES.items()
    moved = [
        (code(name), code(f"override_settings.{each}"), "moved there") for name, each in options
    ]
    return table(("field", "the WebUI's", "what happens"), [*rows, *moved])
