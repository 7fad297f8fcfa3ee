"""Turns the config and the lock into the Dockerfile's build arguments. Pure.

The Dockerfile's own defaults are those of the default variant with an empty lock; a test holds the
two together.
"""

from __future__ import annotations

from scripts.common.diagnostics.error import UserError
from scripts.host.config.load import LoadedConfig
from scripts.host.config.schema import HubSource, Model

CHECKPOINT_PATH = "/model.safetensors"
BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"


def build_arguments(loaded: LoadedConfig) -> dict[str, str]:
    """Every ARG of the Dockerfile that the config decides, by name.

    Raises:
        UserError: the config has no model at `/model.safetensors`.
    """
    config = loaded.config
    mirrors = config.mirrors
    return {
        "BASE_DOWNLOAD": base_reference(loaded, config.base.download),
        "BASE_RUNTIME": base_reference(loaded, config.base.runtime),
        "GITHUB": mirrors.github,
        "HF_ENDPOINT": mirrors.huggingface,
        "PYTHON_INDEX": mirrors.python or "",
        "PYTORCH_INDEX": mirrors.pytorch or "",
        "APT_MIRROR": mirrors.apt or "",
        "APK_MIRROR": mirrors.apk or "",
        "A1111_RELEASE": config.a1111.release,
        "ACCELERATOR": config.build.accelerator,
        "REQUIREMENTS": config.build.requirements,
        **_source_arguments(loaded),
        **_model_arguments(loaded),
    }


def base_reference(loaded: LoadedConfig, reference: str) -> str:
    """A base image as `FROM` should say it: through the mirror, at the pinned digest.

    The rules for short names are Docker's: no host means docker.io, no slash means `library/`.
    """
    digest = loaded.lock.images.get(reference)
    pinned = f"{reference}@{digest}" if digest and "@" not in reference else reference
    mirror = loaded.config.mirrors.registry
    short = pinned.removeprefix("docker.io/")
    host, slash, _ = short.partition("/")
    if not mirror or (slash and ("." in host or ":" in host or host == "localhost")):
        return pinned
    return f"{mirror}/{short}" if slash else f"{mirror}/library/{short}"


def base_labels(loaded: LoadedConfig) -> dict[str, str]:
    """What the image says of its base, in OCI's words; the digest where it is pinned.

    https://github.com/opencontainers/image-spec/blob/main/annotations.md
    """
    name, _, written = loaded.config.base.runtime.partition("@")
    digest = written or loaded.lock.images.get(name)
    return {BASE_NAME: name, **({BASE_DIGEST: digest} if digest else {})}


def source_commit(loaded: LoadedConfig, name: str) -> str:
    """The commit of a source, from the config or the lock; empty when it is unpinned."""
    source = loaded.config.a1111.sources[name]
    if source.commit:
        return source.commit
    ref = loaded.config.a1111.release if name == "webui" else "HEAD"
    return loaded.lock.sources.get(f"{source.repo}@{ref}", "")


def checkpoint(loaded: LoadedConfig) -> Model:
    """The model that the worker serves."""
    for model in loaded.config.models:
        if model.path == CHECKPOINT_PATH:
            return model
    raise UserError(
        f"no model has the path {CHECKPOINT_PATH}",
        location="models",
        hint="give one of them that path",
    )


def _source_arguments(loaded: LoadedConfig) -> dict[str, str]:
    arguments: dict[str, str] = {}
    for name, source in loaded.config.a1111.sources.items():
        word = name.upper().replace("-", "_")
        arguments[f"{word}_REPO"] = source.repo
        arguments[f"{word}_COMMIT"] = source_commit(loaded, name)
    return arguments


def _model_arguments(loaded: LoadedConfig) -> dict[str, str]:
    """What the `download` stage needs; other sources reach the image by the `models` context."""
    arguments: dict[str, str] = {}
    model = checkpoint(loaded)
    if isinstance(model.source, HubSource):
        locked = loaded.pin_of(model)
        [file] = model.source.names
        known = locked.files.get(file) if locked else None
        sha256 = model.sha256 or (known.sha256 if known else "")
        size = model.size or (known.size if known else "")
        arguments |= {
            "MODEL_REPO": model.source.hub,
            "MODEL_FILE": file,
            "MODEL_REVISION": (locked.revision if locked else None) or model.source.revision,
            "MODEL_SHA256": sha256,
            "MODEL_SIZE": str(size),
        }
    for other in loaded.config.models:
        if other.layout == "hub-cache" and isinstance(other.source, HubSource):
            locked = loaded.pin_of(other)
            revision = (locked.revision if locked else None) or other.source.revision
            arguments |= {"VOCABULARY_REPO": other.source.hub, "VOCABULARY_REVISION": revision}
    return arguments


def unpinned(loaded: LoadedConfig) -> tuple[str, ...]:
    """What may differ between two builds because nothing pins it, one phrase each."""
    config, lock = loaded.config, loaded.lock
    images = [
        f"base image {reference}"
        for reference in (config.base.download, config.base.runtime)
        if "@" not in reference and reference not in lock.images
    ]
    sources = [
        f"source {name} ({source.repo})"
        for name, source in config.a1111.sources.items()
        if not source_commit(loaded, name)
    ]
    models = [
        f"model {model.name}"
        for model in config.models
        if not model.sha256 and not loaded.pin_of(model)
    ]
    return (*images, *sources, *models)
