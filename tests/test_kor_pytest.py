"""The pytest plugin, as other people's projects meet it.

Each test writes a small project and runs pytest on it, in a process of its own.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Without hypothesis, which takes most of the second in which an empty run starts.
INI = """
[pytest]
filterwarnings = error
addopts = --strict-markers --strict-config -p no:hypothesispytest -p no:randomly
asyncio_default_fixture_loop_scope = function
"""


class Project:
    """A foreign project: its tests as text, and a run of pytest on them."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        pytester.makefile(".ini", pytest=INI)

    def write(self, **files: str) -> None:
        self._pytester.makepyfile(**{name: dedent(text) for name, text in files.items()})

    def write_file(self, name: str, text: str) -> None:
        (self._pytester.path / name).write_text(dedent(text), encoding="utf-8")

    def show(self, option: str) -> str:
        """Return what pytest prints when it is asked for something else than tests."""
        return self._pytester.runpytest_subprocess(option).stdout.str()

    def run(self, *options: str, **outcomes: int) -> str:
        """Run pytest, expect the outcomes, and return what it printed."""
        result = self._pytester.runpytest_subprocess(*options)
        result.assert_outcomes(**outcomes)
        return result.stdout.str()


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    yield Project(pytester)
    # Back from pytester's folder, while the folder before it is still there.
    monkeypatch.undo()


# --- it costs nothing -----------------------------------------------------------------------


def test_a_project_that_does_not_use_it_imports_nothing_of_kor(project: Project):
    """Neither before, nor in, nor after its tests."""
    project.write(
        conftest="""
            import sys

            def pytest_unconfigure(config):
                print("imported:", [n for n in sys.modules if n.startswith("kor_co")])
        """,
        test_theirs="""
            import sys

            def test_it():
                assert "kor_pytest" in sys.modules
                assert not [n for n in sys.modules if n.startswith("kor_co")]
        """,
    )

    assert "imported: []" in project.run("-s", passed=1)


def test_its_fixtures_and_markers_are_listed(project: Project):
    fixtures, markers = project.show("--fixtures"), project.show("--markers")

    for name in ("kor_config", "kor_container", "kor_kernel", "scripted_llm"):
        assert f"{name} -- " in fixtures
    assert "@pytest.mark.kor_config(tables, **tables): " in markers
    assert "@pytest.mark.kor_allow_real_calls: " in markers


# --- the container --------------------------------------------------------------------------


def test_each_test_gets_a_container_of_its_own_on_echo(project: Project):
    project.write(
        test_it="""
            import pytest

            seen = []

            @pytest.mark.parametrize("n", [1, 2])
            def test_fresh(kor_container, n):
                assert not [other for other in seen if other is kor_container]
                seen.append(kor_container)
                model = kor_container.llm.selector().get_model()
                assert "Echo: Hello!" == model.generate("Hello!")

            def test_closed():
                from kor_core.errors import ContainerError
                for container in seen:
                    with pytest.raises(ContainerError):
                        container.kernel()
        """
    )

    project.run(passed=3)


def test_neither_files_nor_environment_reach_the_container(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    """Not the configuration, nor keys, nor proxies."""
    monkeypatch.setenv("KOR_LLM__DEFAULT__MODEL", "openai:of-the-machine")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-machine")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy-of-the-machine:1")
    project.write_file("config.toml", '[llm.default]\nmodel = "openai:of-the-file"\n')
    project.write(
        test_it="""
            import os

            import pytest
            from kor_core.errors import MissingCredentialsError

            def test_alone(kor_container):
                settings = kor_container.config.settings()
                assert "echo:echo" == settings.llm.default.model
                assert not settings.network.trust_env
                with pytest.raises(MissingCredentialsError):
                    kor_container.llm.registry().get_model("openai:gpt-4o")

            def test_afterwards():
                assert "sk-of-the-machine" == os.environ["OPENAI_API_KEY"]
        """
    )

    project.run(passed=2)


