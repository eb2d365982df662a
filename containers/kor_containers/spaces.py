"""What belongs to one container: its levels, its overrides, its children and their end."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from threading import RLock
from typing import Any, Final, Protocol, cast
from weakref import ref

from kor_containers.callers import Caller, caller
from kor_containers.definitions import Definable
from kor_containers.flights import current_flight
from kor_containers.following import following_level, names_of, put_back
from kor_containers.graph import Graph
from kor_containers.levels import Level, Replacement
from kor_containers.lifecycle import Built, aclose_all, close_all, raise_together
from kor_containers.overriding import Override
from kor_containers.replacing import read_replacement, replaced_level
from kor_containers.sources import Outdated, Provided, Source
from kor_containers.validation import Report, validate
from kor_core.errors import ContainerError
from kor_core.scope import Scope

__all__ = ["NOTHING", "Handle", "Root", "Space", "Views"]

NOTHING: Final = Replacement({}, ())
_NO_ARGUMENTS: Final[dict[str, Any]] = {}


class Handle(Protocol):
    """What a user holds of a binding; remembers the object until told to forget."""

    value: Any

    def forget(self) -> None:
        """Remember it no more."""
        ...


class Views(Protocol):
    """Makes the containers that users see of a space."""

    def __call__(self, space: "Space", prefix: str) -> Any:
        """The container whose bindings begin with a prefix."""
        ...


class Root(Protocol):
    """The container that was declared: knows its bindings by name."""

    lock: RLock

    @property
    def ground(self) -> Level:
        """What was declared."""
        ...

    def name_of(self, provider: Any) -> str | None:
        """The path of a provider that was declared here."""
        ...

    def class_name_of(self, provider: Any) -> str | None:
        """The path of a provider of the class that was declared."""
        ...

    def prefix_of(self, container: object) -> str | None:
        """The prefix of the bindings in a container that was declared here."""
        ...

    def view(self, prefix: str) -> Any:
        """The container whose bindings begin with a prefix."""
        ...

    def unknown(self, paths: list[str]) -> ContainerError:
        """The error for paths that name no binding."""
        ...

    def reread(self) -> None:
        """See what native bindings were overridden with since."""
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
        "_handles",
        "_scope",
        "_views",
        "_visible",
        "checked",
        "closed",
        "derived_at",
        "generation",
        "levels",
        "lock",
        "parent",
        "replacement",
        "root",
    )

    def __init__(
        self, parent: "Space | None", root: "Root | None", views: Views, given: Replacement
    ) -> None:
        self.parent = parent
        self.replacement = given
        self.root: Root = cast("Root", self) if root is None else root
        # One lock for a family: an override reaches all descendants at once. It is held for
        # bookkeeping only, never while anything is built or closed.
        self.lock: RLock = RLock() if root is None else root.lock
        self.levels: tuple[tuple[Override, Level], ...] = ()
        self.checked: bool = parent is not None and parent.checked
        self.closed = False
        self.generation = 0
        self.derived_at: Caller | None = None
        self._views = views
        # Made when there is something to keep: thousands of tenants have nothing.
        self._ground: Level | None = None
        self._children: set[ref[Space]] | None = None
        self._handles: dict[str, Handle] | None = None
        self._scope: Scope | None = None
        self._visible: dict[str, Any] | None = None

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
        ground = self.ground  # first, as making it may put declared overrides in force
        levels = self.levels
        return levels[-1][1] if levels else ground

    @property
    def children(self) -> "list[Space]":
        """The living containers derived from this one."""
        held = list(self._children or ())
        return [child for reference in held if (child := reference()) is not None]

    def _grounded(self) -> Level:
        return replaced_level(self, None, self.declared_below().graph, self.replacement)

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
        found = self.visible.get(prefix)
        if found is None:
            found = self.visible.setdefault(prefix, self._views(self, prefix))
        return found

    @property
    def visible(self) -> dict[str, Any]:
        """The containers that users see, by the prefix of their bindings."""
        if self._visible is None:
            with self.lock:
                self._visible = cast("dict[str, Any] | None", self._visible) or {}
        return self._visible

    def scope(self) -> Scope:
        """The scope of the container; made when it is first asked for."""
        if self._scope is None:
            parent = None if self.parent is None else self.parent.scope()
            scope = Scope(self, parent)
            with self.lock:
                self._scope = cast("Scope | None", self._scope) or scope
        return self._scope

    # --- resolving ------------------------------------------------------------------------

    def give(
        self,
        path: str,
        handle: Handle | None,
        args: Any = (),
        kwargs: Mapping[str, Any] = _NO_ARGUMENTS,
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
            replacement = self._read(given, self.ground.graph)
            child = Space(self, self.root, self._views, replacement)
            child.derived_at = called_from
            children = self._children
            if children is None:
                children = self._children = set()
            children.add(ref(child, children.discard))
            for override, _ in self.levels:
                child.follow(override)
        return child

    def override(
        self, given: Mapping[str, Any], entered: Any = None, kept: Collection[str] = ()
    ) -> Override:
        """Replace these bindings in place, at once, until the override ends.

        Args:
            given: objects and providers by path.
            entered: what ``with ... as`` gives.
            kept: bindings that keep their objects, though they depend on what is replaced.
        """
        called_from = caller()
        with self.lock:
            self.open()
            self.root.reread()
            top = self.top
            replacement = self._read(given, top.graph)
            override = Override(self, replacement, dict(given), called_from, entered, kept=kept)
            level = replaced_level(self, top, top.graph, replacement)
            level.keep(kept)
            self.levels += ((override, level),)
            self.changed(level.owned or ())
            if self._children:
                for child in self.children:
                    child.follow(override)
        return override

    def end(self, override: Override) -> None:
        """End an override, and close what was built under it."""
        raise_together(close_all(self._withdraw(override)), "what an override had built")

    async def aend(self, override: Override) -> None:
        """End an override from async code."""
        built = self._withdraw(override)
        raise_together(await aclose_all(built), "what an override had built")

    def _read(self, given: Mapping[str, Any], graph: Graph) -> Replacement:
        edges = graph.edges
        for path in given:
            if path not in edges:
                raise self.root.unknown([path for path in given if path not in edges])
        return read_replacement(given, graph, self.path_of, self.root.prefix_of)

    def path_of(self, provider: Any) -> str | None:
        """The path of a provider that belongs to this container or to one it derives from."""
        if isinstance(provider, Definable):
            known = provider.whereabouts()
            if known is not None and any(known[0] is space for space in self.lineage()):
                return known[1]
        return self.root.name_of(provider) or self.root.class_name_of(provider)

    def lineage(self) -> "Iterator[Space]":
        """This space and those it was derived from, the nearest first."""
        space: Space | None = self
        while space is not None:
            yield space
            space = space.parent

    # --- following an ancestor's override -------------------------------------------------

    def follow(self, override: Override) -> None:
        """Show an ancestor's override, here and in all descendants."""
        self.levels += ((override, following_level(self, override)),)
        self.changed()
        for child in self.children:
            child.follow(override)

    def names_above(self, override: Override) -> Mapping[str, str | None]:
        """The names by which the parent sees what an ancestor's override replaces."""
        assert self.parent is not None  # noqa: S101 # an ancestor's override came through it
        return names_of(self.parent, override)

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
        """Take an override out, here and in all descendants; what it built comes back.

        Parents come first, so that what was built for their children is closed before it.
        """
        with self.lock:
            if not self._children and self.levels and self.levels[-1][0] is override:
                return self._take_off()
            family = list(self.family())
            # All names before any change, as a child's are told by way of its parents.
            names = [names_of(space, override) for space in family]
            built: list[Built] = []
            for space, known in zip(family, names, strict=True):
                built += space.take_out(override, known)
        return built

    def _take_off(self) -> list[Built]:
        """Take the last override off: the usual end, where nothing else has to change."""
        level = self.levels[-1][1]
        self.levels = self.levels[:-1]
        self.changed(level.owned or ())
        return level.end()

    def family(self) -> "Iterator[Space]":
        """This space and all that were derived from it, parents first."""
        yield self
        for child in self.children:
            yield from child.family()

    def take_out(self, override: Override, names: Mapping[str, str | None]) -> list[Built]:
        """Take an override out of this very container; what was built under it comes back.

        Args:
            override: what ends.
            names: the names by which the container sees what it replaced.
        """
        found = [number for number, (item, _) in enumerate(self.levels) if item is override]
        if not found:
            return []
        above = self.levels[found[0] + 1 :]
        built = self.levels[found[0]][1].end()
        self.levels = self.levels[: found[0]]
        built += put_back(self, above, {name for name in names.values() if name is not None})
        self.changed()
        return built

    def hold(self, path: str, handle: Handle) -> None:
        """Have a handle forget what it remembers when that changes."""
        with self.lock:
            if self._handles is None:
                self._handles = {}
            self._handles[path] = handle

    def changed(self, paths: Iterable[str] | None = None) -> None:
        """Let the handles of these paths, or all, forget what they remember."""
        self.generation += 1
        handles = self._handles or {}
        for path in handles if paths is None else paths:
            if path in handles:
                handles[path].forget()

    # --- closing --------------------------------------------------------------------------

    def close(self) -> None:
        """Close what this container owns; its living children first."""
        raise_together(close_all(self.shut()), "the container")

    async def aclose(self) -> None:
        """Close from async code, as `close` does."""
        raise_together(await aclose_all(self.shut()), "the container")

    def shut(self) -> list[Built]:
        """Stop giving anything; what was built comes back in order of creation."""
        with self.lock:
            if self.closed:
                return []
            built = [] if self._ground is None else self._ground.end()
            for _, level in self.levels:
                built += level.end()
            for child in self.children:
                built += child.shut()
            self.closed = True
            self.changed()
        return built
