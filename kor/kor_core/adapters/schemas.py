"""JSON Schemas in the form that OpenAI's structured outputs take.

The strict form, under which an answer cannot but fit, knows a part of JSON Schema: objects name
all their properties, require each, and allow no other. What cannot be brought into that form is
sent as it is, without strictness; either way KOR checks the answer.

Source: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from kor_core.llm.structured import Schema
from kor_core.redaction import is_sequence, is_table

__all__ = ["strict_form", "unwrapped", "wire_schema"]

_LONGEST_NAME: Final = 64
_NOT_OF_NAMES: Final = re.compile(r"[^a-zA-Z0-9_-]+")

# The one property of the object around an answer that is no object itself.
_ANSWER: Final = "answer"

# Without them the answer is no other, and it is checked again by whoever asked.
_DROPPED: Final = frozenset({"default", "discriminator", "examples", "title"})

_CHILDREN: Final = frozenset({"anyOf", "oneOf"})
_TABLES: Final = frozenset({"$defs", "definitions", "properties"})

# What the strict form knows, beside the above.
_KNOWN: Final = frozenset(
    {
        *("$ref", "additionalProperties", "const", "description", "enum", "exclusiveMaximum"),
        *("exclusiveMinimum", "format", "items", "maxItems", "maximum", "minItems", "minimum"),
        *("multipleOf", "pattern", "required", "type"),
    }
)
_FORMATS: Final = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid"}
)


def wire_schema(schema: Schema) -> dict[str, Any]:
    """Return the name, the schema and whether it is strict, as both of OpenAI's APIs take them.

    >>> wire_schema(Schema.of(list[int]))["schema"]["properties"]
    {'answer': {'items': {'type': 'integer'}, 'type': 'array'}}
    """
    whole = _as_object(schema.json_schema)
    strict = strict_form(whole)
    name = _NOT_OF_NAMES.sub("_", schema.name).strip("_")[:_LONGEST_NAME] or "Answer"
    return {
        "name": name,
        "schema": whole if strict is None else strict,
        "strict": strict is not None,
    }


def _as_object(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema of an object: nothing else is taken at the top."""
    whole = _resolved(schema)
    if whole.get("type") == "object":
        return whole
    inner = dict(schema)
    lifted = {"$defs": inner.pop("$defs")} if "$defs" in inner else {}
    return {
        "type": "object",
        "properties": {_ANSWER: inner},
        "required": [_ANSWER],
        "additionalProperties": False,
        **lifted,
    }


def _resolved(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema that is a reference at its top, as recursive ones are, without it."""
    if "$ref" not in schema:
        return dict(schema)
    above = {name: value for name, value in schema.items() if name != "$ref"}
    return {**_found(schema, schema["$ref"]), **above}


def _found(root: Mapping[str, Any], reference: object) -> Mapping[str, Any]:
    found: Any = root
    for name in str(reference).removeprefix("#/").split("/"):
        found = found.get(name) if is_table(found) else None
    return found if is_table(found) else {}


def unwrapped(schema: Schema, text: str) -> str:
    """Return an answer without the object that :func:`wire_schema` put around its schema.

    >>> unwrapped(Schema.of(list[int]), '{"answer": [1, 2]}')
    '[1, 2]'
    """
    if _resolved(schema.json_schema).get("type") == "object":
        return text
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not is_table(found) or set(found) != {_ANSWER}:
        return text
    return json.dumps(found[_ANSWER], ensure_ascii=False)


def strict_form(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the schema in its strict form, or None where it has none.

    >>> strict_form({"type": "object", "properties": {"name": {"type": "string"}}})
    {'type': 'object', 'properties': {'name': {'type': 'string'}}, \
'additionalProperties': False, 'required': ['name']}
    >>> strict_form({"type": "object", "additionalProperties": {"type": "integer"}})
    """
    try:
        return _Strict(schema).form(schema, frozenset())
    except _NoStrictFormError:
        return None


class _NoStrictFormError(Exception):
    """The schema says what the strict form cannot say."""


class _Strict:
    """Rewrites one schema, whose definitions may be referred to."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def form(self, schema: object, inlined: frozenset[str]) -> dict[str, Any]:
        """Return a schema in its strict form.

        Args:
            schema: the schema, or a part of it.
            inlined: the references that it stands in the place of.
        """
        if not is_table(schema):
            raise _NoStrictFormError
        kept = {name: value for name, value in schema.items() if name not in _DROPPED}
        if "$ref" in kept:
            return self._referring(kept, inlined)
        written = {
            "anyOf" if name == "oneOf" else name: self._keyword(name, value, inlined)
            for name, value in kept.items()
        }
        if not written.keys() & {"type", "anyOf", "enum", "const"}:
            raise _NoStrictFormError
        return _closed(written) if written.get("type") == "object" else written

    def _referring(self, kept: dict[str, Any], inlined: frozenset[str]) -> dict[str, Any]:
        """A reference stands alone: what it is described as comes with a copy of its target."""
        target = str(kept.pop("$ref"))
        if not kept or target in inlined:
            return {"$ref": target}
        return self.form({**_found(self._root, target), **kept}, inlined | {target})

    def _keyword(self, name: str, value: Any, inlined: frozenset[str]) -> Any:
        if name == "items":
            return self.form(value, inlined)
        if name in _CHILDREN and is_sequence(value):
            return [self.form(each, inlined) for each in value]
        if name in _TABLES and is_table(value):
            return {key: self.form(each, inlined) for key, each in value.items()}
        if name not in _KNOWN or (name == "format" and value not in _FORMATS):
            raise _NoStrictFormError
        return value


def _closed(written: dict[str, Any]) -> dict[str, Any]:
    """Allow an object its own properties alone, and require each."""
    properties = written.get("properties")
    if not properties or written.get("additionalProperties", False) is not False:
        raise _NoStrictFormError
    return {**written, "additionalProperties": False, "required": list(properties)}
