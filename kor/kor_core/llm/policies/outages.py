"""What happens while the place that keeps the counts does not answer.

Calls go on or are refused, as configured; nobody waits for it twice; what was used meanwhile is
added when it is back.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from threading import Lock
from typing import Final, Literal, NamedTuple, Protocol

from kor_core.errors import StateUnavailableError
from kor_core.llm.policies.state import Charge, Full, StateBackend

__all__ = ["Enduring", "Remote", "StateFailure", "StateRefusal"]

# How often it is asked whether it is back, in seconds; by one call, the others go their way.
_PAUSE: Final = 1.0

_log: Final = logging.getLogger("kor_core.state")


class StateFailure(Exception):  # noqa: N818  # no error of a user's call: none escapes from here
    """The place cannot be reached or makes no sense; the message says why, without secrets."""


class StateRefusal(StateFailure):
    """The place is there, and cannot add these charges, now or later; none was added."""


class Remote(StateBackend, Protocol):
    """Keeps counts elsewhere; what it is asked ends in an answer or in :class:`StateFailure`."""

    async def prepare(self) -> None:
        """Import what is needed, for which nobody is to blame the place itself."""
        ...


class _Owed(NamedTuple):
    charge: Charge
    until: float


class Enduring:
    """Counts kept elsewhere, with a policy for when that place does not answer.

    Args:
        remote: keeps the counts; raises :class:`StateFailure`.
        on_failure: ``open``: calls are made; ``closed``: they are refused.
        timeout: longest wait for an answer, in seconds.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        remote: Remote,
        *,
        on_failure: Literal["open", "closed"],
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._remote = remote
        self._is_open = on_failure == "open"
        self._timeout = timeout
        self._clock = clock
        self._lock = Lock()
        self._owed: dict[str, _Owed] = {}
        self._down_since: float | None = None
        self._ask_again = 0.0

    async def take(self, charges: Sequence[Charge]) -> Full | None:
        """Add all charges, or none of them where one does not fit.

        Charges without a limit never fail: they are added later, when the place is back.

        Raises:
            StateUnavailableError: it does not answer, and policy is to refuse.
        """
        if not self._may_ask():
            self._do_without(charges, "it did not answer a moment ago")
            return None
        await self._remote.prepare()
        try:
            async with asyncio.timeout(self._timeout):
                await self._pay()
                full = await self._remote.take(charges)
        except (StateFailure, TimeoutError) as error:
            why, is_there = self._said(error), isinstance(error, StateRefusal)
        except asyncio.CancelledError:
            # The caller is leaving; what it used is used nevertheless.
            self._owe([charge for charge in charges if charge.limit is None])
            raise
        else:
            self._note_answer()
            return full
        # Out here, so that no error carries the frames of the other, which hold an address.
        if is_there:
            self._note_answer()
        else:
            self._note_failure(why)
        self._do_without(charges, why)
        return None

    async def counts(self, keys: Sequence[str]) -> list[int]:
        """Return the counts of these keys.

        Raises:
            StateUnavailableError: it does not answer.
        """
        await self._remote.prepare()
        try:
            async with asyncio.timeout(self._timeout):
                return await self._remote.counts(keys)
        except (StateFailure, TimeoutError) as error:
            why = self._said(error)
        raise self._unavailable(why)

    # --- is it there? -----------------------------------------------------------------------

    def _may_ask(self) -> bool:
        """Say whether to ask: always, but in an outage one call at a time, after a pause."""
        with self._lock:
            now = self._clock()
            if self._down_since is None:
                return True
            if now < self._ask_again:
                return False
            self._ask_again = now + self._pause
            return True

    @property
    def _pause(self) -> float:
        return _PAUSE + self._timeout

    def _note_failure(self, why: str) -> None:
        with self._lock:
            now = self._clock()
            first, self._down_since = self._down_since is None, self._down_since or now
            self._ask_again = now + self._pause
            self._owed = _lasting(self._owed, now)
        if first:
            policy = (
                "Calls are made, and counted when it is back"
                if self._is_open
                else "Calls that a limit or budget counts are refused until it is back"
            )
            _log.warning(
                "%s does not answer: %s. %s ([state] on_failure).",
                self._remote,
                why,
                policy,
            )

    def _note_answer(self) -> None:
        if self._down_since is None:
            return
        with self._lock:
            since, self._down_since = self._down_since, None
        # Several may come back at once; one of them says so.
        if since is not None:  # pyright: ignore[reportUnnecessaryComparison]  # other threads
            _log.warning("%s answers again, after %.1f s.", self._remote, self._clock() - since)

    def _said(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._timeout:g} s ([state] timeout)"
        return str(error).rstrip(".")

    # --- without it -------------------------------------------------------------------------

    def _do_without(self, charges: Sequence[Charge], why: str) -> None:
        if self._is_open or all(charge.limit is None for charge in charges):
            self._owe(charges)
            return
        raise self._unavailable(why)

    def _unavailable(self, why: str) -> StateUnavailableError:
        return StateUnavailableError(
            f"{self._remote} keeps the counts of limits and budgets, and cannot be asked: {why}. "
            'Bring it back, or let calls be made without it by on_failure = "open" in [state].',
            retry_after=self._pause,
        )

    def _owe(self, charges: Sequence[Charge]) -> None:
        now = self._clock()
        self._keep(
            _Owed(charge._replace(limit=None, before="", share=0), now + charge.lasts)
            for charge in charges
        )

    def _keep(self, debts: Iterable[_Owed]) -> None:
        with self._lock:
            for debt in debts:
                charge, until = debt
                if before := self._owed.get(charge.key):
                    charge = charge._replace(amount=charge.amount + before.charge.amount)
                self._owed[charge.key] = _Owed(charge, until)

    async def _pay(self) -> None:
        if not self._owed:
            return
        with self._lock:
            owed, self._owed = _lasting(self._owed, self._clock()), {}
        try:
            await self._remote.take([debt.charge for debt in owed.values() if debt.charge.amount])
        except StateRefusal:
            await self._pay_one_by_one(owed)
        except BaseException:  # cancellation too: whether it was added is unknown, so it stays owed
            self._keep(owed.values())
            raise

    async def _pay_one_by_one(self, owed: dict[str, _Owed]) -> None:
        """Pay what is taken, and forget what never will be, so that it holds up no other."""
        try:
            while owed:
                charge = next(iter(owed.values())).charge
                await self._pay_or_forget(charge)
                del owed[charge.key]
        except BaseException:  # cancellation too: what is not paid stays owed
            self._keep(owed.values())
            raise

    async def _pay_or_forget(self, charge: Charge) -> None:
        try:
            await self._remote.take([charge])
        except StateRefusal as error:
            words = "%s does not take a charge of %d to %s, which is forgotten: %s."
            _log.warning(words, self._remote, charge.amount, charge.key, self._said(error))

    def close(self) -> None:
        """Let go of connections, without waiting for it."""
        self._remote.close()

    async def aclose(self) -> None:
        """Add what is owed, if that can be done within the timeout, and let go of connections."""
        with suppress(StateFailure, TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._pay()
        await self._remote.aclose()

    def __repr__(self) -> str:
        return f"<Enduring {self._remote!r}>"


def _lasting(owed: Mapping[str, _Owed], now: float) -> dict[str, _Owed]:
    """Return what is owed to windows that are not over and forgotten."""
    return {key: debt for key, debt in owed.items() if debt.until > now}
