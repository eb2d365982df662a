"""What containers cost: resolving, deriving, overriding, and memory, beside the peers.

    tox -e bench -- benchmarks/containers.py

Everything is measured in one process, each figure as the best of interleaved rounds, so that
whatever else the machine does falls on all alike. Read the ratios; the rest is this machine's.
"""

import asyncio
import gc
import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import dishka
import svcs
import that_depends
import wireup
from dependency_injector import containers, providers

from kor_containers.container import KorContainer
from kor_containers.providers import Alias, Dependency, ScopeOf, Singleton

ROUNDS = 9


# --- the graph: shaped like the application container, of objects that cost nothing -----------


class Settings:
    __slots__ = ()


class Transport:
    __slots__ = ("settings",)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings


class Part:
    __slots__ = ("needs",)

    def __init__(self, *needs: Any, **named: Any) -> None:
        self.needs = (needs, named)


def application(base: Any, single: Any, alias: Any, need: Any, scope: tuple[Any, ...]) -> Any:
    """Twenty bindings in four containers, the same for dependency-injector and for KOR."""

    class Config(base):
        operator = single(Settings)
        settings = alias(operator)

    class Network(base):
        operator = need()
        transport = single(Transport, operator)

    class LLM(base):
        operator = need()
        settings = need()
        transport = need()
        openai = single(Part, transport)
        litellm = single(Part, transport)
        echo = single(Part)
        catalogue = single(Part, operator, openai, litellm, echo)
        registry = single(Part, settings, catalogue, *scope)
        selector = single(Part, settings, registry)

    class App(base):
        config = providers.Container(Config)
        network = providers.Container(Network, operator=config.operator)
        llm = providers.Container(
            LLM,
            operator=config.operator,
            settings=config.settings,
            transport=network.transport,
        )
        kernel = single(Part, config.settings, llm.registry, llm.selector, *scope)

    return App


KorApp = application(KorContainer, Singleton, Alias, Dependency, (ScopeOf(),))
NativeApp = application(
    containers.DeclarativeContainer,
    providers.ThreadSafeSingleton,
    lambda target: providers.Callable(lambda settings: settings, target),
    providers.Dependency,
    (),
)


# --- measuring ----------------------------------------------------------------------------


def interleaved(cases: dict[str, tuple[Callable[[], object], int]]) -> dict[str, float]:
    """The best microseconds per call of each case, from rounds that take turns."""
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(ROUNDS):
        for name, (work, count) in cases.items():
            start = time.perf_counter()
            for _ in range(count):
                work()
            best[name] = min(best[name], (time.perf_counter() - start) / count * 1e6)
    return best


def table(title: str, figures: dict[str, float], yardstick: str, unit: str = "µs") -> None:
    print(f"\n{title}")
    for name, figure in figures.items():
        print(f"  {name:<44}{figure:>12.3f} {unit}{figure / figures[yardstick]:>10.4f}×")


# --- peers' cached singletons -----------------------------------------------------------------


def peers() -> dict[str, Callable[[], object]]:
    """How each peer gives a singleton that is built already."""
    provider = dishka.Provider(scope=dishka.Scope.APP)
    provider.provide(Settings)
    made = dishka.make_container(provider)

    @wireup.injectable
    class Wired:
        pass

    wired = wireup.create_sync_container(injectables=[Wired])

    registry = svcs.Registry()
    registry.register_factory(Settings, Settings)
    opened = svcs.Container(registry)

    class Depends(that_depends.BaseContainer):
        alias = "benchmark"
        settings = that_depends.providers.Singleton(Settings)

    return {
        "dishka": lambda: made.get(Settings),
        "wireup": lambda: wired.get(Wired),
        "svcs": lambda: opened.get(Settings),
        "that-depends": Depends.settings.resolve_sync,
    }


def hits() -> None:
    kor, native, single = KorApp(), NativeApp(), providers.Singleton(Settings)
    works: dict[str, Callable[[], object]] = {
        "dependency-injector ThreadSafeSingleton": native.kernel,
        "dependency-injector Singleton": single,
        "kor": kor.kernel,
        **peers(),
    }
    for work in works.values():
        work()
    table(
        "A cached hit (floor: at most 1× ThreadSafeSingleton)",
        interleaved({name: (work, 50_000) for name, work in works.items()}),
        "dependency-injector ThreadSafeSingleton",
    )


