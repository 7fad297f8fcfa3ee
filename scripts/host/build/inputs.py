"""Resolve config, lock and git into the inputs of one build, once per command.

The Dockerfile's own defaults equal the build arguments of the default variant with an empty lock; a
test compares them.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common.diagnostics.error import UserError
from scripts.common.run import run_program
from scripts.common.webui_flags import split_added
from scripts.host.build.image_labels import make_labels
from scripts.host.build.system_packages import SYSTEM_PACKAGES, apt_arguments
from scripts.host.config.grammar import IMAGE
from scripts.host.config.load import LoadedConfig
from scripts.host.config.lock import (
    ResolvedBase,
    ResolvedExtension,
    ResolvedSource,
    resolve_base,
    resolve_extension,
    resolve_source,
)
from scripts.host.config.model_place import CHECKPOINT_PATH
from scripts.host.config.schema import WebuiFlags
from scripts.host.models.artifacts import Artifact, artifacts_of

FINAL_STAGE = "build_final_image"
EXTENSIONS = "extensions"
"""Empty stage of the Dockerfile; a named build context of this name replaces it."""
INSTALLED = "installed"
"""Stage of the Dockerfile with the extensions after their installers ran."""
PROGRESS_MODES = ("auto", "plain", "quiet")

_TAG_FIELD = re.compile(r"\{(release|variant|revision)\}")


@dataclass(frozen=True)
class BuildOptions:
    """The user's flags of one build.

    Args:
        target: stage to stop at.
        tags: further references of the image.
        no_cache: run every step.
        builder: buildx builder, overrides `build.builder`; empty for none.
        prefetch: download models on the host; otherwise the Dockerfile downloads them.
        locked: fail if an input is unpinned.
        progress: `auto` (moving on a terminal), `plain` or `quiet`.
        verify: build again without cache, and fail if that makes another image.

    Raises:
        UserError: there is no such progress mode, or a tag is no name of an image.
    """

    target: str = FINAL_STAGE
    tags: tuple[str, ...] = ()
    no_cache: bool = False
    builder: str = ""
    prefetch: bool = True
    locked: bool = False
    progress: str = "auto"
    verify: bool = False

    def __post_init__(self) -> None:
        if self.progress not in PROGRESS_MODES:
            raise UserError(
                f"there is no progress mode {self.progress}",
                hint=f"one of: {', '.join(PROGRESS_MODES)}",
            )
        for tag in self.tags:
            check_reference(tag)


@dataclass(frozen=True)
class BuildInputs(LoadedConfig):
    """Everything that decides one image: a config, and what lock and git resolve it to.

    Args:
        revision: commit of the checkout, with `-dirty` for local changes; `unknown` without git.
        created: time of that commit, seconds since the epoch; SOURCE_DATE_EPOCH overrides it.
        download_base: base image of stage `download`.
        runtime_base: base image of the final stage.
        sources: the WebUI and its components.
        extensions: extensions of the WebUI, in the config's order.
        artifacts: model files baked into the image, in the config's order.
        volume_artifacts: model files that the worker downloads to its volume.
        cached_artifacts: model files that the platform caches for the worker.
        arguments: build arguments of the Dockerfile that config and lock decide.
        unpinned: inputs that may change between two builds, one phrase each.
        tags: immutable references, `repository:tag`.
        moving_tags: references that move from build to build.
        labels: labels of the image that the Dockerfile does not set itself.
    """

    revision: str
    created: int
    download_base: ResolvedBase
    runtime_base: ResolvedBase
    sources: tuple[ResolvedSource, ...]
    extensions: tuple[ResolvedExtension, ...]
    artifacts: tuple[Artifact, ...]
    volume_artifacts: tuple[Artifact, ...]
    cached_artifacts: tuple[Artifact, ...]
    arguments: Mapping[str, str]
    unpinned: tuple[str, ...]
    tags: tuple[str, ...]
    moving_tags: tuple[str, ...]
    labels: Mapping[str, str]

    @property
    def references(self) -> tuple[str, ...]:
        """All references of the image, immutable ones first."""
        return self.tags + self.moving_tags


def resolve(loaded: LoadedConfig) -> BuildInputs:
    """Resolve a loaded config: one walk over what it pins, one question to git.

    Raises:
        UserError: no model has the path `/model.safetensors`, config and lock disagree about a
            model, or a pickle is not allowed.
    """
    config, lock = loaded.config, loaded.lock
    release, mirrors = config.a1111.release, config.mirrors
    download = resolve_base(config.base.download, lock, mirrors.registry)
    runtime = resolve_base(config.base.runtime, lock, mirrors.registry)
    sources = tuple(
        resolve_source(name, source, release, lock) for name, source in config.a1111.sources.items()
    )
    extensions = tuple(resolve_extension(each, lock) for each in config.extensions)
    artifacts = artifacts_of(loaded, config.all_models)
    revision, created = read_revision(loaded.root)
    short = revision[:12] + ("-dirty" if revision.endswith("-dirty") else "")
    fields = {"release": release, "variant": loaded.variant, "revision": short}

    def references(tags: Sequence[str]) -> tuple[str, ...]:
        filled = (_TAG_FIELD.sub(lambda field: fields[field[1]], tag) for tag in tags)
        return tuple(check_reference(f"{config.image.repository}:{tag}") for tag in filled)

    arguments = {
        "BASE_DOWNLOAD": download.reference,
        "BASE_RUNTIME": runtime.reference,
        "GITHUB": mirrors.github,
        "HF_ENDPOINT": mirrors.huggingface,
        "PYTHON_INDEX": mirrors.python or "",
        "PYTORCH_INDEX": mirrors.pytorch or "",
        **apt_arguments(mirrors.apt, lock.snapshot),
        "APK_MIRROR": mirrors.apk or "",
        "A1111_RELEASE": release,
        "ACCELERATOR": config.build.accelerator,
        "REQUIREMENTS": config.build.requirements,
        "EXTENSIONS_STAGE": INSTALLED if extensions else EXTENSIONS,
        "IMAGE_FLAGS": _as_json(_image_flags(config.webui.flags)),
        "IMAGE_SETTINGS": _as_json(config.webui.settings),
        **_source_arguments(sources),
        **_model_arguments(artifacts),
    }
    unpinned = _unpinned((download, runtime), sources, extensions, artifacts)
    return BuildInputs(
        **vars(loaded),
        revision=revision,
        created=created,
        download_base=download,
        runtime_base=runtime,
        sources=sources,
        extensions=extensions,
        artifacts=tuple(each for each in artifacts if each.model.placement == "image"),
        volume_artifacts=tuple(each for each in artifacts if each.model.placement == "volume"),
        cached_artifacts=tuple(each for each in artifacts if each.model.placement == "cache"),
        arguments=arguments,
        unpinned=unpinned if arguments["APT_SNAPSHOT"] else (*unpinned, SYSTEM_PACKAGES),
        tags=references(config.image.tags),
        moving_tags=references(config.image.moving_tags),
        labels=make_labels(loaded, runtime, extensions),
    )


def check_reference(reference: str) -> str:
    """Return the name of an image.

    Raises:
        UserError: it is none.
    """
    try:
        return IMAGE.check(reference)
    except ValueError as error:
        hint = "check image.repository, image.tags and --tag"
        raise UserError(str(error), location=reference, hint=hint) from None


def read_revision(root: Path) -> tuple[str, int]:
    """Ask git for the revision of a checkout and its time; SOURCE_DATE_EPOCH overrides the time.

    See https://reproducible-builds.org/specs/source-date-epoch/.

    Returns:
        Commit, with `-dirty` for changes of tracked files, and its time in seconds since the epoch;
        `unknown` and 0 without git or a repository, as in an unpacked archive.
    """

    def git(*arguments: str) -> str:
        # A checkout may be another user's: whoever runs its code trusts it, too.
        trusting = ["git", "-c", "safe.directory=*", "-C", str(root)]
        try:
            process = run_program([*trusting, *arguments])
        except UserError:  # git is not installed
            return ""
        return process.stdout.strip() if process.returncode == 0 else ""

    commit, _, time = git("log", "-1", "--format=%H %ct").partition(" ")
    dirty = "-dirty" if commit and git("status", "--porcelain", "--untracked-files=no") else ""
    stamp = os.environ.get("SOURCE_DATE_EPOCH", "").strip()
    if stamp and not re.fullmatch(r"\d{1,11}", stamp, re.ASCII):
        raise UserError("expected seconds since 1970", location=f"SOURCE_DATE_EPOCH={stamp}")
    return f"{commit}{dirty}" or "unknown", int(stamp or time or 0)


def _image_flags(flags: WebuiFlags) -> dict[str, Sequence[str]]:
    changes = {"add": split_added(flags.add), "remove": flags.remove}
    return {name: change for name, change in changes.items() if change}


def _as_json(value: Mapping[str, Any]) -> str:
    """Return a map as the same text every time; nothing for an empty one."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")) if value else ""


