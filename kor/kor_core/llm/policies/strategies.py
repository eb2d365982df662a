"""In which order candidates are asked: functions over what is known of them.

What is unknown ranks behind what is known, what cools down ranks behind all, and what ties
stays in the order given.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from hashlib import blake2b
from itertools import count
from typing import Any, Final

from kor_core.suggestions import listed

__all__ = [
    "Option",
    "Strategy",
    "Turns",
    "cheapest",
    "fastest",
    "ordered",
    "preferred",
    "round_robin",
    "strategy_named",
]


@dataclass(frozen=True, slots=True)
class Option:
    """A candidate, as a strategy sees it.

    Args:
        reference: such as ``openai:gpt-4``.
        price: what a usual call costs, in any one currency; None when unknown.
        context: the window in tokens; None when unknown.
        latency: seconds to the first token of late; None when unknown.
        known_capable: whether it is known to do what is needed, rather than not known.
        cooled: whether it refused of late, and is asked only after the others.
    """

    reference: str
    price: Decimal | None = None
    context: int | None = None
    latency: float | None = None
    known_capable: bool = True
    cooled: bool = False


Strategy = Callable[[Sequence[Option]], Sequence[Option]]


def ordered(options: Iterable[Option]) -> tuple[Option, ...]:
    """Keep the order given.

    >>> [option.reference for option in ordered([Option("a", cooled=True), Option("b")])]
    ['b', 'a']
    """
    return tuple(sorted(options, key=_rank))


def cheapest(options: Iterable[Option]) -> tuple[Option, ...]:
    """Put the lowest price first.

    >>> options = [Option("a"), Option("b", price=Decimal(2)), Option("c", price=Decimal(1))]
    >>> [option.reference for option in cheapest(options)]
    ['c', 'b', 'a']
    """
    return tuple(sorted(options, key=lambda option: (*_rank(option), *_known(option.price))))


def fastest(options: Iterable[Option]) -> tuple[Option, ...]:
    """Put the shortest time to the first token first."""
    return tuple(sorted(options, key=lambda option: (*_rank(option), *_known(option.latency))))


class Turns:
    """Counts the turns of one purpose; any number of threads may take one.

    >>> turns = Turns()
    >>> turns.take(), turns.take()
    (0, 1)
    """

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers = count()

    def take(self) -> int:
        """Return the number of the next turn."""
        return next(self._numbers)


def round_robin(options: Iterable[Option], turns: Turns) -> tuple[Option, ...]:
    """Begin with another one each time; equals take turns among themselves.

    >>> turns, options = Turns(), [Option("a"), Option("b"), Option("c", cooled=True)]
    >>> [[option.reference for option in round_robin(options, turns)] for _ in range(3)]
    [['a', 'b', 'c'], ['b', 'a', 'c'], ['a', 'b', 'c']]
    """
    turn = turns.take()
    return tuple(option for equals in _by_rank(options) for option in _rotated(equals, turn))


def preferred(affinity: str, options: Iterable[Option]) -> tuple[Option, ...]:
    """Begin with the one that a conversation stays with while it is healthy.

    By rendezvous hashing: every process comes to the same order without talking to another,
    and a candidate that comes or goes moves only the conversations that were or will be its own.

    Args:
        affinity: what the conversation is known by.
        options: in any order.
    """

    def place(option: Option) -> tuple[bool, bool, bytes]:
        return (*_rank(option), _score(affinity, option.reference))

    return tuple(sorted(options, key=place))


def strategy_named(name: str) -> Strategy:
    """Return a strategy that comes with KOR; ``round_robin`` counts turns of its own.

    Raises:
        ValueError: there is none of that name.

    >>> strategy_named("cheapest") is cheapest
    True
    """
    if name == "round_robin":
        return partial(round_robin, turns=Turns())
    found = _NAMED.get(name)
    if found is None:
        raise ValueError(f"No strategy '{name}'. Strategies: {listed([*_NAMED, 'round_robin'])}.")
    return found


_NAMED: Final[Mapping[str, Strategy]] = {
    "ordered": ordered,
    "cheapest": cheapest,
    "fastest": fastest,
}


def _rank(option: Option) -> tuple[bool, bool]:
    return option.cooled, not option.known_capable


def _known(figure: Any) -> tuple[bool, Any]:
    # Behind every figure, and equal to whatever else is unknown.
    return (True, 0) if figure is None else (False, figure)


def _by_rank(options: Iterable[Option]) -> Iterator[list[Option]]:
    ranks: dict[tuple[bool, bool], list[Option]] = {}
    for option in options:
        ranks.setdefault(_rank(option), []).append(option)
    for rank in sorted(ranks):
        yield ranks[rank]


def _rotated(options: list[Option], turn: int) -> list[Option]:
    at = turn % len(options)
    return options[at:] + options[:at]


def _score(affinity: str, reference: str) -> bytes:
    # Keyed by its length, so that no two pairs run together into one text.
    text = f"{len(affinity)}:{affinity}{reference}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=8).digest()
