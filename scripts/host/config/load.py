"""Loads the config a task runs with: all layers merged, validated, each value's origin known."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from scripts.common.errors import Failure
from scripts.host.config.layers import Layer, below, merge, override, read_layer
from scripts.host.config.lock import Lock, LockedModel, read_lock
from scripts.host.config.schema import Config, Model

ROOT = Path(__file__).resolve().parents[3]
DEFAULT_VARIANT = "cuda128"
_EXPECTED = {  # pydantic's types of errors in the words of a config
    "extra_forbidden": "unknown key",
    "missing": "missing value",
    **dict.fromkeys(("tuple_type", "list_type"), "expected a list"),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "expected a map"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "expected a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "expected a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "expected true or false"),
    "string_type": "expected text",
}


@dataclass(frozen=True)
class Loaded:
    """A validated config and what is known about it.

    Args:
        config: the choices, one variant applied.
        variant: that variant's name.
        origins: key path to the `file:line` (or `-D key`) that said it; absent: a default.
        lock: what `invoke pin` found.
        root: the checkout.
    """

    config: Config
    variant: str
    origins: dict[str, str]
    lock: Lock
    root: Path

    @property
    def store(self) -> Path:
        """Folder of the model store; `MODELS_STORE` in the environment wins."""
        chosen = os.environ.get("MODELS_STORE") or self.config.store.path
        return (self.root / chosen).resolve()

    @property
    def ca_bundle(self) -> Path | None:
        """The certificates that every download trusts, where `mirrors.ca_bundle` names some.

        Raises:
            Failure: the file is not there.
        """
        said = self.config.mirrors.ca_bundle
        if said is None:
            return None
        path = self.root / Path(said).expanduser()
        if not path.is_file():
            raise Failure(
                "the CA bundle is not there",
                where=said,
                cure="mend mirrors.ca_bundle",
                code="ca-bundle-unusable",
            )
        return path

    def pin_of(self, model: Model) -> LockedModel | None:
        """What the lock says of a model, unless it was pinned for another source."""
        locked = self.lock.models.get(model.name)
        return locked if locked and locked.source == model.source.id else None


def load(
    variant: str = DEFAULT_VARIANT,
    define: Iterable[str] = (),
    *,
    root: Path = ROOT,
    environment: Mapping[str, str] = os.environ,
) -> Loaded:
    """Merge and validate the config.

    Args:
        variant: name under `variants`.
        define: `key.path=value` overrides, strongest last.
        root: the checkout that holds `config.yaml`.
        environment: where IMAGE_CONFIG and HF_ENDPOINT are looked up.

    Raises:
        Failure: naming file, line, key path and what was expected.
    """
    files = reduce(merge, _files(root, environment))
    chosen = below(files, "variants", variant)
    names = list(files.tree.get("variants") or {})
    if variant not in names:
        raise Failure(
            f"there is no variant {variant}",
            where="config.yaml",
            cure=f"one of: {', '.join(names)}",
        )
    first, *rest = _files(root, environment)
    over = [override(words) for words in define]
    merged = reduce(merge, [first, chosen, *rest, *_endpoint(environment), *over])
    try:
        config = Config.model_validate(merged.tree)
    except ValidationError as error:
        raise _explain(error.errors(include_url=False), merged) from None
    return Loaded(config, variant, merged.origins, read_lock(root), root)


def _files(root: Path, environment: Mapping[str, str]) -> list[Layer]:
    """The layers that are files, weakest first."""
    layers = [read_layer(root / "config.yaml", "config.yaml")]
    local = root / "config.local.yaml"
    if local.exists():
        layers.append(read_layer(local, local.name))
    named = environment.get("IMAGE_CONFIG")
    if named:
        layers.append(read_layer(Path(named), named))
    return layers


def _endpoint(environment: Mapping[str, str]) -> list[Layer]:
    """HF_ENDPOINT, by which the Hub's own tools are told of a mirror, is heeded here too."""
    endpoint = environment.get("HF_ENDPOINT", "").rstrip("/")
    key = "mirrors.huggingface"
    return [Layer({"mirrors": {"huggingface": endpoint}}, {key: "HF_ENDPOINT"})] if endpoint else []


def _explain(errors: list[ErrorDetails], merged: Layer) -> Failure:
    """The first error as one line; the number of others is said, not their text."""
    error = min(errors, key=lambda each: (each["type"] == "missing", len(each["loc"])))
    path = _path(error["loc"], merged)
    expected = _EXPECTED.get(error["type"], error["msg"].removeprefix("Value error, "))
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Failure(
        f"{path or 'config'}: {expected}{more}",
        where=_origin(path, merged),
        cure="see config.schema.json or the config reference in the README",
    )


def _origin(path: str, merged: Layer) -> str:
    """Where a key path, or else the nearest one above it, was said."""
    while path and path not in merged.origins:
        path = path.rpartition(".")[0]
    return merged.origins.get(path, "config.yaml")


def _path(loc: tuple[int | str, ...], merged: Layer) -> str:
    """The key path of an error, without the tag pydantic adds for a member of a union."""
    keys = [str(part) for part in loc]
    kept: list[str] = []
    for key, before in zip(keys, ["", *keys], strict=False):
        is_tag = before == "source" and key in ("hub", "url")
        if not is_tag or (".".join([*kept, key]) in merged.origins and keys[-1] == key):
            kept.append(key)
    return ".".join(kept)
