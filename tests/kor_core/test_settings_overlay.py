"""A tenant's overlay says which models serve it, and nothing that moves the operator's secrets."""

import traceback
from collections.abc import Sized

import pytest
from pydantic import SecretStr

from kor_core.errors import ConfigurationError
from kor_core.settings import (
    LLMSettings,
    ModelSettings,
    ProviderSettings,
    PurposeSettings,
    Settings,
    settings_from,
)
from kor_core.settings import draft as draft_module
from kor_core.settings import tenancy as tenancy_module
from kor_core.settings.generation import parameters_of
from kor_core.settings.limits import leaves_path
from kor_core.settings.overlay import settings_for_tenant
from kor_core.settings.provenance import Sourced
from kor_core.settings.toml import parsed_toml

PLANTED = "sk-planted-operator"

OPERATOR = {
    "llm": {
        "default": {"provider": "openai", "model": "gpt-4o", "max_price": 20},
        "providers": {
            "openai": {
                "api_key": PLANTED,
                "timeout": 30,
                "extra": {"extra_headers": {"X-Gateway": PLANTED}, "organization": "org-op"},
            },
            "litellm": {"extra": {"drop_params": True}},
        },
        "purposes": {
            "fast": {"model": "gpt-4o-mini", "extra": {"top_k": 3}},
            "coding": {"provider": "litellm", "model": "claude-3-opus"},
        },
    },
    "network": {"connect_timeout": 2},
}


@pytest.fixture
def base():
    return settings_from(OPERATOR)


def acme(base, **llm):
    return settings_for_tenant(base, "acme", {"llm": llm})


def refused(base, overlay):
    with pytest.raises(ConfigurationError) as caught:
        settings_for_tenant(base, "acme", overlay)
    shown = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    assert PLANTED not in shown
    # the first of a key, where it has several
    return {problem.key: problem for problem in reversed(caught.value.problems)}


# --- merging ---


def test_an_empty_overlay_gives_the_operators_settings_with_the_tenants_id(base):
    settings = settings_for_tenant(base, "acme", {})

    assert "acme" == settings.tenant
    assert base == settings
    assert base.tenant is None


def test_a_tenants_key_leaves_the_operators_rates_in_its_settings():
    base = settings_from({"llm": {"providers": {"openai": {"requests_per_minute": 5}}}})

    settings = acme(base, providers={"openai": {"api_key": "sk-acme"}})

    assert 5 == settings.llm.providers["openai"].requests_per_minute


def test_tables_merge_key_by_key_and_what_is_untouched_is_the_very_object(base):
    settings = acme(
        base, default={"temperature": 0.5}, providers={"openai": {"api_key": "sk-acme"}}
    )

    default, openai = settings.llm.default, settings.llm.providers["openai"]
    assert ("gpt-4o", 0.5, 20) == (default.model, default.temperature, default.max_price)
    assert "sk-acme" == openai.api_key.get_secret_value()
    assert 30 == openai.timeout
    assert base.network is settings.network
    assert base.llm.purposes["coding"] is settings.llm.purposes["coding"]
    assert base.llm.providers["litellm"] is settings.llm.providers["litellm"]


def test_the_operators_purposes_inherit_from_the_tenants_default(base):
    settings = acme(base, default={"temperature": 0.5, "extra": {"seed": 1}})

    fast = settings.llm.purposes["fast"]
    assert ("openai", "gpt-4o-mini", 0.5) == (fast.provider, fast.model, fast.temperature)
    assert {"seed": 1, "top_k": 3} == dict(fast.extra)
    assert base.llm.purposes["fast"].temperature is None


def test_a_tenants_own_purpose_inherits_as_the_operators_do(base):
    settings = acme(base, purposes={"tiny": {"max_tokens": 5}})

    tiny = settings.llm.purposes["tiny"]
    assert ("openai", "gpt-4o", 5) == (tiny.provider, tiny.model, tiny.max_tokens)


