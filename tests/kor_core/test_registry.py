"""Every model goes through the registry: found by reference, configured, checked."""

import asyncio
import threading
from traceback import TracebackException

import pytest

from kor_core.errors import (
    AllModelsFailedError,
    BadRequestError,
    ConfigurationError,
    LLMTimeoutError,
    MissingCredentialsError,
    ProviderError,
    ProviderNotFoundError,
    RateLimitError,
    RegistrationError,
)
from kor_core.llm import notice
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider, Credentials
from kor_core.llm.catalogue import Catalogue
from kor_core.llm.echo import EchoProvider
from kor_core.llm.reference import Reference
from kor_core.llm.registry import LLMRegistry
from kor_core.settings import settings_from


class Custom(BaseLLMModel):
    """Answers what its provider says, and remembers what it was given."""

    def __init__(self, model_name, config, act):
        super().__init__(model_name, config)
        self.act = act
        self.calls = []

    async def agenerate(self, prompt, **kwargs):
        self.calls.append((prompt, kwargs))
        return await self.act(prompt)


NO_KEY = Credentials()


class CustomProvider(BaseLLMProvider):
    id = "custom"

    def __init__(self, provider_id="custom", act=None, credentials=NO_KEY):
        self.id = provider_id
        self.act = act or self.upper
        self.wanted = credentials

    async def upper(self, prompt):
        return prompt.upper()

    def credentials(self, model_name):
        return self.wanted

    def create_model(self, model_name, config):
        return Custom(model_name, config, self.act)


def registry_of(*providers, settings=None):
    return LLMRegistry(settings_from(settings or {}), Catalogue([EchoProvider(), *providers]))


# --- registration ---


def test_a_provider_registered_by_hand_serves():
    registry = registry_of()

    registry.register(CustomProvider())

    assert "HELLO" == registry.get_model("custom:v1").generate("hello")
    assert ["custom", "echo"] == sorted(registry.providers)
    assert "<LLMRegistry echo, custom>" == repr(registry)


def test_registering_an_id_twice_raises_and_names_both():
    registry = registry_of()

    with pytest.raises(RegistrationError) as caught:
        registry.register(CustomProvider("echo"))

    assert "echo" == caught.value.name
    assert "kor_core.llm.echo.EchoProvider" in str(caught.value)
    assert "CustomProvider" in str(caught.value)
    assert "replace=True" in str(caught.value)


def test_models_got_before_use_a_provider_that_took_the_place_of_theirs():
    registry = registry_of(CustomProvider())
    model = registry.get_model("custom:v1")
    first = model.inner

    registry.register(CustomProvider(), replace=True)

    assert first is not model.inner
    assert model.inner is model.inner
    assert model is registry.get_model("custom:v1")


def test_threads_that_race_for_a_replaced_provider_share_one_object():
    class Slow(CustomProvider):
        made = 0

        def create_model(self, model_name, config):
            self.made += 1
            waiting.wait(10)
            return super().create_model(model_name, config)

    waiting = threading.Event()
    registry = registry_of(CustomProvider())
    model = registry.get_model("custom:v1")
    slow = Slow()
    registry.register(slow, replace=True)
    found = []
    threads = [threading.Thread(target=lambda: found.append(model.inner)) for _ in range(8)]
    for thread in threads:
        thread.start()
    threading.Timer(0.3, waiting.set).start()
    for thread in threads:
        thread.join()

    assert 1 == slow.made
    assert 1 == len({id(inner) for inner in found})


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        (CustomProvider(""), "has no id"),
        (CustomProvider(None), "has no id"),
        (CustomProvider("a:b"), "holds ':', '/'"),
        (CustomProvider("a/b"), "holds ':', '/'"),
        (CustomProvider(" a"), "surrounding space"),
        (CustomProvider, r"Register an instance: CustomProvider\(\)"),
        (object(), "object is no provider"),
    ],
)
def test_an_unusable_provider_is_refused_with_the_cure(provider, words):
    with pytest.raises(RegistrationError, match=words):
        registry_of().register(provider)


