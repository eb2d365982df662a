"""Gives out the kernels of tenants, and takes them back: one builds, the others wait."""

import asyncio
import logging
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any, Final

from kor_containers.derivation import Derivation
from kor_containers.lifecycle import raise_together
from kor_containers.overlays import Overlay, OverlayReader, refuse_circle
from kor_containers.pool import Base, Lease, Pool
from kor_containers.refusals import Refusals
from kor_containers.turns import Turn, Turns
from kor_core.errors import TenantNotFoundError

__all__ = ["Serving"]

_log: Final = logging.getLogger("kor_containers.tenants")
_WHAT: Final = "the kernels of tenants"


class Serving:
    """The kernels of tenants, from their sources to their end.

    Args:
        derivation: makes them.
        reader: reads their overlays.
        pool: keeps them.
    """

    def __init__(self, derivation: Derivation, reader: OverlayReader, pool: Pool) -> None:
        self._derivation = derivation
        self._reader = reader
        self._pool = pool
        self._turns = Turns()
        self._refusals = Refusals()

    def take(self, tenant: str) -> Lease:
        """Return a tenant's kernel, in use until it is given back."""
        while True:
            lease = self._pool.take(tenant)
            if lease is not None:
                return lease
            refuse_circle(tenant)
            turn, mine = self._turns.begin(tenant)
            if not mine and not turn.waits_for_us:
                turn.future.result()
                continue
            with self._turns.building(tenant, turn if mine else Turn()):
                overlay = self._reader.read(tenant)
                with self._refusals.noting(tenant, overlay):
                    return self._made(tenant, overlay)

    async def atake(self, tenant: str) -> Lease:
        """Return a tenant's kernel, from async code."""
        while True:
            lease = self._pool.take(tenant)
            if lease is not None:
                return lease
            refuse_circle(tenant)
            turn, mine = self._turns.begin(tenant)
            if not mine:
                await asyncio.wrap_future(turn.future)
                continue
            with self._turns.building(tenant, turn):
                overlay = await self._reader.aread(tenant)
                with self._refusals.noting(tenant, overlay):
                    return await self._amade(tenant, overlay)

    def give_back(self, lease: Lease) -> None:
        """End a use."""
        self._pool.give_back(lease)
        self.close_ended()

    async def agive_back(self, lease: Lease) -> None:
        """End a use, from async code."""
        self._pool.give_back(lease)
        ended = self._pool.ended()
        if ended:
            _report(await _aclosed(ended))

    def close_ended(self) -> None:
        """Close what came to its end."""
        _report(_closed(self._pool.ended()))

    # --- changes --------------------------------------------------------------------------

    def reload(self, tenant: str) -> None:
        """Let a new kernel take the place of a tenant's."""
        with self._removing(tenant):
            lease = self._made(tenant, self._reader.read(tenant), replace=True)
        self.give_back(lease)

    async def areload(self, tenant: str) -> None:
        """Let a new kernel take the place of a tenant's, from async code."""
        with self._removing(tenant):
            overlay = await self._reader.aread(tenant)
            lease = await self._amade(tenant, overlay, replace=True)
        await self.agive_back(lease)

    def changed(self) -> None:
        """Close what ended since the configuration below all overlays is another one."""
        self._refusals.forget_all()
        self.close_ended()

    def close(self) -> None:
        """Close every kernel that is not in use, and the others when their use ends.

        Raises:
            ExceptionGroup: what closers raised.
        """
        self._pool.close()
        raise_together(_closed(self._pool.ended()), _WHAT)

    async def aclose(self) -> None:
        """Close from async code."""
        self._pool.close()
        raise_together(await _aclosed(self._pool.ended()), _WHAT)

    # --- building -------------------------------------------------------------------------

    def _made(self, tenant: str, overlay: Overlay, *, replace: bool = False) -> Lease:
        while True:
            base = self._pool.begin()
            with self._abandoned(base):
                lease = self._derivation.lease(tenant, overlay, base)
            found = self._pool.add(lease, replace=replace)
            if found is not None:
                return found

    async def _amade(self, tenant: str, overlay: Overlay, *, replace: bool = False) -> Lease:
        while True:
            base = self._pool.begin()
            with self._abandoned(base):
                lease = await self._derivation.alease(tenant, overlay, base)
            found = self._pool.add(lease, replace=replace)
            if found is not None:
                return found

    @contextmanager
    def _abandoned(self, base: Base) -> Generator[None]:
        """Let go of a base where nothing came of it."""
        try:
            yield
        except BaseException:
            self._pool.abandon(base)
            raise

    @contextmanager
    def _removing(self, tenant: str) -> Generator[None]:
        """Let go of the kernel of a tenant that is found to be no longer there."""
        try:
            yield
        except TenantNotFoundError:
            self._pool.remove(tenant)
            self.close_ended()
            raise


def _closed(containers: Iterable[Any]) -> list[BaseException]:
    """Close containers, each though others fail; return what went wrong."""
    errors: list[BaseException] = []
    for container in containers:
        try:
            container.close()
        except Exception as error:  # noqa: BLE001  # the others are closed too
            errors.append(error)
    return errors


async def _aclosed(containers: Iterable[Any]) -> list[BaseException]:
    """Close containers, each though others fail or we are cancelled; return what went wrong."""
    errors: list[BaseException] = []
    for container in containers:
        try:
            await container.aclose()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # the others are closed too
            errors.append(error)
    return errors


def _report(errors: Iterable[BaseException]) -> None:
    """Log failures, for they are not those of the caller, who ended the use of another's."""
    for error in errors:
        if not isinstance(error, Exception):
            raise error
        _log.warning("The container of a tenant did not close cleanly.", exc_info=error)
