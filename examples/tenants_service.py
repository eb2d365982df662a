"""A service with one kernel per tenant, taken from the header ``X-Tenant``.

Run it from the root of the repository, and ask as one tenant:

    uvicorn --factory examples.tenants_service:create_service
    curl -H 'X-Tenant: initech' 'localhost:8000/answers?question=Hello'

It reads ``configs/purposes.toml`` and the overlays in ``configs/tenants``.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from kor_containers import TenantKernels, create_container
from kor_containers.config import Source
from kor_containers.fastapi import CurrentKernel, TenantMiddleware
from kor_containers.overlays import OverlaySource
from kor_core.kernel import get_kernel

CONFIGS = Path(__file__).parents[1] / "configs"


def create_service(
    configuration: Source = CONFIGS / "purposes.toml",
    overlays: OverlaySource = CONFIGS / "tenants",
) -> FastAPI:
    """Create the service; it closes its tenants and its container when it ends."""
    app = create_container(configuration)
    tenants = TenantKernels(app, overlays)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with app, tenants:
            yield

    service = FastAPI(lifespan=lifespan)
    service.add_middleware(TenantMiddleware, tenants=tenants)

    @service.get("/answers")
    async def answer(question: str, kernel: CurrentKernel, purpose: str = "default") -> Any:
        model = kernel.model_selector.get_model(purpose)
        return {"tenant": kernel.tenant, "answer": await model.agenerate(question)}

    @service.get("/purposes")
    def purposes() -> list[str]:
        # A sync endpoint runs in a thread; the kernel is the tenant's there too.
        return sorted(get_kernel().settings.llm.purposes)

    return service
