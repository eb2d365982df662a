"""dynaconf's tokens (``@format``, ``@jinja``, ``@int`` …), resolved leaf by leaf.

Importing this module imports dynaconf, so only a source that holds a token does.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from dynaconf.base import Settings  # type: ignore[import-untyped] # dynaconf has no types
from dynaconf.utils import parse_conf  # type: ignore[import-untyped] # dynaconf has no types

from kor_core.errors import Problem
from kor_core.settings.problems import problem_at
from kor_core.settings.provenance import KeyPath, Sourced, as_list, as_table, copied
from kor_core.suggestions import nearest

__all__ = ["resolved"]

# As Any, which they are: otherwise each use would have to say so.
_dynaconf: Final[Any] = parse_conf
_new_settings: Final[Any] = Settings

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
    this = _new_settings(
        # Nothing but what is handed in: no file, no variable, no hook.
        dynaconf_skip_loaders=True,
        dynaconf_skip_validators=True,
        DOTTED_LOOKUP_FOR_DYNACONF=True,
    )
    # A copy, since dynaconf changes what it is given; and below, since it returns its own types.
    this.update(copied(parsed), merge=False, dotted_lookup=False, validate=False)
    return Sourced(work.evaluated(parsed, (), this), source.origins), work.problems


class _Lazy:
    """A lazy value as dynaconf has it, which reads the environment that it is given."""

    _dynaconf_lazy_format = True  # by which dynaconf knows one

    def __init__(self, lazy: Any, text: str, environ: Mapping[str, str]) -> None:
        self.text = text
        self._value = lazy.value
        self._casting = lazy.casting
        self._environ = environ
        self._busy = False
        self._format = _rendered if str(lazy.formatter) == "jinja" else lazy.formatter
        if isinstance(lazy.value, _dynaconf.Lazy):
            self._value = _Lazy(lazy.value, text, environ)

    def __call__(self, this: Any) -> Any:
        if self._busy:
            raise RecursionError
        self._busy = True
        try:
            value = self._value(this) if isinstance(self._value, _Lazy) else self._value
            result = self._format(value, env=self._environ, this=this)
        finally:
            self._busy = False
        return result if self._casting is None else self._casting(result)


def _rendered(template: str, **context: Any) -> str:
    """Render a template; unlike dynaconf, fail where it prints a name that is missing."""
    rendered: str = _jinja.from_string(template).render(**context)
    return rendered


class _Printed:
    def __str__(self) -> str:
        missing: Any = self
        # jinja2's own way to say which name is missing, for those who derive from Undefined
        text: str = missing._fail_with_undefined_error()  # noqa: SLF001
        return text


# Tests such as {% if env.X %} and default() keep working: only printing fails.
_jinja: Final[Any] = _dynaconf.jinja_env.overlay(
    undefined=type("Missing", (_Printed, _dynaconf.jinja_env.undefined), {})
)


class _Work:
    """One source on its way: tokens are parsed first, since lazy ones may refer to others."""

    def __init__(self, source: Sourced, environ: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self._source = source
        self._environ = environ

    def parsed(self, value: Any, path: KeyPath) -> Any:
        """Return ``value`` with plain tokens resolved and the others made lazy."""
        if (table := as_table(value)) is not None:
            return {name: self.parsed(item, (*path, name)) for name, item in table.items()}
        if (items := as_list(value)) is not None:
            return [self.parsed(item, (*path, str(n))) for n, item in enumerate(items)]
        token = _TOKEN.match(value) if isinstance(value, str) else None
        return value if token is None else self._token(token[0], value, path)

    def _token(self, token: str, text: str, path: KeyPath) -> Any:
        if token in _MERGING:
            self._fails(path, f"'{token}' is not supported: tables merge and lists replace.")
            return text
        if token not in _dynaconf.converters:
            return self._unknown(token, text, path)
        try:
            found = _dynaconf.parse_conf_data(text, box_settings=dict(_PARSING))
        except Exception as error:  # noqa: BLE001 - converters raise what they like
            self._fails(path, _unresolved(text, error))
            return text
        lazy = isinstance(found, _dynaconf.Lazy)
        return _Lazy(found, text, self._environ) if lazy else found

    def _unknown(self, token: str, text: str, path: KeyPath) -> Any:
        found = nearest(token, _dynaconf.converters)
        if found is not None:  # otherwise a text that happens to begin so, such as "@all users"
            message = f"There is no token '{token}'. Text that begins so is written '@str {token}'."
            self._fails(path, message, found)
        return text

    def evaluated(self, value: Any, path: KeyPath, this: Any) -> Any:
        """Return ``value`` with what was lazy resolved."""
        if (table := as_table(value)) is not None:
            return {name: self.evaluated(item, (*path, name), this) for name, item in table.items()}
        if (items := as_list(value)) is not None:
            return [self.evaluated(item, (*path, str(n)), this) for n, item in enumerate(items)]
        if not isinstance(value, _Lazy):
            return value
        try:
            return copied(value(this))
        except Exception as error:  # noqa: BLE001 - templates raise what they like
            self._fails(path, _unresolved(value.text, error))
            return value.text

    def _fails(self, path: KeyPath, message: str, suggestion: str | None = None) -> None:
        self.problems.append(problem_at(path, message, self._source, suggestion))


def _unresolved(text: str, error: Exception) -> str:
    return f"The token '{text.partition(' ')[0]}' cannot be resolved: {_reason(error)}."


def _reason(error: Exception) -> str:
    """Say why, in words that hold no value: what a token stands for may be a key."""
    cause = error.__cause__
    if isinstance(cause, KeyError):
        return f"the environment variable '{cause.args[0]}' is not set"
    if isinstance(cause, AttributeError):
        return f"there is no '{cause}' in the same source"
    if isinstance(error, RecursionError):
        return "it refers to itself"
    return _own_words(error) or "the value does not fit it"


def _own_words(error: Exception) -> str | None:
    """Return what dynaconf or jinja2 says, where that names no value."""
    message = str(getattr(error, "message", error)).rstrip(".")
    names_a_file = isinstance(error, _dynaconf.DynaconfFileNotFoundError)
    from_jinja = type(error).__module__.startswith("jinja2")
    return message if names_a_file or from_jinja or message.startswith("Key ") else None
