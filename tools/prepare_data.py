r"""Documents to training rows, in three commands: tokenise, select, pack. Each can be killed and run again.

One billion tokens of SlimPajama with long documents upsampled source by source, in rows of 32K and of 64K:

  python -m tools.prepare_data tokenise --input=slimpajama:/data/SlimPajama --source_field=meta.redpajama_set_name \
      --tokenizer=/models/Llama-2-7b-hf --add_bos --noadd_eos --store=/data/store
  python -m tools.prepare_data select --store=/data/store --selection=/data/selection --tokens=1e9 \
      --shares=slimpajama_code --keep=0.1
  python -m tools.prepare_data pack --selection=/data/selection --plan=/data/rows_32k --length=32768
  python -m tools.prepare_data pack --selection=/data/selection --plan=/data/rows_64k --length=65536

Both plans hold the same tokens in the same order. A training reads one: --plan_dir=/data/rows_32k.

Inputs are label:path, where path is a file or a folder of .txt .md .rst .py .jsonl .json(.gz|.zst) .parquet .arrow, or
a folder that `datasets` saved; parquet with input_ids is taken as it is. The selection thins short documents out
(--keep) and fills the sources' --shares; without --tokens and --shares it takes all documents. Some plans need more:

  pack --algorithm=tails --min_length=32768 --doc_mask ...    ProLong: a document a row, documents do not see each other
  mix --plan=/data/mixed --part=/data/long:0.6 --part=/data/short:0.4      rows of several plans, to the row
  stages --plan=/data/both --part=/data/a:10000 --part=/data/b:5000        first so many rows of one, then of another
  tokenise --template=chatml ... , pack --algorithm=whole --doc_mask       conversations; only answers are learned
  verify --store=/data/store                                               compares all bytes with their hashes
"""

import pathlib
import sys
from collections.abc import Callable

import numpy as np
from absl import flags

from longjax import data
from longjax.data import documents, encode, sft, statistics
from longjax.data import selection as choosing
from longjax.data.store_writer import SHARD
from longjax.data.tokenizer import Tokenizer
from longjax.progress import MultiProgress

VALUES = flags.FlagValues()  # the tool's own
INPUT = flags.DEFINE_multi_string("input", [], "tokenise: label:path, several times.", flag_values=VALUES)
TOKENIZER = flags.DEFINE_string(
    "tokenizer", None, "tokenise: a sentencepiece .model, tokenizer.json, or their folder.", flag_values=VALUES
)
STORE = flags.DEFINE_string(
    "store", None, "tokenise: folder of the store to make. select, verify: its folder.", flag_values=VALUES
)
ADD_BOS = flags.DEFINE_bool(
    "add_bos", False, "tokenise: open each document with the tokenizer's first token.", flag_values=VALUES
)
ADD_EOS = flags.DEFINE_bool(
    "add_eos", True, "tokenise: close each document with the tokenizer's last token.", flag_values=VALUES
)
TEXT_FIELD = flags.DEFINE_string(
    "text_field", "text", "tokenise: the field of a record that holds the text.", flag_values=VALUES
)
SOURCE_FIELD = flags.DEFINE_string(
    "source_field", None, "tokenise: the field with the source; none: the label.", flag_values=VALUES
)
TEMPLATE = flags.DEFINE_enum(
    "template", None, [*sft.TEMPLATES], "tokenise: records are conversations, written so.", flag_values=VALUES
)
HELD_OUT = flags.DEFINE_float(
    "held_out", 0.02, "tokenise: share of documents for validation and test.", 0.0, 1.0, flag_values=VALUES
)
SHARD_TOKENS = flags.DEFINE_integer(
    "shard_tokens", SHARD, "tokenise: tokens of a file, at most.", 1, flag_values=VALUES
)
WORKERS = flags.DEFINE_integer("workers", None, "tokenise: processes; none: one a core.", 1, flag_values=VALUES)

