"""A service with one kernel per tenant, taken from the header ``X-Tenant``.

Run it from the root of the repository, with uvicorn installed, and ask as one tenant. Where a
tenant brings no key, as initech, the operator's is used, here from the environment:

    export OPENAI_API_KEY=sk-...
    uvicorn --factory examples.tenants_service:create_service
    curl -H 'X-Tenant: initech' 'localhost:8000/answers?question=Hello'

It reads ``configs/purposes.toml`` and the overlays in ``configs/tenants``.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from math import ceil
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from kor_containers import TenantKernels, create_container
from kor_containers.config import Source
from kor_containers.fastapi import CurrentKernel, TenantMiddleware
from kor_containers.overlays import OverlaySource
from kor_core.errors import BudgetExceededError, LLMError, LLMTimeoutError, RateLimitError
from kor_core.kernel import get_kernel

CONFIGS = Path(__file__).parents[1] / "configs"


# What becomes of a failed call; all others are the provider's failure, 502.
STATUSES = {RateLimitError: 429, BudgetExceededError: 429, LLMTimeoutError: 504}


async def failed(_: Request, error: Exception) -> JSONResponse:
    """Say what became of a call, and not how the service is configured: that is in the log."""
    assert isinstance(error, LLMError)  # noqa: S101  # what it is registered for
    status = next((STATUSES[kind] for kind in STATUSES if isinstance(error, kind)), 502)
    wait = {} if error.retry_after is None else {"Retry-After": str(ceil(error.retry_after))}
    return JSONResponse({"detail": type(error).__name__}, status, wait)


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
    service.add_middleware(TenantMiddleware, tenants=tenants, exempt=["/docs", "/openapi.json"])
    service.add_exception_handler(LLMError, failed)

    @service.get("/answers")
    async def answer(question: str, kernel: CurrentKernel, purpose: str = "default") -> Any:
        model = kernel.model_selector.get_model(purpose)
        return {"tenant": kernel.tenant, "answer": await model.agenerate(question)}

    @service.get("/purposes")
    def purposes() -> list[str]:
        # A sync endpoint runs in a thread; the kernel is the tenant's there too.
        return sorted(get_kernel().settings.llm.purposes)

    return service
