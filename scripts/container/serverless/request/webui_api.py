"""Routes, fields and types of the running WebUI's API, as its own `/openapi.json` describes them.

The description holds for the running release and its extensions. FastAPI 0.94 writes it from
pydantic v1 models, which cannot show that a field may be null. Forks of the WebUI use pydantic v2.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

PREFIX: Final = "/sdapi/v1/"
"""Path that the WebUI's own routes begin with."""

MISSING: Final = object()
"""Default of a field that has none, or whose default is null."""

_SCHEMA: Final = re.compile("#/components/schemas/(.+)")


@dataclass(frozen=True)
class FieldType:
    """Type of a field.

    Args:
        kind: integer, number, string, boolean, array, object; `any` where the WebUI takes all.
        default: its value when it is not given, or MISSING.
        choices: the only values allowed; any when empty.
        bounds: limits by their names in the description, such as `minimum`.
        items: type of an array's items.
        fields: of an object; None where it takes any.
        required: names of the fields that an object must have.
    """

    kind: str = "any"
    default: Any = MISSING
    choices: tuple[Any, ...] = ()
    bounds: Mapping[str, float] = field(default_factory=dict)
    items: "FieldType | None" = None
    fields: "Mapping[str, FieldType] | None" = None
    required: tuple[str, ...] = ()


@dataclass(frozen=True)
class Route:
    """A method of a path.

    Args:
        method: GET, POST, …
        path: as the WebUI declares it; may hold parameters in braces.
        body: type of its JSON body; None if it takes none.
        query: types of its query parameters, by name.
    """

    method: str
    path: str
    body: FieldType | None = None
    query: Mapping[str, FieldType] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the path without the prefix of the WebUI's own routes."""
        return self.path.removeprefix(PREFIX)

    @property
    def takes_body(self) -> bool:
        """Return whether it takes a JSON body."""
        return self.body is not None

    @property
    def fields(self) -> Mapping[str, FieldType] | None:
        """Return the fields that a request may have; None where it may have any."""
        if self.method == "GET":
            return self.query
        return self.body.fields if self.body else {}


class WebuiApi:
    """Every route of the WebUI.

    Args:
        description: content of `/openapi.json`.

    Raises:
        ValueError: it is no description of an API.
    """

    def __init__(self, description: Any) -> None:  # noqa: ANN401 - any JSON
        try:
            self._schemas: dict[str, Any] = description.get("components", {}).get("schemas", {})
            self.routes = tuple(
                self._parse_route(method.upper(), path, operation)
                for path, operations in description["paths"].items()
                for method, operation in operations.items()
            )
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"no description of an API: {error!r}") from None

    def find(self, path: str) -> tuple[Route, ...]:
        """Return the routes of a path, one for each method; none where there is no such path."""
        return tuple(route for route in self.routes if _matches(route.path, path))

    def _parse_route(self, method: str, path: str, operation: Mapping[str, Any]) -> Route:
        content = operation.get("requestBody", {}).get("content", {})
        body = content.get("application/json", {}).get("schema")
        query = {
            each["name"]: self.parse_type(each.get("schema", {}))
            for each in operation.get("parameters", ())
            if each["in"] == "query"
        }
        return Route(method, path, None if body is None else self.parse_type(body), query)

    def parse_type(self, schema: Mapping[str, Any], outer: tuple[str, ...] = ()) -> FieldType:
        """Parse a schema; `outer` names the schemas around it, because one may hold itself."""
        default = schema.get("default", MISSING)
        schema = _without_null(schema)
        while reference := _find_reference(schema):
            if reference in outer:
                return FieldType()
            schema, outer = self._schemas[reference], (*outer, reference)
        kind, properties = schema.get("type", "any"), schema.get("properties")
        fields = {name: self.parse_type(each, outer) for name, each in (properties or {}).items()}
        bounds = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
        return FieldType(
            kind=kind if isinstance(kind, str) else "any",
            default=schema.get("default", default),
            choices=tuple(schema.get("enum", ())),
            bounds={name: schema[name] for name in bounds if name in schema},
            items=self.parse_type(schema["items"], outer) if "items" in schema else None,
            fields=None if properties is None else fields,
            required=tuple(schema.get("required", ())),
        )


def parse_schema(schema: Any) -> FieldType:  # noqa: ANN401 - any JSON
    """Parse the JSON schema of a model that refers to no other.

    Raises:
        ValueError: it is no schema.
    """
    try:
        return WebuiApi({"paths": {}}).parse_type(schema)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"no JSON schema: {error!r}") from None


def _without_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the type beside null in a choice of both, as pydantic v2 describes it."""
    choices = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    return choices[0] if len(choices) == 1 else schema


def _find_reference(schema: Mapping[str, Any]) -> str:
    """Return the name of the schema that this one only refers to; empty for one of its own.

    pydantic v1 wraps a reference that has a title or default in an `allOf` of one element.
    """
    wrapped = schema.get("allOf", ())
    text = (wrapped[0] if len(wrapped) == 1 else schema).get("$ref", "")
    match = _SCHEMA.fullmatch(text)
    return match[1] if match else ""


def _matches(template: str, path: str) -> bool:
    if "{" not in template:
        return template == path
    literals = map(re.escape, re.split(r"\{[^}]*\}", template))
    return re.fullmatch("[^/]+".join(literals), path) is not None
