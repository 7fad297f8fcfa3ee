"""Generate reference tables of the worker: variables, job input, diagnostic codes."""

from scripts.common.diagnostics.table import diagnostics
from scripts.container.serverless.job_input import ENDPOINTS, FIELD_RULES, MISNAMED
from scripts.container.settings import VARIABLES
from scripts.reference.markdown import code, table


def worker_variables() -> str:
    """List every environment variable of the container."""
    rows = [
        (code(name), code(row.default), ", ".join(map(code, row.choices)), row.meaning)
        for name, row in VARIABLES.items()
    ]
    return table(("variable", "default", "choices", "meaning"), rows)


def diagnostic_codes() -> str:
    """List every known failure with its hint."""
    rows = [(code(row.code), row.message, row.hint) for row in diagnostics().values()]
    return table(("code", "what is wrong", "what to do"), rows)


def job_endpoints() -> str:
    """List the endpoints that jobs may use."""
    rows = [
        (code(name), f"{each.method} {each.path}", ", ".join(map(code, each.required)))
        for name, each in ENDPOINTS.items()
    ]
    return table(("api", "request", "required fields"), rows)


def job_fields() -> str:
    """List the fields that are checked before a job runs."""
    rows = [(code(name), str(rule)) for name, rule in FIELD_RULES.items()]
    return table(("field", "must be"), rows)


def misnamed_fields() -> str:
    """List names of fields in other programs, with the WebUI's own."""
    rows = [(code(wrong), code(right)) for wrong, right in MISNAMED.items()]
    return table(("field", "use instead"), rows)
