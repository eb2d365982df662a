"""How kernels choose: filters and strategies of the configuration, explained without a call."""

import asyncio
import sys
from decimal import Decimal
from types import ModuleType
from typing import Any

import pytest

from kor_containers import TenantKernels, create_container, create_kernel
from kor_core.errors import (
    AllModelsFailedError,
    AuthenticationError,
    BudgetExceededError,
    CircuitOpenError,
    ConfigurationError,
    ContextWindowExceededError,
    MissingCredentialsError,
    ModelNotFoundError,
    NotEligibleError,
    PluginError,
    ProviderError,
    ProviderNotFoundError,
    RateLimitError,
    RegistrationError,
)
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider, Credentials
from kor_core.llm.policies.breaker import Breakers
from kor_core.llm.policies.retrier import Retrier
from kor_core.plugin import KorPlugin
from kor_core.testing import ScriptedModel, ScriptedProvider, Upstream

KEY = "sk-planted-0123456789"


def price(amount: float) -> dict[str, float]:
    return {"input_price": amount, "output_price": amount}


def kernel_of(*providers, table=None, models=None, **more) -> Any:
    names = [provider.id for provider in providers]
    default = {"candidates": [f"{name}:m" for name in names], **(table or {})}
    llm = {"default": default, "models": models or {}, **more}
    return create_kernel({"llm": llm}, providers=providers)


def scripted(*responses, id="first"):  # noqa: A002  # as the double calls it
    return ScriptedProvider(responses, id=id)


def pair(**more):
    return kernel_of(scripted("a"), scripted("b", id="second"), **more)


class Needy(BaseLLMProvider):
    """Needs a key, and counts what it is asked to make."""

    id = "needy"
    made = 0

    def credentials(self, model_name):
        return Credentials(key_variables=("NEEDY_API_KEY",), required=True)

    def create_model(self, model_name, config):
        type(self).made += 1
        return ScriptedModel(["ok"], model_name=model_name, config=config)


# --- filters, as the configuration asks for them ---


@pytest.mark.parametrize(
    ("table", "models", "words"),
    [
        (
            {"needs": ["tools"]},
            {"first:m": {"capabilities": {"tools": False}}},
            "lacks the capability 'tools'",
        ),
        ({"min_context": 100}, {"first:m": {"context_window": 99}}, "about 100 are needed"),
        ({"max_tokens": 100}, {"first:m": {"context_window": 99}}, "lower max_tokens"),
        ({"max_price": 1}, {"first:m": price(2)}, "more than max_price = 1"),
        ({"tags": ["eu"]}, {"second:m": {"tags": ["eu"]}}, "lacks the tags eu"),
    ],
)
def test_who_does_not_fit_the_table_is_left_out(table, models, words):
    with pair(table=table, models=models) as kernel:
        model = kernel.model_selector.get_model()
        assert "b" == model.generate("Hello!")
        selection = kernel.model_selector.select(tokens=100)
        explained = kernel.model_selector.explain(tokens=100)

    for told in (selection, explained):
        assert ["second:m"] == [each.reference for each in told.candidates]
        assert ["first:m"] == [each.reference for each in told.rejected]
        assert words in told.rejected[0].reason
    assert selection.why == explained.why


def test_a_model_for_some_tenants_serves_them_and_the_application_alone():
    llm = {
        "default": {"candidates": ["first:m", "second:m"]},
        "models": {"first:m": {"tenants": ["acme"]}},
    }
    providers = [scripted(*"aaa"), scripted("b", id="second")]
    with create_container({"llm": llm}, providers=providers) as app:
        overlays: dict[str, Any] = {"acme": {}, "umbrella": {}}
        answers = {}
        with TenantKernels(app, overlays) as tenants:
            for tenant in overlays:
                with tenants.use(tenant) as kernel:
                    answers[tenant] = kernel.model_selector.get_model().generate("x")
            with tenants.use("umbrella") as kernel:
                rejected = kernel.model_selector.explain().rejected
        assert {"acme": "a", "umbrella": "b"} == answers
        assert "a" == app.kernel().model_selector.get_model().generate("x")

    assert "It is not for this tenant. The operator decides that." == rejected[0].reason


def test_a_spent_budget_leaves_a_model_out_and_explain_says_so():
    budgets = {"dear": {"amount": 0, "per": "day", "model": ["first:m"]}}
    with pair(models={"first:m": price(1)}, budgets=budgets) as kernel:
        selector = kernel.model_selector
        assert ("first:m", ()) == (
            selector.explain().candidates[0].reference,
            selector.explain().rejected,
        )
        assert "b" == selector.get_model().generate("Hello!")
        explained = selector.explain(tokens=100)

    assert "The budget of US$ 0 a day" in explained.rejected[0].reason
    assert isinstance(explained.rejected[0].error, BudgetExceededError)


