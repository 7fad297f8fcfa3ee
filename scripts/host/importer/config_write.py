"""Write an import into `config.local.yaml`, or into `config.yaml` as a new variant.

What is there already stays byte for byte; the result is validated before anything is written.
"""

import difflib
import shutil
import tempfile
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.files import write_atomically
from scripts.host.config.layers import Layer, merge, read_layer
from scripts.host.config.load import LoadedConfig, load
from scripts.host.config.schema import Config
from scripts.host.importer.import_plan import ImportPlan
from scripts.host.models.config_edit import ConfigText, dump_lines, insert_models, insert_variant

LOCAL_NAME: Final = "config.local.yaml"
_SHARED_NAME: Final = "config.yaml"
_SHOWN: Final = 3  # names in a message


@dataclass(frozen=True)
class ConfigChange:
    """New content of a file.

    Args:
        path: the file.
        before: its text; empty if there is none.
        after: its text with the import.
    """

    path: Path
    before: str
    after: str

    def diff(self) -> str:
        """Return the change as a unified diff; empty if there is none."""
        name = self.path.name
        lines = difflib.unified_diff(
            self.before.splitlines(),
            self.after.splitlines(),
            name if self.before else "/dev/null",
            name,
            lineterm="",
        )
        return "\n".join(lines)

    def write(self) -> None:
        """Write the file in one step.

        Raises:
            UserError: it cannot be written; it is as it was.
        """
        try:
            write_atomically(self.path, self.after.encode())
        except OSError as error:
            raise UserError(
                f"cannot be written: {error.strerror}", location=self.path.name
            ) from None


def has_local_models(root: Path) -> bool:
    """Return whether `config.local.yaml` has a list of models, which an import makes longer."""
    path = root / LOCAL_NAME
    return path.exists() and "models" in read_layer(path, LOCAL_NAME).tree


def change_local(plan: ImportPlan, loaded: LoadedConfig) -> ConfigChange:
    """Plan the change of `config.local.yaml`, which counts for every variant.

    Args:
        plan: the import.
        loaded: the config that it was made for.

    Raises:
        UserError: the file has a key that an import would have to change.
    """
    path = loaded.root / LOCAL_NAME
    text = path.read_bytes().decode() if path.exists() else ""
    values = _values(plan, loaded)
    if path.exists():
        tree = read_layer(path, LOCAL_NAME).tree
        if "models" in tree and values.pop("models", None):
            entries = [planned.entry for planned in plan.models]
            text = insert_models(ConfigText.read(loaded.root, LOCAL_NAME), entries)
        if taken := sorted(set(tree) & set(values)):
            raise UserError(
                f"it has {', '.join(taken)} of its own",
                location=LOCAL_NAME,
                hint="remove the key, or write a variant instead: --new-variant NAME",
            )
    lines = dump_lines(values) if values else []
    newline = "\r\n" if "\r\n" in text else "\n"
    end = newline if text and not text.endswith("\n") else ""
    after = text + end + "".join(line + newline for line in lines)
    return _validated(ConfigChange(path, _read(path), after), plan, loaded, loaded.variant)


def change_shared(plan: ImportPlan, loaded: LoadedConfig, name: str) -> ConfigChange:
    """Plan a new variant in `config.yaml`, with what the loaded variant overrides.

    Args:
        plan: the import.
        loaded: the config that it was made for.
        name: of the new variant.

    Raises:
        UserError: there is a variant of that name.
    """
    variants = read_layer(loaded.root / _SHARED_NAME, _SHARED_NAME).tree["variants"]
    if name in variants:
        hint = "choose another name, or remove it from config.yaml"
        raise UserError(f"there is a variant {name}", location=_SHARED_NAME, hint=hint)
    overrides = Layer(deepcopy(variants.get(loaded.variant) or {}))
    values = merge(overrides, Layer(_values(plan, loaded))).tree
    config = ConfigText.read(loaded.root)
    lines = dump_lines({name: values})
    change = ConfigChange(loaded.root / _SHARED_NAME, config.text, insert_variant(config, lines))
    return _validated(change, plan, loaded, name)


def _values(plan: ImportPlan, loaded: LoadedConfig) -> dict[str, Any]:
    """Return the keys of the config that an import sets; lists hold what was there, too."""
    values: dict[str, Any] = {}
    if plan.models:
        kept = [model.model_dump(mode="json", exclude_unset=True) for model in plan.kept]
        values["models"] = [*kept, *(planned.entry for planned in plan.models)]
    if plan.extensions:
        old = loaded.config.extensions
        unchanged = [each.model_dump(mode="json", exclude_unset=True) for each in old]
        values["extensions"] = [*unchanged, *plan.extensions]
    webui: dict[str, Any] = {}
    if plan.flags:
        webui["flags"] = {"add": [*loaded.config.webui.flags.add, *plan.flags]}
    if plan.settings:
        webui["settings"] = dict(plan.settings)
    return {**values, "webui": webui} if webui else values


def _validated(
    change: ConfigChange, plan: ImportPlan, loaded: LoadedConfig, variant: str
) -> ConfigChange:
    """Return a change after loading the config that it would make.

    Raises:
        UserError: it would not be valid, or a stronger layer would hide a part of the import.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name in (_SHARED_NAME, LOCAL_NAME):
            if (loaded.root / name).exists():
                shutil.copyfile(loaded.root / name, Path(folder) / name)
        (Path(folder) / change.path.name).write_bytes(change.after.encode())
        result = load(variant, root=Path(folder))
    for key, hidden in _find_hidden(plan, result.config).items():
        location = result.origins.get(key, "")
        other = "leave out --new-variant" if LOCAL_NAME in location else "unset IMAGE_CONFIG"
        raise UserError(
            f"`{key}` of a stronger layer would hide what is imported, "
            f"such as {', '.join(hidden[:_SHOWN])}",
            location=location,
            hint=f"{other}, or remove `{key}` there",
        )
    return change


def _find_hidden(plan: ImportPlan, config: Config) -> dict[str, list[str]]:
    """Return what of an import a config does not have, by the key that holds something else."""
    models = {model.name for model in config.models}
    repos = {each.repo for each in config.extensions}
    flags, settings = config.webui.flags.add, config.webui.settings
    hidden = {
        "models": [each.entry["name"] for each in plan.models if each.entry["name"] not in models],
        "extensions": [each["repo"] for each in plan.extensions if each["repo"] not in repos],
        "webui.flags.add": [flag for flag in plan.flags if flag not in flags],
        "webui.settings": [
            name for name, value in plan.settings.items() if settings.get(name) != value
        ],
    }
    return {key: names for key, names in hidden.items() if names}


def _read(path: Path) -> str:
    return path.read_bytes().decode() if path.exists() else ""
