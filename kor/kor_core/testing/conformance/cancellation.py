"""Who cancels a call gets rid of it, at once and wholly."""

import asyncio

from kor_core.testing import faults
from kor_core.testing.conformance.subject import Bench, Subject

__all__ = ["Cancellation"]


class Cancellation(Subject):
    """A cancelled call ends as cancelled, and so does the request behind it."""

    def test_a_cancelled_call_ends_as_cancelled(self, bench: Bench) -> None:
        """``CancelledError`` passes through: it is no failure, and nothing swallows it."""
        bench.upstream.play(faults.Hang())

        assert bench.run(_cancelled(bench))

    def test_a_cancelled_call_leaves_the_server(self, bench: Bench) -> None:
        """The connection is closed, so that nothing more is generated."""
        bench.upstream.play(faults.Hang())

        async def left() -> None:
            await _cancelled(bench)
            await bench.upstream.await_disconnect(timeout=bench.patience)

        bench.run(left())

    def test_after_a_cancelled_call_the_model_serves(self, bench: Bench) -> None:
        """A cancelled call leaves nothing broken behind."""
        bench.upstream.play(faults.Hang())
        bench.run(_cancelled(bench))

        assert "Again!" == bench.run(bench.model().agenerate("Again!"))


async def _cancelled(bench: Bench) -> bool:
    """Cancel a call that hangs; say whether it ended as cancelled."""
    task = asyncio.create_task(bench.model().agenerate("Hello!"))
    await bench.upstream.await_requests(timeout=bench.patience)
    task.cancel()
    await asyncio.wait([task], timeout=bench.patience)
    return task.cancelled()
