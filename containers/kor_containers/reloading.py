"""Reads the configuration again while the application serves: all of it or nothing.

A reload is an override of ``config.operator`` that stays, in which whatever must survive keeps
its object: connections, plugins, counts, circuits.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from threading import RLock
from typing import Any, Final

from kor_containers.config import Source, read
from kor_containers.derivation import steps_to_application
from kor_containers.overriding import Override
from kor_containers.spaces import Space
from kor_core.errors import ConfigurationError, Problem
from kor_core.settings import Settings
from kor_core.settings.provenance import dotted
from kor_core.settings.tables import Table

__all__ = ["reload"]

_log: Final = logging.getLogger(__name__)

# One for all containers: reloads are rare, and each takes milliseconds. Re-entrant, since what
# is built meanwhile may be a user's.
_one_at_a_time: Final = RLock()


def _limits(settings: Settings) -> object:
    tables = (settings.llm.providers, settings.llm.models)
    return [{name: item.concurrency for name, item in table.items()} for table in tables]


# What keeps its object, in the order in which it is built, and on what part of the settings
# that depends. Counts are not listed: they live in the state.
_LASTING: Final[Mapping[str, Callable[[Settings], object]]] = {
    "network.transport": lambda settings: settings.network,
    "policies.state": lambda settings: settings.state,
    "policies.breakers": lambda settings: settings.llm.policies.breaker,
    "policies.cache": lambda settings: settings.llm.policies.cache,
    "policies.concurrency": _limits,
    "llm.openai": lambda settings: settings.network,
    "llm.litellm": lambda settings: settings.network,
    "llm.vendors": lambda settings: settings.network,
    "llm.catalogue": lambda settings: settings.plugins,
}

# Tables that objects were built from which nobody can exchange under the calls in flight.
_FIXED: Final = ("network", "plugins", "state")


def reload(app: Any, source: Source = None) -> None:
    """Let a container run on a configuration that was read again.

    Calls, streams and models that were got before finish on what they began with; whoever asks
    the container, or ``get_kernel()``, from now on gets the new. Connections, plugins, what was
    registered by hand, the counts of limits and budgets, latencies, and the circuit breakers of
    models whose key is the same go on as they are. If anything is wrong, nothing changes.
    Threads that reload at once take turns.

    Args:
        app: what ``create_container`` returned, or ``default_container()``.
        source: the configuration; by default what the container was created with, read again.

    Raises:
        ConfigurationError: everything that is wrong with the configuration; or a table
            changed that takes a restart: ``[network]``, ``[plugins]`` or ``[state]``.
        ContainerError: the container holds no, or more than one, ``ApplicationContainer``.

    >>> from kor_containers import create_container
    >>> with create_container({"llm": {"default": {"model": "echo:old"}}}) as app:
    ...     reload(app, {"llm": {"default": {"model": "echo:new"}}})
    ...     app.kernel().model_selector.get_model().model_name
    'new'
    """
    with _one_at_a_time:
        ours: Any = app
        for step in steps_to_application(app):
            ours = getattr(ours, step)
        ours.kernel()  # what is to survive must be there
        old: Settings = ours.config.operator()
        new = read(ours.handed_in().source if source is None else source)
        _refuse_what_is_fixed(old, new)
        kept = [path for path, part in _LASTING.items() if part(old) == part(new)]
        _try_out(ours, new, kept)
        _put_in_force(ours, new, kept)


def _refuse_what_is_fixed(old: Settings, new: Settings) -> None:
    problems = [
        Problem(
            "The value changed, and takes a restart: what exists was built from it. Undo the "
            "change, or restart the application.",
            key=dotted(path),
            origin=new.origin(*path) or old.origin(*path),
        )
        for path in _changed(old, new)
    ]
    if problems:
        raise ConfigurationError(problems)


def _changed(old: Settings, new: Settings) -> Iterator[tuple[str, str]]:
    for name in _FIXED:
        before: Table = getattr(old, name)
        after: Table = getattr(new, name)
        for key in type(before).model_fields:
            if getattr(before, key) != getattr(after, key):
                yield name, key


def _try_out(ours: Any, new: Settings, kept: list[str]) -> None:
    """Build a kernel on the new settings beside the one that serves, for its errors."""
    space, prefix = ours.place()
    objects = {f"{prefix}{path}": space.give(f"{prefix}{path}", None) for path in kept}
    trial: Space = space.derive({**objects, f"{prefix}config.operator": new})
    try:
        trial.give(f"{prefix}kernel", None)
    finally:
        trial.close()


def _put_in_force(ours: Any, new: Settings, kept: list[str]) -> None:
    space, prefix = ours.place()
    paths = [f"{prefix}{path}" for path in kept]
    before = _reloads(space, prefix)
    space.override({f"{prefix}config.operator": new}, kept=paths)
    # The last one stays beneath for one reload more: calls may be using what it built.
    for override in before[:-1]:
        _end(override)


def _reloads(space: Space, prefix: str) -> list[Override]:
    path = f"{prefix}config.operator"
    return [each for each in space.overrides() if each.kept and path in each.replacement.paths]


def _end(override: Override) -> None:
    try:
        override.end()
    except ExceptionGroup as error:  # a user's closers; the new configuration is in force
        _log.warning("What an earlier configuration had built did not close.", exc_info=error)
