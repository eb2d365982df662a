"""A toy application, wired as DESIGN draws the real one, and fresh in each test."""

from types import SimpleNamespace
from typing import Any

import pytest
from dependency_injector.providers import Container

from kor_containers.container import KorContainer
from kor_containers.providers import Alias, Dependency, Object, ScopeOf, Singleton


class Part:
    """A piece of the toy: knows what it was built from, and writes down when it is closed."""

    def __init__(self, *needs: Any, log: list[str] | None = None) -> None:
        self.needs = needs
        self.log = log if log is not None else []
        self.closed = 0

    def close(self) -> None:
        self.closed += 1
        self.log.append(type(self).__name__)


class Settings(Part): ...


class Transport(Part): ...


class OpenAI(Part): ...


class LiteLLM(Part): ...


class Catalogue(Part): ...


class Registry(Part): ...


class Selector(Part): ...


class Kernel(Part):
    def __init__(self, *needs: Any, scope: Any = None, log: list[str] | None = None) -> None:
        super().__init__(*needs, log=log)
        self.scope = scope

    @property
    def settings(self) -> Any:
        return self.needs[0]

    @property
    def registry(self) -> Any:
        return self.needs[1]

    @property
    def selector(self) -> Any:
        return self.needs[2]

    @property
    def openai(self) -> Any:
        return self.registry.needs[1].needs[1]


def make_toy() -> SimpleNamespace:
    log: list[str] = []

    class ConfigContainer(KorContainer):
        operator = Singleton(Settings, log=log)
        settings = Alias(operator)

    class NetworkContainer(KorContainer):
        operator = Dependency()
        transport = Singleton(Transport, operator, log=log)

    class LLMContainer(KorContainer):
        operator = Dependency()
        settings = Dependency()
        transport = Dependency()
        openai = Singleton(OpenAI, transport, log=log)
        litellm = Singleton(LiteLLM, transport, log=log)
        catalogue = Singleton(Catalogue, operator, openai, litellm, log=log)
        registry = Singleton(Registry, settings, catalogue, log=log)
        selector = Singleton(Selector, settings, registry, log=log)

    class App(KorContainer):
        config = Container(ConfigContainer)
        network = Container(NetworkContainer, operator=config.operator)
        llm = Container(
            LLMContainer,
            operator=config.operator,
            settings=config.settings,
            transport=network.transport,
        )
        kernel = Singleton(
            Kernel, config.settings, llm.registry, llm.selector, scope=ScopeOf(), log=log
        )

    class UserApp(KorContainer):
        kor = Container(App)
        name = Object("shop")
        service = Singleton(Part, name, kor.llm.selector, log=log)

    return SimpleNamespace(
        App=App,
        ConfigContainer=ConfigContainer,
        LLMContainer=LLMContainer,
        UserApp=UserApp,
        log=log,
        Part=Part,
        OpenAI=OpenAI,
        Kernel=Kernel,
    )


@pytest.fixture
def toy() -> SimpleNamespace:
    return make_toy()


@pytest.fixture
def app(toy: SimpleNamespace) -> Any:
    return toy.App()
