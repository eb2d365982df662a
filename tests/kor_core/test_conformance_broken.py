"""The suite finds what is wrong: a provider that breaks one rule fails the test of that rule."""

import asyncio
import sys
from importlib import util
from pathlib import Path

import pytest

from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIProvider
from kor_core.settings import NetworkSettings
from kor_core.testing import Upstream
from kor_core.testing.conformance import ProviderConformance

SOURCE = Path(__file__).with_name("broken_providers.py")


def load():
    spec = util.spec_from_file_location("broken_providers", SOURCE)
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BROKEN = {name: kind for name, kind in vars(load()).items() if name.startswith("Test")}


GROUPS = [vars(group) for group in ProviderConformance.__mro__]


def around(rules):
    """The tests of the groups in which a rule stands: what is far from it is run on right ones."""
    groups = [group for group in GROUPS if set(rules) & set(group)]
    return [name for group in groups for name in group if name.startswith("test_")]


@pytest.fixture(scope="module", autouse=True)
def vendor_loaded():
    """pytester forgets what a run imported, and a vendor's SDK cannot be imported twice."""
    with Upstream() as server:
        provider = OpenAIProvider(Transport(NetworkSettings()))
        config = {"api_key": "sk-any", "base_url": server.openai_url}
        asyncio.run(provider.create_model("gpt-4", config).agenerate("Hello!"))


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_rule_fails_its_test_and_no_other(name, pytester, monkeypatch):
    kind = BROKEN[name]
    pytester.makepyfile(test_broken=SOURCE.read_text(encoding="utf-8"))
    chosen = " or ".join(around(kind.breaks) or ["test_"])

    # Without pytest-asyncio: the suite needs no plugin.
    options = [f"-p no:{plugin}" for plugin in ("randomly", "cacheprovider", "asyncio")]
    run = pytester.inline_run(f"test_broken.py::{name}", "-k", chosen, *options)
    monkeypatch.undo()  # back from pytester's folder, while the folder before it is still there

    reports = run.getreports("pytest_runtest_logreport")
    failed = {each.location[2].split("[")[0].partition(".")[2] for each in reports if each.failed}
    assert set(kind.breaks) <= failed <= {*kind.breaks, *kind.may_break}


def test_hardly_a_test_of_the_suite_was_never_seen_to_fail():
    seen = {name for kind in BROKEN.values() for name in (*kind.breaks, *kind.may_break)}
    tests = {name for name in dir(ProviderConformance) if name.startswith("test_")}

    assert {
        "test_a_stream_is_whole_at_its_end",
        "test_a_sync_stream_is_the_same",
        "test_a_stream_that_fails_at_once_is_a_typed_error",
        "test_after_a_cancelled_call_the_model_serves",
        "test_what_is_configured_is_sent",
    } == tests - seen
    assert "broken_providers" not in sys.modules