def test_an_unknown_provider_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ProviderNotFoundError, match="Registered: echo") as caught:
        registry_of().get_provider("eco")

    assert ("echo",) == caught.value.known
    assert "Did you mean 'echo'?" in str(caught.value)


# --- models ---


def test_the_same_reference_and_settings_give_the_same_object():
    registry = registry_of()

    model = registry.get_model("echo:a", temperature=0.5, extra={"x": [1]})

    assert model is registry.get_model("echo:a", extra={"x": [1]}, temperature=0.5)
    assert model is not registry.get_model("echo:a")
    assert "<ModelHandle 'echo:a'>" == repr(model)


def test_racing_threads_get_the_same_object():
    registry = registry_of()
    barrier = threading.Barrier(16)
    found = []

    def ask():
        barrier.wait()
        found.append(registry.get_model("echo:a"))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 16 == len(found)
    assert 1 == len({id(model) for model in found})


def test_create_model_gets_provider_extra_model_and_call_settings_as_one_plain_dict():
    planted = "sk-planted-0123456789"
    provider = {"api_key": planted, "timeout": 9.0, "extra": {"region": "eu", "top_k": 1}}
    default = {"provider": "custom", "model": "v1", "temperature": 0.1, "extra": {"top_k": 2}}
    registry = registry_of(
        CustomProvider(), settings={"llm": {"providers": {"custom": provider}, "default": default}}
    )

    model = registry.get_model(temperature=0.9, extra={"seed_text": "s"})

    expected = {
        "api_key": planted,
        "timeout": 9.0,
        "region": "eu",
        "top_k": 2,
        "temperature": 0.9,
        "seed_text": "s",
    }
    assert expected == model.inner.config
    assert isinstance(model.inner.config["api_key"], str)
    assert planted not in repr(model.inner.config)


def test_a_reference_takes_its_providers_settings_and_nothing_from_the_default():
    default = {"provider": "custom", "model": "v1", "temperature": 0.1}
    providers = {"custom": {"base_url": "http://localhost:1"}}
    registry = registry_of(
        CustomProvider(), settings={"llm": {"default": default, "providers": providers}}
    )

    assert {"base_url": "http://localhost:1"} == registry.get_model("custom:v2").config
    assert "v1" == registry.get_model().model_name


def test_a_default_without_provider_is_a_reference():
    registry = registry_of(settings={"llm": {"default": {"model": "echo/some/model:1"}}})

    assert ("echo", "some/model:1") == registry.get_model().reference


def test_without_a_default_asking_for_it_is_an_error_and_never_echo():
    with pytest.raises(ConfigurationError, match=r"Add \[llm.default\]") as caught:
        registry_of().get_model()

    assert "llm.default" == caught.value.problems[0].key


def test_an_unknown_setting_is_an_error_with_the_nearest_name():
    with pytest.raises(ConfigurationError, match="Did you mean 'temperature'") as caught:
        registry_of().get_model("echo:a", temprature=1, nonsense=2)

    assert 2 == len(caught.value.problems)


class Broken(BaseLLMProvider):
    id = "broken"

    def __init__(self, result):
        self.result = result

    def create_model(self, model_name, config):
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def test_a_create_model_that_returns_something_else_is_a_clear_error():
    with pytest.raises(ProviderError, match="Broken returned str; it must return a BaseLLMModel"):
        registry_of(Broken("model")).get_model("broken:m")


def test_a_create_model_that_fails_is_a_typed_error_with_its_cause():
    cause = KeyError("region")

    with pytest.raises(ProviderError, match="KeyError: 'region'") as caught:
        registry_of(Broken(cause)).get_model("broken:m")

    assert cause is caught.value.__cause__
    assert ("broken", "m") == (caught.value.provider, caught.value.model)


def test_a_create_model_that_raises_an_error_of_kor_is_left_alone():
    error = RateLimitError("mine")

    with pytest.raises(RateLimitError) as caught:
        registry_of(Broken(error)).get_model("broken:m")

    assert error is caught.value


# --- credentials ---

