"""What a provider answered is recorded once, without secrets, and plays without the provider."""

import asyncio
import json
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from kor_core.adapters.litellm import LiteLLMProvider
from kor_core.adapters.network import Transport
from kor_core.adapters.openai import SDK, OpenAIProvider
from kor_core.errors import KernelError, LLMError, RateLimitError, RealCallsBlockedError
from kor_core.llm.base import BaseLLMModel
from kor_core.redaction import MASK
from kor_core.settings import NetworkSettings
from kor_core.testing import (
    CassetteError,
    NotOnCassetteError,
    Reply,
    Upstream,
    block_real_calls,
    cassette,
)
from kor_core.testing.faults import Cut
from kor_core.testing.masking import Mask
from kor_core.testing.tape import RecordedAnswer, read_body, readable

KEY = "sk-planted-0123456789"
Maker = Callable[[Upstream], BaseLLMModel]


def transport() -> Transport:
    return Transport(NetworkSettings(trust_env=False))


def openai_model(upstream: Upstream, **config: Any) -> BaseLLMModel:
    config = {"api_key": KEY, "base_url": upstream.openai_url, **config}
    return OpenAIProvider(transport()).create_model("gpt-4o", config)


def anthropic_model(upstream: Upstream) -> BaseLLMModel:
    config = {"api_key": KEY, "base_url": upstream.url}
    return LiteLLMProvider(transport()).create_model("claude-3-opus-20240229", config)


def gemini_model(upstream: Upstream) -> BaseLLMModel:
    """Its key stands in the URL or in a header of its own."""
    config = {"api_key": KEY, "base_url": f"{upstream.gemini_url}/models/gemini-pro"}
    return LiteLLMProvider(transport()).create_model("gemini/gemini-pro", config)


MAKERS = [openai_model, anthropic_model]


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    return tmp_path / "tapes" / "one.json"


def written(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# --- record once, play ever after -----------------------------------------------------------


@pytest.mark.parametrize("maker", MAKERS)
async def test_what_was_recorded_plays_without_the_provider(maker: Maker, tape: Path):
    """Also inside a block of all real calls, and with another key."""
    with Upstream() as upstream:
        upstream.reply("Recorded, “once”.")
        model = maker(upstream)
        with cassette(tape) as recording:
            assert recording.recording
            assert "Recorded, “once”." == await model.agenerate("Hello!")
        assert 1 == len(upstream.requests)

        with block_real_calls(allow_loopback=False), cassette(tape) as playing:
            answer = await maker(upstream).agenerate("Hello!")

        assert not playing.recording
        assert () == playing.unplayed
        assert 1 == len(playing.exchanges)
        assert "Recorded, “once”." == answer
        assert 1 == len(upstream.requests)


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
async def test_either_client_streams_from_a_cassette(library: Any, tape: Path):
    """Byte for byte what was streamed, event by event."""
    pytest.importorskip(library, reason="openai 3 brings httpx2, openai 2 httpx")
    with Upstream() as upstream:
        upstream.reply(Reply(deltas=("Grüße", " aus", " dem ♥")))
        url = f"{upstream.openai_url}/chat/completions"
        body = {"model": "m", "messages": [{"role": "user", "content": "?"}], "stream": True}

        async def streamed() -> list[bytes]:
            client = transport().client(library)
            response = await client.send(client.build_request("POST", url, json=body), stream=True)
            return [piece async for piece in response.aiter_raw()]

        with cassette(tape):
            recorded = await streamed()
        with cassette(tape, "replay"), block_real_calls(allow_loopback=False):
            played = await streamed()

    assert b"".join(recorded) == b"".join(played)
    assert len(played) == b"".join(recorded).count(b"\n\n")
    assert all(line.endswith("\n\n") for line in answer_of(tape)["stream"])


def answer_of(path: Path, number: int = 0) -> Any:
    return written(path)["exchanges"][number]["response"]


async def test_the_sdk_streams_from_a_cassette(tape: Path):
    with Upstream() as upstream:
        upstream.reply("one two three")
        config = {"api_key": KEY, "base_url": upstream.openai_url}

        async def streamed() -> str:
            client = SDK().client(transport(), config)
            stream = await client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "?"}], stream=True
            )
            chunks = [chunk async for chunk in stream]
            return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)

        with cassette(tape):
            await streamed()
        with cassette(tape, "replay"), block_real_calls(allow_loopback=False):
            assert "one two three" == await streamed()


