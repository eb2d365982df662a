"""A profile says what is known of a model, and nothing of what is not."""

import pickle
from decimal import Decimal

import pytest

from kor_core.llm.profile import UNKNOWN, ModelProfile, PriceTier, configured, unknown_models
from kor_core.llm.reference import spelled
from kor_core.llm.response import Usage
from kor_core.settings.models import ProfileSettings

PRICED = ModelProfile(
    input_price=Decimal("2.5"), output_price=Decimal(10), cached_input_price=Decimal("1.25")
)


def test_a_capability_is_there_or_not_there_or_unknown() -> None:
    profile = ModelProfile(supported=frozenset({"tools"}), unsupported=frozenset({"vision"}))

    assert (True, False, None) == tuple(map(profile.supports, ("tools", "vision", "audio")))
    assert {"tools"} == profile.capabilities


def test_of_an_unknown_model_everything_is_none_and_nothing_is_zero() -> None:
    numbers = ("context_window", "max_output", "input_price", "output_price", "cached_input_price")

    assert [None] * len(numbers) == [getattr(UNKNOWN, name) for name in numbers]
    assert UNKNOWN.supports("chat") is None
    assert UNKNOWN.cost(Usage(1, 1)) is None
    assert UNKNOWN is unknown_models("openai", "gpt-4.1")
    assert "ModelProfile(nothing known)" == str(UNKNOWN)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: UNKNOWN.supports("tolls"),
        lambda: ModelProfile(supported=frozenset({"tolls"})),
        lambda: ModelProfile(unsupported=frozenset({"tolls"})),
    ],
)
def test_a_misspelt_capability_is_refused_with_the_nearest_one(ask) -> None:
    with pytest.raises(ValueError, match=r"No capability 'tolls'.*Did you mean 'tools'\?"):
        ask()


def test_a_capability_cannot_be_there_and_not_be_there() -> None:
    with pytest.raises(ValueError, match="'tools' is in `supported` and in `unsupported`"):
        ModelProfile(supported=frozenset({"tools"}), unsupported=frozenset({"tools"}))


def test_a_profile_is_a_value_frozen_and_picklable() -> None:
    assert PRICED == pickle.loads(pickle.dumps(PRICED))
    assert not hasattr(PRICED, "__dict__")
    with pytest.raises(AttributeError):
        PRICED.max_output = 1


# --- cost ---


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(1_000_000, 0), "2.5"),
        (Usage(0, 1_000_000), "10"),
        (Usage(3, 1), "0.0000175"),
        (Usage(1000, 100, cached_tokens=400), "0.003"),
        (Usage(1000, 0, cached_tokens=5000), "0.00125"),
        (Usage(0, 0), "0"),
    ],
)
def test_a_cost_is_exact(usage: Usage, expected: str) -> None:
    assert Decimal(expected) == PRICED.cost(usage)


def test_a_price_of_a_tenth_of_a_cent_is_no_binary_fraction() -> None:
    profile = ModelProfile(input_price=Decimal("0.15"), output_price=Decimal("0.6"))

    assert Decimal("0.00000015") == profile.cost(Usage(1, 0))


@pytest.mark.parametrize("usage", [Usage(), Usage(1), Usage(None, 1)])
def test_a_cost_is_unknown_where_tokens_are(usage: Usage) -> None:
    assert PRICED.cost(usage) is None


def test_a_cost_is_unknown_where_a_price_that_counts_is() -> None:
    profile = ModelProfile(input_price=Decimal(2))

    assert profile.cost(Usage(1, 1)) is None
    assert Decimal(2) == profile.cost(Usage(1_000_000, 0))


def test_cached_tokens_without_a_price_of_their_own_cost_the_full_one() -> None:
    profile = ModelProfile(input_price=Decimal(2), output_price=Decimal(8))

    assert profile.cost(Usage(1000, 0)) == profile.cost(Usage(1000, 0, cached_tokens=900))


def test_a_free_model_that_is_said_to_be_free_costs_nothing() -> None:
    free = ModelProfile(input_price=Decimal(), output_price=Decimal())

    assert Decimal() == free.cost(Usage(1000, 1000))


def test_a_long_request_costs_the_prices_of_its_tier_for_all_its_tokens() -> None:
    tiers = (
        PriceTier(100, Decimal(4), Decimal(8), Decimal(2)),
        PriceTier(1000, Decimal(6), Decimal(12)),
    )
    profile = ModelProfile(input_price=Decimal(1), output_price=Decimal(2), tiers=tiers)

    costs = [profile.cost(Usage(tokens, 1)) for tokens in (100, 101, 1000, 1001)]

    expected = ["0.000102", "0.000412", "0.004008", "0.006018"]
    assert list(map(Decimal, expected)) == costs


# --- merging ---


def test_what_lies_over_wins_and_leaves_the_rest() -> None:
    below = ModelProfile(
        supported=frozenset({"tools", "vision"}),
        unsupported=frozenset({"audio"}),
        context_window=100,
        max_output=10,
    )
    over = ModelProfile(
        supported=frozenset({"audio"}), unsupported=frozenset({"vision"}), max_output=20
    )

    merged = below.overlaid(over)

    expected = ModelProfile(
        supported=frozenset({"tools", "audio"}),
        unsupported=frozenset({"vision"}),
        context_window=100,
        max_output=20,
    )
    assert expected == merged
    assert below is below.overlaid(UNKNOWN)
    assert over is UNKNOWN.overlaid(over)


@pytest.mark.parametrize("name", ["input_price", "output_price"])
def test_tiers_do_not_outlive_the_prices_they_belong_to(name: str) -> None:
    tiered = ModelProfile(input_price=Decimal(1), tiers=(PriceTier(100, Decimal(2)),))
    over = ModelProfile(**{name: Decimal(3)})

    assert () == tiered.overlaid(over).tiers
    assert tiered.tiers == tiered.overlaid(ModelProfile(max_output=1)).tiers


def test_a_configured_reference_goes_before_a_configured_name() -> None:
    models = {
        "gpt": ProfileSettings(max_output=1, context_window=100, capabilities={"tools": True}),
        "groq/gpt": ProfileSettings(max_output=2, capabilities={"tools": False}),
        "groq:gpt": ProfileSettings(max_output=3),
        "groq:other": ProfileSettings(max_output=4),
    }

    expected = ModelProfile(unsupported=frozenset({"tools"}), context_window=100, max_output=3)
    assert expected == configured(models, spelled("groq", ("gpt",)))
    assert 1 == configured(models, spelled("openai", ("gpt",))).max_output
    assert UNKNOWN is configured({}, ["gpt"]) is configured(models, spelled("groq", ("x",)))
