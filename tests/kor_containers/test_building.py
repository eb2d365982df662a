"""Objects are built once, by threads and tasks alike, and failures say where they happened."""

import asyncio
import gc
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from dependency_injector import providers

from kor_containers import ApplicationContainer, sources
from kor_containers.container import KorContainer
from kor_containers.definitions import MISSING
from kor_containers.flights import Flight, take_off
from kor_containers.providers import Alias, Dependency, Object, Singleton
from kor_core.errors import ContainerError


def in_threads(work: Any, count: int = 8) -> list[Any]:
    """The results of `work`, run in so many threads that start together."""
    results: list[Any] = []
    start = threading.Barrier(count)

    def run() -> None:
        start.wait()
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001 # the test looks at it
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# --- threads ------------------------------------------------------------------------------


def test_threads_that_race_get_one_object() -> None:
    built = []

    class App(KorContainer):
        slow = Singleton(lambda: (time.sleep(0.05), built.append(1), object())[-1])

    app = App()
    results = in_threads(app.slow)

    assert len(built) == 1
    assert len(set(map(id, results))) == 1


def test_slow_constructors_of_unrelated_bindings_overlap() -> None:
    """Each constructor waits for the other to have begun: one lock for both would hang."""
    meeting = threading.Barrier(2)

    class App(KorContainer):
        one = Singleton(lambda: meeting.wait(10))
        two = Singleton(lambda: meeting.wait(10))

    app = App()
    other = threading.Thread(target=app.one)
    other.start()
    app.two()
    other.join()

    assert {app.one(), app.two()} == {0, 1}


def test_a_failed_build_reaches_who_waited_and_is_tried_again() -> None:
    attempts = []

    def attempt() -> str:
        attempts.append(1)
        time.sleep(0.05)
        if len(attempts) == 1:
            raise OSError("not yet")
        return "done"

    class App(KorContainer):
        flaky = Singleton(attempt)

    app = App()
    results = in_threads(app.flaky, 4)

    assert any(isinstance(result, OSError) for result in results)
    assert app.flaky() == "done"
    assert len(attempts) == 2


def test_a_constructor_may_return_none() -> None:
    built: list[int] = []

    class App(KorContainer):
        nothing = Singleton(built.append, 1)

    app = App()

    assert app.nothing() is None
    assert app.nothing() is None
    assert built == [1]


def test_an_object_takes_no_arguments(app: Any) -> None:
    with pytest.raises(TypeError):
        app.kernel(1)


