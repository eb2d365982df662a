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

    In the ``__init__`` of a package, what is imported is public too; elsewhere it is public
    where ``__all__`` says so.
    """
    module = importlib.import_module(name)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    exported = set(getattr(module, "__all__", []))
    imported = set(bound_by_imports(tree))
    if path.name != "__init__.py":
        imported &= exported
    public = {n for n in {*bound(tree), *imported} if is_public(module, n)}

    assert sorted(public) == sorted(exported)


def bound_by_imports(tree: ast.Module) -> list[str]:
    return [
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]


def bound(tree: ast.Module) -> list[str]:
    """Names that the top level of a module defines."""
    names: list[str] = []
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.append(node.name)
            case ast.Assign(targets=targets):
                names += [t.id for target in targets for t in ast.walk(target) if is_name(t)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.append(name)
    return names


def is_name(node: Any) -> bool:
    return isinstance(node, ast.Name)


def is_public(module: ModuleType, name: str) -> bool:
    # Type variables are spelt without underscore by custom, and are nobody's interface.
    return not name.startswith("_") and not isinstance(
        getattr(module, name), TypeVar | ParamSpec | ModuleType
    )
