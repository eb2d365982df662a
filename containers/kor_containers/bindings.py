"""What a user holds of a binding: call it, await it, override it."""

from types import TracebackType
from typing import Any, Self, TypeVar

from dependency_injector import providers
from dependency_injector.errors import Error

from kor_containers.definitions import Definable
from kor_containers.native import AnyProvider, Handed, is_provider
from kor_containers.roots import RootSpace
from kor_containers.spaces import Space

__all__ = ["Binding", "DeclaredOverride", "Derived", "DerivedNative"]

T = TypeVar("T")


class Binding(Definable[T]):
    """A provider whose dependents follow when it is overridden.

    It is a provider of dependency-injector in every respect: call it for the object, inject
    it, override it in any of the native spellings.
    """

    __slots__ = ("_declared", "_path", "_space", "value")

    def __init__(self) -> None:
        super().__init__()
        self._space: Space | None = None
        self._path = ""
        self._declared: tuple[providers.Provider[Any], ...] = ()

    value: Any  # unset where it holds none

    # The fast path of everything: one look. What is overridden, closed or not yet built holds no
    # value, and takes the other path.
    def __call__(self) -> T:  # type: ignore[override] # one object takes no arguments
        """The object, built when it is first asked for.

        Raises:
            ContainerError: it needs an async build, a circle of bindings, or its container is
                closed; what its constructor raises comes with the path of bindings as a note.
        """
        try:
            return self.value  # type: ignore[no-any-return] # a slot for any object
        except AttributeError:
            pass
        return self._home().give(self._path, self)  # type: ignore[no-any-return] # of any type, for any binding

    async def async_(self) -> T:
        """The object, from async code; works for every binding.

        Raises:
            ContainerError: as calling does; or the object belongs to another event loop.
        """
        try:
            return self.value  # type: ignore[no-any-return] # a slot for any object
        except AttributeError:
            pass
        return await self._home().agive(self._path, self)  # type: ignore[no-any-return] # of any type, for any binding

    def forget(self) -> None:
        """Hold no object any more: the next who asks goes the other path."""
        try:  # noqa: SIM105  # done for each binding that joins, where suppress() takes longer
            del self.value
        except AttributeError:
            pass

    # --- belonging ------------------------------------------------------------------------

    def join(self, space: Space, path: str) -> tuple[providers.Provider[Any], ...]:
        """Belong to a space from now on; the overrides declared so far are its to put in force."""
        self._space = space
        self._path = path
        self.forget()
        space.hold(path, self)
        declared, self._declared = self._declared, ()
        return declared

    def leave(self) -> None:
        """Belong to no space: the container became part of another one."""
        self._declared = self.overridden
        self._space = None
        self.forget()

    def replaced_by(self) -> providers.Provider[Any] | None:
        """What was declared to override it, before it belonged anywhere."""
        return next(reversed(self._declared), None)

    def whereabouts(self) -> tuple[object, str] | None:
        """The space it belongs to and its path there; None while it belongs to none."""
        return None if self._space is None else (self._space, self._path)

    def label(self) -> str:
        """What to call it where it has no path."""
        return type(self).__name__

    def _home(self) -> Space:
        if self._space is None:
            # Used on its own, outside any container of ours: a space with this one binding.
            space = RootSpace(_no_views, joins=True)
            space.adopt({self.label(): self})
        assert self._space is not None  # noqa: S101 # adopt() made it join
        return self._space

    # --- overriding -----------------------------------------------------------------------

    @property
    def overridden(self) -> tuple[providers.Provider[Any], ...]:  # type: ignore[override] # the stub means one
        """The providers that override it, the last one in force."""
        if self._space is None:
            return self._declared
        return tuple(item.provider(self._path) for item in self._space.overrides_of(self._path))

    @property
    def last_overriding(self) -> providers.Provider[Any] | None:
        """The provider that overrides it now, or None."""
        return next(reversed(self.overridden), None)

    def override(self, provider: Any) -> Any:
        """Replace it in its container, at once; as a context manager, until the block ends.

        Everything that depends on it follows, and goes back to the very objects it had.

        Args:
            provider: an object, or a provider whose references to other bindings hold.
        """
        if provider is self:
            raise Error(f"Provider {self} could not be overridden with itself")
        if self._space is not None:
            entered = provider if is_provider(provider) else None
            return self._space.override({self._path: provider}, entered)
        return self._declare(provider)

    def reset_last_overriding(self) -> None:
        """End the last override in force.

        Raises:
            dependency_injector.errors.Error: there is none.
        """
        if not self.overridden:
            raise Error(f"Provider {self} is not overridden")
        if self._space is None:
            self._declared = self._declared[:-1]
        else:
            self._space.overrides_of(self._path)[-1].end()

    def reset_override(self) -> None:
        """End every override of it."""
        self._declared = ()
        if self._space is not None:
            for override in reversed(self._space.overrides_of(self._path)):
                override.end()

    def register_overrides(self, provider: Any) -> None:
        """Keep no list of what it overrides: such lists keep derived containers alive."""

    def unregister_overrides(self, provider: Any) -> None:
        """There is no list."""

    def _declare(self, provider: Any) -> "DeclaredOverride":
        given: AnyProvider = provider if is_provider(provider) else Handed(provider)
        # dependency-injector applies what a container was composed with twice.
        if not (self._declared and self._declared[-1] is given):
            self._declared += (given,)
        return DeclaredOverride(self, given)

    def undeclare(self, provider: providers.Provider[Any]) -> None:
        """Take back an override that was declared before it belonged to a container."""
        self._declared = tuple(item for item in self._declared if item is not provider)

    # --- copying --------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any] | None) -> Self:
        memo = {} if memo is None else memo
        copied = memo[id(self)] = self.again(memo)
        declared = providers.deepcopy(self.overrides_to_copy(), memo)
        copied._declared = declared  # noqa: SLF001 # of the same class
        return copied

    def again(self, memo: dict[int, Any]) -> Self:
        """The same declaration once more, with copies of the providers among its arguments."""
        raise NotImplementedError

    def overrides_to_copy(self) -> tuple[AnyProvider, ...]:
        """What a copy is overridden with."""
        return self.overridden

    @property
    def related(self) -> Any:
        """The providers it refers to."""
        yield from self.overridden

    def __reduce__(self) -> Any:
        raise TypeError(f"{self} cannot be pickled: it may hold living objects and keys.")

    def __str__(self) -> str:
        where = f" {self._path}" if self._path else ""
        return f"<{type(self).__module__}.{type(self).__name__}{where} at {id(self):#x}>"


class DeclaredOverride:
    """An override of a binding that belongs to no container yet, such as a class's own."""

    def __init__(self, binding: Binding[Any], provider: providers.Provider[Any]) -> None:
        self._binding = binding
        self._provider = provider

    def __enter__(self) -> providers.Provider[Any]:
        return self._provider

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._binding.undeclare(self._provider)


class Derived(Binding[T]):
    """A binding of a derived container: its own handle, whoever owns the object."""

    __slots__ = ()

    def __deepcopy__(self, memo: dict[int, Any] | None) -> Self:
        return self  # it belongs to a living container, whoever copies a provider around it


class DerivedNative(Derived[T]):
    """A native binding of a derived container, which may take arguments."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> T:  # type: ignore[override] # one of its forms
        """What the provider gives now."""
        return self._home().give(self._path, None, args, kwargs)  # type: ignore[no-any-return] # any


def _no_views(space: Space, prefix: str) -> Any:
    raise AssertionError(space, prefix)  # pragma: no cover # no path there names a container
