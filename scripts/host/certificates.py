"""Says whom programs trust that take a file of certificates instead of their own: git, pip, uv."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.host.config.load import LoadedConfig

FILE = "ca_bundle"


@contextmanager
def certificate_context(loaded: LoadedConfig) -> Iterator[Path | None]:
    """A folder with one file, the named context `certificates`; None where the config names none.

    The file holds the public authorities too: `mirrors.ca_bundle` may have been named for one
    mirror, and the other sources be the public ones. They are those that `requests` ships, not this
    machine's, so that every machine with the same lock gives the build the same bytes.
    """
    bundle = loaded.ca_bundle
    if bundle is None:
        yield None
        return
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    with tempfile.TemporaryDirectory(prefix="certificates-") as folder:
        public = Path(DEFAULT_CA_BUNDLE_PATH).read_bytes()
        Path(folder, FILE).write_bytes(public.rstrip() + b"\n" + bundle.read_bytes())
        yield Path(folder)
