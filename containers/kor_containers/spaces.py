"""What belongs to one container: its levels, its overrides, its children and their end."""

from collections.abc import Iterator, Mapping
from itertools import count
from threading import RLock
from typing import Any, Final, Protocol, cast
from weakref import ref

from dependency_injector import providers

from kor_containers.callers import Caller, caller
from kor_containers.definitions import MISSING, Constant, Container, Definable, Definition, Inherited
from kor_containers.flights import current_flight
from kor_containers.graph import Graph
from kor_containers.levels import Level, Replacement
from kor_containers.lifecycle import Built, aclose_all, close_all, raise_together
from kor_containers.overriding import Override
from kor_containers.reading import Reader, bindings_of
from kor_containers.redirects import Redirect, redirect, unredirect
from kor_containers.sources import Outdated, Provided, Source
from kor_containers.validation import Report, validate
from kor_core.errors import ContainerError
from kor_core.scope import Scope
from kor_core.suggestions import did_you_mean, listed

__all__ = ["Handle", "RootSpace", "Space", "Views"]

_NUMBERS: Final = count(1)
_NOTHING: Final = Replacement({}, ())
_NO_NAMES: Final[dict[str, str]] = {}
_NO_ARGUMENTS: Final[dict[str, Any]] = {}


class Handle(Protocol):
    """What a user holds of a binding; remembers the object until told to forget."""

    value: Any


class Views(Protocol):
    """Makes the containers that users see of a space."""

    def __call__(self, space: "Space", prefix: str) -> Any:
        """The container whose bindings begin with a prefix."""
        ...


