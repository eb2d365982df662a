"""What is told of each call while it runs: to the log, and to whoever else listens."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from kor_core.llm.response import Attempt, Usage

__all__ = ["CallEvent", "EventName", "Kind", "Observer", "unobserved"]

Kind = Literal["generate", "chat", "stream", "embed"]
EventName = Literal[
    "llm.call.started", "llm.call.finished", "llm.call.failed", "llm.call.cancelled"
]


@dataclass(frozen=True, slots=True)
class CallEvent:
    """One moment of one call. It holds no key, no prompt and no answer.

    Args:
        name: which moment.
        kind: what was asked for.
        model: the reference that was asked (first), ``provider:model``.
        tenant: whose kernel it was; None for the application's.
        purpose: which purpose was asked for; None for a reference.
        duration: in seconds, once the call has ended.
        attempts: every request so far.
        usage: what the answer took; None is unknown.
        cost: in US dollars; None is unknown.
        error: the name of the error's class, where it failed.
    """

    name: EventName
    kind: Kind
    model: str
    tenant: str | None = None
    purpose: str | None = None
    duration: float | None = None
    attempts: tuple[Attempt, ...] = ()
    usage: Usage | None = None
    cost: Decimal | None = None
    error: str | None = None


Observer = Callable[[CallEvent], object]


def unobserved(event: CallEvent) -> None:
    """Tell nobody."""
    del event
