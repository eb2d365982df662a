"""Singletons and async: what goes wrong with dependency-injector's, and does not with ours."""

import asyncio
import threading
import time
from typing import Any

import pytest
from dependency_injector import providers

from kor_containers.container import KorContainer
from kor_containers.providers import Object, Singleton
from kor_core.errors import ContainerError


def race(work: Any) -> set[int]:
    results: list[Any] = []
    start = threading.Barrier(8)

    def run() -> None:
        start.wait()
        results.append(work())

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return set(map(id, results))


def slow() -> object:
    time.sleep(0.02)
    return object()


def test_eight_threads_make_one_instance() -> None:
    """There, ``Singleton`` made eight."""

    class App(KorContainer):
        one = Singleton(slow)
        nested = Singleton(list, providers.List(providers.Singleton(slow)))

    app = App()

    assert len(race(app.one)) == 1
    assert len(race(lambda: app.nested()[0])) == 1
    derived = app.derive({"one": providers.Singleton(slow)})
    assert len(race(derived.one)) == 1


def test_a_singleton_that_gives_none_is_built_once() -> None:
    """There, it is built again at every call."""
    built: list[int] = []

    class App(KorContainer):
        nothing = Singleton(built.append, 1)

    app = App()
    app.nothing()
    app.nothing()

    assert built == [1]


def test_unrelated_constructors_do_not_wait_for_each_other() -> None:
    """There, ``ThreadSafeSingleton`` has one lock for all."""
    meeting = threading.Barrier(2)

    class App(KorContainer):
        one = Singleton(meeting.wait, 10)
        two = Singleton(meeting.wait, 10)

    app = App()
    thread = threading.Thread(target=app.one)
    thread.start()
    app.two()
    thread.join()

    assert not meeting.broken


async def async_fake() -> str:
    return "fake"


async def test_sync_first_and_an_async_override_later_injects_no_coroutine() -> None:
    """There, a provider latches sync at its first call."""

    class App(KorContainer):
        one = Singleton(dict)
        above = Singleton(list, providers.List(one))

    app = App()
    app.above()
    with app.one.override(Singleton(async_fake)):
        assert await app.above.async_() == ["fake"]
        assert app.above() == ["fake"]
    assert app.above() == [{}]


async def test_async_first_and_a_sync_fake_later_hands_out_no_future() -> None:
    """There, a provider latches async at its first call."""

    class App(KorContainer):
        one = Singleton(async_fake)
        above = Singleton(list, providers.List(one))

    app = App()
    await app.above.async_()
    with app.one.override("sync"):
        assert app.above() == ["sync"]
        assert app.one() == "sync"


async def test_cancelling_one_waiter_cancels_nobody_else() -> None:
    go = asyncio.Event()

    async def build() -> str:
        await go.wait()
        return "built"

    class App(KorContainer):
        one = Singleton(build)

    app = App()
    tasks = [asyncio.create_task(app.one.async_()) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.sleep(0)
    go.set()

    assert await asyncio.gather(*tasks[1:]) == ["built", "built"]


async def test_a_first_build_that_timed_out_is_not_kept_as_cancelled() -> None:
    go = asyncio.Event()

    async def build() -> str:
        await go.wait()
        return "built"

    class App(KorContainer):
        one = Singleton(build)

    app = App()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(app.one.async_(), 0.01)
    go.set()

    assert await app.one.async_() == "built"


def test_a_second_event_loop_gets_a_clear_error_and_a_derived_container_its_own() -> None:
    """There, two event loops raise cross-loop errors."""

    class App(KorContainer):
        word = Object("a")
        one = Singleton(async_fake)

    app = App()

    async def ask(binding: Any) -> Any:
        return await binding.async_()

    assert asyncio.run(ask(app.one)) == "fake"
    with pytest.raises(ContainerError, match="another event loop"):
        asyncio.run(ask(app.one))
    assert asyncio.run(ask(app.derive({"one": Singleton(async_fake)}).one)) == "fake"
