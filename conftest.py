"""What holds for every test: no setting of the machine reaches it, nothing leaves the machine.

Also makes README, docs and docstrings tests. A document is one test, because its later blocks
build on its earlier ones: shuffling and several workers cannot pull it apart.

- ``python`` blocks run in order, ``await`` at top level included, all on one event loop.
- A ``toml`` block that begins with ``# name.toml`` is written to that file first.
- ``console`` blocks run the lines after ``$``, and compare what is printed (``...`` stands for
  anything).
- ``>>>`` examples in docstrings run as doctests.
"""

import ast
import asyncio
import contextlib
import doctest
import inspect
import os
import re
import socket
import subprocess
import sysconfig
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest
from sybil import Document, Example, Sybil
from sybil.document import PythonDocStringDocument
from sybil.evaluators.python import pad
from sybil.parsers.markdown import CodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser
from sybil.sybil import SybilCollection

# The tests of our own plugin run pytest on small projects.
pytest_plugins = ["pytester"]

# Machines are shared and slow now and then: no test may fail for being late.
hypothesis.settings.register_profile("kor", deadline=None)
hypothesis.settings.load_profile("kor")

# --- the machine stays outside --------------------------------------------------------------

# Ours, those that the SDKs and dynaconf read, the proxies that would sit before loopback, and
# the certificates that would be trusted in place of the usual ones.
FOREIGN: Final = re.compile(
    r"^(KOR|OPENAI|ANTHROPIC|AZURE|GEMINI|GOOGLE|VERTEX|AWS|LITELLM|HF|OLLAMA)_"
    r"|_(API_KEY|API_BASE|BASE_URL|FOR_DYNACONF)$"
    r"|^(HTTP|HTTPS|ALL|NO)_PROXY$"
    r"|^SSL_CERT_(FILE|DIR)$",
    re.IGNORECASE,
)


