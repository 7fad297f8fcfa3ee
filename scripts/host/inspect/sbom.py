"""Write an image's software bill of materials as CycloneDX JSON: same image, same bytes.

https://cyclonedx.org/docs/1.6/json/; package URLs as in https://github.com/package-url/purl-spec.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from scripts.host.build.image_labels import BASE_DIGEST_LABEL, BASE_NAME_LABEL
from scripts.host.config.lock import ResolvedSource
from scripts.host.inspect.packages import Package
from scripts.host.inspect.structure import Inspection

VERSION_LABEL: Final = "org.opencontainers.image.version"
EPOCH: Final = "1970-01-01T00:00:00"


def make_sbom(image: Inspection, sources: Iterable[ResolvedSource]) -> str:
    """Return the bill as JSON; serial number and time are the image's own, so it is reproducible.

    Args:
        image: what is installed in it.
        sources: git repositories; their commits may be in it.
    """
    repositories = {source.commit: source.repo for source in sources}
    # To the second: engines give up to nine digits of it, Python 3.10 reads six.
    created = datetime.fromisoformat(f"{(image.created or EPOCH)[:19]}+00:00")
    whole = Component(
        name="a1111-worker",
        version=image.labels.get(VERSION_LABEL, image.image_id),
        type=ComponentType.CONTAINER,
        bom_ref=image.image_id,
    )
    packages = [
        Component(
            name=package.name,
            version=package.version,
            purl=_purl(
                package,
                image.manifest.system,
                package.repository or repositories.get(package.version, ""),
            ),
            bom_ref=package.key,
        )
        for package in image.manifest.packages
    ]
    bom = Bom(
        serial_number=uuid5(NAMESPACE_URL, image.image_id),
        metadata=BomMetaData(component=whole, timestamp=created),
        components=[*packages, *_base(image.labels)],
    )
    bom.register_dependency(whole, bom.components)
    return f"{JsonV1Dot6(bom).output_as_string(indent=2)}\n"


def _purl(package: Package, system: str, repository: str) -> PackageURL:
    name, version = package.name, package.version
    if package.kind == "python":
        return PackageURL("pypi", None, name, version)
    if package.kind == "apt":
        qualifiers = {"arch": package.architecture, "distro": system.replace(" ", "-")}
        return PackageURL("deb", system.partition(" ")[0], name, version, qualifiers)
    path = repository.removeprefix("https://github.com/")
    if "://" in path:
        url = {"vcs_url": f"git+{path}@{version}"}
        return PackageURL("generic", None, name, version, url)
    owner, slash, project = path.removesuffix(".git").partition("/")
    if slash:
        return PackageURL("github", owner, project, version)
    return PackageURL("generic", None, name, version)


def _base(labels: Mapping[str, str]) -> list[Component]:
    """Return the base image, where the image's labels name it."""
    name, digest = labels.get(BASE_NAME_LABEL), labels.get(BASE_DIGEST_LABEL)
    if not name:
        return []
    repository, _, _ = name.partition("@")[0].rpartition(":")
    qualifiers = {"repository_url": repository}
    purl = PackageURL("oci", None, repository.rpartition("/")[2], digest, qualifiers)
    return [
        Component(
            name=name,
            version=digest,
            type=ComponentType.CONTAINER,
            purl=purl if digest else None,
            bom_ref=f"base:{name}",
        )
    ]
