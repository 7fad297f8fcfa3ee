"""Decide by its smoke report whether an image counts as tested."""

from scripts.common.checks.smoke_report import SmokeReport
from scripts.common.diagnostics.error import UserError
from scripts.host.build.inputs import BuildInputs


def check_tested(inputs: BuildInputs, image_id: str) -> UserError | None:
    """Return why an image does not count as tested; None when its smoke test passed.

    An image for GPUs counts only when it drew on one: checks that need none say nothing of its
    kernels.
    """
    on_gpu = inputs.config.build.accelerator == "cuda"
    message = ""
    try:
        report = read_report(inputs)
        if report.image_id != image_id:
            message = "the smoke report is about another image"
        elif report.failures:
            message = "the smoke test of this image failed"
        elif not report.passed:
            message = "only a part of the smoke test ran on this image"
        elif on_gpu and not report.drew:
            message = "the smoke test of this image drew no picture: it ran without a GPU"
    except FileNotFoundError:
        message = "this image has no smoke report"
    except (OSError, ValueError):
        message = "the smoke report cannot be read"
    if not message:
        return None
    session = "gpu_smoke" if on_gpu else "smoke"
    return UserError(
        message,
        location=f"reports/smoke-{inputs.variant}.json",
        code="image-untested",
        hint=f"run: nox -s {session} -- --variant {inputs.variant};"
        " where no engine has the GPU: invoke push --candidate",
    )


def read_report(inputs: BuildInputs) -> SmokeReport:
    """Read the smoke report of a variant.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no report.
    """
    path = inputs.root / "reports" / f"smoke-{inputs.variant}.json"
    return SmokeReport.model_validate_json(path.read_text(encoding="utf-8"))
