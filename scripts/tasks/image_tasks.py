"""Tasks of one image: build, inspect, push, serve."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from invoke.context import Context

from scripts.common.diagnostics.error import UserError
from scripts.common.files import write_atomically
from scripts.host.console import note, say
from scripts.tasks import DEFAULT_VARIANT, Define, Variant, task

if TYPE_CHECKING:
    from scripts.host.build.inputs import BuildInputs


@task()
def build(
    inputs: "BuildInputs",
    tag: Annotated[list[str], "further reference to give the image (repeatable)"],
    target: Annotated[str, "stage to stop at: sources, packages, ..."] = "build_final_image",
    prefetch: Annotated[bool, "fetch models here; --no-prefetch: in the Dockerfile"] = True,
    cache: Annotated[bool, "reuse layers; --no-cache runs every step"] = True,
    push: Annotated[bool, "push afterwards, with a passing smoke report only"] = False,
    load: Annotated[bool, "no effect: the image is always kept in the local engine"] = True,  # noqa: ARG001 - an option that users of buildx know
    progress: Annotated[str, "auto, plain or quiet"] = "auto",
    builder: Annotated[str, "buildx builder, over build.builder"] = "",
    locked: Annotated[bool, "fail when anything is not pinned"] = False,
    verify: Annotated[
        bool, "build again in a second builder, and fail if it makes other bytes"
    ] = False,
) -> None:
    """Prefetch and verify the models, then build the image."""
    from scripts.host.build.inputs import FINAL_STAGE, BuildOptions
    from scripts.host.build.pipeline import build_image
    from scripts.host.reports.build_report import render_summary

    if verify and target != FINAL_STAGE:
        raise UserError(f"only {FINAL_STAGE} can be verified", location="--target")
    if push and target != FINAL_STAGE:
        raise UserError(
            f"only {FINAL_STAGE} can be pushed", location="--target", hint="leave it out"
        )
    options = BuildOptions(
        target, tuple(tag), not cache, builder, prefetch, locked, progress, verify
    )
    say(render_summary(build_image(inputs, options)))
    if push:
        _push(inputs, tag, plain=progress != "auto")


@task()
def inspect(
    inputs: "BuildInputs",
    image: Annotated[str, "what to look into; this checkout's own by default"] = "",
    diff: Annotated[str, "another image to compare packages, sizes and files with"] = "",
    json: Annotated[bool, "print everything as JSON, with each package"] = False,
    sbom: Annotated[str, "also write the bill of materials (CycloneDX JSON) to this file"] = "",
) -> None:
    """Show what an image is made of, and judge its structure.

    Layers, folders, packages, waste; fails when a check of the structure fails.
    """
    from scripts.host.config.load import local_path
    from scripts.host.engine.client import client
    from scripts.host.inspect.inspect_view import format_difference, format_inspection
    from scripts.host.inspect.structure import check_structure, inspect_image, model_paths

    engine, models, smoke = client(), model_paths(inputs.artifacts), inputs.config.smoke
    variant = "" if image else inputs.variant
    found = inspect_image(engine, image or inputs.references[-1], models, variant)
    old = inspect_image(engine, diff, models) if diff else None
    say(found.model_dump_json(indent=2) if json else format_inspection(found, smoke))
    if old:
        say(f"\n{format_difference(old, found)}")
    if sbom:
        from scripts.host.inspect.sbom import make_sbom

        write_atomically(local_path(sbom), make_sbom(found, inputs.sources))
        note(f"wrote {sbom}")
    if codes := [code for code, lines in check_structure(found, smoke).items() if lines]:
        raise UserError(
            f"structure checks failed: {', '.join(codes)}",
            location=found.image,
            code=codes[0],
            hint="docs/reference/diagnostic-codes.md has the hint of each",
        )


@task()
def push(
    inputs: "BuildInputs",
    tag: Annotated[list[str], "further reference to push, which may move (repeatable)"],
    candidate: Annotated[
        bool, "push one immutable tag for tests elsewhere, without a smoke report"
    ] = False,
) -> None:
    """Push the tested image, and check its digest.

    Immutable tags go first.
    """
    _push(inputs, tag, candidate=candidate)


def _push(
    inputs: "BuildInputs", further: Sequence[str], *, candidate: bool = False, plain: bool = False
) -> None:
    """Push, and print each reference with its digest."""
    from scripts.host.registry.push import push as push_image

    record = push_image(inputs, further, candidate=candidate, plain=plain)
    for pushed in record.references:
        say(f"{pushed.reference}@{pushed.digest}")


@task()
def serve(
    _: Context,
    define: Define,
    env: Annotated[list[str], "NAME=VALUE for the worker (repeatable)"],
    variant: Variant = DEFAULT_VARIANT,
    cpu: Annotated[bool, "draw on the processor: short for --variant cpu"] = False,
    image: Annotated[str, "run this image instead of the one built from this checkout"] = "",
    port: Annotated[int, "port on this machine; 0 takes a free one"] = 3000,
) -> None:
    """Run the built image; print its URL once it has drawn."""
    from scripts.host.build.inputs import resolve
    from scripts.host.config.load import load
    from scripts.host.serve import serve as serve_image

    inputs = resolve(load("cpu" if cpu else variant, define))
    serve_image(inputs, image=image, port=port, environment=env)
