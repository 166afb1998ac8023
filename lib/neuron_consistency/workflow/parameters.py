"""The parameters of a notebook: read from its annotated cell, changed by a profile, checked before anything runs."""

import ast
import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from neuron_consistency.artifacts import repository_root
from neuron_consistency.errors import ParameterError
from neuron_consistency.workflow.files import literal, parse_yaml, read_notebook, read_text

DEMO = "demo"  # the profile that injects nothing: the values that stand in the notebooks
CHAPTER = r"\d\d_\w+"  # the stem of a notebook of the book
Entry = TypeVar("Entry")
KINDS = ("int", "float", "bool", "str", "list[str]", "list[int]", "list[float]", "dict[str, int]")


@dataclass(frozen=True)
class Parameter:
    """One annotated line of a parameters cell: its annotation as written, and its default value."""

    annotation: str
    default: object


def notebooks() -> list[Path]:
    """All notebooks (.ipynb), in the order of the chapters; copies and others that lie beside them are none."""
    found = (repository_root() / "notebooks").glob("*.ipynb")
    return sorted(path for path in found if re.fullmatch(CHAPTER, path.stem))


def notebook_path(notebook: str) -> Path:
    """The .ipynb of a notebook named by its stem, its number ("04") or its path.

    Raises:
        ParameterError: no notebook, or more than one, has that name.
    """
    stem, paths = Path(notebook).stem, notebooks()
    found = [path for path in paths if stem in (path.stem, path.stem.split("_")[0])]
    folders = {path.parent.resolve() for path in paths}
    elsewhere = Path(notebook).is_file() and Path(notebook).resolve().parent not in folders
    if len(found) != 1 or elsewhere:
        known = ", ".join(path.stem for path in paths) or "none"
        raise ParameterError(f"no notebook {notebook!r}; there are: {known}")
    return found[0]


@functools.lru_cache(maxsize=8)
def _parsed(text: str, name: object) -> dict[str, dict[str, Any]]:
    """What a YAML text holds; parsed once, since each finding looks up its claim."""
    entries = parse_yaml(text, name)
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise ParameterError(f"{name} is no list of entries: write names, each with lines `field: value` below it")
    return entries


def read_list(file: str, kind: Callable[..., Entry]) -> dict[str, Entry]:
    """The entries of a YAML file in `notebooks/`, by name and in its order.

    Args:
        file: its name.
        kind: the dataclass of an entry; it has the fields name, which is the entry's key, and others, of which the
            file has to give all that have no default.

    Raises:
        ParameterError: an entry lacks a field or has another.
    """
    path = repository_root() / "notebooks" / file
    fields = inspect.signature(kind).parameters
    wanted = {name for name, field in fields.items() if field.default is field.empty} - {"name"}
    entries = _parsed(read_text(path), path)
    for name, entry in entries.items():
        known = fields.keys() - {"name"}
        if not wanted <= entry.keys() <= known:
            said = f"needs {', '.join(sorted(wanted))}, and may have no more than {', '.join(sorted(known - wanted))}"
            raise ParameterError(f"{path}: {name} {said}; it has {', '.join(map(str, entry))}")
    return {name: kind(name=name, **entry) for name, entry in entries.items()}


@functools.cache
def _adapter(annotation: str) -> TypeAdapter[Any] | None:
    """What checks values of that annotation; None where it is not supported."""
    return TypeAdapter(eval(annotation)) if annotation.removesuffix(" | None") in KINDS else None


def _fits(value: object, annotation: str) -> bool:
    with suppress(ValidationError):
        if adapter := _adapter(annotation):
            adapter.validate_python(value, strict=True)
            return True
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
    """The value that a text from a command line stands for: 1e-3, 8 / 255, True, [resnet18, vgg16] or plain text."""
    for read in (literal, functools.partial(parse_yaml, name="a value")):
        with suppress(ValueError, ParameterError):
            if _fits(value := read(text), parameter.annotation):
                return value
    return text


