r"""A worker that handles the jobs of many tenants, each with its tenant's kernel.

Jobs come as lines ``tenant<tab>prompt`` on stdin, as from a queue:

    printf 'acme\tHello\nglobex\tGood evening\n' | python examples/tenants_worker.py
"""

import asyncio
import sys
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

from kor_containers import TenantKernels, create_container
from kor_core.errors import KorError
from kor_core.kernel import get_kernel

CONFIGS = Path(__file__).parents[1] / "configs"


class Job(NamedTuple):
    """One question of one tenant."""

    tenant: str
    prompt: str


async def answer(prompt: str) -> str:
    """Answer with whichever tenant's kernel is current: code deep inside needs no argument."""
    return await get_kernel().model_selector.get_model().agenerate(prompt)


async def handle(tenants: TenantKernels[Any], job: Job) -> str:
    """Handle one job; what is wrong with one tenant stops no other's jobs."""
    try:
        async with tenants.use(job.tenant):
            return f"{job.tenant}: {await answer(job.prompt)}"
    except KorError as error:
        return f"{job.tenant}: {type(error).__name__}: {error}"


async def work(
    tenants: TenantKernels[Any], jobs: AsyncIterable[Job], workers: int = 8
) -> AsyncIterator[str]:
    """Yield the outcomes of jobs, so many at once, as they are done."""
    waiting: set[asyncio.Task[str]] = set()
    async for job in jobs:
        waiting.add(asyncio.create_task(handle(tenants, job)))
        if len(waiting) >= workers:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    for outcome in asyncio.as_completed(waiting):
        yield await outcome


async def lines() -> AsyncIterator[Job]:
    """Yield the jobs on stdin."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        tenant, _, prompt = line.rstrip("\n").partition("\t")
        yield Job(tenant, prompt)


async def main() -> None:
    """Handle what comes on stdin."""
    async with (
        create_container(CONFIGS / "first.toml") as app,
        TenantKernels(app, CONFIGS / "tenants") as tenants,
    ):
        async for outcome in work(tenants, lines()):
            print(outcome)


if __name__ == "__main__":
    asyncio.run(main())