def test_an_open_circuit_leaves_a_model_out_until_it_cools_down():
    with create_container(
        {"llm": {"default": {"candidates": ["first:m", "second:m"]}}},
        providers=[scripted(ProviderError("Down.")), scripted("b", id="second")],
    ) as app:
        app.policies.breakers.override(Breakers(failures=1))
        selector = app.kernel().model_selector
        selector.get_model().generate("Hello!")
        explained = selector.explain()

    assert "1 failures, the last one a ProviderError" in explained.rejected[0].reason
    assert isinstance(explained.rejected[0].error, CircuitOpenError)


def test_a_missing_key_leaves_a_candidate_out_with_the_variable_to_set(monkeypatch):
    Needy.made = 0
    with kernel_of(Needy(), scripted("b", id="second")) as kernel:
        selector = kernel.model_selector
        explained = selector.explain()
        selection = selector.select()
        assert "b" == selector.get_model().generate("Hello!")

    for told in (explained, selection):
        assert ["second:m"] == [each.reference for each in told.candidates]
        assert "set the environment variable NEEDY_API_KEY" in told.rejected[0].reason
        assert isinstance(told.rejected[0].error, MissingCredentialsError)
    assert 0 == Needy.made


def test_a_candidate_without_key_is_in_the_error_when_the_others_fail():
    with kernel_of(Needy(), scripted(AuthenticationError("No."), id="second")) as kernel:
        model = kernel.model_selector.get_model()
        with pytest.raises(AllModelsFailedError) as caught:
            model.generate("Hello!")

    assert [AuthenticationError, MissingCredentialsError] == [
        type(each) for each in caught.value.exceptions
    ]


def test_a_provider_that_nobody_registered_is_a_reason_to_explain():
    llm = {"purposes": {"coding": {"candidates": ["nowhere:m", "echo:m", "else/where"]}}}
    with create_kernel({"llm": llm}) as kernel:
        explained = kernel.model_selector.explain("coding")
        with pytest.raises(ConfigurationError, match="No provider 'nowhere'"):
            kernel.model_selector.get_model("coding")

    assert ["echo:m"] == [each.reference for each in explained.candidates]
    assert ["nowhere:m", "else:where"] == [each.reference for each in explained.rejected]
    assert "No provider 'nowhere'. Registered:" in explained.rejected[0].reason
    assert isinstance(explained.rejected[0].error, NotEligibleError)


def test_explaining_a_table_whose_only_provider_is_unknown():
    llm = {"purposes": {"coding": {"provider": "nowhere", "model": "m"}}}
    with create_kernel({"llm": llm}) as kernel:
        explained = kernel.model_selector.explain("coding")

    assert () == explained.candidates
    assert explained.why.startswith("None of 1 qualifies: No provider 'nowhere'.")


def test_explaining_a_bare_name_says_how_a_reference_is_written():
    with (
        create_kernel({"llm": {"purposes": {"coding": {"model": "gpt-4o"}}}}) as kernel,
        pytest.raises(ProviderNotFoundError, match="A reference is written 'provider:model'"),
    ):
        kernel.model_selector.explain("coding")


def test_explain_builds_nothing_and_calls_nothing(monkeypatch):
    monkeypatch.setenv("NEEDY_API_KEY", KEY)
    Needy.made = 0
    with kernel_of(Needy(), models={"needy:m": {"context_window": 8000, **price(2)}}) as kernel:
        explained = kernel.model_selector.explain(needs=["tools"], tokens=10, affinity="talk")

    assert 0 == Needy.made
    (ranked,) = explained.candidates
    assert ("needy:m", Decimal(2), Decimal(2), 8000, None, "closed") == (
        ranked.reference,
        ranked.input_price,
        ranked.output_price,
        ranked.context_window,
        ranked.latency,
        ranked.health,
    )
    assert KEY not in repr(explained)


# --- when nothing qualifies ---


def test_when_nothing_qualifies_each_reason_and_cure_is_in_the_error():
    models = {"first:m": {"context_window": 1}, "second:m": {"context_window": 2}}
    with pair(models=models) as kernel:
        with pytest.raises(AllModelsFailedError) as caught:
            kernel.model_selector.select(tokens=10)
        explained = kernel.model_selector.explain(tokens=10)

    assert "Its window of 1 tokens is too small" in str(caught.value)
    assert "add a model with a larger window" in str(caught.value)
    assert 2 == len(caught.value.exceptions) == len(explained.rejected)
    assert "None of 2 qualifies" in explained.why


