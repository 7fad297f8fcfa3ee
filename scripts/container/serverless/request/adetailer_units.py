"""Rules for the arguments of ADetailer: two switches, then a unit for each model.

Its own route `/adetailer/v1/schema` describes the fields of a unit (Bing-su/adetailer 25.3.0,
`scripts/!adetailer.py`). It prints a unit that does not fit, and draws without it.
"""

from collections.abc import Mapping
from typing import Any, Final

from scripts.container.serverless.request.samplers import Samplers
from scripts.container.serverless.request.script_units import Unit, UnitRules
from scripts.container.serverless.request.webui_api import parse_schema
from scripts.container.serverless.request.webui_facts import WebuiFacts

_SCHEMA: Final = "/adetailer/v1/schema"
_SWITCHES: Final = (True, False)  # "ADetailer", and "Skip img2img"


def adetailer_rules(
    facts: WebuiFacts, _fields: Mapping[str, Any], _is_img2img: bool
) -> UnitRules | None:
    """Return the rules; None where the running version does not describe its fields."""
    try:
        fields = parse_schema(facts.find(_SCHEMA)).fields
    except ValueError:
        return None
    if not fields:
        return None
    return UnitRules(
        fields,
        _SWITCHES,
        "ad_max_models",
        ignores_unit=True,
        check=lambda unit, place: _check_unit(unit, place, facts.samplers),
    )


def _check_unit(unit: Unit, place: str, samplers: Samplers) -> list[str]:
    """Warn about a unit without a model, and split the name of a sampler as the WebUI's own."""
    if "ad_model" not in unit:
        return [f"{place} names no ad_model and does nothing"]
    sampler, scheduler = samplers.split(str(unit.get("ad_sampler", "")))
    if not scheduler:
        return []
    name, unit["ad_sampler"] = unit["ad_sampler"], sampler
    unit.setdefault("ad_scheduler", scheduler)
    return [f"{place}.ad_sampler: {name!r} is {sampler!r} with {unit['ad_scheduler']!r}"]
