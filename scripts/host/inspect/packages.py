"""What is installed in an image, told by the image's own tools: packages, git commits, folders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from scripts.host.engine.client import docker_errors
from scripts.host.engine.containers import container_output

if TYPE_CHECKING:
    import docker

# du counts 1 kB blocks that are on the disk, or files; -x stays in the image. What is not there is
# left out, so that an image of another make can be looked into as well.
_QUESTIONS = """
exec 2>/dev/null
echo == system; (. /etc/os-release; echo "$ID $VERSION_ID")
echo == apt; dpkg-query -W -f '${Package} ${Version} ${Architecture}\\n'
for place in webui runpod; do
    echo "== python $place"
    /opt/$place/bin/python -c 'import importlib.metadata as m
for d in m.distributions(): print(d.name, d.version)'
done
echo == git
webui=/stable-diffusion-webui
for file in $webui/.commit $webui/repositories/*/.commit /opt/webui/src/*/.commit; do
    if [ -f "$file" ]; then echo "$(basename "$(dirname "$file")") $(cat "$file")"; fi
done
echo == folders; du -xk --max-depth=2 / | sort -rn | head -20
echo == sizes; du -xk --max-depth=1 /
echo == files; du -x --inodes --max-depth=1 /
"""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Package(_Record):
    """One thing that is installed.

    Args:
        kind: what manages it.
        name: as that knows it; of a git source its folder.
        version: of a git source its commit.
        place: the Python environment it is in.
        architecture: of a Debian package.
    """

    kind: Literal["apt", "git", "python"]
    name: str
    version: str
    place: str = ""
    architecture: str = ""

    @property
    def key(self) -> str:
        """A name that no other package of the image has."""
        return ":".join(filter(None, (self.kind, self.place, self.name)))


class Manifest(_Record):
    """What an image holds; the largest folders, and top folders by size and files, in bytes.

    Args:
        system: ID and version of the distribution, as in /etc/os-release.
        packages: by kind, place and name.
        folders: the largest, two levels deep.
        sizes: bytes of each folder directly below /, and of / itself.
        files: files and folders in each of them.
    """

    system: str
    packages: tuple[Package, ...]
    folders: dict[str, int]
    sizes: dict[str, int]
    files: dict[str, int]

    def versions(self) -> dict[str, str]:
        """Each package's version, by its key."""
        return {package.key: package.version for package in self.packages}

    def counts(self) -> dict[str, int]:
        """How many packages there are of each kind."""
        kinds = [package.kind for package in self.packages]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def manifest(client: docker.DockerClient, image_id: str) -> Manifest:
    """Ask an image, in a container without a network, what is installed in it.

    Raises:
        UserError: the image has no shell to ask.
    """
    with docker_errors(image_id, message="the image's packages cannot be listed"):
        return parsed(container_output(client, image_id, ["sh", "-c", _QUESTIONS], user="root"))


def parsed(text: str) -> Manifest:
    """The manifest that the answers make; of a package told twice, the first is imported."""
    answers: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("== "):
            answers[line[3:]] = rows = []
        else:
            rows.append(line)
    found: dict[str, Package] = {}
    for heading, lines in answers.items():
        for package in _packages(heading, lines):
            found.setdefault(package.key, package)
    return Manifest(
        system=" ".join(answers["system"]),
        packages=tuple(sorted(found.values(), key=lambda package: package.key)),
        folders=_by_folder(answers["folders"], 1024),
        sizes=_by_folder(answers["sizes"], 1024),
        files=_by_folder(answers["files"], 1),
    )


def _packages(heading: str, lines: list[str]) -> Iterator[Package]:
    kind, _, place = heading.partition(" ")
    for words in (line.split() for line in lines):
        if kind == "apt" and len(words) == 3:
            yield Package(kind="apt", name=words[0], version=words[1], architecture=words[2])
        elif kind == "python" and len(words) == 2:
            yield Package(kind="python", name=words[0], version=words[1], place=place)
        elif kind == "git" and len(words) == 2:
            yield Package(kind="git", name=words[0], version=words[1])


def _by_folder(lines: list[str], unit: int) -> dict[str, int]:
    rows = (line.split("\t", 1) for line in lines)
    return {row[1]: int(row[0]) * unit for row in rows}
