"""Download one file and verify it in the same pass: its final name means a verified file.

The host's store and the worker's network volume use this one implementation of resuming, retrying
and checking.
"""

from __future__ import annotations

import hashlib
import random
import re
import shutil
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.body import write_body
from scripts.common.fetch.file_format import claims_safetensors, refuse_pickle
from scripts.common.fetch.hashing import git_blob_of, hash_open_file
from scripts.common.fetch.http import Response, open_url
from scripts.common.fetch.http_errors import RetryableError
from scripts.common.fetch.impostors import ANSWER, identify_answer
from scripts.common.fetch.partial import Origin, Partial, locked_partial
from scripts.common.fetch.spec import (
    ArtifactSpec,
    ProgressCallback,
    RetryPolicy,
    State,
    VerifiedFile,
    no_progress,
    redact_url,
)
from scripts.common.fetch.stamps import check_spec, verify_file, write_stamp


def fetch_verified(
    spec: ArtifactSpec,
    dest: Path,
    *,
    policy: RetryPolicy | None = None,
    token: str = "",
    on_progress: ProgressCallback = no_progress,
) -> VerifiedFile:
    """Download a file and verify it.

    A file already at `dest` is verified by its stamp, else by its bytes. A partial file of an
    interrupted run is resumed; processes that want the same file share one download.

    Args:
        spec: the file and its expected properties.
        dest: its final name.
        policy: retries, timeouts and certificates.
        token: bearer token for the URL's own host; empty for none.
        on_progress: called with the progress.

    Raises:
        UserError: the download failed; `dest` holds what it verifiably held before, or nothing.
    """
    started = time.monotonic()
    if dest.exists():
        return verify_file(spec, dest, on_progress=on_progress)
    waits: list[float] = []

    def on_wait() -> None:
        waits.append(time.monotonic())
        on_progress("waiting", 0, spec.size)

    with locked_partial(dest, on_wait) as partial:
        if dest.exists():
            partial.discard()
            found = verify_file(spec, dest, on_progress=on_progress)
            return VerifiedFile(dest, found.sha256, found.size, "waited" if waits else found.state)
        transfer = _Transfer(spec, partial, policy or RetryPolicy(), token, on_progress, spec.name)
        sha256 = transfer.run()
        seconds = time.monotonic() - (waits[-1] if waits else started)
        state: State = "resumed" if transfer.adopted else "fetched"
        return VerifiedFile(dest, sha256, transfer.length, state, transfer.received, seconds)


