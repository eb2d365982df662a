"""The table of profiles is a binding like others: shared by tenants, read late, replaceable."""

import runpy
from pathlib import Path

import pytest

from kor_containers import TenantKernels, create_container
from kor_core.llm.profile import ModelProfile

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture
def app():
    with create_container({"llm": {"default": {"model": "echo:any"}}}) as app:
        yield app


def ours(provider, model):
    return ModelProfile(max_output=len(f"{provider}:{model}"))


def test_a_table_of_ones_own_serves_registries_in_place_and_beside(app):
    registry = app.llm.registry()

    child = app.derive({"llm.profiles": ours})
    with app.override({"llm.profiles": ours}):
        inside = app.llm.registry().profile("echo:any").max_output

    assert 8 == inside == child.llm.registry().profile("echo:any").max_output
    assert registry is app.llm.registry()
    assert registry.profile("echo:any").max_output is None


def test_tenants_share_the_table_and_the_vendors(app):
    with TenantKernels(app, {"acme": {}}) as tenants:
        shared = tenants.shared_bindings()

    assert {"llm.profiles", "llm.vendors"} <= set(shared)


def test_the_page_of_vendors_is_what_their_rows_say():
    """If this fails: python docs/generate_vendors.py."""
    generated = runpy.run_path(str(DOCS / "generate_vendors.py"))
    page = (DOCS / "vendors.md").read_text(encoding="utf-8")

    assert generated["page"](page) == page
