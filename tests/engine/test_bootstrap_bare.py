"""scripts/bootstrap on a bare machine: a Debian 12 container that gets its own engine."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.host.engine.client import client
from tests.support import images
from tests.support.running import build_image, container, copy_of_the_checkout

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]

PIP_SETTINGS = {name: value for name, value in os.environ.items() if name == "PIP_INDEX_URL"}
HEAVY = ("cusparselt", "nvidia", "torch", "torchvision", "triton")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as it is downloaded: files without a repository."""
    return copy_of_the_checkout(tmp_path_factory.mktemp("machine") / "checkout")


@pytest.fixture(scope="module")
def machine(checkout: Path) -> Iterator[Any]:
    """A Debian 12 with Python 3.11, without its venv module, git, curl or Docker."""
    with container(
        images.debian_root(),
        command=["sleep", "infinity"],
        privileged=True,  # it runs an engine of its own
        working_dir="/checkout",
        environment={"PIP_CERT": CERTIFICATES, **PIP_SETTINGS},
        # The engine's folder is a volume: overlay file systems do not stack.
        volumes=["/var/lib/docker", f"{images.ca_bundle()}:{CERTIFICATES}:ro"],
    ) as running:
        put(running, checkout)
        assert run(running, "apt-get update -qq && apt-get install -qq --yes python3")[0] == 0
        yield running


def put(machine: Any, folder: Path) -> None:
    """Copy a folder into the machine as /checkout."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.add(folder, "checkout")
    data.seek(0)
    assert machine.put_archive("/", data)


def run(machine: Any, line: str) -> tuple[int, str]:
    """Run a shell line in the machine; return its exit code and output."""
    code, said = machine.exec_run(["sh", "-c", f"{{ {line}; }} 2>&1"])
    return code, said.decode()


def test_without_yes_nothing_is_installed(machine: Any) -> None:
    code, said = run(machine, "scripts/bootstrap true")
    assert code == 1
    assert said.splitlines() == [
        "bootstrap: /usr/bin/python3 cannot make virtual environments"
        " - run: apt-get install python3.11-venv"
    ]
    assert run(machine, "command -v docker || test -e .venv")[0] != 0


def give(machine: Any, *references: str) -> None:
    """Load images of this engine into the machine's own."""
    load = ["docker", "exec", "-i", machine.id, "docker", "load", "--quiet"]
    with subprocess.Popen(["docker", "save", *references], stdout=subprocess.PIPE) as saved:
        subprocess.run(load, stdin=saved.stdout, check=True, capture_output=True)


def test_with_yes_it_installs_an_environment_and_a_working_engine(machine: Any) -> None:
    # Through a pipe, whose end comes only when nothing that was started holds it open.
    code, said = run(machine, "timeout 300 sh -c 'scripts/bootstrap --yes nox --version | cat'")
    assert code == 0, said
    code, said = run(machine, "scripts/bootstrap docker info --format '{{.ServerVersion}}'")
    assert code == 0, said
    assert "bootstrap:" not in said
    build = "printf 'FROM scratch\\nCOPY scripts /\\n' | docker buildx build -q -f - ."
    code, said = run(machine, build)
    assert code == 0, said
    assert said.startswith("sha256:")


@pytest.fixture
def light_base() -> Iterator[str]:
    """The base with the name and version of each package of torch, all that a build reads of them.

    With their files, of 5 GB, the machine would copy them twice and need 12 GB of disk.
    """
    tag = "a1111-worker-light-base:test"
    packages = "/opt/conda/lib/python3.11/site-packages"
    heavy = " ".join(f"{packages}/{name}" for name in HEAVY)
    environment = client().images.get(images.base_runtime()).attrs["Config"]["Env"]
    variables = "\n".join(f"ENV {variable}" for variable in environment)
    build_image(
        tag,
        f"FROM {images.base_runtime()} AS full\nRUN rm -r {heavy}\n"
        f"FROM scratch\nCOPY --from=full / /\n{variables}\nWORKDIR /workspace\n",
    )
    yield tag
    subprocess.run(["docker", "rmi", "--force", tag], check=True, capture_output=True)


def test_one_command_then_builds_without_git(machine: Any, light_base: str) -> None:
    give(machine, images.base_download(), light_base)
    assert run(machine, f"docker tag {light_base} {images.base_runtime()}")[0] == 0
    # Two packages are enough: other tests install them all.
    split = "scripts/image/split-lock requirements/cpu.txt /split setuptools einops"
    assert run(machine, f"{split} && mv /split/large.txt requirements/light.txt")[0] == 0
    # The stand-ins are a part of the test and need git; the build is not, and finds none.
    stands = "python -m tests.support.up --config /standins.yaml"
    build = "env PATH=/nogit:/checkout/.venv/bin invoke build --variant cpu"
    build += " -D build.requirements=requirements/light.txt"
    programs = "mkdir /nogit && ln -s $(command -v docker) $(command -v env) /nogit"
    code, said = run(machine, f"{programs} && scripts/bootstrap --yes {stands} -- {build}")
    assert code == 0, said
    assert "build_final_image" in said
    name = "docker images --format '{{.Tag}}' | grep -x v1.9.3-cpu"
    assert run(machine, name)[0] == 0, said
