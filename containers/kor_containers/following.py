"""How a derived container follows an override of the one it was derived from.

It gets a level of its own for each override above it, also for those that are hidden here
because it replaced the same binding: they may show one day, when its own override ends.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from kor_containers.levels import Level, Owner, Replacement
from kor_containers.lifecycle import Built
from kor_containers.overriding import Overridden, Override
from kor_containers.replacing import as_seen, replaced_graph, replaced_level, seen_through

__all__ = ["Member", "following_level", "names_of", "put_back"]


class Member(Owner, Overridden, Protocol):
    """A container of a family, derived from one another."""

    levels: tuple[tuple[Override, Level], ...]
    replacement: Replacement

    @property
    def top(self) -> Level:
        """What the container is now."""
        ...

    def names_above(self, override: Override) -> Mapping[str, str | None]:
        """The names by which the parent sees what an override replaces."""
        ...


def names_of(member: Member, override: Override) -> dict[str, str | None]:
    """The names by which a container sees what an override of its own or above replaces.

    None stands for what was replaced in between: there, or in a container in between.
    """
    if override.owner is member:
        return {path: path for path in override.replacement.paths}
    return {
        path: None if name is None else _seen(member, name, override)
        for path, name in member.names_above(override).items()
    }


def following_level(member: Member, override: Override) -> Level:
    """The level by which an override above shows in a container; empty where it is hidden."""
    under = member.top
    # A name made by an override that is hidden here is hidden with it.
    names = {
        path: name if name in under.graph.edges else None
        for path, name in names_of(member, override).items()
    }
    visible = as_seen(override.replacement, names)
    graph = replaced_graph(under.graph, visible)
    mine = graph.closure(tuple(_replaced(member)))
    affected = graph.closure(visible.paths)
    fresh = (affected | visible.definitions.keys() | visible.renamed.keys()) & mine
    # What was this container's own is the ancestor's where the override makes it depend on
    # nothing that is replaced here; and so is what the override itself wraps.
    inherited = {path for path in affected - mine if under.is_owned(path)}
    inherited |= visible.renamed.keys() - mine
    definitions, renamed = visible.definitions, visible.renamed
    owned = fresh | inherited
    return Level(member, under, graph, owned, definitions, renamed, frozenset(inherited))


def put_back(
    member: Member, above: Sequence[tuple[Override, Level]], changed: set[str]
) -> list[Built]:
    """Put back the levels that were above one taken out, without what it had a part in.

    Args:
        member: the container, with its levels below the one taken out.
        above: the levels to put back, the lowest first.
        changed: what the one taken out had replaced, by the names it has here.

    Returns:
        What is to be closed.
    """
    built: list[Built] = []
    for override, level in above:
        changed = {seen for path in changed if (seen := seen_through(level, path)) is not None}
        dropped = level.graph.closure(tuple(sorted(changed)))
        built += level.settle(_again(member, override), dropped)
        member.levels += ((override, level),)
    return built


def _again(member: Member, override: Override) -> Level:
    if override.owner is member:
        return replaced_level(member, member.top, member.top.graph, override.replacement)
    return following_level(member, override)


def _seen(member: Member, path: str, before: Override) -> str | None:
    seen: str | None = path
    for replacement in _replacements(member, before):
        seen = None if seen is None else replacement.seen(seen)
    return seen


def _replacements(member: Member, before: Override | None = None) -> Iterator[Replacement]:
    """What was replaced in this very container, as long as an override was not there yet."""
    yield member.replacement
    for override, _ in member.levels:
        if override is before:
            return
        if override.owner is member:
            yield override.replacement


def _replaced(member: Member) -> list[str]:
    """What was replaced in this very container, by the names that it has now."""
    names: list[str] = []
    for replacement in _replacements(member):
        names = [seen for name in names if (seen := replacement.seen(name)) is not None]
        names += replacement.definitions
    return names
