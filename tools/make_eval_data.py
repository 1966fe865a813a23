"""A small, complete, self-made data directory, with which every evaluator runs from end to end, on a CPU, offline.

  python -m tools.make_eval_data --out=data --size=small --tokenizer=bases/mini

Everything in it is made of a small grammar. The files have the benchmarks' schemas and none of their content, so that
scores on them say whether the evaluators work and not how good a model is. manifest.json says so too, with the
sha256 of each file. The same flags write the same bytes again.
"""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import sys
from collections.abc import Iterable

from absl import flags

from longjax import files
from longjax.tokenizer import Tokenizer
from tools.eval_data import haystack, longbench, passkey, ruler, short, trec
from tools.eval_data.world import World

MANIFEST = "manifest.json"
MADE_BY = "longjax tools.make_eval_data"
SIZES = {  # words of a document, examples of a task, characters of the haystack
    "tiny": (60, 2, 40_000),
    "small": (300, 4, 300_000),
    "medium": (3_000, 20, 1_000_000),
}
BENCHMARKS = (haystack, longbench, passkey, ruler, short, trec)

VALUES = flags.FlagValues()  # the tool's own
OUT = flags.DEFINE_string("out", None, "Folder to write; a new one, or one that this tool made.", flag_values=VALUES)
SIZE = flags.DEFINE_enum(
    "size", "small", [*SIZES], "tiny feeds contexts of 256 to 1024 tokens, small 4096, medium 32K.", flag_values=VALUES
)
WORDS = flags.DEFINE_integer("words", None, "Of a document, instead of the size's.", 20, flag_values=VALUES)
EXAMPLES = flags.DEFINE_integer("examples", None, "Of a task, instead of the size's.", 1, flag_values=VALUES)
TOKENIZER = flags.DEFINE_string(
    "tokenizer", None, "For perplexity/*.bin: a sentencepiece .model, tokenizer.json, or their folder; none: no .bin.",
    flag_values=VALUES,
)  # fmt: skip
SEED = flags.DEFINE_integer("seed", 0, "Of all that is drawn.", flag_values=VALUES)


def world(
    size: str = "small",
    words: int | None = None,
    examples: int | None = None,
    tokenizer: Tokenizer | None = None,
    seed: int = 0,
) -> World:
    of_size = SIZES[size]
    return World(seed, words or of_size[0], examples or of_size[1], of_size[2], tokenizer)


def write(out: pathlib.Path, made: World) -> list[str]:
    """-> the names of the files, which are all written or none. Raises ValueError for a folder of somebody else."""
    old = mine(out)
    content = dict(pair for benchmark in BENCHMARKS for pair in benchmark.files(made))
    if not (out / MANIFEST).exists():  # so that the folder is known even if this is killed
        files.write(out / MANIFEST, manifest(made, {}))
    with files.together(out) as create:
        for name, data in content.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            create(name).write(data)
        create(MANIFEST).write(manifest(made, content))
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


def manifest(made: World, content: dict[str, bytes]) -> bytes:
    about = {field.name: getattr(made, field.name) for field in dataclasses.fields(made) if field.name != "tokenizer"}
    said = {
        "made_by": MADE_BY,
        "note": "made by a grammar: these are not the benchmarks, and scores on them are not theirs",
        "settings": about | {"tokenizer_sha256": made.tokenizer and made.tokenizer.sha256},
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(content.items())},
    }
    return (json.dumps(said, indent=1) + "\n").encode()


def total(out: pathlib.Path, names: Iterable[str]) -> int:
    return sum((out / name).stat().st_size for name in names)


def main(argv: list[str]) -> None:
    """A user's mistake ends with one line and exit code 2."""
    if {"-h", "--help"} & {*argv}:
        print(__doc__, VALUES.get_help(), sep="\n")
        return
    try:
        if (words := VALUES(argv))[1:]:
            raise ValueError(f"{words[1]!r} is no flag: --help lists them")
        if not OUT.value:
            raise ValueError("--out is missing: name a folder to write")
        tokenizer = Tokenizer(TOKENIZER.value) if TOKENIZER.value else None
        out = pathlib.Path(OUT.value)
        names = write(out, world(SIZE.value, WORDS.value, EXAMPLES.value, tokenizer, SEED.value))
        print(f"{out}: {len(names)} files, {total(out, names) / 1e6:.1f} MB, made by a grammar; not the benchmarks")
    except (flags.Error, ValueError) as error:
        print("error: " + " ".join(str(error).split("\n")), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(sys.argv)