class Space:
    """What belongs to one container.

    Args:
        parent: the space of the container it was derived from, or None.
        views: makes the containers that users see.
    """

    __slots__ = (
        "__weakref__",
        "_children",
        "_ground",
        "_scope",
        "_views",
        "_visible",
        "checked",
        "closed",
        "derived_at",
        "generation",
        "handles",
        "levels",
        "lock",
        "parent",
        "replacement",
        "root",
    )

    def __init__(
        self, parent: "Space | None", root: "RootSpace | None", views: Views, given: Replacement
    ) -> None:
        self.parent = parent
        self.replacement = given
        self.root: RootSpace = cast("RootSpace", self) if root is None else root
        # One lock for a family: an override reaches all descendants at once. It is held for
        # bookkeeping only, never while anything is built or closed.
        self.lock: RLock = RLock() if root is None else root.lock
        self.handles: dict[str, Handle] = {}
        self.levels: tuple[tuple[Override, Level], ...] = ()
        self.checked = parent is not None and parent.checked
        self.closed = False
        self.generation = 0
        self.derived_at: Caller | None = None
        self._ground: Level | None = None
        self._children: set[ref[Space]] | None = None
        self._scope: Scope | None = None
        self._views = views
        self._visible: dict[str, Any] = {}

    # --- structure ------------------------------------------------------------------------

    @property
    def ground(self) -> Level:
        """What the container is without overrides; made when something is asked of it."""
        ground = self._ground
        if ground is None:
            with self.lock:
                ground = self._ground = self._ground or self._grounded()
        return ground

    @property
    def top(self) -> Level:
        """What the container is now."""
        levels = self.levels
        return levels[-1][1] if levels else self.ground

    @property
    def children(self) -> "list[Space]":
        """The living containers derived from this one."""
        known = self._children
        return [] if known is None else [item for held in list(known) if (item := held()) is not None]

    def _grounded(self) -> Level:
        return _level(self, None, self.declared_below().graph, self.replacement)

    def below(self) -> Level:
        """The level that the ground of a derived container stands on."""
        assert self.parent is not None  # noqa: S101 # the root's ground owns every path
        return self.parent.top

    def declared_below(self) -> Level:
        """The level whose definitions the ground inherits."""
        assert self.parent is not None  # noqa: S101 # the root's ground defines every path
        return self.parent.ground

    def find(self, path: str) -> Source:
        """The source of a binding as things are now."""
        return self.top.find(path)

    def view(self, prefix: str) -> Any:
        """The container whose bindings begin with a prefix, the same each time."""
        found = self._visible.get(prefix)
        if found is None:
            found = self._visible.setdefault(prefix, self._views(self, prefix))
        return found

    def scope(self) -> Scope:
        """The scope of the container; made when it is first asked for."""
        if self._scope is None:
            parent = None if self.parent is None else self.parent.scope()
            scope = Scope(self, parent)
            with self.lock:
                self._scope = self._scope or scope
        return self._scope

    # --- resolving ------------------------------------------------------------------------

    def resolve(self, path: str) -> Any:
        """What a binding gives now, from sync code."""
        if path not in self.top.graph.edges:
            raise self.root.unknown([path])
        return self.give(path, None)

    def give(
        self, path: str, handle: Handle | None, args: Any = (), kwargs: Mapping[str, Any] = _NO_ARGUMENTS
    ) -> Any:
        """What a binding gives now; a handle may remember it if that is for good."""
        while True:
            generation = self.generation
            source = self.ready().find(path)
            if isinstance(source, Provided):
                return source.call(args, dict(kwargs))
            if args or kwargs:
                raise TypeError(f"'{path}' is one object, so calling it takes no arguments.")
            try:
                value = source.get(current_flight())
            except Outdated:
                continue  # an override ended meanwhile; what is in force now is what is meant
            self._remember(handle, value, generation)
            return value

    async def agive(self, path: str, handle: Handle | None) -> Any:
        """What a binding gives now, from async code."""
        while True:
            generation = self.generation
            source = self.ready().find(path)
            try:
                value = await source.aget(current_flight())
            except Outdated:
                continue
            # What belongs to an event loop is checked at each asking.
            if source.lasting and source.loop is None:
                self._remember(handle, value, generation)
            return value

    def _remember(self, handle: Handle | None, value: Any, generation: int) -> None:
        if handle is not None:
            with self.lock:
                if generation == self.generation and not self.closed:
                    handle.value = value

    def open(self) -> "Space":
        """The space itself; an error when its container is closed."""
        if self.closed:
            raise ContainerError("This container is closed. Create or derive another one.")
        return self

    def ready(self) -> Level:
        """The level to resolve from; the first time, after looking for what is wrong."""
        top = self.open().top
        if not self.checked:
            self.validate()
            self.checked = True
        return top

    # --- deriving -------------------------------------------------------------------------

    def derive(self, given: Mapping[str, Any]) -> "Space":
        """A space in which these bindings are replaced; everything untouched is shared."""
        called_from = caller()
        with self.lock:
            self.open()
            self.root.reread()
            replacement = self._read(given, self.ground)
            child = Space(self, self.root, self._views, replacement)
            child.derived_at = called_from
            children = self._children
            if children is None:
                children = self._children = set()
            children.add(ref(child, children.discard))
            for override, _ in self.levels:
                child._follow(override)
        return child

    def override(self, given: Mapping[str, Any], entered: Any = None) -> Override:
        """Replace these bindings in place, at once, until the override ends."""
        called_from = caller()
        with self.lock:
            self.open()
            self.root.reread()
            top = self.top
            replacement = self._read(given, top)
            override = Override(self, replacement, dict(given), called_from, entered)
            level = _level(self, top, top.graph, replacement)
            self.levels += ((override, level),)
            self._changed(level.owned or ())
            if self._children:
                for child in self.children:
                    child._follow(override)
        return override

    def end(self, override: Override) -> None:
        """End an override, and close what was built under it."""
        raise_together(close_all(self._withdraw(override)), "what an override had built")

    async def aend(self, override: Override) -> None:
        """End an override from async code."""
        built = self._withdraw(override)
        raise_together(await aclose_all(built), "what an override had built")

    def _read(self, given: Mapping[str, Any], level: Level) -> Replacement:
        known = level.graph.edges
        definitions: dict[str, Definition] = {}
        constant = True
        for path, value in given.items():
            if path not in known:
                raise self.root.unknown([path for path in given if path not in known])
            constant = constant and not isinstance(value, providers.Provider)
            definitions[path] = Constant(value)
        if not constant:
            return self._read_providers(given, level)
        return Replacement(definitions, tuple(definitions), _NO_NAMES, True)  # noqa: FBT003 # hot

    def _read_providers(self, given: Mapping[str, Any], level: Level) -> Replacement:
        definitions: dict[str, Definition] = {}
        renamed: dict[str, str] = {}
        for path, value in given.items():
            # A number of its own, so that no other replacement in the family shares a name.
            suffix = f"~{next(_NUMBERS)}"
            below = path + suffix

            def names(provider: Any, path: str = path, below: str = below) -> str | None:
                found = self.path_of(provider)
                if found != path:
                    return found
                renamed[below] = path
                return below

            reader = Reader(names, self.root.prefix_of, suffix)
            reader.replace(path, value)
            definitions.update(reader.definitions)
        replacement = Replacement(definitions, tuple(given), renamed)
        _refuse_cycle(_graph(level.graph, replacement), given)
        return replacement

    def path_of(self, provider: Any) -> str | None:
        """The path of a provider that belongs to this container or to one it derives from."""
        if isinstance(provider, Definable):
            known = provider.whereabouts()
            if known is not None and known[0] in self.lineage():
                return known[1]
        return self.root.name_of(provider) or self.root.class_name_of(provider)

    def lineage(self) -> "Iterator[Space]":
        space: Space | None = self
        while space is not None:
            yield space
            space = space.parent

    # --- following an ancestor's override -------------------------------------------------

    def _follow(self, override: Override) -> None:
        level = self._following(override, self.top)
        if level is not None:
            self.levels += ((override, level),)
        self._changed(self.handles)
        for child in self.children:
            child._follow(override)

    def _following(self, override: Override, under: Level) -> Level | None:
        """The level by which an ancestor's override shows here; None where it is hidden."""
        names = {path: self._seen(path) for path in override.replacement.paths}
        visible = _as_seen(override.replacement, names)
        if not visible.paths:
            return None
        graph = _graph(under.graph, visible)
        mine = graph.closure(tuple(self._replaced()))
        affected = graph.closure(visible.paths)
        fresh = (affected | visible.definitions.keys() | visible.renamed.keys()) & mine
        inherited = {path for path in affected - mine if self._owns(path)}
        definitions: dict[str, Definition] = dict.fromkeys(inherited, Inherited())
        definitions |= {p: d for p, d in visible.definitions.items() if p in fresh}
        renamed = {new: old for new, old in visible.renamed.items() if new in fresh}
        return Level(self, under, graph, fresh | inherited, definitions, renamed)

    def _seen(self, path: str) -> str | None:
        """The name by which this container sees a binding of its parent; None if replaced."""
        seen: str | None = path
        for replacement in self._replacements():
            seen = None if seen is None else replacement.seen(seen)
        return seen

    def _replacements(self) -> Iterator[Replacement]:
        yield self.replacement
        for override, _ in self.levels:
            if override.owner is self:
                yield override.replacement

    def _replaced(self) -> Iterator[str]:
        for replacement in self._replacements():
            yield from replacement.definitions

    def _owns(self, path: str) -> bool:
        levels = [self.ground, *(level for _, level in self.levels)]
        return any(level.owned is None or path in level.owned for level in levels)

    def overrides_of(self, path: str) -> list[Override]:
        """The overrides of a binding in force here, the last one last."""
        return [item for item in self.overrides() if path in item.replacement.paths]

    def overrides(self) -> list[Override]:
        """The overrides of this very container in force, the last one last."""
        return [item for item, _ in self.levels if item.owner is self]

    def validate(self) -> Report:
        """Look for what is wrong with the container as it is now."""
        self.root.reread()
        return validate(self.root.ground, self.open().top)

    # --- ending ---------------------------------------------------------------------------

    def _withdraw(self, override: Override) -> list[Built]:
        """Take an override out, here and in all descendants; what it built comes back."""
        with self.lock:
            built: list[Built] = []
            for position, (other, _) in enumerate(self.levels):
                if other is override:
                    built += self._take_out(position)
                    break
            self._changed(self.handles)
            for child in self.children:
                built = child._withdraw(override) + built
        return built

    def _take_out(self, position: int) -> list[Built]:
        override, level = self.levels[position]
        above = self.levels[position + 1 :]
        self.levels = self.levels[:position]
        built = level.end()
        changed = set(override.replacement.paths)
        for other, old in above:
            changed = {seen for path in changed if (seen := _through(old, path)) is not None}
            dropped = old.graph.closure(tuple(sorted(changed)))
            fresh = self._again(other)
            if fresh is None:
                built += old.end()
            else:
                built += old.settle(fresh, dropped)
                self.levels += ((other, old),)
        return built

    def _again(self, override: Override) -> Level | None:
        if override.owner is self:
            return _level(self, self.top, self.top.graph, override.replacement)
        return self._following(override, self.top)

    def _changed(self, paths: Any) -> None:
        self.generation += 1
        handles = self.handles
        for path in paths:
            if path in handles:
                handles[path].value = MISSING

    # --- closing --------------------------------------------------------------------------

    def close(self) -> None:
        """Close what this container owns; its living children first."""
        raise_together(close_all(self._shut()), "the container")

    async def aclose(self) -> None:
        """Close from async code, as `close` does."""
        raise_together(await aclose_all(self._shut()), "the container")

    def _shut(self) -> list[Built]:
        """Stop giving anything; what was built comes back in order of creation."""
        with self.lock:
            if self.closed:
                return []
            built = self.ground.end()
            for _, level in self.levels:
                built += level.end()
            for child in self.children:
                built += child._shut()
            self.closed = True
            self._changed(self.handles)
        return built


