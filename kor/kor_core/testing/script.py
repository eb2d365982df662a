"""What the upstream was told: which replies and faults come next, and for whom."""

from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Final, TypedDict

from kor_core.testing.faults import Fault
from kor_core.testing.recording import Received
from kor_core.testing.replies import Reply

__all__ = ["ALWAYS", "Play", "Script", "Scripted", "When"]

Scripted = str | Reply | Callable[[Received], "str | Reply"]

ALWAYS: Final = None


class When(TypedDict, total=False):
    """For which requests something is played. All conditions given must hold.

    Args:
        times: for how many requests; ``ALWAYS`` for all that nothing else is told for. By
            default one.
        at: from which request on, counted from 1 among those for which the other conditions
            hold and that come after this was said.
        model: the model that the request names.
        path: what the path begins with.
        api: the wire format, such as ``openai.chat``, or its vendor, such as ``openai``.
        where: any other condition, a function of the request.
    """

    times: int | None
    at: int | None
    model: str
    path: str
    api: str
    where: Callable[[Received], bool]


@dataclass(frozen=True, slots=True)
class Play:
    """What one request is answered with: a fault, a reply, one altering the other, or neither."""

    fault: Fault | None = None
    reply: Scripted | None = None


class _Rule:
    """One thing told, until it has been played as often as was said."""

    def __init__(self, act: Scripted | Fault, order: int, when: When) -> None:
        self.act = act
        self._when = when
        self._left = when.get("times", 1)
        self._seen = 0
        self.always = self._left is None and not when.get("at")
        # Positions come first, then what was told first; of what holds always, the last told.
        rank = 0 if when.get("at") else 2 if self.always else 1
        self.order = (rank, -order if self.always else order)

    @property
    def alters(self) -> bool:
        return isinstance(self.act, Fault) and self.act.alters

    @property
    def spent(self) -> bool:
        return self._left == 0

    def holds(self, received: Received) -> bool:
        """Say whether this is for the request, which counts it."""
        if not self._matches(received):
            return False
        self._seen += 1
        return self._seen >= (self._when.get("at") or 1)

    def serves(self, makes: str) -> bool:
        """Say whether this is for an endpoint that makes text, embeddings or something other."""
        if isinstance(self.act, Fault):
            return True
        vectors = isinstance(self.act, Reply) and self.act.vectors is not None
        return makes == ("embeddings" if vectors else "text")

    def spend(self) -> None:
        if self._left is not None:
            self._left -= 1

    def _matches(self, received: Received) -> bool:
        when = self._when
        return (
            when.get("model", received.model) == received.model
            and received.path.startswith(when.get("path", ""))
            and f"{received.api}.".startswith(f"{when['api']}." if "api" in when else "")
            and ("where" not in when or when["where"](received))
        )


class Script:
    """Everything told and not yet played."""

    def __init__(self) -> None:
        self._rules: list[_Rule] = []
        self._told = 0
        self._lock = Lock()

    def __len__(self) -> int:
        """Count what was told for a number of times and has not been played so often."""
        return sum(not rule.always for rule in self._rules)

    def tell(self, act: Scripted | Fault, when: When) -> None:
        """Add a reply or a fault."""
        with self._lock:
            self._told += 1
            insort(self._rules, _Rule(act, self._told, when), key=lambda rule: rule.order)

    def clear(self) -> None:
        """Forget everything told."""
        with self._lock:
            self._rules.clear()

    def take(self, received: Received, makes: str) -> Play:
        """Return what to answer the request with, and count it as played."""
        if not self._rules:
            return Play()
        with self._lock:
            due = [rule for rule in self._rules if rule.holds(received)]
            chosen = list(_chosen([rule for rule in due if rule.serves(makes)]))
            for rule in chosen:
                rule.spend()
            self._rules = [rule for rule in self._rules if not rule.spent]
        return _play(chosen)


def _chosen(due: list[_Rule]) -> Iterator[_Rule]:
    faults = [rule for rule in due if isinstance(rule.act, Fault)]
    replies = [rule for rule in due if not isinstance(rule.act, Fault)]
    if replies and due[0] is replies[0]:
        # A reply is next: only what alters every answer touches it.
        faults = [rule for rule in faults if rule.always and rule.alters]
    yield from faults[:1]
    if not faults or faults[0].alters:
        yield from replies[:1]


def _play(chosen: list[_Rule]) -> Play:
    fault: Fault | None = None
    reply: Scripted | None = None
    for rule in chosen:
        if isinstance(rule.act, Fault):
            fault = rule.act
        else:
            reply = rule.act
    return Play(fault, reply)
