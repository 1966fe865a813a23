"""A directory of self-made data for all evaluators, written in full or not at all.

Everything in it is made of a small grammar. The files have the benchmarks' schemas and none of their content.
"""

import contextlib
import dataclasses
import json
import pathlib

from longjax import files
from longjax.data.tokenizer import Tokenizer
from longjax.evals.synthetic import haystack, longbench, passkey, ruler, short, trec
from longjax.evals.synthetic.settings import SyntheticConfig
from longjax.files import sha256_bytes

MANIFEST = "manifest.json"
MADE_BY = "longjax tools.make_eval_data"
SIZES = {  # words of a document, examples of a task, characters of the haystack
    "tiny": (60, 2, 40_000),
    "small": (300, 4, 300_000),
    "medium": (3_000, 20, 1_000_000),
}
BENCHMARKS = (haystack, longbench, passkey, ruler, short, trec)


def synthetic_config(
    size: str = "small",
    words: int | None = None,
    examples: int | None = None,
    tokenizer: Tokenizer | None = None,
    seed: int = 0,
) -> SyntheticConfig:
    of_size = SIZES[size]
    return SyntheticConfig(seed, words or of_size[0], examples or of_size[1], of_size[2], tokenizer)


def write_folder(out: pathlib.Path, made: SyntheticConfig) -> list[str]:
    """-> the names of the files, which are all written or none. Raises ValueError for a folder of somebody else."""
    old = mine(out)
    content = dict(pair for benchmark in BENCHMARKS for pair in benchmark.files(made))
    if not (out / MANIFEST).exists():  # so that the folder is known even if this is killed
        files.write_atomically(out / MANIFEST, folder_manifest(made, {}))
    with files.atomic_files(out) as create:
        for name, data in content.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            create(name).write(data)
        create(MANIFEST).write(folder_manifest(made, content))
    for name in old - content.keys():
        (out / name).unlink(missing_ok=True)
    return [*content]


def mine(out: pathlib.Path) -> set[str]:
    """-> the files that this tool has written there before."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return set()
    for name in (MANIFEST, f"{MANIFEST}.new"):  # the second is left by a kill just before the end
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads((out / name).read_text("utf-8"))
            if said["made_by"] == MADE_BY:
                return set(said["files"])
    raise ValueError(f"--out={out} holds files of something else: name a new folder")


def folder_manifest(made: SyntheticConfig, content: dict[str, bytes]) -> bytes:
    about = {field.name: getattr(made, field.name) for field in dataclasses.fields(made) if field.name != "tokenizer"}
    said = {
        "made_by": MADE_BY,
        "note": "made by a grammar: these are not the benchmarks, and scores on them are not theirs",
        "settings": about | {"tokenizer_sha256": made.tokenizer and made.tokenizer.sha256},
        "files": {name: sha256_bytes(data) for name, data in sorted(content.items())},
    }
    return (json.dumps(said, indent=1) + "\n").encode()
