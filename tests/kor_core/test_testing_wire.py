"""The wire formats beside OpenAI's: as the vendors document them, and as litellm reads them."""

import json
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from kor_core.testing import Reply, ToolCall, Upstream
from kor_core.testing.wire import ollama
from kor_core.testing.wire.base import Question
from kor_core.testing.wire.examples import example_of

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
USER = {"role": "user", "content": "Hello there!"}
CONTENTS = [{"role": "user", "parts": [{"text": "Hello there!"}]}]
CALL = Reply("Let me see", tool_calls=(ToolCall("weather", {"city": "Oslo"}),))


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        yield upstream


def post(upstream, path, **body):
    answer = httpx.post(upstream.url + path, json=body)
    assert answer.status_code == 200, answer.text
    return answer


def events(answer) -> list:
    lines = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


# --- Anthropic ----------------------------------------------------------------------------


def test_anthropic_answers_a_message(upstream) -> None:
    upstream.reply(Reply("Hi!", cached_tokens=1))

    answer = post(
        upstream, "/v1/messages", model="claude", max_tokens=9, system="Be brief.", messages=[USER]
    )

    assert answer.headers["request-id"].startswith("req_")
    assert answer.json() == {
        "id": "msg_000000000000000000000001",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [{"type": "text", "text": "Hi!"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 3,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 1,
            "output_tokens": 1,
            "service_tier": "standard",
        },
    }


def test_anthropic_streams_blocks_of_text_and_tools(upstream) -> None:
    upstream.reply(CALL)

    answer = post(
        upstream, "/v1/messages", model="claude", max_tokens=9, messages=[USER], stream=True
    )

    found = events(answer)
    names = [event["type"] for event in found]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert names[:2] == ["message_start", "ping"]
    assert names[-2:] == ["message_delta", "message_stop"]
    assert [line for line in answer.text.splitlines() if line.startswith("event: ")] == [
        f"event: {name}" for name in names
    ]
    deltas = [event["delta"] for event in found if event["type"] == "content_block_delta"]
    assert "".join(delta.get("text", "") for delta in deltas) == "Let me see"
    assert "".join(d.get("partial_json", "") for d in deltas) == '{"city":"Oslo"}'
    assert found[-2]["delta"]["stop_reason"] == "tool_use"
    starts = [e["content_block"] for e in found if e["type"] == "content_block_start"]
    assert [(s["type"], s.get("text"), s.get("input")) for s in starts] == [
        ("text", "", None),
        ("tool_use", None, {}),
    ]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_anthropic_calls_the_tool_it_is_forced_to(upstream, choice) -> None:
    answer = post(
        upstream,
        "/v1/messages",
        model="claude",
        max_tokens=9,
        messages=[USER],
        tools=[{"name": "weather", "input_schema": SCHEMA}],
        tool_choice=choice,
    )

    block = answer.json()["content"][0]
    assert (block["name"], block["input"]) == ("weather", {"city": "Hello there!"})


def test_anthropic_chooses_freely_and_follows_schemas(upstream) -> None:
    tools = [{"name": "weather", "input_schema": SCHEMA}]
    ask = {"model": "claude", "max_tokens": 9, "messages": [USER]}
    form = {"type": "json_schema", "schema": SCHEMA}

    free = post(upstream, "/v1/messages", **ask, tools=tools, tool_choice={"type": "auto"})
    shaped = post(upstream, "/v1/messages", **ask, output_format=form)
    newer = post(upstream, "/v1/messages", **ask, output_config={"format": form})

    assert free.json()["content"][0]["text"] == "Hello there!"
    for answer in (shaped, newer):
        assert json.loads(answer.json()["content"][0]["text"]) == {"city": "Hello there!"}


# --- Gemini -------------------------------------------------------------------------------


def test_gemini_answers_with_the_key_in_the_header_or_in_the_query(upstream) -> None:
    path = "/v1beta/models/gemini-pro:generateContent"
    upstream.reply(Reply("Hi!", cached_tokens=1, reasoning_tokens=2), times=2)
    body = {"contents": CONTENTS, "systemInstruction": {"parts": [{"text": "Be brief."}]}}

    header = httpx.post(upstream.url + path, json=body, headers={"x-goog-api-key": "k-planted"})
    query = httpx.post(f"{upstream.url}{path}?key=k-planted", json=body)

    assert [received.key for received in upstream.requests] == ["k-planted", "k-planted"]
    assert upstream.requests[0].model == "gemini-pro"
    assert header.json()["candidates"] == [
        {
            "content": {"parts": [{"text": "Hi!"}], "role": "model"},
            "index": 0,
            "finishReason": "STOP",
        }
    ]
    assert query.json()["usageMetadata"] == {
        "promptTokenCount": 4,
        "candidatesTokenCount": 1,
        "totalTokenCount": 7,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 4}],
        "cachedContentTokenCount": 1,
        "thoughtsTokenCount": 2,
    }