async def test_a_stream_left_early_plays_as_far_as_it_was_read(tape: Path):
    with Upstream() as upstream:
        upstream.reply(Reply(deltas=("one", "two", "three")))
        url = f"{upstream.openai_url}/chat/completions"
        body = {"model": "m", "messages": [{"role": "user", "content": "?"}], "stream": True}
        client = transport().client("httpx")
        with cassette(tape):
            response = await client.send(client.build_request("POST", url, json=body), stream=True)
            first = await anext(response.aiter_raw())
            await response.aclose()

    assert first.decode() == "".join(answer_of(tape)["stream"])


async def test_a_broken_stream_is_not_recorded(tape: Path):
    with Upstream() as upstream:
        upstream.play(Cut(after_deltas=1))
        url = f"{upstream.openai_url}/chat/completions"
        body = {"model": "m", "messages": [{"role": "user", "content": "?"}], "stream": True}
        client = transport().client("httpx")
        with cassette(tape) as recording:
            response = await client.send(client.build_request("POST", url, json=body), stream=True)
            with pytest.raises(Exception, match="broke"):
                await response.aread()
            await response.aclose()

    assert () == recording.exchanges
    assert not tape.exists()


async def test_refusals_are_recorded_with_what_they_say(tape: Path):
    """A refused key comes back as the same error when it is played."""
    with Upstream() as upstream:
        upstream.fail(429, retry_after=7)
        model = openai_model(upstream)
        with cassette(tape), pytest.raises(RateLimitError) as real:
            await model.agenerate("Hello!")
        with cassette(tape), pytest.raises(RateLimitError) as played:
            await model.agenerate("Hello!")

    assert str(real.value) == str(played.value)
    assert 7 == played.value.retry_after
    assert 1 == len(upstream.requests)


async def test_equal_requests_play_in_the_order_in_which_they_were_recorded(tape: Path):
    with Upstream() as upstream:
        upstream.reply("first", "second")
        model = openai_model(upstream)
        with cassette(tape):
            recorded = [await model.agenerate("Again?") for _ in range(2)]
        with cassette(tape) as playing:
            played = [await model.agenerate("Again?")]
            assert 1 == len(playing.unplayed)
            played.append(await model.agenerate("Again?"))

    assert ["first", "second"] == recorded == played


async def test_concurrent_calls_each_get_their_own_answer(tape: Path):
    with Upstream() as upstream:
        model = openai_model(upstream)

        async def all_of_them() -> list[str]:
            return await asyncio.gather(*(model.agenerate(f"number {n}") for n in range(10)))

        with cassette(tape):
            recorded = await all_of_them()
        with cassette(tape):
            assert recorded == await all_of_them()


def test_sync_calls_are_served_too(tape: Path):
    """They run on a loop in another thread."""
    with Upstream() as upstream:
        model = openai_model(upstream)
        with cassette(tape):
            recorded = model.generate("Hello!")
        with cassette(tape), block_real_calls(allow_loopback=False):
            assert recorded == model.generate("Hello!")


async def test_the_innermost_cassette_serves(tape: Path):
    with Upstream() as upstream:
        model = openai_model(upstream)
        with cassette(tape.with_name("outer.json")) as outer, cassette(tape):
            await model.agenerate("Hello!")

    assert () == outer.exchanges
    assert tape.exists()


# --- modes ----------------------------------------------------------------------------------


async def test_recording_anew_takes_the_place_of_what_was_recorded(tape: Path):
    with Upstream() as upstream:
        upstream.reply("old", "new")
        model = openai_model(upstream)
        for mode in ("once", "record"):
            with cassette(tape, mode):
                await model.agenerate("Hello!")
        with cassette(tape):
            assert "new" == await model.agenerate("Hello!")


def test_replaying_what_was_never_recorded_says_so(tape: Path):
    with pytest.raises(CassetteError, match="no such file") as caught, cassette(tape, "replay"):
        pass

    assert tape == caught.value.path


async def test_a_block_that_fails_records_nothing(tape: Path):
    """So that a test that failed half-way is recorded anew, not played half."""
    with Upstream() as upstream:
        model = openai_model(upstream)
        with suppress(ZeroDivisionError), cassette(tape) as recording:
            await model.agenerate("Hello!")
            _ = 1 / 0

    assert 1 == len(recording.exchanges)
    assert not tape.exists()


def test_a_block_without_calls_records_nothing(tape: Path):
    with cassette(tape):
        pass

    assert not tape.exists()