def test_a_provider_for_the_default_changes_no_purpose_that_names_its_own():
    base = settings_from(
        {
            "llm": {
                "default": {"model": "openai:gpt-4o"},
                "purposes": {"fast": {"model": "openai:gpt-4o-mini"}},
            }
        }
    )

    settings = acme(base, default={"provider": "litellm", "model": "claude-3-opus"})

    assert base.llm.purposes["fast"] is settings.llm.purposes["fast"]
    assert "litellm" == settings.llm.default.provider


def test_lists_replace(base):
    first = acme(base, default={"fallbacks": ["litellm:claude-3-opus"]})
    second = settings_for_tenant(
        settings_from({"llm": {"default": {"model": "a:b", "fallbacks": ["c:d", "e:f"]}}}),
        "acme",
        {"llm": {"default": {"fallbacks": ["g:h"]}}},
    )

    assert ("litellm:claude-3-opus",) == first.llm.default.fallbacks
    assert ("g:h",) == second.llm.default.fallbacks


def test_settings_made_in_code_are_merged_too():
    base = Settings(
        llm=LLMSettings(
            default=ModelSettings(provider="openai", model="gpt-4o", extra={"top_k": 2}),
            providers={"openai": ProviderSettings(api_key=SecretStr(PLANTED), timeout=3)},
            purposes={"fast": PurposeSettings(provider="openai", model="mini")},
        )
    )

    settings = acme(
        base,
        default={"extra": {"seed": 1}},
        providers={"openai": {"timeout": 9}},
        purposes={"fast": {"temperature": 1}},
    )

    assert {"top_k": 2, "seed": 1} == dict(settings.llm.default.extra)
    assert PLANTED == settings.llm.providers["openai"].api_key.get_secret_value()
    assert 9 == settings.llm.providers["openai"].timeout
    assert ("mini", 1) == (
        settings.llm.purposes["fast"].model,
        settings.llm.purposes["fast"].temperature,
    )


def test_where_nothing_is_configured_the_echo_serves_tenants_until_they_say_otherwise():
    base = Settings.when_unconfigured()

    silent = settings_for_tenant(base, "acme", {})
    own = acme(base, default={"provider": "openai", "model": "gpt-4o"})

    assert "echo" == silent.llm.default.provider
    assert ("openai", "gpt-4o") == (own.llm.default.provider, own.llm.default.model)


def test_the_overlay_may_change_later_and_the_settings_do_not(base):
    overlay = {"llm": {"providers": {"openai": {"base_url": "http://acme.test/v1"}}}}
    settings = settings_for_tenant(base, "acme", overlay)

    del overlay["llm"]["providers"]["openai"]["base_url"]

    assert settings.tenancy.names_endpoint("openai")
    assert "overlay of tenant 'acme'" == settings.origin("llm", "providers", "openai", "base_url")


def test_a_key_may_come_wrapped(base):
    settings = acme(base, providers={"openai": {"api_key": SecretStr("sk-acme")}})

    assert "sk-acme" == settings.llm.providers["openai"].api_key.get_secret_value()
    assert "sk-acme" == settings.tenancy.provider("openai").api_key.get_secret_value()


# --- where values came from ---


def test_values_keep_their_origin_the_tenants_and_the_operators():
    base = Sourced(
        {"llm": {"default": {"provider": "openai", "model": "gpt-4o"}}},
        {("llm", "default"): "config.toml:1", ("llm", "default", "model"): "config.toml:3"},
    )
    operator = Settings.model_validate(base.data, context=base)

    settings = acme(operator, default={"model": "gpt-4o-mini"}, purposes={"new": {"seed": 1}})

    assert "overlay of tenant 'acme'" == settings.origin("llm", "default", "model")
    assert "config.toml:1" == settings.origin("llm", "default", "provider")
    assert "config.toml:3" == operator.origin("llm", "default", "model")
    assert "overlay of tenant 'acme'" == settings.origin("llm", "purposes", "new", "seed")


