"""A container closes what it built, in reverse order, whatever fails, and nothing else."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from dependency_injector import providers

from kor_containers.container import KorContainer
from kor_containers.providers import Alias, Object, Singleton
from kor_core.errors import ContainerError


def test_what_was_built_is_closed_in_reverse_order_of_creation(
    toy: SimpleNamespace, app: Any
) -> None:
    app.kernel()
    app.close()

    assert toy.log == [
        "Kernel", "Selector", "Registry", "Catalogue", "LiteLLM", "OpenAI", "Transport", "Settings",
    ]  # fmt: skip


def test_what_was_not_built_is_not_built_to_be_closed(toy: SimpleNamespace, app: Any) -> None:
    app.network.transport()
    app.close()

    assert toy.log == ["Transport", "Settings"]


def test_closing_twice_is_once(toy: SimpleNamespace, app: Any) -> None:
    app.kernel()
    app.close()
    app.close()
    asyncio.run(app.aclose())

    assert len(toy.log) == 8


async def test_a_container_is_a_context_manager(toy: SimpleNamespace) -> None:
    with toy.App() as app:
        kernel = app.kernel()
    assert kernel.closed == 1
    async with toy.App() as app:
        kernel = await app.kernel.async_()
    assert kernel.closed == 1


def test_use_after_close_is_a_clear_error(app: Any) -> None:
    child = app.derive({"config.settings": "tenant's"})
    app.kernel()
    app.close()
    for use in (
        app.kernel,
        app.network.transport,
        child.kernel,
        lambda: app.derive({"kernel": 1}),
        lambda: app.override({"kernel": 1}),
        lambda: app.llm.openai.override("fake"),
        app.validate,
        lambda: app.why("kernel"),
    ):
        with pytest.raises(ContainerError, match="This container is closed"):
            use()


async def test_use_after_close_is_a_clear_error_for_async_code_too(app: Any) -> None:
    await app.kernel.async_()
    await app.aclose()
    with pytest.raises(ContainerError, match="This container is closed"):
        await app.kernel.async_()


def test_a_child_closes_its_own_and_never_its_parents(toy: SimpleNamespace, app: Any) -> None:
    child = app.derive({"config.settings": "tenant's"})
    app.kernel()
    child.kernel()
    child.close()

    assert toy.log == ["Kernel", "Selector", "Registry"]
    assert app.kernel().closed == 0


def test_closing_a_parent_closes_living_children_first(toy: SimpleNamespace, app: Any) -> None:
    child = app.derive({"llm.openai": "own"})
    grandchild = child.derive({"config.settings": "tenant's"})
    kernels = app.kernel(), child.kernel(), grandchild.kernel()
    app.close()

    assert toy.log[:7] == [
        "Kernel", "Selector", "Registry", "Kernel", "Selector", "Registry", "Catalogue",
    ]  # fmt: skip
    assert [kernel.closed for kernel in kernels] == [1, 1, 1]
    with pytest.raises(ContainerError):
        grandchild.kernel()


def test_closing_closes_what_overrides_in_force_built_too(toy: SimpleNamespace, app: Any) -> None:
    outside = app.kernel()
    override = app.llm.openai.override("fake")
    inside = app.kernel()
    app.close()
    override.end()

    assert (outside.closed, inside.closed) == (1, 1)
    assert toy.log[:4] == ["Kernel", "Selector", "Registry", "Catalogue"]


def test_what_a_provider_handed_in_builds_is_closed(toy: SimpleNamespace, app: Any) -> None:
    child = app.derive({"llm.openai": Singleton(toy.OpenAI)})
    fake = child.llm.openai()
    native = app.derive({"llm.openai": providers.Singleton(toy.OpenAI)})
    other = native.kernel().openai
    child.close()
    native.close()

    assert fake.closed == other.closed == 1


def test_a_derived_container_closes_its_own_copy_of_a_native_singleton(
    toy: SimpleNamespace,
) -> None:
    class App(KorContainer):
        word = Object("a")
        single = providers.Singleton(toy.Part, word)
        above = Singleton(list, providers.List(single))

    app = App()
    child = app.derive({"word": "b"})
    own, parents = child.above()[0], app.above()[0]
    child.close()
    app.close()

    assert own.needs == ("b",)
    assert (own.closed, parents.closed) == (1, 0)  # the declared one is dependency-injector's


def test_all_closers_run_and_errors_come_out_as_one_group(toy: SimpleNamespace, app: Any) -> None:
    class Bad(toy.Part):
        def close(self) -> None:
            super().close()
            raise OSError("stuck")

    child = app.derive({"llm.openai": Singleton(Bad), "llm.litellm": Singleton(Bad)})
    kernel = child.kernel()
    with pytest.raises(ExceptionGroup, match="2 errors while closing the container") as caught:
        child.close()

    assert [error.__notes__ for error in caught.value.exceptions] == [
        ["while closing llm.litellm"],
        ["while closing llm.openai"],
    ]
    assert kernel.closed == kernel.openai.closed == 1
    child.close()


class Client:
    """Has both closers, as most clients do."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    def close(self) -> None:
        self.closed.append("close")

    async def aclose(self) -> None:
        self.closed.append("aclose")


