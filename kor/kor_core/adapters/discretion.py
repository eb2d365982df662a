"""Keeps prompts and answers out of the logs that the SDKs write themselves."""

import logging
from typing import Final

from kor_core.adapters.exchange import is_watched

__all__ = ["hush"]

# At DEBUG they log whole requests.
_TALKATIVE: Final = ("LiteLLM", "openai._base_client")


class _Discretion(logging.Filter):
    """Drops what an SDK logs at DEBUG within a call of KOR, which logs its calls itself.

    The application's own use of the SDK is logged as ever.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG or not is_watched()


_DISCRETION: Final = _Discretion()


def hush() -> None:
    """Let the SDKs be discreet from now on; to do it again changes nothing.

    >>> hush()
    """
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_DISCRETION)
