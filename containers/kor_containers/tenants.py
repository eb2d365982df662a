"""One kernel per tenant: built when it is asked for, shared infrastructure, nothing crosses."""

import asyncio
from collections.abc import Awaitable, Generator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Generic, TypeVar

from kor_containers.config import Source
from kor_containers.container import KorContainer
from kor_containers.derivation import Derivation
from kor_containers.overlays import OverlaySource, checked_id, needs_async, reader_of
from kor_containers.pool import Base, Lease, Pool
from kor_containers.serving import Serving
from kor_core.closing import Closing
from kor_core.errors import ConfigurationError, KernelError, Problem
from kor_core.kernel import Kernel, RefusedDefault, use_kernel

__all__ = ["TenantKernels", "TenantUse"]

C = TypeVar("C", bound=KorContainer)


class TenantKernels(Closing, Generic[C]):
    """The kernels of an application's tenants.

    A tenant is the application's container with the settings replaced: its registry, selector
    and kernel are its own, all else is the application's. It is built when it is first used,
    once however many ask at once, and closed when it was idle for long, or when too many are
    idle. While a ``TenantKernels`` is open, ``get_kernel()`` outside of ``use`` raises.

    Args:
        app: the application's container, which stays the caller's to close.
        source: overlays by id; a folder of ``<id>.toml`` files; or a function of the id,
            async or not, that returns an overlay, or None where there is no such tenant.
        max_active: most kernels that are kept without being in use; the least recently used
            are closed. Those in use do not count.
        idle_seconds: how long a kernel that is not in use is kept. It is looked at whenever
            one is used or given back, and by :meth:`sweep`.
        allow_default: whether ``get_kernel()`` may give the process default meanwhile.

    Raises:
        ConfigurationError: an argument makes no sense, such as a folder that does not exist.
        ContainerError: the container holds no, or more than one, ``ApplicationContainer``.

    >>> from kor_containers.application import create_container
    >>> from kor_core.kernel import get_kernel
    >>> app = create_container({"llm": {"default": {"model": "echo:any"}}})
    >>> overlays = {"acme": {"llm": {"purposes": {"coding": {"model": "echo:coder"}}}}}
    >>> with app, TenantKernels(app, overlays) as tenants, tenants.use("acme"):
    ...     get_kernel().tenant, get_kernel().model_selector.get_model("coding").model_name
    ('acme', 'coder')
    """

    def __init__(
        self,
        app: C,
        source: OverlaySource,
        max_active: int = 1000,
        idle_seconds: float = 600.0,
        allow_default: bool = False,  # noqa: FBT001, FBT002  # as the design has it
    ) -> None:
        _refuse_negative(max_active=max_active, idle_seconds=idle_seconds)
        self._derivation = Derivation(app)
        self._reader = reader_of(source)
        self._pool = Pool(Base(app, is_ours=False), max_idle=max_active, idle_seconds=idle_seconds)
        self._serving = Serving(self._derivation, self._reader, self._pool)
        self._refused = None if allow_default else RefusedDefault()

    def use(self, tenant: str) -> "TenantUse":
        """Return what makes a tenant's kernel current: in ``with`` or ``async with``.

        Inside the block ``get_kernel()`` gives that kernel, in this task and those it starts.
        The kernel is not closed before the block ends.

        Args:
            tenant: its id.

        Raises:
            TenantNotFoundError: there is no such tenant.
            TenantError: the source failed; or it is async, and this is a plain ``with``.
            ConfigurationError: the overlay is wrong; all of its problems. The same one is
                checked again after five seconds, another one at once.
        """
        return TenantUse(self._serving, checked_id(tenant), sync=not self._reader.is_async)

    def container(self, tenant: str) -> C:
        """Return a tenant's whole container, which lives as long as the tenant's kernel.

        Use it inside ``use``, which keeps it open.

        Raises:
            TenantNotFoundError: there is no such tenant.
            TenantError: as for ``use``.
        """
        lease = self._serving.take(checked_id(tenant))
        self._serving.give_back(lease)
        container: C = self._derivation.container(lease)
        return container

    @property
    def active(self) -> tuple[str, ...]:
        """The ids of the tenants whose kernels are alive, sorted."""
        return self._pool.tenants

    def shared_bindings(self) -> tuple[str, ...]:
        """Return the paths of the bindings that all tenants share: one object for all."""
        return self._derivation.shared()

    # --- changes --------------------------------------------------------------------------

    def reload(self, tenant: str) -> Awaitable[None]:
        """Read a tenant's overlay again, and let its new kernel take the old one's place.

        Calls in flight finish on the old kernel, which is closed then. If the new one cannot
        be built, the old one stays; a tenant that is no longer there loses its kernel.

        Returns:
            An awaitable. With a sync source all is done already and it need not be awaited;
            with an async one it is a task.

        Raises:
            TenantNotFoundError: there is no such tenant.
            TenantError: as for ``use``.
            ConfigurationError: the overlay is wrong.
        """
        tenant = checked_id(tenant)
        if not self._reader.is_async:
            self._serving.reload(tenant)
            return _Done()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise needs_async(tenant) from None
        return loop.create_task(self._serving.areload(tenant))

    def reload_all(self) -> None:
        """Let all tenants follow what ``kor_containers.reload`` made of the application.

        They get new kernels when they are used next; calls in flight finish on the old ones,
        which are closed then.
        """
        self._pool.renew_all()
        self._serving.changed()

    def reload_base(self, source: Source = None) -> Awaitable[None]:
        """Read the operator's configuration again, for all tenants.

        They get new kernels when they are used next, from a container derived with the new
        configuration; calls in flight finish on the old ones. The application's own container
        stays as it is. If the new configuration is wrong, nothing changes.

        Args:
            source: the configuration; by default what the application was created with.

        Returns:
            An awaitable that is done already, as :meth:`reload` has it.

        Raises:
            ConfigurationError: everything that is wrong with the configuration.
        """
        self._pool.renew(self._derivation.renewed(source))
        self._serving.changed()
        return _Done()

    def sweep(self) -> None:
        """Close the kernels that were idle for too long; useful where nothing else happens."""
        self._pool.expire()
        self._serving.close_ended()

    # --- the end --------------------------------------------------------------------------

    def close(self) -> None:
        """Close every tenant's kernel; one that is in use when its use ends. Once is enough.

        Raises:
            ExceptionGroup: what closers raised.
        """
        self._withdraw()
        self._serving.close()

    async def aclose(self) -> None:
        """Close from async code, as :meth:`close` does."""
        self._withdraw()
        await self._serving.aclose()

    def _withdraw(self) -> None:
        if self._refused is not None:
            self._refused.withdraw()

    def __repr__(self) -> str:
        return f"<TenantKernels {len(self.active)} active>"


