"""Any mix of reloads, overrides and derived containers stays coherent, and closes all once.

Reloads as `kor_containers.reload` makes them: an override that stays, under which some objects are
kept, and which ends when two more came after it.
"""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from kor_containers.container import KorContainer
from kor_containers.overriding import Override
from kor_containers.providers import Alias, Object, Singleton

NEEDS: dict[str, tuple[str, ...]] = {
    "transport": ("operator",),
    "openai": ("transport",),
    "catalogue": ("operator", "openai"),
    "registry": ("settings", "catalogue"),
    "kernel": ("settings", "registry"),
}
KEPT = ("transport", "openai", "catalogue")


class Made:
    """What the toy's singletons are: the binding, and what it was made of."""

    def __init__(self, known: list["Made"], path: str, *needs: Any) -> None:
        known.append(self)
        self.path = path
        self.needs = needs
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def declared(known: list[Made]) -> Any:
    class Toy(KorContainer):
        operator = Object("operator")
        settings = Alias(operator)
        transport = Singleton(Made, known, "transport", operator)
        openai = Singleton(Made, known, "openai", transport)
        catalogue = Singleton(Made, known, "catalogue", operator, openai)
        registry = Singleton(Made, known, "registry", settings, catalogue)
        kernel = Singleton(Made, known, "kernel", settings, registry)

    return Toy()


def wrapped_in(thing: Made) -> list[Made]:
    """An object with all that it is made of."""
    inner = [each for need in thing.needs if isinstance(need, Made) for each in wrapped_in(need)]
    return [thing, *inner]


class Reloading(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.known: list[Made] = []
        self.open: list[Any] = []
        self.count = 0

    containers = Bundle("containers")
    overrides = Bundle("overrides")

    def replacement(self, app: Any, path: str, *, by_provider: bool) -> dict[str, Any]:
        self.count += 1
        if not by_provider or path not in NEEDS:
            return {path: f"{path}-{self.count}"}
        needs = [getattr(app, need) for need in NEEDS[path]]
        return {path: Singleton(Made, self.known, path, *needs)}

    @initialize(target=containers)
    def declare(self) -> Any:
        self.open.append(declared(self.known))
        return self.open[0]

    @rule(
        target=containers,
        parent=containers,
        path=st.sampled_from(["settings", *NEEDS]),
        by_provider=st.booleans(),
    )
    def derive(self, parent: Any, path: str, by_provider: bool) -> Any:  # noqa: FBT001  # hypothesis gives it by name
        child = parent.derive(self.replacement(parent, path, by_provider=by_provider))
        self.open.append(child)
        return child

    @rule(
        target=overrides,
        app=containers,
        path=st.sampled_from(["operator", "settings", *NEEDS]),
        by_provider=st.booleans(),
    )
    def override(self, app: Any, path: str, by_provider: bool) -> Override:  # noqa: FBT001  # hypothesis gives it by name
        override: Override = app.override(self.replacement(app, path, by_provider=by_provider))
        return override

    @rule(override=overrides)
    def end(self, override: Override) -> None:
        override.end()

    @rule(app=containers)
    def reload(self, app: Any) -> None:
        for path in KEPT:
            getattr(app, path)()
        space = app.place()[0]
        kept = [app.transport(), app.openai(), app.catalogue()]
        before = [each for each in space.overrides() if each.kept]
        self.count += 1
        space.override({"operator": f"operator-{self.count}"}, kept=KEPT)
        for each in before[:-1]:
            each.end()

        assert f"operator-{self.count}" == app.operator()
        if app is self.open[0]:  # a derived one does not keep what an override above had built
            assert kept == [app.transport(), app.openai(), app.catalogue()]

    @invariant()
    def each_object_is_made_of_those_that_its_container_gives(self) -> None:
        for app in self.open:
            for path, needs in NEEDS.items():
                thing = getattr(app, path)()
                if isinstance(thing, Made):
                    inner = [need for need in needs if need in NEEDS]
                    given = [getattr(app, need)() for need in inner]
                    made_of = [
                        item for item, need in zip(thing.needs, needs, strict=True) if need in NEEDS
                    ]
                    assert all(a is b for a, b in zip(made_of, given, strict=True)), (app, path)

    @invariant()
    def nothing_that_is_given_is_closed_nor_made_of_what_is(self) -> None:
        for app in self.open:
            for path in NEEDS:
                thing = getattr(app, path)()
                if isinstance(thing, Made):
                    assert not any(each.closed for each in wrapped_in(thing)), path

    def teardown(self) -> None:
        if self.open:
            self.open[0].close()

        assert all(each.closed == 1 for each in self.known)


TestReloading = Reloading.TestCase
TestReloading.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
