"""The windows in which limits count: a minute that slides, days and months in UTC."""

from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple

from kor_core.llm.policies.state import WHOLE

__all__ = ["Period", "Window", "window_at"]

Period = Literal["minute", "day", "month"]

_MINUTE: Final = 60.0

# How long a count outlives its window, in seconds: streams end late, and clocks differ.
_KEPT: Final = {"minute": 180, "day": 3600, "month": 3600}


class Window(NamedTuple):
    """One minute, day or month.

    Args:
        period: which.
        name: its beginning in UTC, as ISO 8601 has it, as long as it needs to be.
        before: the name of the one before, where that counts too; else empty.
        start: when it begins, in seconds since the epoch.
        end: when the next one begins.
        lasts: for how many seconds its counts are kept.
    """

    period: Period
    name: str
    before: str
    start: float
    end: float
    lasts: int

    def share(self, now: float) -> int:
        """Return the share of the window before that is less than a window ago, in millionths."""
        left = (self.end - now) / (self.end - self.start)
        return int(WHOLE * min(1.0, max(0.0, left)))

    def frees_in(self, now: float, *, used: int, before: int, room: int) -> float:
        """Return the seconds until no more than ``room`` counts, if nothing is added to a minute.

        Args:
            now: seconds since the epoch.
            used: what is counted in this window.
            before: what is counted in the one before.
            room: at least 0.
        """
        if used <= room:  # it is enough that the one before goes
            return max(0.0, self.end - now - _MINUTE * (room - used) / max(before, 1))
        # The whole of it leaves with the minute; of what is counted now, a share does.
        return self.end - now + _MINUTE * (1 - room / used)


def window_at(period: Period, now: float) -> Window:
    """Return the window that a moment belongs to.

    Args:
        period: which.
        now: seconds since the epoch.

    >>> new_year = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
    >>> [window_at(period, new_year).name for period in ("minute", "day", "month")]
    ['2026-12-31T23:59', '2026-12-31', '2026-12']
    >>> window_at("month", new_year).end - new_year
    1.0
    """
    return _MAKERS[period](datetime.fromtimestamp(now, UTC))


def _minute(now: datetime) -> Window:
    start = now.replace(second=0, microsecond=0)
    before, end = start - timedelta(minutes=1), start + timedelta(minutes=1)
    form = "%Y-%m-%dT%H:%M"
    return _window("minute", start, end, start.strftime(form), before.strftime(form))


def _day(now: datetime) -> Window:
    start = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return _window("day", start, start + timedelta(days=1), start.strftime("%Y-%m-%d"))


def _month(now: datetime) -> Window:
    start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    # 32 days on is always in the next month.
    end = (start + timedelta(days=32)).replace(day=1)
    return _window("month", start, end, start.strftime("%Y-%m"))


def _window(period: Period, start: datetime, end: datetime, name: str, before: str = "") -> Window:
    lasts = int((end - start).total_seconds()) + _KEPT[period]
    return Window(period, name, before, start.timestamp(), end.timestamp(), lasts)


_MAKERS: Final = {"minute": _minute, "day": _day, "month": _month}