def test_a_sole_candidate_that_does_not_qualify_raises_its_own_error():
    with kernel_of(scripted("a"), models={"first:m": {"context_window": 9}}) as kernel:
        with pytest.raises(ContextWindowExceededError):
            kernel.model_selector.select(tokens=10)
        assert "a" == kernel.model_selector.select().model.generate("")


# --- strategies ---

PRICED = {"first:m": price(2), "second:m": price(1)}


def test_the_cheapest_is_asked_first():
    with pair(table={"strategy": "cheapest"}, models=PRICED) as kernel:
        assert "b" == kernel.model_selector.get_model().generate("x")
        assert "strategy 'cheapest' puts it first of 2" in kernel.model_selector.select().why


def test_round_robin_takes_turns_and_a_conversation_stays():
    providers = [scripted(*["a"] * 20), scripted(*["b"] * 20, id="second")]
    with kernel_of(*providers, table={"strategy": "round_robin"}) as kernel:
        get_model = kernel.model_selector.get_model
        turns = [get_model().generate("x") for _ in range(4)]
        talks = {talk: {get_model(affinity=talk).generate("x") for _ in range(4)} for talk in "pqr"}

    assert ["a", "b", "a", "b"] == turns
    assert [1, 1, 1] == [len(answers) for answers in talks.values()]


def test_the_fastest_of_late_is_asked_first():
    with create_container(
        {"llm": {"default": {"candidates": ["first:m", "second:m"], "strategy": "fastest"}}},
        providers=[scripted(), scripted("b", id="second")],
    ) as app:
        model = app.kernel().model_selector.get_model()
        latencies = app.policies.latencies()
        for target, seconds in zip(model._targets, (0.9, 0.1), strict=True):
            latencies.note(target.circuit, seconds)

        assert "b" == model.generate("x")
        assert 0.9 == app.kernel().model_selector.explain().candidates[1].latency


@pytest.fixture
def module(monkeypatch):
    found = ModuleType("acme_strategies")
    found.backwards = lambda options: options[::-1]
    found.nothing = None
    monkeypatch.setitem(sys.modules, "acme_strategies", found)
    return found


def test_a_function_by_its_dotted_name_orders_them(module):
    with pair(table={"strategy": "acme_strategies:backwards"}) as kernel:
        assert "b" == kernel.model_selector.get_model().generate("x")


class Backwards(KorPlugin):
    id = "backwards"

    def initialize(self, context):
        context.register_strategy("acme:backwards", lambda options: options[::-1])


def test_a_strategy_of_a_plugin_serves_the_application_and_its_tenants():
    table = {"candidates": ["first:m", "second:m"], "strategy": "acme:backwards"}
    providers = [scripted(), scripted("b", "b", id="second")]
    source = {"llm": {"default": table}}
    with create_container(source, providers=providers, plugins=[Backwards()]) as app:
        assert "b" == app.kernel().model_selector.get_model().generate("x")
        with TenantKernels(app, {"acme": {}}) as tenants, tenants.use("acme") as kernel:
            assert "b" == kernel.model_selector.get_model().generate("x")
            assert "'acme:backwards'" in kernel.model_selector.explain().why


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("acme:backward", "Did you mean 'acme:backwards'?"),
        ("acme_strategies:nothing", "is no function"),
        ("acme_strategies:backwrds", "Did you mean 'backwards'?"),
    ],
)
def test_a_strategy_that_is_not_there_is_found_when_the_kernel_is_built(module, strategy, words):
    llm = {"purposes": {"coding": {"model": "echo:m", "strategy": strategy}}}

    with pytest.raises(ConfigurationError) as caught:
        create_kernel({"llm": llm}, plugins=[Backwards()])

    assert "llm.purposes.coding.strategy" == caught.value.problems[0].key
    assert words in str(caught.value)


def test_a_misspelt_strategy_of_kor_is_an_error_with_the_nearest_name():
    with pytest.raises(ConfigurationError, match="Did you mean 'cheapest'"):
        create_kernel({"llm": {"default": {"model": "echo:m", "strategy": "cheapst"}}})


@pytest.mark.parametrize("name", ["backwards", "acme:", ":backwards", ""])
def test_a_strategy_needs_a_prefix_that_tells_whose_it_is(name):
    with create_kernel({}) as kernel, pytest.raises(RegistrationError, match="'acme:") as caught:
        kernel.llm_registry.register_strategy(name, list)

    assert name == caught.value.name


