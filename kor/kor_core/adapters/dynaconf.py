"""``load_settings``: the layers of the configuration, from files and the environment.

dynaconf resolves the tokens of each source; which files are read, how they are merged and
where each value came from is decided here, because dynaconf's own layering concatenates
lists, folds keys that differ in case, and ignores files that are missing. It is imported
only when a source holds a token: it brings jinja2 along.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from kor_core.errors import ConfigurationError, Problem
from kor_core.settings.document import Settings, settings_of
from kor_core.settings.environment import matched, typed
from kor_core.settings.problems import problem_at, step
from kor_core.settings.provenance import KeyPath, Sourced, as_list, as_table, paths_of
from kor_core.settings.toml import read_toml
from kor_core.settings.values import expanded
from kor_core.suggestions import listed, nearest

__all__ = ["load_settings"]

# An environment's name becomes part of a file's name, and leads nowhere else.
_UNFIT: Final = re.compile(r"[/\\\0]")


def load_settings(
    path: str | PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
    cwd: Path | None = None,
) -> Settings:
    r"""Return the settings that files and environment variables give. Nothing is written.

    Layers, later ones win: the defaults, ``~/.kor/config.toml``, ``./config.toml`` (or
    ``path``, or the file in ``KOR_CONFIG``), ``config.<env>.toml`` beside it when ``KOR_ENV``
    is set, ``.secrets.toml`` beside it, the variables ``KOR_LLM__…``, ``KOR_NETWORK__…``,
    ``KOR_PLUGINS__…`` and ``KOR_STATE__…``.

    Args:
        path: a file to read in place of ``./config.toml``; it must exist.
        environ: the environment; by default the process's.
        home: the home directory; by default the user's.
        cwd: the directory that relative paths start from; by default the current one.

    Raises:
        ConfigurationError: everything that is wrong, each with its file and line or variable.
        TypeError: a mapping was given.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "config.toml").write_text('[llm.default]\nmodel = "echo:any"\n')
    ...     settings = load_settings(environ={}, home=Path(folder), cwd=Path(folder))
    >>> settings.llm.default.model
    'echo:any'
    """
    if isinstance(path, Mapping):
        del path, environ  # as below
        raise TypeError("Expected the path of a file. For tables use settings_from(mapping).")
    outcome = _outcome(path, os.environ if environ is None else environ, home, cwd)
    # Raised here, after the environment is out of sight of tracebacks that show locals.
    del environ
    if isinstance(outcome, Settings):
        return outcome
    raise ConfigurationError(outcome)


@dataclass(slots=True)
class _Draft:
    """The configuration as far as it is read."""

    source: Sourced = field(default_factory=Sourced)
    problems: list[Problem] = field(default_factory=list[Problem])
    found: bool = False
    complete: bool = True

    def add(self, upper: Sourced, problems: list[Problem]) -> None:
        self.found = True
        self.source = self.source.under(upper)
        self.problems += problems

    def lacks(self, problem: Problem) -> None:
        self.complete = False
        self.problems.append(problem)


def _outcome(
    path: str | PathLike[str] | None,
    environ: Mapping[str, str],
    home: Path | None,
    cwd: Path | None,
) -> Settings | list[Problem]:
    """Return the settings or what is wrong: a raise from here would carry the environment."""
    draft = _Draft()
    for file in _files(path, environ, home, cwd or Path.cwd()):
        _read(file, environ, draft)
    _read_environment(environ, draft)
    return _checked(draft)


def _checked(draft: _Draft) -> Settings | list[Problem]:
    if not draft.found and draft.complete:
        return Settings.when_unconfigured()
    outcome = settings_of(draft.source, complete=draft.complete)
    if not isinstance(outcome, Settings):
        known = {problem.key for problem in draft.problems}
        draft.problems += [problem for problem in outcome if problem.key not in known]
    elif not draft.problems:
        draft.problems += _missing_files(outcome)
    return draft.problems or outcome


# --- which files --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _File:
    """A file to read; ``asked_by`` is who insists that it exists, ``env`` what KOR_ENV says.

    The file of an environment has to exist where there is the one ``beside`` it.
    """

    path: Path
    asked_by: str = ""
    env: str = ""
    beside: Path | None = None


def _files(
    path: str | PathLike[str] | None, environ: Mapping[str, str], home: Path | None, cwd: Path
) -> Iterator[_File]:
    home = home or _home()
    if home is not None:
        yield _File(home / ".kor" / "config.toml")
    main = _main_file(path, environ, cwd)
    yield main
    folder = main.path.parent
    if env := environ.get("KOR_ENV"):
        yield _File(folder / f"config.{env}.toml", env=env, beside=main.path)
    yield _File(folder / ".secrets.toml")


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # no HOME and no entry for the user: as in a minimal container
        return None


def _main_file(path: str | PathLike[str] | None, environ: Mapping[str, str], cwd: Path) -> _File:
    if path is not None:
        return _File(cwd / expanded(Path(path)), asked_by="the path that was given")
    if named := environ.get("KOR_CONFIG"):
        return _File(cwd / expanded(Path(named)), asked_by="KOR_CONFIG")
    return _File(cwd / "config.toml")


# --- reading one source -------------------------------------------------------------------


def _read(file: _File, environ: Mapping[str, str], draft: _Draft) -> None:
    if _UNFIT.search(file.env):
        draft.lacks(Problem("Expected a name such as 'production'.", "KOR_ENV"))
        return
    source = read_toml(file.path)
    if isinstance(source, Sourced):
        resolved, problems = _resolved(source, environ)
        data = _anchored(resolved.data, Settings, file.path.parent)
        draft.add(Sourced(data, resolved.origins), problems)
    elif isinstance(source, Problem):
        draft.lacks(_asked(source, file))
    elif problem := _missing(file):
        draft.lacks(problem)


def _asked(problem: Problem, file: _File) -> Problem:
    # Who named it explains what is no file, and is of no help with what stands in one.
    if not file.asked_by or file.path.is_file():
        return problem
    return Problem(f"{problem.message} It is named by {file.asked_by}.", problem.origin)


def _missing(file: _File) -> Problem | None:
    if file.asked_by:
        found = nearest(file.path.name, (path.name for path in file.path.parent.glob("*.toml")))
        message = f"There is no such file. It is named by {file.asked_by}."
        return Problem(message, str(file.path), suggestion=found)
    if file.env:
        return _misspelt_env(file)
    return None


def _misspelt_env(file: _File) -> Problem | None:
    """A missing ``config.<env>.toml`` is fine only where there is no other file of ours."""
    others = [path.name[7:-5] for path in file.path.parent.glob("config.*.toml")]
    found = nearest(file.env, others)
    if found is None and not (file.beside and file.beside.is_file()):
        return None
    message = f"KOR_ENV is '{file.env}', and there is no {file.path.name} beside the others. "
    message += "Unset it, or write that file, which may be empty."
    return Problem(message, "KOR_ENV", suggestion=found)


def _read_environment(environ: Mapping[str, str], draft: _Draft) -> None:
    texts, unclear = matched(environ, Settings, draft.source)
    if texts.data or unclear:
        resolved, unresolved = _resolved(texts, environ)
        values, wrong = typed(resolved, Settings)
        draft.add(values, [*unclear, *unresolved, *wrong])


def _resolved(source: Sourced, environ: Mapping[str, str]) -> tuple[Sourced, list[Problem]]:
    problems = [
        problem_at(path, _NO_DYNACONF_KEYS, source)
        for path in paths_of(source.data)
        if path[-1].lower().startswith("dynaconf_")
    ]
    token = next(_tokens(source.data, ()), None)
    if token is None:
        return source, problems
    try:
        from kor_core.adapters.dynaconf_tokens import resolved
    except ValueError:  # dynaconf reads variables of its own when imported, some as numbers
        return source, [*problems, problem_at(token, _unusable(), source)]
    values, unresolved = resolved(source, environ)
    return values, [*problems, *unresolved]


_NO_DYNACONF_KEYS = "dynaconf's own merging is not used: tables merge and lists replace."


def _unusable() -> str:
    names = [name for name in os.environ if name.endswith("_FOR_DYNACONF")]
    return f"dynaconf, which resolves tokens, cannot be imported. Unset {listed(names)}."


def _tokens(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    """Yield the paths of texts that may be tokens."""
    if isinstance(value, str) and value.startswith("@"):
        yield path
    for item in as_list(value) or ():
        yield from _tokens(item, path)
    for name, item in (as_table(value) or {}).items():
        yield from _tokens(item, (*path, name))


# --- files that the configuration names ---------------------------------------------------


def _anchored(data: Mapping[str, Any], here: Any, folder: Path) -> dict[str, Any]:
    """Return the tables with relative paths of files started from the file they stand in."""
    return {name: _anchor(value, step(here, name), folder) for name, value in data.items()}


def _anchor(value: Any, here: Any, folder: Path) -> Any:
    if here is Path and isinstance(value, str) and value.strip():
        return str(folder / expanded(Path(value)))
    if isinstance(here, type) and issubclass(here, BaseModel) and isinstance(value, Mapping):
        return _anchored(as_table(value) or {}, here, folder)
    return value


def _missing_files(settings: Settings) -> list[Problem]:
    network = settings.network
    named = {
        "ca_bundle": network.ca_bundle,
        "client_certificate": network.client_certificate,
        "client_key": network.client_key,
    }
    return [
        settings.problem(("network", name), f"There is no file {path}.")
        for name, path in named.items()
        if path is not None and not path.is_file()
    ]
