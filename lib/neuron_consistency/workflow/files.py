"""Files of the repository: notebooks, lists and values, read without running anything; folders put in place whole."""

from __future__ import annotations

import ast
import json
import operator
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from neuron_consistency.errors import ParameterError

LARGEST, DEEPEST = 1 << 20, 30  # bytes of a text and entries of a YAML file, and levels in it
ARITHMETIC: dict[type, Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.UAdd: operator.pos, ast.USub: operator.neg,
}  # fmt: skip


class _Strict(yaml.SafeLoader):
    """Each name once, no more levels than a reader can follow, and no more than that when references are followed."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth, self.total, self.sizes = 0, 0, dict[str, int]()

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        before, self.depth = self.total, self.depth + 1
        refers = isinstance(event, yaml.AliasEvent)
        self.total += self.sizes.get(event.anchor, LARGEST) if refers else 1
        if self.depth > DEEPEST or self.total > LARGEST:
            problem = "what begins here is nested too deep, or refers to itself or too often"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if event.anchor and not refers:
            self.sizes[event.anchor] = self.total - before
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set[str]()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, name: object) -> Any:
    """What a YAML text holds.

    Raises:
        ParameterError: it is not valid, gives a name twice, refers to itself or is nested too deep.
    """
    try:
        return yaml.load(text, _Strict)  # a safe loader
    except Exception as error:  # PyYAML lets through many kinds, of numbers, dates and tags
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ParameterError(f"{name}{where}: not valid YAML, {getattr(error, 'problem', None) or error}") from error


def read_text(path: Path, *, limit: int = LARGEST) -> str:
    """The text of a file of the repository; a mark that it is UTF-8 is no part of it.

    Raises:
        ParameterError: it is missing, too large, or not in UTF-8.
    """
    try:
        if path.stat().st_size > limit:
            raise ParameterError(f"{path} has more than {limit >> 20} MiB, and no file of its kind in the book has")
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ParameterError(f"{path} is no text in UTF-8 ({error}): save it so") from error
    except OSError as error:
        raise ParameterError(f"{path} cannot be read ({error.strerror})") from error


def read_notebook(path: Path) -> dict[str, Any]:
    """The content of a notebook (.ipynb), whose cells have a source, a type and metadata.

    Raises:
        ParameterError: it is none, as after a merge that was not resolved or a full disk.
    """
    try:
        content = json.loads(read_text(path, limit=64 * LARGEST))  # outputs may stand in it
        for cell in content["cells"]:
            cell["source"], cell["cell_type"], cell["metadata"].get
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        cure = "`make pairs` writes it anew from its .py, or `git checkout` takes it back"
        raise ParameterError(f"{path} is no notebook ({type(error).__name__}: {error}): {cure}") from error
    return content  # type: ignore[no-any-return]


def replace_folder(folder: Path, new: Path) -> None:
    """Puts a whole new folder in the place of one, of which nothing is removed before that."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    with suppress(FileNotFoundError):
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def literal(text: str) -> Any:
    """The value of plain numbers, texts, lists and dictionaries, and of sums, products and quotients of numbers.

    Raises:
        ValueError: the text is anything else; nothing in it is run.
    """
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        raise ValueError(str(error)) from error


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.List(elts=parts):
            return [_value(part) for part in parts]
        case ast.Tuple(elts=parts):
            return tuple(_value(part) for part in parts)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_value(key): _value(value) for key, value in zip(keys, values, strict=True) if key}
        case ast.UnaryOp(op=sign, operand=number) if type(sign) in ARITHMETIC:
            return ARITHMETIC[type(sign)](_number(number))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in ARITHMETIC:
            return ARITHMETIC[type(sign)](_number(left), _number(right))
    raise ValueError(f"{ast.unparse(node)} is no plain value")


def _number(node: ast.expr) -> int | float:
    if type(value := _value(node)) in (int, float):
        return value  # type: ignore[no-any-return]
    raise ValueError(f"{ast.unparse(node)} is no number")


def read_words(text: str) -> dict[str, str]:
    """The values of a line `name=value name=value` by name; one may hold spaces, and stand in quotes.

    Raises:
        ParameterError: a part of it is no such word, has a quote too many, or names what was named before.
    """
    word = re.compile(r"""\s*([^\W\d]\w*)=("[^"]*"|'[^']*'|(?!["']).*?)(?=\s+[^\W\d]\w*=|\s*$)""", re.DOTALL)
    found, place = dict[str, str](), 0
    while rest := text[place:].strip():
        if not (read := word.match(text, place)):
            raise ParameterError(f"{rest!r} is not name=value; close its quotes, and give nothing beside such words")
        name, value = read.groups()
        if name in found:
            raise ParameterError(f"{name} is given twice: {name}={found[name]} and {name}={value}")
        found[name] = value[1:-1] if value[:1] in ("'", '"') else value
        place = read.end()
    return found