def test_a_strategy_is_registered_once_and_replaced_on_purpose():
    with create_kernel({}) as kernel:
        registry = kernel.llm_registry
        registry.register_strategy("acme:s", list)
        with pytest.raises(RegistrationError, match="replace=True"):
            registry.register_strategy("acme:s", tuple)
        registry.register_strategy("acme:s", tuple, replace=True)
        with pytest.raises(TypeError, match="A strategy is a function"):
            registry.register_strategy("acme:t", "cheapest")

        assert tuple is registry.strategy("acme:s")


def test_a_strategy_that_raises_ends_the_call_in_a_typed_error(module):
    module.backwards = lambda options: options.missing
    with pair(table={"strategy": "acme_strategies:backwards"}) as kernel:
        model = kernel.model_selector.get_model()
        with pytest.raises(PluginError, match="It raised AttributeError"):
            model.generate("x")


# --- get_model and select ---


def test_needs_in_code_are_added_to_those_of_the_table():
    models = {"first:m": {"capabilities": {"vision": False}}}
    with pair(table={"needs": ["tools"]}, models=models) as kernel:
        selector = kernel.model_selector
        model = selector.get_model(needs=["vision"])

        assert model is selector.get_model(needs=["vision"])
        assert model is not selector.get_model()
        assert ["second:m"] == [
            each.reference for each in selector.select(needs=["vision"]).candidates
        ]
        assert "b" == model.generate("x")


def test_an_override_is_taken_with_its_own_needs_and_conversation():
    with pair(models={"first:m": {"capabilities": {"vision": False}}}) as kernel:
        selector = kernel.model_selector
        overridden = selector.get_model(override="second:other", needs=["vision"], affinity="x")
        selected = selector.select(override="second:other", affinity="x")

        assert "second:other" == str(overridden.reference)
        assert ("second:other", "It is the only candidate.") == (
            selected.candidates[0].reference,
            selected.why,
        )
        assert "b" == selected.model.generate("x")


def test_a_model_object_overrides_as_it_is():
    model = ScriptedModel(["x"])
    with pair() as kernel:
        assert model is kernel.model_selector.get_model(override=model, needs=["tools"])


def test_an_unknown_need_is_refused_with_the_nearest_name():
    with pair() as kernel, pytest.raises(ValueError, match="tools"):
        kernel.model_selector.get_model(needs=["tool"])


# --- what each container learns is its own ---


def test_a_double_in_a_derived_container_opens_no_circuit_and_fills_no_cache_of_the_parent():
    llm = {
        "default": {"model": "openai:gpt-4"},
        "providers": {"openai": {"api_key": KEY, "base_url": "http://127.0.0.1:9/v1"}},
        "policies": {"cache": {"entries": 10}, "retries": 0, "breaker": {"failures": 1}},
    }
    good = ScriptedProvider(["kept"], id="openai")
    bad = ScriptedProvider([ProviderError("Down.")], id="openai")
    with create_container({"llm": llm}) as app:
        with app.derive({"llm.openai": good}) as first:
            assert "kept" == first.kernel().model_selector.get_model().generate("x")
            with app.derive({"llm.openai": bad}) as second:
                model = second.kernel().model_selector.get_model()
                with pytest.raises(ProviderError, match="Down"):
                    model.generate("x")
            assert "closed" == first.kernel().model_selector.explain().candidates[0].health
        assert "closed" == app.kernel().model_selector.explain().candidates[0].health


def test_what_one_tenant_learns_of_a_models_speed_is_its_own():
    llm = {"default": {"candidates": ["first:m", "second:m"], "strategy": "fastest"}}
    providers = [scripted("a", "a"), scripted("b", id="second")]
    with (
        create_container({"llm": llm}, providers=providers) as app,
        TenantKernels(app, {"acme": {}, "umbrella": {}}) as tenants,
    ):
        with tenants.use("acme") as kernel:
            kernel.model_selector.get_model().generate("x")
            assert kernel.model_selector.explain().candidates[0].latency is not None
        with tenants.use("umbrella") as kernel:
            assert kernel.model_selector.explain().candidates[0].latency is None


# --- errors lead back to the configuration ---

CONFIG = """
[llm.providers.openai]
base_url = "{url}"
api_key = "{key}"

[llm.purposes.coding]
model = "openai:gpt-5-nope"
"""


