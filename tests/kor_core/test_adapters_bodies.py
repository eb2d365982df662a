"""Bodies of answers: packed ones are unpacked, and none may be larger than an answer can be."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from kor_core import errors
from kor_core.adapters.exchange import Exchange as Watched
from kor_core.adapters.httpx import _unpacked
from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIProvider
from kor_core.settings import NetworkSettings
from kor_core.testing import Upstream
from kor_core.testing.answers import Answer, Exchange, Part
from kor_core.testing.faults import Fault

MEGABYTE = 1 << 20
HELLO = json.dumps({"choices": [{"message": {"content": "Hello!"}}]}).encode()


@dataclass(frozen=True)
class Packed(Fault):
    """A body that says how it is compressed."""

    content: bytes
    encoding: str
    status: int = 200

    def answer(self, exchange: Exchange) -> Answer:
        del exchange
        headers = (("content-type", "application/json"), ("content-encoding", self.encoding))
        return Answer(self.status, headers, (Part(self.content),))


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


def answer_to(fault: Fault, upstream: Upstream) -> str:
    upstream.play(fault)
    config = {"api_key": "sk-mine", "base_url": upstream.openai_url}
    model = OpenAIProvider(Transport(NetworkSettings())).create_model("gpt-4", config)
    return asyncio.run(model.agenerate("Hello!"))


def bomb(megabytes: int) -> bytes:
    packing = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    pieces = [packing.compress(b" " * MEGABYTE) for _ in range(megabytes)]
    return b"".join([*pieces, packing.flush()])


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (HELLO, "identity"),
        (gzip.compress(HELLO), "gzip"),
        (gzip.compress(HELLO), "X-GZip"),
        (zlib.compress(HELLO), "deflate"),
        (gzip.compress(zlib.compress(HELLO)), "deflate, gzip"),
    ],
    ids=["plain", "gzip", "x-gzip", "deflate", "twice"],
)
def test_a_packed_answer_is_read(body: bytes, encoding: str, upstream: Upstream) -> None:
    assert "Hello!" == answer_to(Packed(body, encoding), upstream)
    assert "gzip, deflate" == upstream.requests[0].headers["accept-encoding"]


@pytest.mark.parametrize(
    ("body", "encoding", "told"),
    [
        (bomb(65), "gzip", "larger than an answer can be"),
        (bytes(65 * MEGABYTE), "identity", "larger than an answer can be"),
        (gzip.compress(HELLO)[:-9], "gzip", "broken, or compressed"),
        (HELLO, "gzip", "broken, or compressed"),
        (HELLO, "br", "broken, or compressed"),
        (HELLO, "gzip, gzip, gzip", "broken, or compressed"),
        (b"", "gzip", "the body is empty"),
    ],
    ids=["bomb", "huge", "cut", "not packed", "brotli", "thrice", "nothing"],
)
def test_an_answer_that_cannot_be_taken_in_is_refused(
    body: bytes, encoding: str, told: str, upstream: Upstream
) -> None:
    with pytest.raises(errors.ProviderError, match=told):
        answer_to(Packed(body, encoding), upstream)


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_a_complaint_may_be_but_small_and_its_status_counts(
    encoding: str, upstream: Upstream
) -> None:
    body = bomb(2) if encoding == "gzip" else b" " * (2 * MEGABYTE)

    with pytest.raises(errors.AuthenticationError) as caught:
        answer_to(Packed(body, encoding, 401), upstream)

    assert 401 == caught.value.status


class ByteByByte:
    """An answer whose body comes one byte at a time, most of which unpack to nothing."""

    status = 200

    def __init__(self, body):
        self._body = body

    async def pieces(self):
        for byte in self._body:
            yield bytes([byte])

    def close(self):
        pass


async def test_a_packed_stream_is_unpacked_however_it_is_cut():
    packed = gzip.compress(HELLO)
    pieces = [piece async for piece in _unpacked(ByteByByte(packed), "gzip", Watched())]

    assert HELLO == b"".join(pieces)
    assert len(pieces) < len(packed)
    assert b"" not in pieces
