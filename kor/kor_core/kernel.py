"""The kernel: one configured set of services, and which one is current.

``get_kernel()`` gives the kernel of the innermost ``with use_kernel(k):`` in this context;
otherwise the default of the process, which is built on first use.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from importlib.metadata import entry_points
from threading import RLock
from typing import Any, Final, Protocol
from weakref import WeakSet

from kor_core.closing import Closing
from kor_core.errors import KernelError
from kor_core.llm.catalogue import Catalogue
from kor_core.llm.registry import LLMRegistry
from kor_core.llm.selector import ModelSelector
from kor_core.plugin import KorContext, initialising
from kor_core.scope import Scope
from kor_core.services import ServiceRegistry
from kor_core.settings import Settings
from kor_core.suggestions import listed

__all__ = [
    "ENTRY_POINT_GROUP",
    "Kernel",
    "KernelSource",
    "RefusedDefault",
    "default_source",
    "get_kernel",
    "reset_kernel",
    "use_kernel",
]

ENTRY_POINT_GROUP: Final = "kor_core.kernel"


class Kernel(Closing):
    """One configured set of services: the registry, the selector, the settings.

    Build one with ``kor_containers.create_kernel()`` or take ``container.kernel()``. As a
    context manager it closes itself, and with it its container.

    Args:
        settings: what it runs on.
        llm_registry: finds models by reference.
        model_selector: chooses models by purpose.
        catalogue: the providers and services shared with other kernels.
        scope: what belongs to its container.
    """

    def __init__(
        self,
        settings: Settings,
        llm_registry: LLMRegistry,
        model_selector: ModelSelector,
        catalogue: Catalogue,
        scope: Scope,
    ) -> None:
        self.settings = settings
        self._llm_registry = llm_registry
        self._model_selector = model_selector
        self._catalogue = catalogue
        self._scope = scope

    @property
    def llm_registry(self) -> LLMRegistry:
        """Finds models by reference."""
        self._refuse_when_closed()
        return self._llm_registry

    @property
    def model_selector(self) -> ModelSelector:
        """Chooses models by purpose."""
        self._refuse_when_closed()
        return self._model_selector

    @property
    def tenant(self) -> str | None:
        """The id of the tenant it serves, or None for the application's own."""
        return self.settings.tenant

    @cached_property
    def registry(self) -> ServiceRegistry:
        """Services by name; ``"llm"`` is the LLM registry."""
        return ServiceRegistry(
            self._scope.services,
            fixed={"llm": self.llm_registry},
            shared=self._catalogue.services,
        )

    @cached_property
    def context(self) -> KorContext:
        """What plugins are given: the settings and the services."""
        return KorContext(self.settings, self.registry)

    @property
    def container(self) -> Any:
        """The container it belongs to."""
        return self._scope.owner.view("")

    def close(self) -> None:
        """Close its container and everything that the container owns."""
        self._scope.owner.close()

    async def aclose(self) -> None:
        """Close its container from async code."""
        await self._scope.owner.aclose()

    def _refuse_when_closed(self) -> None:
        if self._scope.owner.closed:
            raise KernelError(
                "This kernel is closed, and its container with it. Create another one, or leave "
                "the `with` block around it later."
            )

    def __repr__(self) -> str:
        tenant = f" of tenant {self.tenant!r}" if self.tenant else ""
        return f"<Kernel{tenant}{', closed' if self._scope.owner.closed else ''}>"


# --- which kernel is current --------------------------------------------------------------

_ambient: ContextVar[Kernel | None] = ContextVar("kor_kernel", default=None)


def get_kernel() -> Kernel:
    """Return the kernel of the innermost ``use_kernel`` here, else the process default.

    The default is asked of its container at each call, so overriding that container's
    bindings reaches it.

    Raises:
        KernelError: called inside a plugin's ``initialize``; no default can be built; or none
            is given, because kernels belong to tenants here.
        ConfigurationError: the configuration that the default reads is wrong.
    """
    plugin = initialising.get()
    if plugin is not None:  # before the current one: what it registers is for all tenants
        raise KernelError(
            f"get_kernel() was called while plugin '{plugin}' initialises, and the kernel is "
            "still being built. Use the context given to initialize(): "
            "context.get_llm_registry(), context.settings, context.registry."
        )
    kernel = _ambient.get()
    if kernel is not None:
        return kernel
    if len(_refused):
        raise KernelError(_NO_DEFAULT)
    return default_source().kernel()


@contextmanager
def use_kernel(kernel: Kernel) -> Generator[Kernel]:
    """Make a kernel the one that ``get_kernel()`` gives inside the block.

    It holds in this task and those started inside the block; siblings do not see it.
    """
    if not hasattr(kernel, "model_selector"):
        kind = type(kernel).__name__
        raise TypeError(f"use_kernel() takes a kernel, not {kind}. Of a container: app.kernel().")
    token = _ambient.set(kernel)
    try:
        yield kernel
    finally:
        _ambient.reset(token)


def reset_kernel() -> None:
    """Close the process default and forget it; the next ``get_kernel()`` builds anew."""
    _default.reset()


_NO_DEFAULT: Final = (
    "No kernel is current here, and the process default is not given while a TenantKernels is "
    "open: the work may be a tenant's whose context was lost, as in a new thread. Say whose it "
    "is with `tenants.use(id)`, run threads in contextvars.copy_context(), or open the "
    "TenantKernels with allow_default=True."
)


class RefusedDefault:
    """While one is held and not withdrawn, ``get_kernel()`` gives no process default."""

    __slots__ = ("__weakref__",)

    def __init__(self) -> None:
        _refused.add(self)

    def withdraw(self) -> None:
        """Let the default be given again, unless another one is held."""
        _refused.discard(self)


# Weakly: what is forgotten without being closed refuses nothing for ever.
_refused: Final[WeakSet[RefusedDefault]] = WeakSet()


# --- the process default ------------------------------------------------------------------


class KernelSource(Protocol):
    """Where a kernel comes from: a container, asked at each call."""

    def kernel(self) -> Kernel:
        """Return the kernel as it is bound now."""
        ...

    def close(self) -> None:
        """Close the container."""
        ...


class _Default:
    """The one default of the process, built once however many threads race for it."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._source: KernelSource | None = None

    def get(self, build: Callable[[], KernelSource]) -> KernelSource:
        source = self._source
        if source is None:
            with self._lock:
                source = self._source
                if source is None:
                    source = self._source = build()
        return source

    def reset(self) -> None:
        with self._lock:
            source, self._source = self._source, None
        if source is not None:
            source.close()


_default = _Default()


def default_source(build: Callable[[], KernelSource] | None = None) -> KernelSource:
    """Return the container behind the process default, built on first use.

    Args:
        build: how to build it; by default as the entry point ``kor_core.kernel`` says.
    """
    return _default.get(build or _by_entry_point)


def _by_entry_point() -> KernelSource:
    found = tuple(entry_points(group=ENTRY_POINT_GROUP))
    if len(found) != 1:
        names = listed(f"{point.name} = {point.value}" for point in found)
        raise KernelError(
            f"Exactly one entry point in the group '{ENTRY_POINT_GROUP}' must say how the "
            f"default kernel is built; found {len(found)}: {names}. Install kor-sdk (again), or "
            "make a kernel current with use_kernel()."
        )
    create_kernel: Any = found[0].load()
    kernel: Kernel = create_kernel()
    source: KernelSource = kernel.container
    return source
