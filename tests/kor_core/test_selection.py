"""Choosing is a pure function: each candidate is ranked or left out with a reason and a cure."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kor_core.errors import (
    BudgetExceededError,
    CapabilityNotSupportedError,
    CircuitOpenError,
    ContextWindowExceededError,
    NotEligibleError,
    PluginError,
)
from kor_core.llm.policies.circuit import CLOSED, CircuitState
from kor_core.llm.policies.strategies import (
    Turns,
    cheapest,
    fastest,
    ordered,
    round_robin,
    strategy_named,
)
from kor_core.llm.profile import UNKNOWN, ModelProfile
from kor_core.llm.reference import Reference
from kor_core.llm.selection import NOTHING, Needs, Standing, choose, lacking, sole

FAILING = CircuitState("open", "failures", "ProviderError", failures=5, left=12.0)
PROBED = CircuitState("half_open", "failures", "ProviderError", failures=5, probing=True)
REFUSED = CircuitState("open", "refused", "AuthenticationError", left=9.0)
SPENT = BudgetExceededError("The budget has nothing left. Raise it.")
NO_KEY = NotEligibleError("There is no key. Add one.")


def profile(**known: Any) -> ModelProfile:
    return ModelProfile(**known)


def standing(name: str = "m", **known: Any) -> Standing:
    return Standing(Reference("p", name), **known)


# --- as a whole ---

prices = st.none() | st.integers(0, 5).map(Decimal)
profiles = st.builds(
    ModelProfile,
    context_window=st.none() | st.integers(1, 100),
    input_price=prices,
    output_price=prices,
    supported=st.frozensets(st.sampled_from(["tools", "vision"])),
)
standings = st.lists(
    st.builds(
        Standing,
        st.builds(Reference, st.just("p"), st.sampled_from("abcdef")),
        profiles,
        st.sampled_from([CLOSED, FAILING, PROBED, REFUSED]),
        st.none() | st.floats(0, 9),
        st.sampled_from([None, SPENT]),
        st.sampled_from([None, NO_KEY]),
        st.frozensets(st.sampled_from(["eu", "fast"])),
        st.none() | st.frozensets(st.sampled_from(["acme", "umbrella"])),
    ),
    max_size=6,
    unique_by=lambda each: each.reference,
)
needs = st.builds(
    Needs,
    st.frozensets(st.sampled_from(["tools", "vision"])),
    st.integers(0, 120),
    st.none() | st.integers(1, 100),
    prices,
    st.frozensets(st.sampled_from(["eu"])),
    st.sampled_from([None, "acme", "nobody"]),
)
named = st.sampled_from([ordered, cheapest, fastest])


@given(standings, needs, named, st.none() | st.text(max_size=3))
def test_every_candidate_is_either_ranked_or_left_out_with_a_reason(given, needs, strategy, talk):
    choice = choose(given, needs, strategy, affinity=talk)
    ranked = [each.reference for each in choice.candidates]
    rejected = [each.reference for each in choice.rejected]

    assert sorted(str(each.reference) for each in given) == sorted([*ranked, *rejected])
    assert ranked == [str(given[place].reference) for place in choice.order]
    assert all(each.reason for each in choice.rejected)
    assert choice.why.endswith(".")


@given(standings, needs, named, st.none() | st.text(max_size=3))
def test_the_same_question_has_the_same_answer(given, needs, strategy, talk):
    first = choose(given, needs, strategy, affinity=talk)

    assert first == choose(given, needs, strategy, affinity=talk)


@given(standings, needs)
def test_the_same_ones_qualify_under_each_strategy(given, needs):
    found = {frozenset(choose(given, needs, each).order) for each in (ordered, cheapest, fastest)}

    assert 1 == len(found)


@given(standings, needs)
def test_whoever_refused_of_late_is_asked_last(given, needs):
    choice = choose(given, needs)
    cooled = [given[place].circuit.cooled for place in choice.order]

    assert sorted(cooled) == cooled


@given(standings)
def test_an_unknown_price_or_latency_ranks_last(given):
    ours = [each for each in given if each.circuit is CLOSED]
    by_price = choose(ours, NOTHING, cheapest)
    by_speed = choose(ours, NOTHING, fastest)
    unpriced = [None in (each.input_price, each.output_price) for each in by_price.candidates]

    assert sorted(unpriced) == unpriced
    unseen = [each.latency is None for each in by_speed.candidates]
    assert sorted(unseen) == unseen


@given(standings.filter(lambda given: len(given) == 1), needs)
def test_for_one_candidate_the_quick_way_says_the_same(given, needs):
    quick, usual = sole(given[0], needs), choose(given, needs)

    assert (usual.order, usual.rejected) == (quick.order, quick.rejected)


@given(standings, st.text(max_size=3))
def test_a_conversation_stays_where_it_is_when_another_candidate_goes(given, talk):
    turns = Turns()
    before = choose(given, NOTHING, lambda options: round_robin(options, turns), affinity=talk)
    if len(before.order) < 2:
        return
    first, gone = before.order[0], before.order[-1]
    left = [each for place, each in enumerate(given) if place != gone]
    after = choose(left, NOTHING, lambda options: round_robin(options, turns), affinity=talk)

    assert str(given[first].reference) == after.candidates[0].reference


# --- filters, one by one ---


@pytest.mark.parametrize(
    ("known", "needs", "error", "words"),
    [
        (
            {"profile": profile(unsupported=frozenset({"tools"}))},
            Needs(frozenset({"tools"})),
            CapabilityNotSupportedError,
            "lacks the capability 'tools'",
        ),
        (
            {"profile": profile(context_window=1000)},
            Needs(tokens=1001),
            ContextWindowExceededError,
            "Its window of 1,000 tokens is too small: about 1,001 are needed.",
        ),
        (
            {"profile": profile(context_window=1000)},
            Needs(tokens=1, min_context=2000),
            ContextWindowExceededError,
            "lower max_tokens or min_context",
        ),
        (
            {"profile": profile(input_price=Decimal(1), output_price=Decimal(9))},
            Needs(max_price=Decimal(8)),
            NotEligibleError,
            r"It costs US\$ 9 per million tokens, more than max_price = 8. Raise max_price",
        ),
        ({}, Needs(tags=frozenset({"eu"})), NotEligibleError, r"lacks the tags eu. Give them"),
        (
            {"tenants": frozenset({"acme"})},
            Needs(tenant="umbrella"),
            NotEligibleError,
            "not for this tenant. The operator decides",
        ),
        ({"spent": SPENT}, NOTHING, BudgetExceededError, "Raise it"),
        ({"unusable": NO_KEY}, NOTHING, NotEligibleError, "Add one"),
        ({"circuit": FAILING}, NOTHING, CircuitOpenError, r"open for another 12.0 s: 5 failures"),
        ({"circuit": PROBED}, NOTHING, CircuitOpenError, "add a fallback"),
    ],
)
def test_a_filter_says_why_and_what_would_help(known, needs, error, words):
    bad = standing("bad", **known)
    good = standing("good", tags=frozenset({"eu"}))
    choice = choose([bad, good], needs)

    assert ["p:good"] == [each.reference for each in choice.candidates]
    (rejected,) = choice.rejected
    assert "p:bad" == rejected.reference
    with pytest.raises(error, match=words):
        raise rejected.error
    assert rejected.reason in str(rejected.error)
    assert "p:good: it is the only one that qualifies, 1 left out." == choice.why


@pytest.mark.parametrize(
    ("known", "needs"),
    [
        ({}, Needs(frozenset({"tools"}), 10**9, 10**9, Decimal(0))),  # nothing is known
        ({"profile": profile(context_window=10)}, Needs(tokens=10, min_context=10)),
        (
            {"profile": profile(input_price=Decimal(8), output_price=Decimal(8))},
            Needs(max_price=Decimal(8)),
        ),
        ({"tags": frozenset({"eu", "fast"})}, Needs(tags=frozenset({"eu"}))),
        ({"tenants": frozenset({"acme"})}, Needs(tenant="acme")),
        ({"tenants": frozenset({"acme"})}, NOTHING),  # the application's own call
        ({"circuit": REFUSED}, NOTHING),
        ({"circuit": CircuitState("half_open", "failures", "E")}, NOTHING),
    ],
)
def test_what_is_unknown_or_just_enough_qualifies(known, needs):
    assert lacking(standing(**known), needs) is None
    assert (0,) == sole(standing(**known), needs).order


def test_an_error_without_words_of_its_own_is_told_all_the_same():
    class SilentError(NotEligibleError):
        def __str__(self) -> str:
            return "Ask the operator."

    error = SilentError("")
    error.args = ()

    assert "Ask the operator." == sole(standing(unusable=error), NOTHING).rejected[0].reason


@pytest.mark.parametrize(
    ("profiles", "needs"),
    [
        ([UNKNOWN, profile(supported=frozenset({"tools"}))], Needs(frozenset({"tools"}))),
        ([UNKNOWN, profile(context_window=9)], Needs(min_context=9)),
        (
            [UNKNOWN, profile(input_price=Decimal(1), output_price=Decimal(1))],
            Needs(max_price=Decimal(1)),
        ),
    ],
)
def test_who_is_known_to_do_goes_before_whom_nobody_knows(profiles, needs):
    given = [standing(str(place), profile=each) for place, each in enumerate(profiles)]

    assert (1, 0) == choose(given, needs).order


# --- strategies ---


def test_the_sentence_names_the_strategy_and_the_conversation():
    given = [standing("a"), standing("b")]
    round_about = strategy_named("round_robin")

    assert "strategy 'fastest' puts it first of 2" in choose(given, NOTHING, name="fastest").why
    talking = choose(given, NOTHING, round_about, affinity="talk")
    assert "the conversation stays with it" in talking.why
    assert "p:a: it is the only candidate." == choose(given[:1], NOTHING).why
    assert "There is no candidate." == choose([], NOTHING).why
    none = choose([standing(unusable=NO_KEY)], NOTHING).why
    assert "None of 1 qualifies: There is no key. Add one." == none


@pytest.mark.parametrize("strategy", [ordered, cheapest])
def test_a_conversation_does_not_draw_calls_from_the_first_to_the_fallback(strategy):
    price = {"input_price": Decimal(1), "output_price": Decimal(1)}
    given = [standing("first", profile=profile(**price)), standing("fallback")]
    firsts = {choose(given, NOTHING, strategy, affinity=str(talk)).order for talk in range(20)}

    assert {(0, 1)} == firsts


def test_a_model_that_stands_there_twice_is_asked_once():
    given = [standing("a"), standing("b"), standing("a")]

    assert (0, 1) == choose(given, NOTHING).order


def test_whom_a_strategy_leaves_out_is_left_out_with_that_reason():
    given = [standing("a"), standing("b")]
    choice = choose(given, NOTHING, lambda options: options[1:], name="acme:picky")

    assert (1,) == choice.order
    assert "The strategy 'acme:picky' leaves it out" in choice.rejected[0].reason


def test_a_strategy_that_names_one_twice_changes_nothing():
    given = [standing("a"), standing("b")]

    assert (1, 0) == choose(given, NOTHING, lambda options: [*options[::-1], *options]).order


def raising(options):
    raise LookupError("no idea")


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (raising, "It raised LookupError: no idea."),
        (lambda options: None, "It raised TypeError"),
        (lambda options: ["p:a"], "It raised AttributeError"),
        (lambda options: [standing("c")], "which is no candidate"),
    ],
)
def test_a_strategy_that_goes_astray_is_a_typed_error_that_names_it(strategy, words):
    with pytest.raises(PluginError, match="returns the options that it is given") as caught:
        choose([standing("a"), standing("b")], NOTHING, strategy, name="acme:astray")

    assert words in str(caught.value)
    assert "acme:astray" == caught.value.plugin
