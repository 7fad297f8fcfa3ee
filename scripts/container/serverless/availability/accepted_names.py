"""Names that the WebUI accepts for each kind of thing, and the routes that list them.

They follow what A1111 compares a name with: v1.9.3 and v1.10.1, whose files and lines are given.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from pathlib import PurePosixPath
from typing import Any, Final, Literal

Kind = Literal[
    "checkpoint",
    "VAE",
    "VAE axis",
    "sampler",
    "scheduler",
    "upscaler",
    "hires upscaler",
    "face restorer",
    "LoRA",
    "LoRA file",
    "hypernetwork",
    "style",
    "interrogator",
    "ControlNet module",
    "ControlNet model",
    "ADetailer model",
]

Rows = list[dict[str, Any]]

_SHOWN: Final = 8  # names that a message lists


@dataclass(frozen=True)
class Names:
    """Names of one kind of thing.

    Args:
        accepted: every spelling that the WebUI accepts.
        shown: one for each thing, for messages.
        searched: texts of which a part is accepted, in fields that take parts.
        aliases: names elsewhere, which the WebUI does not accept here, with the shown name.
        files: file of each accepted spelling that names one.
    """

    accepted: frozenset[str]
    shown: tuple[str, ...]
    searched: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def nearest(self, name: str) -> list[str]:
        """Return the shown names, those most like another name first."""
        wanted = self.aliases.get(name, name).casefold()

        def likeness(candidate: str) -> float:
            text = candidate.casefold()
            return SequenceMatcher(None, wanted, text).ratio() + (bool(wanted) and wanted in text)

        return sorted(self.shown, key=likeness, reverse=True)

    def describe_missing(self, field: str, kind: str, name: str) -> str:
        """Return a message that a name is not there, with what there is, the nearest first."""
        listed = self.nearest(name)
        more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
        there = (
            f"there are: {', '.join(listed[:_SHOWN])}{more}" if listed else "this worker has none"
        )
        return f"{field}: there is no {kind} {name!r}; {there}"

    def find_file(self, name: str) -> str:
        """Return the file that the WebUI takes for a name; empty where it takes none.

        Of several titles that contain a name it takes the shortest (sd_models.py:171-181).
        """
        titles = sorted((title for title in self.searched if name and name in title), key=len)
        return self.files.get(name) or next((self.files.get(title, "") for title in titles), "")


def _checkpoints(rows: Rows) -> Names:
    """Return the aliases of checkpoints (sd_models.py:90-92), but for the hash of 8 digits."""
    files: dict[str, str] = {}
    shown = []
    for row in rows:
        short = row["hash"]
        name = row["title"].removesuffix(f" [{short}]")
        stem = PurePosixPath(row["filename"]).stem
        aliases = {row["title"], name, row["model_name"], stem}
        if short:
            aliases |= {short, row["sha256"], f"{name} [{short}]", f"{stem} [{short}]"}
        files |= dict.fromkeys(aliases, row["filename"])
        shown.append(name)
    titles = tuple(row["title"] for row in rows)
    return Names(frozenset(files), tuple(shown), titles, files=files)


def _loras(rows: Rows) -> Names:
    """Return names and aliases of LoRAs; an alias of two files is none (Lora/networks.py:257)."""
    aliases: set[str] = set()
    forbidden = {"none"}
    for row in rows:
        if row["alias"] in aliases:
            forbidden.add(row["alias"].lower())
        aliases |= {row["name"], row["alias"]}
    names = {row["name"]: row["path"] for row in rows}
    accepted = {*names, *(alias for alias in aliases if alias.lower() not in forbidden)}
    files = {row["alias"]: row["path"] for row in rows} | names
    return Names(frozenset(accepted), tuple(names), files=files)


def _schedulers(rows: Rows) -> Names:
    """Return names and labels, not aliases (sd_schedulers.py, schedulers_map)."""
    accepted = {text for row in rows for text in (row["name"], row["label"])}
    aliases = {alias: row["label"] for row in rows for alias in row["aliases"] or ()}
    return Names(frozenset(accepted), tuple(row["label"] for row in rows), aliases=aliases)


def _samplers(rows: Rows) -> Names:
    """Return the names of samplers, not aliases (api.py:43, all_samplers_map)."""
    aliases = {alias: row["name"] for row in rows for alias in row["aliases"]}
    return replace(_named(rows), aliases=aliases)


def _vaes(rows: Rows) -> Names:
    """Return file names, and the words that choose no file (sd_vae.py:119-143)."""
    files = {row["model_name"]: row["filename"] for row in rows}
    accepted = frozenset((*files, "Automatic", "auto", "None"))
    return Names(accepted, ("Automatic", "None", *files), files=files)


def _axis_vaes(rows: Rows) -> Names:
    """Return what the X/Y/Z plot compares, in lower case (scripts/xyz_grid.py, find_vae)."""
    files = {row["model_name"].lower(): row["filename"] for row in rows}
    accepted = frozenset((*files, "automatic", "auto", "none"))
    shown = ("Automatic", "None", *(row["model_name"] for row in rows))
    return Names(accepted, shown, tuple(files), files=files)


def _named(rows: Rows) -> Names:
    """Return the names of rows; those of LoRAs, hypernetworks and upscalers have a file, too."""
    files = {row["name"]: str(row.get("path") or row.get("model_path") or "") for row in rows}
    return Names(frozenset(files), tuple(files), files=files)


def _styles(rows: Rows) -> Names:
    """Return the names of styles; None is the empty style (styles.py:101)."""
    names = [row["name"] for row in rows if row["prompt"] is not None]
    return Names(frozenset((*names, "None")), tuple(names))


def _modules(answer: Mapping[str, Any]) -> Names:
    """Return ControlNet's modules by name (supported_preprocessor.py, get_preprocessor)."""
    names = answer["module_list"]
    return Names(frozenset(names), tuple(names))


