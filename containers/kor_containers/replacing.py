"""What replacing does to a graph, a level and the names that others see."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import count
from typing import Any, Final

from dependency_injector import providers

from kor_containers.definitions import Constant, Container, Definition
from kor_containers.graph import Graph
from kor_containers.levels import Level, Owner, Replacement
from kor_containers.reading import Reader
from kor_core.errors import ContainerError

__all__ = [
    "as_seen",
    "graph_of",
    "read_replacement",
    "replaced_graph",
    "replaced_level",
    "seen_through",
]

_NUMBERS: Final = count(1)
_NO_NAMES: Final[dict[str, str]] = {}


def read_replacement(
    given: Mapping[str, Any],
    graph: Graph,
    path_of: Callable[[Any], str | None],
    prefix_of: Callable[[object], str | None],
) -> Replacement:
    """Read what was handed in to replace bindings.

    Args:
        given: objects and providers by path.
        graph: the graph in which they are replaced.
        path_of: gives the path of a provider that is a binding of the container.
        prefix_of: gives the prefix of the paths in a container.

    Raises:
        ContainerError: bindings would need each other in a circle.
    """
    definitions: dict[str, Definition] = {}
    constant = True
    for path, value in given.items():
        constant = constant and not isinstance(value, providers.Provider)
        definitions[path] = Constant(value)
    if constant:
        paths = _shared(tuple(definitions))
        return Replacement(definitions, paths, _NO_NAMES, constant=True)
    return _read_providers(given, graph, path_of, prefix_of)


# Thousands of tenants replace the same.
@lru_cache(maxsize=1024)
def _shared(paths: tuple[str, ...]) -> tuple[str, ...]:
    return paths


def _read_providers(
    given: Mapping[str, Any],
    graph: Graph,
    path_of: Callable[[Any], str | None],
    prefix_of: Callable[[object], str | None],
) -> Replacement:
    definitions: dict[str, Definition] = {}
    renamed: dict[str, str] = {}
    for path, value in given.items():
        # A number of its own, so that no other replacement in the family shares a name.
        suffix = f"~{next(_NUMBERS)}"

        def names(provider: Any, path: str = path, suffix: str = suffix) -> str | None:
            found = path_of(provider)
            if found != path:
                return found
            renamed[path + suffix] = path
            return path + suffix

        reader = Reader(names, prefix_of, suffix)
        reader.replace(path, value)
        definitions.update(reader.definitions)
    replacement = Replacement(definitions, tuple(given), renamed)
    _refuse_cycle(replaced_graph(graph, replacement), given)
    return replacement


def graph_of(definitions: Mapping[str, Definition]) -> Graph:
    """The graph of what was defined."""
    loose = {path for path, item in definitions.items() if isinstance(item, Container)}
    return Graph({path: item.edges for path, item in definitions.items()}, frozenset(loose))


def replaced_graph(graph: Graph, replacement: Replacement) -> Graph:
    """The graph with a replacement in force."""
    edges = {path: item.edges for path, item in replacement.definitions.items()}
    if not any(edges.values()):
        return graph.cut(tuple(edges))[0]
    for new, old in replacement.renamed.items():
        edges[new] = graph.edges[old]
    return graph.replacing(edges)


def replaced_level(
    owner: Owner, under: Level | None, graph: Graph, replacement: Replacement
) -> Level:
    """The level that a replacement makes: it owns what depends on what is replaced.

    Args:
        owner: the container.
        under: the level below in the same container; None for the ground.
        graph: the graph in which it replaces.
        replacement: what it replaces.
    """
    definitions = replacement.definitions
    if replacement.constant:
        changed, owned = graph.cut(replacement.paths)
    else:
        changed = replaced_graph(graph, replacement)
        owned = changed.closure(replacement.paths) | definitions.keys()
    return Level(owner, under, changed, owned, definitions, replacement.renamed)


def as_seen(replacement: Replacement, names: Mapping[str, str | None]) -> Replacement:
    """A replacement under the names by which another container knows its paths."""
    if all(new == old for old, new in names.items()):
        return replacement
    definitions = {
        seen: definition
        for path, definition in replacement.definitions.items()
        if (seen := names.get(path, path)) is not None
    }
    renamed = {
        new: seen
        for new, old in replacement.renamed.items()
        if (seen := names.get(old, old)) is not None
    }
    paths = tuple(seen for seen in names.values() if seen is not None)
    return Replacement(definitions, paths, renamed)


def seen_through(level: Level, path: str) -> str | None:
    """The name by which what lies below a level is seen above it; None if it is hidden."""
    if path not in level.definitions:
        return path
    return next((new for new, old in level.renamed.items() if old == path), None)


def _refuse_cycle(graph: Graph, paths: Mapping[str, Any]) -> None:
    circle = graph.cycle(paths)
    if circle is not None:
        raise ContainerError(
            f"With this replacement bindings would need each other: {' ← '.join(circle)}. "
            "Hand in an object, or a provider that does without one of them.",
            path=circle[0],
        )
