"""``[llm.models]``: what the operator knows of models, exact, checked, and no tenant's to set."""

import json
from decimal import Decimal

import pytest

from kor_core.adapters.dynaconf import load_settings
from kor_core.errors import ConfigurationError
from kor_core.llm.catalogue import Catalogue
from kor_core.llm.profile import ModelProfile
from kor_core.llm.reference import Reference
from kor_core.llm.registry import LLMRegistry
from kor_core.settings import ProfileSettings, settings_from
from kor_core.settings.overlay import settings_for_tenant
from kor_core.testing import ScriptedProvider


def of(**values):
    return settings_from({"llm": {"models": {"gpt-4.1": values}}})


def problem(**values):
    with pytest.raises(ConfigurationError) as caught:
        of(**values)
    (found,) = caught.value.problems
    return found


@pytest.mark.parametrize("price", [0.15, Decimal("0.15")])
def test_a_price_is_what_was_written(price):
    assert Decimal("0.15") == of(input_price=price).llm.models["gpt-4.1"].input_price


@pytest.mark.parametrize("price", [0, 0.0, 3, 1e-7, 12345.678901])
def test_a_price_may_be_zero_and_any_number_above(price):
    assert Decimal(str(price)) == of(output_price=price).llm.models["gpt-4.1"].output_price


@pytest.mark.parametrize(
    ("values", "key", "expected"),
    [
        ({"input_price": "0.15"}, "input_price", "Expected a number, found text."),
        ({"input_price": True}, "input_price", "Expected a number, found true or false."),
        ({"output_price": -1}, "output_price", "Expected a number at least 0."),
        ({"output_price": float("nan")}, "output_price", "Expected a finite number"),
        ({"cached_input_price": float("inf")}, "cached_input_price", "Expected a finite number"),
        ({"context_window": 0}, "context_window", "Expected a number at least 1."),
        ({"max_output": 1.5}, "max_output", "Expected a whole number"),
        ({"capabilities": ["tools"]}, "capabilities", "Expected a table, found a list."),
        ({"capabilities": {"tools": "yes"}}, "capabilities.tools", "Expected true or false"),
        ({"capabilities": {"tolls": True}}, "capabilities.tolls", "No capability 'tolls'."),
    ],
)
def test_a_wrong_value_is_refused_at_its_key(values, key, expected):
    found = problem(**values)

    assert f'llm.models."gpt-4.1".{key}' == found.key
    assert found.message.startswith(expected)


def test_a_misspelt_name_is_refused_with_the_nearest():
    assert "input_price" == problem(input_prize=1).suggestion
    assert "Did you mean 'vision'?" in problem(capabilities={"visoin": True}).message


def test_values_keep_the_file_and_line_and_layers_merge_key_by_key(tmp_path, monkeypatch):
    monkeypatch.setenv("KOR_LLM__MODELS__LLAMA__INPUT_PRICE", "0.10")
    monkeypatch.setenv("KOR_LLM__MODELS__LLAMA__CAPABILITIES__TOOLS", "false")
    file = tmp_path / "config.toml"
    file.write_text(
        '[llm.models."gpt-4.1"]\ninput_price = 0.15\n\n'
        "[llm.models.llama]\ninput_price = 3\ncapabilities = { tools = true, vision = true }\n"
    )

    settings = load_settings(file)

    expected = {
        "input_price": Decimal("0.10"),
        "capabilities": {"tools": False, "vision": True},
    }
    llama = settings.llm.models["llama"]
    assert expected == {name: getattr(llama, name) for name in expected}
    assert Decimal("0.15") == settings.llm.models["gpt-4.1"].input_price
    assert f"{file}:2" == settings.origin("llm", "models", "gpt-4.1", "input_price")
    assert "KOR_LLM__MODELS__LLAMA__INPUT_PRICE" == settings.origin(
        "llm", "models", "llama", "input_price"
    )


@pytest.mark.parametrize("text", ["cheap", "nan", "-1"])
def test_a_variable_that_holds_no_price_is_refused_by_name(text, tmp_path, monkeypatch):
    monkeypatch.setenv("KOR_LLM__MODELS__LLAMA__INPUT_PRICE", text)
    file = tmp_path / "config.toml"
    file.write_text("")

    with pytest.raises(ConfigurationError, match=r"KOR_LLM__MODELS__LLAMA__INPUT_PRICE: .*number"):
        load_settings(file)


def test_an_explanation_shows_prices_as_numbers():
    explained = {each.key: each.value for each in of(input_price=0.15).explain()}

    assert "0.15" == json.dumps(explained['llm.models."gpt-4.1".input_price'])


# --- what the registry makes of it ---


class Telling(ScriptedProvider):
    """A provider that says something of its models."""

    def profile(self, model_name):
        return ModelProfile(
            supported=frozenset({"streaming", "vision"}), context_window=1, max_output=1
        )


def table(provider, model):
    return ModelProfile(
        supported=frozenset({"tools"}),
        unsupported=frozenset({"vision"}),
        max_output=len(f"{provider}/{model}"),
        input_price=Decimal(2),
        output_price=Decimal(2),
    )


def registry(settings, **given):
    return LLMRegistry(settings, Catalogue([Telling(["x"], id="one")]), **given)


def test_the_configuration_goes_before_the_table_and_the_table_before_the_provider():
    settings = settings_from(
        {"llm": {"models": {"one:m": {"input_price": 0, "capabilities": {"tools": False}}}}}
    )

    expected = ModelProfile(
        supported=frozenset({"streaming"}),
        unsupported=frozenset({"tools", "vision"}),
        context_window=1,
        max_output=5,
        input_price=Decimal(),
        output_price=Decimal(2),
    )
    found = registry(settings, profiles=table)
    assert expected == found.profile("one:m") == found.profile("one/m")
    assert expected == found.profile(Reference("one", "m"))


def test_without_a_table_only_the_configuration_and_the_provider_are_asked():
    assert 1 == registry(settings_from({})).profile("one:m").max_output


# --- tenants ---


def test_prices_and_capabilities_are_the_operators_alone():
    base = of(input_price=2)
    overlay = {"llm": {"models": {"gpt-4.1": {"input_price": 0}}}}

    with pytest.raises(ConfigurationError, match=r"acme': llm\.models: Not a ten"):
        settings_for_tenant(base, "acme", overlay)


def test_a_tenant_has_the_operators_profiles():
    base = of(input_price=2)
    overlay = {"llm": {"default": {"model": "echo:any"}}}

    tenant = settings_for_tenant(base, "acme", overlay)

    assert base.llm.models is tenant.llm.models


def test_a_profile_of_settings_shows_what_is_set_and_no_more():
    assert "ProfileSettings(max_output=5)" == repr(ProfileSettings(max_output=5))
