"""Pushes a tested image: immutable tags first, each digest checked against the registry."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict

from scripts.common.checks.report import SmokeReport
from scripts.common.diagnostics.error import UserError
from scripts.common.files import write_atomically
from scripts.host.build.inputs import resolve
from scripts.host.config.load import LoadedConfig
from scripts.host.console import note, warn
from scripts.host.engine.client import client as connect
from scripts.host.engine.client import docker_errors, explanation, image_of
from scripts.host.registry import client
from scripts.host.registry.upload_progress import Uploads, showing

if TYPE_CHECKING:
    import docker

T = TypeVar("T")

# Seconds before each further try. The engine itself tries a broken layer for about 50 s more.
PAUSES = (1.0, 4.0, 15.0)


class PushedReference(BaseModel):
    """A reference and the digest that the registry has under it; whether it was there before."""

    model_config = ConfigDict(frozen=True)

    reference: str
    digest: str
    was_there: bool


class PushRecord(BaseModel):
    """What `reports/push-VARIANT.json` holds: the last push that went all the way."""

    model_config = ConfigDict(frozen=True)

    image_id: str
    variant: str
    untested: bool
    references: tuple[PushedReference, ...]


@dataclass(frozen=True)
class Names:
    """The references of one image: those that never move, and those pushed after them."""

    immutable: tuple[str, ...]
    moving: tuple[str, ...]


def names_of(loaded: LoadedConfig, further: Sequence[str] = ()) -> Names:
    """The references to push: those of the config, then `further` ones, which may move."""
    inputs = resolve(loaded)
    return Names(inputs.tags, inputs.moving_tags + tuple(further))


def push(
    loaded: LoadedConfig,
    further: Sequence[str] = (),
    *,
    untested: bool = False,
    plain: bool = False,
    pauses: Sequence[float] = PAUSES,
) -> PushRecord:
    """Push the image that was built from this checkout, and record what the registry has.

    Args:
        loaded: the config.
        further: whole references besides those of the config; they may move.
        untested: push without a passing smoke report; the record says so.
        plain: show progress as lines, on a terminal too.
        pauses: seconds before each further try of what a retry can fix.

    Raises:
        UserError: no such image, not tested, an immutable tag is taken, the registry refuses or
            stays away, or it has another digest than the one sent.
    """
    names = names_of(loaded, further)
    client = connect()
    image = image_of(client, names.immutable[0], loaded.variant)
    doubt = doubt_about(loaded, image.id)
    if doubt is not None:
        if not untested:
            raise doubt
        warn(f"pushing all the same: {doubt.message}")
    way = _Way(client, image, tuple(pauses), plain)
    there = {name: way.digest_there(name) for name in names.immutable}
    for name in (*names.immutable, *names.moving):
        _tag(image, name)
    pushed = [way.bring(name, there.get(name)) for name in (*names.immutable, *names.moving)]
    record = PushRecord(
        image_id=image.id,
        variant=loaded.variant,
        untested=doubt is not None,
        references=tuple(pushed),
    )
    path = loaded.root / "reports" / f"push-{loaded.variant}.json"
    write_atomically(path, f"{record.model_dump_json(indent=2)}\n")
    return record


def doubt_about(loaded: LoadedConfig, image_id: str) -> UserError | None:
    """Why this image does not count as tested; None when its smoke test passed.

    An image that draws on a GPU counts only when it drew: what can be seen of it without one, and
    passes, says nothing of its kernels.
    """
    path = loaded.root / "reports" / f"smoke-{loaded.variant}.json"
    on_gpu = loaded.config.build.accelerator == "cuda"
    what = ""
    try:
        smoked = SmokeReport.model_validate_json(path.read_text(encoding="utf-8"))
        if smoked.image_id != image_id:
            what = "the smoke report is about another image"
        elif smoked.count("failed"):
            what = "the smoke test of this image failed"
        elif not smoked.passed:
            what = "only a part of the smoke test ran on this image"
        elif on_gpu and not smoked.drew:
            what = "the smoke test of this image drew no picture: it ran without a GPU"
    except FileNotFoundError:
        what = "this image has no smoke report"
    except (OSError, ValueError):
        what = "the smoke report cannot be read"
    session = "gpu_smoke" if on_gpu else "smoke"
    hint = f"run: nox -s {session} -- --variant {loaded.variant}; or take the risk with --untested"
    where = str(path.relative_to(loaded.root))
    return UserError(what, location=where, code="image-untested", hint=hint) if what else None


def _tag(image: Any, reference: str) -> None:  # noqa: ANN401 - the SDK is untyped
    """Let a reference mean this image, whatever it meant before."""
    from docker.utils import parse_repository_tag

    with docker_errors(
        reference,
        message="no name for an image",
        hint="check image.repository, image.tags and --tag",
    ):
        image.tag(*parse_repository_tag(reference))


@dataclass(frozen=True)
class _Way:
    """The way of one image to its registry.

    Args:
        client: the engine.
        image: the SDK's image.
        pauses: seconds before each further try.
        plain: show progress as lines, on a terminal too.
    """

    client: docker.DockerClient
    image: Any
    pauses: tuple[float, ...]
    plain: bool

    def digest_there(self, reference: str) -> str | None:
        """The digest under an immutable reference if it is this image; None when it is free.

        Raises:
            UserError: it is another image.
        """
        try:
            found = self._patiently(partial(client.digest, self.client, reference), reference)
        except UserError as failure:
            # A registry may refuse to show what does not exist yet; the push itself will tell.
            if failure.code == "registry-refused":
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
        at = f"{reference.rpartition(':')[0]}@{found}"
        return found in known | {self.image.id} or client.config_digest(at) == self.image.id

    def bring(self, reference: str, there: str | None) -> PushedReference:
        """Push under one reference unless it is `there`, and see what the registry has then."""
        if there:
            note(f"{reference} is there already")
            return PushedReference(reference=reference, digest=there, was_there=True)
        note(f"pushing {reference}")
        sent = self._patiently(partial(self._send, reference), reference)
        held = self._patiently(partial(client.digest, self.client, reference), reference)
        if held != sent:
            raise UserError(
                f"the registry has {held or 'nothing'}, not the {sent} that was sent",
                location=reference,
                hint="see who else pushes there, then run `invoke push` again",
            )
        return PushedReference(reference=reference, digest=sent, was_there=False)

    def _send(self, reference: str) -> str:
        """Push once and return the digest that the engine sent."""
        import docker

        uploads = Uploads()
        with docker_errors(reference):
            try:
                with showing(uploads, plain=self.plain) as shown:
                    for event in self.client.api.push(reference, stream=True, decode=True):
                        if "error" in event:
                            raise client.trouble(event["error"], reference)
                        uploads.feed(event)
                        shown()
            except docker.errors.APIError as error:
                raise client.trouble(explanation(error), reference) from None
            except docker.errors.DockerException as error:
                raise client.unusable_credentials(error, reference) from None
        note(f"  {uploads.line}")
        return uploads.digest

    def _patiently(self, action: Callable[[], T], reference: str) -> T:
        """Do something, again after each pause while another try may fix it."""
        for pause in self.pauses:
            try:
                return action()
            except client.Lost as trouble:
                warn(f"{trouble} - next try in {pause:.0f} s")
                time.sleep(pause)
        try:
            return action()
        except client.Lost as trouble:
            raise UserError(
                f"the registry cannot be reached: {trouble}",
                location=reference,
                code="registry-lost",
                hint="once it answers, run `invoke push` again: layers that are up stay up",
            ) from None