class TenantUse:
    """A use of a tenant's kernel, as ``TenantKernels.use`` returns it: one block.

    Args:
        serving: what gives the kernel.
        tenant: whose.
        sync: whether a plain ``with`` works.
    """

    __slots__ = ("_ambient", "_lease", "_serving", "_sync", "_tenant")

    def __init__(self, serving: Serving, tenant: str, *, sync: bool) -> None:
        self._serving = serving
        self._tenant = tenant
        self._sync = sync
        self._lease: Lease | None = None
        self._ambient: AbstractContextManager[Kernel] | None = None

    def __enter__(self) -> Kernel:
        if not self._sync:
            raise needs_async(self._tenant)
        return self._entered(self._serving.take(self._tenant))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._serving.give_back(self._left())

    async def __aenter__(self) -> Kernel:
        return self._entered(await self._serving.atake(self._tenant))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._serving.agive_back(self._left())

    def _entered(self, lease: Lease) -> Kernel:
        if self._lease is not None:
            self._serving.give_back(lease)
            raise KernelError("This use is entered already. Call tenants.use(id) for each block.")
        self._lease, self._ambient = lease, use_kernel(lease.kernel)
        return self._ambient.__enter__()

    def _left(self) -> Lease:
        lease, ambient = self._lease, self._ambient
        assert lease is not None  # noqa: S101  # entered before it is left
        assert ambient is not None  # noqa: S101  # likewise
        self._lease = self._ambient = None
        ambient.__exit__(None, None, None)
        return lease

    def __repr__(self) -> str:
        return f"<TenantUse of {self._tenant!r}>"


class _Done:
    """What to await where all is done already."""

    def __await__(self) -> Generator[None]:
        yield from ()


def _refuse_negative(**numbers: float) -> None:
    problems = [
        Problem(f"Expected a number at least 0, found {number!r}.", "TenantKernels", name)
        for name, number in numbers.items()
        if not number >= 0
    ]
    if problems:
        raise ConfigurationError(problems)
