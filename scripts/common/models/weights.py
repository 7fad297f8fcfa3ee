"""Read the table of auxiliary weights, `weights.ini`: files that A1111 fetches at their first use.

A feature is a set of such files that belong together. The config names features to have their files
in the image or on the volume; the worker names the feature that a refused job needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Final, Literal, get_args

from scripts.common.models.kinds import KINDS, Kind, data_path

Feature = Literal[
    "upscale",
    "upscale-realesrgan",
    "upscale-dat",
    "upscale-ldsr",
    "faces",
    "gfpgan",
    "interrogate",
    "deepdanbooru",
    "previews",
    "taesd",
    "tokenizer",
    "text-encoders-sd1",
    "text-encoders-sd2",
    "text-encoders-sdxl",
    "sd3",
    "sd3-t5",
    "altdiffusion",
    "depth",
    "depth-variants",
    "focal-crop",
]

FEATURES: Final[dict[Feature, str]] = {
    "upscale": "the upscalers that A1111 lists by default, but for the large DAT and LDSR",
    "upscale-realesrgan": "four more, listed once the option realesrgan_enabled_models names them",
    "upscale-dat": "the DAT upscalers",
    "upscale-ldsr": "the LDSR upscaler",
    "faces": "face restoration by GFPGAN and CodeFormer",
    "gfpgan": "face restoration by GFPGAN alone: CodeFormer's licence forbids commercial use",
    "interrogate": "captions of images (model clip)",
    "deepdanbooru": "tags of images (model deepdanbooru)",
    "previews": "what each job of SDXL and SD3 loads while live previews are on, the default",
    "taesd": "the small VAE, for options such as sd_vae_decode_method: TAESD",
    "tokenizer": "the tokenizer that each checkpoint of SD 1, SDXL and SD3 loads",
    "text-encoders-sd1": "the text encoder, for SD 1 checkpoints without theirs",
    "text-encoders-sd2": "the text encoder, for SD 2 checkpoints without theirs",
    "text-encoders-sdxl": "both text encoders, for SDXL checkpoints without theirs",
    "sd3": "text encoders, tokenizer and preview of SD3",
    "sd3-t5": "the large text encoder of SD3, for the option sd3_enable_t5",
    "altdiffusion": "the tokenizer of AltDiffusion checkpoints",
    "depth": "the depth model that SD 2 depth checkpoints load",
    "depth-variants": "the depth models that other configurations of such checkpoints name",
    "focal-crop": "face detection of the automatic crop",
}
"""Purpose of each feature; the order is that of reports."""

Use = Literal[
    "upscaler",
    "face-restorer",
    "interrogator",
    "preview",
    "taesd-decoder",
    "taesd-encoder",
    "tokenizer",
    "text-encoder",
    "depth",
    "crop",
]


@dataclass(frozen=True)
class AuxiliaryWeight:
    """One file that A1111 fetches, and where it looks for it.

    Args:
        name: name of the file's row, and of the model that a feature adds to the config.
        features: features that it belongs to; the first is the one to recommend.
        use: what A1111 does with it.
        names: what needs it: A1111's names of upscalers, restorers and interrogators; for the other
            uses base models as in `fetch.model_content.Base`, or the name in A1111's source.
        kind: kind of model; None for a file outside of the data folder.
        family: family of the kind; empty for a kind without families.
        path: as in the config: below the folder of the kind (and family); without a kind absolute
            in the image, for a file of the Hub the folder of the Hub's cache.
        url: address; empty for a file of the Hub.
        hub: repository of the Hub; empty for other addresses.
        file: file of that repository.
        revision: revision of that repository.
        sha256: expected SHA-256; empty if unknown.
        size: expected size in bytes; None if unknown.
        releases: A1111 releases that fetch it; empty for all.
        licence: its licence; empty if unknown.
    """

    name: str
    features: tuple[Feature, ...]
    use: Use
    names: tuple[str, ...]
    kind: Kind | None
    family: str
    path: str
    url: str = ""
    hub: str = ""
    file: str = ""
    revision: str = "main"
    sha256: str = ""
    size: int | None = None
    releases: tuple[str, ...] = ()
    licence: str = ""

    @property
    def is_hub_cache(self) -> bool:
        """Return whether the Hub's client looks for it, in its cache."""
        return bool(self.hub) and self.kind is None

    @property
    def data_path(self) -> PurePosixPath | None:
        """Its path relative to A1111's data folder; None where A1111 looks elsewhere."""
        return data_path(self.kind, self.path, self.family) if self.kind else None


@cache
def auxiliary_weights(release: str = "") -> tuple[AuxiliaryWeight, ...]:
    """Return the files that a release fetches.

    Args:
        release: A1111 release, such as v1.9.3; empty for all that are known.
    """
    rows = _read_table()
    return tuple(row for row in rows if not (release and row.releases) or release in row.releases)


def weights_of(feature: Feature, release: str = "") -> tuple[AuxiliaryWeight, ...]:
    """Return the files of one feature; none where the release does not have it."""
    return tuple(row for row in auxiliary_weights(release) if feature in row.features)


def weights_for(use: Use, name: str, release: str = "") -> tuple[AuxiliaryWeight, ...]:
    """Return the files that A1111 needs for one thing by its name; none for an unknown name.

    Args:
        use: what it is.
        name: its name, such as `R-ESRGAN 4x+` or `CodeFormer`.
        release: A1111 release; empty for all that are known.
    """
    return tuple(row for row in auxiliary_weights(release) if row.use == use and name in row.names)


def features_for(use: Use, name: str) -> tuple[Feature, ...]:
    """Return the features that make something work, by its name in A1111; none for an unknown name.

    An error names them as the line for config.yaml: `features: [upscale]`.
    """
    rows = weights_for(use, name)
    for feature in FEATURES:
        if rows and all(feature in row.features for row in rows):
            return (feature,)
    return tuple(dict.fromkeys(row.features[0] for row in rows))


def features(release: str = "") -> tuple[Feature, ...]:
    """Return the features that have files in a release, in the order of reports."""
    found = {each for row in auxiliary_weights(release) for each in row.features}
    return tuple(each for each in FEATURES if each in found)


def _read_table() -> tuple[AuxiliaryWeight, ...]:
    from configparser import ConfigParser  # not needed by a worker that refuses no job

    table = ConfigParser(interpolation=None)
    table.read_string(Path(__file__).with_name("weights.ini").read_text(encoding="utf-8"))
    return tuple(_make_row(name, table[name]) for name in table.sections())


def _make_row(name: str, values: Mapping[str, str]) -> AuxiliaryWeight:
    known = (*get_args(Feature), *get_args(Use), *KINDS)
    listed = {key: _split(values.get(key, "")) for key in ("features", "names", "releases")}
    for value in (*listed["features"], values["use"], *_split(values.get("kind", ""))):
        if value not in known:
            raise ValueError(f"weights.ini, {name}: {value} is unknown")
    plain = ("family", "url", "hub", "file", "sha256", "licence")
    return AuxiliaryWeight(
        name=name,
        features=listed["features"],  # type: ignore[arg-type]  # checked above
        use=values["use"],  # type: ignore[arg-type]  # checked above
        names=listed["names"],
        kind=values.get("kind"),  # type: ignore[arg-type]  # checked above
        path=values["path"],
        revision=values.get("revision", "main"),
        size=int(values["size"]) if "size" in values else None,
        releases=listed["releases"],
        **{key: values.get(key, "") for key in plain},
    )


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
