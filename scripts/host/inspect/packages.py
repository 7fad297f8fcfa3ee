"""List what is installed in an image by its own tools: packages, git commits, folders."""

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import docker

from scripts.common.extensions.extension_manifest import parse_extensions
from scripts.common.records import Record
from scripts.host.engine.client import docker_errors
from scripts.host.engine.containers import container_output

# du counts 1 kB blocks that are on the disk, or files; -x stays in the image. Tools that an image
# does not have are left out, so that any image can be inspected.
_SCRIPT: Final = """
exec 2>/dev/null
echo == system; (. /etc/os-release; echo "$ID $VERSION_ID")
echo == apt; dpkg-query -W -f '${Package} ${Version} ${Architecture}\\n'
for file in /var/lib/dpkg/status.d/*; do
    sed -n 's/^\\(Package\\|Version\\|Architecture\\): //p' "$file" | paste -sd ' '
done
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
echo == extensions; cat /opt/extensions/extensions.json
echo == folders; du -xk -d 2 / | sort -rn | head -20
echo == sizes; du -xk -d 1 /
echo == files; du -x --inodes -d 1 / || true
"""


class Package(Record):
    """An installed package.

    Args:
        kind: what manages it.
        name: as that knows it; of a git source its folder.
        version: of a git source its commit.
        place: the Python environment it is in; `extension` of one, and of its submodules.
        architecture: of a Debian package.
        repository: address of an extension's repository.
    """

    kind: Literal["apt", "git", "python"]
    name: str
    version: str
    place: str = ""
    architecture: str = ""
    repository: str = ""

    @property
    def key(self) -> str:
        """A name that no other package of the image has."""
        return ":".join(filter(None, (self.kind, self.place, self.name)))


class Manifest(Record):
    """Packages and folders of an image; sizes in bytes.

    Args:
        system: ID and version of the distribution, as in /etc/os-release.
        packages: by kind, place and name.
        folders: sizes of the largest, two levels deep.
        sizes: of each folder directly below /, and of / itself.
        files: number of files and folders in each of them.
    """

    system: str
    packages: tuple[Package, ...]
    folders: dict[str, int]
    sizes: dict[str, int]
    files: dict[str, int]

    def versions(self) -> dict[str, str]:
        """Return each package's version, by its key."""
        return {package.key: package.version for package in self.packages}


def read_manifest(client: docker.DockerClient, image_id: str) -> Manifest:
    """List in a container without a network what is installed in an image.

    Raises:
        UserError: the image has no shell.
    """
    with docker_errors(image_id, message="the image's packages cannot be listed"):
        return parse_manifest(
            container_output(client, image_id, ["sh", "-c", _SCRIPT], user="root")
        )


def parse_manifest(text: str) -> Manifest:
    """Parse the script's output; of a package listed twice, the first is the one imported."""
    sections: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("== "):
            sections[line[3:]] = rows = []
        else:
            rows.append(line)
    packages: dict[str, Package] = {}
    for heading, lines in sections.items():
        for package in _packages(heading, lines):
            packages.setdefault(package.key, package)
    for package in _extensions("\n".join(sections.get("extensions", ()))):
        packages[package.key] = package
    return Manifest(
        system=" ".join(sections["system"]),
        packages=tuple(sorted(packages.values(), key=lambda package: package.key)),
        folders=_by_folder(sections["folders"], 1024),
        sizes=_by_folder(sections["sizes"], 1024),
        files=_by_folder(sections["files"], 1),
    )


def _packages(heading: str, lines: Sequence[str]) -> Iterator[Package]:
    kind, _, place = heading.partition(" ")
    for fields in (line.split() for line in lines):
        if kind == "apt" and len(fields) == 3:
            yield Package(kind="apt", name=fields[0], version=fields[1], architecture=fields[2])
        elif kind == "python" and len(fields) == 2:
            yield Package(kind="python", name=fields[0], version=fields[1], place=place)
        elif kind == "git" and len(fields) == 2:
            yield Package(kind="git", name=fields[0], version=fields[1])


def _extensions(manifest: str) -> Iterator[Package]:
    """Yield the extensions of an image's manifest, which is empty without any, and submodules."""
    for each in parse_extensions(manifest or "[]"):
        place, repo = "extension", each.repo
        yield Package(kind="git", name=each.name, version=each.commit, place=place, repository=repo)
        for path, commit in each.submodules.items():
            yield Package(kind="git", name=f"{each.name}/{path}", version=commit, place=place)


def _by_folder(lines: Sequence[str], unit: int) -> dict[str, int]:
    rows = (line.split("\t", 1) for line in lines)
    return {row[1]: int(row[0]) * unit for row in rows}