NEEDS_KEY = Credentials(("FIRST_KEY", "SECOND_KEY"), ("SOME_URL",), required=True)


def keyed(settings=None):
    return registry_of(
        CustomProvider(credentials=NEEDS_KEY),
        settings={"llm": {"providers": {"custom": settings or {}}}},
    )


def test_a_missing_key_is_an_error_at_get_model_that_names_variables_and_key_path(monkeypatch):
    default = {"provider": "custom", "model": "v1"}
    registry = registry_of(
        CustomProvider(credentials=NEEDS_KEY), settings={"llm": {"default": default}}
    )

    with pytest.raises(MissingCredentialsError) as caught:
        registry.get_model()

    assert ("FIRST_KEY", "SECOND_KEY") == caught.value.variables
    assert "llm.providers.custom.api_key" == caught.value.key
    assert "FIRST_KEY or SECOND_KEY" in str(caught.value)
    assert "asked for by [llm.default]" in str(caught.value)


def test_a_missing_key_asked_for_in_code_names_no_place():
    with pytest.raises(MissingCredentialsError) as caught:
        keyed().get_model("custom:v1")

    assert "asked for by" not in str(caught.value)


def test_a_required_key_without_any_variable_points_to_the_configuration_alone():
    registry = registry_of(CustomProvider(credentials=Credentials(required=True)))

    with pytest.raises(MissingCredentialsError, match="there is none: add api_key"):
        registry.get_model("custom:v1")


@pytest.mark.parametrize(
    ("settings", "environ", "expected"),
    [
        ({}, {"SECOND_KEY": "two"}, {"api_key": "two"}),
        ({}, {"FIRST_KEY": "one", "SECOND_KEY": "two"}, {"api_key": "one"}),
        ({}, {"FIRST_KEY": "", "SECOND_KEY": "two"}, {"api_key": "two"}),
        ({}, {"SOME_URL": "http://u"}, {"base_url": "http://u"}),
        (
            {},
            {"FIRST_KEY": "one", "SOME_URL": "http://u"},
            {"api_key": "one", "base_url": "http://u"},
        ),
        ({"api_key": "mine"}, {"FIRST_KEY": "one", "SOME_URL": "http://u"}, {"api_key": "mine"}),
        ({"base_url": "http://b"}, {}, {"base_url": "http://b"}),
        (
            {"base_url": "http://b"},
            {"FIRST_KEY": "one", "SOME_URL": "http://u"},
            {"base_url": "http://b", "api_key": "one"},
        ),
    ],
)
def test_the_environment_serves_where_no_key_is_configured_and_a_key_never_follows_its_endpoint(
    monkeypatch, settings, environ, expected
):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert expected == keyed(settings).get_model("custom:v1").config


# --- calls ---


def model_that(act):
    return registry_of(CustomProvider(act=act)).get_model("custom:v1")


async def test_a_call_passes_the_prompt_and_settings_through_verbatim():
    model = registry_of(CustomProvider()).get_model("custom:v1")

    await model.agenerate("hello", temperature=0.3)

    assert [("hello", {"temperature": 0.3})] == model.inner.calls


async def test_whatever_a_custom_model_raises_is_a_typed_error_with_its_cause():
    async def fail(_):
        raise ValueError("mine")

    with pytest.raises(ProviderError, match="custom:v1: ValueError: mine") as caught:
        await model_that(fail).agenerate("x")

    assert isinstance(caught.value.__cause__, ValueError)


async def test_an_error_of_kor_passes_unchanged():
    error = RateLimitError("mine")

    async def fail(_):
        raise error

    with pytest.raises(RateLimitError) as caught:
        await model_that(fail).agenerate("x")

    assert error is caught.value


async def test_what_a_custom_model_says_of_its_key_is_masked():
    async def fail(_):
        raise ValueError("bad key sk-planted-0123456789")

    settings = {"llm": {"providers": {"custom": {"api_key": "sk-planted-0123456789"}}}}
    model = registry_of(CustomProvider(act=fail), settings=settings).get_model("custom:v1")

    with pytest.raises(ProviderError, match="bad key") as caught:
        await model.agenerate("x")

    assert "planted" not in str(caught.value)


