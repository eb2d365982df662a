"""Why a binding gives what it gives: what it is built from, who replaced what, what exists.

An explanation builds nothing, and shows classes and places in code, never a value: there may
be secrets in values.
"""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from kor_containers.definitions import (
    MISSING,
    Alias,
    Constant,
    Container,
    Definition,
    Native,
    Recipe,
)
from kor_containers.levels import Level
from kor_containers.sources import Cell
from kor_containers.spaces import Space

__all__ = ["Explanation", "Owner", "explain"]

# Sets what was handed in apart from other replacements; of no use to a reader.
_NUMBER: Final = re.compile(r"~\d+")

Owner = Literal["this container", "an override", "a parent"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What one binding is, and what it is built from.

    Args:
        path: the binding.
        kind: ``singleton``, ``object``, ``alias``, ``native``, ``container`` or ``undefined``.
        what: the class or function that makes the object, or the class of an object.
        owner: whose the object is; a parent's is shared with it.
        built: whether the object exists; None where there is a new one at each call.
        replaced_at: where it was replaced, as ``file:line``, the one in force first.
        needs: what it is built from.
        repeated: whether its needs were told before, and are left out here.
    """

    path: str
    kind: str
    what: str
    owner: Owner
    built: bool | None
    replaced_at: tuple[str, ...]
    needs: "tuple[Explanation, ...]"
    repeated: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The explanation in JSON's own types."""
        plain = asdict(self)
        plain["replaced_at"] = list(self.replaced_at)
        plain["needs"] = [need.as_dict() for need in self.needs]
        return plain

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        name = _NUMBER.sub("", self.path)
        if name != self.path and not name.endswith(")"):
            name += " (the one replaced)"
        yield f"{name}: {self._summary()}"
        for number, need in enumerate(self.needs):
            last = number == len(self.needs) - 1
            first, *others = str(need).splitlines()
            yield f"{'└─' if last else '├─'} {first}"
            yield from (f"{'  ' if last else '│ '} {line}" for line in others)

    def _summary(self) -> str:
        built = {True: "built", False: "not built yet", None: "made at each call"}[self.built]
        facts = [self.what, built]
        if self.owner == "a parent":
            facts.append("shared with the parent")
        if self.owner == "an override":
            facts.append("for the time of an override")
        facts += [f"replaced at {place}" for place in self.replaced_at]
        if self.repeated:
            facts.append("see above")
        return ", ".join(fact for fact in facts if fact)


def explain(space: Space, path: str) -> Explanation:
    """Explain a binding of a container as things are now.

    Raises:
        ContainerError: the path names no binding.
    """
    top = space.open().top
    if path not in top.graph.edges:
        raise space.root.unknown([path])
    return _explained(space, top, path, set())


def _explained(space: Space, top: Level, path: str, told: set[str]) -> Explanation:
    level, name = top.holder(path)
    definition = level.definition(name)
    repeated = path in told and bool(definition.edges)
    told.add(path)
    needs = () if repeated else definition.edges
    return Explanation(
        path=path,
        kind=definition.kind,
        what=_what(definition),
        owner=_owner(space, level),
        built=_is_built(level, name, definition),
        replaced_at=tuple(_replaced_at(space, path)),
        needs=tuple(_explained(space, top, need, told) for need in needs),
        repeated=repeated,
    )


def _owner(space: Space, level: Level) -> Owner:
    if level.owner is not space:
        return "a parent"
    return "this container" if level is space.ground else "an override"


def _is_built(level: Level, path: str, definition: Definition) -> bool | None:
    match definition:
        case Recipe():
            cell = level.sources.get(path)
            return isinstance(cell, Cell) and cell.value is not MISSING
        case Alias(target):
            target_level, name = level.holder(target)
            return _is_built(target_level, name, target_level.definition(name))
        case Native():
            return None
        case _:
            return True


def _what(definition: Definition) -> str:
    match definition:
        case Recipe():
            return _name(definition.declared_type or definition.factory)
        case Constant():
            return f"an object of {_name(type(definition.value))}"
        case Alias(target):
            return f"the same as {target}"
        case Native(provider):
            made = getattr(provider, "provides", None)
            return type(provider).__name__ + (f" of {_name(made)}" if callable(made) else "")
        case Container(prefix):
            return f"the container {prefix}"
        case _:
            return "bound to nothing"


def _name(thing: Any) -> str:
    return getattr(thing, "__qualname__", type(thing).__qualname__)


def _replaced_at(space: Space, path: str) -> Iterator[str]:
    for owner in space.lineage():
        yield from (str(override.caller) for override in reversed(owner.overrides_of(path)))
        if path in owner.replacement.paths:
            yield str(owner.derived_at)
            return
