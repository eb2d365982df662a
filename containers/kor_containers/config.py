"""The configuration: what the operator wrote, and what this kernel runs on."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

from dependency_injector.providers import Dependency

from kor_containers.container import KorContainer
from kor_containers.providers import Alias, Singleton
from kor_core.adapters.dynaconf import load_settings
from kor_core.errors import ConfigurationError, Problem
from kor_core.llm.base import BaseLLMProvider
from kor_core.plugin import KorPlugin
from kor_core.settings import Settings, settings_from

__all__ = ["ConfigContainer", "HandedIn", "Source", "read"]

Source = str | PathLike[str] | Mapping[str, Any] | Settings | None
"""A path in the place of ``./config.toml``, what stands alone, or None for the usual layers."""


@dataclass
class HandedIn:
    """What an application hands in when it creates its container.

    Args:
        source: where the configuration comes from.
        providers: providers beside the built-in ones.
        plugins: plugins beside those that are found.
    """

    source: Source = None
    providers: Iterable[BaseLLMProvider] = ()
    plugins: Iterable[KorPlugin] = ()


def read(source: Source) -> Settings:
    """Return the settings that a source gives.

    Args:
        source: a path takes the place of ``./config.toml`` among the layers; a mapping or
            ``Settings`` stands alone; None means the usual layers.

    Raises:
        ConfigurationError: everything that is wrong with it.

    >>> read({"llm": {"default": {"model": "echo:any"}}}).llm.default.model
    'echo:any'
    """
    if isinstance(source, Settings):
        return source
    if isinstance(source, Mapping):
        return settings_from(source)
    return load_settings(_path(source))


def _path(source: object) -> str | None:
    if source is None:
        return None
    try:
        return os.fspath(source)  # type: ignore[call-overload,no-any-return]  # it checks itself
    except TypeError:
        words = f"expected a path, a mapping or Settings, not {type(source).__name__}."
        problem = Problem(f"The configuration cannot be read: {words}")
    raise ConfigurationError([problem])


def _operator(handed_in: HandedIn) -> Settings:
    return read(handed_in.source)


class ConfigContainer(KorContainer):
    """Reads the configuration.

    ``operator`` is what the operator configured, and infrastructure depends on it alone.
    ``settings`` is what this kernel runs on: the same object, unless a tenant replaces it.
    """

    handed_in = Dependency(instance_of=HandedIn)
    operator = Singleton(_operator, handed_in).closed_by(None)
    settings = Alias(operator)
