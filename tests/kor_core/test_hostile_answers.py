"""Answers made to hold up the event loop or to fill the memory, of a few kilobytes each."""

import struct
from base64 import b64encode

import pytest

from kor_core.adapters import embeddings
from kor_core.adapters.attempt import SenselessAnswerError
from kor_core.adapters.chunks import Chunks, ToolIndexes
from kor_core.adapters.completion import parsed
from kor_core.adapters.completion import response_of as chat_response
from kor_core.adapters.embeddings import embeddings_of
from kor_core.adapters.litellm_anthropic import MessageEvents
from kor_core.adapters.response_events import ResponseEvents
from kor_core.adapters.responses import response_of as responses_response
from kor_core.adapters.sse import Events
from kor_core.llm.response import Delta, ToolCallPiece
from kor_core.llm.streams import StreamedAnswer, arguments_of

MEGABYTE = 1 << 20
BOM = b"\xef\xbb\xbf"

# As indexes of a dict all of these are in the same place, and each look-up compares them all.
COLLIDING = [(2**61 - 1) * number for number in range(1, 4)]


class Piece(str):
    """A text that is only ever joined: adding one to the rest copies the rest each time."""

    __slots__ = ()

    def __radd__(self, before):
        raise AssertionError("copied what came before")

    def __add__(self, after):
        raise AssertionError("copied what came before")


@pytest.mark.parametrize("index", [*COLLIDING, -1, 4096, True, "0", 1.0])
def test_an_index_of_a_tool_call_that_is_none_is_like_none(index):
    indexes = ToolIndexes()

    found = [indexes.of(index, "a", "add"), indexes.of(None, "a", ""), indexes.of(0, "b", "add")]

    assert [(0, True), (0, False), (1, True)] == found


@pytest.mark.parametrize("index", [*COLLIDING, [], {}])
def test_the_indexes_of_responses_and_of_messages_are_no_keys_either(index):
    item = {"type": "function_call", "call_id": "a", "name": "add"}
    more = {"type": "response.function_call_arguments.delta", "delta": "{}"}
    events = ResponseEvents()
    list(events.deltas({"type": "response.output_item.added", "output_index": index, "item": item}))
    block = {"type": "tool_use", "id": "a", "name": "add"}
    piece = {"type": "input_json_delta", "partial_json": "{}"}
    messages = MessageEvents()
    list(messages.deltas({"type": "content_block_start", "index": index, "content_block": block}))

    expected = [Delta(tool_calls=(ToolCallPiece(0, "", "", "{}"),))]
    assert expected == list(events.deltas(more))
    assert expected == list(messages.deltas({"type": "content_block_delta", "delta": piece}))


@pytest.mark.parametrize("index", [*COLLIDING, -1, 2])
def test_an_index_of_a_vector_that_belongs_to_no_text_is_refused(index):
    rows = [{"index": 0, "embedding": [1]}, {"index": index, "embedding": [1]}]

    with pytest.raises(SenselessAnswerError, match="2 embeddings for 2 texts"):
        embeddings_of({"data": rows}, 2)


def test_rows_that_are_too_many_are_not_looked_at():
    class Row:
        def __getattribute__(self, name):
            raise AssertionError("looked at")

    with pytest.raises(SenselessAnswerError, match="3 embeddings for 1 texts"):
        embeddings_of({"data": [Row()] * 3}, 1)


def test_a_refusal_in_many_pieces_is_joined_once():
    chunks, events = Chunks(), ResponseEvents()
    for word in ("I ", "won't."):
        list(chunks.deltas({"choices": [{"delta": {"refusal": Piece(word)}}]}))
        list(events.deltas({"type": "response.refusal.delta", "delta": Piece(word)}))

    with pytest.raises(SenselessAnswerError, match=r"I won't\."):
        list(chunks.deltas({"choices": [{"delta": {}, "finish_reason": "stop"}]}))
    with pytest.raises(SenselessAnswerError, match=r"I won't\."):
        list(events.deltas({"type": "response.completed", "response": {}}))


def test_arguments_in_many_pieces_are_joined_once():
    answer = StreamedAnswer()
    for text in ('{"a"', ": 1", "}"):
        answer.add(Delta(tool_calls=(ToolCallPiece(0, "a", "add", Piece(text)),)))

    assert {"a": 1} == answer.response().tool_calls[0].arguments


def test_an_answer_of_chat_is_smaller_than_vectors_are():
    padded = b'{"a": 1}' + b" " * (8 * MEGABYTE)

    with pytest.raises(SenselessAnswerError, match="larger than an answer can be"):
        parsed(padded)

    assert {"a": 1} == parsed(padded, largest=9 * MEGABYTE)