async def test_recording_is_a_real_call(tape: Path, escapes: list[str]):
    """Where those are blocked, the error says which cassette wanted to record it."""
    config = {"api_key": KEY, "base_url": "https://api.openai.com/v1"}
    model = OpenAIProvider(transport()).create_model("gpt-4o", config)

    with block_real_calls(), cassette(tape), pytest.raises(RealCallsBlockedError) as caught:
        await model.agenerate("Hello!")

    assert "one.json" in caught.value.__notes__[0]
    assert [] == escapes


async def test_a_closed_transport_plays_nothing(tape: Path):
    closed = transport()
    closed.close()
    with Upstream() as upstream:
        config = {"api_key": KEY, "base_url": upstream.openai_url}
        model = OpenAIProvider(closed).create_model("gpt-4o", config)
        with cassette(tape), pytest.raises(KernelError):
            await model.agenerate("Hello!")


# --- requests that are not on it ------------------------------------------------------------


async def test_a_request_that_is_not_on_the_cassette_is_told_from_the_nearest(tape: Path):
    with Upstream() as upstream:
        model = openai_model(upstream)
        with cassette(tape):
            await model.agenerate("Something else altogether", temperature=1, top_p=1)
            await model.agenerate("Hello!", temperature=0)
        with cassette(tape), pytest.raises(NotOnCassetteError) as caught:
            await model.agenerate("Hullo!", temperature=0)

    assert 2 == caught.value.nearest
    assert ('json.messages[0].content: sent "Hullo!", recorded "Hello!"',) == (
        caught.value.differences
    )
    assert "nearest is exchange 2 of 2" in str(caught.value)
    assert caught.value.differences[0] in str(caught.value)
    assert "Hullo!" == caught.value.request.body["json"]["messages"][0]["content"]


async def test_of_many_and_long_differences_the_first_are_shown(tape: Path):
    with Upstream() as upstream:
        model = openai_model(upstream)
        with cassette(tape):
            await model.agenerate("a" * 200, temperature=1, top_p=1)
        with cassette(tape), pytest.raises(NotOnCassetteError) as caught:
            await model.agenerate("b" * 200, seed=1, max_tokens=1)

    assert 5 == len(caught.value.differences)
    assert "and 2 more" in str(caught.value)
    assert max(map(len, str(caught.value).splitlines()[1:])) < 200
    assert any("sent nothing" in line for line in caught.value.differences)


@pytest.mark.parametrize(("times", "words"), [(1, "once"), (2, "2 times")])
async def test_a_request_sent_too_often_says_how_often_it_was_recorded(
    times: int, words: str, tape: Path
):
    with Upstream() as upstream:
        model = openai_model(upstream)
        with cassette(tape):
            for _ in range(times):
                await model.agenerate("Hello!")
        with cassette(tape):
            for _ in range(times):
                await model.agenerate("Hello!")
            with pytest.raises(NotOnCassetteError, match=rf"recorded \({words}\)") as caught:
                await model.agenerate("Hello!")

    assert caught.value.nearest is None


async def test_an_empty_cassette_says_that_it_is_empty(tape: Path):
    tape.parent.mkdir()
    tape.write_text('{"cassette": 1, "exchanges": []}')
    with Upstream() as upstream:
        model = openai_model(upstream)
        with cassette(tape), pytest.raises(NotOnCassetteError, match="empty"):
            await model.agenerate("Hello!")


async def test_a_missing_recording_fails_the_test_and_is_nothing_to_retry(tape: Path):
    with Upstream() as upstream:
        model = anthropic_model(upstream)
        with cassette(tape):
            await model.agenerate("Hello!")
        with cassette(tape), pytest.raises(NotOnCassetteError) as caught:
            await model.agenerate("Hullo!")

    assert isinstance(caught.value, AssertionError)
    assert not isinstance(caught.value, LLMError)
    assert str(caught.value) == str(pickle.loads(pickle.dumps(caught.value)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting"),
        ("[]", "it is no cassette"),
        ("{}", "it is no cassette"),
        ('{"cassette": 2}', "of version 2"),
        ('{"cassette": 1, "exchanges": [{}]}', "it is no cassette"),
        ('{"cassette": 1, "exchanges": [{"request": 1, "response": 2}]}', "it is no cassette"),
    ],
)
def test_a_file_that_is_no_cassette_is_refused(tmp_path: Path, text: str, reason: str):
    path = tmp_path / "broken.json"
    path.write_text(text)

    with pytest.raises(CassetteError, match=reason) as caught, cassette(path):
        pass
    assert "broken.json" in str(caught.value)


# --- secrets --------------------------------------------------------------------------------


