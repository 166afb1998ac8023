"""Keys of code: what a module of this library computes, with all that it imports, as one hash (stdlib only)."""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from neuron_consistency.errors import ParameterError

PACKAGE = Path(__file__).resolve().parent


def _module_file(name: str) -> Path | None:
    """The file of a module of this library; None for any other module or for a name inside a module."""
    package, _, rest = name.partition(".")
    if package != PACKAGE.name:
        return None
    file = PACKAGE.joinpath(*rest.split(".")) if rest else PACKAGE
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    return file if file.is_file() else None


def _imported(tree: ast.AST, package: str = "") -> Iterator[str]:
    """Every name that some code imports; `package` is what its relative imports start from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package.split(".")[: len(package.split(".")) + 1 - node.level]) if node.level else ""
            module = ".".join(part for part in (above, node.module) if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imported_modules(source: str) -> list[str]:
    """The modules of this library that some code imports, at its top or inside functions."""
    return sorted({name for name in _imported(ast.parse(source)) if _module_file(name)})


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return tree


def code_key(modules: Iterable[str]) -> str:
    """A hash of what the named modules of this library compute, and of those that they import in turn.

    Comments, docstrings and layout do not count; a table (a .tsv beside its module) that a module names does.

    Raises:
        ParameterError: a module is not one of this library's.
    """
    waiting, seen = list(modules), dict[Path, str]()
    if strangers := [name for name in waiting if not _module_file(name)]:
        raise ParameterError(f"not modules of {PACKAGE.name}: {', '.join(strangers)}")
    while waiting:
        file = _module_file(waiting.pop())
        if file is None or file in seen:
            continue
        tree = _without_docstrings(ast.parse(file.read_text(encoding="utf-8")))
        digest = hashlib.sha256(ast.unparse(tree).encode())
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".tsv"):
                for table in (PACKAGE / node.value, file.parent / node.value):
                    if table.is_file():
                        digest.update(table.read_bytes())
        seen[file] = digest.hexdigest()
        waiting.extend(_imported(tree, ".".join([PACKAGE.name, *file.parent.relative_to(PACKAGE).parts])))
    lines = sorted(f"{file.relative_to(PACKAGE).as_posix()} {digest}" for file, digest in seen.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
