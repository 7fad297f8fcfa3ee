"""The `docker build` command line of the same image, without this project's host side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from scripts.host.build.inputs import resolve
from scripts.host.certificates import FILE, certificate_context
from scripts.host.config.load import LoadedConfig


@contextmanager
def plain_build_command(loaded: LoadedConfig, tag: str) -> Iterator[list[str]]:
    """Give a `docker build` command with nothing but build arguments and the CA bundle.

    Args:
        loaded: the config to build.
        tag: name of the image.
    """
    inputs = resolve(loaded)
    with certificate_context(loaded.ca_bundle) as certificates:
        trusted = [
            f"--build-context=certificates={certificates}",
            f"--secret=id=ca_bundle,src={certificates}/{FILE}",
        ]
        yield [
            *("docker", "build", "--load", f"--network={inputs.config.build.network}"),
            *(f"--build-arg={name}={value}" for name, value in inputs.arguments.items()),
            *(trusted if certificates else []),
            f"--tag={tag}",
            str(inputs.root),
        ]
