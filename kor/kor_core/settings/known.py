"""Which settings there are, set or not."""

from typing import Any

from kor_core.errors import Problem
from kor_core.settings.problems import step
from kor_core.settings.provenance import KeyPath, as_table, dotted
from kor_core.settings.tables import Table
from kor_core.suggestions import listed, nearest

__all__ = ["no_such_setting"]


def no_such_setting(settings: Table, path: KeyPath) -> Problem | None:
    """Return what is wrong with a path that leads to no setting, whether it is set or not.

    Args:
        settings: the whole configuration.
        path: the keys.

    >>> from kor_core.settings.tables import NetworkSettings
    >>> no_such_setting(NetworkSettings(), ("proxy",)) is None
    True
    >>> print(no_such_setting(NetworkSettings(), ("proxi",)))
    proxi: There is no such setting. Known: ... Did you mean 'proxy'?
    """
    annotation: Any = type(settings)
    value: Any = settings
    for depth, name in enumerate(path, 1):
        known = _names(annotation, value)
        if name not in known:
            message = f"There is no such setting. Known: {listed(known)}."
            return Problem(message, "", dotted(path[:depth]), nearest(name, known))
        annotation, value = step(annotation, name), _inside(value, name)
    return None


def _names(annotation: Any, value: Any) -> tuple[str, ...]:
    """Return the names that a table has, or where it is not set, could have."""
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return tuple(annotation.model_fields)
    return tuple(as_table(value) or ())


def _inside(value: Any, name: str) -> Any:
    table = as_table(value)
    return getattr(value, name, None) if table is None else table[name]
