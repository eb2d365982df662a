"""What a vendor's HTTP answer says about a failure: its words, codes, waiting time and id."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from kor_core.redaction import is_sequence, is_table

__all__ = [
    "Complaint",
    "complaint_in_events",
    "complaint_of",
    "complaint_within",
    "plain",
    "request_id_of",
    "retry_after_of",
    "shortened",
]

_LONGEST: Final = 500
_LONGEST_HEADER: Final = 200
_LARGEST: Final = 1 << 20  # bytes; whoever complains at greater length is not read
_LONGEST_WAIT: Final = 86400.0  # seconds; who says to wait longer is wrong, or means harm
_DECIMAL: Final = re.compile(r"-?\d{1,20}(\.\d{0,20})?", re.ASCII)
_REQUEST_IDS: Final = (
    "x-request-id",  # OpenAI and most that speak like it
    "request-id",  # Anthropic
    "apim-request-id",  # Azure
    "x-amzn-requestid",  # AWS
)


@dataclass(frozen=True, slots=True)
class Complaint:
    """An error as the vendor words it.

    Args:
        words: its message, whole, as keys must be masked before it is cut; empty when there
            is none.
        codes: what it calls the failure, the most exact first.
        status: the status it gives inside the body, for answers whose own status is 200.
        retry_after: seconds to wait, where the body says so.
    """

    words: str = ""
    codes: tuple[str, ...] = ()
    status: int | None = None
    retry_after: float | None = None


def complaint_of(body: bytes | object) -> Complaint:
    """Read the body of a failed answer, whichever vendor wrote it.

    >>> complaint_of(b'{"error": {"message": "No such key.", "code": "invalid_api_key"}}')
    Complaint(words='No such key.', codes=('invalid_api_key',), status=None, retry_after=None)
    """
    whole = _parsed(body) if isinstance(body, bytes) else body
    if is_sequence(whole) and whole:  # Gemini wraps the errors of streams
        whole = whole[0]
    error = (whole.get("error") or whole) if is_table(whole) else whole
    if not is_table(error):
        return Complaint(error if isinstance(error, str) else "")
    number = error.get("code")
    return Complaint(
        _as_text(error.get("message") or error.get("detail") or ""),
        tuple(_codes(error)),
        number if isinstance(number, int) else None,
        _retry_delay(error),
    )


def complaint_within(body: bytes) -> Complaint:
    """Read the error object that some vendors put into an answer with a good status.

    >>> complaint_within(b'{"error": "model is loading"}').words, complaint_within(b"{}").words
    ('model is loading', '')
    """
    whole = _parsed(body) if len(body) <= _LARGEST else None
    return complaint_of(whole if is_table(whole) and whole.get("error") else None)


def complaint_in_events(tail: bytes) -> Complaint:
    """Read the error in the last events of a stream.

    >>> complaint_in_events(b'data: {"error": {"message": "Busy.", "code": 503}}').status
    503
    """
    for line in reversed(tail.splitlines()):
        complaint = complaint_within(line.removeprefix(b"data:"))
        if complaint != Complaint():
            return complaint
    return Complaint()


def _as_text(words: object) -> str:
    if isinstance(words, str):
        return words
    try:
        return json.dumps(words)
    except RecursionError:
        return ""


def _parsed(body: bytes) -> Any:
    text = body.decode("utf-8", "replace").strip()
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        # A page for people, of a proxy or a wrong address, says nothing that helps.
        return "" if text.startswith("<") else text


def _codes(error: Mapping[str, Any]) -> Iterator[str]:
    for name in ("code", "type", "status"):
        if isinstance(value := error.get(name), str):
            yield value
        if name == "code":
            yield from (d["reason"] for d in _details(error) if isinstance(d.get("reason"), str))


def _details(error: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    details = error.get("details")
    for detail in details if is_sequence(details) else ():
        if is_table(detail):
            yield detail


def _retry_delay(error: Mapping[str, Any]) -> float | None:
    """Read Gemini's ``RetryInfo``, such as ``{"retryDelay": "17s"}``."""
    for detail in _details(error):
        delay = detail.get("retryDelay")
        if isinstance(delay, str) and delay.endswith("s"):
            return _seconds(delay[:-1])
    return None


def shortened(text: str) -> str:
    """Return a vendor's words on one line of bearable length; keys are masked before."""
    line = " ".join(text.split())
    line = "".join(sign if sign.isprintable() else "\ufffd" for sign in line)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def plain(text: str) -> str:
    """Return the value of a header as a short line of ASCII.

    >>> plain("req_\u00e9 1")
    'req_ 1'
    """
    return "".join(sign for sign in text if " " <= sign <= "~")[:_LONGEST_HEADER].strip()


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """Return the vendor's id of the request."""
    return next((headers[name] for name in _REQUEST_IDS if headers.get(name)), None)


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds to wait, from ``retry-after-ms`` or ``retry-after``.

    >>> retry_after_of({"retry-after-ms": "1500"}), retry_after_of({"retry-after": "2"})
    (1.5, 2.0)
    """
    if (milliseconds := _seconds(headers.get("retry-after-ms", ""))) is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "")
    seconds = _seconds(value)
    return _until(value) if seconds is None else seconds


def _seconds(text: str) -> float | None:
    if not _DECIMAL.fullmatch(text):
        return None
    seconds = float(text)
    return min(max(seconds, 0.0), _LONGEST_WAIT)


def _until(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:  # HTTP dates are in GMT, and -0000 says nothing about the zone
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - datetime.now(UTC)).total_seconds(), 0.0), _LONGEST_WAIT)