@pytest.mark.parametrize("streamed", [False, True])
def test_an_unknown_model_leads_to_the_line_that_asked_for_it(clean_machine, streamed):
    with Upstream() as upstream:
        path = clean_machine / "config.toml"
        path.write_text(CONFIG.format(url=upstream.openai_url, key=KEY))
        upstream.fail(404, times=2)
        with create_kernel(path) as kernel:
            model = kernel.model_selector.get_model("coding")
            with pytest.raises(ModelNotFoundError) as caught:
                model.stream("x").collect() if streamed else model.generate("x")
            with pytest.raises(ModelNotFoundError) as in_code:
                kernel.llm_registry.get_model("openai:gpt-5-nope").generate("x")

    assert f"It was asked for by [llm.purposes.coding] in {path}:6" in str(caught.value)
    assert "asked for by" not in str(in_code.value)


def test_a_refused_key_leads_to_where_it_came_from(clean_machine, monkeypatch):
    with Upstream() as upstream:
        path = clean_machine / "config.toml"
        path.write_text(CONFIG.format(url=upstream.openai_url, key=KEY))
        upstream.fail(401, times=3)
        with create_kernel(path) as kernel:
            model = kernel.model_selector.get_model("coding")
            with pytest.raises(AuthenticationError) as caught:
                model.generate("x")
            own = kernel.llm_registry.get_model("openai:m", extra={"api_key": "sk-own-0000001"})
            with pytest.raises(AuthenticationError) as with_own:
                own.generate("x")

    assert f"The key is that of [llm.providers.openai] in {path}:4" in str(caught.value)
    assert "The key is that of" not in str(with_own.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("origin", ["mapping", "environment", "code"])
def test_a_refused_key_of_the_environment_names_the_variable(origin, monkeypatch):
    class Refusing(Needy):
        def create_model(self, model_name, config):
            return ScriptedModel([AuthenticationError("No.")], model_name=model_name)

    if origin == "environment":
        monkeypatch.setenv("NEEDY_API_KEY", KEY)
    providers = {"needy": {"api_key": KEY}} if origin == "mapping" else {}
    settings = {"extra": {"api_key": KEY}} if origin == "code" else {}
    with create_kernel({"llm": {"providers": providers}}, providers=[Refusing()]) as kernel:
        model = kernel.llm_registry.get_model("needy:m", **settings)
        with pytest.raises(AuthenticationError) as caught:
            model.generate("x")

    words = {
        "mapping": "needy:m: No. The key is that of [llm.providers.needy].",
        "environment": "needy:m: No. The key is that of the environment variable NEEDY_API_KEY.",
        "code": "needy:m: No.",
    }
    assert words[origin] == str(caught.value)


def test_the_words_are_said_once_however_often_the_error_passes():
    error = ModelNotFoundError("No such model.")
    with kernel_of(scripted(error, error)) as kernel:
        for _ in range(2):
            with pytest.raises(ModelNotFoundError):
                kernel.model_selector.get_model().generate("x")

    assert "first:m: No such model. It was asked for by [llm.default]." == str(error)


# --- custom providers say what they like, and no key ---


@pytest.mark.parametrize("where", ["create_model", "agenerate", "timeout", "call"])
def test_what_a_custom_provider_says_of_its_key_is_masked_in_every_spelling(where):
    said = f"sent 'Authorization: Bearer {KEY}', {KEY.replace('-', '%2D')!r}"

    class Model(BaseLLMModel):
        async def agenerate(self, prompt, **kwargs):
            if where == "timeout":
                raise TimeoutError(said)
            raise ValueError(said)

    class Telling(BaseLLMProvider):
        id = "telling"

        def create_model(self, model_name, config):
            if where == "create_model":
                raise ValueError(said)
            return Model(model_name, config)

    headers = {"extra_headers": {"authorization": f"Bearer {KEY}"}}
    table = {"telling": {"extra": headers}} if where != "call" else {}
    with create_kernel({"llm": {"providers": table}}, providers=[Telling()]) as kernel:
        settings = {"extra": headers} if where == "call" else {}
        with pytest.raises((ProviderError, TimeoutError)) as caught:
            kernel.llm_registry.get_model("telling:m").generate("x", **settings)

    assert KEY not in str(caught.value)
    assert "**********" in str(caught.value)


def test_a_retrier_of_ones_own_is_a_binding():
    with (
        create_container(
            {"llm": {"default": {"model": "first:m"}}},
            providers=[scripted(*[RateLimitError("Slow.")] * 4, "ok")],
        ) as app,
        app.override({"policies.retrier": Retrier(4, base=0)}),
    ):
        model = app.kernel().model_selector.get_model()
        assert "ok" == asyncio.run(model.agenerate("x"))
