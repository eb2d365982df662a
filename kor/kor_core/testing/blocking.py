"""Refuses calls to real providers, so that a test that forgot its double fails at once."""

from collections.abc import Generator
from contextlib import contextmanager

from kor_core.interception import beyond_loopback, blocked, everywhere

__all__ = ["block_real_calls"]


@contextmanager
def block_real_calls(*, allow_loopback: bool = True) -> Generator[None]:
    """Refuse every call that would leave through a transport of KOR, inside the block.

    It holds for the whole process: kernels built before and inside the block, tasks, and
    threads, those without the test's context included. Blocks nest, and end in any order.
    To block one kernel alone use ``app.network.transport().blocking()``.

    What is refused raises `RealCallsBlockedError`, which names the host. Cassettes play
    inside the block; recording one is a real call. A custom provider that brings an HTTP
    client of its own goes past every transport, and past this.

    Args:
        allow_loopback: let calls to this machine through, for servers that the test started.

    >>> from kor_core.interception import refuse_blocked
    >>> with block_real_calls():
    ...     refuse_blocked("127.0.0.1")
    ...     refuse_blocked("api.openai.com")
    Traceback (most recent call last):
    kor_core.errors.RealCallsBlockedError: Real calls are blocked here, and this one would \
go to api.openai.com. Use a double such as ScriptedProvider, play a cassette, or allow real \
calls for this test.
    """
    with blocked(beyond_loopback if allow_loopback else everywhere):
        yield
