"""The software bill of materials of an image, as CycloneDX JSON: same image, same bytes.

https://cyclonedx.org/docs/1.6/json/; package URLs as in https://github.com/package-url/purl-spec.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import NAMESPACE_URL, uuid5

from scripts.host.build.inputs import BASE_DIGEST_LABEL, BASE_NAME_LABEL
from scripts.host.inspect.image import Inspection
from scripts.host.inspect.packages import Package

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from packageurl import PackageURL

VERSION: Final = "org.opencontainers.image.version"
EPOCH: Final = "1970-01-01T00:00:00"


def sbom(image: Inspection, repositories: Mapping[str, str]) -> str:
    """The bill as JSON; its serial number and time are the image's own, so it is reproducible.

    Args:
        image: what was found in it.
        repositories: owner/name, or the URL, of known git commits.
    """
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    # To the second: engines tell up to nine digits of it, Python 3.10 reads six.
    made = datetime.fromisoformat(f"{(image.created or EPOCH)[:19]}+00:00")
    whole = Component(
        name="a1111-worker",
        version=image.labels.get(VERSION, image.image_id),
        type=ComponentType.CONTAINER,
        bom_ref=image.image_id,
    )
    parts = [
        _component(package, _purl(package, image.manifest.system, repositories))
        for package in image.manifest.packages
    ]
    bom = Bom(
        serial_number=uuid5(NAMESPACE_URL, image.image_id),
        metadata=BomMetaData(component=whole, timestamp=made),
        components=[*parts, *_base(image.labels)],
    )
    bom.register_dependency(whole, bom.components)
    return f"{JsonV1Dot6(bom).output_as_string(indent=2)}\n"


def _component(package: Package, purl: PackageURL) -> Component:
    from cyclonedx.model.component import Component

    return Component(name=package.name, version=package.version, purl=purl, bom_ref=package.key)


def _purl(package: Package, system: str, repositories: Mapping[str, str]) -> PackageURL:
    from packageurl import PackageURL

    name, version = package.name, package.version
    if package.kind == "python":
        return PackageURL("pypi", None, name, version)
    if package.kind == "apt":
        qualifiers = {"arch": package.architecture, "distro": system.replace(" ", "-")}
        return PackageURL("deb", system.partition(" ")[0], name, version, qualifiers)
    repository = repositories.get(version, "").removeprefix("https://github.com/")
    if "://" in repository:
        return PackageURL(
            "generic", None, name, version, {"vcs_url": f"git+{repository}@{version}"}
        )
    owner, slash, project = repository.removesuffix(".git").partition("/")
    if slash:
        return PackageURL("github", owner, project, version)
    return PackageURL("generic", None, name, version)


def _base(labels: Mapping[str, str]) -> list[Component]:
    """The base image, where the image's labels name it."""
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

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
