"""Fetches one file over HTTP and verifies it in the same pass; the final name is a verified file.

The host's store and the worker's network volume both use it, so there is one implementation of
resuming, retrying and checking.
"""

from __future__ import annotations

import hashlib
import random
import re
import shutil
import time
from contextlib import closing
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.artifact import (
    ArtifactSpec,
    ProgressCallback,
    State,
    VerifiedFile,
    existing,
    silent,
)
from scripts.common.fetch.body import pump
from scripts.common.fetch.file_format import (
    Form,
    check_structure,
    claims_safetensors,
    refuse_pickle_name,
)
from scripts.common.fetch.hashing import git_blob_of, update_from
from scripts.common.fetch.http import Retry, open_url
from scripts.common.fetch.local_file import Answer
from scripts.common.fetch.partial import Origin, Partial, locked_partial
from scripts.common.fetch.retry_policy import RetryPolicy, shown
from scripts.common.fetch.stamps import Stamp, write_stamp


def fetch_verified(
    wanted: ArtifactSpec,
    dest: Path,
    *,
    line: RetryPolicy | None = None,
    token: str = "",
    watch: ProgressCallback = silent,
) -> VerifiedFile:
    """Have a verified file at `dest`.

    A file already there is trusted by its stamp, or else verified. A partial file left by an
    interrupted run is resumed; two processes wanting the same file share one download.

    Args:
        wanted: the file.
        dest: its final name.
        line: patience and certificates.
        token: bearer token for the URL's own host.
        watch: told what is going on.

    Raises:
        UserError: and then `dest` holds nothing, or what it verifiably held before.
    """
    started = time.monotonic()
    if dest.exists():
        return existing(wanted, dest, watch=watch)
    waits: list[float] = []

    def waiting() -> None:
        waits.append(time.monotonic())
        watch("waiting", 0, wanted.size)

    with locked_partial(dest, waiting) as partial:
        if dest.exists():
            partial.discard()
            found = existing(wanted, dest, watch=watch)
            return VerifiedFile(dest, found.sha256, found.size, "waited" if waits else found.state)
        transfer = _Transfer(wanted, partial, line or RetryPolicy(), token, watch)
        stamp = transfer.run()
        seconds = time.monotonic() - (waits[-1] if waits else started)
        state: State = "resumed" if transfer.adopted else "fetched"
        write_stamp(dest, stamp)
        return VerifiedFile(dest, stamp.sha256, dest.stat().st_size, state, transfer.moved, seconds)