def test_gemini_streams_events_or_one_json_array(upstream) -> None:
    path = "/v1beta/models/gemini-pro:streamGenerateContent"
    upstream.reply(CALL, times=2)

    sse = post(upstream, path + "?alt=sse", contents=CONTENTS)
    array = post(upstream, path, contents=CONTENTS)

    assert sse.headers["content-type"] == "text/event-stream"
    for found in (events(sse), array.json()):
        parts = [event["candidates"][0]["content"]["parts"][0] for event in found]
        assert [part.get("text") for part in parts] == ["Let ", "me ", "see", None, ""]
        assert parts[3]["functionCall"] == {"name": "weather", "args": {"city": "Oslo"}}
        assert found[-1]["candidates"][0]["finishReason"] == "STOP"


def test_gemini_calls_tools_whole_and_wraps_arguments_that_are_no_object(upstream) -> None:
    upstream.call_tool("weather", "{broken")

    answer = post(upstream, "/v1beta/models/g:generateContent", contents=CONTENTS)

    parts = answer.json()["candidates"][0]["content"]["parts"]
    assert parts == [{"functionCall": {"name": "weather", "args": {"text": "{broken"}}}]


@pytest.mark.parametrize("allowed", [{}, {"allowedFunctionNames": ["weather"]}])
def test_gemini_calls_the_tool_it_is_forced_to(upstream, allowed) -> None:
    upper = {"type": "OBJECT", "properties": {"city": {"anyOf": [{"type": "STRING"}]}}}

    answer = post(
        upstream,
        "/v1beta/models/g:generateContent",
        contents=CONTENTS,
        tools=[{"functionDeclarations": [{"name": "weather", "parameters": upper}]}],
        toolConfig={"functionCallingConfig": {"mode": "ANY", **allowed}},
    )

    part = answer.json()["candidates"][0]["content"]["parts"][0]
    assert part["functionCall"] == {"name": "weather", "args": {"city": "Hello there!"}}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"responseSchema": SCHEMA}, {"city": "Hello there!"}),
        ({"response_json_schema": SCHEMA}, {"city": "Hello there!"}),
        ({"responseMimeType": "application/json"}, {"text": "Hello there!"}),
    ],
)
def test_gemini_follows_the_schema_asked_for(upstream, config, expected) -> None:
    answer = post(
        upstream, "/v1beta/models/g:generateContent", contents=CONTENTS, generationConfig=config
    )

    text = answer.json()["candidates"][0]["content"]["parts"][0]["text"]
    assert json.loads(text) == expected


def test_gemini_embeds_one_text_or_many(upstream) -> None:
    upstream.embed([1.0, 0.0])
    content = {"parts": [{"text": "cat"}]}

    one = post(upstream, "/v1beta/models/e:embedContent", content=content)
    many = post(
        upstream,
        "/v1beta/models/e:batchEmbedContents",
        requests=[{"content": content}, {"content": {"parts": [{"text": "dog"}]}}],
    )

    assert one.json() == {"embedding": {"values": [1.0, 0.0]}}
    assert [len(item["values"]) for item in many.json()["embeddings"]] == [8, 8]


# --- Ollama -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "asked", "key"),
    [
        ("/api/chat", {"messages": [USER]}, "message"),
        ("/api/generate", {"prompt": "Hello there!"}, "response"),
    ],
)
def test_ollama_streams_unless_told_not_to(upstream, path, asked, key) -> None:
    def said(line) -> str:
        return line[key] if key == "response" else line[key]["content"]

    plain = post(upstream, path, model="llama3", stream=False, **asked)
    streamed = post(upstream, path, model="llama3", **asked)

    lines = [json.loads(line) for line in streamed.text.splitlines()]
    assert said(plain.json()) == "Hello there!"
    assert (plain.json()["done"], plain.json()["done_reason"]) == (True, "stop")
    assert streamed.headers["content-type"] == "application/x-ndjson"
    assert [said(line) for line in lines] == ["Hello ", "there!", ""]
    assert [line["done"] for line in lines] == [False, False, True]
    assert (lines[-1]["prompt_eval_count"], lines[-1]["eval_count"]) == (2, 2)


