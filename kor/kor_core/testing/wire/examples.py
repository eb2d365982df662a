"""A value that a JSON Schema accepts: what the echo says where only JSON will do."""

from collections.abc import Mapping
from typing import Any, Final

from kor_core.testing.wire.base import table

__all__ = ["example_of"]

_PLAIN: Final[dict[str, Any]] = {"integer": 1, "number": 1.0, "boolean": True, "null": None}

# A schema may refer to itself. Where nothing stops it, this does.
_DEEPEST: Final = 8


def example_of(schema: Mapping[str, Any], text: str) -> Any:
    """Return the simplest value that ``schema`` accepts, with ``text`` for every free text.

    It knows what schemas of pydantic models hold: ``$ref``, ``anyOf``, ``enum``, ``const``,
    ``default`` and the plain types. Bounds such as ``minimum`` are not looked at, except
    ``minItems``.

    >>> properties = {"city": {"type": "string"}, "days": {"type": "integer"}}
    >>> example_of({"type": "object", "properties": properties}, "Oslo")
    {'city': 'Oslo', 'days': 1}
    """
    return _Example(schema, text).value(schema, 0)


class _Example:
    def __init__(self, root: Mapping[str, Any], text: str) -> None:
        self._root = root
        self._text = text

    def value(self, schema: Mapping[str, Any], depth: int) -> Any:
        for name in ("const", "default"):
            if name in schema:
                return schema[name]
        if schema.get("enum"):
            return schema["enum"][0]
        chosen = self._chosen(schema)
        return self._typed(schema, depth) if chosen is None else self.value(chosen, depth + 1)

    def _chosen(self, schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if "$ref" in schema:
            return self._referred(schema["$ref"])
        return next((schema[n][0] for n in ("anyOf", "oneOf", "allOf") if schema.get(n)), None)

    def _referred(self, reference: str) -> Mapping[str, Any]:
        found = self._root
        for name in reference.removeprefix("#").strip("/").split("/"):
            found = table(found.get(name))
        return found

    def _typed(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            count = schema.get("minItems", 0 if depth > _DEEPEST else 1)
            return [self.value(table(schema.get("items")), depth + 1) for _ in range(count)]
        return _PLAIN.get(kind, self._text)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = table(schema.get("properties"))
        wanted = schema.get("required", ()) if depth > _DEEPEST else properties
        return {name: self.value(table(properties[name]), depth + 1) for name in wanted}
