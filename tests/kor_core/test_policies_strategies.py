"""Strategies order candidates: the unknown behind the known, the cooled last, ties stable."""

from collections import Counter
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kor_core.llm.policies.strategies import (
    Option,
    Turns,
    cheapest,
    fastest,
    ordered,
    preferred,
    round_robin,
    strategy_named,
)


def names(options: object) -> str:
    assert isinstance(options, tuple)
    return "".join(option.reference for option in options)


STRATEGIES = [
    ordered,
    cheapest,
    fastest,
    lambda options: round_robin(options, Turns()),
    lambda options: preferred("conversation", options),
]

OPTIONS = st.lists(
    st.builds(
        Option,
        reference=st.sampled_from("abcdefgh"),
        price=st.none() | st.decimals(0, 9, places=1),
        latency=st.none() | st.floats(0, 9),
        known_capable=st.booleans(),
        cooled=st.booleans(),
    ),
    unique_by=lambda option: option.reference,
)


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(options=OPTIONS)
def test_every_strategy_loses_none_and_puts_the_cooled_last(strategy, options: list[Option]):
    chosen = strategy(options)

    ranks = [(option.cooled, not option.known_capable) for option in chosen]
    assert sorted(ranks) == ranks
    assert Counter(options) == Counter(chosen)


def test_ordered_keeps_the_order_among_equals():
    options = [
        Option("a", cooled=True),
        Option("b", known_capable=False),
        Option("c"),
        Option("d"),
        Option("e", cooled=True),
    ]

    assert "cdbae" == names(ordered(options))


def test_the_cheapest_comes_first_and_the_unknown_after_the_known():
    options = [
        Option("a"),
        Option("b", price=Decimal("0.2")),
        Option("c", price=Decimal("0.1")),
        Option("d"),
        Option("e", price=Decimal("0.1")),
        Option("f", price=Decimal(0)),
    ]

    assert "fcebad" == names(cheapest(options))


def test_the_fastest_comes_first_and_the_unknown_after_the_known():
    options = [Option("a"), Option("b", latency=0.2), Option("c", latency=0.1)]

    assert "cba" == names(fastest(options))


@given(options=OPTIONS)
def test_round_robin_gives_each_of_the_best_the_same_number_of_first_turns(options: list[Option]):
    turns = Turns()
    best = [option for option in options if not option.cooled and option.known_capable]
    rounds = 3

    firsts = Counter(round_robin(options, turns)[0] for _ in range(rounds * len(best)))

    assert dict.fromkeys(best, rounds) == firsts


def test_strategies_are_found_by_name_and_each_round_robin_counts_for_itself():
    options = [Option("a"), Option("b")]
    one, other = strategy_named("round_robin"), strategy_named("round_robin")

    firsts = [strategy(options)[0].reference for strategy in (one, one, other)]

    assert ["a", "b", "a"] == firsts
    assert (ordered, cheapest, fastest) == tuple(
        map(strategy_named, ("ordered", "cheapest", "fastest"))
    )


def test_an_unknown_strategy_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="cheapest, fastest, ordered, round_robin"):
        strategy_named("slowest")


CONVERSATIONS = [f"conversation {number}" for number in range(300)]


def test_a_conversation_stays_while_its_model_is_healthy():
    options = [Option(name) for name in "abcd"]
    before = {each: names(preferred(each, options)) for each in CONVERSATIONS}

    shuffled = {each: names(preferred(each, options[::-1])) for each in CONVERSATIONS}

    assert before == shuffled
    assert set("abcd") == {order[0] for order in before.values()}


def test_only_the_conversations_of_a_model_that_cools_down_move():
    options = [Option(name) for name in "abcd"]
    cooled = [replace(option, cooled=option.reference == "a") for option in options]

    for each in CONVERSATIONS:
        before, after = names(preferred(each, options)), names(preferred(each, cooled))

        assert before.replace("a", "") + "a" == after
