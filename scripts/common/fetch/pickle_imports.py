"""Allow lists of imports in pickled models: those of the code that loads each kind."""

import re
from collections.abc import Callable
from typing import Final

AllowImport = Callable[[str, str], bool]
"""Tell by module and name whether a pickle may import something."""

_STORAGES: Final = ("Float", "Half", "Int", "Long", "Double", "Byte", "BFloat16")
A1111_IMPORTS: Final = frozenset(
    {
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
        ("torch._utils", "_rebuild_device_tensor_from_numpy"),
        *(("torch", f"{name}Storage") for name in _STORAGES),
        ("torch", "float32"),
        ("torch.nn.modules.container", "ParameterDict"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("_codecs", "encode"),
        ("pytorch_lightning.callbacks", "model_checkpoint"),
        ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
        ("__builtin__", "set"),
    }
)
"""Imports that `modules/safe.py` (`RestrictedUnpickler.find_class`) allows in both releases."""

_SPANDREL_IMPORTS: Final = frozenset(
    {
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_tensor_v2"),
        *(("torch", f"{name}Storage") for name in _STORAGES if name != "Byte"),
    }
)
"""Those of them that spandrel 0.1.6 and 0.3.4, which loads upscalers, allows (`unpickler.py`)."""

_ULTRALYTICS: Final = re.compile(
    r"ultralytics\.nn\.(tasks|modules(\.\w+)?)|ultralytics(\.yolo)?\.utils\.(loss|tal)"
    r"|torch\.nn\.modules\.\w+"
)
_NAMESPACE: Final = re.compile(r"ultralytics(\.yolo)?\.utils")
_CLASS_NAME: Final = re.compile(r"(v8)?[A-Z]\w*")
_DETECTOR_IMPORTS: Final = frozenset(
    {
        ("torch._utils", "_rebuild_parameter_with_state"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("pathlib", "PosixPath"),
        ("pathlib", "WindowsPath"),
    }
)
_BUILTIN_CLASSES: Final = ("set", "dict", "list", "tuple", "slice", "int", "float", "bool", "str")


def a1111_allows(module: str, name: str) -> bool:
    """Return whether `modules/safe.py` allows an import."""
    return (module, name) in A1111_IMPORTS


def spandrel_allows(module: str, name: str) -> bool:
    """Return whether `modules/safe.py` and spandrel, which run one after the other, allow it."""
    return (module, name) in _SPANDREL_IMPORTS


def ultralytics_allows(module: str, name: str) -> bool:
    """Return whether a detector may import a class; ADetailer turns A1111's own check off."""
    if module in ("__builtin__", "builtins"):
        return name in _BUILTIN_CLASSES
    if module == "torch":
        return bool(re.fullmatch(r"\w+Storage|Size|device|(b?float|u?int)\d+|bool", name))
    if _ULTRALYTICS.fullmatch(module):
        return bool(_CLASS_NAME.fullmatch(name))
    if _NAMESPACE.fullmatch(module):
        return name == "IterableSimpleNamespace"
    return (module, name) in A1111_IMPORTS | _DETECTOR_IMPORTS


def allow_list(kind: str, name: str) -> AllowImport:
    """Return the allow list for a file of a kind.

    Args:
        kind: kind of model.
        name: the file's name; torch itself loads a `.ckpt` file, LDSR's, among the upscalers.
    """
    if kind == "adetailer":
        return ultralytics_allows
    if kind == "upscaler" and not name.lower().endswith(".ckpt"):
        return spandrel_allows
    return a1111_allows
