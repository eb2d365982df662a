"""The space of a container that was declared."""

from collections.abc import Iterable, Mapping
from typing import Any

from dependency_injector import providers

from kor_containers.definitions import Definable
from kor_containers.levels import Level
from kor_containers.native import last_overriding
from kor_containers.reading import Reader, bindings_of
from kor_containers.redirects import Redirect, redirect, unredirect
from kor_containers.replacing import graph_of
from kor_containers.spaces import NOTHING, Space, Views
from kor_core.errors import ContainerError
from kor_core.suggestions import did_you_mean, listed

__all__ = ["RootSpace"]


class RootSpace(Space):
    """The space of a container that was declared, with the bindings it declares.

    Args:
        views: makes the containers that users see.
        joins: whether bindings without a name belong to it: the case outside containers, where
            somebody holds each of them.
    """

    __slots__ = (
        "_class_names",
        "_joins",
        "_led",
        "_names",
        "_natives",
        "_prefixes",
        "_read_with",
        "bindings",
    )

    def __init__(self, views: Views, *, joins: bool = False) -> None:
        super().__init__(None, None, views, NOTHING)
        self._joins = joins
        self._natives: dict[str, providers.Provider[Any]] = {}
        self._read_with: dict[str, object] = {}
        self._led: set[str] = set()
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
        self.visible[prefix] = container

    def name_of(self, provider: Any) -> str | None:
        """The path of a provider that was declared here."""
        return self._names.get(id(provider))

    def class_name_of(self, provider: Any) -> str | None:
        """The path of a provider of the class that was declared, the original of ours."""
        if self._class_names is None:
            declared = getattr(self.visible.get(""), "declarative_parent", None)
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
        ground = self._ground = Level(self, None, graph_of(definitions), None, definitions, {})
        nameless = reader.nameless if self._joins else {}
        for path, provider in nameless.items():
            if isinstance(provider, Definable) and provider.whereabouts() is None:
                self._names[id(provider)] = path
                for item in provider.join(self, path):
                    self.override({path: item})
        return ground

    def _read_all(self) -> Reader:
        reader = Reader(self.name_of, self.prefix_of, joins=self._joins)
        for path, provider in self.bindings.items():
            reader.declare(path, provider)
        self._read_with = {path: last_overriding(item) for path, item in self._natives.items()}
        return reader

    def reread(self) -> None:
        """See what native bindings were overridden with since, behind our back."""
        if self._natives and self._ground is not None and self._overridden_since():
            self._read_again(self._ground)

    def _read_again(self, ground: Level) -> None:
        definitions = {**ground.definitions, **self._read_all().definitions}
        ground.graph, ground.definitions = graph_of(definitions), definitions

    def _overridden_since(self) -> bool:
        for path, provider in self._natives.items():
            last = last_overriding(provider)
            if last is not self._read_with[path] and not isinstance(last, Redirect):
                return True
        return False

    def changed(self, paths: Iterable[str] | None = None) -> None:
        """Let handles forget, and lead native providers to where things are now."""
        super().changed(paths)
        if self._natives:
            self._lead()

    def _lead(self) -> None:
        leading: set[str] = set()
        for _, level in self.levels:
            leading.update(self._natives.keys() & (level.owned or ()))
        for path in leading - self._led:
            redirect(self._natives[path], Redirect(self, path))
        for path in self._led - leading:
            unredirect(self._natives[path])
        self._led = leading