def test_a_files_problems_name_its_lines_and_its_values_the_file(base):
    broken = parsed_toml("[llm.default]\ntemperature = -1\n[network]\n", "acme.toml")
    fine = parsed_toml("[llm.default]\nmodel = 'gpt-4o-mini'\n", "acme.toml")

    with pytest.raises(ConfigurationError) as limits:
        settings_for_tenant(base, "acme", broken, place="acme.toml")
    del broken.data["network"]
    with pytest.raises(ConfigurationError) as values:
        settings_for_tenant(base, "acme", broken, place="acme.toml")
    settings = settings_for_tenant(base, "acme", fine, place="acme.toml")

    assert ["acme.toml:3"] == [problem.origin for problem in limits.value.problems]
    assert ["acme.toml:2"] == [problem.origin for problem in values.value.problems]
    assert "acme.toml" == settings.origin("llm", "default", "model")


def test_a_replaced_table_leaves_no_origin_of_the_operators_behind():
    source = parsed_toml("[llm.providers.openai]\ntimeout = 3\n", "config.toml")
    base = Settings.model_validate(source.data, context=source)

    settings = acme(base, providers={"openai": {"base_url": "http://acme.test"}})

    assert "" == settings.origin("llm", "providers", "openai", "timeout")
    assert "config.toml:2" == base.origin("llm", "providers", "openai", "timeout")


# --- the operator's alone ---


@pytest.mark.parametrize(
    ("overlay", "key"),
    [
        ({"network": {"proxy": "http://evil.test"}}, "network"),
        ({"plugins": {"modules": ["evil:Plugin"]}}, "plugins"),
        ({"state": {}}, "state"),
        ({"llm": {"unknown_purpose": "default"}}, "llm.unknown_purpose"),
        ({"llm": {"default": {"max_price": 1000}}}, "llm.default.max_price"),
        ({"llm": {"purposes": {"fast": {"max_price": 9}}}}, "llm.purposes.fast.max_price"),
        ({"llm": {"default": {"tags": []}}}, "llm.default.tags"),
        ({"llm": {"purposes": {"fast": {"tags": ["us"]}}}}, "llm.purposes.fast.tags"),
        ({"llm": {"default": {"strategy": "os:system"}}}, "llm.default.strategy"),
        (
            {"llm": {"purposes": {"fast": {"strategy": "evil.mod:pick"}}}},
            "llm.purposes.fast.strategy",
        ),
        ({"llm": {"providers": {"openai": {"headers": {}}}}}, "llm.providers.openai.headers"),
        ({"llm": {"budgets": {"mine": {"amount": 9, "per": "day"}}}}, "llm.budgets"),
        ({"llm": {"policies": {"retries": 9}}}, "llm.policies"),
        ({"llm": {"models": {"gpt-4o": {"requests_per_minute": 9}}}}, "llm.models"),
        ({"state": {"url": "redis://mine"}}, "state"),
        *(
            ({"llm": {"providers": {"openai": {rate: 9}}}}, f"llm.providers.openai.{rate}")
            for rate in ("requests_per_minute", "tokens_per_minute", "concurrency")
        ),
    ],
)
def test_what_is_the_operators_alone_is_refused(base, overlay, key):
    problems = refused(base, overlay)

    assert [key] == list(problems)


def test_a_built_in_strategy_may_be_chosen(base):
    settings = acme(base, default={"strategy": "cheapest"})

    assert "cheapest" == settings.llm.default.strategy


def test_a_misspelt_key_is_answered_with_the_nearest(base):
    problems = refused(base, {"llm": {"providers": {"openai": {"base_ulr": "http://a.test"}}}})

    assert "base_url" == problems["llm.providers.openai.base_ulr"].suggestion


# --- endpoints ---

