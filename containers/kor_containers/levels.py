"""One level of a container: its ground, and one more for each override in force.

A level owns what was replaced in it and all that depends on that. Everything else is looked
up further down, and finally in the parent container, so nothing is copied until it is needed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from threading import RLock
from typing import Any, Final, Protocol

from kor_containers.definitions import (
    MISSING,
    Alias,
    Constant,
    Container,
    Definition,
    Native,
    Recipe,
    Undefined,
)
from kor_containers.graph import Graph
from kor_containers.lifecycle import Built, can_close
from kor_containers.redirects import copied, given_below
from kor_containers.sources import Cell, Outdated, Provided, Source

__all__ = ["Level", "Owner", "Replacement"]


# Not frozen, as freezing doubles what making one costs; nothing assigns to it.
@dataclass(slots=True, eq=False)
class Replacement:
    """What replaces some bindings.

    Args:
        definitions: by path, for the bindings replaced and for nameless providers that were
            handed in with them.
        paths: the bindings that are replaced.
        renamed: the path under which a replaced binding is still needed by its replacement
            (a decorator), and the path it had.
        constant: whether all of them are objects, which need nothing.
    """

    definitions: Mapping[str, Definition]
    paths: tuple[str, ...]
    renamed: Mapping[str, str] = field(default_factory=dict[str, str])
    constant: bool = False

    def seen(self, path: str) -> str | None:
        """The name by which the level above sees what lies at a path below; None if hidden."""
        if path not in self.paths:
            return path
        return next((new for new, old in self.renamed.items() if old == path), None)


class Owner(Protocol):
    """The container that a level belongs to."""

    lock: RLock

    def below(self) -> "Level":
        """The level that the ground of a derived container stands on: its parent's top."""
        ...

    def declared_below(self) -> "Level":
        """The level whose definitions the ground inherits: the parent's ground."""
        ...

    def scope(self) -> Any:
        """The scope of the container."""
        ...

    def view(self, prefix: str) -> Any:
        """The container whose bindings begin with a prefix."""
        ...


_NOTHING: Final[frozenset[str]] = frozenset()


