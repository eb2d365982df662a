"""The kernels of tenants that are alive: which are in use, which are idle, which are to close.

Nothing is built, read or closed here, so that one lock is held for an instant only.
"""

from collections import OrderedDict
from threading import Lock
from time import monotonic
from typing import Any, Final

from kor_containers.spaces import Space
from kor_core.errors import KernelError
from kor_core.kernel import Kernel

__all__ = ["Base", "Lease", "Pool"]


class Base:
    """What tenants are derived from, until it is reloaded.

    Args:
        container: the application's container.
        is_ours: whether it is closed when the last tenant has left it.
    """

    __slots__ = ("container", "is_ours", "users")

    def __init__(self, container: Any, *, is_ours: bool) -> None:
        self.container = container
        self.is_ours = is_ours
        self.users = 0


class Lease:
    """A tenant's kernel, and how many use it now.

    Args:
        tenant: the id.
        base: what it was derived from.
        space: what belongs to the tenant's container.
        kernel: the tenant's kernel.
    """

    __slots__ = ("base", "idle_since", "kernel", "space", "tenant", "users")

    def __init__(self, tenant: str, base: Base, space: Space, kernel: Kernel) -> None:
        self.tenant = tenant
        self.base = base
        self.space = space
        self.kernel = kernel
        self.users = 0
        self.idle_since = 0.0


class Pool:
    """Kernels by tenant.

    Args:
        base: what tenants are derived from.
        max_idle: how many may be alive without being in use.
        idle_seconds: how long one may be.
    """

    def __init__(self, base: Base, *, max_idle: int, idle_seconds: float) -> None:
        self._base = base
        self._max_idle: Final = max_idle
        self._idle_seconds: Final = idle_seconds
        self._lock: Final = Lock()
        self._current: dict[str, Lease] = {}
        # Those of the above that nobody uses, the one that waits longest first.
        self._idle: OrderedDict[str, Lease] = OrderedDict()
        self._ended: list[Any] = []
        self._closed = False

    def take(self, tenant: str) -> Lease | None:
        """Return a tenant's kernel for use, if it is alive.

        Raises:
            KernelError: everything was let go.
        """
        with self._lock:
            self._open()
            self._expire()
            lease = self._current.get(tenant)
            return None if lease is None else self._used(lease)

    def give_back(self, lease: Lease) -> None:
        """End a use; the last one makes the kernel idle, or ends it if another took its place."""
        with self._lock:
            lease.users -= 1
            if not lease.users:
                self._rest(lease)
            self._expire()

    def begin(self) -> Base:
        """Return what to derive a tenant from; it stays until `add` or `abandon`.

        Raises:
            KernelError: everything was let go.
        """
        with self._lock:
            self._open()
            self._base.users += 1
            return self._base

    def abandon(self, base: Base) -> None:
        """Say that nothing was derived."""
        with self._lock:
            self._leave(base)

    def add(self, lease: Lease, *, replace: bool = False) -> Lease | None:
        """Make a kernel that was built its tenant's, in use once.

        Args:
            lease: as derived from what `begin` gave.
            replace: whether it takes the place of one that is alive; otherwise that serves.

        Returns:
            The one to use; None where the base was reloaded meanwhile: build again.
        """
        with self._lock:
            current = self._current.get(lease.tenant)
            if lease.base is not self._base:
                self._end(lease)
                return None
            if current is not None:
                if not replace:
                    self._end(lease)
                    return self._used(current)
                self._retire(current)
            self._current[lease.tenant] = lease
            return self._used(lease)

    def remove(self, tenant: str) -> None:
        """Let a tenant's kernel go; those who use it finish."""
        with self._lock:
            if (lease := self._current.get(tenant)) is not None:
                self._retire(lease)

    def renew(self, base: Base) -> None:
        """Derive tenants from something else from now on."""
        with self._lock:
            self._renew(base)

    def renew_all(self) -> None:
        """Let every kernel go; those who use them finish, and new ones are built at next use."""
        with self._lock:
            self._open()
            base = self._base
            # Another object for the same container: what is being derived just now is refused.
            # One of ours stays, since two would close it twice.
            self._renew(base if base.is_ours else Base(base.container, is_ours=False))

    def expire(self) -> None:
        """Let go of kernels that were idle for too long."""
        with self._lock:
            self._expire()

    def close(self) -> None:
        """Let go of everything, and of what is in use when its use ends."""
        with self._lock:
            self._closed = True
            self._renew(Base(None, is_ours=False))

    def ended(self) -> list[Any]:
        """Return the containers to close now, each once."""
        if not self._ended:  # the common case, without the lock
            return []
        with self._lock:
            ended, self._ended = self._ended, []
            return ended

    @property
    def tenants(self) -> tuple[str, ...]:
        """Ids of the tenants whose kernels are alive, sorted."""
        with self._lock:
            return tuple(sorted(self._current))

    # --- with the lock held ---------------------------------------------------------------

    def _open(self) -> None:
        if self._closed:
            raise KernelError("This TenantKernels is closed. Create another one.")

    def _renew(self, base: Base) -> None:
        old, self._base = self._base, base
        for lease in list(self._current.values()):
            self._retire(lease)
        old.users += 1
        self._leave(old)

    def _used(self, lease: Lease) -> Lease:
        lease.users += 1
        self._idle.pop(lease.tenant, None)
        return lease

    def _rest(self, lease: Lease) -> None:
        if self._current.get(lease.tenant) is not lease:
            self._end(lease)
            return
        lease.idle_since = monotonic()
        self._idle[lease.tenant] = lease

    def _expire(self) -> None:
        idle, latest = self._idle, monotonic() - self._idle_seconds
        while idle:
            first = next(iter(idle.values()))
            if len(idle) <= self._max_idle and first.idle_since > latest:
                return
            self._retire(first)

    def _retire(self, lease: Lease) -> None:
        del self._current[lease.tenant]
        self._idle.pop(lease.tenant, None)
        if not lease.users:
            self._end(lease)

    def _end(self, lease: Lease) -> None:
        self._ended.append(lease.space)
        self._leave(lease.base)

    def _leave(self, base: Base) -> None:
        base.users -= 1
        if not base.users and base.is_ours and base is not self._base:
            self._ended.append(base.container)