@pytest.mark.parametrize("maker", [*MAKERS, gemini_model])
async def test_no_secret_is_ever_written(maker: Maker, tape: Path):
    """Neither the key, nor cookies, nor what the provider says of them."""
    cookie = "session-cookie-planted"
    with Upstream() as upstream:
        upstream.reply(
            Reply(f"You sent {KEY}.", headers={"set-cookie": f"id={cookie}; Path=/; Secure"})
        ).reply(f"Your cookie is {cookie}.")
        model = maker(upstream)
        with cassette(tape):
            for prompt in ("Who am I?", f"Is it {KEY}?"):
                await model.agenerate(prompt)
        with cassette(tape) as playing:
            for prompt in ("Who am I?", f"Is it {KEY}?"):
                await model.agenerate(prompt)

    text = tape.read_text(encoding="utf-8")
    assert KEY not in text
    assert cookie not in text
    assert "set-cookie" not in text.lower()
    assert "authorization" not in text.lower()
    assert "You sent **********." in text
    assert () == playing.unplayed


async def test_a_parameter_of_a_url_is_masked_by_its_look_and_elsewhere_too(tape: Path):
    """As in errors: a switch or a version can be read."""
    query = {"code": "planted-query", "api-version": "2024-02-01", "alt": "sse"}
    with Upstream() as upstream:
        upstream.reply("Who sent planted-query?")
        with cassette(tape):
            await openai_model(upstream, extra_query=query).agenerate("Hello!")
        with cassette(tape, "replay"):
            await openai_model(upstream, extra_query={**query, "code": "another-one"}).agenerate(
                "Hello!"
            )

    url = written(tape)["exchanges"][0]["request"]["url"]
    assert "planted-query" not in tape.read_text(encoding="utf-8")
    assert url.endswith(f"?alt=sse&api-version=2024-02-01&code={MASK}")


async def test_what_stands_under_the_name_of_a_secret_is_masked(tape: Path):
    """In URLs, bodies, streamed lines and JSON inside texts; numbers and log probabilities stay."""
    planted = "planted-in-a-field"
    said = {
        "usage": {"prompt_tokens": 3},
        "logprobs": [{"token": "Hello", "logprob": -0.1}],
        "arguments": json.dumps({"password": "planted-too", "city": "Ulm"}),
        "odd": "{no json",
        "list": [{"api_key": ["planted-three"], "secret": {"deep": "planted-four"}}],
        planted: "a key of the table",
    }
    with Upstream() as upstream:
        upstream.reply(json.dumps(said))
        client = transport().client("httpx")
        url = f"{upstream.openai_url.replace('//', '//user:planted-six@')}/chat/completions"
        messages = [{"role": "user", "content": "?"}]
        body = {"model": "m", "messages": messages, "token": planted, "headers": {"n": 1}}

        async def asked() -> Any:
            response = await client.post(f"{url}?key=planted-five&b=2&a=1", json=body)
            return response.json()

        with cassette(tape):
            await asked()
        with cassette(tape, "replay"):
            answer = await asked()

    text = tape.read_text(encoding="utf-8")
    assert "planted" not in text
    assert "?a=1&b=2&key=**********" in text
    kept = json.loads(answer["choices"][0]["message"]["content"])
    assert {"prompt_tokens": 3} == kept["usage"]
    assert said["logprobs"] == kept["logprobs"]
    assert {"password": "**********", "city": "Ulm"} == json.loads(kept["arguments"])
    assert "{no json" == kept["odd"]


async def test_streamed_lines_are_masked_one_by_one(tape: Path):
    with Upstream() as upstream:
        deltas = ("fine ", f"{KEY} ", '{"password": "planted-too"}')
        upstream.reply(Reply(deltas=deltas))
        config = {"api_key": KEY, "base_url": upstream.openai_url}
        client = SDK().client(transport(), config)
        with cassette(tape):
            stream = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "?"}], stream=True
            )
            _ = [chunk async for chunk in stream]

    text = tape.read_text(encoding="utf-8")
    assert KEY not in text
    assert "planted" not in text
    assert "fine " in text


async def test_secrets_are_sought_in_what_was_noted_before_they_were_known(tape: Path):
    with Upstream() as upstream, cassette(tape):
        await openai_model(upstream, api_key="first-key-1").agenerate("second-key-2")
        await openai_model(upstream, api_key="second-key-2").agenerate("Hello!")

    assert "second-key-2" not in tape.read_text(encoding="utf-8")


