"""RunPod's documented rules for the files of a Hub listing, written down as checks.

Source: https://docs.runpod.io/hub/publishing-guide, read again on 2026-11-28. Pools:
https://docs.runpod.io/flash/configuration/gpu-types; cards:
https://docs.runpod.io/references/gpu-types.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

CATEGORIES: Final = ("audio", "embedding", "language", "video", "image")
POOLS: Final = (
    *("AMPERE_16", "AMPERE_24", "AMPERE_48", "AMPERE_80", "ADA_24", "ADA_32_PRO", "ADA_48_PRO"),
    *("ADA_80_PRO", "BLACKWELL_96", "BLACKWELL_180", "HOPPER_141"),
)
CARDS: Final = (
    *("NVIDIA RTX 6000 Ada Generation", "NVIDIA L40S", "NVIDIA L40", "NVIDIA GeForce RTX 4090"),
    *("NVIDIA GeForce RTX 5090", "NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe", "NVIDIA H200"),
    *("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA H100 NVL", "NVIDIA B200"),
    "NVIDIA RTX PRO 6000 Blackwell Server Edition",
)
_INPUT_KEYS: Final[Mapping[str, set[str]]] = {
    "string": {"options"},
    "huggingface": set(),
    "number": {"min", "max"},
    "boolean": {"trueValue", "falseValue"},
}
"""Keys of an input by its type, beside those that all have."""


def problems_of_hub(hub: Any) -> list[str]:
    """Return what a `hub.json` has that the rules do not allow."""
    return list(_check_hub(hub))


def problems_of_tests(tests: Any) -> list[str]:
    """Return what a `tests.json` has that the rules do not allow."""
    return list(_check_tests(tests))


def _check_hub(hub: Any) -> Iterator[str]:
    required: dict[str, type] = {
        "title": str,
        "description": str,
        "type": str,
        "category": str,
        "config": dict,
    }
    yield from _check_keys("hub", hub, required, {"iconUrl": str})
    if hub.get("type") != "serverless":
        yield "hub.type is not serverless"
    if hub.get("category") not in CATEGORIES:
        yield "hub.category is unknown"
    if not re.fullmatch(r"https://\S+\.\w+", hub.get("iconUrl", "https://h/i.png")):
        yield "hub.iconUrl is no address"
    config = hub.get("config", {})
    required = {"runsOn": str, "containerDiskInGb": int, "gpuIds": str, "gpuCount": int}
    further = {"endpointType": str, "allowedCudaVersions": list, "env": list, "presets": list}
    yield from _check_keys("config", config, required, further)
    if config.get("runsOn") != "GPU":
        yield "config.runsOn is not GPU"
    if config.get("endpointType", "LB") != "LB":
        yield "config.endpointType is not LB"
    for name in str(config.get("gpuIds")).split(","):
        if name.removeprefix("-") not in (CARDS if name.startswith("-") else POOLS):
            yield f"config.gpuIds: {name} is no pool, and no -card"
    yield from _check_cuda(config)
    for row in config.get("env", ()):
        yield from _check_variable(row)
    keys = {row.get("key") for row in config.get("env", ())}
    for preset in config.get("presets", ()):
        yield from _check_keys("preset", preset, {"name": str, "defaults": dict}, {})
        for key, value in preset.get("defaults", {}).items():
            if key not in keys or not isinstance(value, str | int | bool):
                yield f"preset {preset.get('name')}: {key} is no variable with a value"


def _check_variable(row: Any) -> Iterator[str]:
    if not re.fullmatch(r"[A-Z][A-Z0-9_]*", str(row.get("key"))):
        yield f"env: {row.get('key')} is no variable"
    if set(row) - {"key", "value", "input"} or len({"value", "input"} & set(row)) != 1:
        yield f"env {row.get('key')}: expected a value or an input"
    given = row.get("input")
    if given is None:
        return
    kind = given.get("type")
    if kind not in _INPUT_KEYS:
        yield f"env {row.get('key')}: no type {kind}"
        return
    allowed = {"name", "type", "description", "default", "required", "advanced", *_INPUT_KEYS[kind]}
    for key in {"name", "type", "default"} - set(given) | set(given) - allowed:
        yield f"env {row.get('key')}: {key} is missing or unknown"
    default = given.get("default")
    if kind == "number" and not given.get("min", 0) <= default <= given.get("max", default):
        yield f"env {row.get('key')}: the default is out of its bounds"
    options = [each["value"] for each in given.get("options", ())]
    if options and default not in options:
        yield f"env {row.get('key')}: the default is no option"


def _check_tests(tests: Any) -> Iterator[str]:
    yield from _check_keys("tests.json", tests, {"tests": list, "config": dict}, {})
    for test in tests.get("tests", ()):
        yield from _check_keys("test", test, {"name": str, "input": dict}, {"timeout": int})
        if not test.get("input") or "input" in test["input"]:
            yield f"test {test.get('name')}: an empty input, or one within another"
    required = {"gpuTypeId": str, "gpuCount": int}
    config = tests.get("config", {})
    yield from _check_keys("config", config, required, {"env": list, "allowedCudaVersions": list})
    if config.get("gpuTypeId") not in CARDS:
        yield "config.gpuTypeId is no card"
    for row in config.get("env", ()):
        yield from _check_keys("env", row, {"key": str, "value": str}, {})
    yield from _check_cuda(config)


def _check_cuda(config: Any) -> Iterator[str]:
    """The list is exact, and runpodctl takes its first entry as the least version."""
    versions = config.get("allowedCudaVersions", [])
    if not all(re.fullmatch(r"\d+\.\d+", str(each)) for each in versions):
        yield "allowedCudaVersions: no version"
        return
    numbers = [tuple(map(int, each.split("."))) for each in versions]
    if numbers != sorted(set(numbers)):
        yield "allowedCudaVersions: not the lowest first"


def _check_keys(
    where: str, value: Any, required: Mapping[str, type], further: Mapping[str, type]
) -> Iterator[str]:
    for key in set(value) - required.keys() - further.keys():
        yield f"{where}.{key} is unknown"
    for key, kind in {**required, **further}.items():
        if key in value and type(value[key]) is not kind:
            yield f"{where}.{key} is not {kind.__name__}"
        if key in required and key not in value:
            yield f"{where}.{key} is missing"