def _source_arguments(sources: Sequence[ResolvedSource]) -> dict[str, str]:
    arguments: dict[str, str] = {}
    for source in sources:
        prefix = source.name.upper().replace("-", "_")
        arguments |= {f"{prefix}_REPO": source.repo, f"{prefix}_COMMIT": source.commit}
    return arguments


def _model_arguments(artifacts: Sequence[Artifact]) -> dict[str, str]:
    """Return the checkpoint's name and path, and the arguments of stage `download`.

    A checkpoint that the platform caches has a path, `hub:…`, but nothing to download. Other models
    reach the image by the context `models`.
    """
    start = next((each.model for each in artifacts if each.model.target == CHECKPOINT_PATH), None)
    if start is None:
        raise UserError(
            f"no model has the path {CHECKPOINT_PATH}",
            location="models",
            hint=f"give the checkpoint to load at start `path: {CHECKPOINT_PATH}`",
        )
    arguments = {"CHECKPOINT_NAME": start.location.name, "MODEL_PATH": CHECKPOINT_PATH}
    for artifact in artifacts:
        if artifact.model.placement == "cache":
            arguments["MODEL_PATH"] = str(artifact.reference)
        if not artifact.repo or artifact.model.placement == "cache":
            continue
        if artifact.model.layout == "hub-cache" and "VOCABULARY_REPO" not in arguments:
            arguments |= {
                "VOCABULARY_REPO": artifact.repo,
                "VOCABULARY_REVISION": artifact.revision,
            }
        elif artifact.model.target == CHECKPOINT_PATH:
            arguments |= {
                "MODEL_REPO": artifact.repo,
                "MODEL_FILE": artifact.file,
                "MODEL_REVISION": artifact.revision,
                "MODEL_SHA256": artifact.spec.sha256,
                "MODEL_SIZE": str(artifact.spec.size or ""),
            }
    return arguments


def _unpinned(
    bases: Sequence[ResolvedBase],
    sources: Sequence[ResolvedSource],
    extensions: Sequence[ResolvedExtension],
    artifacts: Sequence[Artifact],
) -> tuple[str, ...]:
    """Name each input that neither config nor lock pins."""
    models = [each.model.name for each in artifacts if not each.is_pinned]
    return (
        *(f"base image {base.name}" for base in bases if not base.digest),
        *(f"source {source.name} ({source.repo})" for source in sources if not source.commit),
        *(
            f"extension {each.name} ({each.extension.repo})"
            for each in extensions
            if not each.commit
        ),
        *(f"model {name}" for name in dict.fromkeys(models)),
    )