async def test_an_answer_that_comes_compressed_all_the_same_is_refused(tape: Path):
    """Nobody could say what is in it."""
    with Upstream(headers={"content-encoding": "br"}) as upstream:
        model = openai_model(upstream)
        with cassette(tape), pytest.raises(CassetteError, match=r"compressed \(br\)"):
            await model.agenerate("Hello!")

    assert not tape.exists()
    assert ["identity"] == [r.headers["accept-encoding"] for r in upstream.requests]


def test_secrets_in_lists_are_masked_and_learned():
    mask = Mask()
    mask.learn([], "", {"keys": ["planted-one", {"note": "planted-two"}, 3]})

    assert {"secret": [MASK, {"deep": MASK}, 3]} == mask.value({"secret": ["x", {"deep": "y"}, 3]})
    assert f"{MASK} {MASK}" == mask.text("planted-one planted-two")
    assert [{"safe": MASK}] == mask.learned([{"safe": "planted-one"}])


def test_every_cookie_of_a_request_is_learned():
    mask = Mask()
    mask.learn([(b"Cookie", b"one=planted-one; two=planted-two; lang=en")], "", {})

    assert f"{MASK}, {MASK} in en" == mask.text("planted-one, planted-two in en")


def test_lines_of_a_stream_are_masked_with_and_without_a_name():
    mask = Mask()

    assert 'data: {"key": "**********"}\n\n' == mask.line('data: {"key": "one"}\n\n')
    assert '{"key": "**********"}\n' == mask.line('{"key": "two"}\n')
    assert "\n\n" == mask.line("\n\n")
    assert "event: ping\n" == mask.line("event: ping\n")


# --- the file -------------------------------------------------------------------------------


async def test_the_file_is_readable_and_stable(tmp_path: Path):
    """Recorded twice it is the same, but for what the provider itself changes."""
    texts: list[str] = []
    for name in ("a.json", "b.json"):
        with Upstream() as upstream:
            model = openai_model(upstream)
            with cassette(tmp_path / name):
                for prompt in ("z", "a"):
                    await model.agenerate(prompt, temperature=0)
            texts.append((tmp_path / name).read_text().replace(upstream.url, ""))
    first, second = (json.loads(text)["exchanges"] for text in texts)

    assert [{"role": "user", "content": "z"}] == first[0]["request"]["json"]["messages"]
    assert {"method", "url", "json"} == first[0]["request"].keys()
    assert {"status", "headers", "json"} == first[0]["response"].keys()
    assert "application/json" == first[0]["response"]["headers"]["content-type"]
    assert [item["request"] for item in first] == [item["request"] for item in second]
    assert texts[0].index('"exchanges"') < texts[0].index('"request"') < texts[0].index('"url"')
    assert ["a.json", "b.json"] == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    "body", [b"", b"words", b"\xff\x00", b'{"a": [1, "\xc3\xbc"]}', b"{broken"]
)
def test_every_body_can_be_written_and_read(body: bytes):
    assert body == read_body(readable(body))
    assert body == b"".join(RecordedAnswer(200, {}, readable(body, streamed=True)).pieces())


def test_a_cassette_says_what_it_does(tape: Path):
    with cassette(tape) as recording:
        assert repr(recording) == f"<Cassette {tape} recording>"


async def test_bodies_that_are_no_json_survive(tape: Path):
    """Text as text, bytes as base64, nothing as nothing."""
    bodies = [b"plain words", b"\xff\xfe\x00", b"", b"{broken"]
    with Upstream() as upstream:
        client = transport().client("httpx")
        url = f"{upstream.url}/nowhere"

        async def asked() -> list[tuple[int, bytes]]:
            answers = [await client.post(url, content=body) for body in bodies]
            return [(answer.status_code, answer.content) for answer in answers]

        with cassette(tape):
            recorded = await asked()
        with cassette(tape, "replay"):
            played = await asked()

    assert [status for status, _ in recorded] == [status for status, _ in played]
    assert [json.loads(said) for _, said in recorded] == [json.loads(said) for _, said in played]
    requests = [item["request"] for item in written(tape)["exchanges"]]
    kinds = [{*request} - {"method", "url"} for request in requests]
    assert [{"text"}, {"base64"}, set(), {"text"}] == kinds


def test_secrets_are_masked_in_other_spellings_too():
    mask, secret = Mask(), 'sk-planted+/"0123456789'
    mask.learn([(b"Authorization", f"Bearer {secret}".encode())], "", {})
    spelled = [secret, json.dumps(secret)[1:-1], quote(secret, safe=""), quote_plus(secret)]

    assert " ".join([MASK] * 4) == mask.text(" ".join(spelled))
