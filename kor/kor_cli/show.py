"""``kor config show``: the values in force, as TOML, each with its source."""

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

from kor_containers import load_settings
from kor_core.settings import Settings
from kor_core.settings.provenance import KeyPath, dotted

__all__ = ["show"]


def show(options: argparse.Namespace) -> int:
    """Print the configuration in force."""
    print("\n".join(lines(load_settings(options.config))))
    return 0


def lines(settings: Settings) -> Iterator[str]:
    """Yield the configuration as lines of TOML; a comment says where each value comes from.

    >>> from kor_core.settings import settings_from
    >>> settings = settings_from({"llm": {"default": {"provider": "echo", "model": "echo"}}})
    >>> next(lines(settings))
    '[llm]'
    """
    return _table(settings, settings.model_dump(mode="json", exclude_none=True), ())


def _table(settings: Settings, table: Mapping[str, Any], path: KeyPath) -> Iterator[str]:
    leaves = {key: value for key, value in table.items() if not _is_table(value)}
    if leaves:
        yield f"[{dotted(path)}]"
        written = [f"{dotted((key,))} = {_written(value)}" for key, value in leaves.items()]
        width = max(map(len, written))
        for key, text in zip(leaves, written, strict=True):
            yield f"{text:<{width}}  # {settings.origin(*path, key) or 'default'}"
        yield ""
    for key, value in table.items():
        if _is_table(value):
            yield from _table(settings, value, (*path, key))


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _written(value: Any) -> str:
    """Write a leaf as TOML, which agrees with JSON except in tables inside lists."""
    if isinstance(value, Mapping):
        pairs = (f"{dotted((key,))} = {_written(item)}" for key, item in value.items())
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list):
        return f"[{', '.join(_written(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False)
