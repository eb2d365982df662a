"""Where a binding's object comes from: a cell that holds it, or a provider that is called."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Protocol

from dependency_injector import providers

from kor_containers.definitions import (
    MISSING,
    Native,
    Recipe,
)
from kor_containers.flights import (
    Flight,
    current_flight,
    is_pending,
    running_loop,
    take_off,
)
from kor_core.errors import ContainerError

__all__ = ["Cell", "Finder", "Home", "Outdated", "Provided", "Reference", "Source"]


class Outdated(Exception):  # noqa: N818 # a signal, never seen outside
    """The object belongs to an override that ended while it was built: ask again."""


class Finder(Protocol):
    """Whatever finds the sources of bindings."""

    def find(self, path: str) -> "Source":
        """The source of a binding, as seen from here."""
        ...


class Home(Finder, Protocol):
    """The part of a container that a source belongs to."""

    def scope(self) -> Any:
        """The scope of the container."""
        ...

    def accept(self, cell: "Cell", value: Any, recipe: Recipe, *, own: bool) -> None:
        """Take what was built, to close it in time; `Outdated` when that time is over."""
        ...


class Source:
    """Gives a binding's object, building it when needed."""

    __slots__ = ("home", "loop", "path")

    lasting = False
    """Whether it is the same object each time."""

    def __init__(self, home: Home, path: str) -> None:
        self.home = home
        self.path = path
        # The event loop the object belongs to, if it was built by async code.
        self.loop: asyncio.AbstractEventLoop | None = None

    def get(self, wanted_by: Flight | None) -> Any:
        """The object, from sync code."""
        raise NotImplementedError

    async def aget(self, wanted_by: Flight | None) -> Any:
        """The object, from async code."""
        raise NotImplementedError


class Cell(Source):
    """Holds one object, and builds it once."""

    __slots__ = ("recipe", "value")

    lasting = True

    def __init__(self, home: Home, path: str, recipe: Recipe | None, value: Any = MISSING) -> None:
        super().__init__(home, path)
        self.recipe = recipe
        self.value = value

    def held_by(self, home: Home, path: str) -> "Cell":
        """A cell elsewhere that holds the same object."""
        cell = Cell(home, path, self.recipe, self.value)
        cell.loop = self.loop
        return cell

    def get(self, wanted_by: Flight | None) -> Any:
        """The object; built now, once, if there is none yet."""
        while self.value is MISSING:
            flight = Flight(self, wanted_by)
            under_way = take_off(flight)
            if under_way is flight:
                self._fly(flight)
            else:
                under_way.wait(wanted_by)
        return self.value

    async def aget(self, wanted_by: Flight | None) -> Any:
        """The object; whoever waits may be cancelled without harm to the build."""
        if self.value is MISSING:
            if wanted_by is None:
                task = asyncio.create_task(self._abuild(None))
                task.add_done_callback(_retrieve)
                await asyncio.shield(task)
            else:
                await self._abuild(wanted_by)
        self._refuse_other_loop()
        return self.value

    def _fly(self, flight: Flight) -> None:
        token = flight.embark()
        try:
            if self.value is MISSING:
                self._build(flight)
        except Exception as error:
            flight.fail(error)
            raise
        finally:
            flight.land(token)

    def _build(self, flight: Flight) -> None:
        recipe = self._recipe()
        if recipe.is_async:
            raise self._needs_async()
        home = self.home
        objects = [home.find(path).get(flight) for path in recipe.edges]
        value = recipe.make(objects, home.scope)
        if is_pending(value):
            _discard(value)
            raise self._needs_async()
        self._publish(recipe, value, objects)

    async def _abuild(self, wanted_by: Flight | None) -> None:
        loop = asyncio.get_running_loop()
        while self.value is MISSING:
            flight = Flight(self, wanted_by, loop)
            under_way = take_off(flight)
            if under_way is flight:
                await self._afly(flight, loop)
            else:
                await under_way.wait_async(wanted_by)

    async def _afly(self, flight: Flight, loop: asyncio.AbstractEventLoop) -> None:
        token = flight.embark()
        try:
            if self.value is MISSING:
                await self._build_async(flight, loop)
        except Exception as error:
            flight.fail(error)
            raise
        finally:
            flight.land(token)

    async def _build_async(self, flight: Flight, loop: asyncio.AbstractEventLoop) -> None:
        recipe = self._recipe()
        sources = [self.home.find(path) for path in recipe.edges]
        objects = [await source.aget(flight) for source in sources]
        value = recipe.make(objects, self.home.scope)
        if is_pending(value):
            value = await value
            self.loop = loop
        if any(source.loop is not None for source in sources):
            self.loop = loop
        self._publish(recipe, value, objects)

    def _recipe(self) -> Recipe:
        assert self.recipe is not None  # noqa: S101 # a cell without one holds a value
        return self.recipe

    def _publish(self, recipe: Recipe, value: Any, given: list[Any]) -> None:
        # A function may hand on one of its arguments: that object has an owner already.
        own = True
        for item in given:
            own = own and item is not value
        self.home.accept(self, value, recipe, own=own)

    def _needs_async(self) -> ContainerError:
        return ContainerError(
            f"'{self.path}' is built by async code, so a synchronous call cannot give it. "
            f"Use: await container.{self.path}.async_()",
            path=self.path,
        )

    def _refuse_other_loop(self) -> None:
        if self.loop is not None and self.loop is not asyncio.get_running_loop():
            raise ContainerError(
                f"'{self.path}' was built by async code on another event loop, and belongs to "
                "it. Give each event loop a container of its own: derive one, or create it "
                "inside the loop.",
                path=self.path,
            )


