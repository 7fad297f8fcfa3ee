"""Table of the packages that the WebUI imports at its start without needing them to serve.

Made for A1111 v1.9.3 and v1.10.1 with the packages of `requirements/`, and checked by the smoke
tests: each row must be imported at the start, unused until the API answers, and have every name
that an importer takes.
"""

from collections.abc import Mapping
from typing import NamedTuple


class LazyPackage(NamedTuple):
    """A row of the table.

    Args:
        name: the package; modules below it are loaded with it.
        reason: who imports it at start, and why the start does not need it.
        taken: by importing module, the full names that it takes when it is imported and uses later.
        eager: modules below it, with those below them, that are imported as usual, without the
            package. Where one is needed, all are imported, in this order.
        provided: names that the package has from its eager modules, and these.
        is_everywhere: every release of A1111 that this is for imports it.
    """

    name: str
    reason: str
    taken: Mapping[str, tuple[str, ...]] = {}
    eager: tuple[str, ...] = ()
    provided: Mapping[str, str] = {}
    is_everywhere: bool = True


STARTER = "modules.initialize"
"""The WebUI's own module that imports them all at its start, in both releases."""


def _names(module: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{module}.{name}" for name in names)


_PLOT = _names(
    "torchmetrics.utilities.plot", "_AX_TYPE", "_PLOT_OUT_TYPE", "plot_single_or_multi_val"
)
_FSDP = "torch.distributed.fsdp.fully_sharded_data_parallel"

PACKAGES: tuple[LazyPackage, ...] = (
    LazyPackage(
        name="torchmetrics",
        reason="pytorch_lightning subclasses Metric; the package imports every metric",
        taken={"torchmetrics.utilities.prints": ("torchmetrics._logger",)},
        # utilities first: it and metric import each other.
        eager=_names("torchmetrics", "utilities", "metric", "collections"),
        provided={
            "Metric": "torchmetrics.metric",
            "MetricCollection": "torchmetrics.collections",
        },
    ),
    LazyPackage(
        name="torchmetrics.utilities.plot",
        reason="metrics import it to plot themselves; it builds types of matplotlib",
        taken=dict.fromkeys(_names("torchmetrics", "metric", "collections"), _PLOT),
    ),
    LazyPackage(
        name="matplotlib",
        reason="gradio draws plots with it",
        taken={"gradio.helpers": ("matplotlib.animation",)},
    ),
    LazyPackage(
        name="pandas",
        reason="gradio shows tables with it",
        taken={"gradio.components.scatter_plot": ("pandas.api.types.is_numeric_dtype",)},
    ),
    LazyPackage("altair", "gradio draws plots with it"),
    LazyPackage(
        name="scipy.integrate",
        reason="samplers of torchdiffeq use it, which no route chooses",
        taken={"torchdiffeq._impl.scipy_wrapper": ("scipy.integrate.solve_ivp",)},
    ),
    LazyPackage("scipy.stats", "v1.10.1 has a beta schedule", is_everywhere=False),
    LazyPackage("kornia", "the image encoder of SD 2 unCLIP resizes with it"),
    LazyPackage(
        name="open_clip",
        reason="text encoder of SD 2 and SDXL; the WebUI replaces one function of it",
        taken={
            "modules.sd_disable_initialization": ("open_clip.create_model_and_transforms",),
            "modules.sd_hijack_open_clip": ("open_clip.tokenizer._tokenizer",),
        },
    ),
    LazyPackage("timm", "depth models use it"),
    LazyPackage("k_diffusion.augmentation", "for training; k_diffusion imports it"),
    LazyPackage("k_diffusion.evaluation", "for training; k_diffusion imports it"),
    LazyPackage(
        name="torchvision",
        reason="interrogate, training and SD 2's depth models transform images with it",
        taken={
            "sgm.modules.autoencoding.lpips.loss.lpips": ("torchvision.models",),
            "modules.interrogate": ("torchvision.transforms.functional.InterpolationMode",),
            "ldm.modules.midas.api": ("torchvision.transforms.Compose",),
            **dict.fromkeys(
                (
                    "ldm.models.diffusion.ddpm",
                    "modules.models.diffusion.ddpm_edit",
                    "sd_hijack_ddpm_v1",
                ),
                ("torchvision.utils.make_grid",),
            ),
        },
    ),
    LazyPackage(
        name="facexlib",
        reason="face restoration; the WebUI replaces its downloads at start",
        taken={
            "modules.face_restoration_utils": (
                "facexlib.detection.load_file_from_url",
                "facexlib.parsing.load_file_from_url",
            ),
        },
    ),
    LazyPackage(
        name="torch.distributed.fsdp",
        reason="strategies of training over several GPUs",
        taken={
            "pytorch_lightning.plugins.precision.fsdp_native_native_amp": (
                f"{_FSDP}.MixedPrecision",
                "torch.distributed.fsdp.sharded_grad_scaler.ShardedGradScaler",
            ),
            "pytorch_lightning.strategies.fully_sharded_native": (
                *_names(_FSDP, "BackwardPrefetch", "CPUOffload", "FullyShardedDataParallel"),
                f"{_FSDP}.MixedPrecision",
                "torch.distributed.fsdp.wrap.enable_wrap",
            ),
            "accelerate.utils.fsdp_utils": _names(
                _FSDP, "FullyShardedDataParallel", "StateDictType"
            ),
        },
    ),
    LazyPackage(
        name="torch.distributed.checkpoint",
        reason="saves models that are spread over several GPUs",
        taken={
            "accelerate.utils.fsdp_utils": _names(
                "torch.distributed.checkpoint",
                "default_planner.DefaultLoadPlanner",
                "default_planner.DefaultSavePlanner",
                "optimizer.load_sharded_optimizer_state_dict",
            ),
        },
    ),
    LazyPackage(
        name="torch._functorch._aot_autograd.functional_utils",
        reason="torch.utils.checkpoint asks it about functional tensors; it brings sympy",
        taken={
            "torch.utils.checkpoint": ("torch._functorch._aot_autograd.functional_utils.is_fun",),
        },
    ),
    LazyPackage(
        name="torch.quantization",
        reason="torch and a callback of training import it",
        taken={
            "pytorch_lightning.callbacks.quantization": ("torch.quantization.FakeQuantizeBase",),
        },
    ),
    LazyPackage(
        name="torch.ao.quantization",
        reason="a callback of training imports it; it brings torch.export",
        taken={
            "pytorch_lightning.callbacks.quantization": _names(
                "torch.ao.quantization", "qconfig.QConfig", "fuse_modules_qat"
            ),
        },
    ),
    LazyPackage("torch.export", "parts of torch import it"),
)