class Level:
    """What one container, or one override in it, replaces and owns.

    Args:
        owner: the container.
        under: the level below in the same container; None for the ground.
        graph: the bindings and their needs, as they are with this level in force.
        owned: the paths whose objects live here; None for all.
        definitions: what is defined here anew.
        renamed: see `Replacement`.
        inherited: where the level shows an ancestor's override: those of the owned paths whose
            objects are the parent container's after all. None for levels of other kinds.
    """

    __slots__ = (
        "built",
        "definitions",
        "ended",
        "follows",
        "graph",
        "inherited",
        "owned",
        "owner",
        "renamed",
        "sources",
        "under",
    )

    def __init__(  # noqa: PLR0917 # made at each derivation, where keywords cost
        self,
        owner: Owner,
        under: "Level | None",
        graph: Graph,
        owned: frozenset[str] | None,
        definitions: Mapping[str, Definition],
        renamed: Mapping[str, str],
        inherited: frozenset[str] | None = None,
    ) -> None:
        self.owner = owner
        self.under = under
        self.graph = graph
        self.owned = owned
        self.definitions = definitions
        self.renamed = renamed
        self.follows = inherited is not None
        self.inherited = inherited or _NOTHING
        self.sources: dict[str, Source] = {}
        self.built: list[Built] = []
        self.ended = False

    # --- finding --------------------------------------------------------------------------

    def find(self, path: str) -> Source:
        """The source of a binding as seen from this level."""
        level = self
        while True:
            source = level.sources.get(path)
            if source is not None:
                return source
            if level.owned is None or path in level.owned:
                if path in level.inherited:
                    path = level.parents_name(path)
                    level = level.owner.below()
                    continue
                definition = level.definition(path)
                if type(definition) is not Alias:
                    return level.source(path, definition)
                level, path = self, definition.target
            else:
                path = level.renamed.get(path, path)
                level = level.under or level.owner.below()

    def holder(self, path: str) -> "tuple[Level, str]":
        """The level that an object lives on, with the path it has there."""
        level = self
        while level.owned is not None:
            if path not in level.owned:
                path = level.renamed.get(path, path)
                level = level.under or level.owner.below()
            elif path in level.inherited:
                path = level.parents_name(path)
                level = level.owner.below()
            else:
                break
        return level, path

    def is_owned(self, path: str) -> bool:
        """Whether an object lives in this container, on this level or on one below."""
        level: Level | None = self
        while level is not None:
            if level.owned is None or path in level.owned:
                return path not in level.inherited
            path = level.renamed.get(path, path)
            level = level.under
        return False

    def parents_name(self, path: str) -> str:
        """The name that a path has in the parent container."""
        level: Level | None = self
        while level is not None:
            # A level that follows the parent has the parent's names.
            if not level.follows:
                path = level.renamed.get(path, path)
            level = level.under
        return path

    def definition(self, path: str) -> Definition:
        """How the binding is defined for this level."""
        level = self
        while path not in level.definitions:
            path = level.renamed.get(path, path)
            level = level.under or level.owner.declared_below()
        return level.definitions[path]

    def scope(self) -> Any:
        """The scope of the container."""
        return self.owner.scope()

    # --- owning ---------------------------------------------------------------------------

    def accept(self, cell: Cell, value: Any, recipe: Recipe, *, own: bool) -> None:
        """Take what was built."""
        closer = recipe.closer
        with self.owner.lock:
            current = not self.ended and self.sources.get(cell.path) is cell
            if current:
                cell.value = value
                if own and can_close(value, closer) and not self._has(value):
                    self.built.append(Built(cell.path, value, closer))
        if not current:
            if own and can_close(value, closer):
                Built(cell.path, value, closer).close()
            raise Outdated

    def keep(self, paths: Iterable[str]) -> None:
        """Go on with the objects that exist below, instead of building them anew.

        What another override had built is this level's to close from now on. What an override
        of a parent had built is not kept, nor what depends on it: it goes when that one ends.
        """
        under = self.under or self.owner.below()
        # What does not depend on what is replaced is found below in any case.
        owned = (path for path in paths if self.owned is None or path in self.owned)
        below = {path: under.holder(path) for path in owned}
        passing = tuple(path for path, (level, name) in below.items() if self._passes(level, name))
        gone = self.graph.closure(passing)
        for path, (level, name) in below.items():
            if path not in gone:
                self._take_over(path, level, name)

    def _passes(self, level: "Level", path: str) -> bool:
        is_parents = level.owner is not self.owner and level.under is not None
        return is_parents and any(item.path == path for item in level.built)

    def _take_over(self, path: str, level: "Level", name: str) -> None:
        cell = level.sources.get(name)
        if isinstance(cell, Cell) and cell.value is not MISSING:
            self.sources[path] = cell.held_by(self, path)
            if level.owner is self.owner and level.under is not None:
                taken = (item for item in level.built if item.path == name)
                self.built += [item._replace(path=path) for item in taken]
                level.built = [item for item in level.built if item.path != name]

    def end(self) -> list[Built]:
        """Close the books: nothing is built here any more; what was built comes back."""
        self.ended = True
        built, self.built = self.built, []
        return built

    def settle(self, fresh: "Level", dropped: frozenset[str]) -> list[Built]:
        """Become what `fresh` is, but keep the objects that have not changed.

        Args:
            fresh: this level as it would be made now.
            dropped: the paths whose objects are gone; what was built for them comes back.
        """
        self.under, self.graph, self.owned = fresh.under, fresh.graph, fresh.owned
        self.definitions, self.renamed = fresh.definitions, fresh.renamed
        self.inherited = fresh.inherited
        kept = (fresh.owned or frozenset()) - fresh.inherited - dropped
        gone = self.sources.keys() - kept
        for path in gone:
            del self.sources[path]
        built = [item for item in self.built if item.path in gone]
        self.built = [item for item in self.built if item.path not in gone]
        return built

    def _has(self, value: Any) -> bool:
        return any(item.value is value for item in self.built)

    def source(self, path: str, definition: Definition) -> Source:
        """The source of a binding that is owned here."""
        # setdefault is atomic: threads that race agree on one source.
        return self.sources.setdefault(path, self._made(path, definition))

    def _made(self, path: str, definition: Definition) -> Source:
        match definition:
            case Recipe():
                return Cell(self, path, definition)
            case Constant():
                return Cell(self, path, None, definition.value)
            case Native():
                return self._native(path, definition)
            case Container(prefix):
                return Cell(self, path, None, self.owner.view(prefix))
            case Undefined():
                raise definition.error(path)
            case _:  # pragma: no cover # find() follows aliases and what is inherited
                raise AssertionError(definition)

    def _native(self, path: str, native: Native) -> Source:
        # Only the level on which it was declared has the provider for itself.
        if native.in_place and self.owned is None:
            return Provided(self, path, native, partial(given_below, native.provider))
        if native.recipe is not None:
            return Cell(self, path, native.recipe)
        return Provided(self, path, native, copied(native, self))
