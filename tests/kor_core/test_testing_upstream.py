"""The upstream answers as the vendors do: the official SDK takes its answers for real ones."""

import json

import httpx
import openai
import pytest
from pydantic import BaseModel

from kor_core.testing import ALWAYS, Received, Reply, ToolCall, Upstream
from kor_core.testing.faults import Status

HELLO = [{"role": "user", "content": "Hello there!"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


class Place(BaseModel):
    city: str
    days: int


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def client(upstream):
    # By default the SDK builds its models unchecked; strictly it refuses what does not fit.
    with openai.OpenAI(
        api_key="sk-planted",
        base_url=upstream.openai_url,
        max_retries=0,
        _strict_response_validation=True,
    ) as client:
        yield client


@pytest.fixture
def lenient(upstream):
    # The SDK's own base64, which it decodes later, does not pass its strict validation.
    with openai.OpenAI(api_key="sk-planted", base_url=upstream.openai_url, max_retries=0) as client:
        yield client


def test_chat_echoes_the_last_user_message_by_default(upstream, client) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "First"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": [{"type": "text", "text": "Hello there!"}]},
    ]

    answer = client.chat.completions.create(model="gpt-4", messages=messages)

    assert answer.choices[0].message.content == "Hello there!"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "gpt-4"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (6, 2)
    assert answer._request_id == "req_000000000000000000000001"


def test_a_chat_stream_brings_deltas_usage_and_the_reason(upstream, client) -> None:
    upstream.reply(Reply(deltas=("Hel", "lo"), cached_tokens=1, reasoning_tokens=2))

    with client.chat.completions.create(
        model="gpt-4", messages=HELLO, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)

    texts = [choice.delta.content for chunk in chunks for choice in chunk.choices]
    assert texts == ["", "Hel", "lo", None]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens == 1
    assert chunks[-1].usage.completion_tokens == 3


def test_a_stream_has_no_usage_unless_asked_for(upstream, client) -> None:
    with client.chat.completions.create(model="gpt-4", messages=HELLO, stream=True) as stream:
        chunks = list(stream)

    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


def test_tool_calls_come_whole_and_in_a_stream(upstream, client) -> None:
    upstream.call_tool("weather", {"city": "Oslo"}, times=2)

    whole = client.chat.completions.create(model="gpt-4", messages=HELLO, tools=[WEATHER])
    with client.chat.completions.stream(model="gpt-4", messages=HELLO, tools=[WEATHER]) as stream:
        streamed = stream.get_final_completion()

    for answer in (whole, streamed):
        choice = answer.choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.tool_calls[0].function.name == "weather"
        assert json.loads(choice.message.tool_calls[0].function.arguments) == {"city": "Oslo"}
    assert whole.choices[0].message.content is None


def test_malformed_arguments_go_out_as_they_are(upstream, client) -> None:
    upstream.reply(Reply("Wait", tool_calls=(ToolCall("weather", '{"city":', id="call_x"),)))

    message = client.chat.completions.create(model="gpt-4", messages=HELLO).choices[0].message

    assert message.content == "Wait"
    assert message.tool_calls[0].id == "call_x"
    assert message.tool_calls[0].function.arguments == '{"city":'


def test_an_echo_follows_the_schema_asked_for(upstream, client) -> None:
    answer = client.chat.completions.parse(model="gpt-4", messages=HELLO, response_format=Place)
    free = client.chat.completions.create(
        model="gpt-4", messages=HELLO, response_format={"type": "json_object"}
    )

    assert answer.choices[0].message.parsed == Place(city="Hello there!", days=1)
    assert json.loads(free.choices[0].message.content) == {"text": "Hello there!"}


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}]
)
def test_a_forced_tool_is_called_with_arguments_that_fit(upstream, client, choice) -> None:
    upstream.reply('{"city": "Oslo"}', at=2)
    ask = {"model": "gpt-4", "messages": HELLO, "tools": [WEATHER], "tool_choice": choice}

    echoed = client.chat.completions.create(**ask).choices[0].message
    scripted = client.chat.completions.create(**ask).choices[0].message

    assert json.loads(echoed.tool_calls[0].function.arguments) == {"city": "Hello there!"}
    assert json.loads(scripted.tool_calls[0].function.arguments) == {"city": "Oslo"}
    assert scripted.content is None


@pytest.mark.parametrize("text", ["plain words", "{broken"])
def test_a_scripted_text_that_is_no_object_stays_a_text_though_a_tool_is_forced(
    upstream, client, text
) -> None:
    upstream.reply(text)

    answer = client.chat.completions.create(
        model="gpt-4", messages=HELLO, tools=[WEATHER], tool_choice="required"
    )

    assert answer.choices[0].message.content == text


