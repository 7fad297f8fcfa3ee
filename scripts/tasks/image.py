"""`invoke build` and `invoke config`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.tasks import CONFIG_HELP, task

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    iterable=["tag", "define"],
    help={
        **CONFIG_HELP,
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
    _: Context,
    define: list[str],
    tag: list[str],
    variant: str = "cuda128",
    target: str = "build_final_image",
    prefetch: bool = True,
    cache: bool = True,
    push: bool = False,
    load: bool = True,  # noqa: ARG001 - the word users of buildx know
    progress: str = "auto",
    builder: str = "",
    locked: bool = False,
) -> None:
    """Prefetch and verify the models, then build the image."""
    from scripts.common.diagnostics.error import UserError
    from scripts.host.build.buildx import FINAL_STAGE
    from scripts.host.build.pipeline import make
    from scripts.host.build.plan import Words
    from scripts.host.config.load import load as load_config
    from scripts.host.console import progress_mode, say
    from scripts.host.reports.build_report import summary

    if push and target != FINAL_STAGE:
        raise UserError(
            f"only {FINAL_STAGE} can be pushed", location="--target", hint="leave it out"
        )
    loaded = load_config(variant, define)
    words = Words(target, tuple(tag), no_cache=not cache, builder=builder or None)
    with progress_mode(progress):
        report = make(loaded, words, prefetch=prefetch, locked=locked, quiet=progress == "quiet")
        say(summary(report))
        if push:
            from scripts.tasks.ship import push_image

            push_image(loaded, tag)


@task(
    iterable=["define"],
    help={**CONFIG_HELP, "schema": "write config.schema.json and the README's tables instead"},
)
def config(_: Context, define: list[str], variant: str = "cuda128", schema: bool = False) -> None:
    """Print the merged config and where each value came from."""
    from scripts.host.config import describe
    from scripts.host.config.load import load
    from scripts.host.console import say
    from scripts.reference import tables

    if schema:
        for path in (describe.write_schema(), tables.rewrite()):
            say(f"wrote {path.name}")
    else:
        say(describe.rendered(load(variant, define)))
