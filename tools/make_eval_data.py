"""Writes a small, complete, synthetic data directory, with which every evaluator runs on a CPU, offline.

  python -m tools.make_eval_data --out=data --size=small --tokenizer=longjax/bases/mini

All text in it is made by a small grammar. The files have the benchmarks' schemas and none of their content, so that
scores on them show whether the evaluators work, not how good a model is. manifest.json has the settings and the
SHA-256 of each file. The same flags write the same bytes again.
"""

import pathlib
import sys
from collections.abc import Iterable

from absl import flags

from longjax.data.tokenizer import Tokenizer
from longjax.evals.synthetic.writer import SIZES, synthetic_config, write_folder

VALUES = flags.FlagValues()  # the tool's own
OUT = flags.DEFINE_string(
    "out", None, "Folder to write; a new one, or one that this tool has written.", flag_values=VALUES
)
SIZE = flags.DEFINE_enum(
    "size",
    "small",
    [*SIZES],
    "tiny is enough for contexts of 256 to 1024 tokens, small for 4096, medium for 32K.",
    flag_values=VALUES,
)
WORDS = flags.DEFINE_integer("words", None, "Words of a document, instead of the size's.", 20, flag_values=VALUES)
EXAMPLES = flags.DEFINE_integer("examples", None, "Examples of a task, instead of the size's.", 1, flag_values=VALUES)
TOKENIZER = flags.DEFINE_string(
    "tokenizer", None, "For perplexity/*.bin: a sentencepiece .model, tokenizer.json, or their folder; none: no .bin.",
    flag_values=VALUES,
)  # fmt: skip
SEED = flags.DEFINE_integer("seed", 0, "Seed of all random draws.", flag_values=VALUES)


def total_bytes(out: pathlib.Path, names: Iterable[str]) -> int:
    """Return the size of files together."""
    return sum((out / name).stat().st_size for name in names)


def main(argv: list[str]) -> None:
    """Write the directory; a mistake of the user ends with one line and exit code 2."""
    if {"-h", "--help"} & {*argv}:
        print(__doc__, VALUES.get_help(), sep="\n")
        return
    try:
        if (rest := VALUES(argv))[1:]:
            raise ValueError(f"{rest[1]!r} is no flag: --help lists them")
        if not OUT.value:
            raise ValueError("--out is missing: name a folder to write")
        tokenizer = Tokenizer(TOKENIZER.value) if TOKENIZER.value else None
        out = pathlib.Path(OUT.value)
        names = write_folder(out, synthetic_config(SIZE.value, WORDS.value, EXAMPLES.value, tokenizer, SEED.value))
        print(
            f"{out}: {len(names)} files, {total_bytes(out, names) / 1e6:.1f} MB, made by a grammar; not the benchmarks"
        )
    except (flags.Error, ValueError) as error:
        print("error: " + " ".join(str(error).split("\n")), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(sys.argv)
