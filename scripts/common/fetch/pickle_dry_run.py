"""Read a pickle as A1111's `modules/safe.py` does, with objects that do nothing.

This shows every import that the WebUI would meet, also one whose name no scanner can follow, and
the tensors that the file holds.
"""

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Final, Literal

from scripts.common.fetch.pickle_imports import AllowImport

PickleForm = Literal["pickle", "pickle-newer", "torchscript", "data"]


@dataclass(frozen=True)
class PickleContent:
    """Content of a pickle, as far as it was read.

    Args:
        form: `pickle`; `pickle-newer` for a file of newer torch, which A1111 reads from v1.10
            on; `torchscript`; or `data` for a file without any import.
        keys: keys of the outermost dictionary; None where only imports were looked at.
        shapes: shapes of the tensors in it, or in its `state_dict`, by name.
        embedded: number of tensors in its `string_to_param`; None if it has none.
    """

    form: PickleForm
    keys: frozenset[Any] | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    embedded: int | None = None


class RefusedError(Exception):
    """A pickle is refused, with the reason and the code of the diagnostics table."""

    def __init__(self, message: str, code: str = "pickle-unsafe") -> None:
        super().__init__(message)
        self.code = code


class _Inert:
    """Stand for any object of a pickle; nothing that a pickle does to it has an effect."""

    state: Any = None

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, *_: object) -> None:
        pass

    def extend(self, _: object) -> None:
        """Take the items of a list."""

    append = extend


@dataclass(frozen=True, eq=False)
class _Tensor:
    shape: tuple[int, ...]


def _rebuild_tensor(*arguments: Any) -> _Tensor:  # noqa: ANN401 - as the pickle gives them
    """Stand for `_rebuild_tensor_v2(storage, storage_offset, size, stride, …)`."""
    return _Tensor(tuple(int(size) for size in arguments[2]))


def _rebuild_parameter(data: object, *_: object) -> object:
    return data


_STAND_INS: Final[dict[tuple[str, str], Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("__builtin__", "set"): set,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}


class DryRun(pickle.Unpickler):
    """Read a pickle as A1111's `RestrictedUnpickler` does, with objects that do nothing."""

    def __init__(self, stream: IO[bytes], allows: AllowImport) -> None:
        super().__init__(stream)
        self._allows = allows

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - a class or function
        """Return a stand-in for an import that is allowed."""
        if not self._allows(module, name):
            raise RefusedError(
                f"the pickle would import {module}.{name}, which no such model needs"
            )
        return _STAND_INS.get((module, name), _Inert)

    def persistent_load(self, saved_id: Any) -> _Inert:  # noqa: ANN401 - as the pickle gives it
        """Return a stand-in for the data of a tensor."""
        if saved_id[0] != "storage":
            raise RefusedError(
                f"it refers to a {saved_id[0]!r} outside of itself", "pickle-unreadable"
            )
        return _Inert()


def describe_root(root: object, form: PickleForm) -> PickleContent:
    """Return the keys and tensors of the object that a pickle made."""
    if not isinstance(root, dict):
        return PickleContent(form, frozenset())
    inner = root.get("state_dict", root)
    tensors = inner if isinstance(inner, dict) else root
    return PickleContent(
        form,
        frozenset(root),
        {k: v.shape for k, v in tensors.items() if isinstance(k, str) and isinstance(v, _Tensor)},
        _count_embedded(root["string_to_param"]) if "string_to_param" in root else None,
    )


def _count_embedded(params: object) -> int:
    """Return the number of tensors in `string_to_param`: a dictionary, or torch's ParameterDict."""
    if isinstance(params, _Inert) and isinstance(params.state, dict):
        params = params.state.get("_parameters") or params.state.get("_keys") or {}
    return len(params) if isinstance(params, dict) else 0