class RootSpace(Space):
    """The space of a container that was declared, with the bindings it declares.

    Args:
        views: makes the containers that users see.
    """

    __slots__ = ("_class_names", "_names", "_natives", "_prefixes", "_read_with", "bindings")

    def __init__(self, views: Views) -> None:
        super().__init__(None, None, views, _NOTHING)
        self._natives: dict[str, providers.Provider[Any]] = {}
        self._read_with: dict[str, tuple[providers.Provider[Any], ...]] = {}
        self.bindings: dict[str, providers.Provider[Any]] = {}
        self._names: dict[int, str] = {}
        self._class_names: dict[int, str] | None = None
        self._prefixes: dict[int, str] = {}

    def adopt(self, bindings: Mapping[str, providers.Provider[Any]]) -> None:
        """Take bindings in, and put in force the overrides that were declared on them."""
        declared: list[tuple[str, providers.Provider[Any]]] = []
        for path, provider in bindings.items():
            self.bindings[path] = provider
            if self._names.setdefault(id(provider), path) != path:
                continue  # a second name of the same binding
            if isinstance(provider, Definable):
                declared += [(path, item) for item in provider.join(self, path)]
            else:
                self._natives[path] = provider
        if self._ground is not None:
            self._read_again(self._ground)
        for path, item in declared:
            self.override({path: item})

    def contain(self, prefix: str, container: Any) -> None:
        """Take in the container whose bindings begin with a prefix."""
        self._prefixes[id(container)] = prefix
        self._visible[prefix] = container

    def name_of(self, provider: Any) -> str | None:
        """The path of a provider that was declared here."""
        return self._names.get(id(provider))

    def class_name_of(self, provider: Any) -> str | None:
        """The path of a provider of the class that was declared, the original of ours."""
        if self._class_names is None:
            declared = getattr(self._visible.get(""), "declarative_parent", None)
            found = {} if declared is None else dict(bindings_of(declared))
            self._class_names = {id(item): path for path, item in found.items()}
        return self._class_names.get(id(provider))

    def prefix_of(self, container: object) -> str | None:
        """The prefix of the bindings in a container that was declared here."""
        return self._prefixes.get(id(container))

    def unknown(self, paths: list[str]) -> ContainerError:
        """The error for paths that name no binding."""
        wrong = ", ".join(f"'{path}'" for path in paths)
        known = sorted(self.bindings)
        return ContainerError(
            f"No binding {wrong}. Bindings: {listed(known)}.{did_you_mean(paths[0], known)}",
            path=paths[0],
        )

    def _grounded(self) -> Level:
        reader = self._read_all()
        definitions = reader.definitions
        ground = self._ground = Level(self, None, _edges(definitions), None, definitions, {})
        for path, provider in reader.nameless.items():
            if isinstance(provider, Definable) and provider.whereabouts() is None:
                self._names[id(provider)] = path
                for item in provider.join(self, path):
                    self.override({path: item})
        return ground

    def _read_all(self) -> Reader:
        reader = Reader(self.name_of, self.prefix_of)
        for path, provider in self.bindings.items():
            reader.declare(path, provider)
        self._read_with = {path: provider.overridden for path, provider in self._natives.items()}
        return reader

    def reread(self) -> None:
        """See what native bindings were overridden with since, behind our back."""
        if self._natives and self._ground is not None and self._overridden_since():
            self._read_again(self._ground)

    def _read_again(self, ground: Level) -> None:
        definitions = {**ground.definitions, **self._read_all().definitions}
        ground.graph, ground.definitions = _edges(definitions), definitions

    def _overridden_since(self) -> bool:
        return any(
            provider.overridden != self._read_with[path]
            and not any(isinstance(item, Redirect) for item in provider.overridden)
            for path, provider in self._natives.items()
        )

    def _changed(self, paths: Any) -> None:
        super()._changed(paths)
        if self._natives:
            for path, provider in self._natives.items():
                self._lead(path, provider)

    def _lead(self, path: str, provider: providers.Provider[Any]) -> None:
        if any(level.owned and path in level.owned for _, level in self.levels):
            redirect(provider, Redirect(self, path))
        else:
            unredirect(provider)


