"""Writes a directory of synthetic data for all evaluators, in full or not at all.

All text in it is made by a small grammar. The files have the benchmarks' schemas and none of their content.
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
    """Return the configuration of a size of SIZES, of which words and examples can be changed."""
    default_words, default_examples, haystack = SIZES[size]
    return SyntheticConfig(seed, words or default_words, examples or default_examples, haystack, tokenizer)


def write_folder(out: pathlib.Path, config: SyntheticConfig) -> list[str]:
    """Write all files, or none, and remove those that an earlier call has written.

    Args:
      out: new or empty folder, or one that this function has written.
      config: seed and size.

    Returns:
      The names of the files.

    Raises:
      ValueError: the folder holds other files, or cannot be written.

    """
    old = written_files(out)
    content = dict(pair for benchmark in BENCHMARKS for pair in benchmark.files(config))
    if not (out / MANIFEST).exists():  # so that the folder is known even if this is killed
        files.write_atomically(out / MANIFEST, folder_manifest(config, {}))
    with files.atomic_files(out) as create:
        for name, data in content.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            create(name).write(data)
        create(MANIFEST).write(folder_manifest(config, content))
    for name in old - content.keys():
        (out / name).unlink(missing_ok=True)
    return [*content]


def written_files(out: pathlib.Path) -> set[str]:
    """Return the names of the files that `write_folder` has written there. Raises ValueError for other files."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return set()
    for name in (MANIFEST, f"{MANIFEST}.new"):  # the second is left by a kill just before the end
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            manifest = json.loads((out / name).read_text("utf-8"))
            if manifest["made_by"] == MADE_BY:
                return set(manifest["files"])
    raise ValueError(f"--out={out} holds other files: name a new folder")


def folder_manifest(config: SyntheticConfig, content: dict[str, bytes]) -> bytes:
    """Return manifest.json: settings, and the SHA-256 of each file."""
    settings = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name != "tokenizer"}
    manifest = {
        "made_by": MADE_BY,
        "note": "made by a grammar: these are not the benchmarks, and scores on them are not theirs",
        "settings": settings | {"tokenizer_sha256": config.tokenizer and config.tokenizer.sha256},
        "files": {name: sha256_bytes(data) for name, data in sorted(content.items())},
    }
    return (json.dumps(manifest, indent=1) + "\n").encode()