# Each is a name by which openai, litellm or httpx would be given an endpoint, a key, a header,
# a client, a fallback, a callback, a body, a file or a price.
NAMES = """
    api_base base_url azure_endpoint azure_deployment api_version fallbacks context_window_fallbacks
    content_policy_fallbacks model_list aws_bedrock_runtime_endpoint aws_region_name
    aws_access_key_id aws_secret_access_key aws_session_token aws_profile_name aws_role_name
    aws_web_identity_token aws_sts_endpoint vertex_credentials vertex_project vertex_location
    extra_headers default_headers headers extra_query default_query extra_body api_key
    organization project client http_client aclient proxy proxies custom_llm_provider model
    deployment_id input_cost_per_token output_cost_per_token input_cost_per_second cache caching
    callbacks success_callback failure_callback logger_fn metadata store mock_response
    litellm_params provider_specific_header num_retries max_retries timeout request_timeout
    service_tier web_search_options tools functions tool_choice ssl_verify cert verify
    safety_identifier prompt_cache_key base_model hf_model_name use_litellm_proxy n stream
    websocket_base_url admin_api_key webhook_secret API_BASE Base_Url
""".split()  # noqa: SIM905  # a list would fill a page


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("provider", ["openai", "litellm", "custom"])
def test_extra_of_a_provider_names_no_endpoint_header_key_client_fallback_or_price(
    base, name, provider
):
    problems = refused(base, {"llm": {"providers": {provider: {"extra": {name: "x"}}}}})

    assert [f"llm.providers.{provider}.extra.{name}"] == list(problems)


@pytest.mark.parametrize("name", NAMES)
def test_extra_of_the_default_and_of_purposes_does_neither(base, name):
    overlay = {
        "llm": {"default": {"extra": {name: "x"}}, "purposes": {"coding": {"extra": {name: "x"}}}}
    }

    problems = refused(base, overlay)

    assert {f"llm.default.extra.{name}", f"llm.purposes.coding.extra.{name}"} == set(problems)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", {"api_base": "http://evil.test"}),
        ("top_p", "http://evil.test"),
        ("temperature", True),
        ("logprobs", 1),
        ("stop", [{"api_base": "x"}]),
        ("user", 3),
        ("logit_bias", {"50256": {"x": 1}}),
        ("thinking", {"type": "enabled", "url": "x"}),
        ("thinking", "enabled"),
        ("response_format", "json"),
        *(
            (name, number)
            for name in ("max_tokens", "max_completion_tokens", "top_logprobs")
            for number in (-(10**9), 0, True, 1.0)
        ),
        ("thinking", {"type": "enabled", "budget_tokens": -1}),
    ],
)
def test_a_generation_parameter_of_another_kind_is_refused(base, name, value):
    problems = refused(base, {"llm": {"providers": {"litellm": {"extra": {name: value}}}}})

    assert problems[f"llm.providers.litellm.extra.{name}"].message.startswith("Expected ")


@pytest.mark.parametrize("key", ["fallbacks", "candidates"])
def test_a_table_of_very_many_models_is_refused(base, key):
    """Each has a circuit breaker of its own, and those of all tenants share their room."""
    models = [f"openai:gpt-{number}" for number in range(33)]
    table = {key: models} | ({"model": "openai:gpt-4o"} if key == "fallbacks" else {})

    assert [f"llm.purposes.many.{key}"] == list(
        refused(base, {"llm": {"purposes": {"many": table}}})
    )
    fewer = {**table, key: models[:32]}
    assert 32 == len(getattr(acme(base, purposes={"many": fewer}).llm.purposes["many"], key))


# --- how much of it ---


@pytest.mark.parametrize(("part", "most"), [("providers", 64), ("purposes", 256)])
def test_an_overlay_of_very_many_tables_is_refused_with_one_problem(base, part, most):
    table = {"timeout": 5}
    names = {f"n{number}": table for number in range(most)}

    problems = refused(base, {"llm": {part: {**names, "more": table}, "modl": {}}})

    assert [f"llm.{part}"] == list(problems)
    assert f"at most {most} {part}" in problems[f"llm.{part}"].message
    assert names.keys() <= getattr(acme(base, **{part: names}).llm, part).keys()


