"""What is wrong with a container's graph, found without building anything."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dependency_injector import providers

from kor_containers.definitions import Alias, Constant, Definition, Native, Recipe, Undefined
from kor_containers.levels import Level
from kor_core.errors import ContainerError

__all__ = ["Finding", "InvalidContainerError", "Kind", "Report", "validate"]

Kind = Literal["missing", "cycle", "arguments", "type", "stale"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    Args:
        kind: what sort of thing.
        path: the binding it is about.
        message: what it is and how to mend it.
    """

    kind: Kind
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True)
class Report:
    """What validation found: problems that will make something fail, and warnings.

    >>> print(Report((), ()))
    No problems, no warnings.
    """

    problems: tuple[Finding, ...]
    warnings: tuple[Finding, ...]

    def as_dict(self) -> dict[str, list[dict[str, str]]]:
        """The report in JSON's own types."""
        return {
            "problems": [_plain(item) for item in self.problems],
            "warnings": [_plain(item) for item in self.warnings],
        }

    def __str__(self) -> str:
        if not (self.problems or self.warnings):
            return "No problems, no warnings."
        lines = [f"problem: {item}" for item in self.problems]
        lines += [f"warning: {item}" for item in self.warnings]
        return "\n".join(lines)


class InvalidContainerError(ContainerError):
    """The graph of a container is wrong. ``report`` holds everything found, not just the first."""

    def __init__(self, report: Report) -> None:
        lines = "".join(f"\n  - {item}" for item in report.problems)
        count = len(report.problems)
        what = "1 problem" if count == 1 else f"{count} problems"
        super().__init__(f"{what} in the container:{lines}", path=report.problems[0].path)
        self.report = report


def validate(declared: Level, level: Level) -> Report:
    """Look at a container as it is now.

    Args:
        declared: the ground of the container as it was declared.
        level: the level that is in force.

    Raises:
        InvalidContainerError: there is a problem.
    """
    definitions = {path: level.definition(path) for path in level.graph.edges}
    problems = tuple(_problems(level, definitions))
    report = Report(problems, tuple(_warnings(declared, definitions)))
    if problems:
        raise InvalidContainerError(report)
    return report


def _plain(finding: Finding) -> dict[str, str]:
    return {"kind": finding.kind, "path": finding.path, "message": finding.message}


def _problems(level: Level, definitions: Mapping[str, Definition]) -> Iterator[Finding]:
    for circle in level.graph.cycles():
        yield Finding("cycle", circle[0], f"needs itself: {' ← '.join(circle)}. Break the circle.")
    for path, definition in definitions.items():
        match definition:
            case Undefined():
                yield Finding("missing", path, str(definition.error(path)))
            case Recipe():
                yield from _arguments(path, definition)
            case Alias(target, expected) if expected is not None:
                yield from _declared_type(path, target, expected, definitions)
            case _:
                pass


def _arguments(path: str, recipe: Recipe) -> Iterator[Finding]:
    try:
        signature = inspect.signature(recipe.factory)
    except (TypeError, ValueError):
        return  # some functions of C code do not tell their arguments
    try:
        signature.bind(*recipe.positional, **recipe.keyword)
    except TypeError as error:
        name = getattr(recipe.factory, "__qualname__", repr(recipe.factory))
        yield Finding("arguments", path, f"{name}{signature} cannot be called so: {error}.")


def _declared_type(
    path: str, target: str, expected: type, definitions: Mapping[str, Definition]
) -> Iterator[Finding]:
    definition: Definition | None = definitions.get(target)
    while isinstance(definition, Alias):
        definition = definitions.get(definition.target)
    found = None if definition is None else definition.declared_type
    if found is not None and not issubclass(found, expected):
        yield Finding(
            "type",
            path,
            f"is declared as {expected.__name__}, and bound to '{target}', which makes "
            f"{found.__name__}. Bind something that makes {expected.__name__}.",
        )


def _warnings(declared: Level, definitions: Mapping[str, Definition]) -> Iterator[Finding]:
    for path, definition in definitions.items():
        if isinstance(definition, Constant):
            yield from _replacement(declared, path, definition.value)
        if isinstance(definition, Native):
            yield from _stale(path, definition)


def _replacement(ground: Level, path: str, value: Any) -> Iterator[Finding]:
    declared = ground.definitions.get(path)
    expected = None if declared is None else declared.declared_type
    if expected is not None and not isinstance(value, expected):
        yield Finding(
            "type",
            path,
            f"was replaced by a {type(value).__name__}, which is no {expected.__name__}.",
        )


def _stale(path: str, native: Native) -> Iterator[Finding]:
    if (
        native.in_place
        and native.references
        and isinstance(native.provider, providers.BaseSingleton)
    ):
        kind = type(native.provider).__name__
        yield Finding(
            "stale",
            path,
            f"is a dependency-injector {kind} that depends on {', '.join(native.edges)}; "
            "overridden directly, it leaves what depends on it as it was. "
            "Declare it with kor_containers.providers.Singleton.",
        )
