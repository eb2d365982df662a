"""Makes an SDK's exception fit to be a ``__cause__``: without keys, frames or chain.

The frames of the SDKs hold the headers of the request in their locals, and the exceptions
hold the request itself; trackers of errors send both away.
"""

from collections.abc import Iterable
from traceback import extract_tb
from typing import Any, Final

from kor_core.adapters.complaint import plain, shortened
from kor_core.errors import KorError
from kor_core.llm.hiding import hide
from kor_core.redaction import is_sequence, is_table, redact

__all__ = ["cleaned", "masked"]

_PLAIN: Final = (bool, int, float, type(None))
_DEEPEST: Final = 20

# They hold what they complain of where it cannot be taken out.
_HOLDING: Final = (AttributeError, BaseExceptionGroup, UnicodeError)


def cleaned(error: Exception, secrets: Iterable[str]) -> Exception:
    """Return the exception without its frames and its chain, and with its secrets masked.

    Where it was raised stays, as a note. What it held besides plain data is dropped, except
    the request and the response, which stay without the request's headers and body.
    """
    note = _place(error)
    try:
        found = (
            _stand_in(error, secrets) if isinstance(error, _HOLDING) else _emptied(error, secrets)
        )
    except Exception:  # noqa: BLE001  # the SDKs' classes and a hostile answer do as they like
        found = RuntimeError(type(error).__qualname__)
    if note:
        found.add_note(note)
    return found


def _emptied(error: Exception, secrets: Iterable[str]) -> Exception:
    error.__cause__ = error.__context__ = None
    error.args = tuple(_scrubbed(item, secrets) for item in error.args)
    for name, value in vars(error).copy().items():
        vars(error)[name] = _scrubbed(value, secrets)
    return error.with_traceback(None)


def _stand_in(error: Exception, secrets: Iterable[str]) -> Exception:
    return RuntimeError(f"{type(error).__qualname__}: {shortened(redact(str(error), secrets))}")


def _place(error: Exception) -> str:
    frames = extract_tb(error.__traceback__)
    return f"Raised in {frames[-1].filename}, line {frames[-1].lineno}." if frames else ""


def masked(error: KorError, secrets: Iterable[str]) -> KorError:
    """Mask the secrets in an error of ours, which keeps its shape, and drop its chain."""
    hide(error, secrets)
    error.__cause__ = error.__context__ = None
    return error


def _scrubbed(value: object, secrets: Iterable[str], depth: int = 0) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, bytes):
        return redact(value.decode("latin-1"), secrets).encode("latin-1")
    return None if depth > _DEEPEST else _scrubbed_within(value, secrets, depth + 1)


def _scrubbed_within(value: object, secrets: Iterable[str], depth: int) -> Any:
    if is_table(value):
        return {
            redact(str(name), secrets): _scrubbed(item, secrets, depth)
            for name, item in value.items()
        }
    if is_sequence(value):
        return [_scrubbed(item, secrets, depth) for item in value]
    return _http_scrubbed(value, secrets)


def _http_scrubbed(value: Any, secrets: Iterable[str]) -> Any:
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
                name: plain(redact(value.headers[name], secrets))
                for name in _SHOWN & value.headers.keys()
            },
            content=_scrubbed(value.content, secrets) if value.is_stream_consumed else b"",
            request=_http_scrubbed(value.request, secrets),
        )
    return None


# Enough to look into a failure; the others may set cookies or describe encodings undone by now.
_SHOWN: Final = frozenset(
    {"content-type", "retry-after", "retry-after-ms", "x-request-id", "request-id"}
)
