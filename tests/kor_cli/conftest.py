"""A provider whose behaviour the test chooses, and the command as a process."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PLUGIN = """
import asyncio
from pathlib import Path

from kor_core.errors import RateLimitError
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider
from kor_core.llm.response import Delta
from kor_core.plugin import KorPlugin


async def slow_down():
    raise RateLimitError("Slow down.", provider="stub", model="busy", status=429)


async def hang():
    Path("asked").touch()
    await asyncio.sleep(60)


async def wait():
    Path("asked").touch()
    while not Path("go").exists():
        await asyncio.sleep(0.01)


class Streaming(BaseLLMModel):
    async def agenerate(self, prompt, **kwargs):
        raise NotImplementedError

    async def _stream(self, request):
        yield Delta("one ")
        while not Path("go").exists():
            await asyncio.sleep(0.01)
        yield Delta("two", finish_reason=None if self.model_name == "cut" else "stop")


class Model(BaseLLMModel):
    async def agenerate(self, prompt, **kwargs):
        if self.model_name in {"busy", "hanging", "waiting"}:
            await {"busy": slow_down, "hanging": hang, "waiting": wait}[self.model_name]()
        return f"{self.model_name} answers {prompt}"


class Provider(BaseLLMProvider):
    id = "stub"

    def create_model(self, model_name, config):
        if model_name == "impossible":
            raise ValueError("planted")
        streams = model_name in {"streaming", "cut"}
        return (Streaming if streams else Model)(model_name, config)


class Plugin(KorPlugin):
    id = "stub"

    def initialize(self, context):
        context.get_llm_registry().register(Provider())
"""

CONFIG = """
[llm.default]
provider = "stub"
model = "usual"

[llm.purposes.coding]
provider = "stub"
model = "coder"

[plugins]
modules = ["stub_plugin:Plugin"]
"""


@pytest.fixture(autouse=True)
def own_stdin_and_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes on stdin, as under cron, and what a command adds to the path goes again."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def stub(clean_machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder whose ``config.toml`` brings the provider ``stub``."""
    (clean_machine / "stub_plugin.py").write_text(PLUGIN)
    (clean_machine / "config.toml").write_text(CONFIG)
    monkeypatch.syspath_prepend(str(clean_machine))
    monkeypatch.setenv("PYTHONPATH", str(clean_machine), prepend=os.pathsep)
    monkeypatch.delitem(sys.modules, "stub_plugin", raising=False)
    return clean_machine


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[str]]:
    """Start ``kor`` as a process of its own, with pipes on all three streams."""

    def started(*arguments: str, **more: Any) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        # Under a runner in the background SIGINT is ignored, and children inherit that.
        heeding = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        code = f"{heeding}import runpy; runpy.run_module('kor_cli', run_name='__main__')"
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.Popen(command, text=True, **{**pipes, **more})

    return started


@pytest.fixture
def kor(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., tuple[int, str, str]]:
    """Run ``kor`` as a process of its own; returns exit code, stdout and stderr."""

    def ran(*arguments: str, stdin: str | None = "", **more: Any) -> tuple[int, str, str]:
        process = start(*arguments, **more)
        out, err = process.communicate(stdin, timeout=60)
        return process.returncode, out, err

    return ran
