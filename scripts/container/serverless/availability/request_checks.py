"""Check what a request names against what the WebUI has, before it draws, and its log afterwards.

A1111 replaces or ignores much of what it does not have, and answers with status 200. What would be
missing is refused instead, by field, with what there is; what a request has of no effect is a
warning. docs/explanation/no-substitutes.md lists every field.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.container.serverless.availability.accepted_names import API
from scripts.container.serverless.availability.available import Available
from scripts.container.serverless.availability.file_check import (
    FileCheck,
    warn_of_other_bases,
)
from scripts.container.serverless.availability.name_checks import require_names
from scripts.container.serverless.availability.prompt_networks import PromptNetwork, find_networks
from scripts.container.serverless.availability.request_references import (
    Reference,
    list_prompts,
    list_references,
    refer_to_network,
    refer_to_restorer,
    restores_faces,
)
from scripts.container.serverless.availability.request_warnings import (
    warn_of_networks,
    warn_of_no_effect,
    warn_of_overruled_options,
)
from scripts.container.serverless.availability.script_arguments import (
    ScriptNames,
    complete_arguments,
    explain_unknown_script,
    find_script,
    list_script_names,
)
from scripts.container.serverless.availability.weights_check import (
    MissingWeights,
    WeightPlaces,
)
from scripts.container.status.log_findings import Finding

Body = Mapping[str, Any]

_FILES_SHOWN: Final = 3
_CHECKED_ROUTES: Final = (
    "txt2img",
    "img2img",
    "extra-single-image",
    "extra-batch-images",
    "interrogate",
)
_NOT_DESCRIBED: Final = "not-described"
_FATAL: Final = ("weights-not-loaded", "fallback-used", _NOT_DESCRIBED)


class RequestChecks:
    """Checks of requests to one WebUI.

    Args:
        available: what it has.
        places: where it looks for weights.
        files: check of the files that requests name.
    """

    def __init__(
        self, available: Available, places: WeightPlaces, files: FileCheck | None = None
    ) -> None:
        self.available, self._places, self._files = available, places, files or FileCheck()

    def check(self, path: str, body: dict[str, Any]) -> list[str]:
        """Check a request before it is sent.

        Args:
            path: route of the WebUI.
            body: of the request; `script_args` get the length that their script takes.

        Returns:
            Warnings about what has no effect.

        Raises:
            UserError: something that it names is not there (codes `name-unknown` and
                `weights-missing`) or damaged, or a number in its prompt is none (code
                `input-invalid`).
        """
        script = self._read_script(path, body)
        networks = list(self._list_networks(path, body, script))
        restorers = self._list_restorers(path, body, script)
        references = [*list_references(path, body), *restorers, *script.references]
        for field, network in networks:
            if network.bad_number:
                message = f"input.{field}: {network.text}: {network.bad_number!r} is no number"
                raise UserError(message, code="input-invalid")
            if reference := refer_to_network(field, network):
                references.append(reference)
        require_names(self.available, references)
        self._require_weights(references)
        self._files.require_usable(self.available, references)
        self._refuse_kept_failures(path, body)
        return [
            *script.warnings,
            *warn_of_no_effect(path, body),
            *warn_of_networks(networks),
            *self._warn_of_overruled_options(path, body, references),
            *warn_of_other_bases(self.available, references),
        ]

    def check_answer(self, path: str, body: Body, findings: Iterable[Finding]) -> list[str]:
        """Check how the WebUI has come to an answer with status 200.

        Args:
            path: route of the WebUI.
            body: of the request.
            findings: what its log has shown meanwhile.

        Returns:
            Warnings about scripts that failed and that the request does not name, and about
            embeddings that do not fit the model.

        Raises:
            UserError: it went on without something (codes `weights-not-loaded`, `fallback-used`,
                `not-described` or that of its cause, and `script-failed`).
        """
        if not _works_on_images(path):
            self.available.facts.forget()  # it may have changed what there is
            return []
        warnings = []
        # A failed description is logged before its cause, which may have any code.
        ordered = sorted(findings, key=lambda finding: finding.code == _NOT_DESCRIBED)
        for finding in ordered:
            names_scripts = body.get("alwayson_scripts") or body.get("script_name")
            if finding.code in _FATAL or (finding.code == "script-failed" and names_scripts):
                failed = dict.fromkeys(_upscales(path, body), finding.text)
                self.available.facts.failed_upscales |= failed
                cause = ordered[0] if finding.code == _NOT_DESCRIBED else finding
                raise UserError(location=cause.text, code=cause.code)
            if finding.code == "script-failed":
                warnings.append(f"a script of the WebUI failed meanwhile: {finding.text}")
        return [*warnings, *self._warn_of_embeddings(path, body)]

    def explain_unknown_script(self, path: str, body: Body, text: str) -> UserError | None:
        """Return an error for the WebUI's own `text` about a script; None for another error."""
        rows = self.available.rows("script-info") or []
        return explain_unknown_script(rows, body, text, is_img2img="img2img" in path)

    def _warn_of_embeddings(self, path: str, body: Body) -> list[str]:
        """Return warnings about embeddings in a prompt that do not fit the model that has drawn.

        Their list depends on the model that is loaded, so it is read after the image is drawn, and
        only where a prompt may name one.
        """
        prompts = [*list_prompts(path, body).values(), str(body.get("negative_prompt") or "")]
        text = "\n".join(prompts)
        try:
            if not text.strip() or not _named_in(text, self._embeddings("loaded", "skipped")):
                return []
            self.available.facts.forget(f"{API}/embeddings")
            skipped = _named_in(text, self._embeddings("skipped"))
        except UserError as error:  # the image is there; only this is unknown
            return [f"whether embeddings fit the model is unknown: {error.message}"]
        return [
            f"the embedding {name!r} in the prompt does not fit this model and did nothing"
            for name in skipped
        ]

    def _refuse_kept_failures(self, path: str, body: Body) -> None:
        """Refuse a request that A1111 would answer with an image that it has kept from a failure.

        It keeps the last upscaled images of extras, those of an upscaler that did not load as well,
        and prints nothing when it takes one (upscale_cache in scripts/postprocessing_upscale.py).
        """
        failed = self.available.facts.failed_upscales
        text = next((failed[key] for key in _upscales(path, body) if key in failed), "")
        if text:
            hint = "replace the file, and have the worker restarted"
            raise UserError(location=text, hint=hint, code="weights-not-loaded")

    def _read_script(self, path: str, body: dict[str, Any]) -> ScriptNames:
        """Complete the arguments of a selectable script; return what they name."""
        if "2img" not in path or not body.get("script_name"):
            return ScriptNames()
        rows = self.available.rows("script-info") or []
        script = find_script(rows, body, is_img2img="img2img" in path)
        if script is None:
            return ScriptNames()
        warnings = complete_arguments(body, script)
        settings = {"face_restoration_model": self._default_restorer()}
        settings |= body.get("override_settings") or {}
        names = list_script_names(body, script, restorer=settings["face_restoration_model"])
        return replace(names, warnings=[*warnings, *names.warnings])

    def _list_networks(
        self, path: str, body: Body, script: ScriptNames
    ) -> Iterator[tuple[str, PromptNetwork]]:
        """Yield the extra networks of all prompts, those that styles add included, by field."""
        prompts = [*list_prompts(path, body).items(), *script.prompts]
        given = body.get("styles")
        styles = [*(given if isinstance(given, list) else ()), *script.styles]
        if "2img" in path and styles:
            rows = self.available.rows("prompt-styles") or ()
            prompts += [
                (f"styles ({row['name']})", str(row["prompt"] or ""))
                for row in rows
                if row["name"] in styles
            ]
        for field, prompt in prompts:
            for network in find_networks(prompt):
                yield field, network

    def _list_restorers(self, path: str, body: Body, script: ScriptNames) -> list[Reference]:
        if "2img" not in path or not (restores_faces(body) or script.restores_faces):
            return []
        reference = refer_to_restorer(body, self._default_restorer())
        return [reference] if reference else []

    def _default_restorer(self) -> object:
        return self.available.facts.options.get("face_restoration_model")

    def _warn_of_overruled_options(
        self, path: str, body: Body, references: Sequence[Reference]
    ) -> list[str]:
        flags: Body = {}
        defaults: Body = {}
        if any(reference.kind in ("VAE", "VAE axis") for reference in references):
            flags = self.available.rows("cmd-flags") or {}
            defaults = self.available.facts.options
        return warn_of_overruled_options(path, body, references, flags=flags, defaults=defaults)

    def _embeddings(self, *parts: str) -> list[str]:
        rows = self.available.rows("embeddings") or {}
        return [name for part in parts for name in rows.get(part, ())]

    def _require_weights(self, references: Iterable[Reference]) -> None:
        for reference in references:
            if self._find_missing_weights(reference):
                self.available.link_new_models()
            if missing := self._find_missing_weights(reference):
                more = len(missing.files) - _FILES_SHOWN
                files = ", ".join(map(str, missing.files[:_FILES_SHOWN]))
                message = f"input.{reference.field}: the weights of {reference.kind}"
                message += f" {reference.name!r} are not on this worker: {files}"
                message += f" and {more} more" if more > 0 else ""
                raise UserError(message, hint=missing.hint, code="weights-missing")

    def _find_missing_weights(self, reference: Reference) -> MissingWeights | None:
        if not reference.use:
            return None
        rows = self.available.rows("upscalers") if reference.use == "upscaler" else None
        matches = [row for row in rows or () if row["name"] == reference.name]
        row = matches[0] if matches else {}
        return self._places.find_missing(reference.use, reference.name, row)


def _works_on_images(path: str) -> bool:
    """Return whether a route works on images; another one may change what the WebUI has."""
    return path.rpartition("/")[2] in _CHECKED_ROUTES


def _upscales(path: str, body: Body) -> list[tuple[str, str]]:
    """Return each image and upscaler of a request of extras, as A1111 keeps their result."""
    if "/extra-" not in path:
        return []
    rows = body.get("imageList")
    batch = [row.get("data") for row in rows if isinstance(row, dict)] if rows else []
    names = [body.get("upscaler_1"), body.get("upscaler_2")]
    used = [str(name) for name in names if name not in (None, "None", "Lanczos", "Nearest")]
    images = [str(image) for image in (body.get("image"), *batch) if image] if used else []
    digests = [sha256(image.encode()).hexdigest() for image in images]
    return [(digest, name) for digest in digests for name in used]


def _named_in(text: str, names: Iterable[str]) -> list[str]:
    """Return the names that stand in a text as words, without regard to case, as CLIP reads it."""
    return [
        name
        for name in dict.fromkeys(names)
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE)
    ]
