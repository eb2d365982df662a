"""What is said, once, when nothing is configured and the offline provider answers."""

import sys
from threading import Lock
from typing import Final

__all__ = ["OFFLINE", "say_offline"]

OFFLINE: Final = """\
kor: no configuration found, so the built-in offline provider 'echo' answers.
     To use a real model, write ./config.toml (or ~/.kor/config.toml):

         [llm.default]
         provider = "openai"
         model = "gpt-4o"

     and set OPENAI_API_KEY.
"""

_first = Lock()


def say_offline() -> None:
    """Say on stderr, once per process, that no configuration was found and how to add one."""
    if _first.acquire(blocking=False):
        sys.stderr.write(OFFLINE)