@pytest.mark.parametrize(
    ("key", "most", "overlay"),
    [
        ("llm", 4096, lambda biases: {"llm": {"purposes": {"x": {"extra": biases}}}}),
        ("llm.default", 512, lambda biases: {"llm": {"default": {"extra": biases}}}),
    ],
)
def test_an_overlay_of_very_many_values_is_refused_with_one_problem(base, key, most, overlay):
    def biases(number):
        return overlay({"logit_bias": {str(token): 1 for token in range(number)}})

    problems = refused(base, biases(most + 1))

    assert [key] == list(problems)
    assert f"at most {most:,} values" in problems[key].message
    assert settings_for_tenant(base, "acme", biases(most))


def test_very_many_texts_that_end_an_answer_are_refused(base):
    problems = refused(base, {"llm": {"default": {"stop": [1] * 33}}})

    assert ["llm.default.stop"] == list(problems)
    assert 32 == len(acme(base, default={"stop": ["."] * 32}).llm.default.stop)


def test_providers_are_looked_for_in_an_overlay_that_is_merged_once(base, monkeypatch):
    """A merge for each provider would hold the event loop for seconds."""
    merges = []

    def counted(*sides):
        merges.append(sides)
        return without_replaced(*sides)

    without_replaced = tenancy_module.without_replaced
    settings = acme(base, providers={f"p{number}": {} for number in range(64)})
    monkeypatch.setattr(tenancy_module, "without_replaced", counted)

    found = settings.problems_with_providers(["openai", "litellm"])

    assert 64 == len(found)
    assert 1 == len(merges)
    assert settings.explain()
    assert 2 == len(merges)


def test_checking_purposes_copies_no_more_than_there_are(monkeypatch):
    """Copying all of them for each of them would be quadratic."""

    def copied(number):
        purposes = {f"p{each}": {"model": "echo:m"} for each in range(number)}
        base = settings_from({"llm": {"default": {"model": "echo:m"}, "purposes": purposes}})
        counted = []

        def as_table(value):
            table = original(value)
            counted.append(len(table) if isinstance(table, Sized) else 0)
            return table

        monkeypatch.setattr(draft_module, "as_table", as_table)
        acme(base, default={"temperature": 1}, purposes={name: {"seed": 1} for name in purposes})
        return sum(counted)

    original = draft_module.as_table

    assert copied(200) < 3 * copied(100)


