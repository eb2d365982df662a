"""What a tenant does at an endpoint of its own is nothing to the others."""

import asyncio
import ssl
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from kor_containers import TenantKernels, create_container
from kor_core.adapters.network import Transport
from kor_core.errors import LLMConnectionError
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider, Credentials
from kor_core.settings import NetworkSettings
from kor_core.testing import Upstream, faults
from kor_core.testing.waiting import await_until


class Waiting(BaseLLMProvider):
    """Answers when it is told to, and writes down whom it serves."""

    id = "waiting"

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.prompts: list[str] = []

    def credentials(self, model_name: str) -> Credentials:
        return Credentials(key_variables=("WAITING_API_KEY",))

    def create_model(self, model_name: str, config: dict[str, Any]) -> BaseLLMModel:
        provider = self

        class Model(BaseLLMModel):
            async def agenerate(self, prompt: str, **kwargs: Any) -> str:
                provider.prompts.append(prompt)
                await provider.go.wait()
                return prompt

        return Model(model_name, config)


async def test_a_tenants_own_slow_endpoint_keeps_no_place_from_others():
    provider = Waiting()
    llm = {"default": {"model": "waiting:m"}, "providers": {"waiting": {"concurrency": 2}}}
    own = {"llm": {"providers": {"waiting": {"base_url": "http://127.0.0.1:1", "api_key": "k"}}}}
    with (
        create_container({"llm": llm}, providers=[provider]) as app,
        TenantKernels(app, {"slow": own, "other": {}}) as tenants,
    ):
        calls = []
        for tenant, count in (("slow", 5), ("other", 1)):
            with tenants.use(tenant) as kernel:
                model = kernel.model_selector.get_model()
                calls += [asyncio.create_task(model.agenerate(tenant)) for _ in range(count)]
        await await_until(lambda: "other" in provider.prompts, 10, "the other's call")
        before = list(provider.prompts)
        provider.go.set()
        await asyncio.gather(*calls)

    assert ["other", "slow", "slow"] == sorted(before)
    assert 6 == len(provider.prompts)


@pytest.mark.parametrize("model", ["openai:m", "litellm:openai/m", "vllm:m"])
async def test_the_operators_certificate_identifies_nobody_at_a_tenants_endpoint(
    model: str, tmp_path: Path
):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(bundle := tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    mine = authority.issue_cert("client.example")
    mine.cert_chain_pems[0].write_to_path(certificate := tmp_path / "client.pem")
    mine.private_key_pem.write_to_path(key := tmp_path / "client.key")
    network = {"ca_bundle": str(bundle), "client_certificate": str(certificate)}

    with Upstream(ssl_context=context) as upstream:
        table = {"base_url": upstream.openai_url, "api_key": "sk-operator"}
        provider = model.partition(":")[0]
        settings = {
            "llm": {
                "default": {"model": model},
                "providers": {provider: table},
                "policies": {"retries": 0},
            },
            "network": {**network, "client_key": str(key)},
        }
        own = {"llm": {"providers": {provider: {**table, "api_key": "sk-own"}}}}
        with create_container(settings) as app, TenantKernels(app, {"a": {}, "own": own}) as all_of:
            async with all_of.use("a") as kernel:
                answer = await kernel.model_selector.get_model().agenerate("Hello!")
            async with all_of.use("own") as kernel:
                with pytest.raises(LLMConnectionError):
                    await kernel.model_selector.get_model().agenerate("Hello!")

        assert "Hello!" == answer
        assert ["sk-operator"] == [request.key for request in upstream.requests]


async def test_the_endpoints_of_tenants_leave_the_operators_its_connections():
    """Two of them, since one alone never gets more than three quarters of a pool."""
    network = {"max_connections": 8, "pool_timeout": 1, "connect_timeout": 1}
    with ExitStack() as stack:
        upstream, *slow = [stack.enter_context(Upstream()) for _ in range(3)]
        for server in slow:
            server.play(*[faults.Hang()] * 8)
        own = {
            name: {"base_url": server.openai_url}
            for name, server in zip(("openai", "groq"), slow, strict=True)
        }
        purposes = {name: {"model": f"{name}:m"} for name in own}
        operators = {"openai": {"base_url": upstream.openai_url}}
        llm = {"default": {"model": "openai:m"}, "providers": operators}
        app = stack.enter_context(create_container({"llm": llm, "network": network}))
        overlays = {"evil": {"llm": {"providers": own, "purposes": purposes}}, "good": {}}
        tenants = stack.enter_context(TenantKernels(app, overlays))
        async with tenants.use("evil") as kernel:
            models = [kernel.model_selector.get_model(name) for name in own]
            calls = [asyncio.create_task(each.agenerate("x")) for each in models for _ in range(8)]
        await await_until(lambda: sum(len(each.requests) for each in slow) == 4, 30, "half of 8")

        async with tenants.use("good") as kernel:
            assert "Hello!" == await kernel.model_selector.get_model().agenerate("Hello!")
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def test_both_kinds_of_connections_share_a_context_unless_a_certificate_is_shown():
    transport = Transport(NetworkSettings())
    ours, theirs = (transport._make_wire(for_tenants=False), None)
    transport._wires[False] = ours
    theirs = transport._make_wire(for_tenants=True)

    assert ours.context is theirs.context
    assert transport.client("httpx") is not transport.client("httpx", for_tenants=True)
