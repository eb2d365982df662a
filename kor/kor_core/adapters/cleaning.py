"""Makes an SDK's exception fit to be a ``__cause__``: without keys, frames or chain.

The frames of the SDKs hold the headers of the request in their locals, and the exceptions
hold the request itself; trackers of errors send both away.
"""

from collections.abc import Iterator
from traceback import extract_tb
from typing import Any, Final

from kor_core.adapters.shapes import is_sequence, is_table
from kor_core.redaction import Secret, redact

__all__ = ["cleaned", "secrets_in"]

_PLAIN: Final = (bool, int, float, type(None))


def secrets_in(value: object) -> Iterator[str]:
    """Yield every secret text in a config.

    >>> from kor_core.redaction import Config
    >>> [str(secret) for secret in secrets_in(Config(api_key="sk-planted", temperature=0))]
    ['sk-planted']
    """
    if isinstance(value, Secret):
        yield str(value)
    elif is_table(value):
        for item in value.values():
            yield from secrets_in(item)
    elif is_sequence(value):
        for item in value:
            yield from secrets_in(item)


def cleaned(error: Exception, secrets: frozenset[str]) -> Exception:
    """Return the exception without its frames and its chain, and with its secrets masked.

    Where it was raised stays, as a note. What it held besides plain data is dropped, except
    the request and the response, which stay without the request's headers and body.
    """
    note = _place(error)
    error.__cause__ = error.__context__ = None
    error.args = tuple(_scrubbed(item, secrets) for item in error.args)
    for name, value in vars(error).copy().items():
        vars(error)[name] = _scrubbed(value, secrets)
    if note:
        error.add_note(note)
    return error.with_traceback(None)


def _place(error: Exception) -> str:
    frames = extract_tb(error.__traceback__)
    return f"Raised in {frames[-1].filename}, line {frames[-1].lineno}." if frames else ""


def _scrubbed(value: object, secrets: frozenset[str]) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, bytes):
        return redact(value.decode("latin-1"), secrets).encode("latin-1")
    if is_table(value):
        return {name: _scrubbed(item, secrets) for name, item in value.items()}
    if is_sequence(value):
        return [_scrubbed(item, secrets) for item in value]
    return _http_scrubbed(value, secrets)


def _http_scrubbed(value: Any, secrets: frozenset[str]) -> Any:
    """Rebuild a request or response of httpx or httpx2 from what may be shown."""
    kind: Any = value.__class__
    if kind.__module__.partition(".")[0] not in {"httpx", "httpx2"}:
        return None
    if kind.__name__ == "Request":
        return kind(value.method, redact(str(value.url), secrets))
    if kind.__name__ == "Response":
        return kind(
            value.status_code,
            headers={
                name: redact(value.headers[name], secrets) for name in _SHOWN & value.headers.keys()
            },
            content=_scrubbed(value.content, secrets) if value.is_stream_consumed else b"",
            request=_http_scrubbed(value.request, secrets),
        )
    return None


# Enough to look into a failure; the others may set cookies or describe encodings undone by now.
_SHOWN: Final = frozenset(
    {"content-type", "retry-after", "retry-after-ms", "x-request-id", "request-id"}
)