@dataclass
class _Transfer:
    """One download into a locked partial file, over as many connections as it takes."""

    spec: ArtifactSpec
    partial: Partial
    policy: RetryPolicy
    token: str
    on_progress: ProgressCallback
    name: str  # the suffix decides which structure is checked
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)  # of all bytes in the file
    length: int = 0  # number of these bytes
    adopted: bool = False  # whether bytes of an earlier run are among them
    joined: bool = False  # whether they came in several answers
    received: int = 0  # bytes transferred now

    def run(self) -> str:
        """Download, verify, rename and stamp the file; return its SHA-256."""
        self._adopt()
        while True:
            self._download()
            self.on_progress("verifying", self.length, self.length)
            try:
                form = self._verify()
            except UserError:
                if not (self.adopted or self.joined):
                    self.partial.discard()
                    raise
                # The earlier bytes may be the wrong ones: download the whole file once more.
                self._restart()
                self.on_progress("retrying", 0, self.spec.size, "resumed bytes did not fit")
                continue
            self.partial.finish(sha256 := self.digest.hexdigest())
            write_stamp(self.partial.dest, sha256, form, self.spec.kind)
            return sha256

    def _adopt(self) -> None:
        """Keep the bytes of an earlier run if they can be the beginning of this file."""
        have = self.partial.length
        if not have:
            return
        if not self._continues() or have > (self.spec.size or have):
            self._restart()
            return
        self.on_progress("verifying", 0, have)
        self.length = hash_open_file(
            self.digest, self.partial.fd, lambda done: self.on_progress("verifying", done, have)
        )
        self.adopted = True

    def _continues(self) -> bool:
        """Return whether the bytes in the file may be the beginning of this one."""
        origin = self.partial.origin
        if self.spec.sha256:
            return origin.sha256 == self.spec.sha256
        return bool(origin.validator) and origin.url == redact_url(self.spec.url)

    def _restart(self, validator: str = "") -> None:
        """Empty the file; record the validator of its future bytes."""
        self.partial.restart(Origin(redact_url(self.spec.url), validator, self.spec.sha256))
        self.digest, self.length = hashlib.sha256(), 0
        self.adopted = self.joined = False

    def _download(self) -> None:
        """Connect until the file is complete; count only attempts that bring no byte."""
        failed = 0
        while True:
            before = self.length
            try:
                return self._connect()
            except RetryableError as error:
                failed = 1 if self.length > before else failed + 1
                if failed >= self.policy.attempts:
                    raise self._gave_up(str(error), error.hint) from None
                self._pause(error, failed)

    def _pause(self, error: RetryableError, failed: int) -> None:
        """Wait before the next attempt: as long as the server asks, else longer each time."""
        longest = self.policy.max_pause
        if error.wait is not None and error.wait > longest:
            raise self._gave_up(f"{error}, asking to wait {error.wait:.0f} s", error.hint)
        backoff = min(self.policy.pause * 2.0 ** (failed - 1), longest)
        # What the server asks for is never cut short, but workers that ask together come apart.
        spread = (0.5, 1.5) if error.wait is None else (1.0, 1.1)
        seconds = (backoff if error.wait is None else error.wait) * random.uniform(*spread)  # noqa: S311 - jitter, not a secret
        detail = f"{error}; again in {seconds:.1f} s"
        self.on_progress("retrying", self.length, self.spec.size, detail)
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            self.on_progress("waiting", self.length, self.spec.size)

    def _gave_up(self, reason: str, hint: str) -> UserError:
        return UserError(
            f"{self.spec.name} could not be fetched: {reason}",
            location=redact_url(self.spec.url),
            hint=hint or f"run it again: {self.length} bytes are kept and resumed",
            code="download-broken",
        )

    def _connect(self) -> None:
        """Send one request and write its body to the end.

        Raises:
            RetryableError: the file is not complete, and another attempt may succeed.
        """
        if self.length and self._is_complete():
            return
        if self.length and not self._continues():
            self._restart()  # nothing would show whether the rest is of the same file
        self.on_progress("connecting", self.length, self.spec.size)
        url, headers = self.spec.url, self._request_headers()
        with closing(open_url(url, headers=headers, token=self.token, policy=self.policy)) as got:
            if got.status == 416 and got.headers.get("Content-Range") == f"bytes */{self.length}":
                return  # an earlier run was killed between the last byte and the new name
            total = self._position(got)
            self._refuse_page(got, total)
            self._check_name(got.file_name)
            self._check_size(total)
            self._check_disk(total)
            for count in write_body(got, self.partial.fd, self.length, self.digest, self.policy):
                self.length += count
                self.received += count
                self.on_progress("fetching", self.length, total)
                if self.length > (self.spec.size or self.length):
                    self._check_size(self.length)
        if total is not None and self.length < total:
            raise RetryableError(f"the connection ended after {self.length} of {total} bytes")

    def _is_complete(self) -> bool:
        """Return whether an earlier run, or another transfer, left nothing to download."""
        if self.spec.size is not None:
            return self.length == self.spec.size
        return bool(self.spec.sha256) and self.digest.hexdigest() == self.spec.sha256

    def _request_headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        if self.length:
            headers["Range"] = f"bytes={self.length}-"
            if validator := self.partial.origin.validator:
                headers["If-Range"] = validator
        return headers

    def _position(self, response: Response) -> int | None:
        """Fit the file to the body's first byte; return the whole file's length, if known."""
        content_range = response.headers.get("Content-Range", "")
        if response.status == 206:
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
            if match and int(match[1]) == self.length and self._is_same_file(response):
                self.joined = True
                return int(match[2]) if match[2] != "*" else None
        if response.status != 200:
            self._restart()
            answer = f"{response.status} {content_range}"
            raise RetryableError(f"the server answered {answer} to a resumed download")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise RetryableError("the server sent the file compressed though asked not to")
        self._restart(response.validator)
        length = response.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else None

    def _is_same_file(self, response: Response) -> bool:
        """Return whether the body continues the file: not every server heeds If-Range."""
        known = self.partial.origin.validator
        return bool(self.spec.sha256) or response.validator in ("", known)

    def _refuse_page(self, response: Response, total: int | None) -> None:
        """Refuse what is sent in place of the file before its size is judged."""
        if self.length or not (response.is_text or total != (self.spec.size or total)):
            return
        if found := identify_answer(response.peek(ANSWER), self.spec.name):
            self.partial.discard()
            at = redact_url(self.spec.url)
            raise UserError(f"{found}, not a model", location=at, code="not-a-model")

    def _check_name(self, name: str) -> None:
        """Apply the rules for names to the one that the server gives, before the body comes."""
        if claims_safetensors(name):
            self.name = name
        if not self.spec.allow_pickle:
            try:
                refuse_pickle(name, self.spec.kind)
            except UserError:
                self.partial.discard()
                raise

    def _check_size(self, total: int | None) -> None:
        if total is not None and total != (self.spec.size or total):
            self.partial.discard()
            raise self._wrong(f"the server sends {total} bytes, expected {self.spec.size}")

    def _check_disk(self, total: int | None) -> None:
        folder, missing = self.partial.path.parent, (total or self.length) - self.length
        if missing > (free := shutil.disk_usage(folder).free):
            raise UserError(
                f"the disk is too full: {missing} bytes to fetch, {free} free",
                location=str(folder),
                code="disk-full",
            )

    def _verify(self) -> str:
        """Check the complete partial file against all expected properties; return its form."""
        spec, digest = self.spec, self.digest.hexdigest()
        if self.length != (spec.size if spec.size is not None else self.length):
            raise self._wrong(f"{self.length} bytes, expected {spec.size}")
        if spec.sha256 and digest != spec.sha256:
            raise self._wrong(f"sha256 {digest[:16]}…, expected {spec.sha256[:16]}…")
        if spec.git_blob and git_blob_of(self.partial.path) != spec.git_blob:
            raise self._wrong(f"it is not git blob {spec.git_blob[:16]}…")
        return check_spec(self.partial.path, self.name, spec)

    def _wrong(self, how: str) -> UserError:
        return UserError(
            f"{self.spec.name} is not the expected file and was discarded: {how}",
            location=redact_url(self.spec.url),
            code="wrong-bytes",
        )
