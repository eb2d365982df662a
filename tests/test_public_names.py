"""The surface is what ``__all__`` says, module by module."""

import ast
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    (source, path)
    for source in (ROOT / "kor", ROOT / "containers")
    for path in sorted(source.rglob("*.py"))
    if path.name != "__main__.py"
]


def module_name(source: Path, path: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize(
    ("name", "path"),
    [pytest.param(name := module_name(*where), where[1], id=name) for where in SOURCES],
)
def test_public_names_equal_all(name: str, path: Path):
    """A name without underscore is public, and only such a name is in ``__all__``.

    In the ``__init__`` of a package, what is imported is public too.
    """
    module = importlib.import_module(name)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    packaged = path.name == "__init__.py"
    public = sorted(n for n in set(bound(tree, imports=packaged)) if is_public(module, n))

    assert public == sorted(getattr(module, "__all__", []))


def bound(tree: ast.Module, *, imports: bool) -> list[str]:
    """Names that the top level of a module binds."""
    names: list[str] = []
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.append(node.name)
            case ast.Assign(targets=targets):
                names += [t.id for target in targets for t in ast.walk(target) if is_name(t)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.append(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases) if imports:
                names += [alias.asname or alias.name for alias in aliases]
    return names


def is_name(node: Any) -> bool:
    return isinstance(node, ast.Name)


def is_public(module: ModuleType, name: str) -> bool:
    # Type variables are spelt without underscore by custom, and are nobody's interface.
    return not name.startswith("_") and not isinstance(
        getattr(module, name), TypeVar | ParamSpec | ModuleType
    )