# --- levels and graphs --------------------------------------------------------------------


def _edges(definitions: Mapping[str, Definition]) -> Graph:
    loose = {path for path, item in definitions.items() if isinstance(item, Container)}
    return Graph({path: item.edges for path, item in definitions.items()}, frozenset(loose))


def _graph(graph: Graph, replacement: Replacement) -> Graph:
    edges = {path: item.edges for path, item in replacement.definitions.items()}
    if not any(edges.values()):
        return graph.cut(tuple(edges))[0]
    for new, old in replacement.renamed.items():
        edges[new] = graph.edges[old]
    return graph.replacing(edges)


def _level(owner: Space, under: Level | None, graph: Graph, replacement: Replacement) -> Level:
    definitions = replacement.definitions
    if replacement.constant:
        changed, owned = graph.cut(replacement.paths)
    else:
        changed = _graph(graph, replacement)
        owned = changed.closure(replacement.paths) | definitions.keys()
    return Level(owner, under, changed, owned, definitions, replacement.renamed)


def _as_seen(replacement: Replacement, names: Mapping[str, str | None]) -> Replacement:
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


def _through(level: Level, path: str) -> str | None:
    """The name by which what lies below a level is seen above it; None if it is hidden."""
    if path not in level.definitions or isinstance(level.definitions[path], Inherited):
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
