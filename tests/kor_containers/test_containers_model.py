"""Any mix of deriving, overriding and ending agrees with a model that is too simple to be wrong.

The model keeps no objects: it looks up, for each container, which replacement of each binding is
in force, and says from that what every object must be made of, and which must be shared.
"""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from kor_containers.container import KorContainer
from kor_containers.providers import Alias, Object, Singleton

NEEDS: dict[str, tuple[str, ...]] = {
    "operator": (),
    "settings": ("operator",),
    "transport": ("operator",),
    "openai": ("transport",),
    "catalogue": ("operator", "openai"),
    "registry": ("settings", "catalogue"),
    "kernel": ("settings", "registry"),
}


class Made:
    """What the toy's singletons are: the binding, and what it was made of."""

    def __init__(self, path: str, *needs: Any) -> None:
        self.path = path
        self.needs = needs
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Toy(KorContainer):
    operator = Object("operator")
    settings = Alias(operator)
    transport = Singleton(Made, "transport", operator)
    openai = Singleton(Made, "openai", transport)
    catalogue = Singleton(Made, "catalogue", operator, openai)
    registry = Singleton(Made, "registry", settings, catalogue)
    kernel = Singleton(Made, "kernel", settings, registry)


@dataclass(frozen=True)
class Given:
    """What replaces a binding: an object, or a singleton that needs another binding.

    One that needs the very binding it replaces is a decorator.
    """

    name: str
    need: str | None


@dataclass(eq=False)
class Model:
    """A container as the model sees it."""

    real: Any
    parent: "Model | None"
    replaced: dict[str, Given]
    overrides: list[tuple[Any, dict[str, Given]]] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)

    def chain(self, path: str) -> list[Given]:
        """The replacements of a binding, the one in force first, then what it replaced."""
        own = [given[path] for _, given in reversed(self.overrides) if path in given]
        if path in self.replaced:
            own.append(self.replaced[path])
        return own if self.parent is None else own + self.parent.chain(path)

    def structure(self, path: str, depth: int = 0) -> Any:
        """What the object is made of, as nested tuples."""
        chain = self.chain(path)[depth:]
        if not chain and path == "settings":
            return self.structure("operator")
        if not chain:
            needs = [self.structure(need) for need in NEEDS[path]]
            return (path, *needs) if needs else path
        name, need = chain[0].name, chain[0].need
        if need is None:
            return name
        return (name, self.structure(need, depth + 1 if need == path else 0))

    def disturbed(self) -> bool:
        """Whether an override is in force here or above."""
        return bool(self.overrides) or (self.parent is not None and self.parent.disturbed())


def structure(thing: Any) -> Any:
    if isinstance(thing, Made):
        return (thing.path, *(structure(need) for need in thing.needs))
    return thing


ORDER = list(NEEDS)


@st.composite
def choices(draw: st.DrawFn) -> dict[str, str | None]:
    """Bindings to replace, and what each needs: nothing, what it replaces, or a lower one."""
    chosen = draw(st.lists(st.sampled_from(ORDER), min_size=1, max_size=2, unique=True))
    return {path: draw(st.sampled_from([None, *ORDER[: ORDER.index(path) + 1]])) for path in chosen}


def real(model: Model, given: dict[str, Given]) -> dict[str, Any]:
    """The replacements to hand to the container itself."""
    return {
        path: item.name
        if item.need is None
        else Singleton(Made, item.name, getattr(model.real, item.need))
        for path, item in given.items()
    }


class Containers(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.models: list[Model] = []
        self.count = 0

    containers = Bundle("containers")
    overrides = Bundle("overrides")

    def given(self, chosen: dict[str, str | None]) -> dict[str, Given]:
        self.count += 1
        return {path: Given(f"{path}-{self.count}", need) for path, need in chosen.items()}

    def known(self, model: Model) -> Model:
        self.models.append(model)
        return model

    @initialize(target=containers)
    def declare(self) -> Model:
        return self.known(Model(Toy(), None, {}))

    @rule(target=containers, parent=containers, chosen=choices())
    def derive(self, parent: Model, chosen: dict[str, str | None]) -> Model:
        given = self.given(chosen)
        return self.known(Model(parent.real.derive(real(parent, given)), parent, given))

    @rule(target=overrides, model=containers, chosen=choices())
    def override(self, model: Model, chosen: dict[str, str | None]) -> Any:
        given = self.given(chosen)
        override = model.real.override(real(model, given))
        model.overrides.append((override, given))
        return model, override

    @rule(chosen=overrides)
    def end(self, chosen: tuple[Model, Any]) -> None:
        model, override = chosen
        override.end()
        model.overrides = [item for item in model.overrides if item[0] is not override]

    @rule(model=containers, path=st.sampled_from(sorted(NEEDS)))
    def resolve(self, model: Model, path: str) -> None:
        getattr(model.real, path)()

    @invariant()
    def every_object_is_made_of_what_is_in_force(self) -> None:
        for model in self.models:
            for path in NEEDS:
                thing = getattr(model.real, path)()
                assert structure(thing) == model.structure(path)
                assert not isinstance(thing, Made) or thing.closed == 0

    @invariant()
    def what_does_not_differ_is_shared_and_the_rest_is_not(self) -> None:
        for model in self.models:
            if model.parent is not None:
                for path in NEEDS:
                    mine = getattr(model.real, path)()
                    parents = getattr(model.parent.real, path)()
                    same = model.structure(path) == model.parent.structure(path)
                    assert (mine is parents) == same

    @invariant()
    def the_same_objects_are_back_after_every_override(self) -> None:
        for model in self.models:
            if not model.disturbed():
                for path in NEEDS:
                    thing = getattr(model.real, path)()
                    assert model.before.setdefault(path, thing) is thing


TestContainers = Containers.TestCase
TestContainers.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
