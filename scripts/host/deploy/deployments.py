"""Record deployments, and find the images that may be deployed: pushed with a passing report."""

from __future__ import annotations

from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.files import write_atomically
from scripts.common.records import Record
from scripts.host.config.load import LoadedConfig
from scripts.host.registry.push import PushRecord, record_path


class DeployableImage(Record):
    """An image that was pushed with a passing smoke report.

    Args:
        reference: `repository@digest`.
        size: bytes of the unpacked image.
        archs: what its torch has code for, by its smoke report.
    """

    reference: str
    size: int
    archs: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Digest of its manifest."""
        return self.reference.rpartition("@")[2]


class Deployment(Record):
    """One creation or update of an endpoint.

    Args:
        time: ISO 8601, in UTC.
        image: that was deployed.
        changes: one line for each changed field; secrets by their names.
    """

    time: str
    image: DeployableImage
    changes: tuple[str, ...]


class DeploymentRecord(Record):
    """Content of `deployments/VARIANT.json`.

    Args:
        endpoint: its ID; empty while it is made, and after a request for it that got no answer.
        name: its name.
        deployments: oldest first; each one's image may be deployed again.
    """

    endpoint: str
    name: str
    deployments: tuple[Deployment, ...] = ()


def record_file(loaded: LoadedConfig) -> Path:
    """Return the file of a variant's deployments; `invoke clean` leaves it."""
    return loaded.root / "deployments" / f"{loaded.variant}.json"


def read_record(loaded: LoadedConfig) -> DeploymentRecord | None:
    """Read a variant's deployments; None before the first one.

    Raises:
        UserError: the file cannot be read.
    """
    path = record_file(loaded)
    try:
        return DeploymentRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(
            f"the record cannot be read: {str(error).splitlines()[0]}",
            location=str(path.relative_to(loaded.root)),
            hint="correct or remove it, and set deploy.endpoint",
        ) from None


def write_record(loaded: LoadedConfig, record: DeploymentRecord | None) -> None:
    """Write a variant's deployments; None removes the file."""
    if record:
        write_atomically(record_file(loaded), f"{record.model_dump_json(indent=2)}\n")
    else:
        record_file(loaded).unlink(missing_ok=True)


def find_image(
    loaded: LoadedConfig, record: DeploymentRecord | None, digest: str = ""
) -> DeployableImage:
    """Find the image to deploy.

    Args:
        loaded: config of the variant.
        record: its deployments so far.
        digest: of an image that was deployed or pushed before; empty for the last push.

    Raises:
        UserError: nothing was pushed with a passing report, or not that digest.
    """
    pushed = _read_push(loaded)
    images = [pushed] if pushed else []
    if digest:
        images += [each.image for each in (record.deployments if record else ())]
        images = [image for image in images if image.digest == digest]
    if images:
        return images[0]
    path = record_path(loaded.root, loaded.variant, candidate=False)
    message = f"{digest} was not pushed with a passing smoke report from here"
    raise UserError(
        message if digest else "nothing was pushed with a passing smoke report",
        location=str(path.relative_to(loaded.root)),
        hint=f"run: invoke push --variant {loaded.variant}",
        code="image-untested",
    )


def _read_push(loaded: LoadedConfig) -> DeployableImage | None:
    path = record_path(loaded.root, loaded.variant, candidate=False)
    try:
        record = PushRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if record.untested:  # of a version that could push all tags so
        return None
    first = record.references[0]
    reference = f"{first.reference.rpartition(':')[0]}@{first.digest}"
    return DeployableImage(reference=reference, size=record.size, archs=record.archs)