class AsyncOnly:
    def __init__(self) -> None:
        self.closed = 0

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1


class App(KorContainer):
    client = Singleton(Client)
    same = Alias(client)
    passed = Singleton(lambda client: client, client)
    kept = Singleton(Client).closed_by(None)
    named = Singleton(Client).closed_by(lambda client: client.closed.append("mine"))
    method = Singleton(list, providers.List(1)).closed_by("clear")
    late = Singleton(AsyncOnly)
    kind = Singleton(lambda: Client)


def build(app: Any) -> None:
    for provider in app.providers.values():
        provider()


def test_each_way_of_closing_prefers_its_own() -> None:
    sync, asynchronous = App(), App()
    build(sync)
    build(asynchronous)
    clients = sync.client(), asynchronous.client()
    sync.close()
    asyncio.run(asynchronous.aclose())

    assert [client.closed for client in clients] == [["close"], ["aclose"]]


def test_a_binding_may_say_how_it_is_closed_or_that_it_is_not() -> None:
    app = App()
    build(app)
    kept, named, method = app.kept(), app.named(), app.method()
    app.close()

    assert kept.closed == []
    assert named.closed == ["mine"]
    assert method == []


def test_a_close_that_is_no_method_is_no_closer() -> None:
    class App(KorContainer):
        odd = Singleton(SimpleNamespace, close=None)

    app = App()
    app.odd()
    app.close()


def test_an_async_closer_runs_under_sync_close_too() -> None:
    app = App()
    late = app.late()
    app.close()

    assert late.closed == 1


async def test_an_async_closer_runs_under_sync_close_inside_a_running_loop() -> None:
    app = App()
    late = app.late()
    app.close()

    assert late.closed == 1


async def test_a_sync_closer_runs_under_async_close() -> None:
    app = App()
    named = app.named()
    await app.aclose()

    assert named.closed == ["mine"]


def test_an_async_closer_that_fails_under_sync_close_is_reported() -> None:
    class Bad:
        async def aclose(self) -> None:
            raise OSError("stuck")

    app = App().derive({"client": Singleton(Bad)})
    app.client()
    with pytest.raises(ExceptionGroup) as caught:
        app.close()

    assert str(caught.value.exceptions[0]) == "stuck"


async def test_a_cancelled_close_runs_every_closer_and_stays_cancelled(
    toy: SimpleNamespace, app: Any
) -> None:
    begun = asyncio.Event()

    class Slow(toy.Part):
        async def aclose(self) -> None:
            begun.set()
            await asyncio.sleep(60)

    class Bad(toy.Part):
        async def aclose(self) -> None:
            raise OSError("stuck")

    child = app.derive({"llm.openai": Singleton(Slow), "llm.litellm": Singleton(Bad)})
    kernel = child.kernel()
    task = asyncio.create_task(child.aclose())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task

    assert kernel.closed == kernel.registry.closed == 1
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    await app.aclose()


