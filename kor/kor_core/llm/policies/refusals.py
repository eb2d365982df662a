"""What is said when a limit or a budget has no room for a call: which one, until when, the cure."""

from datetime import UTC, datetime
from typing import Any

from kor_core.errors import BudgetExceededError, LLMError, RateLimitError
from kor_core.llm.policies.bounds import Bound, Planned, dollars
from kor_core.llm.policies.state import Charge, Full, counted
from kor_core.llm.policies.windows import Window

__all__ = ["full_error", "unpriced_error"]


def full_error(
    bound: Bound, charge: Charge, full: Full, *, window: Window, call: Planned, now: float
) -> LLMError:
    """Return the error of a call for which there is no room.

    Args:
        bound: the limit or budget.
        charge: what the call wanted of it.
        full: what is counted.
        window: where it counts.
        call: what was to be sent.
        now: seconds since the epoch.
    """
    if bound.unit == "money":
        return _overspending(bound, charge, full, window=window, call=call, now=now)
    if charge.amount > bound.amount:
        return _too_large(bound, charge, call)
    room = bound.amount - charge.amount
    wait = window.frees_in(now, used=full.used, before=full.before, room=room)
    used = counted(full.used, full.before, charge.share)
    message = (
        f"KOR's own limit of {bound.amount:,} {bound.unit} a minute is reached: {used:,} count, "
        f"and this call takes {charge.amount:,} ({bound.place}). Wait, or raise it there."
    )
    return RateLimitError(message, retry_after=wait, **_facts(bound, call))


def _too_large(bound: Bound, charge: Charge, call: Planned) -> LLMError:
    message = (
        f"This call may take {charge.amount:,} {bound.unit}, and KOR's own limit is "
        f"{bound.amount:,} a minute ({bound.place}). Shorten the request, lower its "
        "`max_tokens`, or raise the limit."
    )
    return RateLimitError(message, retryable=False, **_facts(bound, call))


def _overspending(
    bound: Bound, charge: Charge, full: Full, *, window: Window, call: Planned, now: float
) -> LLMError:
    left = max(0, bound.amount - full.used)
    whose = f" for {bound.pot}" if bound.pot else ""
    full_again = datetime.fromtimestamp(window.end, UTC)
    message = (
        f"The budget of {dollars(bound.amount)} a {bound.period}{whose} has {dollars(left)} left, "
        f"and this call may cost {dollars(charge.amount)} ({bound.place}). Raise its `amount`, "
        "shorten the request, lower its `max_tokens` or take a cheaper model; it is full again "
        f"at {full_again:%Y-%m-%d %H:%M} UTC."
    )
    return BudgetExceededError(message, retry_after=window.end - now, **_facts(bound, call))


def unpriced_error(bound: Bound, call: Planned) -> LLMError:
    """Return the error of a call that no budget can count, since nobody knows what it costs."""
    message = (
        f"No price of '{call.reference}' is known, so that the budget cannot count it "
        f'({bound.place}). Set its prices in [llm.models."{call.model}"], 0 where it is free, or '
        'allow such calls by unpriced = "allow" in the budget.'
    )
    return BudgetExceededError(message, **_facts(bound, call))


def _facts(bound: Bound, call: Planned) -> dict[str, Any]:
    return {"limit": bound.key, "provider": call.provider, "model": call.model}
