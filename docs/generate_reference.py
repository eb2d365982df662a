"""Write what is generated from the models: the reference of all settings and the JSON Schema.

Run ``python docs/generate_reference.py`` after a change of the models. A test fails while
either file is out of date.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from inspect import cleandoc
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kor_core.settings import PurposeSettings, Settings
from kor_core.settings.problems import bare, step
from kor_core.settings.provenance import as_list, as_table

ROOT: Final = Path(__file__).parent.parent
REFERENCE: Final = ROOT / "docs" / "configuration-reference.md"
SCHEMA: Final = ROOT / "configs" / "schema.json"

_INTRODUCTION: Final = """\
# All settings

Generated from the models by `docs/generate_reference.py`. [Configuration](configuration.md)
explains files, variables and how they are merged.

Each setting can also be given by an environment variable: `KOR_`, the table and the key, joined
by two underscores, such as `KOR_LLM__DEFAULT__TEMPERATURE`.
"""


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a configuration file; tokens may stand for any value."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of the KOR SDK",
        **_as_toml_has_it(Settings.model_json_schema()),
    }


def _as_toml_has_it(node: Any) -> Any:
    if (items := as_list(node)) is not None:
        return [_as_toml_has_it(item) for item in items if item != {"type": "null"}]
    if (table := as_table(node)) is None:
        return node
    telling = {name: item for name, item in table.items() if not _is_noise(name, item)}
    kept = {name: _as_toml_has_it(item) for name, item in telling.items()}
    if "properties" in kept and "description" in kept:
        kept["description"] = _prose(kept["description"])
    if kept.get("type") not in {"integer", "number", "boolean"}:
        return kept
    # What describes the setting stays outside; the token is one more way to give its value.
    about = {name: kept.pop(name) for name in ("description", "default") if name in kept}
    return {**about, "anyOf": [kept, {"type": "string", "pattern": "^@"}]}


def _is_noise(name: str, item: Any) -> bool:
    """Say whether a part of pydantic's schema says nothing about TOML, which has no null."""
    return (name == "title" and isinstance(item, str)) or (name == "default" and item is None)


def reference() -> str:
    """Return the reference as Markdown."""
    return "\n".join([_INTRODUCTION, *_table(Settings, ())])


def _table(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[str]:
    inner = {name: _inner(name, field) for name, field in model.model_fields.items()}
    plain = [name for name, found in inner.items() if found is None]
    if plain:
        yield f"## `[{'.'.join(path)}]`\n\n{_prose(model.__doc__ or '')}\n"
        yield from _rows(model, plain)
    for name, found in inner.items():
        if found is not None:
            steps, table = found
            yield from _table(table, (*path, name, *steps))


def _inner(name: str, field: FieldInfo) -> tuple[tuple[str, ...], type[BaseModel]] | None:
    """Return the table that a field holds, or the table of each name in it."""
    found = bare(field.annotation)
    each = step(found, "any")
    if isinstance(found, type) and issubclass(found, BaseModel):
        return (), found
    if isinstance(each, type) and issubclass(each, BaseModel):
        return ("<id>" if name == "providers" else "<name>",), each
    return None


def _rows(model: type[BaseModel], names: Iterable[str]) -> Iterator[str]:
    if model is PurposeSettings:  # the same ones, and the same meanings
        yield "The keys are those of `[llm.default]`.\n"
        return
    properties = model.model_json_schema()["properties"]
    yield "| Key | Value | Default | Meaning |\n|---|---|---|---|"
    yield from (_row(name, properties[name]) for name in names)
    yield ""


def _prose(docstring: str) -> str:
    """Return a docstring without its examples, a paragraph a line, as Markdown."""
    paragraphs = cleandoc(docstring).partition("\n\n>>>")[0].split("\n\n")
    return "\n\n".join(each.replace("\n", " ") for each in paragraphs).replace("``", "`")


def _row(name: str, field: Mapping[str, Any]) -> str:
    choices = [choice for choice in field.get("anyOf", [field]) if choice.get("type") != "null"]
    value = " or ".join(_value(choice) for choice in choices)
    return f"| `{name}` | {value} | {_default(field)} | {field['description']} |"


def _value(choice: Mapping[str, Any]) -> str:
    if "enum" in choice:
        return " or ".join(f'`"{word}"`' for word in choice["enum"])
    kind = {
        "string": "text",
        "integer": "whole number",
        "number": "number",
        "boolean": "`true` or `false`",
        "array": "list of texts",
        "object": "table",
    }[choice["type"]]
    if choice.get("format") == "path":
        kind = "path of a file"
    if choice.get("format") == "password":
        kind = "text, secret"
    return f"{kind}{_bounds(choice)}"


def _bounds(choice: Mapping[str, Any]) -> str:
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤"}
    bounds = [f"{sign} {choice[name]:,.12g}" for name, sign in words.items() if name in choice]
    return f" {', '.join(bounds)}" if bounds else ""


def _default(field: Mapping[str, Any]) -> str:
    default = field.get("default")
    if default is None or default in ("", [], {}):
        return ""
    return f"`{json.dumps(default)}`"


def main() -> None:
    """Write both files."""
    REFERENCE.write_text(reference(), encoding="utf-8")
    SCHEMA.write_text(f"{json.dumps(schema(), indent=2)}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