def test_ollama_calls_tools_and_follows_formats(upstream) -> None:
    upstream.reply(CALL, times=2)
    ask = {"model": "llama3", "messages": [USER]}

    plain = post(upstream, "/api/chat", **ask, stream=False).json()
    streamed = post(upstream, "/api/chat", **ask)
    shaped = post(upstream, "/api/chat", **ask, stream=False, format=SCHEMA).json()
    free = post(upstream, "/api/generate", model="m", prompt="Hi", stream=False, format="json")

    call = {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    assert plain["message"]["tool_calls"] == [call]
    assert [json.loads(line)["message"].get("tool_calls") for line in streamed.text.splitlines()][
        -2:
    ] == [[call], None]
    assert json.loads(shaped["message"]["content"]) == {"city": "Hello there!"}
    assert json.loads(free.json()["response"]) == {"text": "Hi"}


def test_ollama_embeds_and_shows(upstream) -> None:
    one = post(upstream, "/api/embed", model="e", input="cat").json()
    two = post(upstream, "/api/embed", model="e", input=["cat", "dog"]).json()
    shown = post(upstream, "/api/show", name="llama3").json()

    assert one["embeddings"] == two["embeddings"][:1]
    assert two["prompt_eval_count"] == 2
    assert "tools" in shown["capabilities"]


def test_an_endpoint_without_a_stream_brings_its_answer_as_one_event() -> None:
    embed = ollama.Embed()

    pieces = list(embed.pieces(Question("e", inputs=("cat",)), Reply(), 1))

    assert [piece.payload["model"] for piece in pieces] == ["e"]


# --- all --------------------------------------------------------------------------------


def test_a_body_with_fields_of_the_wrong_kind_asks_nothing(upstream) -> None:
    answer = post(upstream, "/v1/chat/completions", model="m", messages="not a list")

    assert answer.json()["choices"][0]["message"]["content"] == ""


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, "x"),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": "number"}, 1.0),
        ({"enum": ["a", "b"]}, "a"),
        ({"const": 7}, 7),
        ({"default": None, "type": "string"}, None),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 1),
        ({"type": "array", "items": {"type": "integer"}}, [1]),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
        ({"properties": {"a": {"type": "string"}}}, {"a": "x"}),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "integer"}}}, 1),
    ],
)
def test_an_example_fits_its_schema(schema, expected) -> None:
    assert example_of(schema, "x") == expected


def test_an_example_of_a_schema_that_holds_itself_ends() -> None:
    tree = {
        "$ref": "#/$defs/Tree",
        "$defs": {
            "Tree": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "left": {"$ref": "#/$defs/Tree"},
                    "more": {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
                },
                "required": ["name"],
            }
        },
    }

    assert example_of(tree, "x")["left"]["left"]["name"] == "x"


@pytest.fixture
def litellm(monkeypatch):
    # Without these it fetches its prices from the network and loads a .env; see the facts.
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    monkeypatch.setenv("LITELLM_MODE", "PRODUCTION")
    # Its own tables for counting tokens, which it names when it is imported, once for all.
    tables = Path(find_spec("litellm").origin).parent / "litellm_core_utils" / "tokenizers"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tables))
    import litellm  # noqa: PLC0415  # seconds, and only for this test

    return litellm


@pytest.mark.filterwarnings("ignore::DeprecationWarning:litellm")
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
async def test_litellm_takes_the_answers_of_every_vendor_for_real_ones(upstream, litellm) -> None:
    """Plain, streamed, with tools: one test, because the import costs seconds."""
    bases = {
        "anthropic/claude-3-5-haiku-latest": upstream.url,
        "gemini/gemini-2.0-flash": upstream.gemini_url,
        "ollama_chat/llama3": upstream.url,
        "openai/gpt-4o": upstream.openai_url,
    }
    tool = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}

    for model, base in bases.items():
        ask = {"model": model, "api_base": base, "api_key": "sk-planted", "messages": [USER]}
        plain = await litellm.acompletion(**ask, max_retries=0)
        assert plain.choices[0].message.content == "Hello there!", model
        assert plain.usage.completion_tokens == 2, model
        upstream.play(CALL, model=model.partition("/")[2])
        # With tools it imports the package mcp, which it does not depend on, unless told not to.
        called = await litellm.acompletion(
            **ask, tools=[tool], max_retries=0, _skip_mcp_handler=True
        )
        arguments = called.choices[0].message.tool_calls[0].function.arguments
        assert json.loads(arguments) == {"city": "Oslo"}, model
        stream = await litellm.acompletion(**ask, stream=True, max_retries=0)
        texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert "".join(texts) == "Hello there!", model
