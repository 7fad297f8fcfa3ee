"""Load the config of a command: layers merged and validated, each value's origin known."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from pydantic import ValidationError

from scripts.common.diagnostics.error import UserError
from scripts.host.config.grammar import expand_path
from scripts.host.config.layers import (
    Layer,
    merge,
    parse_override,
    read_layer,
    sublayer,
    validation_error,
)
from scripts.host.config.lock import Lock, LockedModel, read_lock
from scripts.host.config.model_schema import Model
from scripts.host.config.schema import Config

ROOT = Path(__file__).resolve().parents[3]
DEFAULT_VARIANT = "cuda128"


@dataclass(frozen=True)
class LoadedConfig:
    """A validated config, its lock and its checkout.

    Args:
        config: the settings of one variant.
        variant: name of that variant.
        origins: key path to the `file:line` (or `-D key`) that set it; absent for defaults.
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
        """Folder of the model store; `MODELS_STORE` in the environment overrides the config."""
        chosen = os.environ.get("MODELS_STORE")
        return (self.root / (local_path(chosen) if chosen else self.config.store.path)).resolve()

    @property
    def ca_bundle(self) -> Path | None:
        """File of `mirrors.ca_bundle`, trusted by every download; None without one.

        Raises:
            UserError: the file does not exist.
        """
        configured = self.config.mirrors.ca_bundle
        if configured is None:
            return None
        path = self.root / configured
        if not path.is_file():
            raise UserError(location=configured, code="ca-bundle-unusable")
        return path

    def pin_of(self, model: Model) -> LockedModel | None:
        """Return a model's pin; None for a pin of another source, revision or file."""
        locked = self.lock.models.get(model.name)
        if locked is None or locked.source != model.source.lock_key:
            return None
        return locked if locked.files.keys() >= set(model.files) else None


def local_path(text: str) -> Path:
    """Return a path of the environment or the command line, `~` and variables replaced.

    Raises:
        UserError: a variable in it is not set.
    """
    try:
        return Path(expand_path(text))
    except ValueError as error:
        raise UserError(str(error), location=text, hint="set it, or write the path out") from None


def load(
    variant: str = DEFAULT_VARIANT,
    define: Iterable[str] = (),
    *,
    root: Path = ROOT,
    environment: Mapping[str, str] = os.environ,
) -> LoadedConfig:
    """Load the config of one variant; see `load_variants`."""
    return load_variants((variant,), define, root=root, environment=environment)[0]


def load_variants(
    names: Iterable[str] = (),
    define: Iterable[str] = (),
    *,
    root: Path = ROOT,
    environment: Mapping[str, str] = os.environ,
) -> tuple[LoadedConfig, ...]:
    """Read the config files and the lock once, and validate the config of each variant.

    Args:
        names: names under `variants`; empty for all of them.
        define: `key.path=value` overrides; later ones win.
        root: the checkout that holds `config.yaml`.
        environment: variables; IMAGE_CONFIG and HF_ENDPOINT are used.

    Raises:
        UserError: with file, line, key path and what was expected.
    """
    base, *upper = _read_files(root, environment)
    variants = sublayer(reduce(merge, upper, base), "variants")
    upper += [*_endpoint_layer(environment), *map(parse_override, define)]
    lock, loaded = read_lock(root), []
    for name in names or variants.tree:
        if name not in variants.tree:
            raise UserError(
                f"there is no variant {name}",
                location="config.yaml",
                hint=f"one of: {', '.join(variants.tree)}",
            )
        layer = reduce(merge, upper, merge(base, sublayer(variants, name)))
        try:
            config = Config.model_validate(layer.tree)
        except ValidationError as error:
            hint = "see docs/reference/config.md"
            raise validation_error(error, layer, name="config", hint=hint) from None
        loaded.append(LoadedConfig(config, name, layer.origins, lock, root))
    return tuple(loaded)


def _read_files(root: Path, environment: Mapping[str, str]) -> list[Layer]:
    """Read the layers that are files, weakest first."""
    layers = [read_layer(root / "config.yaml", "config.yaml")]
    local = root / "config.local.yaml"
    if local.exists():
        layers.append(read_layer(local, local.name))
    named = environment.get("IMAGE_CONFIG")
    if named:
        layers.append(read_layer(local_path(named), named))
    return layers


def _endpoint_layer(environment: Mapping[str, str]) -> list[Layer]:
    """Return HF_ENDPOINT, the Hub tools' own setting of a mirror, as a layer."""
    endpoint = environment.get("HF_ENDPOINT", "").rstrip("/")
    key = "mirrors.huggingface"
    return [Layer({"mirrors": {"huggingface": endpoint}}, {key: "HF_ENDPOINT"})] if endpoint else []
