"""Living containers: what calling a `KorContainer` gives, and what a derived one looks like."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Self

from dependency_injector import containers, providers
from dependency_injector.errors import Error

from kor_containers.bindings import Binding, Derived, DerivedNative
from kor_containers.definitions import Definable
from kor_containers.explanation import Explanation, explain
from kor_containers.native import contents, inside
from kor_containers.overriding import Override
from kor_containers.reading import bindings_of
from kor_containers.roots import RootSpace
from kor_containers.spaces import Space
from kor_containers.validation import Report
from kor_core.suggestions import did_you_mean

__all__ = ["KorInstance", "Operations", "reset_native"]


class Operations:
    """What a living container can do.

    A base of two classes: of `KorInstance`, whose objects do it, and of `KorContainer`, from
    which type checkers learn that what comes of calling it can.
    """

    def derive(self, replacements: Mapping[str, Any]) -> Self:
        """Return a container in which some bindings are replaced and the rest is shared.

        Whatever depends on a replaced binding is the new container's own. Everything else is
        this container's very instance, built or not yet built.

        Args:
            replacements: by path (``"llm.openai"``), an object or a provider. A provider is
                copied: its references to bindings of this container become the new one's,
                and a reference to the very binding it replaces means the one replaced.

        Raises:
            ContainerError: a path names no binding, or bindings would need each other in a
                circle; nothing was changed.
        """
        space, prefix = _place(self)
        return space.derive(_absolute(prefix, replacements)).view(prefix)  # type: ignore[no-any-return] # a view of this class

    def validate(self) -> Report:
        """Look for missing bindings, cycles and wrong types, without building anything.

        Returns:
            What deserves a second look, though it works: a replacement of another type than
            was declared, a native singleton that an override would leave behind.

        Raises:
            InvalidContainerError: all problems at once.
        """
        return _place(self)[0].validate()

    def why(self, path: str) -> Explanation:
        """Explain what a binding is built from, who replaced what, what exists and whose it is.

        Args:
            path: the binding, such as ``"llm.selector"``.

        Raises:
            ContainerError: the path names no binding.
        """
        space, prefix = _place(self)
        return explain(space, prefix + path)

    def close(self) -> None:
        """Close what this container built, the last built first; living children before.

        Every closer runs. Objects that were handed in, and the parent's, stay open. An object
        that has only ``aclose()`` is closed on an event loop of its own. Closing twice is once.

        Raises:
            ExceptionGroup: what closers raised.
        """
        _place(self)[0].close()

    async def aclose(self) -> None:
        """Close from async code, as `close` does; ``aclose()`` is preferred to ``close()``."""
        await _place(self)[0].aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.aclose()


class KorInstance(Operations, containers.DynamicContainer):
    """A living container, or the part of one whose bindings begin with a prefix.

    Users declare a `KorContainer`, and get one of these by calling it.
    """

    _space: Space | None = None
    _prefix = ""

    # dependency-injector takes a container here; so do we, and a mapping of paths.
    def override(self, overriding: Any) -> Override:  # type: ignore[override] # gives an Override
        """Replace bindings in place, all or none, until the block or the override ends.

        Args:
            overriding: objects or providers by path, or a container whose bindings replace
                those of the same name.

        Raises:
            ContainerError: a path names no binding; nothing was changed.
        """
        contents: Mapping[str, Any] | None = getattr(overriding, "providers", None)
        given = overriding if contents is None else _flat(contents)
        space, prefix = _place(self)
        return space.override(_absolute(prefix, given), self)

    def override_providers(self, **overriding_providers: Any) -> Any:
        """Replace bindings by name, all or none, until the block or the override ends."""
        if self._space is None:
            native: Any = super()
            return native.override_providers(**overriding_providers)
        return self.override(_flat(overriding_providers))

    def reset_last_overriding(self) -> None:
        """End the override that began last.

        Raises:
            dependency_injector.errors.Error: there is none.
        """
        in_force = self._in_force()
        if not in_force:
            raise Error(f"Container {self} is not overridden")
        in_force[-1].end()

    def reset_override(self) -> None:
        """End every override. How the container is composed stays as it was declared."""
        for override in reversed(self._in_force()):
            override.end()
        for provider in self.providers.values():
            reset_native(provider)

    def _in_force(self) -> list[Override]:
        space, prefix = _place(self)
        return [
            override
            for override in space.overrides()
            if any(path.startswith(prefix) for path in override.replacement.paths)
        ]

    # --- belonging ------------------------------------------------------------------------

    def adopt(self) -> None:
        """Become a container of its own, with all that is in it."""
        space = RootSpace(_view)
        _contain(space, self, "")
        space.adopt(dict(bindings_of(self)))

    def assign_parent(self, parent: Any) -> None:
        """Become part of another container's declaration."""
        native: Any = super()
        native.assign_parent(parent)
        for _, provider in bindings_of(self):
            if isinstance(provider, Binding):
                provider.leave()
        _leave(self)

    def belong(self, space: Space, prefix: str) -> None:
        """Be what users see of a space."""
        self.__dict__["_space"] = space
        self.__dict__["_prefix"] = prefix

    def __repr__(self) -> str:
        kind: Any = getattr(self, "declarative_parent", None)
        name = "container" if kind is None else kind.__name__
        space, prefix = (self._space, self._prefix)
        facts = [
            *([f"'{prefix[:-1]}'"] if prefix else []),
            *([f"derived at {space.derived_at}"] if space and space.derived_at else []),
            *(["closed"] if space and space.closed else []),
        ]
        return f"<{name}{': ' if facts else ''}{', '.join(facts)}>"

    def __reduce__(self) -> Any:
        raise TypeError(
            "A container cannot be pickled: it holds living objects and keys. Create one in "
            "each process."
        )

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        space = self.__dict__.get("_space")
        if isinstance(space, RootSpace) and contents(self).get(name) is value:
            _take_in(space, f"{self._prefix}{name}", value)

    def __getattr__(self, name: str) -> Any:
        space = self.__dict__.get("_space")
        if space is None or (name.startswith("__") and name != "__self__"):
            # Python itself asks for dunders, and expects to hear no.
            hint = "" if name.startswith("__") else did_you_mean(name, contents(self))
            raise AttributeError(f"{type(self).__name__} has no attribute '{name}'.{hint}")
        return _attribute(self, space, name)

    def place(self) -> tuple[Space, str]:
        """The space it shows, and the prefix of the paths it shows of it."""
        if self._space is None:
            self.adopt()
        assert self._space is not None  # noqa: S101 # adopt() set it
        return self._space, self._prefix