async def test_an_agenerate_that_is_not_async_serves_all_the_same():
    class Plain(BaseLLMModel):
        def agenerate(self, prompt, **kwargs):
            return prompt.title()

    class PlainProvider(BaseLLMProvider):
        id = "plain"

        def create_model(self, model_name, config):
            return Plain(model_name, config)

    assert "Hello" == await registry_of(PlainProvider()).get_model("plain:m").agenerate("hello")


@pytest.mark.parametrize("prompt", [None, 3, b"x", [{"role": "user", "content": "x"}]])
async def test_a_prompt_that_is_no_text_is_refused_before_anything_is_asked(prompt):
    model = registry_of(CustomProvider()).get_model("custom:v1")

    with pytest.raises(TypeError, match=f"A prompt is a text, not {type(prompt).__name__}"):
        await model.agenerate(prompt)

    assert [] == model.inner.calls


@pytest.mark.parametrize("seconds", ["3", -1, 0])
async def test_a_timeout_that_is_no_number_of_seconds_is_refused(seconds):
    with pytest.raises(ConfigurationError, match="a number of seconds above 0"):
        await registry_of(CustomProvider()).get_model("custom:v1").agenerate("x", timeout=seconds)


def test_settings_given_in_code_are_held_against_the_rules_of_the_configuration():
    with pytest.raises(ConfigurationError, match="temperature: "):
        registry_of().get_model("echo:m", temperature="hot")


async def test_an_answer_that_is_no_text_is_a_typed_error():
    async def nothing(_):
        return None

    with pytest.raises(ProviderError, match="returned NoneType"):
        await model_that(nothing).agenerate("x")


async def hang(_):
    await asyncio.sleep(60)


async def test_timeout_is_the_deadline_of_the_call():
    with pytest.raises(LLMTimeoutError, match=r"deadline of 0.01 s") as caught:
        await model_that(hang).agenerate("x", timeout=0.01)

    assert ("custom", "v1") == (caught.value.provider, caught.value.model)


async def test_a_configured_timeout_is_the_deadline_too():
    model = registry_of(CustomProvider(act=hang)).get_model("custom:v1", timeout=0.01)

    with pytest.raises(LLMTimeoutError, match=r"deadline of 0.01 s"):
        await model.agenerate("x")


@pytest.mark.parametrize(
    ("error", "words"), [(TimeoutError(), "no reason"), (TimeoutError("socket"), "socket")]
)
async def test_a_timeout_of_the_provider_is_told_apart_from_the_deadline(error, words):
    async def time_out(_):
        raise error

    with pytest.raises(LLMTimeoutError, match=words):
        await model_that(time_out).agenerate("x", timeout=30)


async def test_cancelling_a_call_cancels_the_model_and_stays_a_cancellation():
    seen = []

    async def watch(_):
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("cancelled")

    task = asyncio.create_task(model_that(watch).agenerate("x"))
    await asyncio.sleep(0.01)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert ["cancelled"] == seen


# --- candidates in order ---


def raising(provider_id, error):
    async def fail(_):
        raise error

    return CustomProvider(provider_id, fail)


def falling_back(*providers, **default):
    table = {"provider": "first", "model": "m", "fallbacks": ["second:n"], **default}
    return registry_of(*providers, settings={"llm": {"default": table}}).get_model()


async def test_where_a_candidate_fails_the_next_one_is_asked():
    model = falling_back(raising("first", RateLimitError("busy")), CustomProvider("second"))

    assert "HELLO" == await model.agenerate("hello")
    assert "<ModelHandle 'first:m → second:n'>" == repr(model)


async def test_candidates_are_references_with_the_settings_of_their_table():
    first, second = raising("first", ProviderError("down")), CustomProvider("second")
    llm = {"default": {"candidates": ["first:m", "second/n"], "temperature": 0.3}}
    model = registry_of(first, second, settings={"llm": llm}).get_model()

    assert "HELLO" == await model.agenerate("hello")
    assert [("first", "m"), ("second", "n")] == [target.reference for target in model._targets]
    assert [{"temperature": 0.3}] * 2 == [target.config for target in model._targets]