def test_who_comes_just_after_a_build_ended_takes_its_object(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class App(KorContainer):
        one = Singleton(list)

    def another_was_quicker(flight: Flight) -> Flight:
        flight.goal.value = "built meanwhile"  # type: ignore[attr-defined] # the goal is a cell
        return take_off(flight)

    monkeypatch.setattr(sources, "take_off", another_was_quicker)

    assert App().one() == "built meanwhile"
    assert asyncio.run(App().one.async_()) == "built meanwhile"


async def test_who_waits_for_a_flight_that_landed_goes_on() -> None:
    flight = Flight(sources.Cell(None, "one", None), None)  # type: ignore[arg-type] # homeless
    take_off(flight)
    flight.land(flight.embark())

    await flight.wait_async(None)
    flight.wait(None)


async def test_who_waits_for_a_flight_may_be_cancelled() -> None:
    flight = Flight(sources.Cell(None, "one", None), None)  # type: ignore[arg-type] # homeless
    take_off(flight)
    token = flight.embark()
    waiter = asyncio.create_task(flight.wait_async(None))
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    flight.land(token)
    await asyncio.sleep(0)

    assert waiter.cancelled()


def test_what_is_missing_says_so() -> None:
    assert repr(MISSING) == "MISSING"


# --- circles ------------------------------------------------------------------------------


def test_a_declared_circle_is_found_before_anything_is_built() -> None:
    class Inner(KorContainer):
        need = Dependency()
        one = Singleton(list, need)

    class App(KorContainer):
        inner = providers.Container(Inner)
        two = Singleton(list, inner.one)
        inner.need.override(two)

    app = App()
    with pytest.raises(ContainerError, match=r"needs? (itself|each other)") as caught:
        app.two()

    assert "inner.need ← two ← inner.one ← inner.need" in str(caught.value)


def test_every_circle_is_told() -> None:
    class Inner(KorContainer):
        first, second = Dependency(), Dependency()
        one, two = Singleton(list, first), Singleton(list, second)

    class App(KorContainer):
        inner = providers.Container(Inner)
        three, four = Singleton(list, inner.one), Singleton(list, inner.two)
        inner.first.override(three)
        inner.second.override(four)

    with pytest.raises(ContainerError, match="2 problems") as caught:
        App().validate()

    assert "inner.first ← three ← inner.one ← inner.first" in str(caught.value)
    assert "inner.second ← four ← inner.two ← inner.second" in str(caught.value)


def test_a_constructor_that_asks_for_what_is_being_built_is_told_the_circle() -> None:
    class App(KorContainer):
        leaf = Singleton(lambda: app.top())  # noqa: PLW0108 # app is made below
        middle = Singleton(list, leaf)
        top = Singleton(list, middle)

    app = App()
    with pytest.raises(ContainerError) as caught:
        app.top()

    assert "leaf ← top ← middle ← leaf" in str(caught.value)
    assert caught.value.__notes__ == ["while building top ← middle ← leaf"]


def test_a_circle_through_a_native_factory_is_found_too() -> None:
    class App(KorContainer):
        word = Object("x")
        factory = providers.Factory(lambda word: app.top(), word)
        top = Singleton(list, factory)

    app = App()
    with pytest.raises(ContainerError, match="top ← top"):
        app.top()


def test_threads_that_build_a_circle_through_each_other_do_not_deadlock() -> None:
    meeting = threading.Barrier(2)

    class App(KorContainer):
        one = Singleton(lambda: (meeting.wait(10), app.two())[-1])
        two = Singleton(lambda: (meeting.wait(10), app.one())[-1])

    app = App()
    results = []

    def ask(binding: Any) -> None:
        try:
            binding()
        except ContainerError as error:
            results.append(str(error))

    threads = [threading.Thread(target=ask, args=(b,)) for b in (app.one, app.two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert not any(thread.is_alive() for thread in threads)
    assert len(results) == 2
    assert all("one" in result and "two" in result for result in results)


# --- notes --------------------------------------------------------------------------------


def test_an_error_says_on_the_way_to_what_it_happened(app: Any) -> None:
    def broken() -> None:
        raise ZeroDivisionError("oops")

    with app.llm.openai.override(Singleton(broken)), pytest.raises(ZeroDivisionError) as caught:
        app.kernel()

    assert caught.value.__notes__ == [
        "while building kernel ← llm.registry ← llm.catalogue ← llm.openai"
    ]


# --- async --------------------------------------------------------------------------------


class Async(KorContainer):
    async def _connect() -> list[str]:  # type: ignore[misc] # for the class body
        await asyncio.sleep(0.01)
        return ["connected"]

    async def _join(database: Any, word: str) -> tuple[Any, str]:  # type: ignore[misc] # noqa: N805 # for the class body
        return database, word

    word = Object("w")
    database = Singleton(_connect)
    repository = Singleton(lambda database: {"database": database}, database)
    both = Singleton(_join, database, word)
    plain = Singleton(dict)


async def test_async_builds_serve_sync_and_async_dependents() -> None:
    app = Async()
    repository = await app.repository.async_()

    assert repository == {"database": ["connected"]}
    assert app.repository() is repository
    assert app.database() is repository["database"]
    assert await app.both.async_() == (app.database(), "w")
    assert await app.plain.async_() is app.plain()


async def test_many_tasks_build_once_and_a_cancelled_waiter_harms_nobody() -> None:
    built = []
    go = asyncio.Event()

    async def connect() -> object:
        built.append(1)
        await go.wait()
        return object()

    class App(KorContainer):
        database = Singleton(connect)
        above = Singleton(list, providers.List(database))

    app = App()
    tasks = [asyncio.create_task(app.database.async_()) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[1].cancel()
    await asyncio.sleep(0)
    go.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert len(built) == 1
    assert isinstance(results[0], asyncio.CancelledError)
    assert len({id(result) for result in results[2:]}) == 1
    assert await app.above.async_() == [results[2]]


async def test_a_failed_async_build_is_tried_again() -> None:
    attempts = []

    async def attempt() -> str:
        attempts.append(1)
        await asyncio.sleep(0)
        if len(attempts) == 1:
            raise OSError("not yet")
        return "done"

    class App(KorContainer):
        flaky = Singleton(attempt)

    app = App()
    results = await asyncio.gather(*(app.flaky.async_() for _ in range(5)), return_exceptions=True)

    assert all(isinstance(result, OSError) for result in results)
    assert results[0].__notes__ == ["while building flaky"]
    assert await app.flaky.async_() == "done"
    assert len(attempts) == 2


async def test_a_failure_after_every_waiter_left_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    go = asyncio.Event()

    async def fail() -> None:
        await go.wait()
        raise OSError("nobody listens")

    class App(KorContainer):
        failing = Singleton(fail)

    app = App()
    task = asyncio.create_task(app.failing.async_())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    go.set()
    await asyncio.sleep(0.01)
    gc.collect()

    assert caplog.records == []


def test_a_build_that_is_cancelled_with_its_loop_is_tried_again() -> None:
    class App(KorContainer):
        slow = Singleton(asyncio.sleep, 0.05, "done")

    app = App()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(app.slow.async_(), 0.001)

    asyncio.run(give_up())

    assert asyncio.run(app.slow.async_()) == "done"  # type: ignore[arg-type] # a coroutine


def test_a_second_event_loop_gets_a_clear_error_or_what_belongs_to_no_loop() -> None:
    app = Async()
    asyncio.run(app.repository.async_())  # type: ignore[arg-type] # a coroutine

    async def ask(binding: Any) -> Any:
        return await binding.async_()

    for binding in (app.database, app.repository):
        with pytest.raises(ContainerError, match="another event loop"):
            asyncio.run(ask(binding))
    first = asyncio.run(ask(app.plain))
    assert asyncio.run(ask(app.plain)) is first
    own = app.derive({"word": "x", "database": Singleton(asyncio.sleep, 0, "own")})
    assert asyncio.run(ask(own.both)) == ("own", "x")


def test_calling_an_async_binding_synchronously_says_what_to_do() -> None:
    app = Async()
    for binding, path in ((app.database, "database"), (app.repository, "database")):
        with pytest.raises(ContainerError) as caught:
            binding()
        assert f"await container.{path}.async_()" in str(caught.value)


def test_a_function_that_gives_a_coroutine_is_an_async_binding_too() -> None:
    class App(KorContainer):
        late = Singleton(lambda: asyncio.sleep(0, "slept"))

    app = App()
    with pytest.raises(ContainerError, match="is built by async code"):
        app.late()
    assert asyncio.run(app.late.async_()) == "slept"  # type: ignore[arg-type] # a coroutine


async def test_a_future_is_awaited_like_a_coroutine() -> None:
    def promised() -> Any:
        future = asyncio.get_running_loop().create_future()
        future.set_result("kept")
        return future

    class App(KorContainer):
        promise = Singleton(promised)

    app = App()
    with pytest.raises(ContainerError, match="is built by async code"):
        app.promise()
    assert await app.promise.async_() == "kept"


async def test_a_sync_fake_serves_in_place_of_an_async_binding() -> None:
    app = Async()
    with app.database.override("fake"):
        assert app.repository() == {"database": "fake"}
        assert await app.both.async_() == ("fake", "w")
    with app.database.override(Singleton(list)):
        assert app.database() == []


async def test_an_async_fake_in_place_of_a_sync_binding_works_and_says_so(app: Any) -> None:
    async def fake() -> str:
        return "fake"

    for provider in (Singleton(fake), providers.Coroutine(fake), providers.Factory(fake)):
        with app.llm.openai.override(provider):
            with pytest.raises(ContainerError, match=r"await container\.llm\.openai\.async_"):
                app.kernel()
            assert (await app.kernel.async_()).openai == "fake"


def test_a_native_async_provider_says_so_without_a_loop_too(app: Any) -> None:
    async def fake() -> str:
        return "fake"

    says_so = pytest.raises(ContainerError, match=r"await container\.llm\.openai\.async_")
    with app.llm.openai.override(providers.Factory(fake)), says_so:
        app.llm.openai()


async def test_native_providers_over_async_bindings_are_awaited() -> None:
    class App(KorContainer):
        database = Singleton(asyncio.sleep, 0, "db")
        factory = providers.Factory(dict, database=database)
        top = Singleton(list, providers.List(database, factory))

    app = App()

    assert await app.top.async_() == ["db", {"database": "db"}]
    child = app.derive({"database": "other"})
    assert await child.factory.async_() == {"database": "other"}


async def test_a_sync_call_on_the_loop_that_builds_is_refused_instead_of_hanging() -> None:
    go = asyncio.Event()

    async def dawdle() -> str:
        await go.wait()
        return "done"

    class App(KorContainer):
        slow = Singleton(dawdle)

    app = App()
    task = asyncio.create_task(app.slow.async_())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(ContainerError, match="being built by async code on this event loop"):
        app.slow()
    go.set()

    assert await task == "done"


async def test_threads_wait_for_a_task_and_tasks_for_a_thread() -> None:
    begun = threading.Event()

    def dawdle() -> str:
        begun.set()
        time.sleep(0.05)
        return "by a thread"

    async def sleep() -> str:
        await asyncio.sleep(0.05)
        return "by a task"

    class App(KorContainer):
        slow = Singleton(dawdle)
        late = Singleton(sleep)

    app = App()
    thread = asyncio.create_task(asyncio.to_thread(app.slow))
    await asyncio.to_thread(begun.wait)
    assert await app.slow.async_() == "by a thread"
    assert await thread == "by a thread"

    task = asyncio.create_task(app.late.async_())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await asyncio.to_thread(app.late) == "by a task"
    assert await task == "by a task"


async def test_a_circle_of_async_builds_is_found() -> None:
    async def make_top() -> Any:
        return await app.leaf.async_()

    async def make_leaf() -> Any:
        return await app.top.async_()

    class App(KorContainer):
        top = Singleton(make_top)
        leaf = Singleton(make_leaf)

    app = App()
    with pytest.raises(ContainerError, match=r"leaf ← top ← leaf|top ← leaf ← top"):
        await app.top.async_()


async def test_a_task_that_an_async_constructor_starts_is_no_part_of_the_build() -> None:
    workers = []

    async def work() -> Any:
        return await app.top.async_()

    async def start() -> str:
        workers.append(asyncio.create_task(work()))
        await asyncio.sleep(0.01)
        return "started"

    class App(KorContainer):
        leaf = Singleton(start)
        top = Singleton(list, providers.List(leaf))

    app = App()
    top = await app.top.async_()

    assert await workers[0] is top


async def test_a_derived_container_shares_an_async_object_not_built_yet() -> None:
    app = Async()
    child = app.derive({"word": "x"})

    assert (await child.both.async_())[0] is await app.database.async_()
    assert await child.both.async_() is not await app.both.async_()


# --- declaring ----------------------------------------------------------------------------


def test_arguments_that_are_not_providers_are_handed_over_uncopied() -> None:
    lock = threading.Lock()
    table: dict[str, int] = {}

    class App(KorContainer):
        held = Singleton(lambda *given: given, lock, table)
        object = Object(table)

    assert App().held() == (lock, table)
    assert App().held()[1] is table
    assert App().object() is table
    assert App().derive({"held": lock}).held() is lock


def test_a_binding_tells_what_it_was_declared_with() -> None:
    binding = Singleton(dict, [1], a=2)

    assert binding.provides is dict
    assert binding.args == ([1],)
    assert binding.kwargs == {"a": 2}
    assert "Singleton" in repr(binding)
    assert Dependency(instance_of=str).instance_of is str
    assert Dependency(default=1).default == 1
    assert Dependency(default=1).is_defined
    assert not Dependency().is_defined


def test_declaring_nothing_to_call_is_refused() -> None:
    class App(KorContainer):
        nothing = Singleton()

    with pytest.raises(ContainerError, match="without a class or function"):
        App().nothing()


def test_an_alias_of_nothing_is_refused() -> None:
    class App(KorContainer):
        nothing = Alias()

    with pytest.raises(ContainerError, match="stands for another provider"):
        App().nothing()


def test_a_second_name_is_the_same_binding(toy: SimpleNamespace) -> None:
    class App(KorContainer):
        llm = providers.Container(toy.LLMContainer, operator=1, settings=2, transport=3)
        selector = llm.selector

    app = App()
    with app.selector.override("fake"):
        assert app.llm.selector() == "fake"
    assert app.selector() is app.llm.selector()
    assert app.derive({"llm.settings": 4}).selector().needs[0] == 4


def test_bindings_can_be_added_to_a_living_container(app: Any) -> None:
    kernel = app.kernel()
    app.added = Singleton(list, providers.List(app.llm.openai))

    assert app.added() == [app.llm.openai()]
    assert app.kernel() is kernel
    with app.llm.openai.override("fake"):
        assert app.added() == ["fake"]
    assert app.derive({"llm.openai": "other"}).added() == ["other"]


def test_containers_can_be_added_to_a_living_container(toy: SimpleNamespace, app: Any) -> None:
    app.more = providers.Container(
        toy.LLMContainer, operator=1, settings=app.config.settings, transport=2
    )

    assert app.more.openai().needs == (2,)
    assert app.derive({"config.settings": "x"}).more.selector().needs[0] == "x"
    with app.override({"more.openai": "fake"}):
        assert app.more.catalogue().needs[1] == "fake"


def test_a_dependency_may_have_a_provider_by_default() -> None:
    class App(KorContainer):
        word = Object("a")
        need = Dependency(default=word)
        above = Singleton(list, providers.List(need))

    assert App().above() == ["a"]
    assert App().derive({"word": "b"}).above() == ["b"]
    assert list(App.need.related) == [App.word]


def test_dependencies_of_a_container_of_containers_are_followed() -> None:
    class Gateways(KorContainer):
        word = Object("a")

    class Services(KorContainer):
        gateways = providers.DependenciesContainer()
        words = Singleton(list, providers.List(gateways.word))

    class App(KorContainer):
        gateways = providers.Container(Gateways)
        services = providers.Container(Services, gateways=gateways)

    app = App()
    words = app.services.words()
    child = app.derive({"gateways.word": "b"})

    assert words == ["a"]
    assert child.services.words() == ["b"]
    assert child.services.gateways.word() == "b"
    with app.gateways.word.override("c"):
        assert app.services.words() == ["c"]
    assert app.services.words() is words


@pytest.mark.parametrize(("name", "hint"), [("opnai", " Did you mean 'openai'?"), ("zzz", "")])
def test_a_misspelt_binding_in_the_body_of_a_class_is_told_the_nearest(
    name: str, hint: str
) -> None:
    with pytest.raises(AttributeError) as caught:

        class Mine(KorContainer):
            kor = providers.Container(ApplicationContainer)
            answer = providers.Factory(dict[str, Any], model=getattr(kor.llm, name))

    assert f"KorInstance has no attribute '{name}'.{hint}" == str(caught.value)
