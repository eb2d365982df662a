"""However a model is asked for, what the operator says of it holds."""

from decimal import Decimal
from typing import Any

import pytest

from kor_containers import TenantKernels, create_container
from kor_core.adapters.litellm_vendors import names_of
from kor_core.errors import BudgetExceededError, NotEligibleError, RateLimitError
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider
from kor_core.llm.response import LLMResponse, Usage
from kor_core.testing import ScriptedModel, Upstream

SPELLINGS = ("big", "maker/big")
DOLLAR_A_TOKEN = {"input_price": 1_000_000, "output_price": 1_000_000}


class Spelling(BaseLLMProvider):
    """Takes names with and without their maker, as litellm does."""

    id = "spelling"

    def create_model(self, model_name: str, config: dict[str, Any]) -> BaseLLMModel:
        answers = [LLMResponse("ok", usage=Usage(3, 2))] * 9
        return ScriptedModel(answers, model_name=model_name, config=config)

    def names(self, model_name: str) -> tuple[str, ...]:
        bare = model_name.rpartition("/")[2]
        return (bare, f"maker/{bare}")


def made(**llm: Any) -> Any:
    default = {"default": {"provider": "spelling", "model": "small"}}
    return create_container({"llm": {**default, **llm}}, providers=[Spelling()])


TABLES = ["big", "maker/big", "spelling:big", "spelling/maker/big", "spelling:maker/big"]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("asked", SPELLINGS)
def test_a_model_that_is_for_others_is_refused_by_every_name(table, asked):
    overlay = {"llm": {"default": {"model": asked}}}
    with (
        made(models={table: {"tenants": ["acme"]}}) as app,
        TenantKernels(app, {"globex": overlay, "acme": overlay}) as tenants,
    ):
        with tenants.use("acme") as kernel:
            assert "ok" == kernel.model_selector.get_model().generate("x")
        with tenants.use("globex") as kernel, pytest.raises(NotEligibleError):
            kernel.model_selector.get_model().generate("x")


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("asked", SPELLINGS)
def test_prices_tags_and_places_are_found_by_every_name(table, asked):
    known = {**DOLLAR_A_TOKEN, "tags": ["eu"], "concurrency": 1}
    with made(models={table: known}) as app:
        model = app.kernel().llm_registry.get_model(f"spelling:{asked}")

        assert Decimal(5) == model.chat("x").cost
        assert {"eu"} == model._targets[0].tags
        (gate,) = app.policies.concurrency().gates
        assert gate in model._targets[0].gates


def test_one_rate_counts_all_spellings():
    with made(models={"big": {"requests_per_minute": 2}}) as app:
        bare, qualified = (
            app.kernel().llm_registry.get_model(f"spelling:{each}") for each in SPELLINGS
        )
        bare.generate("x")
        qualified.generate("x")

        for model in (bare, qualified):
            with pytest.raises(RateLimitError):
                model.generate("x")


@pytest.mark.parametrize(
    "budget", [{"model": "big"}, {"model": "spelling:maker/big"}, {"each": "model"}]
)
def test_one_budget_counts_all_spellings(budget):
    budgets = {"all": {"amount": 10, "per": "day", **budget}}
    with made(models={"big": DOLLAR_A_TOKEN}, budgets=budgets) as app:
        models = [app.kernel().llm_registry.get_model(f"spelling:{each}") for each in SPELLINGS]
        for model in models:
            model.chat("x")

        for model in models:
            with pytest.raises(BudgetExceededError):
                model.chat("x")


def test_the_most_exact_name_goes_before_the_others():
    models = {"big": {"max_output": 1}, "maker/big": {"max_output": 2}, "other": {"max_output": 3}}
    with made(models=models) as app:
        registry = app.kernel().llm_registry

        assert [2, 2] == [registry.profile(f"spelling:{each}").max_output for each in SPELLINGS]
        assert 3 == registry.profile("spelling:other").max_output


# --- litellm ---


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("claude-3-opus", {"anthropic/claude-3-opus", "anthropic:claude-3-opus"}),
        ("openai/gpt-4o", {"gpt-4o", "openai:gpt-4o"}),
        ("openrouter/openai/gpt-4o", {"gpt-4o", "openai/gpt-4o"}),
        ("ollama/llama3:8b", {"llama3:8b", "ollama_chat/llama3:8b"}),
        ("ollama_chat/llama3:8b", {"llama3:8b", "ollama/llama3:8b"}),
        ("llama3", set()),
        ("openai/", set()),
        ("openai/x/", {"x/"}),
    ],
)
def test_litellm_means_one_model_by_several_names(name, others):
    assert {name, *others} <= set(names_of(name))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("claude-3-opus", "anthropic/claude-3-opus"),
        ("gpt-4o", "openai/gpt-4o"),
        ("ollama/llama3", "ollama_chat/llama3"),
    ],
)
def test_it_gives_the_same_names_for_all_of_them(one, other):
    assert names_of(one) == names_of(other)


@pytest.mark.parametrize("asked", ["gpt-4o", "openai/gpt-4o"])
def test_a_model_of_litellm_that_is_for_others_is_not_asked(asked):
    with Upstream() as upstream:
        llm = {
            "default": {"provider": "litellm", "model": "gpt-4o-mini"},
            "providers": {"litellm": {"api_key": "sk-of-nobody", "base_url": upstream.openai_url}},
            "models": {"gpt-4o": {"tenants": ["acme"]}},
        }
        overlay = {"llm": {"default": {"model": asked}}}
        with (
            create_container({"llm": llm}) as app,
            TenantKernels(app, {"globex": overlay}) as tenants,
            tenants.use("globex") as kernel,
            pytest.raises(NotEligibleError),
        ):
            kernel.model_selector.get_model().generate("x")

        assert () == upstream.requests