async def test_when_all_candidates_fail_the_error_holds_that_of_each():
    errors = [RateLimitError("busy"), ProviderError("down")]
    model = falling_back(raising("first", errors[0]), raising("second", errors[1]))

    with pytest.raises(AllModelsFailedError, match="All 2 models") as caught:
        await model.agenerate("hello")

    assert tuple(errors) == caught.value.exceptions


async def test_a_request_that_is_wrong_is_not_sent_to_the_next_candidate():
    error, second = BadRequestError("wrong"), CustomProvider("second")

    with pytest.raises(BadRequestError) as caught:
        await falling_back(raising("first", error), second).agenerate("hello")

    assert error is caught.value


async def test_one_deadline_covers_all_candidates():
    model = falling_back(
        raising("first", ProviderError("down")), CustomProvider("second", hang), timeout=0.5
    )

    with pytest.raises(LLMTimeoutError, match=r"deadline of 0.5 s"):
        await model.agenerate("hello")


# --- what the configuration names ---


@pytest.mark.parametrize(
    ("default", "key"),
    [
        ({"provider": "nowhere", "model": "m"}, "llm.default.provider"),
        ({"model": "nowhere:m"}, "llm.default.model"),
        ({"provider": "echo", "model": "m", "fallbacks": ["nowhere:m"]}, "llm.default.fallbacks"),
    ],
)
def test_a_configured_provider_that_nobody_registered_is_an_error_of_configuration(default, key):
    registry = registry_of(settings={"llm": {"default": default}})

    registry.check()
    with pytest.raises(ConfigurationError, match="No provider 'nowhere'") as caught:
        registry.get_model()

    assert key == caught.value.problems[0].key


def test_a_misspelt_provider_is_found_before_it_is_asked_for():
    llm = {"default": {"provider": "eco", "model": "m"}, "purposes": {"x": {"model": "echoo:m"}}}

    with pytest.raises(ConfigurationError, match="Did you mean 'echo'") as caught:
        registry_of(settings={"llm": llm}).check()

    assert "llm.default.provider" == caught.value.problems[0].key


def test_the_offline_notice_is_said_once_on_stderr(monkeypatch, capsys):
    monkeypatch.setattr(notice, "_first", threading.Lock())

    notice.say_offline()
    notice.say_offline()

    said = capsys.readouterr()
    assert (notice.OFFLINE, "") == (said.err, said.out)
    assert "config.toml" in notice.OFFLINE


PLANTED = {"api_key": "sk-planted-in-extra"}


def test_a_key_given_with_needs_shows_in_no_frame():
    with pytest.raises(ConfigurationError) as caught:
        registry_of().get_model("echo:m", needs=["tools"], extra=PLANTED, seeed=1)
    shown = "".join(TracebackException.from_exception(caught.value, capture_locals=True).format())

    assert "in get_model" in shown
    assert PLANTED["api_key"] not in shown


@pytest.mark.parametrize("wrong", ["nobody:c", "nobody"])
def test_an_unknown_provider_of_a_fallback_is_said_where_the_fallback_stands(wrong):
    default = {"model": "echo:a", "fallbacks": ["echo:b", wrong]}
    with pytest.raises(ConfigurationError) as caught:
        registry_of(settings={"llm": {"default": default}}).get_model()

    assert "llm.default.fallbacks" == caught.value.problems[0].key
    assert "No provider 'nobody'" in str(caught.value)


def test_the_example_of_a_reference_is_the_same_each_time():
    with pytest.raises(ProviderNotFoundError, match="such as 'custom:gpt'"):
        Reference.parse("gpt", {"echo", "litellm", "custom"})
    with pytest.raises(ProviderNotFoundError, match="such as 'openai:gpt'"):
        Reference.parse("gpt", {"echo", "openai", "custom"})
