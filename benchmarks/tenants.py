"""What a tenant costs: bytes and microseconds with its kernel, flat to 10,000, all freed.

Run it as ``python benchmarks/tenants.py [how many …]``; the default is 100, 1,000 and 10,000.
"""

import gc
import sys
import time
import tracemalloc
from collections.abc import Iterator, Mapping
from typing import Any

from kor_containers import ApplicationContainer, TenantKernels, create_container

OPERATOR: Mapping[str, Any] = {
    "llm": {
        "default": {"provider": "openai", "model": "gpt-4o"},
        "providers": {
            "openai": {"api_key": "sk-operator", "timeout": 30, "extra": {"organization": "org"}},
            "litellm": {"extra": {"drop_params": True}},
        },
        "purposes": {
            "coding": {"provider": "litellm", "model": "claude-3-opus"},
            "fast": {"model": "gpt-4o-mini"},
            "creative": {"temperature": 1.0},
        },
    }
}


def overlay(tenant: str) -> Mapping[str, Any]:
    """Return what most tenants bring: a key of their own."""
    return {"llm": {"providers": {"openai": {"api_key": f"sk-of-{tenant}"}}}}


def spread(app: ApplicationContainer, counts: list[int]) -> Iterator[tuple[int, float, float]]:
    """Yield for each count the bytes and the seconds that one tenant took."""
    for count in counts:
        with TenantKernels(app, overlay, max_active=count) as tenants:
            fill(tenants, 1)  # what is built once for all
            gc.collect()
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            fill(tenants, count)
            gc.collect()
            size = (tracemalloc.get_traced_memory()[0] - before) / count
            tracemalloc.stop()
        with TenantKernels(app, overlay, max_active=count) as tenants:
            gc.collect()
            start = time.perf_counter()
            fill(tenants, count)
            yield count, size, (time.perf_counter() - start) / count


def fill(tenants: TenantKernels[Any], count: int) -> None:
    for number in range(count):
        with tenants.use(f"tenant-{number}"):
            pass


def left_behind(app: ApplicationContainer, count: int) -> int:
    """Return the bytes that are left when that many tenants have come and gone."""
    with TenantKernels(app, overlay, max_active=count) as tenants:
        fill(tenants, 10)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    with TenantKernels(app, overlay, max_active=count) as tenants:
        fill(tenants, count)
    del tenants
    gc.collect()
    left = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return left


def hit(app: ApplicationContainer, times: int = 20_000) -> float:
    """Return the seconds that a use of a kernel that is alive takes."""
    with TenantKernels(app, overlay) as tenants:
        fill(tenants, 1)
        start = time.perf_counter()
        for _ in range(times):
            with tenants.use("tenant-0"):
                pass
        return (time.perf_counter() - start) / times


def main() -> None:
    counts = [int(word) for word in sys.argv[1:]] or [100, 1_000, 10_000]
    with create_container(OPERATOR) as app:
        print(f"{'tenants':>8} {'bytes each':>11} {'µs each':>9}")
        for count, size, seconds in spread(app, counts):
            print(f"{count:>8} {size:>11.0f} {seconds * 1e6:>9.1f}")
        print(f"left behind by {counts[-1]}: {left_behind(app, counts[-1])} bytes")
        print(f"use of a kernel that is alive: {hit(app) * 1e6:.1f} µs")


if __name__ == "__main__":
    main()
