"""What a tenant does at an endpoint of its own is nothing to the others."""

import asyncio
from typing import Any

from kor_containers import TenantKernels, create_container
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider
from kor_core.testing.waiting import await_until


class Waiting(BaseLLMProvider):
    """Answers when it is told to, and writes down whom it serves."""

    id = "waiting"

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.prompts: list[str] = []

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
