"""`invoke inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.tasks import CONFIG_HELP, task

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    iterable=["define"],
    help={
        **CONFIG_HELP,
        "image": "what to look into; this checkout's own by default",
        "diff": "another image to compare packages, sizes and files with",
        "json": "print everything as JSON, with each package",
        "sbom": "also write the bill of materials (CycloneDX JSON) to this file",
    },
)
def inspect(
    _: Context,
    define: list[str],
    variant: str = "cuda128",
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
    from scripts.host.build.plan import references, source_of
    from scripts.host.config.load import load
    from scripts.host.console import note, say
    from scripts.host.engine.client import client
    from scripts.host.inspect import image as inside
    from scripts.host.inspect import inspect_view as view
    from scripts.host.inspect import sbom as bill
    from scripts.host.inspect.rules import failed
    from scripts.host.reports.build_report import write_text

    loaded, engine = load(variant, define), client()
    smoke, models = loaded.config.smoke, inside.model_paths(loaded)
    if image:
        found = inside.inspected(engine, image, models)
    else:
        own = references(loaded, source_of(loaded.root))[-1]
        found = inside.inspected(engine, own, models, variant)
    old = inside.inspected(engine, diff, models) if diff else None
    say(found.model_dump_json(indent=2) if json else view.shown(found, smoke))
    if old:
        say(f"\n{view.shown_difference(old, found)}")
    if sbom:
        text = bill.sbom(found, inside.known_repositories(loaded))
        note(f"wrote {write_text(text, Path(sbom))}")
    if codes := failed(found, smoke):
        raise UserError(
            f"structure checks failed: {', '.join(codes)}",
            location=found.image,
            code=codes[0],
            hint="the README's troubleshooting table has the hint of each",
        )
