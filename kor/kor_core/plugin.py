"""Plugins: how other packages add providers and services."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, cast

from kor_core.errors import PluginError
from kor_core.llm.base import BaseLLMProvider
from kor_core.llm.catalogue import Catalogue
from kor_core.llm.policies.strategies import Strategy, strategy_named
from kor_core.llm.registry import LLMRegistry
from kor_core.services import ServiceRegistry
from kor_core.settings import Settings
from kor_core.suggestions import did_you_mean

__all__ = [
    "ENTRY_POINT_GROUP",
    "KorContext",
    "KorPlugin",
    "build_catalogue",
    "initialising",
    "plugin_names",
    "strategy_of",
]

ENTRY_POINT_GROUP: Final = "kor.plugins"

initialising: ContextVar[str | None] = ContextVar("kor_plugin_initialising", default=None)
"""Id of the plugin whose ``initialize`` runs in this context, or None."""


class KorContext:
    """What a plugin is given, and what a kernel offers it.

    Args:
        settings: the configuration.
        registry: the services, ``"llm"`` among them.
    """

    __slots__ = ("registry", "settings")

    def __init__(self, settings: Settings, registry: ServiceRegistry) -> None:
        self.settings = settings
        self.registry = registry

    def get_llm_registry(self) -> LLMRegistry:
        """Return the LLM registry, to register providers with."""
        registry: LLMRegistry = self.registry.get_service("llm")
        return registry

    def register_strategy(self, name: str, strategy: Strategy) -> None:
        """Add a way to choose between models, which ``strategy`` in the configuration may name.

        Args:
            name: with a prefix of your own and a colon, such as ``"acme:nearest"``.
            strategy: takes the options, and returns them with the best one first; see
                :class:`kor_core.llm.policies.strategies.Option` for what is known of each.

        Raises:
            RegistrationError: the name has no prefix, or is taken.
        """
        self.get_llm_registry().register_strategy(name, strategy)


class KorPlugin:
    """A plugin: an ``id``, and an ``initialize`` that registers what it brings.

    Packages announce theirs under the entry point group ``kor.plugins``.

    >>> class Hello(KorPlugin):
    ...     id = "hello"
    ...
    ...     def initialize(self, context: KorContext) -> None:
    ...         context.registry.register_service("greeting", "Hello!")
    """

    # Names the plugin in [plugins] and in errors: a str. Typed Any for the same reason as
    # BaseLLMProvider.id: a class attribute and a property both pass the type checkers.
    id: Any = ""

    def initialize(self, context: KorContext) -> None:
        """Register providers and services.

        Called once per catalogue: once for an application and all its tenants. Use
        ``context``; ``get_kernel()`` does not work here, for the kernel is being built.
        """


@dataclass(frozen=True, slots=True)
class _Found:
    plugin: KorPlugin
    origin: str


def build_catalogue(
    settings: Settings,
    builtin: Mapping[str, BaseLLMProvider],
    handed_in: Iterable[BaseLLMProvider] = (),
    plugins: Iterable[KorPlugin] = (),
) -> Catalogue:
    """Return a catalogue of the built-in and handed-in providers and what plugins register.

    Args:
        settings: the operator's configuration.
        builtin: the providers that come with KOR, by id.
        handed_in: providers that the application brings.
        plugins: plugins that the application brings, beside those found through entry points
            and ``[plugins] modules``.

    Raises:
        PluginError: a plugin cannot be found, loaded or initialised.
        RegistrationError: a provider cannot be registered.
    """
    catalogue = Catalogue(handed_in, builtin)
    context = _context(settings, catalogue)
    for found in _enabled(settings, plugins):
        _initialize(found, context)
    return catalogue


def _context(settings: Settings, catalogue: Catalogue) -> KorContext:
    registry = LLMRegistry(settings, catalogue, catalogue.providers)
    return KorContext(settings, ServiceRegistry(catalogue.services, fixed={"llm": registry}))


def _initialize(found: _Found, context: KorContext) -> None:
    plugin = found.plugin
    with _marked(plugin.id):
        try:
            plugin.initialize(context)
        except Exception as error:  # a plugin may raise anything; the operator must learn which
            raise PluginError(
                f"initialize() failed: {type(error).__name__}: {error} "
                f"Mend the plugin, or leave it out with [plugins] disabled = ['{plugin.id}'].",
                plugin=plugin.id,
                origin=found.origin,
            ) from error


@contextmanager
def _marked(plugin_id: str) -> Generator[None]:
    token = initialising.set(plugin_id)
    try:
        yield
    finally:
        initialising.reset(token)


# --- discovery: entry points by name, then modules as listed, then those handed in --------


def _enabled(settings: Settings, handed_in: Iterable[KorPlugin]) -> Sequence[_Found]:
    by_id: dict[str, _Found] = {}
    for found in _all(settings, handed_in):
        plugin_id = _checked_id(found)
        if not _wanted(settings, plugin_id):
            continue
        if plugin_id in by_id:
            raise PluginError(
                f"the id is taken by a plugin from {by_id[plugin_id].origin}. "
                "Give one another id, or bring only one of them.",
                plugin=plugin_id,
                origin=found.origin,
            )
        by_id[plugin_id] = found
    return tuple(by_id.values())


def _wanted(settings: Settings, name: str) -> bool:
    chosen = settings.plugins
    return name not in chosen.disabled and (chosen.enabled is None or name in chosen.enabled)


def _all(settings: Settings, handed_in: Iterable[KorPlugin]) -> Iterator[_Found]:
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        # A plugin that is disabled by the name of its entry point is not even imported.
        if point.name not in settings.plugins.disabled:
            yield _loaded(point.value, point.name, _described(point))
    origin = settings.origin("plugins", "modules")
    for module in settings.plugins.modules:
        yield _loaded(module, module, f"[plugins] modules in {origin or 'the configuration'}")
    for plugin in handed_in:
        yield _Found(plugin, "handed in by the application")


def plugin_names(settings: Settings) -> tuple[frozenset[str], frozenset[str]]:
    """Return the ids of the plugins that are found, and the names of their entry points.

    A plugin that is disabled by the name of its entry point is not loaded, so its id is unknown.

    Raises:
        PluginError: a plugin cannot be loaded.
    """
    ids = frozenset(_checked_id(found) for found in _all(settings, ()))
    return ids, frozenset(point.name for point in entry_points(group=ENTRY_POINT_GROUP))


def strategy_of(name: str) -> Strategy:
    """Return the strategy of that name: one of KOR's, or a function ``package.module:name``.

    Raises:
        PluginError: the function cannot be loaded.
    """
    if ":" not in name:
        return strategy_named(name)
    found = _imported(name, name, "strategy in the configuration")
    if not callable(found):
        raise PluginError(
            f"'{name}' is no function. Write 'package.module:function'.",
            plugin=name,
            origin="strategy in the configuration",
        )
    return cast("Strategy", found)


def _described(point: EntryPoint) -> str:
    source = f" of {point.dist.name} {point.dist.version}" if point.dist else ""
    return f"entry point '{point.name} = {point.value}'{source}"


def _loaded(target: str, name: str, origin: str) -> _Found:
    found = _imported(target, name, origin)
    try:
        return _Found(_instance(found, name, origin), origin)
    except PluginError:
        raise
    except Exception as error:  # making one runs the plugin's code, which may raise anything
        raise _unloadable(target, name, origin, error) from error


def _imported(target: str, name: str, origin: str) -> object:
    module_name, _, attribute = target.partition(":")
    try:
        found: object = import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # importing runs the plugin's code, which may raise anything
        raise _unloadable(target, name, origin, error) from error
    return found


def _unloadable(target: str, name: str, origin: str, error: Exception) -> PluginError:
    return PluginError(
        f"'{target}' cannot be loaded: {type(error).__name__}: {error}.{_misspelt(error)} "
        "Write 'package.module:Name', and see that the package is installed.",
        plugin=name,
        origin=origin,
    )


def _misspelt(error: Exception) -> str:
    if not isinstance(error, AttributeError) or error.name is None:
        return ""
    return did_you_mean(error.name, dir(error.obj))


def _instance(found: object, name: str, origin: str) -> KorPlugin:
    made = found() if isinstance(found, type) else found
    if isinstance(made, KorPlugin):
        return made
    raise PluginError(
        f"{type(made).__name__} is no plugin. Subclass kor_core.plugin.KorPlugin.",
        plugin=name,
        origin=origin,
    )


def _checked_id(found: _Found) -> str:
    if isinstance(found.plugin, type):
        kind = found.plugin.__name__
        words = f"{kind} is a class. Hand in an instance: {kind}()."
        raise PluginError(words, plugin=kind, origin=found.origin)
    kind = type(found.plugin).__name__
    if not isinstance(found.plugin, KorPlugin):  # pyright: ignore[reportUnnecessaryIsInstance]  # users hand in anything
        raise PluginError(
            f"{kind} is no plugin. Subclass kor_core.plugin.KorPlugin, and hand in an instance.",
            plugin=kind,
            origin=found.origin,
        )
    plugin_id: object = found.plugin.id
    if isinstance(plugin_id, str) and plugin_id:
        return plugin_id
    raise PluginError(
        f'{kind} has no id. Give it one: `id = "my-plugin"`.', plugin=kind, origin=found.origin
    )
