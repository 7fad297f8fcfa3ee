"""Make the labels of an image that the Dockerfile does not set itself."""

import json
from collections.abc import Sequence
from typing import Final

from scripts.host.config.load import LoadedConfig
from scripts.host.config.lock import ResolvedBase, ResolvedExtension

VARIANT_LABEL: Final = "com.github.a1111-worker.variant"
BUILD_ID_LABEL: Final = "com.github.a1111-worker.build-id"
"""Label with the build's ID, which the environment has as BUILD_ID; see `build_id`."""
LICENCES_LABEL: Final = "com.github.a1111-worker.model-licences"
"""Label with the licence of each baked model as JSON; `unknown` where config.yaml has none."""
EXTENSIONS_LABEL: Final = "com.github.a1111-worker.extensions"
"""Label with repository, commit and licence of each extension as JSON; absent without any."""
# https://github.com/opencontainers/image-spec/blob/main/annotations.md
BASE_NAME_LABEL: Final = "org.opencontainers.image.base.name"
BASE_DIGEST_LABEL: Final = "org.opencontainers.image.base.digest"


def make_labels(
    loaded: LoadedConfig, base: ResolvedBase, extensions: Sequence[ResolvedExtension]
) -> dict[str, str]:
    """Return the labels by name; those of the config come last.

    Args:
        loaded: the config.
        base: base image of the final stage.
        extensions: baked into the image.
    """
    baked = (model for model in loaded.config.all_models if model.placement == "image")
    licences = {model.name: model.licence or "unknown" for model in baked}
    return {
        VARIANT_LABEL: loaded.variant,
        BASE_NAME_LABEL: base.name,
        LICENCES_LABEL: json.dumps(licences, sort_keys=True),
        **({BASE_DIGEST_LABEL: base.digest} if base.digest else {}),
        **_extensions_label(extensions),
        **loaded.config.image.labels,
    }


def _extensions_label(extensions: Sequence[ResolvedExtension]) -> dict[str, str]:
    facts = {
        each.name: {
            "repo": each.repo,
            "commit": each.commit or "unknown",
            "licence": each.extension.licence or "unknown",
        }
        for each in extensions
    }
    return {EXTENSIONS_LABEL: json.dumps(facts, sort_keys=True)} if facts else {}
