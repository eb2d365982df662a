"""dynaconf's tokens (``@format``, ``@jinja``, ``@int`` …), resolved leaf by leaf.

Importing this module imports dynaconf, so only a source that holds a token does.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from dynaconf.base import Settings as DynaconfSettings
from dynaconf.utils.parse_conf import (
    BaseFormatter,
    DynaconfFileNotFoundError,
    DynaconfFormatError,
    DynaconfParseError,
    Lazy,
    converters,
    jinja_env,
    parse_conf_data,
)

from kor_core.errors import Problem
from kor_core.settings.problems import problem_at
from kor_core.settings.provenance import KeyPath, Sourced
from kor_core.suggestions import nearest

__all__ = ["resolved"]

_TOKEN: Final = re.compile(r"@[A-Za-z_]+(?= |$)")
# They tell dynaconf how to merge, which is decided by one rule here.
_MERGING: Final = frozenset({"@merge", "@merge_unique", "@insert", "@del", "@reset", "@empty"})
# Said here, so that AUTO_CAST_FOR_DYNACONF in the host's environment has no say.
_PARSING: Final = {"AUTO_CAST_FOR_DYNACONF": True, "DYNABOXIFY": False}


def resolved(source: Sourced, environ: Mapping[str, str]) -> tuple[Sourced, list[Problem]]:
    """Return the source with its tokens resolved, and a problem for each that cannot be.

    Args:
        source: one source; ``this`` in a token is that source alone.
        environ: what ``env`` in a token is.
    """
    work = _Work(source, environ)
    parsed = work.parsed(source.data, ())
    this = DynaconfSettings(
        dynaconf_skip_loaders=True,
        dynaconf_skip_validators=True,
        DOTTED_LOOKUP_FOR_DYNACONF=True,
    )
    this.update(_copied(parsed), merge=False, dotted_lookup=False, validate=False)
    return Sourced(work.evaluated(parsed, (), this), source.origins), work.problems


class _Bound(Lazy):
    """A lazy value that reads the environment it is given, and misses no name silently."""

    def __init__(self, lazy: Lazy, environ: Mapping[str, str]) -> None:
        inner = _Bound(lazy.value, environ) if isinstance(lazy.value, Lazy) else lazy.value
        jinja = str(lazy.formatter) == "jinja"
        super().__init__(inner, _JINJA if jinja else lazy.formatter, lazy.casting)
        self._environ = environ

    @property
    def context(self) -> dict[str, Any]:
        return {"env": self._environ, "this": self.settings}


def _rendered(template: str, **context: Any) -> str:
    return _STRICT.from_string(template).render(**context)


def _refuse(missing: Any) -> str:
    return missing._fail_with_undefined_error()


_JINJA: Final = BaseFormatter(_rendered, "jinja")
# Tests such as {% if env.X %} and defaults keep working; only printing a missing name fails.
_STRICT: Final = jinja_env.overlay(
    undefined=type("Missing", (jinja_env.undefined,), {"__str__": _refuse})
)


class _Work:
    def __init__(self, source: Sourced, environ: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self._source = source
        self._environ = environ

    def parsed(self, value: Any, path: KeyPath) -> Any:
        """Return ``value`` with plain tokens resolved and the others made lazy."""
        if isinstance(value, dict):
            return {name: self.parsed(item, (*path, name)) for name, item in value.items()}
        if isinstance(value, list):
            return [self.parsed(item, (*path, str(n))) for n, item in enumerate(value)]
        token = _TOKEN.match(value) if isinstance(value, str) else None
        return value if token is None else self._token(token[0], value, path)

    def _token(self, token: str, text: str, path: KeyPath) -> Any:
        if token in _MERGING:
            return self._fails(path, text, f"'{token}' is not supported: {_ONE_RULE}")
        if token not in converters:
            return self._unknown(token, text, path)
        try:
            found = parse_conf_data(text, box_settings=dict(_PARSING))
        except Exception as error:  # noqa: BLE001 - converters raise what they like
            return self._fails(path, text, _unresolved(text, error))
        return _Bound(found, self._environ) if isinstance(found, Lazy) else found

    def _unknown(self, token: str, text: str, path: KeyPath) -> Any:
        found = nearest(token, converters)
        if found is None:
            return text  # such as a user's own "@name"
        message = f"There is no token '{token}'. Write '@str {token} …' if the text begins so."
        return self._fails(path, text, message, found)

    def evaluated(self, value: Any, path: KeyPath, this: Any) -> Any:
        """Return ``value`` with what was lazy resolved."""
        if isinstance(value, dict):
            return {name: self.evaluated(item, (*path, name), this) for name, item in value.items()}
        if isinstance(value, list):
            return [self.evaluated(item, (*path, str(n)), this) for n, item in enumerate(value)]
        if not isinstance(value, Lazy):
            return value
        try:
            return _copied(value(this))
        except Exception as error:  # noqa: BLE001 - templates raise what they like
            return self._fails(path, str(value), _unresolved(repr(value).strip("'"), error))

    def _fails(self, path: KeyPath, text: str, message: str, suggestion: str | None = None) -> str:
        self.problems.append(problem_at(path, message, self._source, suggestion))
        return text


_ONE_RULE: Final = "tables merge and lists replace."


def _unresolved(text: str, error: Exception) -> str:
    return f"The token '{text.split()[0]}' cannot be resolved: {_reason(error)}."


def _reason(error: Exception) -> str:
    """Say why in words that hold no value: what a token stood for may be a key."""
    cause = error.__cause__
    if isinstance(error, RecursionError):
        return "it refers to itself"
    if isinstance(cause, KeyError):
        return f"the environment variable '{cause.args[0]}' is not set"
    if isinstance(cause, AttributeError):
        return f"this source has no '{cause}'"
    if isinstance(error, DynaconfFileNotFoundError):
        return str(error).rstrip(".")
    if isinstance(error, DynaconfParseError) and str(error).startswith("Key "):
        return str(error).rstrip(".")
    if type(error).__module__.startswith("jinja2"):
        return str(getattr(error, "message", error)).rstrip(".")
    return "the value does not fit it"


def _copied(value: Any) -> Any:
    """Return plain dicts and lists: dynaconf changes those it is given, and returns its own."""
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in dict.items(value)}
    if isinstance(value, list):
        return [_copied(item) for item in list.__iter__(value)]
    return value
