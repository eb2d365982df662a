"""The middleware serves each request with its tenant's kernel, until the response has ended."""

import asyncio

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI, WebSocket
from starlette.responses import StreamingResponse

from kor_containers import TenantKernels, create_container
from kor_containers.fastapi import CurrentKernel, TenantMiddleware
from kor_core.errors import KernelError
from kor_core.kernel import get_kernel, reset_kernel

ECHO = {"llm": {"default": {"provider": "echo", "model": "plain"}}}
OVERLAYS = {"acme": {}, "beta": {}, "broken": {"network": {"proxy": "http://secret.test"}}}


@pytest.fixture(autouse=True)
def no_default():
    reset_kernel()
    yield
    reset_kernel()


@pytest.fixture
def tenants():
    with create_container(ECHO) as app, TenantKernels(app, OVERLAYS, max_active=0) as tenants:
        yield tenants


def service_of(tenants, **options):  # noqa: C901  # one endpoint for each way to run code
    service = FastAPI()
    service.add_middleware(TenantMiddleware, tenants=tenants, **options)
    service.state.seen = []

    @service.get("/injected")
    async def injected(kernel: CurrentKernel):
        return kernel.tenant

    @service.get("/threaded")
    def threaded():
        return get_kernel().tenant

    @service.get("/answer")
    async def answer(kernel: CurrentKernel, prompt: str):
        await asyncio.sleep(0)
        return await kernel.model_selector.get_model().agenerate(prompt)

    @service.get("/stream")
    async def stream():
        async def parts():
            for _ in range(3):
                await asyncio.sleep(0)
                yield f"{get_kernel().tenant},{tenants.active};"

        return StreamingResponse(parts())

    @service.get("/background")
    async def background(tasks: BackgroundTasks):
        async def later():
            service.state.seen.append((get_kernel().tenant, tenants.active))

        tasks.add_task(later)

    @service.get("/fails")
    async def fails():
        raise RuntimeError("the endpoint's own")

    @service.get("/health")
    async def health():
        return "well"

    @service.get("/health/deep")
    async def deep(kernel: CurrentKernel):
        return kernel.tenant

    @service.websocket("/talk")
    async def talk(socket: WebSocket):
        await socket.accept()
        await socket.send_text(get_kernel().tenant)
        await socket.close()

    return service


@pytest.fixture
def service(tenants):
    return service_of(tenants)


def client_of(service):
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(service), base_url="http://service.test", timeout=60
    )


@pytest.fixture
async def client(service):
    async with client_of(service) as client:
        yield client


async def talk(service, tenant):
    """Open a WebSocket and return what the service sent."""
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0"},
        "path": "/talk",
        "query_string": b"",
        "headers": [(b"x-tenant", tenant.encode())],
        "subprotocols": [],
    }
    await service(scope, receive, send)
    return sent


@pytest.mark.parametrize("path", ["/injected", "/threaded"])
@pytest.mark.parametrize("tenant", ["acme", "beta"])
async def test_endpoints_run_with_the_kernel_of_the_requests_tenant(client, path, tenant):
    answer = await client.get(path, headers={"X-Tenant": tenant})

    assert tenant == answer.json()


async def test_a_model_answers_in_an_endpoint(client):
    answer = await client.get("/answer", params={"prompt": "hi"}, headers={"X-Tenant": "acme"})

    assert "Echo: hi" == answer.json()


async def test_the_kernel_is_in_use_until_the_stream_has_ended(client, tenants):
    answer = await client.get("/stream", headers={"X-Tenant": "acme"})

    assert "acme,('acme',);" * 3 == answer.text
    assert () == tenants.active


async def test_background_tasks_run_with_the_kernel_too(client, service):
    await client.get("/background", headers={"X-Tenant": "beta"})

    assert [("beta", ("beta",))] == service.state.seen


async def test_a_websocket_has_its_tenants_kernel(service):
    sent = await talk(service, "acme")

    assert ["acme"] == [message["text"] for message in sent if "text" in message]


async def test_an_endpoint_that_fails_gives_the_kernel_back(client, tenants):
    with pytest.raises(RuntimeError, match="own"):
        await client.get("/fails", headers={"X-Tenant": "acme"})

    assert () == tenants.active


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({}, 400, "names no tenant"),
        ({"X-Tenant": ""}, 400, "names no tenant"),
        ({"X-Tenant": "nobody"}, 404, "no such tenant"),
        ({"X-Tenant": "../acme"}, 404, "no such tenant"),
        ({"X-Tenant": "broken"}, 503, "not available"),
    ],
)
async def test_what_cannot_be_served_is_refused_without_details(
    client, headers, status, words, caplog
):
    answer = await client.get("/injected", headers=headers)

    assert status == answer.status_code
    assert words in answer.json()["detail"]
    assert "network" not in answer.text
    assert (status == 503) == ("network" in caplog.text)


@pytest.mark.parametrize(("tenant", "code"), [("", 1008), ("nobody", 1008), ("broken", 1013)])
async def test_a_websocket_that_cannot_be_served_is_closed(service, tenant, code):
    sent = await talk(service, tenant)

    assert [("websocket.close", code)] == [(message["type"], message["code"]) for message in sent]


async def test_the_tenant_may_be_found_otherwise(tenants):
    service = service_of(tenants, tenant_of=lambda connection: connection.query_params.get("t"))
    async with client_of(service) as client:
        found = await client.get("/injected", params={"t": "beta"})

    assert "beta" == found.json()


async def test_start_and_end_of_the_application_pass_through(tenants):
    seen = []

    async def application(scope, receive, send):
        seen.append(scope["type"])

    await TenantMiddleware(application, tenants)({"type": "lifespan"}, None, None)

    assert ["lifespan"] == seen


async def test_exempt_paths_need_no_tenant_and_get_no_kernel(tenants):
    """Probes and the pages of FastAPI: these paths alone, none that begins like one."""
    service = service_of(tenants, exempt=["/health", "/openapi.json", "/injected"])
    async with client_of(service) as client:
        statuses = [
            (await client.get(path)).status_code
            for path in ("/health", "/openapi.json", "/health/deep", "/threaded")
        ]
        with pytest.raises(KernelError):
            await client.get("/injected", headers={"X-Tenant": "acme"})

    assert [200, 200, 400, 400] == statuses


def test_exempt_is_no_single_text(tenants):
    with pytest.raises(TypeError, match=r"Write exempt=\('/health',\)"):
        TenantMiddleware(FastAPI(), tenants, exempt="/health")
