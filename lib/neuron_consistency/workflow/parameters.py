"""The parameters of a notebook: read from its annotated cell, changed by a profile, checked before anything runs."""

import ast
import difflib
import functools
import io
import json
import tokenize
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from neuron_consistency.artifacts import repository_root
from neuron_consistency.errors import ParameterError

DEMO = "demo"  # the profile that injects nothing: the values that stand in the notebooks
KINDS = ("int", "float", "bool", "str", "list[str]", "list[int]", "list[float]", "dict[str, int]")


@dataclass(frozen=True)
class Parameter:
    """One annotated line of a parameters cell: its annotation as written, default value and comment."""

    annotation: str
    default: object
    comment: str


class Checked(dict[str, Any]):
    """The parameters of a notebook by name; a cell that ends with it shows nothing."""

    def _ipython_display_(self) -> None:
        pass


def notebook_path(notebook: str, root: Path | None = None) -> Path:
    """The .ipynb of a notebook named by its stem, its number ("04") or its path.

    Raises:
        ParameterError: no notebook, or more than one, has that name.
    """
    folder = (root or repository_root()) / "notebooks"
    stem = Path(notebook).stem
    found = [path for path in sorted(folder.glob("*.ipynb")) if stem in (path.stem, path.stem.split("_")[0])]
    if len(found) != 1:
        known = ", ".join(path.stem for path in sorted(folder.glob("*.ipynb"))) or "none"
        raise ParameterError(f"no notebook {notebook!r}; there are: {known}")
    return found[0]


@functools.cache
def _adapter(annotation: str) -> TypeAdapter[Any] | None:
    """What checks a list of values of that annotation; None where it is not supported."""
    return TypeAdapter(eval(f"list[{annotation}]")) if annotation.removesuffix(" | None") in KINDS else None


def _fits(value: object, annotation: str) -> bool:
    try:
        adapter = _adapter(annotation)
        return adapter is not None and bool(adapter.validate_python([value], strict=True))
    except ValidationError:
        return False


def _check_type(name: str, value: object, annotation: str) -> None:
    if not _adapter(annotation):
        kinds = f"{', '.join(KINDS)}, each also with `| None`"
        raise ParameterError(f"parameter {name}: {annotation} is not supported; the types are {kinds}")
    if _fits(value, annotation):
        return
    number, truth = " (YAML reads 1e-3 as text: write 1.0e-3)", " (papermill's -p reads true as text: write True)"
    hints = {"int": number, "float": number, "bool": truth}
    hint = hints.get(annotation.removesuffix(" | None"), "") if isinstance(value, str) else ""
    raise ParameterError(f"parameter {name} is {value!r}, a {type(value).__name__}: it has to be {annotation}{hint}")


def _unknown(names: Iterable[str], known: Iterable[str], where: str) -> ParameterError:
    known = sorted(known)
    named = []
    for name in sorted(names):
        close = difflib.get_close_matches(name, known, 1)
        named.append(f"{name!r}" + (f" (did you mean {close[0]!r}?)" if close else ""))
    return ParameterError(f"unknown parameter {', '.join(named)} for {where}; known: {', '.join(known)}")


def validate(values: Mapping[str, object], parameters: Mapping[str, Parameter], where: str) -> None:
    """Hold values that are to be injected against the parameters of a notebook.

    Raises:
        ParameterError: a name is not a parameter, or a value has the wrong type.
    """
    if unknown := values.keys() - parameters.keys():
        raise _unknown(unknown, parameters, where)
    for name, value in values.items():
        _check_type(name, value, parameters[name].annotation)


def read_value(text: str, parameter: Parameter) -> object:
    """The value that a text from a command line stands for: 1e-3, True, [resnet18, vgg16] or plain text."""
    for read in (ast.literal_eval, yaml.safe_load):
        try:
            value = read(text)
        except (ValueError, SyntaxError, yaml.YAMLError):
            continue
        if _fits(value, parameter.annotation):
            return value
    return text


def notebook_parameters(path: str | Path) -> dict[str, Parameter]:
    """The parameters of a notebook (.ipynb), in the order of its cell.

    Raises:
        ParameterError: no cell is tagged `parameters`, or a line of it is no annotated assignment of a supported type.
    """
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    tagged = (cell for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    source = "".join(next(tagged, {"source": []})["source"])
    if not source:
        raise ParameterError(f"{path} has no cell tagged 'parameters'")
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found: dict[str, Parameter] = {}
    for line in ast.parse(source).body:
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name) or line.value is None:
            raise ParameterError(f"{path}, parameters cell: write `name: type = value` for `{ast.unparse(line)}`")
        name, annotation = line.target.id, ast.unparse(line.annotation)
        # an expression of plain values such as 8 / 255: nothing is callable in it
        default = eval(compile(ast.Expression(line.value), str(path), "eval"), {"__builtins__": {}})
        _check_type(name, default, annotation)
        comment = comments.get(line.end_lineno or line.lineno, "") or comments.get(line.lineno - 1, "")
        found[name] = Parameter(annotation, default, comment)
    return found


