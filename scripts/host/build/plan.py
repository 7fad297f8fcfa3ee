"""Decides one build: arguments, tags, secrets, caches and labels, from the config and the words."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.host.build.arguments import base_labels, build_arguments, checkpoint
from scripts.host.build.buildx import FINAL_STAGE, Plan
from scripts.host.certificates import FILE
from scripts.host.config.load import LoadedConfig
from scripts.host.config.schema import HubSource
from scripts.host.console import warn
from scripts.host.engine.client import Engine, builder_driver

HUB_TOKEN_NAMES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
VARIANT_LABEL = "com.github.a1111-worker.variant"


@dataclass(frozen=True)
class Words:
    """What the user asked of one build, beyond the config.

    Args:
        target: stage to stop at.
        tags: further tags, whole references.
        no_cache: run every step.
        builder: buildx builder, over `build.builder`.
    """

    target: str = FINAL_STAGE
    tags: tuple[str, ...] = ()
    no_cache: bool = False
    builder: str | None = None


@dataclass(frozen=True)
class Source:
    """Where the checkout stands: commit (with -dirty), and its time in seconds since the epoch."""

    revision: str
    created: int


def source_of(root: Path) -> Source:
    """The revision and time of the checkout; SOURCE_DATE_EPOCH in the environment wins.

    See https://reproducible-builds.org/specs/source-date-epoch/.
    """

    def git(*words: str) -> str:
        try:
            answer = subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:  # an unpacked archive on a machine without git builds too
            return ""
        return answer.stdout.strip() if answer.returncode == 0 else ""

    stamp = os.environ.get("SOURCE_DATE_EPOCH", "")
    commit, _, time = git("log", "-1", "--format=%H %ct").partition(" ")
    dirty = "-dirty" if commit and git("status", "--porcelain", "--untracked-files=no") else ""
    return Source(f"{commit}{dirty}" or "unknown", int(stamp or time or 0))


def make_plan(
    loaded: LoadedConfig,
    words: Words,
    engine: Engine,
    certificates: Path | None,
    *,
    downloads: bool,
) -> Plan:
    """The plan of a build, without the named context `models`.

    Args:
        loaded: the config.
        words: what the user asked.
        engine: what the engine can do.
        certificates: folder of the named context `certificates`; None where the system's do.
        downloads: whether the Dockerfile's download stage has to bring the models.

    Raises:
        UserError: the download stage cannot fetch what the config names.
    """
    if downloads and not isinstance(checkpoint(loaded).source, HubSource):
        raise UserError(
            f"the download stage fetches from the Hub only, not model {checkpoint(loaded).name}",
            location="--no-prefetch",
            hint="build without --no-prefetch",
        )
    source = source_of(loaded.root)
    config = loaded.config
    created = datetime.fromtimestamp(source.created, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    labels = {
        VARIANT_LABEL: loaded.variant,
        **base_labels(loaded),
        **config.image.labels,
    }
    return Plan(
        root=loaded.root,
        arguments={
            **build_arguments(loaded),
            "VERSION": config.a1111.release,
            "REVISION": source.revision,
            "CREATED": created,
            "SOURCE_DATE_EPOCH": str(source.created),
        },
        contexts={"certificates": certificates} if certificates else {},
        secrets=_secrets(certificates),
        tags=words.tags + (references(loaded, source) if words.target == FINAL_STAGE else ()),
        target=words.target,
        options=(
            "--load",
            f"--network={config.build.network}",
            *(["--no-cache"] if words.no_cache else []),
            *(f"--label={name}={value}" for name, value in sorted(labels.items())),
            *(f"--cache-from={value}" for value in config.build.cache.from_),
            *_exports(loaded, words, engine),
        ),
        builder=words.builder or config.build.builder,
        variant=loaded.variant,
    )


def references(loaded: LoadedConfig, source: Source) -> tuple[str, ...]:
    """Every reference the built image gets, immutable ones first."""
    config = loaded.config
    short = source.revision[:12] + ("-dirty" if source.revision.endswith("-dirty") else "")
    tags = config.tags(loaded.variant, short) + config.moving_tags(loaded.variant, short)
    return tuple(f"{config.image.repository}:{tag}" for tag in tags)


def _secrets(certificates: Path | None) -> dict[str, str]:
    """Build secrets by id: certificates as a file, the Hub's token by the name of its variable."""
    secrets = {}
    if certificates:
        secrets["ca_bundle"] = f"src={certificates / FILE}"
    name = next((name for name in HUB_TOKEN_NAMES if os.environ.get(name)), None)
    if name:
        secrets["hf_token"] = f"env={name}"
    return secrets


def _exports(loaded: LoadedConfig, words: Words, engine: Engine) -> list[str]:
    """Cache export and provenance, where the builder can do them.

    The `docker` driver without the containerd image store can do neither
    (https://docs.docker.com/build/builders/drivers/docker/): a warning, never a failed build.
    """
    wanted = loaded.config.build.cache.to
    driver = builder_driver(words.builder or loaded.config.build.builder)
    if driver == "docker" and not engine.containerd_store:
        kept = [value for value in wanted if value.startswith("type=inline")]
        if len(kept) < len(wanted):
            warn("build.cache.to is left out: this builder cannot export it; see build.builder")
        return [f"--cache-to={value}" for value in kept]
    provenance = ["--provenance=mode=max"] if driver == "docker" else []
    return [*(f"--cache-to={value}" for value in wanted), *provenance]
