"""However an answer is packed: others have their turn while it is read, and its deadline holds."""

import asyncio
import gzip
import json
import zlib

import pytest

from kor_core.adapters import streaming
from kor_core.adapters.attempt import SenselessAnswerError
from kor_core.adapters.bodies import Unpacking, decoded
from kor_core.adapters.chunks import Chunks
from kor_core.adapters.completion import response_of
from kor_core.adapters.exchange import Exchange
from kor_core.adapters.httpx import _unpacked
from kor_core.adapters.streaming import Reading
from kor_core.errors import LLMTimeoutError

MEGABYTE = 1 << 20
SLICE = 1 << 16
DONE = b"data: [DONE]\n\n"
END = b'data: {"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}\n\n' + DONE


class Body:
    """A body that is there already: to read it, nobody has to wait."""

    status = 200

    def __init__(self, *pieces):
        self._pieces = pieces

    async def pieces(self):
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    __aiter__ = pieces

    def close(self):
        pass


def event(**delta):
    return f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n".encode()


def called(arguments, ident="a"):
    function = {"name": "add", "arguments": arguments}
    return event(tool_calls=[{"index": 0, "id": ident, "function": function}])


def read(*pieces, **deadline):
    return Reading(Body(*pieces), Exchange(), **deadline).deltas(Chunks(), response_of)


async def turns_during(work):
    """Return how many turns another task has meanwhile."""
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    await asyncio.sleep(0)
    before = turns
    await work
    other.cancel()
    return turns - before


async def all_of(pieces):
    return [piece async for piece in pieces]


# --- unpacking ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (gzip.compress(bytes(MEGABYTE)), "gzip"),
        (zlib.compress(gzip.compress(bytes(MEGABYTE))), "gzip, deflate"),
        (bytes(MEGABYTE), ""),
    ],
    ids=["packed", "twice", "plain"],
)
async def test_a_body_comes_in_slices_and_others_have_a_turn_between_them(packed, encoding):
    found = []

    async def take():
        found.extend([each async for each in _unpacked(Body(packed), encoding, Exchange())])

    turns = await turns_during(take())

    assert bytes(MEGABYTE) == b"".join(found)
    assert SLICE == max(map(len, found))
    assert MEGABYTE // SLICE - 1 <= turns
    assert MEGABYTE // SLICE - 1 <= await turns_during(decoded(packed, encoding, MEGABYTE))


async def test_what_unpacks_to_nothing_gives_others_a_turn_too():
    """Empty blocks within a packed body: megabytes of the inner one, and not a byte of it."""
    inner = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    begun = inner.compress(b"")
    blocks = inner.flush(zlib.Z_SYNC_FLUSH) + b"\0\0\0\xff\xff" * (MEGABYTE // 5)
    packed = gzip.compress(begun + blocks + inner.flush())

    assert 10 < await turns_during(all_of(_unpacked(Body(packed), "gzip, gzip", Exchange())))


def test_what_follows_a_packed_body_is_not_kept():
    unpacking = Unpacking("gzip", MEGABYTE)

    found = [
        *unpacking.fed(gzip.compress(b"Hello!")),
        *unpacking.fed(b"rubbish"),
        unpacking.finish(),
    ]

    assert [b"Hello!", None] == found
    assert b"" == unpacking._stages[0].unused_data


# --- events ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flood",
    [
        b"data:{}\n\n" * 100_000,
        b'data:{"usage":{}}\n\n' * 50_000,
        b"\n" * MEGABYTE,
        event(content="a") * 20_000,
        called("1") * 10_000,
    ],
    ids=["nothing", "usage", "lines", "texts", "calls"],
)
async def test_others_have_a_turn_within_a_piece_of_many_events(flood):
    assert 5 < await turns_during(all_of(read(flood, END)))


@pytest.mark.parametrize(
    "flood", [b"data:{}\n\n" * 100_000, b"\n" * MEGABYTE], ids=["events", "lines"]
)
async def test_the_deadline_holds_within_a_piece(flood):
    ends = asyncio.get_running_loop().time() + 0.001

    with pytest.raises(LLMTimeoutError, match=r"deadline of 0\.001 s"):
        await all_of(read(flood + END, seconds=0.001, ends=ends))


async def test_with_time_left_a_piece_of_many_events_is_read_to_its_end():
    ends = asyncio.get_running_loop().time() + 600

    found = await all_of(read(b"data:{}\n\n" * 50_000 + END, seconds=600, ends=ends))

    assert ["Hi"] == [delta.text for delta in found if delta.text]


async def test_a_timeout_of_the_body_itself_is_no_deadline():
    ends = asyncio.get_running_loop().time() + 600

    with pytest.raises(TimeoutError, match="its own"):
        await all_of(read(END[:10], TimeoutError("its own"), seconds=600, ends=ends))


# --- bounds ---------------------------------------------------------------------------------


async def test_reasoning_of_many_tokens_is_no_flood():
    thought = event(reasoning_content="hm")

    found = await all_of(read(*[thought * 1000] * 100, END))

    assert ["Hi"] == [delta.text for delta in found]


async def test_events_without_end_that_bring_nothing_are_refused(monkeypatch):
    monkeypatch.setattr(streaming, "_MOST_BARREN", 1000)
    words = event(content="a")

    assert 5001 == len(await all_of(read(*[words] * 5000, b"data:{}\n\n" * 900, END)))
    with pytest.raises(SenselessAnswerError, match="more events without words"):
        await all_of(read(*[b"data:{}\n\n" * 100] * 11, END))


@pytest.mark.parametrize(
    "large",
    [
        event(content="a" * (3 * MEGABYTE)),
        called("a" * (3 * MEGABYTE)),
        called("[]," * (MEGABYTE // 10)),
    ],
    ids=["text", "arguments", "parts"],
)
async def test_a_stream_holds_no_more_than_another_answer(large):
    with pytest.raises(SenselessAnswerError, match="longer than an answer can be"):
        await all_of(read(*[large] * 6, END))


async def test_a_stream_calls_no_more_tools_than_another_answer():
    with pytest.raises(SenselessAnswerError, match="calls more tools than an answer can"):
        await all_of(read(*[called("", f"{number}") for number in range(4097)], END))
