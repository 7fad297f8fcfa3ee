"""Take a smoke report that was made inside a container, for the candidate of the same build.

Such a report is self-declared: it says what a container printed, and whoever ran that could have
changed it. It counts for `invoke push` all the same, since no engine may reach the GPU.
"""

import base64
import re
from pathlib import Path
from typing import Final

from scripts.common.checks.images import decode_png
from scripts.common.checks.smoke_report import (
    RunRecord,
    SmokeBundle,
    SmokeReport,
    SubjectRecord,
)
from scripts.common.diagnostics.error import UserError
from scripts.common.files import write_atomically
from scripts.host.config.load import LoadedConfig
from scripts.host.console import warn
from scripts.host.registry.push import PushRecord, record_path
from scripts.host.reports.smoke_rendering import write_report

_TIMEOUT: Final = 60  # seconds
_LARGEST: Final = 50_000_000  # bytes; a report of 64x64 images has 100 kB
_IMAGE_NAME: Final = re.compile(r"smoke-[\w.-]+\.png")


def fetch_report(loaded: LoadedConfig, *, url: str = "", file: str = "") -> Path:
    """Read a report from an address or a file, and keep it as the report of the candidate.

    Checks of the image's layers that `nox -s smoke` has made of the same image are kept beside it:
    no container can make them of itself.

    Raises:
        UserError: neither or both are given, the report cannot be had, or is about another build.
    """
    if bool(url) == bool(file):
        raise UserError("give one of them", location="--url, --file", hint="see --help")
    location = url or file
    try:
        bundle = SmokeBundle.model_validate_json(_download(url) if url else _read(file))
    except ValueError as error:
        raise UserError(
            f"this is no smoke report: {str(error).splitlines()[0]}",
            location=location,
            hint="it is what `smoke --json` prints, or a pod with the start command `smoke` serves",
        ) from None
    candidate = _read_candidate(loaded)
    build_id = bundle.report.build_id
    if not build_id or build_id != candidate.build_id:
        raise UserError(
            f"the report is about build {build_id[:12] or 'unknown'},"
            f" the candidate is of build {candidate.build_id[:12] or 'unknown'}",
            location=location,
            code="report-of-another-build",
        )
    folder = loaded.root / "reports"
    images = _decode_images(bundle)
    layers = _read_layer_checks(loaded, candidate.image_id)
    for name, image in images.items():
        write_atomically(folder / name, image)
    declared = bundle.report.model_copy(update={"pictures": tuple(images)})
    return write_report(_adopt(declared, candidate, layers), folder, bundle.log)


def _decode_images(bundle: SmokeBundle) -> dict[str, bytes]:
    """Return the report's images; without those that are no complete PNG, or named otherwise."""
    images = {}
    for name in filter(_IMAGE_NAME.fullmatch, bundle.report.pictures):
        try:
            images[name] = decode_png(base64.b64decode(bundle.images.get(name, ""))).data
        except ValueError:
            warn(f"{name} is no complete PNG and does not count")
    return images


def _adopt(declared: SmokeReport, candidate: PushRecord, layers: SmokeReport | None) -> SmokeReport:
    """Return a declared report as one of the candidate's image; its verdicts are made anew."""
    pushed = candidate.references[0]
    subject = SubjectRecord(
        image=pushed.reference,
        image_id=candidate.image_id,
        variant=candidate.variant,
        digests=(f"{pushed.reference.rpartition(':')[0]}@{pushed.digest}",),
        labels=layers.labels if layers else {},
        build_id=candidate.build_id,
        self_declared=True,
    )
    names = {check.name for check in declared.checks}
    kept = [each for each in (layers.checks if layers else ()) if each.group == "image"]
    checks = (*(each for each in kept if each.name not in names), *declared.checks)
    run = RunRecord(**{name: getattr(declared, name) for name in RunRecord.model_fields})
    return SmokeReport.of(subject, checks, run)


def _read_candidate(loaded: LoadedConfig) -> PushRecord:
    path = record_path(loaded.root, loaded.variant, candidate=True)
    try:
        return PushRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(
            "there is no record of a candidate",
            location=str(path.relative_to(loaded.root)),
            hint=f"run: invoke push --candidate --variant {loaded.variant}",
        ) from None


def _read_layer_checks(loaded: LoadedConfig, image_id: str) -> SmokeReport | None:
    """Return the report of a session on this machine about the same image."""
    path = loaded.root / "reports" / f"smoke-{loaded.variant}.json"
    try:
        report = SmokeReport.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        report = None
    if report and report.image_id == image_id:
        return report
    session = f"nox -s smoke -- --variant {loaded.variant}"
    warn(f"the image's layers are not examined; run `{session}` first, then this again")
    return None


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UserError(f"it cannot be read: {error.strerror}", location=file) from None


def _download(url: str) -> bytes:
    """Download a report; a pod's proxy answers 502 or 404 until the run is over."""
    import requests

    try:
        with requests.get(url, timeout=_TIMEOUT, stream=True) as answer:
            if answer.status_code != 200:
                raise UserError(
                    f"the answer is {answer.status_code}",
                    location=url,
                    hint="wait until the pod's log says that the report is served",
                )
            return answer.raw.read(_LARGEST, decode_content=True) or b""
    except requests.RequestException as error:
        raise UserError(f"no answer: {type(error).__name__}", location=url) from None
