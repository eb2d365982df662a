"""``kor explain``: which model would serve a purpose, and why."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import Any, Final

from kor_cli.failure import MISCONFIGURED, worded
from kor_cli.output import width, wrapped, write
from kor_containers import create_container
from kor_core.llm.selection import Ranked, Rejected
from kor_core.llm.selector import Explanation
from kor_core.settings.capabilities import checked_capabilities

__all__ = ["as_json", "explain", "lines"]

_UNKNOWN: Final = "?"
_HEADINGS: Final = ("", "model", "in $/M", "out $/M", "window", "latency", "health")
_TEXT: Final = {1, 6}  # columns that begin at the left; the others are numbers


def explain(options: argparse.Namespace) -> int:
    """Print the choice, and tell by the exit code whether some model qualifies."""
    parser: argparse.ArgumentParser = options.parser
    try:
        needs = checked_capabilities(options.needs)
    except ValueError as error:
        parser.error(f"argument --needs: {error}")
    with create_container(options.config).kernel() as kernel:
        selector = kernel.model_selector
        found = selector.explain(options.purpose, needs=needs, tokens=options.tokens)
    write(as_json(found) if options.json else "\n".join(lines(found, width())))
    return 0 if found.candidates else MISCONFIGURED


def as_json(found: Explanation) -> str:
    """Write an explanation as JSON; what is unknown is null, prices are US dollars."""
    plain = {
        "candidates": [asdict(each) for each in found.candidates],
        "rejected": [
            {"reference": each.reference, "reason": worded(each.reason)} for each in found.rejected
        ],
        "why": worded(found.why),
    }
    return json.dumps(plain, indent=2, ensure_ascii=False, default=_number)


def _number(value: Any) -> float:
    """Write a price, the one thing among these that JSON does not know."""
    return float(value)


def lines(found: Explanation, longest: int | None = None) -> Iterator[str]:
    """Yield the candidates as a table, those left out with their reasons, and the sentence.

    Args:
        found: what is explained.
        longest: line, in characters; None for no limit.

    >>> only = Ranked("echo:any", Decimal(0), Decimal("0.60"), 8192, None, "closed")
    >>> for line in lines(Explanation((only,), (), "It is the only candidate.")):
    ...     print(line)
       model     in $/M  out $/M  window  latency  health
    1  echo:any       0      0.6   8,192        ?  healthy
    <BLANKLINE>
    why: It is the only candidate.
    """
    if found.candidates:
        yield from _table(found.candidates)
    if found.candidates and found.rejected:
        yield ""
    if found.rejected:
        yield "left out"
        yield from _reasons(found.rejected, longest)
    yield ""
    yield from wrapped(f"why: {worded(found.why)}", longest, "     ")


def _table(candidates: Sequence[Ranked]) -> Iterator[str]:
    rows = [_HEADINGS, *(_row(number, each) for number, each in enumerate(candidates, 1))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.ljust(width) if place in _TEXT else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def _row(number: int, each: Ranked) -> tuple[str, ...]:
    return (
        str(number),
        each.reference,
        _price(each.input_price),
        _price(each.output_price),
        _UNKNOWN if each.context_window is None else f"{each.context_window:,}",
        _UNKNOWN if each.latency is None else f"{each.latency:.2f} s",
        "healthy" if each.health == "closed" else each.health,
    )


def _price(price: Decimal | None) -> str:
    return _UNKNOWN if price is None else f"{price.normalize():f}"


def _reasons(rejected: Sequence[Rejected], longest: int | None) -> Iterator[str]:
    for each in rejected:
        yield f"   {each.reference}"
        yield from wrapped(f"      {worded(each.reason)}", longest, "      ")
