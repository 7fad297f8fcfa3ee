"""Loads the config a task runs with: all layers merged, validated, each value's origin known."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from pydantic import ValidationError

from scripts.common.diagnostics.error import UserError
from scripts.host.config.explain import explained
from scripts.host.config.layers import Layer, below, merge, override, read_layer
from scripts.host.config.lock import Lock, LockedModel, read_lock
from scripts.host.config.schema import Config, Model

ROOT = Path(__file__).resolve().parents[3]
DEFAULT_VARIANT = "cuda128"


@dataclass(frozen=True)
class LoadedConfig:
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
            UserError: the file is not there.
        """
        said = self.config.mirrors.ca_bundle
        if said is None:
            return None
        path = self.root / Path(said).expanduser()
        if not path.is_file():
            raise UserError(location=said, code="ca-bundle-unusable")
        return path

    def pin_of(self, model: Model) -> LockedModel | None:
        """What the lock says of a model, unless another source, revision or file was pinned."""
        locked = self.lock.models.get(model.name)
        if locked is None or locked.source != model.source.asked:
            return None
        return locked if locked.files.keys() >= set(model.files) else None


def load(
    variant: str = DEFAULT_VARIANT,
    define: Iterable[str] = (),
    *,
    root: Path = ROOT,
    environment: Mapping[str, str] = os.environ,
) -> LoadedConfig:
    """Merge and validate the config.

    Args:
        variant: name under `variants`.
        define: `key.path=value` overrides, strongest last.
        root: the checkout that holds `config.yaml`.
        environment: where IMAGE_CONFIG and HF_ENDPOINT are looked up.

    Raises:
        UserError: naming file, line, key path and what was expected.
    """
    files = reduce(merge, _files(root, environment))
    chosen = below(files, "variants", variant)
    names = list(files.tree.get("variants") or {})
    if variant not in names:
        raise UserError(
            f"there is no variant {variant}",
            location="config.yaml",
            hint=f"one of: {', '.join(names)}",
        )
    first, *rest = _files(root, environment)
    over = [override(words) for words in define]
    merged = reduce(merge, [first, chosen, *rest, *_endpoint(environment), *over])
    try:
        config = Config.model_validate(merged.tree)
    except ValidationError as error:
        hint = "see config.schema.json or the config reference in the README"
        raise explained(error, merged, whole="config", hint=hint) from None
    return LoadedConfig(config, variant, merged.origins, read_lock(root), root)


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
