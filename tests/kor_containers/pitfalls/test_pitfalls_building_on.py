"""What can be built on: the traps in the machinery underneath, each with its scenario."""

import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from dependency_injector import containers, providers

from kor_containers.container import KorContainer
from kor_containers.providers import Alias, Object, Singleton
from kor_core.errors import ContainerError


@pytest.mark.parametrize("name", ["providers", "dependencies", "parent", "derive", "close", "why"])
def test_a_binding_may_not_shadow_what_a_container_uses_itself(name: str) -> None:
    """There, a binding called ``providers`` makes the instantiation fail obscurely."""
    with pytest.raises(ContainerError) as caught:
        type(KorContainer)("App", (KorContainer,), {name: Object(1)})

    assert caught.value.path == name
    assert f"A binding of App is called '{name}'" in str(caught.value)


def test_an_instance_is_one_of_its_class_and_has_its_methods(toy: SimpleNamespace) -> None:
    """There, ``App()`` is a plain DynamicContainer, and methods on the class are lost."""
    app = toy.App()

    assert isinstance(app, toy.App)
    assert isinstance(app, KorContainer)
    assert isinstance(app, containers.DynamicContainer)
    assert not isinstance(app, toy.LLMContainer)
    assert not isinstance("app", toy.App)
    assert not isinstance(containers.DynamicContainer(), toy.App)
    assert app.derive({}).kernel() is app.kernel()


def test_deriving_does_not_move_shared_sub_containers_to_the_child(app: Any) -> None:
    """Stock copies re-parent the shared sub-containers."""
    parent = app.llm().parent
    child = app.derive({"config.settings": "x"})
    child.llm().selector()
    child.providers["llm"]

    assert app.llm().parent is parent
    assert app.llm.parent is app


def test_overrides_seen_from_outside_are_those_in_force(app: Any) -> None:
    """``overridden`` and ``last_overriding`` read fields of C code that we do not use."""
    assert app.llm.openai.overridden == ()
    fake = providers.Object("fake")
    with app.llm.openai.override(fake):
        assert app.llm.openai.overridden == (fake,)
        assert app.llm.openai.last_overriding is fake
        assert fake.overrides == ()
    assert app.llm.openai.last_overriding is None


def test_a_container_override_does_not_swallow_errors_of_our_hooks(app: Any) -> None:
    """dependency-injector's swallows AttributeErrors: ours are ContainerErrors."""
    circle = containers.DynamicContainer()
    circle.openai = Singleton(list, app.llm.registry)
    with pytest.raises(ContainerError, match="need each other"):
        app.llm().override(circle)


def test_an_alias_is_not_closed_a_second_time(toy: SimpleNamespace) -> None:
    class App(KorContainer):
        operator = Singleton(toy.Part)
        settings = Alias(operator)

    app = App()
    part = app.settings()
    app.close()

    assert part.closed == 1


def test_a_derived_container_can_do_what_dependency_injectors_can(app: Any) -> None:
    child = app.derive({"config.settings": "x"})

    assert child.provider_type is providers.Provider
    assert child.overridden == ()
    assert child.parent is None
    assert child.declarative_parent is app.declarative_parent
    assert child.wired_to_modules == child.wired_to_packages == []
    assert child.is_auto_wiring_enabled()
    assert child.dependencies == {}
    assert child.llm.selector.provided.needs() == child.llm.selector().needs
    assert list(child.traverse(types=[providers.Container]))
    with pytest.raises(AttributeError, match="Did you mean 'kernel'"):
        _ = child.kernle
    with pytest.raises(AttributeError):
        _ = child.__missing__
    with pytest.raises(AttributeError):
        _ = app.kernle


def test_bindings_are_described_without_their_objects() -> None:
    secret = "sk-" + "planted"

    class App(KorContainer):
        key = Object(secret)
        above = Singleton(list, key, secret)

    App.key.override(secret)
    app = App()
    with app.key.override(secret) as override:
        for thing in (app.key, app.above, app.key.overridden, App.key.overridden, override):
            assert secret not in repr(thing)


def test_a_binding_does_not_pickle_with_its_object() -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Object("secret"))
