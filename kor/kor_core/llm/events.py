"""What is told of each call while it runs: to the log, and to whoever else listens."""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal

from kor_core.llm.response import Attempt, Usage

__all__ = ["CallEvent", "EventName", "Kind", "Observer", "unobserved"]

Kind = Literal["generate", "chat", "stream", "embed"]
EventName = Literal[
    "llm.call.started", "llm.call.finished", "llm.call.failed", "llm.call.cancelled"
]


@dataclass(frozen=True, slots=True)
class CallEvent:
    """One moment of one call. It holds no key.

    Args:
        name: which moment.
        kind: what was asked for.
        model: the reference that was asked first, ``provider:model``; where none qualified, the
            one that is configured first.
        tenant: whose kernel it was; None for the application's.
        purpose: which purpose was asked for; None for a reference.
        duration: in seconds, once the call has ended.
        attempts: every request so far.
        usage: what the answer took; None is unknown.
        cost: in US dollars; None is unknown.
        error: the name of the error's class, where it failed.
        prompt: what was asked, where ``[llm.policies] log_content`` is on; else None.
        answer: what was answered, likewise.
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
    prompt: str | None = field(default=None, repr=False)
    answer: str | None = field(default=None, repr=False)

    @property
    def answered_by(self) -> str | None:
        """The reference of the model that answered; None where none did, or not yet.

        >>> first, second = Attempt("a:b", "failed", 0.1), Attempt("a:c", "answered", 0.1)
        >>> CallEvent("llm.call.finished", "chat", "a:b", attempts=(first, second)).answered_by
        'a:c'
        """
        last = self.attempts[-1] if self.attempts else None
        return last.model if last is not None and last.outcome == "answered" else None


# One that has a method `heeds(name) -> bool` too is spared the events that it says no to.
Observer = Callable[[CallEvent], object]


class _Nobody:
    """Heeds nothing."""

    def heeds(self, name: EventName) -> bool:
        del name
        return False

    def __call__(self, event: CallEvent) -> None:
        del event


unobserved: Final = _Nobody()