@pytest.fixture(autouse=True)
def clean_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the test an empty home, an empty current folder (the value), and no variable of ours."""
    for name in [name for name in os.environ if FOREIGN.search(name)]:
        monkeypatch.delenv(name)
    with tempfile.TemporaryDirectory(prefix="kor-test-", ignore_cleanup_errors=True) as name:
        home, current = Path(name, "home"), Path(name, "current")
        home.mkdir()
        current.mkdir()
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("USERPROFILE", str(home))
        with contextlib.chdir(current):
            yield current


@pytest.fixture(scope="session")
def escapes() -> Iterator[list[str]]:
    """Refuse connections and name look-ups that leave the machine, and list them."""
    tried: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _guarded(socket.socket.connect, tried))
        patch.setattr(socket.socket, "connect_ex", _guarded(socket.socket.connect_ex, tried))
        patch.setattr(socket, "getaddrinfo", _local_names(socket.getaddrinfo, tried))
        yield tried


@pytest.fixture(autouse=True)
def loopback_only(escapes: list[str]) -> Iterator[None]:
    """Fail a test that tried to leave the machine, also when the code under test hid the error."""
    escapes.clear()
    yield
    if escapes:
        pytest.fail(f"left the machine: {', '.join(escapes)}")


def _guarded(connect: Callable[..., Any], tried: list[str]) -> Callable[..., Any]:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in {socket.AF_INET, socket.AF_INET6} and not _is_local(address[0]):
            tried.append(f"connect to {address[0]}:{address[1]}")
            raise ConnectionRefusedError(f"tests stay on this machine: {address}")
        return connect(self, address)

    return guarded


def _local_names(getaddrinfo: Callable[..., Any], tried: list[str]) -> Callable[..., Any]:
    def guarded(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host or "")
        if not (_is_local(name) or _is_address(name)):
            # .invalid never exists (RFC 2606): a test may ask for it to see a look-up fail.
            if not name.endswith(".invalid"):
                tried.append(f"look up {name}")
            raise socket.gaierror(socket.EAI_NONAME, "tests stay on this machine")
        return getaddrinfo(host, *args, **kwargs)

    return guarded


def _is_local(host: str) -> bool:
    if not _is_address(host):
        return host in {"", "localhost", socket.gethostname()}
    address = ip_address(host)
    return address.is_loopback or address.is_unspecified


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


@pytest.fixture(scope="session")
def litellm_ready() -> None:
    """Import litellm as KOR does, and let it ask each format once: seconds that no test counts.

    The import sets variables while it runs, so none may begin in one test and end in the next.
    """
    if find_spec("litellm") is None:
        return
    from kor_core.adapters.litellm import LiteLLMProvider  # noqa: PLC0415  # most runs need none
    from kor_core.adapters.network import Transport  # noqa: PLC0415  # most runs need none
    from kor_core.settings import NetworkSettings  # noqa: PLC0415  # most runs need none
    from kor_core.testing import Upstream  # noqa: PLC0415  # most runs need none

    names = {"openai/gpt-4": "openai_url", "claude-3-opus": "url", "gemini-2.5-flash": "gemini_url"}

    async def ask(upstream: Upstream) -> None:
        transport = Transport(NetworkSettings())
        provider = LiteLLMProvider(transport)
        for name, url in names.items():
            config = {"api_key": "k", "base_url": getattr(upstream, url)}
            await provider.create_model(name, config).agenerate("Hello!")
        await transport.aclose()

    with Upstream() as upstream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of is the tests' own to see
        asyncio.run(ask(upstream))


# --- long tests -----------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="give tests marked soak their full length")


@pytest.fixture(scope="session")
def rounds(pytestconfig: pytest.Config) -> Callable[[int], int]:
    """How many rounds a test marked ``soak`` plays: all with ``--soak``, else a twentieth."""
    share = 1 if pytestconfig.getoption("soak") else 20
    return lambda full: max(1, full // share)


# --- documents are tests --------------------------------------------------------------------


class Whole(Example):
    """All examples of one document, in order."""

    def __init__(self, document: "Page | Docstrings", examples: list[Example]) -> None:
        first = examples[0]
        super().__init__(document, first.line, first.column, first.region, document.namespace)
        self.examples = examples

    def evaluate(self) -> None:
        with asyncio.Runner() as runner:
            self.document.runner = runner
            for example in self.examples:
                example.evaluate()


class Page(Document):
    """A page of Markdown."""

    runner: asyncio.Runner

    def examples(self) -> Iterator[Example]:
        examples = list(super().examples())
        if examples:
            yield Whole(self, examples)


class Docstrings(PythonDocStringDocument):
    """The docstrings of a module."""

    runner: asyncio.Runner

    def examples(self) -> Iterator[Example]:
        examples = list(super().examples())
        if examples:
            yield Whole(self, examples)


def run_python(example: Example) -> None:
    source = pad(example.parsed, example.line + example.parsed.line_offset)
    code = compile(
        source, example.path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
    )
    pending = eval(code, example.namespace)  # noqa: S307  # the document's own code
    if inspect.iscoroutine(pending):
        example.document.runner.run(pending)


def write_toml(example: Example) -> None:
    """Write a block that begins with the name of a file; others are only shown."""
    if named := re.match(r"# (\S+\.toml)\n", example.parsed):
        path = Path(named[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(example.parsed, encoding="utf-8")


CONSOLE: Final = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n?)*)", re.MULTILINE)


def run_console(example: Example) -> str | None:
    """Run each line after ``$`` and compare what it prints, on both streams, with the block."""
    for command, expected in CONSOLE.findall(example.parsed):
        path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
        done = subprocess.run(  # noqa: S602  # the document shows what a user types into a shell
            command,
            shell=True,
            check=False,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if not doctest.OutputChecker().check_output(expected, done.stdout, doctest.ELLIPSIS):
            return f"$ {command}\nexpected:\n{expected}\nprinted:\n{done.stdout}"
    return None


GUARDS: Final = ["clean_machine", "loopback_only"]

_pages = Sybil(
    parsers=[
        CodeBlockParser("python", run_python),
        CodeBlockParser("toml", write_toml),
        CodeBlockParser("console", run_console),
        SkipParser(),
    ],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
    document_types={".md": Page},
    fixtures=GUARDS,
)
# One for each source root, because `*.py` matches at any depth and `**` at one alone.
DOCSTRINGS: Final = [
    Sybil(
        parsers=[DocTestParser(doctest.ELLIPSIS)],
        path=root,
        patterns=["*.py"],
        document_types={".py": Docstrings},
        fixtures=GUARDS,
    )
    for root in ("kor", "containers")
]

pytest_collect_file = SybilCollection([_pages, *DOCSTRINGS]).pytest()