class _Transfer:
    """One download into a locked partial file, over as many connections as it takes."""

    def __init__(
        self,
        wanted: ArtifactSpec,
        partial: Partial,
        line: RetryPolicy,
        token: str,
        watch: ProgressCallback,
    ) -> None:
        self.wanted, self.partial, self.line = wanted, partial, line
        self.token, self.watch = token, watch
        self.name = wanted.name  # whose suffix says what it claims to be
        self.digest = hashlib.sha256()
        self.length = 0  # bytes in the file, all of them in the digest
        self.adopted = False  # whether bytes of an earlier run count
        self.moved = 0

    def run(self) -> Stamp:
        """Fetch, verify and rename; what was found."""
        self._adopt()
        while True:
            self._fetch_all()
            self.watch("verifying", self.length, self.length)
            try:
                form = self._verify()
            except UserError:
                again = self.adopted
                self._forget()
                if not again:
                    self.partial.discard()
                    raise
                # The bytes of the earlier run may be to blame: once more, all of it.
                self.watch("retrying", 0, self.wanted.size, "resumed bytes did not fit")
                continue
            digest = self.digest.hexdigest()
            self.partial.finish(digest)
            return Stamp(digest, form)

    def _adopt(self) -> None:
        """Take over what an earlier run left, if it can be part of what is wanted."""
        have, origin = self.partial.length, self.partial.origin
        if not have:
            return None
        if origin is None or not self._continues(origin) or have > (self.wanted.size or have):
            return self._forget()
        self.watch("verifying", 0, have)
        self.length = update_from(
            self.digest, self.partial.fd, lambda done: self.watch("verifying", done, have)
        )
        self.adopted = True
        return None

    def _continues(self, origin: Origin) -> bool:
        """Whether bytes from there may be the beginning of what is wanted."""
        if self.wanted.sha256:
            return origin.sha256 == self.wanted.sha256
        return bool(origin.validator) and origin.url == shown(self.wanted.url)

    def _forget(self) -> None:
        """Start from nothing."""
        self.partial.begin(Origin(shown(self.wanted.url), sha256=self.wanted.sha256))
        self.digest, self.length, self.adopted = hashlib.sha256(), 0, False

    def _fetch_all(self) -> None:
        """Connect until the file is complete; a try counts only if it brought nothing."""
        failed = 0
        while True:
            before = self.length
            try:
                return self._connect_once()
            except Retry as trouble:
                failed = 1 if self.length > before else failed + 1
                if failed >= self.line.attempts:
                    raise self._given_up(str(trouble)) from None
                self._pause(trouble, failed)

    def _pause(self, trouble: Retry, failed: int) -> None:
        """Wait before the next try: as long as the server says, else longer each time."""
        if trouble.wait is not None and trouble.wait > self.line.longest_pause:
            raise self._given_up(f"{trouble}, asking to wait {trouble.wait:.0f} s")
        backoff = min(self.line.pause * 2.0 ** (failed - 1), self.line.longest_pause)
        seconds = trouble.wait if trouble.wait is not None else backoff * random.uniform(0.5, 1.5)  # noqa: S311 - jitter, not a secret
        self.watch(
            "retrying", self.length, self.wanted.size, f"{trouble}; again in {seconds:.1f} s"
        )
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            self.watch("waiting", self.length, self.wanted.size)

    def _given_up(self, reason: str) -> UserError:
        return UserError(
            f"{self.wanted.name} could not be fetched: {reason}",
            location=shown(self.wanted.url),
            hint=f"run it again: {self.length} bytes are kept and resumed",
            code="download-broken",
        )

    def _connect_once(self) -> None:
        """One request, and its body to the end.

        Raises:
            Retry: the file is not complete, and another try may help.
        """
        if self.length and self._is_complete():
            return
        origin = self.partial.origin
        if self.length and not (origin and self._continues(origin)):
            self._forget()  # nothing would tell whether the rest is of the same file
        self.watch("connecting", self.length, self.wanted.size)
        url, token = self.wanted.url, self.token
        with closing(open_url(url, headers=self._headers(), token=token, line=self.line)) as answer:
            if answer.status == 416 and answer.headers["Content-Range"] == f"bytes */{self.length}":
                return  # an earlier run was killed between the last byte and the new name
            total = self._position(answer)
            self._judge_name(answer.headers.get_filename(""))
            self._refuse_wrong_size(total)
            self._refuse_full_disk(total)
            for count in pump(answer, self.partial.fd, self.length, self.digest, self.line):
                self.length += count
                self.moved += count
                self.watch("fetching", self.length, total)
                if self.length > (self.wanted.size or self.length):
                    self._refuse_wrong_size(self.length)
        if total is not None and self.length < total:
            raise Retry(f"the connection ended after {self.length} of {total} bytes")

    def _is_complete(self) -> bool:
        """Whether an earlier run, or another transfer, left nothing to fetch."""
        if self.wanted.size is not None:
            return self.length == self.wanted.size
        return bool(self.wanted.sha256) and self.digest.hexdigest() == self.wanted.sha256

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        if self.length:
            headers["Range"] = f"bytes={self.length}-"
            origin = self.partial.origin
            if origin and origin.validator:
                headers["If-Range"] = origin.validator
        return headers

    def _position(self, answer: Answer) -> int | None:
        """Make the file fit the answer's first byte; the whole file's length where it is said."""
        answered = answer.headers.get("Content-Range", "")
        if answer.status == 206:
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answered)
            if match and int(match[1]) == self.length and self._is_same_file(answer):
                return int(match[2]) if match[2] != "*" else None
        if answer.status != 200:
            self._forget()
            raise Retry(f"the server answered {answer.status} {answered} to a resumed download")
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise Retry("the server sent the file compressed though asked not to")
        self._forget()
        self.partial.begin(Origin(shown(self.wanted.url), _validator(answer), self.wanted.sha256))
        said = answer.headers.get("Content-Length", "")
        return int(said) if said.isdigit() else None

    def _is_same_file(self, answer: Answer) -> bool:
        """Whether what is sent continues what is there: not every server heeds If-Range."""
        origin, now = self.partial.origin, _validator(answer)
        return bool(self.wanted.sha256) or now in ("", origin.validator if origin else "")

    def _judge_name(self, name: str) -> None:
        """Hold the server to the name that Content-Disposition gives, before the body comes."""
        if claims_safetensors(name):
            self.name = name
        if not self.wanted.allow_pickle:
            try:
                refuse_pickle_name(name)
            except UserError:
                self.partial.discard()
                raise

    def _refuse_wrong_size(self, total: int | None) -> None:
        if total is not None and total != (self.wanted.size or total):
            self.partial.discard()
            raise self._wrong(f"the server sends {total} bytes, expected {self.wanted.size}")

    def _refuse_full_disk(self, total: int | None) -> None:
        free = shutil.disk_usage(self.partial.path.parent).free
        missing = (total or self.length) - self.length
        if missing > free:
            raise UserError(
                f"the disk is too full: {missing} bytes to fetch, {free} free",
                location=str(self.partial.path.parent),
                code="disk-full",
            )

    def _verify(self) -> Form:
        """Hold the complete partial file to everything that is known."""
        wanted, digest = self.wanted, self.digest.hexdigest()
        if self.length != (wanted.size if wanted.size is not None else self.length):
            raise self._wrong(f"{self.length} bytes, expected {wanted.size}")
        if wanted.sha256 and digest != wanted.sha256:
            raise self._wrong(f"sha256 {digest[:16]}…, expected {wanted.sha256[:16]}…")
        if wanted.git_blob and git_blob_of(self.partial.path) != wanted.git_blob:
            raise self._wrong(f"it is not git blob {wanted.git_blob[:16]}…")
        return check_structure(self.partial.path, self.name, allow_pickle=wanted.allow_pickle)

    def _wrong(self, how: str) -> UserError:
        return UserError(
            f"{self.wanted.name} is not the expected file and was discarded: {how}",
            location=shown(self.wanted.url),
            code="wrong-bytes",
        )


def _validator(answer: Answer) -> str:
    """What If-Range may compare: a strong ETag, or else a date (RFC 9110, section 13.1.5)."""
    etag = str(answer.headers.get("ETag", ""))
    if etag and not etag.startswith("W/"):
        return etag
    return "" if etag else str(answer.headers.get("Last-Modified", ""))
