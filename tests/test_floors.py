"""A module may import only from lower floors, and never in a circle. The list is the architecture."""

import ast
import graphlib
import pathlib

FLOORS = [
    {"config", "files", "locks", "made_by_0_1", "pools", "progress", "ranges"},
    {"attention", "data"},
    {"methods", "evals"},
    {"model"},
    {"sharding"},
    {"checkpoints", "training", "inference"},
    {"api", "report", "study", "aot"},
    {"cli"},
]
ROOT = pathlib.Path(__file__).parent.parent / "longjax"


def floor(module: str) -> int:
    name = module.removeprefix("longjax.")
    for level, names in enumerate(FLOORS):
        if name in names:
            return level
    assert "." in name, f"{module} has no floor in tests/test_floors.py"
    return floor(name.rpartition(".")[0])  # methods.pi stands where methods stands


def imports(path: pathlib.Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "longjax":
            yield from [node.module] if node.module != "longjax" else [f"longjax.{a.name}" for a in node.names]


def modules():
    for path in ROOT.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
        if name != "longjax":
            yield name, path


def test_imports_go_down():
    for me, path in modules():
        for other in imports(path):
            package = me.removeprefix("longjax.").split(".")[0]
            siblings = other.removeprefix("longjax.").split(".")[0] == package
            assert floor(other) < floor(me) or siblings, f"{me} imports {other}"


def test_no_files_import_each_other_in_a_circle():
    files = dict(modules())
    graph = {me: imported_files(path, files) for me, path in files.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def imported_files(path: pathlib.Path, files: dict[str, pathlib.Path]) -> set[str]:
    """-> modules that a file imports from; a package is its `__init__`, if what is imported is no module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in files else node.module)
    return found & files.keys()


def test_files_and_functions_are_small():
    for me, path in modules():
        text = path.read_text()
        assert len(text.splitlines()) <= 250, f"{me} has over 250 lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                doc = ast.get_docstring(node, clean=False) or ""
                lines = node.end_lineno - node.lineno + 1 - len(doc.splitlines())
                assert lines <= 45, f"{me}.{node.name} has {lines} lines"


def test_evaluators_and_data_know_no_jax():
    for me, path in modules():
        if me.startswith(("longjax.data", "longjax.evals")):
            assert "import jax" not in path.read_text(), f"{me} imports jax"
