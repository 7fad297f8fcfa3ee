"""Find in which file two images of the same build differ."""

from itertools import zip_longest
from typing import Final

import docker
from docker.models.images import Image

from scripts.host.engine.client import docker_errors
from scripts.host.engine.containers import container_output

_PYTHON: Final = "/opt/runpod/bin/python"
# One line for each file that the image has: path, then what a layer says of it, then its digest.
# The engine makes files in each container, which changes the time of the folders they are in.
_LISTING: Final = """
import hashlib, os, stat, sys
made = {"/", "/.dockerenv", "/dev", "/etc", "/etc/mtab"}
mounted = {line.split()[4] for line in open("/proc/self/mountinfo")}
for folder, folders, files in os.walk("/"):
    folders[:] = sorted(each for each in folders if os.path.join(folder, each) not in mounted)
    for name in [".", *sorted(files), *(each for each in folders if os.path.islink(each))]:
        path = os.path.normpath(os.path.join(folder, name))
        if path in mounted | made:
            continue
        state = os.lstat(path)
        shown = [stat.filemode(state.st_mode), state.st_uid, state.st_gid, state.st_size]
        if stat.S_ISDIR(state.st_mode):
            shown[-1] = 0
        digest = ""
        if stat.S_ISREG(state.st_mode):
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        elif stat.S_ISLNK(state.st_mode):
            digest = os.readlink(path)
        print(ascii(path), int(state.st_mtime), *shown, digest)
"""


def find_difference(client: docker.DockerClient, first: Image, second: Image) -> str:
    """Name the first file in which two images differ; empty when they are the same.

    Layers are compared by their digests. Only where they differ, all files of both images are read,
    in containers without a network.

    Raises:
        UserError: the files cannot be listed.
    """
    before, after = (image.attrs["RootFS"]["Layers"] for image in (first, second))
    if before == after:
        same = first.attrs["Config"] == second.attrs["Config"]
        return "" if same else "the configs of the images, not their layers"
    layer = next(
        number for number, (old, new) in enumerate(zip_longest(before, after)) if old != new
    )
    with docker_errors(second.id):
        old, new = (
            container_output(client, image.id, [_PYTHON, "-c", _LISTING], user="root").splitlines()
            for image in (first, second)
        )
    for line, other in zip_longest(old, new, fillvalue=""):
        if line != other:
            shown = min(filter(None, (line, other)))
            return (
                f"{shown.split()[0]} (layer {layer + 1}): {line or 'absent'} / {other or 'absent'}"
            )
    return f"layer {layer + 1}, but no file that a container sees"
