"""dynaconf's tokens (``@format``, ``@jinja``, ``@int`` …), resolved leaf by leaf.

Importing this module imports dynaconf, so only a source that holds a token does.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

from dynaconf.base import Settings  # type: ignore[import-untyped] # dynaconf has no types
from dynaconf.utils import parse_conf  # type: ignore[import-untyped] # dynaconf has no types

from kor_core.errors import Problem
from kor_core.settings.problems import problem_at
from kor_core.settings.provenance import KeyPath, Sourced, as_list, as_table, copied, too_deep

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
    this = _this(parsed)
    return Sourced(work.evaluated(parsed, (), this), source.origins), work.problems


def _this(parsed: Mapping[str, Any]) -> Any:
    """Return dynaconf's settings of what is handed in alone: no file, no variable, no hook."""
    this = _new_settings(
        dynaconf_skip_loaders=True,
        dynaconf_skip_validators=True,
        DOTTED_LOOKUP_FOR_DYNACONF=True,
        # Tokens are parsed already: what looks like one now is text.
        AUTO_CAST_FOR_DYNACONF=False,
    )
    # In capitals, as dynaconf has first names; and a copy, since it changes what it is given.
    sections = {name.strip().upper(): copied(value) for name, value in parsed.items()}
    this.update(sections, merge=False, dotted_lookup=False, validate=False)
    return this


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
        return str(missing._fail_with_undefined_error())  # noqa: SLF001  # jinja2's way for classes derived from Undefined


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
            lazy = isinstance(found, _dynaconf.Lazy)
            return _Lazy(found, text, self._environ) if lazy else _shallow(found)
        except Exception as error:  # noqa: BLE001 - converters raise what they like
            self._fails(path, _unresolved(text, error))
            return text

    def _unknown(self, token: str, text: str, path: KeyPath) -> Any:
        # Nearer than names usually need be: texts such as "@all users" are no slips of the pen.
        near = get_close_matches(token, list[str](_dynaconf.converters), n=1, cutoff=0.75)
        if near:
            message = f"There is no token '{token}'. Text that begins so is written '@str {token}'."
            self._fails(path, message, near[0])
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
            return _shallow(value(this))
        except Exception as error:  # noqa: BLE001 - templates raise what they like
            self._fails(path, _unresolved(value.text, error))
            return value.text

    def _fails(self, path: KeyPath, message: str, suggestion: str | None = None) -> None:
        self.problems.append(problem_at(path, message, self._source, suggestion))


def _shallow(value: Any) -> Any:
    """Return plain dicts and lists instead of dynaconf's own."""
    if too_deep(value):
        raise ValueError("nested too deeply")
    return copied(value)


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
