"""Creating containers: what goes wrong with dependency-injector's, and does not with ours."""

import gc
import sys
import threading
import weakref
from types import SimpleNamespace
from typing import Any

from dependency_injector import containers, providers

from kor_containers.container import KorContainer
from kor_containers.providers import Dependency, Object, Singleton


def test_arguments_are_not_copied_and_may_be_uncopyable() -> None:
    """There, arguments are deep-copied per container, and a lock cannot be."""
    lock, catalogue = threading.Lock(), {"a": 1}

    class App(KorContainer):
        held = Singleton(lambda *given: given, lock, catalogue)

    assert App().held()[0] is lock
    assert App().held()[1] is catalogue


def test_composing_reads_nothing_until_something_is_resolved() -> None:
    """There, ``providers.Container(X)`` instantiates X while the outer class body runs."""
    read: list[str] = []

    class Config(KorContainer):
        settings = Singleton(lambda: read.append("settings"))

    class App(KorContainer):
        config = providers.Container(Config)
        above = Singleton(list, providers.List(config.settings))

    app = App()
    child = app.derive({"config.settings": "replaced"})
    app.validate()
    app.why("above")
    assert read == []
    child.above()
    assert read == []
    app.above()
    assert read == ["settings"]


def test_a_living_container_is_forked_with_its_built_objects(app: Any) -> None:
    """There, a copy carries no built singleton over."""
    transport = app.network.transport()

    assert app.derive({"config.settings": "fork's"}).network.transport() is transport


def test_overriding_in_a_child_never_reaches_the_parent_by_a_shared_handle(app: Any) -> None:
    """A prototype that shared provider handles with the parent leaked so."""
    child = app.derive({"config.settings": "child's"})
    child.network.transport.override("fake")

    assert child.network.transport() == "fake"
    assert app.network.transport() != "fake"


def test_one_provider_passed_to_many_containers_keeps_none_of_them_alive(
    toy: SimpleNamespace,
) -> None:
    """There, the overriding provider remembers its targets: every child lives for ever."""
    shared = Object("shared")
    alive = []
    for _ in range(100):
        llm = toy.LLMContainer(operator=shared, settings=shared, transport=shared)
        llm.selector()
        alive.append(weakref.ref(llm))
    del llm
    gc.collect()

    assert not any(reference() for reference in alive)
    assert shared.overrides == ()


def test_derived_containers_take_a_few_kilobytes_and_are_freed(app: Any) -> None:
    app.kernel()
    gc.collect()
    before = sys.getallocatedblocks()
    children = [app.derive({"config.settings": number}) for number in range(1000)]
    for child in children:
        child.kernel()
    each = (sys.getallocatedblocks() - before) / 1000
    children.clear()
    del child
    gc.collect()

    assert each < 80  # blocks, each of a few dozen bytes
    assert sys.getallocatedblocks() - before < 2000


def test_a_dependency_injector_container_is_part_of_ours() -> None:
    class Inner(containers.DeclarativeContainer):
        word = Dependency()
        words = Singleton(list, providers.List(word))

    class App(KorContainer):
        word = Object("a")
        inner = providers.Container(Inner, word=word)

    app = App()

    assert app.inner.words() == ["a"]
    assert app.derive({"word": "b"}).inner.words() == ["b"]
    assert app.derive({"word": "b"}).inner().words() == ["b"]
    with app.word.override("c"):
        assert app.inner.words() == ["c"]