def test_the_responses_api_answers_text_tools_and_reasons(upstream, client) -> None:
    upstream.reply(Reply("cut off", finish="length"), at=2)
    upstream.call_tool("weather", {"city": "Oslo"}, at=3)

    echoed = client.responses.create(
        model="gpt-4", instructions="Be brief.", input=[{"role": "user", "content": "Hello there!"}]
    )
    cut = client.responses.create(model="gpt-4", input="Hello there!")
    called = client.responses.create(model="gpt-4", input="Hello there!")

    assert echoed.output_text == "Hello there!"
    assert echoed.usage.input_tokens == 4
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert [item.type for item in called.output] == ["function_call"]
    assert called.output[0].arguments == '{"city":"Oslo"}'


def test_the_responses_api_streams_text_and_tools(upstream, client) -> None:
    upstream.reply(Reply("Let me see", tool_calls=(ToolCall("weather", {"city": "Oslo"}),)))

    with client.responses.stream(model="gpt-4", input="Hello there!") as stream:
        events = list(stream)
        final = stream.get_final_response()

    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert deltas == ["Let ", "me ", "see"]
    assert [event.sequence_number for event in events] == sorted(
        event.sequence_number for event in events
    )
    assert final.output_text == "Let me see"
    assert final.output[1].arguments == '{"city":"Oslo"}'


def test_the_responses_api_forces_tools_and_schemas(upstream, client) -> None:
    tool = {"type": "function", "strict": True, **WEATHER["function"]}

    parsed = client.responses.parse(model="gpt-4", input="Hello there!", text_format=Place)
    free = client.responses.create(
        model="gpt-4", input="Hello there!", text={"format": {"type": "json_object"}}
    )
    calls = [
        client.responses.create(model="gpt-4", input="Hi", tools=[tool], tool_choice=choice)
        for choice in ("required", {"type": "function", "name": "weather"})
    ]

    assert parsed.output_parsed == Place(city="Hello there!", days=1)
    assert json.loads(free.output_text) == {"text": "Hello there!"}
    assert [call.output[0].name for call in calls] == ["weather", "weather"]


def test_embeddings_come_as_floats_and_as_base64_the_same(upstream, lenient) -> None:
    ask = {"model": "embed", "input": ["cat", "dog"], "dimensions": 4}

    packed = lenient.embeddings.create(**ask)
    plain = lenient.embeddings.create(**ask, encoding_format="float")

    assert [item.index for item in packed.data] == [0, 1]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert len(one.embedding) == 4
    assert plain.data[0].embedding != plain.data[1].embedding
    assert (plain.usage.prompt_tokens, plain.usage.total_tokens) == (2, 2)


def test_embeddings_take_a_text_and_tokens_and_give_what_was_scripted(upstream, lenient) -> None:
    upstream.reply("for a chat").embed([1.0, 0.0], [0.0, 1.0])

    scripted = lenient.embeddings.create(model="embed", input=["a", "b"], encoding_format="float")
    text = lenient.embeddings.create(model="embed", input="a")
    tokens = lenient.embeddings.create(model="embed", input=[1, 2, 3])
    none = httpx.post(f"{upstream.openai_url}/embeddings", json={"model": "embed", "input": []})

    assert [item.embedding for item in scripted.data] == [[1.0, 0.0], [0.0, 1.0]]
    assert (len(text.data), len(tokens.data), len(none.json()["data"])) == (1, 1, 0)
    assert upstream.unplayed == 1  # the text waits for a request for text


def test_models_are_listed() -> None:
    with Upstream(models=["one", "two"]) as upstream:
        listed = openai.OpenAI(api_key="k", base_url=upstream.openai_url).models.list()

    assert [model.id for model in listed.data] == ["one", "two"]


def test_functions_answer_by_what_was_asked(upstream, client) -> None:
    def answer(received: Received) -> Reply:
        return Reply(f"{received.model} by {received.key}", headers={"set-cookie": "who=me"})

    upstream.reply(answer, times=ALWAYS)

    raw = client.chat.completions.with_raw_response.create(model="gpt-4", messages=HELLO)

    assert raw.parse().choices[0].message.content == "gpt-4 by sk-planted"
    assert raw.headers["set-cookie"] == "who=me"
    assert upstream.unplayed == 0


def test_a_function_that_fails_answers_500_and_is_raised_at_the_end() -> None:
    def broken(_: Received) -> str:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught, Upstream().reply(broken) as upstream:  # noqa: PT012  # the end of the block raises
        answer = httpx.post(
            f"{upstream.openai_url}/chat/completions", json={"model": "m", "messages": HELLO}
        )

        assert answer.status_code == 500

    assert caught.group_contains(ZeroDivisionError)


