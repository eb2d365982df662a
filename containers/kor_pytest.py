"""The pytest plugin: a container, a kernel and a scripted model for each test, no real calls.

It is loaded by its entry point, and imports nothing of KOR before a test asks for it. Real
calls are refused from the start of the session on, for every kernel of the process.
"""

import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final, NoReturn, TypeGuard

import pytest

__all__ = [
    "kor_config",
    "kor_container",
    "kor_kernel",
    "pytest_addoption",
    "pytest_configure",
    "pytest_fixture_setup",
    "pytest_runtest_teardown",
    "scripted_llm",
]

_MARKERS: Final = {
    "kor_config(tables, **tables)": "the configuration that the fixture kor_config gives, as a "
    'mapping or by section: @pytest.mark.kor_config(llm={"default": {"model": "echo:any"}}).',
    "kor_allow_real_calls": "let this test call real providers.",
}
_CURE: Final = (
    "Use the fixture scripted_llm or another double, play a cassette, or mark the test with "
    "@pytest.mark.kor_allow_real_calls."
)

# What fixtures that outlive a test had overridden in a `kor_container`, by its space.
_LASTING: Final = pytest.StashKey[dict[Any, list[Any]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that lets every test call real providers."""
    group = parser.getgroup("kor", "language models with KOR")
    group.addoption(
        "--kor-allow-real-calls",
        action="store_true",
        help="let every test call real providers, to record cassettes for example",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and block real calls from now on."""
    for marker, description in _MARKERS.items():
        config.addinivalue_line("markers", f"{marker}: {description}")
    always = bool(config.getoption("--kor-allow-real-calls"))
    config.pluginmanager.register(_RealCalls(always=always), "kor-real-calls")


# --- fixtures -----------------------------------------------------------------------------


@pytest.fixture
def kor_config(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, Any]:
    """The configuration of the test: that of the closest marker ``kor_config``, and the usual.

    Where the marker names no default model the built-in ``echo`` serves, and failures are not
    retried unless it sets ``[llm.policies] retries``. The environment's keys and proxies are
    hidden during the test. A ``kor_container`` of your own takes it, so that the marker counts
    there as well: ``create_container(kor_config, container=App)``.
    """
    from kor_core.adapters.litellm_vendors import VENDORS
    from kor_core.adapters.vendors import COMPATIBLE

    compatible = (name for row in COMPATIBLE.values() for name in (*row.keys, *row.urls))
    vendors = (name for row in VENDORS.values() for name in (*row.keys, *row.urls))
    for name in (*compatible, *vendors):
        monkeypatch.delenv(name, raising=False)
    return _configuration(request.node)


@pytest.fixture
def kor_container(kor_config: Mapping[str, Any]) -> Iterator[Any]:
    """A fresh ``ApplicationContainer``, offline and alone: no file and no environment is read.

    It runs on the fixture ``kor_config``. At the end of the test the container is closed; an
    override left behind fails the test.
    """
    from kor_containers.application import create_container

    with create_container(kor_config) as app:
        yield app


@pytest.fixture
def kor_kernel(kor_container: Any) -> Iterator[Any]:
    """The kernel of ``kor_container``, which ``get_kernel()`` gives during the test.

    Everywhere: in tasks and threads too, because it is the default of the process as well.
    """
    from kor_containers.application import applications_in
    from kor_core.kernel import default_source, use_kernel

    (application,) = applications_in(kor_container)
    default_source(lambda: application)
    with use_kernel(application.kernel()) as kernel:
        yield kernel


@pytest.fixture
def scripted_llm(kor_kernel: Any) -> Any:
    """A ``ScriptedProvider`` in the place of every provider of ``kor_kernel``.

    Script it with ``scripted_llm.reply("text", error, function)``; see what it was asked in
    ``scripted_llm.prompts`` and ``.calls``. A call that was not scripted fails the test.
    """
    from kor_core.testing.doubles import ScriptedProvider

    double = ScriptedProvider()
    registry = kor_kernel.llm_registry
    for name in registry.providers:
        registry.register(double.named(name), replace=True)
    return double


def _configuration(node: pytest.Item) -> Mapping[str, Any]:
    marker = node.get_closest_marker("kor_config")
    tables: dict[str, Any] = {} if marker is None else {**_given(marker), **marker.kwargs}
    usual = {
        # Without `provider`, which the purposes would inherit.
        "default": {"model": "echo:echo"},
        # Each failure of a script is seen by the test, and none waits for a second try.
        "policies": {"retries": 0},
    }
    return {
        **tables,
        "llm": _over(usual, tables.get("llm", {})),
        # The proxies and certificates of the environment are the machine's, not the test's.
        "network": _over({"trust_env": False}, tables.get("network", {})),
    }


def _given(marker: pytest.Mark) -> Mapping[str, Any]:
    """Return the mapping that the marker was given, if any."""
    first: object = marker.args[0] if marker.args else {}
    if _is_table(first) and len(marker.args) <= 1:
        return first
    return pytest.fail(
        "The marker kor_config takes one mapping, or the sections by name: "
        '@pytest.mark.kor_config(llm={"default": {"model": "echo:any"}}).',
        pytrace=False,
    )


def _over(usual: Mapping[str, Any], table: object) -> object:
    """Return a section with what is usual in it; what is no table is KOR's to refuse."""
    return {**usual, **table} if _is_table(table) else table


def _is_table(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


# --- what a test leaves behind ------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Remember what fixtures that outlive a test override: it is not the test's to end."""
    made = yield
    if fixturedef.scope != "function":
        spaces = request.config.stash.setdefault(_LASTING, {})
        if fixturedef.argname == "kor_container" and (space := _space(made)) is not None:
            spaces[space] = []
        for space in spaces:
            spaces[space] = space.overrides()
    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """After everything else: tell of overrides left behind, and forget the default container."""
    # Afterwards it is gone. Not every item has arguments.
    arguments: Mapping[str, object] = getattr(item, "funcargs", None) or {}
    used = arguments.get("kor_container")
    try:
        return (yield)
    finally:
        try:
            # First, as it may be the default container too, and has a name of its own.
            lasting = item.config.stash.setdefault(_LASTING, {})
            _undo_overrides(used, "kor_container", lasting)
        finally:
            _forget_default()


def _forget_default() -> None:
    kernel = sys.modules.get("kor_core.kernel")
    if kernel is None:  # nobody used KOR
        return
    try:
        default = kernel.default_source(_nobody)
    except LookupError:
        return
    try:
        _undo_overrides(default, "the default container", {})
    finally:
        kernel.reset_kernel()


def _nobody() -> NoReturn:
    raise LookupError


def _space(container: Any) -> Any:
    """Return where a container keeps its overrides; None for what is no container of KOR."""
    instances: Any = sys.modules.get("kor_containers.instances")
    if instances is None or not isinstance(container, instances.KorInstance):
        return None
    return container.place()[0]


def _undo_overrides(container: Any, name: str, lasting: Mapping[Any, list[Any]]) -> None:
    """End the overrides that are in force on a container, and fail for them.

    A reload is one too, but nobody can end it: it lasts as long as the test.

    Args:
        container: closed or not; anything else has no overrides of KOR.
        name: what the user calls it.
        lasting: overrides to leave alone, by the space they are in.
    """
    space = _space(container)
    if space is None:
        return
    left: list[Any] = space.overrides()
    if left:
        # Those that its class declares belong to it.
        left = left[len(container.declarative_parent().place()[0].overrides()) :]
    left = [override for override in left if override not in lasting.get(space, ())]
    for override in reversed(left):
        override.end()
    left = [override for override in left if not override.kept]
    if left:
        lines = (
            f"  - {', '.join(override.replacement.paths)}, overridden at {override.caller}"
            for override in left
        )
        pytest.fail(
            f"Overrides were left behind on {name}:\n" + "\n".join(lines) + "\nThey are undone "
            "now. Let each end with its block: `with container.override({...}):`.",
            pytrace=False,
        )


# --- real calls ---------------------------------------------------------------------------


class _RealCalls:
    """Refuses real calls, but for the tests that may make them.

    Args:
        always: whether every test may.
    """

    def __init__(self, *, always: bool) -> None:
        self._always = always
        self._allowed = always
        self._block = ExitStack()
        self._finder = _Awaited("kor_core.interception", self._begin)
        known = sys.modules.get(self._finder.name)
        if known is None:
            sys.meta_path.insert(0, self._finder)
        else:
            self._begin(known)

    def pytest_unconfigure(self) -> None:
        self._finder.leave()
        self._block.close()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        marked = item.get_closest_marker("kor_allow_real_calls") is not None
        self._allowed = self._always or marked
        try:
            return (yield)
        finally:
            self._allowed = self._always

    def _begin(self, interception: Any) -> None:
        def refused(host: str) -> bool:
            return not self._allowed and interception.beyond_loopback(host)

        self._block.enter_context(interception.blocked(refused, _CURE))


class _Awaited(MetaPathFinder):
    """Calls back when a module has been imported, by whoever wants it.

    The plugin must know of KOR's first import, in the midst of a test perhaps, and must not
    import it itself: then it would cost every project that has KOR installed.
    """

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self.name: Final = name
        self._then = then

    def leave(self) -> None:
        """Wait no more."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> Any:
        """Find the module as the others do, and load it in our presence."""
        del path, target
        if fullname != self.name:
            return None
        self.leave()
        spec: Any = find_spec(fullname)
        spec.loader = _Announced(spec.loader, self._then)
        return spec


class _Announced(Loader):
    """Loads as another loader does, and says when it is done."""

    def __init__(self, loader: Loader, then: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._then = then

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave it to the loader."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module as if nobody watched."""
        assert module.__spec__ is not None  # noqa: S101 # imported modules have one
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._then(module)
