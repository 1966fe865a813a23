"""Extracts the benchmarks' own prompts from your checkouts of them, for --prompts of the evaluation.

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
    """Return the content of longbench.json, from dataset2prompt.json and dataset2maxlen.json."""
    path = first_file(checkout, [f"{folder}/dataset2prompt.json" for folder in CONFIGS], "longbench")
    prompts, max_gen = (read_object(path.with_name(name)) for name in (path.name, "dataset2maxlen.json"))
    tasks = {name: {"prompt": prompts.get(name), "max_gen": max_gen.get(name)} for name in TASKS if name in prompts}
    checked_longbench(str(path), tasks, {name: kind.has_input for name, kind in TASKS.items()})
    return {"source": "THUDM/LongBench", "sha256": sha256_file(path), "tasks": tasks}


def ruler(checkout: Path) -> Record:
    """Return the content of ruler.json, from the literal TASKS in constants.py."""
    path = first_file(checkout, CONSTANTS, "ruler")
    literals = literal(path, "TASKS")
    fields = ("template", "answer_prefix", "tokens_to_generate")
    tasks = {
        name: {field: literals[name].get(field) for field in fields}
        for name in RULER_FIELDS
        if isinstance(literals.get(name), dict)
    }
    checked_ruler(str(path), tasks)
    return {"source": "NVIDIA/RULER", "sha256": sha256_file(path), "base_tasks": tasks}


def first_file(checkout: Path, names: Sequence[str], flag: str) -> Path:
    """Return the first of these files that a checkout has. Raises ValueError if it has none."""
    path = next((path for name in names if (path := checkout / name).is_file()), None)
    if path is None:
        raise ValueError(f"--{flag}={checkout} has none of {', '.join(names)}: name the folder that git cloned")
    return path


def read_object(path: Path) -> Record:
    """Read a JSON object. Raises ValueError for anything else."""
    content = parsed(path, json.loads)
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object")
    return content


def literal(path: Path, name: str) -> Record:
    """Return the dict that a Python file assigns to a name. Raises ValueError if it is no literal."""
    tree = parsed(path, ast.parse)
    value = next((value for target, value in assignments(tree) if target == name), None)
    try:
        content = ast.literal_eval(value) if value is not None else None
    except ValueError as error:
        raise ValueError(f"{path}: {name} is computed; only a literal can be read") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} assigns no dict to {name}")
    return content


def assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Yield names and values that a module assigns at its top."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))


def parsed(path: Path, parse: Any) -> Any:
    """Parse the text of a file. Raises ValueError if it cannot be read or parsed."""
    try:
        return parse(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except (SyntaxError, ValueError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise ValueError(f"{path} is torn, or is another file: {error}") from error


def extract(longbench_dir: Path | None, ruler_dir: Path | None, out: Path) -> list[str]:
    """Write the prompts of the named checkouts, and return the names of the files. Raises ValueError without any."""
    contents = {LONGBENCH: longbench(longbench_dir)} if longbench_dir else {}
    contents |= {RULER: ruler(ruler_dir)} if ruler_dir else {}
    if not contents:
        raise ValueError("name a checkout: --longbench, --ruler, or both")
    for name, content in contents.items():  # each file is one benchmark's; the other's may stay from an earlier call
        files.write_atomically(out / name, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return [*contents]


def main(argv: Sequence[str] | None = None) -> int:
    """Extract prompts; a mistake of the user ends with one line and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--longbench", type=Path, help="checkout of LongBench")
    parser.add_argument("--ruler", type=Path, help="checkout of RULER")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args(argv)
    try:
        print(f"{args.out}: {', '.join(extract(args.longbench, args.ruler, args.out))}")
    except ValueError as error:
        print("error: " + " ".join(str(error).split("\n")), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
