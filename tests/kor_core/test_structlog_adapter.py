"""The log of calls: what is told, to whom, and what never is."""

import asyncio
import io
import json
import logging
import subprocess
import sys
from urllib.parse import quote

import openai
import orjson
import pytest
import structlog

from kor_containers import create_container
from kor_core.adapters.structlog import CallLog, configure_logging
from kor_core.errors import KorError, LLMError
from kor_core.llm.events import CallEvent, unobserved
from kor_core.llm.response import Attempt, LLMResponse, Usage
from kor_core.testing import ALWAYS, Reply, ScriptedProvider, Upstream, faults

FINISHED = CallEvent("llm.call.finished", "chat", "openai:gpt-4o")
PROMPT, ANSWER, KEY = "a planted prompt", "a planted answer", "sk-planted-key"
PRICED = {"input_price": 1, "output_price": 2}


@pytest.fixture(autouse=True)
def unconfigured():
    """Leave structlog as it was found, whatever a test configures."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.fixture
def lines():
    """What structlog writes, as configured by KOR at DEBUG."""
    stream = io.StringIO()
    configure_logging("debug", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def scripted(*responses, **policies):
    """A model that serves a purpose, by a provider with prices."""
    settings = {
        "llm": {
            "default": {"model": "p:m"},
            "purposes": {"coding": {"model": "p:m"}},
            "models": {"p:m": PRICED},
            "policies": {"retries": 0, **policies},
        }
    }
    app = create_container(settings, providers=[ScriptedProvider(responses, id="p")])
    return app.kernel().model_selector.get_model("coding")


# --- to whom ----------------------------------------------------------------------------------


def test_an_application_that_configured_no_log_sees_nothing(capfd):
    with pytest.raises(LLMError):
        scripted(LLMError("It failed.")).chat(PROMPT)

    assert ("", "") == capfd.readouterr()


def test_importing_kor_loads_no_structlog():
    code = (
        "import sys, kor_core, kor_containers, kor_core.adapters.structlog as log;"
        "log.CallLog().heeds('llm.call.failed'); print('structlog' in sys.modules)"
    )

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "False" == told.stdout.strip()


def test_the_applications_own_structlog_is_used_as_it_is():
    seen = []

    def take(logger, method, event):
        seen.append((method, dict(event)))
        raise structlog.DropEvent

    structlog.configure(processors=[take])
    before = structlog.get_config()

    CallLog()(FINISHED)

    told = {"event": "llm.call.finished", "kind": "chat", "model": "openai:gpt-4o"}
    assert [("info", told)] == seen
    assert before == structlog.get_config()


def test_a_structlog_that_writes_through_logging_gets_the_events_too(caplog):
    structlog.configure(
        processors=[structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )

    with caplog.at_level(logging.INFO, "kor.llm"):
        CallLog()(FINISHED)

    (record,) = caplog.records
    assert ("kor.llm", "llm.call.finished", "chat") == (record.name, record.msg, record.kind)


def test_an_application_with_logging_alone_gets_text_and_the_facts_apart(caplog):
    with caplog.at_level(logging.DEBUG, "kor.llm"):
        CallLog()(FINISHED)

    (record,) = caplog.records
    assert "llm.call.finished kind=chat model=openai:gpt-4o" == record.getMessage()
    assert {"kind": "chat", "model": "openai:gpt-4o"} == record.kor
    assert logging.INFO == record.levelno


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("llm.call.started", logging.DEBUG),
        ("llm.call.finished", logging.INFO),
        ("llm.call.cancelled", logging.INFO),
        ("llm.call.failed", logging.WARNING),
    ],
)
def test_an_event_that_is_below_the_level_is_not_heeded(caplog, name, level):
    log = CallLog()

    with caplog.at_level(level + 1, "kor.llm"):
        heeded = log.heeds(name)
        log(CallEvent(name, "chat", "openai:gpt-4o"))
    with caplog.at_level(level, "kor.llm"):
        heeded_then = log.heeds(name)

    assert (False, True) == (heeded, heeded_then)
    assert [] == caplog.records


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        ((), None),
        ((("a:b", "answered"),), None),
        ((("a:b", "failed"), ("a:c", "answered")), "a:c"),
        ((("a:b", "failed"), ("a:c", "failed")), None),
    ],
)
def test_which_model_answered_is_told_where_it_is_another_than_the_first(lines, attempts, expected):
    made = tuple(Attempt(model, outcome, 0.1) for model, outcome in attempts)
    CallLog()(CallEvent("llm.call.finished", "chat", "a:b", attempts=made))

    assert expected == lines()[-1].get("answered_by")


def test_where_structlog_is_configured_every_event_is_heeded(lines):
    assert CallLog().heeds("llm.call.started")


# --- configure_logging ------------------------------------------------------------------------


def test_configure_logging_writes_one_line_of_json_for_each_event_from_the_level_on():
    stream = io.StringIO()
    configure_logging("warning", stream)

    CallLog()(FINISHED)
    CallLog()(CallEvent("llm.call.failed", "chat", "openai:gpt-4o", error="ProviderError"))

    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert ("llm.call.failed", "warning", "ProviderError") == (
        *(event[name] for name in ("event", "level", "error")),
    )
    assert event["timestamp"].endswith("Z")


def test_configure_logging_writes_to_stderr_unless_told_otherwise(capsys):
    configure_logging()

    CallLog()(FINISHED)

    assert "llm.call.finished" in capsys.readouterr().err


def test_configure_logging_writes_through_orjson_and_what_it_does_not_know_by_repr(monkeypatch):
    stream, dumped = io.StringIO(), []
    dumps = orjson.dumps
    monkeypatch.setattr(
        orjson, "dumps", lambda *args, **more: dumped.append(1) or dumps(*args, **more)
    )
    configure_logging(stream=stream)

    structlog.get_logger().info("it", thing={1, 2})

    assert [1] == dumped
    assert "{1, 2}" == json.loads(stream.getvalue())["thing"]


def test_without_orjson_the_lines_are_the_same_by_json(monkeypatch):
    monkeypatch.setitem(sys.modules, "orjson", None)
    stream = io.StringIO()
    configure_logging(stream=stream)

    CallLog()(FINISHED)

    assert "llm.call.finished" == json.loads(stream.getvalue())["event"]


def test_configure_logging_filters_before_anything_is_put_together():
    configure_logging("error", io.StringIO())

    logger = structlog.get_logger().bind()

    assert "BoundLoggerFilteringAtError" == type(logger).__name__


def test_configure_logging_refuses_to_replace_what_the_application_configured():
    structlog.configure(processors=[])
    before = structlog.get_config()

    with pytest.raises(KorError, match="configured already"):
        configure_logging()

    assert before == structlog.get_config()


def test_configure_logging_names_the_levels_where_one_is_unknown():
    with pytest.raises(ValueError, match=r"No level 'loud'\. Levels: debug, info"):
        configure_logging("loud")

    assert not structlog.is_configured()


# --- what is told -----------------------------------------------------------------------------


def told(events):
    """The events without what differs from run to run."""
    return [
        {name: fact for name, fact in event.items() if name not in {"timestamp", "duration"}}
        for event in events
    ]


CALL = {"kind": "chat", "model": "p:m", "purpose": "coding"}


async def test_a_call_that_is_answered_tells_of_its_tokens_cost_and_duration(lines):
    await scripted(LLMResponse(ANSWER, usage=Usage(1_000_000, 500_000))).achat(PROMPT)

    took = {"input_tokens": 1_000_000, "output_tokens": 500_000, "cost": "2.000000"}
    started, finished = lines()
    assert [
        {"event": "llm.call.started", "level": "debug", **CALL},
        {"event": "llm.call.finished", "level": "info", **CALL, "attempts": 1, **took},
    ] == told([started, finished])
    assert "duration" not in started
    assert finished["duration"] >= 0


async def test_a_call_that_fails_tells_the_class_of_its_error(lines):
    with pytest.raises(LLMError):
        await scripted(LLMError("It failed.")).achat(PROMPT)

    failed = {"event": "llm.call.failed", "level": "warning", **CALL, "attempts": 1}
    assert {**failed, "error": "LLMError"} == told(lines())[1]


async def test_a_stream_that_is_left_tells_that_it_was_cancelled(lines):
    async with scripted(LLMResponse(ANSWER)).astream(PROMPT) as stream:
        await anext(stream)

    assert ["llm.call.started", "llm.call.cancelled"] == [event["event"] for event in lines()]


async def test_a_call_that_is_cancelled_says_so(lines):
    with Upstream() as upstream:
        upstream.play(faults.Hang())
        async with over_http(upstream).kernel() as kernel:
            task = asyncio.create_task(kernel.model_selector.get_model().achat(PROMPT))
            await upstream.await_requests()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    assert "llm.call.cancelled" == lines()[-1]["event"]


def test_a_tenants_calls_name_the_tenant(lines):
    app = create_container(
        {"llm": {"default": {"model": "p:m"}}}, providers=[ScriptedProvider([ANSWER], id="p")]
    )
    from kor_containers import TenantKernels  # noqa: PLC0415  # of this test alone

    with TenantKernels(app, {"acme": {}}) as tenants, tenants.use("acme") as kernel:
        kernel.model_selector.get_model().generate(PROMPT)

    assert ["acme", "acme"] == [event["tenant"] for event in lines()]


# --- what is not told -------------------------------------------------------------------------


def over_http(upstream, provider="openai", model="gpt-4o", **policies):
    table = {"api_key": KEY, "base_url": upstream.openai_url}
    return create_container(
        {
            "llm": {
                "default": {"provider": provider, "model": model},
                "providers": {provider: table},
                "policies": {"retries": 0, **policies},
            }
        }
    )


async def talk(app):
    """Call in every way, and be refused once."""
    async with app.kernel() as kernel:
        model = kernel.model_selector.get_model()
        await model.agenerate(PROMPT)
        await model.achat(PROMPT)
        await model.astream(PROMPT).collect()
        with pytest.raises(LLMError):
            await model.achat(PROMPT)


@pytest.fixture
def upstream():
    """Answers three times with the key that it was sent in its words, then refuses it."""
    with Upstream() as upstream:
        upstream.reply(Reply(f"{ANSWER}, {KEY}"), times=3)
        upstream.fail(401, message=f"Incorrect API key provided: {KEY}")
        yield upstream


@pytest.mark.parametrize(
    ("provider", "model"), [("openai", "gpt-4o"), ("litellm", "openai/gpt-4o")]
)
async def test_no_prompt_answer_or_key_is_in_any_log_at_debug(upstream, caplog, provider, model):
    with caplog.at_level(logging.DEBUG):
        await talk(over_http(upstream, provider, model))

    assert 4 == len(upstream.requests)
    assert {"llm.call.started", "llm.call.finished", "llm.call.failed"} <= {
        record.getMessage().split()[0] for record in caplog.records
    }
    everything = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert [] == [text for text in (PROMPT, ANSWER, KEY) if text in everything]


async def test_those_who_opt_in_read_prompts_and_answers_at_debug_and_never_a_key(upstream, lines):
    await talk(over_http(upstream, log_content=True))

    contents = [event for event in lines() if event["event"] == "llm.call.content"]
    assert ["debug"] * 4 == [event["level"] for event in contents]
    assert [PROMPT] * 4 == [event["prompt"] for event in contents]
    masked = f"{ANSWER}, **********"
    assert [masked, masked, masked, None] == [event.get("answer") for event in contents]
    assert KEY not in json.dumps(lines())


def test_a_key_in_other_spellings_is_masked_in_what_is_logged_too(caplog):
    token = 'tok-planted"/0123456789'
    extra = {"extra_headers": {"Authorization": f"Bearer {token}"}}
    settings = {
        "llm": {
            "default": {"model": "p:m"},
            "providers": {"p": {"extra": extra}},
            "policies": {"log_content": True},
        }
    }
    spelled = [token, json.dumps(token)[1:-1], quote(token, safe="")]
    app = create_container(settings, providers=[ScriptedProvider([" ".join(spelled)], id="p")])

    with caplog.at_level(logging.DEBUG, "kor.llm"):
        app.kernel().model_selector.get_model().generate(
            f"My password is {token[::-1]}", extra={"password": token[::-1]}
        )

    assert "answer='********** ********** **********'" in caplog.text
    assert "prompt='My password is **********'" in caplog.text


@pytest.mark.parametrize("name", ["m\nWARNING:root:fake", "m error=None tenant=acme", "m'", ""])
def test_no_text_forges_a_line_or_a_fact_of_a_text_log(name, caplog):
    with caplog.at_level(logging.INFO, "kor.llm"):
        CallLog()(CallEvent("llm.call.finished", "chat", "p:m", tenant=name))

    (record,) = caplog.records
    assert f"llm.call.finished kind=chat model=p:m tenant={name!r}" == record.getMessage()


async def test_the_applications_own_calls_of_an_sdk_are_logged_as_ever(upstream, caplog):
    await talk(over_http(upstream))
    upstream.reply(ANSWER)

    with caplog.at_level(logging.DEBUG):
        async with openai.AsyncOpenAI(base_url=upstream.openai_url, api_key=KEY) as client:
            asked = [{"role": "user", "content": PROMPT}]
            await client.chat.completions.create(model="gpt-4o", messages=asked)

    assert "openai._base_client" in {record.name for record in caplog.records}


def test_above_debug_nothing_of_the_content_is_written(upstream, caplog):
    with caplog.at_level(logging.INFO):
        asyncio.run(talk(over_http(upstream, log_content=True)))

    assert not any(PROMPT in str(vars(record)) for record in caplog.records)


async def test_the_tools_that_an_answer_calls_are_part_of_what_was_answered(lines):
    with Upstream() as upstream:
        upstream.call_tool("weather", {"city": "Oslo"}, times=ALWAYS)
        async with over_http(upstream, log_content=True).kernel() as kernel:
            await kernel.model_selector.get_model().achat(PROMPT, tools=[weather])

    assert 'weather({"city": "Oslo"})' == lines()[-1]["answer"]


def weather(city: str) -> str:
    """Say how the weather is."""
    return city


async def test_vectors_are_no_content(lines):
    with Upstream() as upstream:
        async with over_http(upstream, log_content=True).kernel() as kernel:
            model = kernel.llm_registry.get_model("openai:text-embedding-3-small")
            await model.aembed([PROMPT, "another"])

    content = lines()[-1]
    assert f"{PROMPT}\nanother" == content["prompt"]
    assert "answer" not in content


def test_a_line_break_in_a_prompt_begins_no_line_of_a_text_log(caplog):
    with caplog.at_level(logging.DEBUG, "kor.llm"):
        scripted(ANSWER, log_content=True).generate("one\ntwo")

    (content,) = (r for r in caplog.records if "llm.call.content" in r.getMessage())
    assert r"prompt='one\ntwo'" in content.getMessage()
    assert "\n" not in content.getMessage()


def test_the_repr_of_an_event_shows_no_content():
    event = CallEvent("llm.call.finished", "chat", "p:m", prompt=PROMPT, answer=ANSWER)

    assert not [text for text in (PROMPT, ANSWER) if text in repr(event)]


def test_an_observer_that_raises_harms_no_call_and_is_named(caplog):
    def raising(event):
        raise RuntimeError("mine")

    app = create_container(
        {"llm": {"default": {"model": "p:m"}}}, providers=[ScriptedProvider([ANSWER], id="p")]
    ).derive({"policies.log": raising})

    assert ANSWER == app.kernel().model_selector.get_model().generate(PROMPT)
    assert "An observer of calls raised" in caplog.text


def test_where_nobody_observes_no_event_is_heeded():
    assert not unobserved.heeds("llm.call.failed")
    assert unobserved(FINISHED) is None