def test_the_closest_marker_configures_it(project: Project):
    """By mapping or by section; what it leaves out is as usual."""
    project.write(
        test_it="""
            import pytest

            pytestmark = pytest.mark.kor_config(llm={"default": {"model": "echo:of-the-module"}})

            def test_module(kor_container):
                assert "echo:of-the-module" == kor_container.config.settings().llm.default.model

            @pytest.mark.kor_config({"llm": {"purposes": {"coding": {"model": "echo:coder"}}}})
            class TestClass:
                def test_class(self, kor_container):
                    settings = kor_container.config.settings()
                    assert "echo:echo" == settings.llm.default.model
                    assert ["coding"] == list(settings.llm.purposes)

                @pytest.mark.kor_config({"llm": {}}, network={"read_timeout": 5})
                def test_both(self, kor_container):
                    settings = kor_container.config.settings()
                    assert 5 == settings.network.read_timeout
                    assert not settings.network.trust_env
                    assert not settings.llm.purposes

                @pytest.mark.kor_config(network={"trust_env": True})
                def test_explicit(self, kor_container):
                    assert kor_container.config.settings().network.trust_env
        """
    )

    project.run(passed=4)


def test_a_container_of_ones_own_takes_the_configuration_of_the_marker(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    """With what is usual in it, and the keys of the environment hidden."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-machine")
    project.write(
        test_it="""
            import os

            import pytest
            from kor_containers import ApplicationContainer, KorContainer, create_container
            from kor_containers.providers import Container

            class App(KorContainer):
                kor = Container(ApplicationContainer)

            @pytest.fixture
            def kor_container(kor_config):
                with create_container(kor_config, container=App) as app:
                    yield app

            @pytest.mark.kor_config(llm={"default": {"model": "echo:marked"}})
            def test_marked(kor_container, kor_kernel):
                assert "echo:marked" == kor_kernel.settings.llm.default.model
                assert not kor_kernel.settings.network.trust_env
                assert "OPENAI_API_KEY" not in os.environ

            def test_usual(kor_config, kor_container):
                assert {"model": "echo:echo"} == kor_config["llm"]["default"]
                assert "echo:echo" == kor_container.kor.config.settings().llm.default.model
        """
    )

    project.run(passed=2)


def test_a_wrong_marker_or_configuration_says_what_is_wrong(project: Project):
    project.write(
        test_it="""
            import pytest

            @pytest.mark.kor_config("config.toml")
            def test_path(kor_container): ...

            @pytest.mark.kor_config({}, {})
            def test_two(kor_container): ...

            @pytest.mark.kor_config(llm="echo")
            def test_no_table(kor_container): ...

            @pytest.mark.kor_config(llm={"defualt": {}})
            def test_misspelt(kor_container): ...
        """
    )

    printed = project.run(errors=4)

    assert 2 == printed.count("The marker kor_config takes one mapping, or the sections by name")
    assert "Did you mean 'default'?" in printed


# --- the kernel and the script, whatever runs the tests -------------------------------------

ANY_RUNNER = {
    "application": """
        from kor_core.kernel import get_kernel

        def summarise(text):
            return get_kernel().model_selector.get_model().generate(f"Summarise: {text}")

        async def asummarise(text):
            return await get_kernel().model_selector.get_model().agenerate(f"Summarise: {text}")
    """,
    "test_plain": """
        from threading import Thread

        from application import summarise
        from kor_containers import default_container
        from kor_core.kernel import get_kernel

        def test_current(kor_kernel, kor_container):
            assert kor_kernel is get_kernel() is kor_container.kernel()
            assert default_container() is kor_container

        def test_scripted(scripted_llm, kor_kernel):
            scripted_llm.reply("Short.")
            assert "Short." == summarise("long")
            assert ["Summarise: long"] == scripted_llm.prompts
            assert kor_kernel is get_kernel()

        def test_in_a_thread(scripted_llm):
            scripted_llm.reply("Short.")
            said = []
            thread = Thread(target=lambda: said.append(summarise("long")))
            thread.start()
            thread.join()
            assert ["Short."] == said
    """,
    "test_of_asyncio": """
        import asyncio

        import pytest
        import pytest_asyncio
        from application import asummarise
        from kor_core.kernel import get_kernel

        @pytest_asyncio.fixture
        async def early():
            return asyncio.get_running_loop()

        @pytest_asyncio.fixture
        async def late(kor_kernel):
            return get_kernel()

        @pytest.mark.asyncio
        async def test_scripted(early, scripted_llm, kor_kernel, late):
            scripted_llm.reply("one", "two")
            assert kor_kernel is get_kernel() is late
            said = await asyncio.gather(asummarise("a"), asyncio.create_task(asummarise("b")))
            assert {"one", "two"} == set(said)
    """,
    "test_of_anyio": """
        import pytest
        from application import asummarise
        from kor_core.kernel import get_kernel

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.fixture
        async def early(anyio_backend):
            yield 1

        @pytest.fixture
        async def late(kor_kernel):
            yield get_kernel()

        @pytest.mark.anyio
        async def test_scripted(early, scripted_llm, kor_kernel, late):
            scripted_llm.reply("Short.")
            assert kor_kernel is get_kernel() is late
            assert "Short." == await asummarise("long")
    """,
    "test_of_unittest": """
        import unittest

        import pytest
        from application import asummarise, summarise
        from kor_core.kernel import get_kernel

        @pytest.mark.kor_config(llm={"default": {"model": "echo:configured"}})
        class Tests(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def script(self, scripted_llm):
                self.llm = scripted_llm.reply("Short.")

            def test_scripted(self):
                self.assertEqual("Short.", summarise("long"))
                self.assertEqual("configured", self.llm.calls[0].model)

        @pytest.mark.usefixtures("kor_kernel")
        class AsyncTests(unittest.IsolatedAsyncioTestCase):
            async def asyncSetUp(self):
                self.kernel = get_kernel()

            async def test_current(self):
                self.assertIs(self.kernel, get_kernel())
                self.assertEqual("Echo: Summarise: long", await asummarise("long"))
    """,
}


@pytest.mark.parametrize("options", [(), ("-n", "2"), ("-p", "no:asyncio", "-p", "no:anyio")])
def test_every_runner_is_served(project: Project, options: tuple[str, ...]):
    """pytest alone, pytest-asyncio, anyio and unittest, in one process and in several."""
    left_out = {"test_of_asyncio", "test_of_anyio"} if "no:asyncio" in options else set()
    if left_out:
        project.write_file("pytest.ini", INI.rpartition("asyncio_default")[0])
    project.write(**{name: text for name, text in ANY_RUNNER.items() if name not in left_out})

    project.run(*options, passed=7 - len(left_out))


def test_the_script_stands_in_for_every_provider(project: Project):
    """Those that need keys, those of plugins and of an application's own container too."""
    project.write(
        conftest="""
            import pytest
            from dependency_injector.providers import Container
            from kor_containers import ApplicationContainer, KorContainer, create_container
            from kor_containers.providers import Singleton
            from kor_core.llm.base import BaseLLMProvider
            from kor_core.plugin import KorPlugin

            class Mine(BaseLLMProvider):
                def __init__(self, id):
                    self.id = id

                def create_model(self, model_name, config):
                    raise AssertionError("the real one")

            class Plugin(KorPlugin):
                id = "theirs"

                def initialize(self, context):
                    context.get_llm_registry().register(Mine("by-plugin"))

            class Service:
                def __init__(self, selector):
                    self.selector = selector

                def run(self):
                    return self.selector.get_model("coding").generate("?")

            class App(KorContainer):
                kor = Container(ApplicationContainer)
                service = Singleton(Service, kor.llm.selector)

            @pytest.fixture
            def kor_container():
                purposes = {"coding": {"model": "mine:coder"}}
                tables = {"llm": {"purposes": purposes, "policies": {"retries": 0}}}
                with create_container(
                    tables, container=App, providers=[Mine("mine")], plugins=[Plugin()]
                ) as app:
                    yield app
        """,
        test_it="""
            import pytest
            from kor_core.kernel import get_kernel

            OURS = ["openai:gpt-4o", "litellm/claude-3-opus", "echo:e"]

            @pytest.mark.parametrize("reference", [*OURS, "mine:m", "by-plugin:p"])
            def test_any(scripted_llm, reference):
                scripted_llm.reply("scripted")
                assert "scripted" == get_kernel().llm_registry.get_model(reference).generate("?")

            def test_own_service(kor_kernel, kor_container, scripted_llm):
                service = kor_container.service()
                scripted_llm.reply(TimeoutError("too late"), "scripted")
                with pytest.raises(TimeoutError):
                    service.run()
                assert "scripted" == service.run()
                assert ["coder", "coder"] == [call.model for call in scripted_llm.calls]
        """,
    )

    project.run(passed=6)


def test_a_call_that_was_not_scripted_fails_the_test(project: Project):
    project.write(
        test_it="""
            from kor_core.kernel import get_kernel

            def test_forgotten(scripted_llm):
                get_kernel().model_selector.get_model().generate("?")
        """
    )

    assert "asked once more than it can answer" in project.run(failed=1)


# --- real calls -----------------------------------------------------------------------------

# Not loopback by name, yet nothing that leaves the machine: nobody listens there.
CALLING = """
    import pytest

    def call(url="https://0.0.0.0:1/v1"):
        from kor_containers import create_kernel

        tables = {"llm": {"providers": {"openai": {"api_key": "sk-planted", "base_url": url}}}}
        with create_kernel(tables | {"network": {"trust_env": False}}) as kernel:
            return kernel.llm_registry.get_model("openai:gpt-4o").generate("Hello!")

    def test_blocked():
        import sys
        with pytest.raises(Exception) as caught:
            call()
        assert "RealCallsBlockedError" == type(caught.value).__name__
        assert "would go to 0.0.0.0. " in str(caught.value)
        assert "@pytest.mark.kor_allow_real_calls" in str(caught.value)

    def test_loopback():
        from kor_core.testing import Upstream
        with Upstream() as upstream:
            assert "Hello!" in call(upstream.openai_url)

    @pytest.mark.kor_allow_real_calls
    class TestAllowed:
        def test_allowed(self):
            with pytest.raises(Exception) as caught:
                call()
            assert "LLMConnectionError" == type(caught.value).__name__

    def test_blocked_again():
        with pytest.raises(Exception) as caught:
            call()
        assert "RealCallsBlockedError" == type(caught.value).__name__
"""


def test_real_calls_are_blocked_but_for_tests_that_are_marked(project: Project):
    """Also when KOR is first imported in the midst of a test, and for kernels that it builds."""
    project.write(test_it=CALLING)

    project.run(passed=4)


def test_a_conftest_that_imports_kor_early_changes_nothing(project: Project):
    project.write(conftest="import kor_core.interception", test_it=CALLING)

    project.run("-n", "1", passed=4)


def test_kor_is_the_same_for_having_been_waited_for(project: Project):
    """Its module has its own loader again, so that its source is found."""
    project.write(
        test_it="""
            import inspect
            import sys

            def test_it():
                from kor_core import interception
                assert "def refuse_blocked" in inspect.getsource(interception)
                assert interception.__loader__ is interception.__spec__.loader
                assert "kor_pytest" != type(interception.__loader__).__module__
                assert not [f for f in sys.meta_path if type(f).__module__ == "kor_pytest"]
        """
    )

    project.run(passed=1)


def test_an_option_allows_real_calls_in_every_test(project: Project):
    project.write(
        test_it="""
            import pytest
            from kor_core.interception import refuse_blocked

            def test_it():
                refuse_blocked("api.openai.com")
        """
    )

    project.run("--kor-allow-real-calls", passed=1)
    project.run(failed=1)


def test_cassettes_play_under_the_block_and_record_where_calls_are_allowed(project: Project):
    project.write(
        test_it="""
            import pytest
            from kor_core.errors import LLMConnectionError, RealCallsBlockedError
            from kor_core.testing import Upstream, cassette

            CONFIG = {"providers": {"openai": {"api_key": "sk-planted"}}}

            def ask(kernel):
                return kernel.llm_registry.get_model("openai:gpt-4o").generate("Hello!")

            @pytest.mark.kor_config(llm=CONFIG)
            def test_recording(kor_kernel):
                with pytest.raises(RealCallsBlockedError), cassette("new.json"):
                    ask(kor_kernel)

            @pytest.mark.kor_config(llm=CONFIG)
            def test_playing(kor_kernel):
                with cassette("old.json"):
                    assert "recorded" == ask(kor_kernel)
        """
    )
    project.write_file(
        "old.json",
        """
        {"cassette": 1, "exchanges": [{
            "request": {
                "method": "POST",
                "url": "https://api.openai.com/v1/chat/completions",
                "json": {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello!"}]}
            },
            "response": {
                "status": 200,
                "headers": {"content-type": "application/json"},
                "json": {"choices": [{"finish_reason": "stop", "message": {"content": "recorded"}}]}
            }
        }]}
        """,
    )

    project.run(passed=2)


# --- what tests leave behind ----------------------------------------------------------------

LEAVING = """
    import pytest
    from kor_containers import default_container
    from kor_core.kernel import get_kernel

    FAKE = object()

    def test_leaves_on_its_container(kor_container):
        kor_container.override({"llm.openai": FAKE})
        kor_container.llm.echo.override(FAKE)

    def test_leaves_on_the_default():
        default_container().llm.litellm.override(FAKE)

    def test_leaves_nothing(kor_container):
        for container in (kor_container, default_container()):
            with container.override({"llm.openai": FAKE}):
                assert FAKE is container.llm.openai()

    def test_finds_nothing():
        assert FAKE is not default_container().llm.litellm()
        assert "echo" == get_kernel().settings.llm.default.model
"""


@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_overrides_left_behind_fail_the_test_and_no_other(
    project: Project, options: tuple[str, ...]
):
    """The message names the binding and the line that overrode it."""
    project.write(test_it=LEAVING)

    printed = project.run(*options, passed=4, errors=2)

    assert "Overrides were left behind on kor_container:" in printed
    assert "Overrides were left behind on the default container:" in printed
    lines = dedent(LEAVING).strip().splitlines()
    for path in ("llm.openai", "llm.echo", "llm.litellm"):
        place = next(n for n, line in enumerate(lines, 1) if path[4:] in line)
        assert f"  - {path}, overridden at {project_file(printed)}:{place}" in printed


OWN = """
    import pytest
    from kor_containers import ApplicationContainer, KorContainer, create_container
    from kor_containers.providers import Container

    class App(KorContainer):
        kor = Container(ApplicationContainer)

    FAKE = object()
    BY_FIXTURE = object()

    @pytest.fixture(scope="{scope}")
    def kor_container():
        with create_container({{}}, container={container}) as app:
            yield app

    @pytest.fixture(scope="{scope}")
    def faked(kor_container):
        with kor_container.override({{"{path}echo": BY_FIXTURE}}):
            yield kor_container

    def test_leaves(faked):
        faked.override({{"{path}openai": FAKE}})

    def test_finds_nothing(kor_container, faked):
        llm = getattr(kor_container, "kor", kor_container).llm
        assert FAKE is not llm.openai()
        assert BY_FIXTURE is llm.echo()
"""


@pytest.mark.parametrize("scope", ["function", "module"])
@pytest.mark.parametrize(
    ("container", "path"), [("App", "kor.llm."), ("ApplicationContainer", "llm.")]
)
def test_overrides_left_behind_on_a_container_of_ones_own_fail_the_test(
    project: Project, scope: str, container: str, path: str
):
    """Whatever its scope, by its own name; those of fixtures that outlive the test stay."""
    project.write(test_it=OWN.format(scope=scope, container=container, path=path))

    printed = project.run(passed=2, errors=1)

    assert "Overrides were left behind on kor_container:" in printed
    assert f"  - {path}openai, overridden at {project_file(printed)}:" in printed
    assert f"  - {path}echo" not in printed
    assert "the default container" not in printed


def test_overrides_of_a_plain_container_are_told_of_once_when_it_is_the_default_too(
    project: Project,
):
    project.write(
        test_it="""
            import pytest
            from kor_containers import create_container

            @pytest.fixture
            def kor_container(kor_config):
                with create_container(kor_config) as app:
                    yield app

            def test_leaves(kor_kernel, kor_container):
                kor_container.llm.openai.override(object())
        """
    )

    printed = project.run(passed=1, errors=1)

    assert "Overrides were left behind on kor_container:" in printed
    assert "the default container" not in printed


def test_a_fixture_of_that_name_that_is_no_container_of_kor_is_left_alone(project: Project):
    project.write(
        test_it="""
            import pytest
            import kor_containers

            @pytest.fixture(scope="module")
            def kor_container():
                return "theirs"

            def test_it(kor_container):
                assert "theirs" == kor_container
        """
    )

    project.run(passed=1)


def project_file(printed: str) -> str:
    """The file of the tests, as the message names it."""
    return next(
        line.split("overridden at ")[1].rpartition(":")[0]
        for line in printed.splitlines()
        if "overridden at " in line and line.split(":")[-2].endswith("test_it.py")
    )


def test_what_a_class_declares_is_nothing_left_behind(project: Project):
    project.write(
        test_it="""
            from dependency_injector import providers
            from kor_containers import ApplicationContainer

            ApplicationContainer.kernel.override(providers.Object("declared"))

            def test_declared(kor_container):
                assert "declared" == kor_container.kernel()
        """
    )

    project.run(passed=1)


def test_the_default_kernel_lasts_for_one_test(project: Project):
    project.write(
        test_it="""
            import pytest
            from kor_core.kernel import get_kernel

            seen = []

            @pytest.mark.parametrize("n", [1, 2])
            def test_default(n):
                kernel = get_kernel()
                assert kernel is get_kernel()
                assert not [other for other in seen if other is kernel]
                seen.append(kernel)
        """
    )

    project.run(passed=2)


def test_a_reload_ends_with_the_test_and_is_no_override_left_behind(project: Project):
    project.write(
        test_it="""
            from kor_containers import default_container, reload
            from kor_core.kernel import get_kernel

            NEW = {"llm": {"default": {"model": "echo:new"}}}

            def test_reloads(kor_container):
                reload(kor_container, NEW | {"network": {"trust_env": False}})  # as it has it
                reload(default_container(), NEW)
                assert "new" == get_kernel().model_selector.get_model().model_name

            def test_sees_nothing_of_it():
                assert "new" != get_kernel().model_selector.get_model().model_name
        """
    )

    project.run(passed=2)


def test_a_failing_teardown_still_forgets_the_default(project: Project):
    project.write(
        test_it="""
            import pytest
            from kor_containers import default_container

            @pytest.fixture
            def broken():
                yield
                raise ZeroDivisionError

            def test_one(broken):
                default_container().llm.openai.override(object())

            def test_two():
                assert "OpenAIProvider" == type(default_container().llm.openai()).__name__
        """
    )

    assert "Overrides were left behind" in project.run(passed=2, errors=1)


# --- the page -------------------------------------------------------------------------------


def test_the_tests_on_the_page_pass(project: Project):
    page = (ROOT / "docs" / "how-to-test-your-application.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n# (test_\w+)\.py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    project.write(**dict(blocks))

    assert len(blocks) == page.count("# test_")
    project.run(passed=7)
