"""Which kernel is current: the innermost of this context, else the one default of the process."""

import asyncio
import threading
from importlib.metadata import EntryPoint

import pytest

from kor_core import kernel as kernel_module
from kor_core.errors import KernelError
from kor_core.kernel import (
    Kernel,
    RefusedDefault,
    default_source,
    get_kernel,
    reset_kernel,
    use_kernel,
)
from kor_core.llm.catalogue import Catalogue
from kor_core.llm.echo import EchoProvider
from kor_core.llm.registry import LLMRegistry
from kor_core.llm.selector import ModelSelector
from kor_core.plugin import KorContext, initialising
from kor_core.scope import Scope
from kor_core.settings import settings_from


class Source:
    """A container as the kernel sees it."""

    def __init__(self):
        self.closings = 0
        self.closed = False
        self.scope = Scope(self)
        settings = settings_from({})
        catalogue = Catalogue([EchoProvider()])
        catalogue.services.add("clock", "plugin's")
        registry = LLMRegistry(settings, catalogue, self.scope.providers)
        selector = ModelSelector(settings, registry)
        self.made = Kernel(settings, registry, selector, catalogue, self.scope)

    def view(self, prefix):
        return self

    def kernel(self):
        return self.made

    def close(self):
        self.closings += 1

    async def aclose(self):
        self.closings += 10


@pytest.fixture
def source():
    return Source()


@pytest.fixture(autouse=True)
def no_default():
    reset_kernel()
    yield
    reset_kernel()


def test_a_kernel_offers_registry_selector_settings_services_and_context(source):
    kernel = source.made

    assert kernel.llm_registry is kernel.registry.get_service("llm")
    assert kernel.llm_registry is kernel.context.get_llm_registry()
    assert "plugin's" == kernel.registry.get_service("clock")
    assert isinstance(kernel.context, KorContext)
    assert kernel.settings is kernel.context.settings
    assert kernel.registry is kernel.context.registry
    assert kernel.tenant is None
    assert "<Kernel>" == repr(kernel)


async def test_a_kernel_closes_its_container_as_context_manager_and_by_hand(source):
    kernel = source.made

    with kernel as entered:
        assert kernel is entered
    assert 1 == source.closings

    async with kernel as entered:
        assert kernel is entered
    assert 11 == source.closings

    kernel.close()
    await kernel.aclose()
    assert 22 == source.closings


def test_a_closed_kernel_says_so_and_gives_nothing_any_more(source):
    source.closed = True

    assert "<Kernel, closed>" == repr(source.made)
    for name in ("llm_registry", "model_selector"):
        with pytest.raises(KernelError, match="This kernel is closed"):
            getattr(source.made, name)


# --- use_kernel ---


def test_what_is_no_kernel_cannot_be_made_current():
    with (
        pytest.raises(TypeError, match=r"takes a kernel, not object\. Of a container"),
        use_kernel(object()),
    ):
        pass


def test_the_innermost_kernel_is_current_and_the_outer_one_is_back_afterwards(source):
    inner = Source().made

    with use_kernel(source.made) as entered:
        with use_kernel(inner):
            assert inner is get_kernel()
        assert entered is get_kernel()

    assert source.made is entered


async def test_tasks_inherit_the_current_kernel_and_siblings_never_see_each_others():
    kernels = [Source().made for _ in range(20)]

    async def child():
        await asyncio.sleep(0)
        return get_kernel()

    async def task(kernel):
        with use_kernel(kernel):
            await asyncio.sleep(0)
            return await asyncio.create_task(child())

    assert kernels == await asyncio.gather(*map(task, kernels))


# --- the default ---


def test_the_default_is_built_once_however_many_threads_race(source):
    barrier = threading.Barrier(16)
    built = []
    found = []

    def build():
        built.append(source)
        return source

    def ask():
        barrier.wait()
        default_source(build)
        found.append(get_kernel())

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 == len(built)
    assert [source.made] * 16 == found


def test_the_default_is_asked_of_its_container_at_each_call(source):
    default_source(lambda: source)
    first = get_kernel()

    source.made = Source().made

    assert first is not get_kernel()
    assert source.made is get_kernel()


def test_reset_closes_and_forgets_the_default(source):
    default_source(lambda: source)

    reset_kernel()
    reset_kernel()

    other = Source()
    assert 1 == source.closings
    assert other is default_source(lambda: other)


def test_a_default_that_cannot_be_built_is_tried_again(source):
    def fail():
        raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        default_source(fail)

    assert source is default_source(lambda: source)


@pytest.mark.parametrize("count", [0, 2])
def test_any_number_of_entry_points_but_one_is_an_error_that_lists_them(monkeypatch, count):
    points = [EntryPoint(f"p{i}", f"m{i}:f", "kor_core.kernel") for i in range(count)]
    monkeypatch.setattr(kernel_module, "entry_points", lambda group: points)

    with pytest.raises(KernelError, match="Exactly one entry point") as caught:
        get_kernel()

    assert all(f"{p.name} = {p.value}" in str(caught.value) for p in points)


def test_the_entry_point_builds_the_default(monkeypatch, source):
    class Point:
        def load(self):
            return source.kernel

    monkeypatch.setattr(kernel_module, "entry_points", lambda group: [Point()])

    assert source.made is get_kernel()
    assert source is default_source()


# --- the default is refused ---


def test_the_default_is_refused_while_anyone_refuses_it_and_the_error_says_why(source):
    default_source(lambda: source)
    first, second = RefusedDefault(), RefusedDefault()
    first.withdraw()

    with pytest.raises(KernelError, match=r"tenants\.use\(id\)"):
        get_kernel()
    second.withdraw()

    assert source.made is get_kernel()


def test_an_ambient_kernel_is_given_though_the_default_is_refused(source):
    refused = RefusedDefault()

    with use_kernel(source.made):
        found = get_kernel()
    refused.withdraw()

    assert source.made is found


def test_a_plugin_that_initialises_gets_no_kernel_though_one_is_current(source):
    """What it registers is for all tenants, and the current kernel may be one's."""
    token = initialising.set("mine")
    try:
        with use_kernel(source.made), pytest.raises(KernelError, match="Use the context given"):
            get_kernel()
    finally:
        initialising.reset(token)


def test_what_refused_the_default_and_was_forgotten_refuses_nothing(source):
    default_source(lambda: source)
    refused = RefusedDefault()
    del refused

    assert source.made is get_kernel()
