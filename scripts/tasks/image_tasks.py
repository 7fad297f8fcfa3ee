"""Tasks of one image: build, inspect, push, serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.tasks import DEFAULT_VARIANT, DEFINE_HELP, VARIANT_HELP, config_task, task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from invoke.context import Context

    from scripts.host.config.load import LoadedConfig


@config_task(
    iterable=["tag"],
    help={
        "target": "stage to stop at: download, sources, packages, runpod, models, ...",
        "tag": "further reference to give the image (repeatable)",
        "prefetch": "fetch models on this machine first; --no-prefetch lets the Dockerfile do it",
        "cache": "reuse layers; --no-cache runs every step",
        "push": "push afterwards; like `invoke push`, only with a passing smoke report",
        "load": "keep the image in the local engine, which is always so",
        "progress": "auto, plain or quiet",
        "builder": "buildx builder, over build.builder",
        "locked": "fail when anything is not pinned",
    },
)
def build(
    loaded: LoadedConfig,
    tag: list[str],
    target: str = "build_final_image",
    prefetch: bool = True,
    cache: bool = True,
    push: bool = False,
    load: bool = True,  # noqa: ARG001 - an option that users of buildx know
    progress: str = "auto",
    builder: str = "",
    locked: bool = False,
) -> None:
    """Prefetch and verify the models, then build the image."""
    from scripts.common.diagnostics.error import UserError
    from scripts.host.build.inputs import FINAL_STAGE, BuildOptions, resolve
    from scripts.host.build.pipeline import build_image
    from scripts.host.console import say
    from scripts.host.reports.build_report import render_summary

    if push and target != FINAL_STAGE:
        raise UserError(
            f"only {FINAL_STAGE} can be pushed", location="--target", hint="leave it out"
        )
    options = BuildOptions(
        target=target,
        tags=tuple(tag),
        no_cache=not cache,
        builder=builder,
        prefetch=prefetch,
        locked=locked,
        progress=progress,
    )
    say(render_summary(build_image(loaded, resolve(loaded), options)))
    if push:
        _push(loaded, tag, plain=progress != "auto")


@config_task(
    help={
        "image": "what to look into; this checkout's own by default",
        "diff": "another image to compare packages, sizes and files with",
        "json": "print everything as JSON, with each package",
        "sbom": "also write the bill of materials (CycloneDX JSON) to this file",
    },
)
def inspect(
    loaded: LoadedConfig,
    image: str = "",
    diff: str = "",
    json: bool = False,
    sbom: str = "",
) -> None:
    """Show what an image is made of, and judge its structure.

    Layers, folders, packages, waste; fails when a check of the structure fails.
    """
    from pathlib import Path

    from scripts.common.diagnostics.error import UserError
    from scripts.common.files import write_atomically
    from scripts.host.build.inputs import resolve
    from scripts.host.console import note, say
    from scripts.host.engine.client import client
    from scripts.host.inspect import image as inside
    from scripts.host.inspect import inspect_view as view
    from scripts.host.inspect import sbom as bill
    from scripts.host.inspect.rules import failed

    inputs, engine = resolve(loaded), client()
    models = inside.model_paths(loaded)
    variant = "" if image else inputs.variant
    found = inside.inspected(engine, image or inputs.references[-1], models, variant)
    old = inside.inspected(engine, diff, models) if diff else None
    say(found.model_dump_json(indent=2) if json else view.shown(found, inputs.smoke))
    if old:
        say(f"\n{view.shown_difference(old, found)}")
    if sbom:
        write_atomically(Path(sbom), bill.sbom(found, inside.known_repositories(inputs)))
        note(f"wrote {sbom}")
    if codes := failed(found, inputs.smoke):
        raise UserError(
            f"structure checks failed: {', '.join(codes)}",
            location=found.image,
            code=codes[0],
            hint="the README's troubleshooting table has the hint of each",
        )


@config_task(
    iterable=["tag"],
    help={
        "tag": "further reference to push, which may move (repeatable)",
        "untested": "push without a passing smoke report; the push record says so",
    },
)
def push(loaded: LoadedConfig, tag: list[str], untested: bool = False) -> None:
    """Push the tested image, and check its digest.

    Immutable tags go first.
    """
    _push(loaded, tag, untested=untested)


def _push(
    loaded: LoadedConfig, further: Sequence[str], *, untested: bool = False, plain: bool = False
) -> None:
    """Push, and print each reference with its digest."""
    from scripts.host.console import say
    from scripts.host.registry.push import push as push_image

    record = push_image(loaded, further, untested=untested, plain=plain)
    for pushed in record.references:
        say(f"{pushed.reference}@{pushed.digest}")


@task(
    iterable=["env", "define"],
    help={
        "variant": VARIANT_HELP,
        "define": DEFINE_HELP,
        "cpu": "draw on the processor: short for --variant cpu",
        "image": "run this image instead of the one built from this checkout",
        "port": "port on this machine; 0 takes a free one",
        "env": "NAME=VALUE for the worker (repeatable)",
    },
)
def serve(
    _: Context,
    define: list[str],
    env: list[str],
    variant: str = DEFAULT_VARIANT,
    cpu: bool = False,
    image: str = "",
    port: int = 3000,
) -> None:
    """Run the built image; print its URL once it has drawn."""
    from scripts.host.config.load import load
    from scripts.host.serve import serve as serve_image

    loaded = load("cpu" if cpu else variant, define)
    serve_image(loaded, image=image, port=port, environment=env)
