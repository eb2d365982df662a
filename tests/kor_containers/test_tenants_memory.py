"""A tenant with its kernel is small, as small when there are thousands, and freed when let go."""

import gc
import tracemalloc

import pytest

from kor_containers import TenantKernels, create_container
from kor_containers.pool import Lease

OPERATOR = {
    "llm": {
        "default": {"provider": "openai", "model": "gpt-4o"},
        "providers": {
            "openai": {"api_key": "sk-op", "timeout": 30, "extra": {"organization": "org"}},
            "litellm": {"extra": {"drop_params": True}},
        },
        "purposes": {"coding": {"provider": "litellm", "model": "claude-3-opus"}},
    }
}
MOST = 4096  # bytes; pydantic alone takes a quarter of it, for the settings


@pytest.fixture
def app():
    with create_container(OPERATOR) as app:
        yield app


def overlay(tenant):
    return {"llm": {"providers": {"openai": {"api_key": f"sk-of-{tenant}"}}}}


def fill(tenants, first, last):
    for number in range(first, last):
        with tenants.use(f"tenant-{number}"):
            pass


def bytes_each(app, count):
    with TenantKernels(app, overlay, max_active=count + 1) as tenants:
        fill(tenants, 0, 1)  # what is built once for all
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            fill(tenants, 1, count + 1)
            gc.collect()
            return (tracemalloc.get_traced_memory()[0] - before) / count
        finally:
            tracemalloc.stop()


@pytest.mark.soak
def test_a_tenant_with_its_kernel_takes_few_kilobytes_however_many_there_are(app, rounds):
    many = bytes_each(app, rounds(10_000))

    assert many <= MOST


def test_what_is_let_go_is_freed(app):
    def alive():
        gc.collect()
        return sum(type(found) is Lease for found in gc.get_objects())

    with TenantKernels(app, overlay, max_active=10) as tenants:
        fill(tenants, 0, 200)
        few = alive()
    with TenantKernels(app, overlay, max_active=1000) as tenants:
        fill(tenants, 0, 200)
        all_ = alive()
    del tenants
    none = alive()

    assert (10, 200, 0) == (few, all_, none)
    assert [] == app.place()[0].children
