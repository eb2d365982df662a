"""Configuration, wiring, typing: what goes wrong there, and what holds here."""

import pickle
import sys
import threading
import types
from types import SimpleNamespace
from typing import Any

import pytest
from dependency_injector import providers
from dependency_injector.wiring import Provide, inject

from kor_containers.container import KorContainer
from kor_containers.providers import Object, Singleton
from kor_containers.validation import InvalidContainerError


def test_configuration_is_an_object_that_nobody_changes() -> None:
    """There, ``from_dict`` changes the caller's dict, and a key with a dot cannot be read."""
    base = {"models": {"gpt-4.1": {"key": "operator's"}}}

    class App(KorContainer):
        settings = Object(base)
        model = Singleton(dict, settings.provided["models"]["gpt-4.1"])

    app = App()
    tenant = app.derive({"settings": {"models": {"gpt-4.1": {"key": "tenant's"}}}})

    assert tenant.model() == {"key": "tenant's"}
    assert app.model() == {"key": "operator's"}
    assert base == {"models": {"gpt-4.1": {"key": "operator's"}}}


def test_dependency_injectors_configuration_works_and_is_shared() -> None:
    class App(KorContainer):
        config = providers.Configuration()
        word = Object("a")
        above = Singleton(lambda *given: given, config.name, word)

    app = App()
    app.config.from_dict({"name": "x"})

    assert app.above() == ("x", "a")
    assert app.derive({"word": "b"}).above() == ("x", "b")


def test_wiring_works_and_a_derived_container_can_be_wired_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class App(KorContainer):
        word = Object("a")
        words = Singleton(list, providers.List(word))

    module = types.ModuleType("kor_wired_module")

    @inject
    def speak(words: Any = Provide["words"]) -> Any:
        return words

    speak.__module__ = module.__name__
    module.speak = speak  # type: ignore[attr-defined] # made here
    monkeypatch.setitem(sys.modules, module.__name__, module)
    app = App()
    app.wire(modules=[module])
    assert module.speak() == ["a"]
    with app.word.override("b"):
        assert module.speak() == ["b"]
    app.unwire()
    child = app.derive({"word": "c"})
    child.wire(modules=[module])
    assert module.speak() == ["c"]
    child.unwire()


def test_checks_find_circles_types_and_arguments_before_anything_is_built() -> None:
    """There, ``check_dependencies`` finds undefined dependencies only."""

    class App(KorContainer):
        one = Singleton(lambda *, word: word)

    with pytest.raises(InvalidContainerError, match="cannot be called so"):
        App().validate()


def test_bindings_added_by_racing_threads_are_all_there(toy: SimpleNamespace, app: Any) -> None:
    """There, ``set_providers`` is read-modify-write, and registrations get lost."""

    def add(number: int) -> None:
        for index in range(25):
            setattr(app, f"added_{number}_{index}", Object((number, index)))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(app.why(f"added_{n}_{i}").built for n in range(4) for i in range(25))


def test_a_living_container_does_not_pickle_with_its_keys() -> None:
    """There, a container at module level pickles, living objects and keys included."""
    app = KorContainer()
    app.key = Object("secret")
    for container in (app, app.derive({})):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(container)
