"""Packages import one way along the data flow; the data half never loads torch, training never PyDriller."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "blocklm"
# Modules at the top that every package may import. They import one another, and no package.
LEAVES = {"cache", "console", "errors", "files", "formatting", "interrupts"}
# Each package and the packages it may import. A new edge is a decision: it is added here or not at all.
EDGES: dict[str, set[str]] = {
    "config": set(),
    "git": {"config"},
    "mining": {"config", "git"},
    "corpus": {"config", "git", "mining"},
    "models": set(),
    "runs": {"config", "git", "mining", "corpus", "models"},
    "retrieval": {"config", "git", "mining", "corpus"},
    "evaluation": {"config", "git", "mining", "corpus", "models", "runs", "retrieval"},
    "training": {"config", "corpus", "models", "runs", "evaluation"},
    "assistant": {"git", "mining", "corpus", "models", "runs", "retrieval"},
    "release": {"config", "mining", "corpus", "models", "runs", "evaluation"},
    "serving": {"assistant", "config", "corpus", "git", "mining", "models", "retrieval", "runs"},
    "many": {"config", "corpus", "git", "mining", "models", "runs", "training"},
    "pipeline": {"config", "git", "mining", "corpus", "models", "runs", "evaluation", "training", "release"},
    "benchmarks": {"config", "git", "mining", "corpus", "models", "retrieval", "runs", "serving", "training"},
}
DATA_HALF = ("config", "git", "mining", "corpus")
MOST_FILES = 16  # in a folder
MOST_FILES_AT_THE_TOP = 10


def name_of(path: Path) -> str:
    """The dotted name of a module below `blocklm`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"}


def package_of(module: str) -> str:
    """The first part of a dotted name: a package, or a module at the top."""
    return module.partition(".")[0]


def imports_of(path: Path) -> Iterator[str]:
    """The dotted name of everything that a file imports anywhere in its text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name


def own_imports_of(path: Path) -> set[str]:
    """The modules of BlockLM that a file imports."""
    inside = {name.removeprefix("blocklm.") for name in imports_of(path) if name.startswith("blocklm.")}
    return {name if name in MODULES else name.rpartition(".")[0] for name in inside} & set(MODULES)


IMPORTS = {module: own_imports_of(path) - {module} for module, path in MODULES.items()}


def test_each_package_imports_only_what_it_may() -> None:
    found: dict[str, set[str]] = {}
    for module, imported in IMPORTS.items():
        package = package_of(module)
        found.setdefault(package, set()).update({package_of(name) for name in imported} - {package})
    leaves = {name: found.pop(name) for name in sorted(LEAVES)}
    assert all(imported <= LEAVES for imported in leaves.values()), leaves
    assert {package: imported - LEAVES for package, imported in found.items()} == EDGES


@pytest.mark.parametrize("graph", [EDGES, IMPORTS], ids=["packages", "modules"])
def test_imports_make_no_cycle(graph: dict[str, set[str]]) -> None:
    left = dict(graph)
    while left:
        free = {name for name, needs in left.items() if not needs & set(left)}
        assert free, f"a cycle among {sorted(left)}"
        left = {name: needs for name, needs in left.items() if name not in free}


def test_only_the_package_git_imports_pydriller_or_gitpython() -> None:
    for module, path in MODULES.items():
        libraries = {package_of(name) for name in imports_of(path)}
        assert package_of(module) in ("git", "benchmarks") or not libraries & {"pydriller", "git", "gitdb"}, module


def test_nothing_imports_a_benchmark_or_the_pipeline() -> None:
    for module, imported in IMPORTS.items():
        packages = {package_of(name) for name in imported} - {package_of(module)}
        assert not packages & {"benchmarks", "pipeline"}, module


@pytest.mark.parametrize(
    ("packages", "unwanted"),
    [(DATA_HALF, ("torch", "transformers", "peft", "accelerate")), (("models", "training"), ("pydriller", "git"))],
    ids=["data", "training"],
)
def test_each_half_stays_without_the_libraries_of_the_other(
    packages: tuple[str, ...], unwanted: tuple[str, ...]
) -> None:
    modules = sorted(f"blocklm.{module}" for module in MODULES if package_of(module) in packages)
    code = f"import sys, {', '.join(modules)}; sys.exit(', '.join(set({unwanted!r}) & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_a_package_loads_no_library() -> None:
    packages = ", ".join(sorted(f"blocklm.{name}" for name, path in MODULES.items() if path.name == "__init__.py"))
    code = f"import sys; before = set(sys.modules); import {packages}; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    libraries = {name.partition(".")[0] for name in done.stdout.split()} - set(sys.stdlib_module_names)
    assert libraries <= {"blocklm"}


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES.values()}), ids=lambda folder: folder.name)
def test_a_folder_has_few_files(folder: Path) -> None:
    files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= (MOST_FILES_AT_THE_TOP if folder == PACKAGE else MOST_FILES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_holds_one_concept(module: str) -> None:
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= 250
