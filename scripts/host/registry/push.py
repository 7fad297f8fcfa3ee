"""Push a tested image: immutable tags first, each digest compared with the registry's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import docker
import tenacity
from docker.models.images import Image

from scripts.common.diagnostics.error import UserError
from scripts.common.files import write_atomically
from scripts.common.records import Record
from scripts.host.build.image_labels import BUILD_ID_LABEL
from scripts.host.build.inputs import BuildInputs, check_reference
from scripts.host.console import note, warn
from scripts.host.engine.client import client, docker_errors, get_image, probe
from scripts.host.registry.refusals import LOST, REFUSED
from scripts.host.registry.registry_api import classify, read_digest, read_image_id
from scripts.host.registry.tested_image import check_tested, read_report
from scripts.host.registry.upload_progress import UploadProgress, show_uploads

# Seconds before each further attempt. The engine itself retries a broken layer for about 50 s.
PAUSES = (1.0, 4.0, 15.0)


class PushedReference(Record):
    """One pushed reference.

    Args:
        reference: repository and tag.
        digest: of its manifest, read back from the registry.
        was_there: True if the registry had it before the push.
    """

    reference: str
    digest: str
    was_there: bool


class PushRecord(Record):
    """Content of `reports/push-VARIANT.json`, the last complete push, or `candidate-VARIANT.json`.

    Args:
        image_id: ID of the image.
        build_id: ID of its build; empty without `invoke build`.
        variant: name of the variant.
        untested: True if it was pushed as a candidate, which needs no smoke report.
        references: in the order they were pushed.
        size: bytes of the unpacked image.
        archs: what its torch has code for, by its smoke report; empty without one.
    """

    image_id: str
    build_id: str = ""
    variant: str
    untested: bool
    references: tuple[PushedReference, ...]
    size: int = 0
    archs: tuple[str, ...] = ()


def push(
    inputs: BuildInputs,
    further: Sequence[str] = (),
    *,
    candidate: bool = False,
    plain: bool = False,
    pauses: Sequence[float] = PAUSES,
) -> PushRecord:
    """Push the image that was built from this checkout, and record what the registry has.

    Args:
        inputs: of the build.
        further: whole references besides those of the config; they may move.
        candidate: push the first immutable tag only, which needs no smoke report.
        plain: show progress as lines, on a terminal too.
        pauses: seconds before each further attempt after a transient error.

    Raises:
        UserError: further references of a candidate, no such image, not tested, an immutable tag
            is taken, the registry refuses or does not answer, its digest is not the one sent, or is
            that of another image.
    """
    if candidate and further:
        raise UserError(
            "a candidate has one immutable tag", location="--tag", hint="leave out --tag"
        )
    engine = client()
    image = get_image(engine, inputs.tags[0], inputs.variant)
    untested = None if candidate else check_tested(inputs, image.id)
    if untested:
        raise untested
    immutable = inputs.tags[:1] if candidate else inputs.tags
    references = immutable if candidate else (*inputs.references, *map(check_reference, further))
    if not probe().containerd_store:
        note(
            "Docker's own image store compresses each layer with gzip while it is pushed, whatever"
            " push.compression is; containerd's is faster: docs/how-to/push.md"
        )
    pusher = _Pusher(engine, image, _retrying(pauses), plain)
    present = {reference: pusher.find(reference) for reference in immutable}
    for reference in references:
        with docker_errors(
            reference,
            message="the image cannot be tagged",
            hint="check image.repository, image.tags and --tag",
        ):
            image.tag(*docker.utils.parse_repository_tag(reference))
    pushed = [pusher.push(reference, present.get(reference)) for reference in references]
    record = PushRecord(
        image_id=image.id,
        build_id=image.labels.get(BUILD_ID_LABEL) or "",
        variant=inputs.variant,
        untested=candidate,
        references=tuple(pushed),
        # Not the image's own `Size`, which containerd's store gives compressed.
        size=sum(layer["Size"] for layer in image.history()),
        archs=() if candidate else read_report(inputs).archs,
    )
    path = record_path(inputs.root, inputs.variant, candidate=candidate)
    write_atomically(path, f"{record.model_dump_json(indent=2)}\n")
    return record


def record_path(root: Path, variant: str, *, candidate: bool) -> Path:
    """Return the file that records a variant's last push."""
    return root / "reports" / f"{'candidate' if candidate else 'push'}-{variant}.json"


