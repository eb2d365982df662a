"""Which binding needs which: the paths of a container and the edges between them.

A graph never changes. Replacing bindings gives another graph, and the common case
(a binding that now needs nothing) is remembered, so that ten thousand tenants share one.
"""

from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Graph"]


class Graph:
    """Paths and what each needs.

    Args:
        edges: for each path the paths it needs directly.
        loose: paths that take what they need only when it is used, such as a container that
            is injected whole; a circle through one of them is none.

    >>> graph = Graph({"settings": (), "registry": ("settings",), "kernel": ("registry",)})
    >>> sorted(graph.closure(("registry",)))
    ['kernel', 'registry']
    >>> sorted(graph.replacing({"registry": ()}).closure(("settings",)))
    ['settings']
    """

    __slots__ = ("_closures", "_cuts", "_dependents", "edges", "loose")

    def __init__(
        self, edges: Mapping[str, tuple[str, ...]], loose: frozenset[str] = frozenset()
    ) -> None:
        self.edges = edges
        self.loose = loose
        self._dependents: dict[str, list[str]] | None = None
        self._closures: dict[tuple[str, ...], frozenset[str]] = {}
        self._cuts: dict[tuple[str, ...], tuple[Graph, frozenset[str]]] = {}

    def closure(self, paths: tuple[str, ...]) -> frozenset[str]:
        """The paths given and everything that depends on them, however indirectly."""
        known = self._closures.get(paths)
        if known is None:
            known = self._closures[paths] = frozenset(self._reach(paths))
        return known

    def replacing(self, edges: Mapping[str, tuple[str, ...]]) -> "Graph":
        """The graph in which these paths need what is given instead."""
        return Graph({**self.edges, **edges}, self.loose)

    def cut(self, paths: tuple[str, ...]) -> "tuple[Graph, frozenset[str]]":
        """The graph in which these paths need nothing, and their closure in it."""
        known = self._cuts.get(paths)
        if known is None:
            graph = self.replacing(dict.fromkeys(paths, ()))
            known = self._cuts[paths] = (graph, graph.closure(paths))
        return known

    def cycle(self, start: Iterable[str] | None = None) -> tuple[str, ...] | None:
        """A path that needs itself, written out from one end to the other; None without one."""
        done: set[str] = set()
        for path in self.edges if start is None else start:
            found = self._cycle_from(path, [], done)
            if found is not None:
                return found
        return None

    def cycles(self) -> Iterator[tuple[str, ...]]:
        """Each circle apart: no two have a path in common."""
        graph = self
        while (found := graph.cycle()) is not None:
            yield found
            graph = graph.cut(found)[0]

    def _reach(self, paths: Iterable[str]) -> set[str]:
        dependents = self._reversed()
        reached: set[str] = set()
        waiting = list(paths)
        while waiting:
            path = waiting.pop()
            if path not in reached:
                reached.add(path)
                waiting.extend(dependents.get(path, ()))
        return reached

    def _reversed(self) -> dict[str, list[str]]:
        if self._dependents is None:
            dependents: dict[str, list[str]] = {}
            for path, needs in self.edges.items():
                for need in needs:
                    dependents.setdefault(need, []).append(path)
            self._dependents = dependents
        return self._dependents

    def _cycle_from(self, path: str, trail: list[str], done: set[str]) -> tuple[str, ...] | None:
        if path in trail:
            return (*trail[trail.index(path) :], path)
        if path in done:
            return None
        trail.append(path)
        for need in () if path in self.loose else self.edges.get(path, ()):
            found = self._cycle_from(need, trail, done)
            if found is not None:
                return found
        trail.pop()
        done.add(path)
        return None