def test_an_object_bound_under_two_names_is_closed_once_by_its_owner() -> None:
    app = App()
    build(app)
    child = app.derive({"kept": 1, "passed": Singleton(lambda client: client, app.client)})
    client = child.passed()
    child.close()
    assert client.closed == []
    app.close()

    assert client.closed == ["close"]


def test_the_same_object_made_by_two_bindings_is_closed_once() -> None:
    client = Client()

    class Two(KorContainer):
        one = Singleton(lambda: client)
        two = Singleton(lambda: client)

    app = Two()
    app.one()
    app.two()
    app.close()

    assert client.closed == ["close"]


def test_a_kernel_that_closes_its_container_closes_it_once() -> None:
    closed = []

    class Kernel:
        def __init__(self, app: Any) -> None:
            self.app = app

        def close(self) -> None:
            closed.append(1)
            self.app.close()

    class Owner(KorContainer):
        kernel = Singleton(lambda: Kernel(app))

    app = Owner()
    app.kernel().close()

    assert closed == [1, 1]  # the user's call, and the container's; the second changes nothing
    with pytest.raises(ContainerError):
        app.kernel()


def test_a_scope_closes_its_container(app: Any) -> None:
    kernel = app.kernel()
    kernel.scope.owner.close()

    assert kernel.closed == 1


def test_what_is_built_while_the_container_closes_is_closed_at_once(
    toy: SimpleNamespace, app: Any
) -> None:
    begun, go = threading.Event(), threading.Event()
    parts, errors = [], []

    def slow() -> Any:
        begun.set()
        go.wait(10)
        parts.append(toy.Part())
        return parts[0]

    child = app.derive({"llm.openai": Singleton(slow)})

    def use() -> None:
        try:
            child.kernel()
        except ContainerError as error:
            errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    begun.wait(10)
    child.close()
    go.set()
    thread.join()

    assert parts[0].closed == 1
    assert "closed" in str(errors[0])


def test_what_is_built_while_its_override_ends_is_built_again_outside(
    toy: SimpleNamespace, app: Any
) -> None:
    begun, go = threading.Event(), threading.Event()
    parts, kernels = [], []

    def slow() -> Any:
        begun.set()
        go.wait(10)
        parts.append(toy.Part())
        return parts[0]

    with app.llm.openai.override(Singleton(slow)):
        thread = threading.Thread(target=lambda: kernels.append(app.kernel()))
        thread.start()
        begun.wait(10)
    go.set()
    thread.join()

    assert parts[0].closed == 1
    assert kernels == [app.kernel()]
    assert isinstance(app.kernel().openai, toy.OpenAI)


def test_a_plain_object_built_too_late_is_just_dropped(app: Any) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow() -> Any:
        begun.set()
        go.wait(10)
        return object()

    kernels: list[Any] = []
    factory = providers.Factory(list, providers.List(providers.Singleton(slow)))
    with app.llm.openai.override(Singleton(list, factory)):
        thread = threading.Thread(target=lambda: kernels.append(app.kernel()))
        thread.start()
        begun.wait(10)
    go.set()
    thread.join()

    assert kernels == [app.kernel()]


async def test_an_async_build_that_outlives_its_override_is_built_again(app: Any) -> None:
    go = asyncio.Event()

    async def slow() -> Any:
        await go.wait()
        return AsyncOnly()

    async with app.override({"llm.openai": Singleton(slow)}):
        task = asyncio.create_task(app.kernel.async_())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    go.set()

    assert await task is app.kernel()


def test_a_reference_kept_from_an_ended_override_says_so(toy: SimpleNamespace, app: Any) -> None:
    factory = providers.Factory(list, providers.List(app.llm.litellm))
    with app.override({"llm.openai": Singleton(toy.Part, factory.provider)}):
        make = app.llm.openai().needs[0]
        assert make() == [app.llm.litellm()]
    with app.override(
        {"network.transport": "wire", "llm.openai": Singleton(toy.Part, factory.provider)}
    ):
        make = app.llm.openai().needs[0]

    with pytest.raises(ContainerError, match="has ended"):
        make()
