"""Samplers and schedulers of the running WebUI, and names that combine both.

Before v1.9 a sampler's name held its scheduler: `DPM++ 2M Karras`. Since then `scheduler` is a
field of its own. v1.9.3 refuses a combined name with 404; v1.10.1 splits it as this module does,
and draws with DPM++ 2M for any name that it does not know (`get_sampler_and_scheduler` in
`modules/sd_samplers.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

AUTOMATIC: Final = ("", "automatic")
"""Schedulers, in lower case, that leave the choice to the sampler."""

FIELDS: Final = {
    "sampler_name": "scheduler",
    "sampler_index": "scheduler",
    "hr_sampler_name": "hr_scheduler",
}
"""Fields that name a sampler, with the field of its scheduler."""


@dataclass(frozen=True)
class Samplers:
    """Names that the running WebUI knows.

    Args:
        names: of samplers, such as `DPM++ 2M`.
        schedulers: label of each scheduler by label, name and aliases, such as `Karras` by
            `karras`; empty for a release without schedulers.
    """

    names: tuple[str, ...]
    schedulers: Mapping[str, str]

    @staticmethod
    def parse(samplers: Any, schedulers: Any) -> "Samplers":  # noqa: ANN401 - any JSON
        """Parse the answers of `/sdapi/v1/samplers` and `/sdapi/v1/schedulers`."""
        labels = {
            str(name): str(row["label"])
            for row in schedulers
            for name in (row["label"], row["name"], *(row["aliases"] or ()))
        }
        return Samplers(tuple(str(row["name"]) for row in samplers), labels)

    def split(self, name: str) -> tuple[str, str]:
        """Return sampler and scheduler of a combined name; the name and "" if it is none."""
        if name not in self.names:
            for suffix, label in self.schedulers.items():
                sampler = name.removesuffix(f" {suffix}")
                if sampler != name and sampler in self.names:
                    return sampler, label
        return name, ""

    def join(self, name: str, scheduler: str) -> str:
        """Return the combined name of sampler and scheduler; the name where there is none."""
        combined = (each for each in self.names if each.lower() == f"{name} {scheduler}".lower())
        return next(combined, name)


def adapt_samplers(fields: dict[str, Any], samplers: Samplers) -> list[str]:
    """Split or join the names of samplers in a request, as the running release needs it.

    Args:
        fields: of the request; changed.
        samplers: of the running WebUI.

    Returns:
        A warning for each change.
    """
    warnings = []
    for field, scheduler_field in FIELDS.items():
        name, scheduler = fields.get(field), fields.get(scheduler_field)
        if not isinstance(name, str) or not isinstance(scheduler, str | None):
            continue
        if not samplers.schedulers:
            joined = samplers.join(name, scheduler or "")
            if joined != name:
                fields[field] = joined
                del fields[scheduler_field]
                warnings.append(f"{field}: {name!r} and {scheduler!r} are {joined!r} here")
            continue
        sampler, found = samplers.split(name)
        if sampler == name:
            continue
        fields[field] = sampler
        if (scheduler or "").lower() in AUTOMATIC:
            fields[scheduler_field] = scheduler = found
        warnings.append(f"{field}: {name!r} is {sampler!r} with {scheduler_field} {scheduler!r}")
    return warnings
