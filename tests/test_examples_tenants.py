"""The examples about tenants work: over real HTTP with uvicorn, and as a worker."""

import asyncio
import importlib.util
import io
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from kor_containers import TenantKernels, create_container
from kor_core.testing import faults
from kor_core.testing.upstream import Upstream
from kor_core.testing.waiting import wait_until

ROOT = Path(__file__).parents[1]
TENANTS = ROOT / "configs" / "tenants"


def example(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where classes look for the names of their annotations
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def configuration(upstream):
    openai = {"base_url": upstream.openai_url, "api_key": "sk-operator"}
    default = {"provider": "openai", "model": "gpt-4o"}
    return {"llm": {"default": default, "providers": {"openai": openai}}}


@pytest.fixture
def overlays(upstream):
    own = {"base_url": f"{upstream.url}/globex/v1", "api_key": "sk-globex"}
    return {
        "acme": {"llm": {"providers": {"openai": {"api_key": "sk-acme"}}}},
        "globex": {"llm": {"providers": {"openai": own}, "purposes": {"fast": {"model": "tiny"}}}},
        "broken": {"network": {}},
    }


@contextmanager
def served(service):
    """Serve on a free port in a thread of its own; give the URL."""
    config = uvicorn.Config(service, port=0, log_level="warning", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, 20, "the service to start")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("path", sorted(TENANTS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_overlay_makes_a_tenant_of_the_example_configuration(path, monkeypatch):
    for name in ("OPENAI", "ANTHROPIC", "GEMINI"):
        monkeypatch.setenv(f"{name}_API_KEY", "sk-example")
    app = create_container(ROOT / "configs" / "purposes.toml")
    with app, TenantKernels(app, TENANTS) as tenants, tenants.use(path.stem) as kernel:
        for purpose in ("default", *kernel.settings.llm.purposes):
            assert kernel.model_selector.get_model(purpose).model_name


def test_the_service_asks_with_each_tenants_own_key_at_its_own_endpoint(
    configuration, overlays, upstream
):
    service = example("tenants_service").create_service(configuration, overlays)
    with served(service) as url, httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        answers = [
            client.get("/answers", params={"question": f"I am {t}"}, headers={"X-Tenant": t})
            for t in ("acme", "globex")
        ]
        purposes = client.get("/purposes", headers={"X-Tenant": "globex"}).json()
        refused = [
            client.get("/purposes", headers={"X-Tenant": tenant}).status_code
            for tenant in ("", "nobody", "broken")
        ]

    assert [{"tenant": t, "answer": f"I am {t}"} for t in ("acme", "globex")] == [
        answer.json() for answer in answers
    ]
    assert ["fast"] == purposes
    assert [400, 404, 503] == refused
    assert ["sk-acme", "sk-globex"] == [request.key for request in upstream.requests]
    assert ["/v1/", "/globex/v1/"] == [
        request.path.removesuffix("chat/completions") for request in upstream.requests
    ]


def test_a_call_that_fails_is_told_by_its_status_and_without_the_configuration(
    configuration, overlays, upstream
):
    upstream.play(faults.Status(400), faults.Status(429, retry_after=90))
    service = example("tenants_service").create_service(configuration, overlays)
    with served(service) as url, httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        answers = [
            client.get("/answers", params={"question": "Hi"}, headers={"X-Tenant": "acme"})
            for _ in range(2)
        ]
        pages = client.get("/openapi.json").status_code

    assert [502, 429, 200] == [*(answer.status_code for answer in answers), pages]
    assert {"detail": "BadRequestError"} == answers[0].json()
    assert "90" == answers[1].headers["retry-after"]


async def test_the_service_keeps_tenants_apart_under_load(configuration, overlays, upstream):
    service = example("tenants_service").create_service(configuration, overlays)
    with served(service) as url:
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
            asked = [("acme", "globex")[number % 2] for number in range(60)]
            answers = await asyncio.gather(
                *(
                    client.get("/answers", params={"question": t}, headers={"X-Tenant": t})
                    for t in asked
                )
            )

    assert asked == [answer.json()["answer"] for answer in answers]
    assert 60 == len(upstream.requests)
    assert all(f"sk-{request.text}" == request.key for request in upstream.requests)


async def test_the_worker_handles_each_job_with_its_tenants_kernel(
    configuration, overlays, upstream
):
    worker = example("tenants_worker")
    names = ["acme", "globex", "broken", "nobody"] * 5

    async def jobs():
        for name in names:
            yield worker.Job(name, f"I am {name}")

    async with create_container(configuration) as app, TenantKernels(app, overlays) as tenants:
        outcomes = [outcome async for outcome in worker.work(tenants, jobs(), workers=3)]

    assert sorted(names) == sorted(outcome.partition(":")[0] for outcome in outcomes)
    assert 5 == outcomes.count("acme: I am acme") == outcomes.count("globex: I am globex")
    assert 5 == sum("TenantNotFoundError" in outcome for outcome in outcomes)
    assert all(f"sk-{r.text.removeprefix('I am ')}" == r.key for r in upstream.requests)


async def test_the_worker_reads_jobs_from_lines(monkeypatch, capsys):
    worker = example("tenants_worker")
    monkeypatch.setattr("sys.stdin", io.StringIO("nobody\tHello\n../x\tHello\n"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-example")

    await worker.main()

    assert ["../x: TenantNotFoundError", "nobody: TenantNotFoundError"] == sorted(
        line.rsplit(": No tenant", 1)[0] for line in capsys.readouterr().out.splitlines()
    )