def profile_names(root: Path | None = None) -> list[str]:
    """The demo and every profile that has a file in notebooks/profiles/."""
    folder = (root or repository_root()) / "notebooks" / "profiles"
    return [DEMO, *sorted(path.stem for path in folder.glob("*.yaml"))]


def profile_parameters(profile: str, notebook: str, *, root: Path | None = None) -> dict[str, object]:
    """What a profile changes in one notebook (stem, number or path): its own section and, of `common`, what it has.

    The demo changes nothing: the values are those that stand in the notebook.

    Raises:
        ParameterError: the profile or a name in it is unknown, or a value has the wrong type.
    """
    root = root or repository_root()
    if profile == DEMO:
        return {}
    if profile not in profile_names(root):
        raise ParameterError(f"unknown profile {profile!r}; there are: {', '.join(profile_names(root))}")
    file = root / "notebooks" / "profiles" / f"{profile}.yaml"
    try:
        sections = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ParameterError(f"{file} is not valid YAML: {str(error).splitlines()[0]}") from error
    paths = {path.stem: path for path in sorted((root / "notebooks").glob("*.ipynb"))}
    known = ["common", *paths]
    if not isinstance(sections, dict) or any(not isinstance(part or {}, dict) for part in sections.values()):
        raise ParameterError(f"{file}: write sections ({', '.join(known)}), each with lines `name: value`")
    if strangers := set(sections) - set(known):
        raise ParameterError(f"{file}: no notebook {', '.join(sorted(strangers))}; sections are {', '.join(known)}")
    everywhere = {name for path in paths.values() for name in notebook_parameters(path)}
    common = sections.get("common") or {}
    if unknown := set(common) - everywhere:
        raise _unknown(unknown, everywhere, f"any notebook ({file.name}, common)")
    path = notebook_path(notebook, root)
    parameters = notebook_parameters(path)
    values = {name: value for name, value in common.items() if name in parameters}
    values |= sections.get(path.stem) or {}
    validate(values, parameters, f"{path.stem} ({file.name})")
    return {"profile": profile, **values} if "profile" in parameters else values


def _declared(namespace: Mapping[str, object]) -> tuple[dict[str, str], set[str]]:
    """(annotations as written, injected names) of the cells that have run.

    IPython's history holds the text of both: papermill's cell begins with its comment. Elsewhere the annotations are
    those that Python keeps (3.14 only as a function), and every plain value counts as injected.
    """
    annotate = namespace.get("__annotate__")
    kept: dict[str, object] = annotate(1) if callable(annotate) else {}  # 1: the annotations as values
    kept |= typing.cast(dict[str, object], namespace.get("__annotations__", {}))
    annotations = {name: kind.__name__ if type(kind) is type else str(kind) for name, kind in kept.items()}
    history = namespace.get("In")
    if not isinstance(history, list):
        modules = {name for name, value in namespace.items() if isinstance(value, types.ModuleType)}
        plain = {name for name, value in namespace.items() if not name.startswith("_") and not callable(value)}
        return annotations, plain - modules
    injected: set[str] = set()
    for cell in history:
        try:
            lines = ast.parse(cell).body
        except SyntaxError:  # a cell for IPython alone, such as %matplotlib inline
            continue
        for line in lines:
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                annotations[line.target.id] = ast.unparse(line.annotation)
            elif isinstance(line, ast.Assign) and cell.startswith("# Parameters\n"):
                injected |= {target.id for target in line.targets if isinstance(target, ast.Name)}
    return annotations, injected


def check(namespace: Mapping[str, object]) -> Checked:
    """Stop a notebook whose parameters cannot work, else return them; called in the cell after them with `globals()`.

    Raises:
        ParameterError: a name was injected that the parameters cell does not annotate (the message names the closest
            one), or a value has another type than its annotation.
    """
    declared, injected = _declared(namespace)
    annotations = {name: kind for name, kind in declared.items() if _adapter(kind)}
    if unknown := injected - annotations.keys():
        raise _unknown(unknown, annotations, "this notebook")
    values = Checked({name: namespace[name] for name in annotations if name in namespace})
    for name, value in values.items():
        _check_type(name, value, annotations[name])
    return values
