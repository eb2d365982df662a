"""Logs calls through structlog where the application uses it, else through `logging`.

What the application configured is respected and never replaced: its processors, its levels, its
handlers. An application that configured neither sees nothing, as with any well-behaved library.
"""

import logging
import re
import sys
from typing import Any, Final, TextIO

from kor_core.errors import KorError
from kor_core.llm.events import CallEvent, EventName

__all__ = ["CallLog", "configure_logging"]

_NAME: Final = "kor.llm"
_LEVELS: Final = {"llm.call.failed": logging.WARNING, "llm.call.started": logging.DEBUG}

# A library is silent until the application says where its log goes.
logging.getLogger("kor").addHandler(logging.NullHandler())


class CallLog:
    """Writes one record for each event of a call.

    ``llm.call.started`` at DEBUG, ``llm.call.finished`` and ``llm.call.cancelled`` at INFO,
    ``llm.call.failed`` at WARNING, with tenant, purpose, model, tokens, cost and duration, and
    ``answered_by`` where it was another model than the one that was asked first. No prompt, no
    answer and no key is in them. Where ``[llm.policies] log_content`` is on, a record
    ``llm.call.content`` at DEBUG follows, with the prompt and the answer.

    >>> logging.getLogger("kor.llm").isEnabledFor(logging.INFO)
    False
    >>> CallLog()(CallEvent("llm.call.finished", "chat", "openai:gpt-4o"))
    """

    def __init__(self) -> None:
        self._logger: Final = logging.getLogger(_NAME)

    def __call__(self, event: CallEvent) -> None:
        """Log an event, if anybody reads it."""
        facts = _facts(event)
        self._write(_level(event.name), event.name, facts)
        if event.prompt is not None and event.name != "llm.call.started":
            said = {"prompt": event.prompt, "answer": event.answer}
            content = {name: text for name, text in said.items() if text is not None}
            self._write(logging.DEBUG, "llm.call.content", {"model": event.model, **content})

    def heeds(self, name: EventName) -> bool:
        """Say whether anybody reads events of that name, before one is put together."""
        return _structlog_is_configured() or self._logger.isEnabledFor(_level(name))

    def _write(self, level: int, name: str, facts: dict[str, Any]) -> None:
        if _structlog_is_configured():
            _structlog().get_logger(_NAME).log(level, name, **facts)
        elif self._logger.isEnabledFor(level):
            words = " ".join(f"{fact}={_quoted(fact, value)}" for fact, value in facts.items())
            # `extra` too, for handlers that write the facts apart.
            self._logger.log(level, "%s %s", name, words, extra={"kor": facts})


def _level(name: EventName) -> int:
    return _LEVELS.get(name, logging.INFO)


_QUOTED: Final = frozenset({"prompt", "answer"})
_PLAIN: Final = re.compile(r"[\w.:/@+-]+")


def _quoted(fact: str, value: object) -> object:
    """Return a text of others in quotes: one may break the line, or look like further facts."""
    is_plain = fact not in _QUOTED and (not isinstance(value, str) or _PLAIN.fullmatch(value))
    return value if is_plain else repr(value)


def _facts(event: CallEvent) -> dict[str, Any]:
    """Return what is known of the call, as data that JSON has."""
    usage = event.usage
    facts = {
        "kind": event.kind,
        "model": event.model,
        "answered_by": event.answered_by if event.answered_by != event.model else None,
        "tenant": event.tenant,
        "purpose": event.purpose,
        "duration": None if event.duration is None else round(event.duration, 6),
        "attempts": len(event.attempts) or None,
        "input_tokens": None if usage is None else usage.input_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
        "cost": None if event.cost is None else str(event.cost),
        "error": event.error,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _structlog_is_configured() -> bool:
    """Say so without importing it: who configured it has."""
    structlog = sys.modules.get("structlog")
    return structlog is not None and structlog.is_configured()


def _structlog() -> Any:
    import structlog

    return structlog


def configure_logging(level: str = "info", stream: TextIO | None = None) -> None:
    """Configure structlog for an application that has not: one line of JSON for each event.

    It uses a bound logger that filters by level before anything is put together, and orjson
    where that is installed (``pip install kor-sdk[logs]``).

    Args:
        level: the least important events that are written: ``debug``, ``info``, ``warning`` …
        stream: where to; by default stderr.

    Raises:
        KorError: the application configured structlog already.
        ValueError: there is no such level.
    """
    structlog = _structlog()
    if structlog.is_configured():
        raise KorError(
            "structlog is configured already, and KOR's events go there. Leave "
            "configure_logging() out."
        )
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"No level '{level}'. Levels: debug, info, warning, error, critical.")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_serializer()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=True,
    )


def _serializer() -> Any:
    try:
        import orjson
    except ImportError:
        import json

        return json.dumps

    def dumps(event: Any, **options: Any) -> str:
        return orjson.dumps(event, default=options.get("default")).decode()

    return dumps
