"""Streams come in pieces, end when they are left, and are never cut in silence."""

from typing import Any, Final

import pytest

from kor_core.errors import LLMError, StreamInterruptedError
from kor_core.llm.streams import ChatStream
from kor_core.testing import faults
from kor_core.testing.conformance.subject import Bench, Subject
from kor_core.testing.replies import Reply

__all__ = ["Streams"]

_PIECES: Final = ("Once ", "upon ", "a ", "time")


class Streams(Subject):
    """Streams of a model that has them; others are skipped."""

    def test_a_stream_is_whole_at_its_end(self, bench: Bench) -> None:
        """The pieces make the text, and the response tells why it ended."""
        stream = _told(bench)

        response = bench.run(stream.collect())

        assert "".join(_PIECES) == response.text == stream.text
        assert "stop" == response.finish_reason

    def test_a_stream_comes_in_pieces(self, bench: Bench) -> None:
        """A piece is there before the last one is sent."""
        stream = _told(bench)

        async def pieces() -> list[str]:
            return [delta.text async for delta in stream]

        assert 1 < len(bench.run(pieces()))

    def test_a_sync_stream_is_the_same(self, bench: Bench) -> None:
        """It is read from sync code too."""
        _told(bench)

        pieces = [delta.text for delta in bench.model().stream("Tell!")]

        assert "".join(_PIECES) == "".join(pieces)

    def test_leaving_a_stream_leaves_the_server(self, bench: Bench) -> None:
        """The connection is closed, so that nothing more is generated."""
        stream = _told(bench, faults.Slow(0.2))

        async def left() -> None:
            async with stream:
                await anext(stream)
            await bench.upstream.await_disconnect(timeout=bench.patience)

        bench.run(left())

    @pytest.mark.parametrize("framing", ["chunked", "close"])
    @pytest.mark.parametrize("deltas", [1, 2, 3])
    def test_a_cut_stream_says_so(self, bench: Bench, framing: Any, deltas: int) -> None:
        """It is an error that holds the text so far, also where HTTP cannot tell."""
        stream = _told(bench, faults.Cut(after_deltas=deltas, framing=framing))

        with pytest.raises(StreamInterruptedError) as caught:
            bench.run(stream.collect())

        assert stream.text == caught.value.partial
        assert "".join(_PIECES).startswith(caught.value.partial)

    def test_a_stream_that_fails_at_once_is_a_typed_error(self, bench: Bench) -> None:
        """Before the first piece it is the error that any call would be."""
        stream = _told(bench, faults.Status(429))

        with pytest.raises(LLMError) as caught:
            bench.run(stream.collect())

        assert not isinstance(caught.value, StreamInterruptedError)


def _told(bench: Bench, *first: Any) -> ChatStream:
    """Return a stream that will bring the pieces, after what is played first."""
    model = bench.model()
    if model.profile.supports("streaming") is False:
        pytest.skip("it has no streams of its own")
    bench.upstream.play(*first, Reply(deltas=_PIECES))
    return model.astream("Tell!")