def tenants() -> None:
    app = KorApp()
    app.kernel()
    replaced = {"config.settings": Settings()}
    figures = interleaved(
        {
            "dependency-injector, a new container": (NativeApp, 100),
            "kor, a new container": (KorApp, 100),
            "kor, derive": (lambda: app.derive(replaced), 2000),
            "kor, derive and build its kernel": (lambda: app.derive(replaced).kernel(), 1000),
        }
    )
    name = "dependency-injector, a new container"
    table("A container for a tenant (floors: 0.01×, with its kernel 0.06×)", figures, name)


def crowd() -> None:
    """Tenants kept alive: time and memory for each, and what stays of them."""
    app = KorApp()
    app.kernel()
    print("\nTenants alive, each with its kernel (floors: 4 KB; at 10,000 at most 2× that at 100)")
    print(f"  {'alive':>8}{'µs each':>12}{'bytes each':>12}{'left after':>12}")
    for alive in (10, 100, 1000, 10_000):
        spent = min(_crowd(app, alive) for _ in range(3))
        held, left = _memory(app, alive)
        print(f"  {alive:>8}{spent:>12.1f}{held:>12.0f}{left:>12}")


def _crowd(app: Any, alive: int) -> float:
    gc.collect()
    kept = []
    start = time.perf_counter()
    for number in range(alive):
        child = app.derive({"config.settings": number})
        child.kernel()
        kept.append(child)
    return (time.perf_counter() - start) / alive * 1e6


def _memory(app: Any, alive: int) -> tuple[float, int]:
    gc.collect()
    tracemalloc.start()
    kept = []
    for number in range(alive):
        child = app.derive({"config.settings": number})
        child.kernel()
        kept.append(child)
    held = tracemalloc.get_traced_memory()[0] / alive
    del kept, child
    gc.collect()
    left = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return held, left


def overrides() -> None:
    kor, native, fake = KorApp(), NativeApp(), object()
    kor.kernel()
    native.kernel()

    def enter_and_leave(binding: Any) -> Callable[[], object]:
        def work() -> None:
            with binding.override(fake):
                pass

        return work

    table(
        "Override in place, enter and leave (floor: at most 2.5×; dependency-injector's is stale)",
        interleaved(
            {
                "dependency-injector": (enter_and_leave(native.llm.openai), 2000),
                "kor": (enter_and_leave(kor.llm.openai), 2000),
            }
        ),
        "dependency-injector",
    )


def slow_constructors() -> None:
    """Two constructors that sleep, in two threads: with a lock each they overlap."""

    def both(base: Any, single: Any) -> float:
        class Slow(base):
            one = single(time.sleep, 0.2)
            two = single(time.sleep, 0.2)

        app = Slow()
        threads = [threading.Thread(target=work) for work in (app.one, app.two)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (time.perf_counter() - start) * 1e3

    native = both(containers.DeclarativeContainer, providers.ThreadSafeSingleton)
    table(
        "Two constructors of 200 ms in two threads",
        {"dependency-injector": native, "kor": both(KorContainer, Singleton)},
        "dependency-injector",
        "ms",
    )


def scopes() -> None:
    """What peers have nearest to a tenant: a scope of their own, with one value put in."""
    provider = dishka.Provider(scope=dishka.Scope.REQUEST)
    provider.from_context(provides=Settings, scope=dishka.Scope.REQUEST)
    made = dishka.make_container(provider)
    registry = svcs.Registry()
    settings = Settings()

    def scope_of_dishka() -> object:
        with made(context={Settings: settings}) as scope:
            return scope.get(Settings)

    def container_of_svcs() -> object:
        container = svcs.Container(registry)
        container.register_local_value(Settings, settings)
        return container.get(Settings)

    app = KorApp()
    app.kernel()
    table(
        "Nearest of the peers to a tenant (a scope with one value; nothing is rewired)",
        interleaved(
            {
                "kor, derive": (lambda: app.derive({"config.settings": settings}), 2000),
                "dishka, scope": (scope_of_dishka, 2000),
                "svcs, container and local value": (container_of_svcs, 2000),
            }
        ),
        "kor, derive",
    )


def single_flight() -> None:
    """A hundred tasks ask for one async object."""

    async def connect() -> object:
        await asyncio.sleep(0)
        return object()

    class App(KorContainer):
        connection = Singleton(connect)

    async def ask() -> float:
        app = App()
        start = time.perf_counter()
        objects = await asyncio.gather(*(app.connection.async_() for _ in range(100)))
        assert len(set(map(id, objects))) == 1
        return (time.perf_counter() - start) * 1e6 / 100

    print(f"\nAn async object for 100 tasks, built once{asyncio.run(ask()):>15.3f} µs a task")


if __name__ == "__main__":
    for part in (hits, tenants, scopes, crowd, overrides, slow_constructors, single_flight):
        part()
