"""What type checkers know of containers: mypy and pyright read this file, pytest runs it."""

import asyncio
from typing import Any, assert_type

import pytest

from kor_containers.container import KorContainer
from kor_containers.explanation import Explanation
from kor_containers.overriding import Override
from kor_containers.providers import Alias, Container, Dependency, Object, Singleton
from kor_containers.validation import Report


class Settings: ...


class Selector:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings


class Kernel:
    def __init__(self, selector: Selector) -> None:
        self.selector = selector


async def connect() -> bytes:
    return b"connected"


class ConfigContainer(KorContainer):
    operator = Singleton(Settings)
    settings = Alias(operator)


class LLMContainer(KorContainer):
    settings = Dependency(instance_of=Settings)
    selector = Singleton(Selector, settings)


class App(KorContainer):
    name = Object("app")
    database = Singleton(connect)
    config = Container(ConfigContainer)
    llm = Container(LLMContainer, settings=config.settings)
    kernel = Singleton(Kernel, llm.selector)


def test_bindings_give_exact_types() -> None:
    app = App()

    assert_type(app, App)
    assert_type(app.kernel(), Kernel)
    assert_type(app.name(), str)
    assert_type(app.llm(), LLMContainer)
    assert_type(app.llm().selector(), Selector)
    assert_type(app.llm().settings(), Settings)
    assert_type(app.config().settings(), Settings)


async def test_async_bindings_give_exact_types() -> None:
    app = App()

    assert_type(await app.database.async_(), bytes)
    assert_type(await app.kernel.async_(), Kernel)


def test_a_derived_container_has_the_type_of_its_parent() -> None:
    child = App().derive({"config.settings": Settings()})

    assert_type(child, App)
    assert_type(child.kernel(), Kernel)
    assert_type(child.llm().derive({}), LLMContainer)
    assert isinstance(child, App)


def test_operations_give_exact_types() -> None:
    app = App()
    with app.override({"name": "other"}) as same:
        assert_type(same, Any)
    assert_type(app.override({"name": "other"}), Override)
    assert_type(app.validate(), Report)
    assert_type(app.why("kernel"), Explanation)
    app.close()
    asyncio.run(app.aclose())


def test_misspelt_bindings_are_errors_for_type_checkers_too() -> None:
    """An unused ignore is an error: that each one is needed is what is tested."""
    app = App()
    with pytest.raises(AttributeError):
        app.kernle()  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    with pytest.raises(AttributeError):
        app.llm().selctor()  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
