"""The benchmarks' own prompts, out of your checkouts of them, for --prompts of the evaluation.

  git clone https://github.com/THUDM/LongBench; git clone https://github.com/NVIDIA/RULER
  python -m tools.extract_prompts --longbench=LongBench --ruler=RULER --out=prompts

Either may be left out. The texts belong to the benchmarks (LongBench: MIT, RULER: Apache-2.0). Nothing is executed.
"""

import argparse
import ast
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from longjax import files
from longjax.evals.longbench.table import TASKS
from longjax.evals.prompts import LONGBENCH, RULER, RULER_FIELDS, checked_longbench, checked_ruler
from longjax.evals.requests import Record
from longjax.files import sha256_file

CONFIGS = ("LongBench/config", "config", ".")  # of newer and older checkouts, or the folder itself
CONSTANTS = tuple(
    f"{folder}constants.py" for folder in ("scripts/data/synthetic/", "data/synthetic/", "synthetic/", "")
)


def longbench(checkout: Path) -> Record:
    """-> longbench.json, of dataset2prompt.json and dataset2maxlen.json."""
    path = first(checkout, [f"{folder}/dataset2prompt.json" for folder in CONFIGS], "longbench")
    said, new = (read_object(path.with_name(name)) for name in (path.name, "dataset2maxlen.json"))
    tasks = {name: {"prompt": said.get(name), "max_gen": new.get(name)} for name in TASKS if name in said}
    checked_longbench(str(path), tasks, {name: kind.has_input for name, kind in TASKS.items()})
    return {"source": "THUDM/LongBench", "sha256": sha256_file(path), "tasks": tasks}


def ruler(checkout: Path) -> Record:
    """-> ruler.json, of the literal TASKS in constants.py."""
    path = first(checkout, CONSTANTS, "ruler")
    said = literal(path, "TASKS")
    wanted = ("template", "answer_prefix", "tokens_to_generate")
    tasks = {
        name: {field: said[name].get(field) for field in wanted}
        for name in RULER_FIELDS
        if isinstance(said.get(name), dict)
    }
    checked_ruler(str(path), tasks)
    return {"source": "NVIDIA/RULER", "sha256": sha256_file(path), "base_tasks": tasks}


def first(checkout: Path, names: Sequence[str], flag: str) -> Path:
    found = next((path for name in names if (path := checkout / name).is_file()), None)
    if found is None:
        raise ValueError(f"--{flag}={checkout} has none of {', '.join(names)}: name the folder that git cloned")
    return found


def read_object(path: Path) -> Record:
    said = parsed(path, json.loads)
    if not isinstance(said, dict):
        raise ValueError(f"{path} is not a JSON object")
    return said


def literal(path: Path, name: str) -> Record:
    """-> the dict that a Python file assigns to a name."""
    tree = parsed(path, ast.parse)
    value = next((value for target, value in assignments(tree) if target == name), None)
    try:
        said = ast.literal_eval(value) if value is not None else None
    except ValueError as error:
        raise ValueError(f"{path}: {name} is computed; only a literal can be read") from error
    if not isinstance(said, dict):
        raise ValueError(f"{path} assigns no dict to {name}")
    return said


def assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))


def parsed(path: Path, parse: Any) -> Any:
    try:
        return parse(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except (SyntaxError, ValueError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise ValueError(f"{path} is torn, or is another file: {error}") from error


def extract(longbench_dir: Path | None, ruler_dir: Path | None, out: Path) -> list[str]:
    """-> the names of the files written, all of them or none."""
    made = {LONGBENCH: longbench(longbench_dir)} if longbench_dir else {}
    made |= {RULER: ruler(ruler_dir)} if ruler_dir else {}
    if not made:
        raise ValueError("name a checkout: --longbench, --ruler, or both")
    for name, said in made.items():  # each file is one benchmark's; the other's may stay from an earlier call
        files.write_atomically(out / name, (json.dumps(said, indent=1, ensure_ascii=False) + "\n").encode())
    return [*made]


def main(argv: Sequence[str] | None = None) -> int:
    """A user's mistake ends with one line and exit code 2."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--longbench", type=Path, help="checkout of LongBench")
    words.add_argument("--ruler", type=Path, help="checkout of RULER")
    words.add_argument("--out", type=Path, required=True, help="folder to write")
    said = words.parse_args(argv)
    try:
        print(f"{said.out}: {', '.join(extract(said.longbench, said.ruler, said.out))}")
    except ValueError as error:
        print("error: " + " ".join(str(error).split("\n")), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
