"""What arrives over real HTTP: whose key, at whose endpoint, and nothing planted anywhere."""

import json
import logging
import traceback

import pytest

from kor_containers import TenantKernels, create_container
from kor_core.errors import AuthenticationError, ConfigurationError, MissingCredentialsError
from kor_core.testing.upstream import Upstream

PLANTED = "planted-operator-secret"

# What the SDKs would read from the environment of the host.
ENVIRONMENT = {
    "OPENAI_API_KEY": f"sk-env-{PLANTED}",
    "OPENAI_ORG_ID": f"org-{PLANTED}",
    "OPENAI_PROJECT_ID": f"proj-{PLANTED}",
    "OPENAI_CUSTOM_HEADERS": f"X-Env: {PLANTED}",
    "OPENAI_ADMIN_KEY": f"sk-admin-{PLANTED}",
    "ANTHROPIC_API_KEY": f"sk-ant-{PLANTED}",
    "ANTHROPIC_AUTH_TOKEN": f"tok-{PLANTED}",
    "GEMINI_API_KEY": f"gem-{PLANTED}",
    "LITELLM_API_KEY": f"lit-{PLANTED}",
}


@pytest.fixture(autouse=True)
def planted(monkeypatch, clean_machine):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    netrc = clean_machine.parent / "home" / ".netrc"
    netrc.write_text(f"machine 127.0.0.1 login operator password {PLANTED}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))


@pytest.fixture
def operators():
    with Upstream(headers={"set-cookie": f"session={PLANTED}; Path=/"}) as upstream:
        yield upstream


@pytest.fixture
def theirs():
    with Upstream(headers={"set-cookie": "session=theirs; Path=/"}) as upstream:
        yield upstream


@pytest.fixture
def app(operators):
    headers = {"extra_headers": {"X-Gateway": PLANTED}}
    configuration = {
        "llm": {
            "default": {"provider": "openai", "model": "gpt-4o", "extra": headers},
            "providers": {
                "openai": {
                    "api_key": f"sk-{PLANTED}",
                    "base_url": operators.openai_url,
                    "extra": {"organization": "org-operator", **headers},
                }
            },
            "purposes": {
                "coding": {"provider": "litellm", "model": "claude-3-opus", "extra": headers}
            },
        }
    }
    with create_container(configuration) as app:
        yield app


def received(request):
    return f"{request.path} {request.query} {dict(request.headers)} {request.body!r}"


async def ask(tenants, tenant, purpose="default"):
    async with tenants.use(tenant) as kernel:
        return await kernel.model_selector.get_model(purpose).agenerate(f"I am {tenant}")


async def test_a_tenant_without_a_key_uses_the_operators_at_the_operators_endpoint(app, operators):
    async with TenantKernels(app, {"acme": {}}) as tenants:
        answer = await ask(tenants, "acme")

    request = operators.requests[0]
    assert "I am acme" == answer
    assert f"sk-{PLANTED}" == request.key
    assert PLANTED == request.headers["x-gateway"]


async def test_a_tenants_own_key_goes_to_the_operators_endpoint(app, operators):
    overlay = {"llm": {"providers": {"openai": {"api_key": "sk-acme"}}}}
    async with TenantKernels(app, {"acme": overlay}) as tenants:
        await ask(tenants, "acme")

    assert "sk-acme" == operators.requests[0].key
    assert f"sk-{PLANTED}" not in received(operators.requests[0])


async def test_the_honest_tenant_has_its_own_endpoint_and_key(app, operators, theirs):
    openai = {"base_url": theirs.openai_url, "api_key": "sk-acme", "extra": {"seed": 7}}
    overlay = {"llm": {"providers": {"openai": openai}, "default": {"model": "llama3"}}}
    async with TenantKernels(app, {"acme": overlay, "beta": {}}) as tenants:
        answer = await ask(tenants, "acme")
        await ask(tenants, "beta")

    request = theirs.requests[0]
    assert "I am acme" == answer
    assert ("sk-acme", "llama3", 7) == (request.key, request.model, request.json["seed"])
    assert 1 == len(theirs.requests) == len(operators.requests)


async def test_nothing_of_the_operators_reaches_a_tenants_endpoint(app, theirs):
    overlay = {"llm": {"providers": {"openai": {"base_url": theirs.openai_url}}}}
    async with TenantKernels(app, {"acme": overlay}) as tenants:
        await ask(tenants, "acme")
        await ask(tenants, "acme")

    assert 2 == len(theirs.requests)
    for request in theirs.requests:
        assert PLANTED not in received(request)
        assert "org-operator" not in received(request)
        assert {} == dict(request.cookies)
        assert "no-key" == request.key


async def test_nothing_of_the_operators_reaches_it_through_litellm_either(app, theirs):
    overlay = {"llm": {"providers": {"litellm": {"base_url": theirs.url}}}}
    async with TenantKernels(app, {"acme": overlay}) as tenants:
        await ask(tenants, "acme", "coding")

    request = theirs.requests[0]
    assert "anthropic" in request.api
    assert PLANTED not in received(request)


async def test_a_vendor_that_the_operator_does_not_name_gets_no_key_of_the_environments(app):
    overlay = {"llm": {"purposes": {"coding": {"model": "gemini-1.5-pro"}}}}
    async with TenantKernels(app, {"acme": overlay}) as tenants:
        with pytest.raises(MissingCredentialsError) as caught:
            await ask(tenants, "acme", "coding")

    assert PLANTED not in str(caught.value)


@pytest.mark.parametrize(
    "model",
    ["sagemaker/endpoint", "vertex_ai/gemini-pro", "bedrock/titan", "github_copilot/gpt-4o"],
)
async def test_a_vendor_that_finds_the_hosts_identity_is_refused(app, model):
    overlay = {
        "llm": {
            "purposes": {"coding": {"model": model}},
            "providers": {"litellm": {"api_key": "sk-acme"}},
        }
    }
    async with TenantKernels(app, {"acme": overlay}) as tenants:
        with pytest.raises(ConfigurationError, match="identity of this host"):
            await ask(tenants, "acme", "coding")


async def test_no_cookie_of_one_tenant_reaches_another(app, operators):
    names = ["acme", "beta", "acme", "beta"]
    async with TenantKernels(app, {"acme": {}, "beta": {}}) as tenants:
        for name in names:
            await ask(tenants, name)

    assert [{}] * 4 == [dict(request.cookies) for request in operators.requests]


async def test_the_planted_secret_is_nowhere_that_a_tenant_can_see(app, theirs, caplog):
    """Neither in reprs, explanations, errors with locals, logs, nor in what an API would show."""
    caplog.set_level(logging.DEBUG)
    overlay = {"llm": {"providers": {"openai": {"base_url": theirs.openai_url}}}}
    broken = {"llm": {"providers": {"openai": {"api_key": 3, "base_url": None}}}}
    theirs.fail(401)
    shown = []
    async with TenantKernels(app, {"acme": overlay, "broken": broken}) as tenants:
        async with tenants.use("acme") as kernel:
            model = kernel.model_selector.get_model()
            with pytest.raises(AuthenticationError) as refused:
                await model.agenerate("hi")
            shown += [model, model.config, model.inner, kernel, kernel.settings, kernel.context]
            shown += [kernel.settings.explain(), kernel.settings.model_dump_json()]
            shown += [kernel.settings.tenancy, kernel.llm_registry, kernel.model_selector]
            shown += [kernel.container.why("kernel"), tenants, tenants.use("acme")]
        with pytest.raises(ConfigurationError) as wrong:
            await ask(tenants, "broken")
    for error in (refused.value, wrong.value):
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        # frames of ours: the test's own hold what it planted
        told.stack = traceback.StackSummary.from_list(
            frame for frame in told.stack if "/tests/" not in frame.filename
        )
        shown += [error, *told.format()]

    text = "\n".join(map(str, [*shown, *map(repr, shown), caplog.text]))
    assert PLANTED not in text
    assert PLANTED not in json.dumps([request.json for request in theirs.requests])


async def test_no_object_that_only_the_tenant_has_holds_what_was_planted(app, theirs):
    """Neither its settings for the endpoint, nor its model's, nor the SDK's client."""
    overlay = {"llm": {"providers": {"openai": {"base_url": theirs.openai_url}}}}
    async with TenantKernels(app, {"acme": overlay}) as tenants, tenants.use("acme") as kernel:
        model = kernel.model_selector.get_model()
        await model.agenerate("hi")

        config = dict(model.config)
        own = kernel.settings.llm.providers["openai"]
        client = vars(model.inner)["_client"]

    assert PLANTED not in f"{config}{own.model_dump()}{own.api_key}"
    assert PLANTED not in f"{client.api_key}{client.organization}{client.project}"
    assert PLANTED not in repr(dict(client.default_headers))