@pytest.mark.parametrize(
    ("content", "largest"),
    [
        (b"[]," * (MEGABYTE // 8), 8 * MEGABYTE),
        (b"{}," * (MEGABYTE // 8), 8 * MEGABYTE),
        (b"1," * MEGABYTE, 8 * MEGABYTE),
        (b'"%s",' % (rb"\n" * (MEGABYTE // 2)), 8 * MEGABYTE),
        (b"[]," * (MEGABYTE // 8), 64 * MEGABYTE),
        (b"1," * (8 * MEGABYTE), 64 * MEGABYTE),
    ],
)
def test_an_answer_of_countless_parts_is_not_parsed(content, largest):
    with pytest.raises(SenselessAnswerError, match="more parts than an answer can have"):
        parsed(b'{"a": [%s 1]}' % content, largest=largest)


def test_many_vectors_have_more_parts_than_other_answers():
    content = b'{"a": [%s 1]}' % (b"1," * MEGABYTE)

    assert MEGABYTE + 1 == len(parsed(content, largest=9 * MEGABYTE)["a"])


@pytest.mark.parametrize("line", [b"data:ab\n", b"data:\n", b"x", b": comment"])
def test_an_event_that_never_ends_is_refused(line):
    events = Events()
    coming = (event for _ in range(300) for event in events.fed(line * 100_000))

    with pytest.raises(SenselessAnswerError, match="larger than an event can be"):
        list(coming)


def test_many_events_and_comments_are_together_larger_than_one_may_be():
    events = Events()
    whole = (b"data: " + b"x" * MEGABYTE + b"\n\n", b": keep-alive\n" * 50_000)

    found = [len(list(events.fed(piece))) for _ in range(20) for piece in whole]

    assert [1, 0] * 20 == found


def test_a_piece_of_many_lines_is_taken_apart_bit_by_bit():
    """However many lines a packed piece has: a megabyte of them at once are tens in memory."""
    events = Events()
    fed = events.fed(b"data: 1\r\n\r\n" * 100_000)

    assert [b"1", b"1"] == [next(fed).data, next(fed).data]
    assert 99_998 == sum(event.data == b"1" for event in fed)
    assert events.are_whole


@pytest.mark.parametrize(
    "line", [b"\n", b":\n", b"event: a\n", b"id: 1\n", b"data\ndata: 1\n" + b"data:\n" * 98 + b"\n"]
)
def test_lines_without_end_that_bring_no_data_are_refused(line):
    events = Events()
    coming = (
        event for _ in range(30) for event in events.fed(line * (100_000 // line.count(b"\n")))
    )

    with pytest.raises(SenselessAnswerError, match="more lines without data than an answer can"):
        list(coming)


def test_more_tool_calls_than_an_answer_can_have_are_refused():
    calls = [{"function": {"name": "add"}}] * 4097
    items = [{"type": "function_call", "name": "add"}] * 4097

    for read, answer in (
        (chat_response, {"choices": [{"message": {"tool_calls": calls}}]}),
        (responses_response, {"output": items}),
    ):
        with pytest.raises(SenselessAnswerError, match="calls more tools than an answer can"):
            read(answer)


@pytest.mark.parametrize("vector", [[1] * 65_537, "A" * 349_530])
def test_a_vector_of_more_numbers_than_any_has_is_refused(vector, monkeypatch):
    monkeypatch.setattr(embeddings, "b64decode", None)  # not even decoded

    with pytest.raises(SenselessAnswerError, match="more numbers than a vector can"):
        embeddings_of({"data": [{"embedding": vector}]}, 1)


def test_a_vector_of_65536_numbers_is_read_however_it_is_written():
    packed = b64encode(struct.pack("<65536f", *[1.0] * 65_536)).decode()
    rows = [{"embedding": packed}, {"embedding": [1.0] * 65_536}]

    one, other = embeddings_of({"data": rows}, 2).vectors

    assert 65_536 == len(one)
    assert one == other


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_vector_without_bounds_is_refused(bad):
    packed = b64encode(struct.pack("<2f", 1.0, bad)).decode()

    for vector in ([1.0, bad], packed):
        with pytest.raises(SenselessAnswerError, match="no list of numbers"):
            embeddings_of({"data": [{"embedding": vector}]}, 1)


def test_vectors_of_different_lengths_are_refused():
    rows = [{"embedding": [1.0, 2.0]}, {"embedding": [1.0]}]

    with pytest.raises(SenselessAnswerError, match="embeddings of different lengths"):
        embeddings_of({"data": rows}, 2)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (rb'"a \ud800 b"', "a \ufffd b"),
        (rb'"\uDC00\uD800"', "\ufffd\ufffd"),
        (rb'"\ud83d\ude00 \u00e9"', "\U0001f600 \u00e9"),
        (rb'"\\ud800 \n\"\\\ud800"', '\\ud800 \n"\\\ufffd'),
        (b'"\xed\xa0\x80"', "\ufffd"),
        (b'\xef\xbb\xbf"\xed\x95\x9c"', "\ud55c"),
    ],
)
def test_half_of_a_character_is_replaced_when_it_is_read(content, expected):
    """A lone surrogate could not be sent back in the next round of a conversation."""
    table = b'{"a": %s}' % content.removeprefix(BOM)
    found = parsed(BOM + table if content.startswith(BOM) else table)

    assert {"a": expected} == found


def test_broken_bytes_are_no_valid_json():
    with pytest.raises(SenselessAnswerError, match="no valid JSON"):
        parsed(b'{"a": "\xed"}')


def test_half_of_a_character_in_arguments_is_replaced():
    assert {"a": "\ufffd", "b": "\U0001f600"} == arguments_of(
        "add", r'{"a": "\udead", "b": "\ud83d\ude00"}'
    )