def test_an_error_in_the_block_is_not_hidden_by_one_of_the_script() -> None:
    with pytest.raises(LookupError), Upstream().reply(lambda _: str(1 / 0)) as upstream:  # noqa: PT012  # both fail
        httpx.post(
            f"{upstream.openai_url}/chat/completions", json={"model": "m", "messages": HELLO}
        )
        raise LookupError


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/chat/completions", b'{"model": "m"}', "Missing required parameter: 'messages'."),
        ("/v1/chat/completions", b"not json", "Missing required parameter: 'messages'."),
        ("/v1/embeddings", b'["a list"]', "Missing required parameter: 'input'."),
    ],
)
def test_a_body_that_the_vendor_refuses_is_refused(upstream, path, body, message) -> None:
    answer = httpx.post(upstream.url + path, content=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == message
    assert upstream.requests[0].body == body


def test_an_unknown_path_is_a_404_in_the_words_of_openai(upstream) -> None:
    answer = httpx.get(f"{upstream.openai_url}/nothing")

    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "Invalid URL (/v1/nothing)"
    assert upstream.requests[0].api == "none"


def test_everything_about_a_request_is_recorded(upstream) -> None:
    with httpx.Client(cookies={"session": "1", "tenant": "acme"}) as client:
        for _ in range(2):
            client.post(
                f"{upstream.url}/groq/v1/chat/completions?tag=a&tag=b",
                json={"model": "llama", "messages": HELLO, "stream": False},
                headers={"x-trace": "7"},
            )

    first, second = upstream.requests
    assert (first.method, first.path, first.query) == (
        "POST",
        "/groq/v1/chat/completions",
        {"tag": "b"},
    )
    assert first.headers["X-Trace"] == "7"
    assert first.json == json.loads(first.body)
    assert (first.model, first.text, first.streamed) == ("llama", "Hello there!", False)
    assert first.cookies == {"session": "1", "tenant": "acme"}
    assert first.key is None
    assert (first.connection, second.connection) == (1, 1)
    assert first.time < second.time
    assert (first.api, first.status, first.answered) == ("openai.chat", 200, True)
    assert not first.disconnected


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"authorization": "Bearer sk-planted"}, ""),
        ({"x-api-key": "sk-planted"}, ""),
        ({"x-goog-api-key": "sk-planted"}, ""),
        ({"api-key": "sk-planted"}, ""),
        ({}, "?key=sk-planted"),
    ],
)
def test_the_key_is_found_wherever_vendors_take_it_and_shows_in_no_repr(
    upstream, headers, query
) -> None:
    httpx.get(f"{upstream.openai_url}/models{query}", headers=headers)

    received = upstream.requests[0]
    assert received.key == "sk-planted"
    assert "sk-planted" not in f"{received!r} {received.headers!r} {received.key!r} {upstream!r}"


def test_repeated_headers_are_joined(upstream) -> None:
    httpx.get(f"{upstream.openai_url}/models", headers=[("x-a", "1"), ("x-a", "2")])

    headers = upstream.requests[0].headers
    assert headers["x-a"] == "1, 2"
    assert len(headers) == len(list(headers))


def test_headers_of_your_own_are_on_every_answer() -> None:
    with Upstream(headers={"set-cookie": "session=1"}).fail(503) as upstream:
        answers = [httpx.get(f"{upstream.openai_url}/models") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [503, 200]
    assert [answer.headers["set-cookie"] for answer in answers] == ["session=1"] * 2


def test_only_the_latest_requests_are_kept_when_told_so() -> None:
    with Upstream(keep=2) as upstream:
        for number in range(3):
            httpx.get(f"{upstream.openai_url}/models?n={number}")

    assert [received.query["n"] for received in upstream.requests] == ["1", "2"]


def test_clearing_forgets_the_script_and_the_requests(upstream) -> None:
    upstream.fail()
    httpx.get(f"{upstream.openai_url}/models")
    upstream.fail().clear()

    assert (upstream.requests, upstream.unplayed) == ((), 0)
    assert httpx.get(f"{upstream.openai_url}/models").status_code == 200


def test_replies_and_faults_play_in_the_order_told(upstream) -> None:
    upstream.play("one", Status(503), "two")

    answers = [
        httpx.post(
            f"{upstream.openai_url}/chat/completions", json={"model": "m", "messages": HELLO}
        )
        for _ in range(3)
    ]

    assert [answer.status_code for answer in answers] == [200, 503, 200]
    assert answers[2].json()["choices"][0]["message"]["content"] == "two"
