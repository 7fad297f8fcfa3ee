"""Parse the extra networks in prompts: `<lora:name:1>` and `<hypernet:name:1>`.

Syntax of A1111 v1.9.3 and v1.10.1: modules/extra_networks.py:172, Lora/extra_networks_lora.py:26-43
and modules/extra_networks_hypernet.py:16-23. Only the positive prompts are parsed; in a negative
prompt such text is ordinary text.
"""

import re
from dataclasses import dataclass
from typing import Final

_NETWORK: Final = re.compile(r"<(\w+):([^>]+)>")
_KINDS: Final = {"lora": "lora", "lyco": "lora", "hypernet": "hypernet"}
_NAMED: Final = {"te": float, "unet": float, "dyn": int}
_POSITIONAL: Final = (float, float, int)


@dataclass(frozen=True)
class PromptNetwork:
    """An extra network in a prompt.

    Args:
        kind: lora or hypernet; another word is known to extensions at most.
        name: name of the network; empty where there is none.
        text: the whole text, from `<` to `>`.
        bad_number: argument that is not the number it must be; empty when all are.
    """

    kind: str
    name: str
    text: str
    bad_number: str = ""


def find_networks(prompt: str) -> list[PromptNetwork]:
    """Return the extra networks of a prompt in their order."""
    return [
        _parse(_KINDS.get(found[1], found[1]), found[2].split(":"), found[0])
        for found in _NETWORK.finditer(prompt)
    ]


def _parse(kind: str, items: list[str], text: str) -> PromptNetwork:
    if kind == "hypernet":
        return PromptNetwork(kind, items[0], text, _find_bad_number([(float, items[1:2])]))
    if kind != "lora":
        return PromptNetwork(kind, items[0], text)
    parts = [item.split("=", 2) for item in items]
    positional = [item for item, part in zip(items, parts, strict=True) if len(part) != 2]
    named = {part[0]: part[1] for part in parts if len(part) == 2}
    numbers = [
        *zip(_POSITIONAL, ([text] for text in positional[1:]), strict=False),
        *((number, [named[key]]) for key, number in _NAMED.items() if key in named),
    ]
    return PromptNetwork(kind, "".join(positional[:1]), text, _find_bad_number(numbers))


def _find_bad_number(numbers: list[tuple[type[float] | type[int], list[str]]]) -> str:
    """Return the first text that is not the number it must be; empty when all are."""
    for number, texts in numbers:
        for text in texts:
            try:
                number(text)
            except ValueError:
                return text
    return ""