def _controlnet_models(answer: Mapping[str, Any]) -> Names:
    """Return ControlNet's models, listed as `name [hash]` (controlnet.py, find_closest…)."""
    names = answer["model_list"]
    lower = tuple(name.rpartition(" [")[0].lower() for name in names)
    return Names(frozenset(names), tuple(names), lower)


def _adetailer_models(answer: Mapping[str, Any]) -> Names:
    """Return ADetailer's detectors: files, those in the Hub's cache, and MediaPipe's own."""
    names = answer["ad_model"]
    return Names(frozenset(names), tuple(names))


API: Final = "/sdapi/v1"
SOURCES: Final[Mapping[Kind, tuple[tuple[str, Callable[[Any], Names]], ...]]] = {
    "checkpoint": ((f"{API}/sd-models", _checkpoints),),
    "VAE": ((f"{API}/sd-vae", _vaes),),
    "VAE axis": ((f"{API}/sd-vae", _axis_vaes),),
    "sampler": ((f"{API}/samplers", _samplers),),
    "scheduler": ((f"{API}/schedulers", _schedulers),),
    "upscaler": ((f"{API}/upscalers", _named),),
    "hires upscaler": ((f"{API}/latent-upscale-modes", _named), (f"{API}/upscalers", _named)),
    "face restorer": ((f"{API}/face-restorers", _named),),
    "LoRA": ((f"{API}/loras", _loras),),
    "LoRA file": ((f"{API}/loras", _named),),
    "hypernetwork": ((f"{API}/hypernetworks", _named),),
    "style": ((f"{API}/prompt-styles", _styles),),
    "ControlNet module": (
        ("/controlnet/module_list", _modules),
        ("/controlnet/module_list?alias_names=true", _modules),
    ),
    "ControlNet model": (("/controlnet/model_list", _controlnet_models),),
    "ADetailer model": (("/adetailer/v1/ad_model", _adetailer_models),),
}
"""Routes that list each kind, and how their answers are read."""

REFRESHES: Final[Mapping[Kind, str]] = {
    "checkpoint": f"{API}/refresh-checkpoints",
    "VAE": f"{API}/refresh-vae",
    "VAE axis": f"{API}/refresh-vae",
    "LoRA": f"{API}/refresh-loras",
    "LoRA file": f"{API}/refresh-loras",
    "ControlNet model": "",  # its list is read from the folder each time
}
"""Routes that have the WebUI look at its folders again; other lists are made at its start only."""

INTERROGATORS: Final = Names(frozenset(("clip", "deepdanbooru")), ("clip", "deepdanbooru"))