SELECTION = flags.DEFINE_string("selection", None, "select: folder to make. pack: its folder.", flag_values=VALUES)
TOKENS = flags.DEFINE_float("tokens", None, "select: how many; none: all.", flag_values=VALUES)
SHARES = flags.DEFINE_string(
    "shares",
    None,
    f"select: of the tokens: {', '.join(choosing.SHARES)}, store (as in it), or source=share,...",
    flag_values=VALUES,
)
BOOST = flags.DEFINE_list("boost", [], "select: sources whose share is set to --boost_to.", flag_values=VALUES)
BOOST_TO = flags.DEFINE_float(
    "boost_to", 0.6, "select: share of the boosted sources, before all are normalised.", flag_values=VALUES
)
KEEP = flags.DEFINE_float(
    "keep", 1.0, "select: share of short documents that stay; 0.1 upsamples long ones.", flag_values=VALUES
)
SHORT = flags.DEFINE_integer("short", 4096, "select: documents with fewer tokens are short.", flag_values=VALUES)
SOURCES = flags.DEFINE_list("sources", [], "select: only documents of these.", flag_values=VALUES)
MIN_LENGTH = flags.DEFINE_integer(
    "min_length", 0, "select: tokens of a document; pack: of a tail that is kept.", flag_values=VALUES
)
ESTIMATE = flags.DEFINE_bool(
    "estimate", False, "select: count characters / 3.68 instead of tokens.", flag_values=VALUES
)
REPEAT = flags.DEFINE_bool("repeat", False, "select: go through a source again that has run out.", flag_values=VALUES)
SPLIT = flags.DEFINE_enum(
    "split", "train", ["train", "validation", "test"], "select: where documents are taken from.", flag_values=VALUES
)
SEED = flags.DEFINE_integer("seed", 0, "select: of the choice and the order of documents.", flag_values=VALUES)

PLAN = flags.DEFINE_string("plan", None, "pack, mix, stages: folder to make.", flag_values=VALUES)
LENGTH = flags.DEFINE_integer("length", 32_768, "pack: tokens of a row.", 1, flag_values=VALUES)
ALGORITHM = flags.DEFINE_enum(
    "algorithm", "concat", ["concat", "tails", "single", "best_fit", "intact", "whole"],
    "pack: one stream cut into rows; the same with short tails dropped; rows within a document; best-fit decreasing; "
    "documents at the beginning of rows; conversations that are never cut.",
    flag_values=VALUES,
)  # fmt: skip
DOC_MASK = flags.DEFINE_bool("doc_mask", False, "pack: documents in a row do not see each other.", flag_values=VALUES)
PART = flags.DEFINE_multi_string("part", [], "mix: plan:share, stages: plan:rows; several times.", flag_values=VALUES)
BLOCK = flags.DEFINE_integer("block", 100, "mix: rows in which the shares are met exactly.", 1, flag_values=VALUES)


def needed(flag: flags.FlagHolder) -> str:
    if not flag.value:
        raise ValueError(f"--{flag.name} is missing: see --help")
    return flag.value


def tokenise() -> None:
    if not INPUT.value:
        raise ValueError("--input is missing: name documents as label:path, like books:/data/books")
    tokenizer, inputs = Tokenizer(needed(TOKENIZER)), documents.find(INPUT.value)
    if TEMPLATE.value:
        sft.TEMPLATES[TEMPLATE.value].check(tokenizer, f"--template={TEMPLATE.value}")
        encoder = sft.Chat(TEMPLATE.value)
    else:
        encode.check_marks(tokenizer, ADD_BOS.value, ADD_EOS.value)
        encoder = encode.TextEncoder(ADD_BOS.value, ADD_EOS.value)
    board = MultiProgress({"tokenise": 1.0})
    store = data.tokenize(
        pathlib.Path(needed(STORE)), inputs,
        documents.Fields(TEXT_FIELD.value, SOURCE_FIELD.value, bool(TEMPLATE.value)), tokenizer, encoder,
        HELD_OUT.value, SHARD_TOKENS.value, WORKERS.value or encode.cores(),
        lambda fraction, doing: board.update("tokenise", fraction, doing),
    )  # fmt: skip
    for reason, (count, first) in store.manifest["skipped"].items():
        print(f"left out: {count:,} documents that are {reason}, the first {first}")
    print("\n".join(statistics.summarize(store, np.arange(len(store.docs)))))


