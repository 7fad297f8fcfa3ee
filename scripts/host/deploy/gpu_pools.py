"""Choose the GPU pools of an endpoint: known, with code in the image, in order of price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.common.gpu.gpu_facts import Capability, dotted
from scripts.common.gpu.judge import best_arch
from scripts.host.deploy.runpod_api import RunpodApi

CAPABILITIES: Final[Mapping[str, tuple[Capability, ...]]] = {
    "AMPERE_16": ((8, 6), (8, 9)),
    "AMPERE_24": ((8, 6), (8, 9)),
    "ADA_24": ((8, 9),),
    "ADA_32_PRO": ((12, 0),),  # RTX 5090: of the Blackwell generation, despite the name
    "AMPERE_48": ((8, 6),),
    "ADA_48_PRO": ((8, 9),),
    "AMPERE_80": ((8, 0),),
    "ADA_80_PRO": ((9, 0),),  # H100: of the Hopper generation
    "BLACKWELL_96": ((12, 0),),
    "HOPPER_141": ((9, 0),),
    "BLACKWELL_180": ((10, 0),),
}
"""Compute capabilities of the cards in each pool.

Cards: https://docs.runpod.io/flash/configuration/gpu-types; their capabilities:
https://developer.nvidia.com/cuda-gpus
"""


@dataclass(frozen=True)
class Pool:
    """A GPU pool of RunPod's catalogue.

    Args:
        id: such as ADA_24.
        price: US dollars for a GPU and hour, as listed; None where none is.
        types: ids of its cards.
    """

    id: str
    price: float | None
    types: tuple[str, ...]


def read_pools(api: RunpodApi) -> dict[str, Pool]:
    """Read the pools that the account may use, by id.

    Raises:
        UserError: see `RunpodApi.call`.
    """
    found: dict[str, Pool] = {}
    for row in api.list_all("/v2/catalog/gpus", "gpus"):
        if name := row.get("pool"):
            pool = found.get(name, Pool(name, None, ()))
            price = row.get("price", {}).get("serverless") or pool.price
            found[name] = Pool(name, price, (*pool.types, str(row["id"])))
    return found


def order_pools(
    wanted: Iterable[str], excluded: Iterable[str], pools: Mapping[str, Pool], archs: Sequence[str]
) -> tuple[Pool, ...]:
    """Return the wanted pools, the cheapest first.

    Args:
        wanted: ids of pools.
        excluded: ids of cards in them that are not wanted.
        pools: those that there are.
        archs: what the image's torch has code for, by its own smoke report.

    Raises:
        UserError: a pool or card is unknown, or the image is not known to have code for a pool.
    """
    wanted, excluded = tuple(dict.fromkeys(wanted)), tuple(excluded)
    for name in wanted:
        if name not in pools:
            raise UserError(
                f"RunPod has no GPU pool {name}",
                location="deploy.pools",
                hint=f"one of: {', '.join(sorted(pools))}",
                code="gpu-pool-unknown",
            )
        _require_code(name, archs)
    types = {each for name in wanted for each in pools[name].types}
    for card in excluded:
        if card not in types:
            raise UserError(
                f"{card} is not in these pools",
                location="deploy.excluded_gpus",
                hint=f"one of: {', '.join(sorted(types))}",
                code="gpu-pool-unknown",
            )
    if types <= set(excluded):
        raise UserError("no card is left", location="deploy.excluded_gpus", code="gpu-pool-unknown")
    # By a list price that is not there, a pool comes last.
    return tuple(sorted((pools[name] for name in wanted), key=lambda pool: pool.price or 1e9))


def _require_code(pool: str, archs: Sequence[str]) -> None:
    """Check that the image's torch carries code for the cards of a pool."""
    if pool not in CAPABILITIES:
        raise UserError(
            f"the cards of {pool} are not known here",
            location="deploy.pools",
            hint=f"one of: {', '.join(CAPABILITIES)}",
            code="gpu-pool-unknown",
        )
    missing = [dotted(each) for each in CAPABILITIES[pool] if not best_arch(each, archs)]
    if missing:
        carried = " ".join(archs) or "nothing that its smoke report names"
        raise UserError(
            f"the image has no code for {pool} ({', '.join(missing)}): torch carries {carried}",
            location="deploy.pools",
            hint="leave the pool out, or build on a base.runtime that has code for it",
            code="no-kernel-image",
        )