def notebook_parameters(path: str | Path) -> dict[str, Parameter]:
    """The parameters of a notebook (.ipynb), in the order of its cell.

    Raises:
        ParameterError: no cell is tagged `parameters`, or a line of it is no annotated assignment of a supported type.
    """
    cells = read_notebook(Path(path))["cells"]
    tagged = (cell for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    source = "".join(next(tagged, {"source": []})["source"])
    if not source:
        raise ParameterError(f"{path} has no cell tagged 'parameters'")
    try:
        lines = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ParameterError(f"{path}, parameters cell: {error}") from error
    found: dict[str, Parameter] = {}
    for line in lines:
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name) or line.value is None:
            raise ParameterError(f"{path}, parameters cell: write `name: type = value` for `{ast.unparse(line)}`")
        name, annotation = line.target.id, ast.unparse(line.annotation)
        try:
            default = literal(ast.unparse(line.value))
        except ValueError as error:
            raise ParameterError(f"{path}, parameters cell, line {line.lineno}: `{name}`: {error}") from error
        _check_type(name, default, annotation)
        found[name] = Parameter(annotation, default)
    return found


def profile_names() -> list[str]:
    """The demo and every profile that has a file in notebooks/profiles/."""
    return [DEMO, *sorted(path.stem for path in (repository_root() / "notebooks" / "profiles").glob("*.yaml"))]


def profile_parameters(profile: str, notebook: str, device: str = "") -> dict[str, object]:
    """What a run with a profile changes in a notebook (stem, number or path).

    That is its own section of the profile's file, of `common` what it has, and the device where one is given. The demo
    has no file: its values are those that stand in the notebooks.

    Raises:
        ParameterError: the profile or a name in it is unknown, or a value has the wrong type.
    """
    path = notebook_path(notebook)
    parameters = notebook_parameters(path)
    values: dict[str, object] = {"device": device} if device else {}
    if profile != DEMO:
        file, sections = _sections(profile)
        common, own = (sections.get(name) or {} for name in ("common", path.stem))
        everywhere = {name for other in notebooks() for name in notebook_parameters(other)}
        if unknown := set(common) - everywhere:
            raise _unknown(unknown, everywhere, f"any notebook ({file.name}, common)")
        changed = {name: value for name, value in common.items() if name in parameters} | own
        validate(changed, parameters, f"{path.stem} ({file.name})")
        values = {"profile": profile, **changed, **values}
    return {name: value for name, value in values.items() if name in parameters}


def all_parameters(profile: str, notebook: str, device: str = "") -> dict[str, Any]:
    """The parameters of a notebook with the values that a run with the profile has."""
    standing = {name: known.default for name, known in notebook_parameters(notebook_path(notebook)).items()}
    return standing | profile_parameters(profile, notebook, device)


def _sections(profile: str) -> tuple[Path, dict[str, Any]]:
    """The file of a profile, and its sections."""
    if profile not in profile_names():
        raise ParameterError(f"unknown profile {profile!r}; there are: {', '.join(profile_names())}")
    file = repository_root() / "notebooks" / "profiles" / f"{profile}.yaml"
    sections = parse_yaml(read_text(file), file) or {}
    known = ["common", *(path.stem for path in notebooks())]
    if not isinstance(sections, dict) or any(not isinstance(part or {}, dict) for part in sections.values()):
        raise ParameterError(f"{file}: write sections ({', '.join(known)}), each with lines `name: value`")
    if strangers := {*map(str, sections)} - set(known):
        raise ParameterError(f"{file}: no notebook {', '.join(sorted(strangers))}; sections are {', '.join(known)}")
    return file, sections


def _declared(cells: Iterable[str]) -> tuple[dict[str, str], set[str]]:
    """(annotations as written, injected names) of cells; the one that papermill adds begins with its comment."""
    annotations: dict[str, str] = {}
    injected: set[str] = set()
    for cell in cells:
        with suppress(SyntaxError):  # a cell that failed
            for line in ast.parse(cell).body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    annotations[line.target.id] = ast.unparse(line.annotation)
                elif isinstance(line, ast.Assign) and cell.startswith("# Parameters\n"):
                    injected |= {target.id for target in line.targets if isinstance(target, ast.Name)}
    return annotations, injected


def check(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a running notebook by name, from its `globals()`, once they are known to work.

    Its cells are read from IPython's history, those of a script from its file.

    Raises:
        ParameterError: a name was injected that the parameters cell does not annotate (the message names the closest
            one), or a value has another type than its annotation.
    """
    declared, injected = _declared(namespace.get("In") or [Path(namespace["__file__"]).read_text("utf-8")])
    annotations = {name: kind for name, kind in declared.items() if _adapter(kind)}
    if unknown := injected - annotations.keys():
        raise _unknown(unknown, annotations, "this notebook")
    values = {name: namespace[name] for name in annotations if name in namespace}
    for name, value in values.items():
        _check_type(name, value, annotations[name])
    return values