def _place(operations: Operations) -> tuple[Space, str]:
    assert isinstance(operations, KorInstance)  # noqa: S101 # calling a container class gives one
    return operations.place()


def _absolute(prefix: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    return {f"{prefix}{path}": value for path, value in given.items()} if prefix else given


def _flat(given: Mapping[str, Any]) -> dict[str, Any]:
    """The leaf bindings of what was handed in, containers in it included."""
    flat: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, providers.Container | containers.DynamicContainer):
            flat |= {f"{name}.{path}": item for path, item in bindings_of(value)}
        else:
            flat[name] = value
    return flat


def reset_native(provider: providers.Provider[Any]) -> None:
    """Undo a user's overrides of native providers; a dependency's are its composition."""
    if not isinstance(provider, Binding | providers.Dependency | providers.Container):
        provider.reset_override()


def _contain(space: RootSpace, container: Any, prefix: str) -> None:
    space.contain(prefix, container)
    if isinstance(container, KorInstance):
        container.belong(space, prefix)
    for name, provider in contents(container).items():
        if (held := inside(provider)) is not None:
            _contain(space, held, f"{prefix}{name}.")


def _take_in(space: RootSpace, path: str, provider: Any) -> None:
    """Take in a binding, or a container, that was added to a living container."""
    held = inside(provider)
    if held is None:
        space.adopt({path: provider})
    else:
        _contain(space, held, f"{path}.")
        space.adopt(dict(bindings_of(held, f"{path}.")))


def _leave(container: Any) -> None:
    container.__dict__.pop("_space", None)
    for provider in contents(container).values():
        if isinstance(held := inside(provider), KorInstance):
            _leave(held)


# --- what users see of a derived container ------------------------------------------------


def _view(space: Space, prefix: str) -> Any:
    """A container of a derived space; its attributes are made when they are asked for."""
    declared = space.root.view(prefix)
    kind = type(declared) if isinstance(declared, KorInstance) else KorInstance
    view = kind.__new__(kind)
    view.belong(space, prefix)
    return view


def _attribute(view: KorInstance, space: Space, name: str) -> Any:
    """An attribute that a derived container's view does not have yet."""
    declared = space.root.view(view.place()[1])
    made = _NATIVE["__self__"] if name in declared.__self__.alt_names else _NATIVE.get(name)
    if made is None:
        provider = declared.providers.get(name)
        if provider is None:
            known = sorted(declared.providers)
            raise AttributeError(f"No binding '{name}'.{did_you_mean(name, known)}")
        value = _handle(space, f"{view.place()[1]}{name}", provider)
    else:
        value = made(view, declared)
    return view.__dict__.setdefault(name, value)


def _handle(space: Space, path: str, declared: providers.Provider[Any]) -> Any:
    if isinstance(declared, Definable | providers.Dependency):
        return _joined(Derived(), space, path)
    if isinstance(declared, providers.Container):
        return _container_handle(space.view(f"{path}."))
    if isinstance(declared, providers.DependenciesContainer):
        items = contents(declared).items()
        handles = {name: _handle(space, f"{path}.{name}", item) for name, item in items}
        return providers.DependenciesContainer(**handles)
    return _joined(DerivedNative(), space, path)


def _joined(binding: Binding[Any], space: Space, path: str) -> Binding[Any]:
    binding.join(space, path)
    return binding


def _container_handle(view: Any) -> providers.Container[Any]:
    kind: Any = view.__class__
    return providers.Container(kind, view)


def _all_handles(view: KorInstance, declared: Any) -> dict[str, Any]:
    return {name: getattr(view, name) for name in declared.providers}


# The attributes of a DynamicContainer, which a view gets one by one when they are needed.
_NATIVE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "__self__": lambda view, _: providers.Self(view),
    "providers": _all_handles,
    "provider_type": lambda _, __: providers.Provider,
    "overridden": lambda _, __: (),
    "parent": lambda _, __: None,
    "declarative_parent": lambda _, declared: declared.declarative_parent,
    "wiring_config": lambda _, __: containers.WiringConfiguration(),
    "wired_to_modules": lambda _, __: [],
    "wired_to_packages": lambda _, __: [],
}
