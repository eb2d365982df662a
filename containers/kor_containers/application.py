"""The application container: the whole graph of an application that uses language models."""

# dependency-injector's stub gives the bindings of a sub-container no type.
# pyright: reportUnknownMemberType=false

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast, overload

from dependency_injector.providers import Container

from kor_containers.config import ConfigContainer, HandedIn, Source
from kor_containers.container import KorContainer
from kor_containers.llm import LLMContainer
from kor_containers.network import NetworkContainer
from kor_containers.policies import PolicyContainer
from kor_containers.providers import ScopeOf, Singleton
from kor_core.errors import ContainerError
from kor_core.kernel import Kernel, default_source
from kor_core.llm.base import BaseLLMProvider
from kor_core.llm.catalogue import Catalogue
from kor_core.llm.registry import LLMRegistry
from kor_core.llm.selector import ModelSelector
from kor_core.plugin import KorPlugin
from kor_core.redaction import guarded
from kor_core.scope import Scope
from kor_core.settings import Settings

__all__ = [
    "ApplicationContainer",
    "applications_in",
    "create_container",
    "create_kernel",
    "default_container",
]

C = TypeVar("C", bound=KorContainer)
T = TypeVar("T")


def _kernel(
    settings: Settings,
    registry: LLMRegistry,
    selector: ModelSelector,
    catalogue: Catalogue,
    scope: Scope,
) -> Kernel:
    registry.check()
    return Kernel(settings, registry, selector, catalogue, scope)


class ApplicationContainer(KorContainer):
    """Binds everything: configuration, network, models, and the kernel on top.

    Create one with :func:`create_container`. A container of your own holds it as
    ``kor = providers.Container(ApplicationContainer)``.
    """

    handed_in = Singleton(HandedIn).closed_by(None)
    config = Container(ConfigContainer, handed_in=handed_in)
    network = Container(NetworkContainer, operator=config.operator)
    policies = Container(PolicyContainer, operator=config.operator)
    llm = Container(
        LLMContainer,
        operator=config.operator,
        settings=config.settings,
        transport=network.transport,
        handed_in=handed_in,
        policies=policies.pipeline,
    )
    kernel = Singleton(
        _kernel, config.settings, llm.registry, llm.selector, llm.catalogue, ScopeOf()
    ).closed_by(None)  # closing a kernel closes its container, which is what is being done


@overload
def create_container(
    source: Source = None,
    *,
    providers: Iterable[BaseLLMProvider] = (),
    plugins: Iterable[KorPlugin] = (),
) -> ApplicationContainer: ...
@overload
def create_container(
    source: Source = None,
    *,
    providers: Iterable[BaseLLMProvider] = (),
    plugins: Iterable[KorPlugin] = (),
    container: type[C],
) -> C: ...
def create_container(
    source: Source = None,
    *,
    providers: Iterable[BaseLLMProvider] = (),
    plugins: Iterable[KorPlugin] = (),
    container: type[KorContainer] = ApplicationContainer,
) -> KorContainer:
    """Create an application container, checked: what is wrong is found now, not later.

    Args:
        source: a path takes the place of ``./config.toml`` among the layers of the
            configuration; a mapping or ``Settings`` stands alone, without files and
            environment; None means the usual layers.
        providers: providers of your own, beside the built-in ones.
        plugins: plugins of your own, beside those that are found.
        container: your own container class, which holds one ``ApplicationContainer``.

    Raises:
        ConfigurationError: everything that is wrong with the configuration.
        PluginError: a plugin cannot be found, loaded or initialised.
        RegistrationError: a provider cannot be registered.
        ContainerError: a container of your own is wired wrongly.

    >>> with create_container({"llm": {"default": {"model": "echo:any"}}}) as app:
    ...     app.llm.selector().get_model().generate("Hello!")
    'Echo: Hello!'
    """
    app: KorContainer = container()
    ours = _application_in(app, container.__name__)
    handed_in = ours.handed_in()  # the first resolve of a container validates it
    handed_in.source = guarded("", source) if isinstance(source, Mapping) else source
    del source  # from here on no frame holds a key that shows
    handed_in.providers = _several(providers, "providers")
    handed_in.plugins = _several(plugins, "plugins")
    ours.kernel()
    return app


def create_kernel(
    source: Source = None,
    *,
    providers: Iterable[BaseLLMProvider] = (),
    plugins: Iterable[KorPlugin] = (),
) -> Kernel:
    """Create an application container and return its kernel, which closes it.

    Takes the same arguments as :func:`create_container`, and raises the same errors.

    >>> with create_kernel({"llm": {"default": {"model": "echo:any"}}}) as kernel:
    ...     kernel.model_selector.get_model().generate("Hello!")
    'Echo: Hello!'
    """
    return create_container(source, providers=providers, plugins=plugins).kernel()


def default_container() -> ApplicationContainer:
    """Return the container of the process default, built on first use.

    ``get_kernel()`` asks it at each call where no kernel is ambient, so overriding its
    bindings reaches everyone; ``reset_kernel()`` closes and forgets it.
    """
    return cast("ApplicationContainer", default_source(create_container))


def applications_in(app: Any) -> Iterator[ApplicationContainer]:
    """Yield the application containers in a container: itself, or those it holds."""
    if isinstance(app, ApplicationContainer):
        yield app
        return
    for provider in app.providers.values():
        if isinstance(provider, Container):
            yield from applications_in(provider.container)


def _several(items: Iterable[T], name: str) -> tuple[T, ...]:
    if isinstance(items, BaseLLMProvider | KorPlugin):
        raise TypeError(f"{name} takes a list: {name}=[{type(items).__name__}()].")
    return tuple(items)


def _application_in(app: KorContainer, name: str) -> ApplicationContainer:
    found = list(applications_in(app))
    if len(found) == 1:
        return found[0]
    raise ContainerError(
        f"{name} holds {len(found)} ApplicationContainers, and must hold one: "
        "declare `kor = providers.Container(ApplicationContainer)` in it."
    )