def test_generation_parameters_are_taken(base):
    extra = {
        "top_k": 4,
        "top_p": 0.5,
        "stop": ["END"],
        "logprobs": True,
        "logit_bias": {"50256": -100},
        "response_format": {"type": "json_object"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "reasoning_effort": "low",
        "drop_params": False,
    }

    settings = acme(base, providers={"litellm": {"extra": extra}})

    assert extra.keys() == settings.llm.providers["litellm"].extra.keys()


def test_what_one_of_several_providers_does_not_take_is_refused(base):
    assert "thinking" in parameters_of(["litellm"])
    assert "thinking" not in parameters_of(["litellm", "openai"])
    assert "seed" in parameters_of([])

    fallbacks = {"model": "litellm:claude-3-opus", "fallbacks": ["openai:gpt-4o"]}
    own = refused(base, {"llm": {"purposes": {"new": {**fallbacks, "extra": {"thinking": {}}}}}})
    candidates = refused(
        settings_from({}),
        {"llm": {"default": {"candidates": ["litellm/a", "my:b"], "extra": {"drop_params": True}}}},
    )

    assert ["llm.purposes.new.extra.thinking"] == list(own)
    assert ["llm.default.extra.drop_params"] == list(candidates)


@pytest.mark.parametrize(
    "name",
    [
        "huggingface/https://evil.test/v1",
        "litellm/HTTPS://evil.test",
        "openai/gpt-4o?api_base=evil.test",
        "baseten/x.evil.test/#",
        "openai\\evil.test",
        "gpt-4o%2f",
        "gpt 4o",
        "gpt-4o\n",
    ],
)
@pytest.mark.parametrize(
    "overlay",
    [
        lambda name: {"default": {"model": name}},
        lambda name: {"default": {"fallbacks": ["openai:gpt-4o", name]}},
        lambda name: {"purposes": {"fast": {"candidates": [name]}}},
        lambda name: {"purposes": {"new": {"model": name}}},
    ],
)
def test_an_endpoint_in_the_name_of_a_model_is_refused(base, name, overlay):
    problems = refused(base, {"llm": overlay(name)})

    assert ["base_url of [llm.providers.<id>]" in p.message for p in problems.values()] == [True]


PATHS = [
    "litellm:gemini/../../evil/path",
    "litellm/gemini/..",
    "openai:..",
    "openai:./x",
    "openai:..;a=b/x",
    "gemini//evil",
    "/etc/models",
    "vllm:/etc/models",
    "gemini/",
]


@pytest.mark.parametrize("name", PATHS)
def test_a_name_of_a_model_leads_to_no_other_path_of_an_endpoint(base, name):
    """The operator's key would go there: ``gemini/../../files`` is not a model of Gemini's."""
    overlay = {"default": {"model": name}, "purposes": {"fast": {"fallbacks": ["openai:x", name]}}}

    problems = refused(base, {"llm": overlay})

    assert {"llm.default.model", "llm.purposes.fast.fallbacks"} == problems.keys()
    assert all("another path" in problem.message for problem in problems.values())


@pytest.mark.parametrize(
    "name",
    [
        *PATHS,
        "gemini/%2e%2E/evil",
        "gemini%2fevil",
        "gemini%2Fevil",
        "gemini/%252e%252e/evil",
        "gemini%252fevil",
        "gemini\\..\\evil",
        "gemini%5cevil",
        "gemini%5Cevil",
    ],
)
def test_the_same_is_found_in_a_name_however_it_is_encoded(name):
    assert leaves_path(name)


@pytest.mark.parametrize("name", ["a%20b", "100%", "a..b/c...", "x:y::z", "bedrock/arn:aws::m/v1"])
def test_dots_colons_and_other_encodings_lead_nowhere(name):
    assert not leaves_path(name)


@pytest.mark.parametrize(
    "name",
    ["ft:gpt-4o:acme::x1", "ollama/llama3:8b", "cloudflare/@cf/meta/llama-2", "claude@20240620"],
)
def test_names_of_models_with_marks_are_taken(base, name):
    settings = acme(base, purposes={"new": {"provider": "litellm", "model": name}})

    assert name == settings.llm.purposes["new"].model


def test_a_table_that_names_an_endpoint_replaces_the_operators_whole_table(base):
    settings = acme(base, providers={"openai": {"base_url": "http://acme.test/v1"}})

    openai = settings.llm.providers["openai"]
    assert "http://acme.test/v1" == openai.base_url
    assert (None, None, {}) == (openai.api_key, openai.timeout, dict(openai.extra))


def test_the_honest_tenant_has_its_own_endpoint_key_timeout_and_parameters(base):
    own = {"base_url": "http://acme.test/v1", "api_key": "sk-a", "timeout": 5, "extra": {"seed": 1}}

    openai = acme(base, providers={"openai": own}).llm.providers["openai"]

    assert "sk-a" == openai.api_key.get_secret_value()
    assert (5, {"seed": 1}) == (openai.timeout, dict(openai.extra))


@pytest.mark.parametrize("base_url", ["ftp://evil.test", "evil.test", "", "file:///etc/passwd"])
def test_an_endpoint_that_is_no_address_is_refused(base, base_url):
    problems = refused(base, {"llm": {"providers": {"openai": {"base_url": base_url}}}})

    assert ["llm.providers.openai.base_url"] == list(problems)


@pytest.mark.parametrize("key", ["base_url", "api_key", "extra"])
def test_nothing_of_the_operators_is_taken_away_by_nothing(base, key):
    """Without the operator's base_url its key would go to another endpoint."""
    problems = refused(base, {"llm": {"providers": {"openai": {key: None}}}})

    assert [f"llm.providers.openai.{key}"] == list(problems)


# --- tokens, includes, nonsense ---


@pytest.mark.parametrize(
    "overlay",
    [
        {"llm": {"default": {"model": "@format {env[OPENAI_API_KEY]}"}}},
        {"llm": {"default": {"stop": ["x", "@jinja {{ env.OPENAI_API_KEY }}"]}}},
        {"llm": {"providers": {"openai": {"api_key": "@get llm.providers.openai.api_key"}}}},
        {"llm": {"providers": {"openai": {"extra": {"user": " @insert x"}}}}},
    ],
)
def test_tokens_are_refused_wherever_they_stand(base, overlay):
    problems = refused(base, overlay)

    assert any("begins with '@'" in problem.message for problem in problems.values())


@pytest.mark.parametrize(
    "overlay",
    [
        {"dynaconf_include": ["/etc/kor/*.toml"]},
        {"DYNACONF_MERGE": True},
        {"llm": {"dynaconf_merge": True}},
        {"llm": {"providers": {"openai": {"extra": {"dynaconf_merge": True}}}}},
    ],
)
def test_dynaconfs_own_keys_are_refused_wherever_they_stand(base, overlay):
    problems = refused(base, overlay)

    assert any("dynaconf's own keys" in problem.message for problem in problems.values())


@pytest.mark.parametrize(
    ("overlay", "key"),
    [
        ({"llm": "x"}, "llm"),
        ({"llm": {"default": []}}, "llm.default"),
        ({"llm": {"providers": "openai"}}, "llm.providers"),
        ({"llm": {"purposes": {"fast": "gpt-4o"}}}, "llm.purposes.fast"),
        ({"llm": {"providers": {"openai": 3}}}, "llm.providers.openai"),
    ],
)
def test_a_value_where_a_table_belongs_is_refused(base, overlay, key):
    problems = refused(base, overlay)

    assert [(key, "Expected a table.")] == [(k, p.message) for k, p in problems.items()]


def test_an_overlay_that_is_no_table_or_holds_itself_is_refused(base):
    endless = {}
    endless["llm"] = endless

    with pytest.raises(ConfigurationError, match=r"overlay of tenant 'acme': Expected a table\."):
        settings_for_tenant(base, "acme", ["llm"])
    with pytest.raises(ConfigurationError, match="nested too deeply"):
        settings_for_tenant(base, "acme", endless)


def test_all_problems_are_found_at_once_and_each_once(base):
    problems = refused(
        base,
        {
            "llm": {
                "default": {"temperature": -1},
                "purposes": {"default": {"model": "x"}, "new": {"max_tokens": "many"}},
                "providers": {"a:b": {}, "openai": {"timeout": 0}},
            }
        },
    )

    assert [
        "llm.default.temperature",
        'llm.providers."a:b"',
        "llm.providers.openai.timeout",
        "llm.purposes.default",
        "llm.purposes.new.max_tokens",
    ] == sorted(problems)


def test_a_purpose_without_a_model_is_refused():
    problems = refused(settings_from({}), {"llm": {"purposes": {"new": {"temperature": 1}}}})

    assert ["llm.purposes.new"] == list(problems)


# --- what is shown ---


def test_neither_side_of_the_settings_shows_a_secret(base):
    settings = acme(
        base,
        providers={"openai": {"api_key": "sk-acme-own"}},
        default={"extra": {"user": "u1"}},
    )

    shown = f"{settings!r} {settings.tenancy!r} {settings.explain()} {settings.model_dump_json()}"
    assert "sk-acme-own" not in shown
    assert PLANTED not in shown


def test_nothing_of_the_operators_is_in_the_table_of_an_endpoint_of_the_tenants(base):
    settings = acme(base, providers={"openai": {"base_url": "http://acme.test"}})

    assert PLANTED not in repr(settings.llm.providers["openai"].model_dump())
    assert PLANTED not in repr(settings.tenancy.provider("openai").model_dump())