class Provided(Source):
    """Calls a provider of dependency-injector each time, as it would itself.

    Args:
        home: the part of a container it belongs to.
        path: its binding.
        definition: as declared or handed in.
        provider: the provider to call; its references lead to ``home``.
    """

    __slots__ = ("definition", "provide")

    def __init__(
        self, home: Home, path: str, definition: Native, provide: Callable[..., Any]
    ) -> None:
        super().__init__(home, path)
        self.definition = definition
        self.provide = provide

    def get(self, wanted_by: Flight | None) -> Any:  # noqa: ARG002 # its references find it
        """What the provider gives now."""
        return self.call((), {})

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the provider gives for these arguments."""
        if _is_async(self.definition.provider):
            raise self._needs_async()
        value = self.provide(*args, **kwargs)
        if is_pending(value):
            _discard(value)
            raise self._needs_async()
        return value

    async def aget(self, wanted_by: Flight | None) -> Any:
        """What the provider gives now, after all that it needs was built."""
        for path in self.definition.edges:
            await self.home.find(path).aget(wanted_by)
        value = self.provide()
        return await value if is_pending(value) else value

    def _needs_async(self) -> ContainerError:
        return ContainerError(
            f"'{self.path}' gives its object to async code only. "
            f"Use: await container.{self.path}.async_()",
            path=self.path,
        )


class Reference(providers.Provider[Any]):
    """Stands in a copied provider for a binding of the container that the copy belongs to."""

    __slots__ = ("home", "path")

    def __init__(self, home: Finder, path: str) -> None:
        super().__init__()
        self.home = home
        self.path = path

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the binding gives there."""
        source = self.home.find(self.path)
        if isinstance(source, Provided):
            return source.call(args, kwargs)
        flight = current_flight()
        try:
            return source.get(flight)
        except Outdated as error:
            if flight is not None:
                raise  # the build around it asks again
            raise ContainerError(
                f"'{self.path}' was asked of a container or an override that has ended.",
                path=self.path,
            ) from error

    def __deepcopy__(self, memo: dict[int, Any] | None) -> "Reference":
        return self  # it belongs to one container, whoever copies the provider around it


def _is_async(provider: providers.Provider[Any]) -> bool:
    provides = getattr(provider, "provides", None)
    return inspect.iscoroutinefunction(provides) and running_loop() is None


def _discard(pending: Any) -> None:
    """Drop a coroutine or future that nobody will await."""
    if asyncio.iscoroutine(pending):
        pending.close()
    else:
        pending.cancel()


def _retrieve(task: "asyncio.Task[None]") -> None:
    """Look at the error of a build whose waiters were all cancelled, so that none is logged."""
    if not task.cancelled():
        task.exception()
