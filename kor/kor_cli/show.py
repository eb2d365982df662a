"""``kor config show``: the values in force, as TOML, each with its source."""

import argparse
import json
from collections.abc import Iterator
from typing import Any, TypeGuard

from kor_cli.output import write
from kor_containers import load_settings
from kor_core.settings import Settings
from kor_core.settings.provenance import as_table, dotted

__all__ = ["lines", "show"]


def show(options: argparse.Namespace) -> int:
    """Print the configuration in force."""
    write("\n".join(lines(load_settings(options.config))))
    return 0


def lines(settings: Settings) -> Iterator[str]:
    """Yield the configuration as lines of TOML; a comment says where each value comes from.

    >>> from kor_core.settings import settings_from
    >>> for line in lines(settings_from({"llm": {"default": {"model": "echo:any"}}})):
    ...     if "llm.default" in line:
    ...         print(" ".join(line.split()))
    llm.default.model = "echo:any" # default
    llm.default.strategy = "ordered" # default
    """
    explained = settings.explain()
    written = [f"{value.key} = {_written(value.value)}" for value in explained]
    width = max(map(len, written))
    for text, value in zip(written, explained, strict=True):
        yield f"{text:<{width}}  # {value.origin or 'default'}"


def _written(value: Any) -> str:
    """Write a value as TOML, which agrees with JSON except in tables."""
    if (table := as_table(value)) is not None:
        pairs = (f"{dotted((key,))} = {_written(item)}" for key, item in table.items())
        return f"{{{', '.join(pairs)}}}"
    if _is_list(value):
        return f"[{', '.join(map(_written, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
