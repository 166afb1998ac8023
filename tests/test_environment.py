"""One environment, said three times: pyproject.toml, requirements.lock and environment.yml agree."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
LOCKED = {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==([^ ;\\]+)", LOCK, flags=re.M)}
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())


def requirements(*extras: str) -> list[Requirement]:
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    return [Requirement(line) for line in lines]


def test_lock_holds_every_requirement_in_its_bounds() -> None:
    """`make lock` writes it anew."""
    for requirement in requirements("autoattack", "book", "test"):
        assert LOCKED[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_lock_pins_by_hash_and_names_no_host() -> None:
    assert "://" not in LOCK
    assert LOCK.count("--hash=sha256:") > len(LOCKED)
    blocks = re.split(r"^(?=[\w.-]+==)", LOCK, flags=re.M)[1:]
    assert [block.split()[0] for block in blocks if "--hash" not in block] == []


def test_conda_environment_asks_for_the_same_packages_in_the_locked_versions() -> None:
    pip = next(part["pip"] for part in CONDA["dependencies"] if isinstance(part, dict))
    assert pip[-1] == "-e ."
    pins = {canonicalize_name(pin.name): str(pin.specifier) for pin in map(Requirement, pip[:-1])}
    wanted = {canonicalize_name(requirement.name) for requirement in requirements("book")} - {"torch", "torchvision"}
    assert pins == {name: f"=={LOCKED[name]}" for name in wanted}


def conda_specs() -> dict[str, Any]:
    """The lines that conda reads itself, by package, as its own solver parses them."""
    rattler = pytest.importorskip("rattler")
    lines = [part for part in CONDA["dependencies"] if isinstance(part, str)]
    return {str(spec.name.normalized): spec for spec in (rattler.MatchSpec(line, strict=True) for line in lines)}


def test_conda_lines_are_valid_and_keep_the_bound_of_python() -> None:
    specs = conda_specs()
    assert set(specs) == {"python", "pip", "pytorch", "torchvision"}
    bounds, asked = SpecifierSet(str(specs["python"].version)), SpecifierSet(PROJECT["requires-python"])
    for version in ("3.10.9", "3.11.0", "3.12.3", "3.13.1"):
        assert (version in bounds) == (version in asked)


@pytest.mark.parametrize(("package", "name"), [("torch", "pytorch"), ("torchvision", "torchvision")])
def test_conda_has_pytorch_of_its_own_in_any_build(package: str, name: str) -> None:
    """pip's has the libraries of graphics cards, more than a Binder may hold; a named build would fit one machine."""
    (asked,) = (str(one.specifier) for one in requirements() if one.name == package)
    spec = conda_specs()[name]
    assert str(spec.version) == asked
    assert spec.build is None


def test_lab_is_no_part_of_the_locked_environment_and_agrees_with_it() -> None:
    """`make lab` adds it to .venv and changes nothing there: what both have fits the locked version."""
    assert canonicalize_name("jupyterlab") not in LOCKED
    lab = [one for one in map(Requirement, PROJECT["optional-dependencies"]["lab"]) if one.name == "jupytext"]
    assert [one for one in lab if LOCKED[canonicalize_name(one.name)] not in one.specifier] == []
    assert lab


@pytest.mark.parametrize("folder", ["lib", "notebooks"])
def test_every_import_is_of_a_package_that_pyproject_names(folder: str) -> None:
    """A package that is there only because another needs it may vanish with that other's next version."""
    declared = {canonicalize_name(requirement.name) for requirement in requirements("autoattack", "book")}
    packages = importlib.metadata.packages_distributions()
    missing = set()
    for file in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.append(node.module)
            for name in {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names):
                of = {canonicalize_name(distribution) for distribution in packages.get(name, [name])}
                if name != "neuron_consistency" and not of & declared:
                    missing.add((file.name, name))
    assert missing == set()
