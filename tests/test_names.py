"""A name means one thing: no public class name in two modules, no public function name in more than two."""

import ast
import collections
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent / "longjax"
PROTOCOLS = {  # one function a module that a table of modules calls by this name
    "score": "evals: a benchmark's records to rows",
    "section": "report/study/questions: a question's part of the page",
    "files": "evals/synthetic: a benchmark's files by name",
    "main": "cli: a console command",
}


def public_names(kind: type) -> dict[str, list[str]]:
    """-> the modules that define each public name of a kind (class or function) at their top."""
    where = collections.defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, kind) and not node.name.startswith("_"):
                where[node.name].append(str(path.relative_to(ROOT)))
    return where


@pytest.mark.parametrize(("kind", "most"), [(ast.ClassDef, 1), (ast.FunctionDef, 2)])
def test_names_are_not_reused(kind, most):
    reused = {name: paths for name, paths in public_names(kind).items() if len(paths) > most and name not in PROTOCOLS}
    assert reused == {}


def test_protocol_verbs_are_used():
    assert all(len(public_names(ast.FunctionDef)[name]) > 2 for name in PROTOCOLS)
