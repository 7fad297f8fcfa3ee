"""Provide the certificates for programs that take one file of them: git, pip, uv."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE = "ca_bundle"


@contextmanager
def certificate_context(bundle: Path | None) -> Iterator[Path | None]:
    """Make a folder with one file of certificates, the named build context `certificates`.

    The file also holds the public authorities, because only some sources may be mirrored: those
    that `requests` ships, not this machine's, so that every machine builds the same bytes.

    Args:
        bundle: file of `mirrors.ca_bundle`; None yields None.
    """
    if bundle is None:
        yield None
        return
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    with tempfile.TemporaryDirectory(prefix="certificates-") as folder:
        public = Path(DEFAULT_CA_BUNDLE_PATH).read_bytes()
        Path(folder, FILE).write_bytes(public.rstrip() + b"\n" + bundle.read_bytes())
        yield Path(folder)