def select() -> None:
    store = data.open_store(needed(STORE))
    tokens = None if TOKENS.value is None else int(TOKENS.value)
    rule = data.Rule(
        tokens, shares(store), KEEP.value, SHORT.value, MIN_LENGTH.value, ESTIMATE.value, REPEAT.value, SPLIT.value,
        SEED.value, tuple(SOURCES.value),
    )  # fmt: skip
    selection = data.select(store, rule)
    for source, times in selection.about["repeated"].items():
        print(f"{source} ran out and was gone through {times} times")
    choosing.save_selection(selection, needed(SELECTION), store)
    before = data.select_all(store, SPLIT.value).docs
    print(
        "\n".join(
            ["before:", *statistics.summarize(store, before), "after:", *statistics.summarize(store, selection.docs)]
        )
    )


def shares(store: data.TokenStore) -> dict[str, float] | None:
    """-> those of --shares and --boost."""
    if not SHARES.value and not BOOST.value:
        return None
    if SHARES.value in (None, "store"):
        found = choosing.shares_of(store, SPLIT.value)
    elif SHARES.value in choosing.SHARES:
        found = choosing.SHARES[SHARES.value]
    else:
        found = dict(pair(part, "=", "shares") for part in SHARES.value.split(","))
    return choosing.boosted(found, BOOST.value, BOOST_TO.value) if BOOST.value else found


def pair(text: str, between: str, flag: str) -> tuple[str, float]:
    name, _, number = text.rpartition(between)
    try:
        return name, float(number)
    except ValueError as error:
        raise ValueError(f"--{flag}: {text!r} must be name{between}number") from error


def pack() -> None:
    selection, folder = choosing.open_selection(needed(SELECTION))
    algorithms = {
        "concat": data.Concat(), "tails": data.ConcatTails(MIN_LENGTH.value), "single": data.Single(),
        "best_fit": data.BestFit(), "intact": data.Intact(), "whole": data.Whole(),
    }  # fmt: skip
    store = data.open_store(folder)
    plan = data.pack(store, selection, algorithms[ALGORITHM.value], LENGTH.value, DOC_MASK.value)
    data.save_plan(plan, needed(PLAN))
    print(
        f"{len(plan):,} rows of {plan.length:,} tokens, {len(plan) * plan.length:,} in all; "
        f"{plan.about['documents']:,} documents, {plan.about['dropped_documents']:,} left out; "
        f"{plan.about['padding']:.2%} padding; sha256 {plan.content[:12]}"
    )


def mix() -> None:
    folders, shares = zip(*(pair(part, ":", "part") for part in needed_parts()), strict=True)
    mixed = data.save_mixed(needed(PLAN), folders, shares, BLOCK.value)
    print(f"every {BLOCK.value} rows: {', '.join(f'{n} of {at}' for n, at in zip(mixed.quotas, folders, strict=True))}")


def stages() -> None:
    folders, rows = zip(*(pair(part, ":", "part") for part in needed_parts()), strict=True)
    made = data.save_curriculum(needed(PLAN), folders, [int(n) for n in rows])
    print(f"{sum(made.rows):,} rows in {len(folders)} stages")


def needed_parts() -> list[str]:
    if not PART.value:
        raise ValueError("--part is missing: name plans, like --part=/data/long:0.6 --part=/data/short:0.4")
    return PART.value


def verify() -> None:
    store = data.open_store(needed(STORE), verify=True)
    print(f"{store.folder} is what was written: {store.manifest['tokens']:,} tokens, sha256 {store.sha256[:12]}")


COMMANDS: dict[str, Callable[[], None]] = {
    "tokenise": tokenise, "select": select, "pack": pack, "mix": mix, "stages": stages, "verify": verify,
}  # fmt: skip


def main(argv: list[str]) -> None:
    """A user's mistake ends with one line and exit code 2."""
    if {"-h", "--help"} & {*argv}:
        print(__doc__, VALUES.get_help(), sep="\n")
        return
    try:
        words = VALUES(argv)
        if len(words) != 2 or words[1] not in COMMANDS:
            raise ValueError(f"say one of {', '.join(COMMANDS)}; --help shows examples")
        COMMANDS[words[1]]()
    except (flags.Error, ValueError) as error:
        print("error: " + " ".join(str(error).split("\n")), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted: the same command goes on from here", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main(sys.argv)
