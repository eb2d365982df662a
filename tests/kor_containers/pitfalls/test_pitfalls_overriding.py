"""Overriding: what goes wrong with dependency-injector's containers, and does not with ours."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from dependency_injector import containers, providers

from kor_containers.container import KorContainer
from kor_containers.providers import Object, Singleton
from kor_core.errors import ContainerError


def test_a_singleton_built_before_an_override_does_not_keep_the_old_dependency(app: Any) -> None:
    app.kernel()
    with app.llm.openai.override("fake"):
        assert app.kernel().openai == "fake"


def test_a_singleton_built_during_an_override_does_not_keep_the_fake(app: Any) -> None:
    with app.llm.openai.override("fake"):
        app.kernel()

    assert app.kernel().openai != "fake"


def test_nothing_has_to_be_rebuilt_after_an_override(app: Any) -> None:
    """There, ``reset_singletons()`` is the repair, and rebuilds everything."""
    built = app.kernel(), app.llm.registry(), app.network.transport()
    with app.llm.openai.override("fake"):
        app.kernel()

    assert (app.kernel(), app.llm.registry(), app.network.transport()) == built


async def test_tasks_that_derive_never_see_each_other(app: Any) -> None:
    """There, an override is visible to every task of the process."""
    barrier = asyncio.Barrier(20)

    async def work(number: int) -> Any:
        child = app.derive({"llm.openai": number})
        await barrier.wait()
        return child.kernel().openai

    assert await asyncio.gather(*map(work, range(20))) == list(range(20))


def test_threads_that_derive_never_see_each_other(app: Any) -> None:
    barrier = threading.Barrier(8)
    seen: dict[int, Any] = {}

    def work(number: int) -> None:
        child = app.derive({"llm.openai": number})
        barrier.wait()
        seen[number] = child.kernel().openai

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == {number: number for number in range(8)}


async def test_leaving_ends_ones_own_override_and_not_the_last(app: Any) -> None:
    """There, two tasks that overlap pop each other's."""
    second_entered, first_left = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        with app.llm.openai.override("first"):
            await second_entered.wait()
        first_left.set()

    async def second() -> Any:
        with app.llm.openai.override("second"):
            second_entered.set()
            await first_left.wait()
            return app.kernel().openai

    _, seen = await asyncio.gather(first(), second())

    assert seen == "second"
    assert app.kernel().openai not in {"first", "second"}


def test_reset_override_inside_nested_blocks_lets_both_exits_pass(app: Any) -> None:
    """There, both exits raise."""
    with app.llm.openai.override("outer"), app.llm.openai.override("inner"):
        app.llm.openai.reset_override()
        assert app.kernel().openai != "outer"


def test_override_providers_with_a_typo_overrides_nothing(app: Any) -> None:
    """There, the names before the typo stay overridden."""
    with pytest.raises(ContainerError, match=r"Did you mean 'llm\.litellm'"):
        app.llm().override_providers(openai="fake", litelm="fake")

    assert app.llm.openai() != "fake"


def test_a_container_override_with_a_typo_is_no_silent_success(app: Any) -> None:
    """There, ``container.override()`` ignores names that it does not know."""
    fakes = containers.DynamicContainer()
    fakes.opnai = providers.Object("fake")
    with pytest.raises(ContainerError, match=r"Did you mean 'llm\.openai'"):
        app.llm().override(fakes)


def test_reset_override_leaves_the_composition_and_the_configuration(app: Any) -> None:
    """There, composition is made of overrides: a reset un-defines what was composed."""
    kernel = app.kernel()
    app.override({"llm.openai": "fake"})
    app.reset_override()
    app.llm().reset_override()

    assert app.kernel() is kernel
    assert app.derive({"config.settings": "x"}).kernel().openai is kernel.openai


def test_an_override_of_the_class_ends_for_instances_too(toy: SimpleNamespace) -> None:
    """There, instances keep a class's override after the class was reset, for good."""
    bound = {"operator": 1, "settings": 2, "transport": 3}
    with toy.LLMContainer.openai.override("fake"):
        llm = toy.LLMContainer(**bound)
        assert llm.catalogue().needs[1] == "fake"
    llm.reset_override()

    assert isinstance(llm.catalogue().needs[1], toy.OpenAI)
    assert isinstance(toy.LLMContainer(**bound).openai(), toy.OpenAI)


def test_a_binding_redefined_in_a_subclass_is_replaced_by_deriving() -> None:
    """A subclass shares provider objects, so that inherited consumers keep the old one; that
    is the language's inheritance. Override the base's binding, or derive: both reach them."""

    class Base(KorContainer):
        word = Object("base")
        words = Singleton(list, providers.List(word))

    @containers.copy(Base)
    class Copied(Base):
        word = Object("copied")

    assert Copied().words() == ["copied"]
    assert Base().derive({"word": "derived"}).words() == ["derived"]
    assert Base(word="given").words() == ["given"]


def test_an_aggregate_is_replaced_like_anything_else() -> None:
    """There, ``Aggregate.override`` always raises."""

    class App(KorContainer):
        word = Object("a")
        choice = providers.Aggregate(one=providers.Factory(list, providers.List(word)))
        above = Singleton(lambda choice: choice("one"), choice.provider)

    app = App()
    child = app.derive({"word": "b"})

    assert app.above() == ["a"]
    assert child.above() == ["b"]
    assert child.choice("one") == ["b"]
    fake = app.derive({"choice": lambda name: name})
    assert fake.choice()("two") == "two"
