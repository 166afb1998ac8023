"""The library as a house: rooms import downwards only, without a circle; files, rooms and the whole stay small."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = "neuron_consistency"
LIBRARY = Path(__file__).parents[1] / "lib" / PACKAGE
# From the ground up; rooms of one layer do not import each other, but for the ground floor's files.
LAYERS = (
    ("errors", "versions"),
    ("artifacts", "runtime", "statistics", "taxonomy", "show", "plotting", "unfinished"),
    ("data",),
    ("networks",),
    ("attacks",),
    ("responses",),
    ("consistency",),
    ("dissection", "representation", "tracing", "explanation"),
    ("training",),
    ("card",),
    ("workflow", "__main__"),
    ("book",),
)
TOPICS = {"consistency", "dissection", "representation", "tracing", "explanation"}
FOR_TRAINING = {f"explanation.{name}" for name in ("measure", "weighting", "filter_groups")}  # P3's loop uses E
PROCESS = {"this_process", "all_gather", "gather_rows", "all_reduce", "broadcast", "broadcast_buffers", "process_group"}
SHARING = {  # what splits work over processes
    "networks.reading", "attacks.predictions", "attacks.stored_set", "explanation.weighting", "training.loop",
    "training.obtain", "workflow.__main__",
}  # fmt: skip
FILE_LINES, ROOM_FILES, CODE_LINES = 300, 15, 12700

Graph = dict[str, set[str]]  # module -> the modules it imports, without the package's name


def modules(library: Path) -> dict[str, Path]:
    """By name, "data.load"; the package itself, which only hands out names, is left out."""
    paths = sorted(path for path in library.rglob("*.py") if path != library / "__init__.py")
    return {".".join(path.relative_to(library).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of every import of this library in a file, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE:
            yield from (((node.module or "").partition(".")[2], alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((a.name.partition(".")[2], "") for a in node.names if a.name.partition(".")[0] == PACKAGE)


def graph_of(library: Path) -> Graph:
    known = modules(library)
    return {
        name: {
            inner if (inner := f"{module}.{what}".strip(".")) in known else module for module, what in imported(path)
        }
        for name, path in known.items()
    }


def floor(module: str, layers: tuple[tuple[str, ...], ...] = LAYERS) -> int:
    """The layer of a module's room; -1 where no layer has it."""
    return next((place for place, rooms in enumerate(layers) if module.partition(".")[0] in rooms), -1)


def upward(graph: Mapping[str, set[str]]) -> list[str]:
    """Imports of a higher layer, or of a neighbour."""
    found = []
    for module, targets in graph.items():
        room = module.partition(".")[0]
        for target in targets:
            other = target.partition(".")[0]
            if other == room:
                continue
            above = floor(target) > floor(module) or min(floor(target), floor(module)) < 0
            beside = floor(target) == floor(module) >= 2
            hidden = room == "training" and other in TOPICS and target not in FOR_TRAINING
            if above or beside or hidden:
                found.append(f"{module} imports {target}")
    return sorted(found)


def circles(graph: Mapping[str, set[str]]) -> list[str]:
    """Modules that import themselves by way of others."""
    found: list[str] = []
    done: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        if module in way:
            found.append(" -> ".join([*way[way.index(module) :], module]))
        elif module not in done:
            for target in sorted(graph.get(module, ())):
                walk(target, (*way, module))
            done.add(module)

    for module in graph:
        walk(module, ())
    return found


def code_lines(path: Path) -> int:
    """Lines that hold code: no docstrings, comments and blanks."""
    text, said = path.read_text("utf-8"), set[int]()
    for node in ast.walk(ast.parse(text)):
        first = getattr(node, "body", None)
        if isinstance(first, list) and first and isinstance(first[0], ast.Expr):
            value = first[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                said |= set(range(first[0].lineno, (first[0].end_lineno or first[0].lineno) + 1))
    return sum(
        number not in said and bool(line.strip()) and not line.lstrip().startswith("#")
        for number, line in enumerate(text.splitlines(), 1)
    )


def test_imports_go_downwards() -> None:
    """Else a measure cannot be read without what trains networks, and moving one thing moves everything."""
    graph = graph_of(LIBRARY)
    assert [module for module in graph if floor(module) < 0] == []
    assert upward(graph) == []


def test_nothing_imports_itself_by_way_of_others() -> None:
    assert circles(graph_of(LIBRARY)) == []


def test_only_those_who_share_work_know_of_processes() -> None:
    """A measure that forgot to bring the parts together would be wrong in several processes alone."""
    knowing = {name for name, path in modules(LIBRARY).items() if PROCESS & {what for _, what in imported(path)}}
    assert knowing - SHARING == set()


def test_files_and_rooms_are_small() -> None:
    assert {
        name for name, path in modules(LIBRARY).items() if len(path.read_text("utf-8").splitlines()) > FILE_LINES
    } == set()
    rooms = [folder for folder in LIBRARY.rglob("*") if folder.is_dir() and folder.name != "__pycache__"]
    assert {room.name for room in rooms if len([*room.glob("*.py")]) - 1 > ROOM_FILES} == set()


def test_the_library_keeps_to_its_budget() -> None:
    """A chapter or a tool that adds lines says in its commit what they buy, and what was taken out for them."""
    lines = sum(map(code_lines, LIBRARY.rglob("*.py")))
    assert lines <= CODE_LINES, f"{lines} lines of code, {CODE_LINES} are the budget: take out what others do as well"


@pytest.mark.parametrize(
    ("module", "text", "says"),
    [
        ("data/load.py", "from neuron_consistency.responses import respond", "data.load imports responses"),
        ("tracing/tables.py", "from neuron_consistency.dissection import measure", "tracing.tables imports dissection"),
        (
            "training/loop.py",
            "import neuron_consistency.explanation.tables",
            "training.loop imports explanation.tables",
        ),
        ("attic/old.py", "from neuron_consistency.errors import ParameterError", "attic.old imports errors"),
        (
            "attacks/linf.py",
            "def late():\n    from neuron_consistency.training import loop",
            "attacks.linf imports training",
        ),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, module: str, text: str, says: str) -> None:
    """The test above would pass on any house if this did not fail."""
    (tmp_path / module).parent.mkdir()
    (tmp_path / module).write_text(text + "\n")
    assert [line[: len(says)] for line in upward(graph_of(tmp_path))] == [says]


def test_a_planted_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert circles(graph) == ["a -> b -> c -> a"]


def test_code_lines_are_counted_as_said(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(
        '"""Says.\n\nMore."""\n\n# a comment\nx = 1  # code\n\n\ndef f():\n    """Says."""\n    return x\n'
    )
    assert code_lines(tmp_path / "x.py") == 3