def require_image(image_id: str, reference: str, digest: str) -> None:
    """Compare what a registry has with the image that was tested, whatever compresses its layers.

    Args:
        image_id: of the tested image: the digest of its config, or of its manifest where containerd
            keeps the images.
        reference: that was pushed.
        digest: of the manifest that the registry has under it.

    Raises:
        UserError: it is another image.
    """
    if digest == image_id:
        return
    found = read_image_id(_by_digest(reference, digest))
    if found is None:
        warn(f"{reference}: buildx cannot read its manifest, to compare it with the tested image")
    elif found != image_id:
        raise UserError(
            f"the registry has the image {found}, not the tested {image_id}",
            location=reference,
            hint="do not deploy it; build, test and push again",
        )


def _by_digest(reference: str, digest: str) -> str:
    return f"{reference.rpartition(':')[0]}@{digest}"


@dataclass(frozen=True)
class _Pusher:
    """Pushes one image.

    Args:
        client: the engine.
        image: the SDK's image.
        retry: calls a function, again while the registry is lost.
        plain: show progress as lines, on a terminal too.
    """

    client: docker.DockerClient
    image: Image
    retry: tenacity.Retrying
    plain: bool

    def find(self, reference: str) -> str | None:
        """Return the digest under an immutable reference if it is this image; None if it is free.

        Raises:
            UserError: it is another image.
        """
        try:
            found = self.retry(read_digest, self.client, reference)
        except UserError as error:
            # A registry may refuse to show what does not exist yet; the push itself will tell.
            if error.code == REFUSED:
                return None
            raise
        if found is None or self._is_this_image(reference, found):
            return found
        raise UserError(
            f"the tag is taken by another image: {found}",
            location=reference,
            hint="an immutable tag is never moved: commit, build and push under the new revision",
        )

    def _is_this_image(self, reference: str, found: str) -> bool:
        known = {digest.rpartition("@")[2] for digest in self.image.attrs.get("RepoDigests") or []}
        at = _by_digest(reference, found)
        return found in known | {self.image.id} or read_image_id(at) == self.image.id

    def push(self, reference: str, present: str | None) -> PushedReference:
        """Push under one reference, unless it is `present`, and compare the registry's digest."""
        if present:
            note(f"{reference} is there already")
            return PushedReference(reference=reference, digest=present, was_there=True)
        note(f"pushing {reference}")
        sent = self.retry(self._send, reference)
        held = self.retry(read_digest, self.client, reference)
        if held != sent:
            raise UserError(
                f"the registry has {held or 'nothing'}, not the {sent} that was sent",
                location=reference,
                hint="find out who else pushes there, then run `invoke push` again",
            )
        require_image(self.image.id, reference, sent)
        return PushedReference(reference=reference, digest=sent, was_there=False)

    def _send(self, reference: str) -> str:
        """Push once and return the digest that the engine sent."""
        # A login that was renewed meanwhile, by another program or step, counts from now on.
        self.client.api.reload_config()
        progress = UploadProgress()
        with docker_errors(reference), show_uploads(progress, plain=self.plain) as update:
            try:
                for event in self.client.api.push(reference, stream=True, decode=True):
                    if "error" in event:
                        raise self._explain(str(event["error"]), reference, progress)
                    progress.add(event)
                    update()
            except docker.errors.DockerException as error:
                raise self._explain(error, reference, progress) from None
        note(f"  {progress.line}")
        return progress.digest

    def _explain(
        self, error: Exception | str, reference: str, progress: UploadProgress
    ) -> UserError:
        """Classify an error; a refusal after bytes were taken is that of a token that expired.

        The next attempt gets a new token, and sends no layer again that is there.
        """
        found = classify(error, reference)
        if found.code == REFUSED and progress.has_sent:
            message = f"the registry's token expired during the push: {found.message}"
            return UserError(message, location=reference, hint=found.hint, code=LOST)
        return found


def _retrying(pauses: Sequence[float]) -> tenacity.Retrying:
    """Return what calls a function again after each pause while the registry is lost."""

    def announce(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        warn(f"{getattr(error, 'message', error)} - next try in {state.upcoming_sleep:.0f} s")

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: getattr(error, "code", "") == LOST),
        wait=tenacity.wait_chain(*map(tenacity.wait_fixed, pauses)),
        stop=tenacity.stop_after_attempt(len(pauses) + 1),
        before_sleep=announce,
        reraise=True,
    )
