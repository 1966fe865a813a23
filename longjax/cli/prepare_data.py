r"""Turns documents into training rows, in three commands: tokenize, select, pack. Each resumes where it was killed.

One billion tokens of SlimPajama with long documents upsampled source by source, in rows of 32K and of 64K:

  longjax-prepare-data tokenize --input=slimpajama:/data/SlimPajama --source_field=meta.redpajama_set_name \
      --tokenizer=/models/Llama-2-7b-hf --add_bos --noadd_eos --store=/data/store
  longjax-prepare-data select --store=/data/store --selection=/data/selection --tokens=1e9 \
      --shares=slimpajama_code --keep=0.1
  longjax-prepare-data pack --selection=/data/selection --plan=/data/rows_32k --length=32768
  longjax-prepare-data pack --selection=/data/selection --plan=/data/rows_64k --length=65536

Both plans hold the same tokens in the same order. A training reads one of them: --plan_dir=/data/rows_32k.

An input is label:path, where path is a file or a directory of .txt .md .rst .py .jsonl .json(.gz|.zst) .parquet .arrow,
or a directory that `datasets` saved; parquet with input_ids is taken as it is. `select` thins short documents out
(--keep) and fills the sources' --shares; without --tokens and --shares it takes all documents. Further uses:

  pack --algorithm=tails --min_length=32768 --doc_mask ...    ProLong: documents do not attend to each other
  mix --plan=/data/mixed --part=/data/long:0.6 --part=/data/short:0.4      rows of several plans by share
  stages --plan=/data/both --part=/data/a:10000 --part=/data/b:5000        the first rows of one plan, then of another
  tokenize --template=chatml ... , pack --algorithm=whole --doc_mask       conversations; loss on answers only
  verify --store=/data/store                                               compares all bytes with their hashes

--algorithm=concat cuts one stream of tokens into rows; tails does so and drops short rests of documents; single makes
rows within a document; best_fit packs by best-fit decreasing; intact puts documents at the beginning of rows; whole
never cuts a conversation. --shares=store keeps the shares that the sources have in the store.
"""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Callable
from typing import Literal

import numpy as np
from absl import flags as absl_flags

from longjax import data
from longjax.cli import flags, renamed_flags
from longjax.cli.main import start
from longjax.cli.names import name_and_number, split_names
from longjax.data import documents, encode, selection, sft, statistics
from longjax.data.store_ledger import SHARD_TOKENS
from longjax.data.tokenizer import Tokenizer
from longjax.locks import locked
from longjax.progress import MultiProgress
from longjax.ranges import check_range


@dataclasses.dataclass(frozen=True)
class PrepareDataOptions:
    """Options of all commands; a help text begins with those that read the flag."""

    input: tuple[str, ...] = ()  # tokenize: documents as label:path
    tokenizer: str = ""  # tokenize: a sentencepiece .model, a tokenizer.json, or the directory of either
    opening: str = ""  # tokenize: token of --add_bos and of templates; "": what the tokenizer itself puts before a text
    store: str = ""  # tokenize: directory of the token store to write; select, verify: to read
    add_bos: bool = False  # tokenize: begin each document with the BOS token
    add_eos: bool = True  # tokenize: end each document with the EOS token
    text_field: str = "text"  # tokenize: field of a record that holds the text
    source_field: str | None = None  # tokenize: field of a record that holds its source; None: the label of --input
    template: Literal["llama2", "llama3", "chatml"] | None = None  # tokenize: chat template; records are conversations
    skip_bad: bool = False  # tokenize: leave out files and documents that cannot be used, instead of refusing them
    held_out: float = 0.02  # tokenize: share of documents for validation and test, from 0 to 1
    shard_tokens: int = SHARD_TOKENS  # tokenize: most tokens of a file
    workers: int | None = None  # tokenize: number of processes; None: one a core

    selection: str = ""  # select: directory of the selection to write; pack: to read
    tokens: float | None = None  # select: number of tokens; None: all
    shares: str | None = None  # select: slimpajama_code, slimpajama_paper, prolong, store, or source=share,...
    boost: str = ""  # select: sources whose share is set to --boost_to, joined by commas
    boost_to: float = 0.6  # select: share of the boosted sources, before all shares are normalized
    keep: float = 1.0  # select: share of short documents to keep; 0.1 upsamples long ones
    short: int = 4096  # select: documents with fewer tokens are short
    sources: str = ""  # select: sources to take documents from, joined by commas; "": all
    min_length: int = 0  # select: fewest tokens of a document; pack with tails: of a tail that is kept
    estimate: bool = False  # select: estimate tokens as characters / 3.68 instead of counting them
    repeat: bool = False  # select: repeat a source that has run out
    split: Literal["train", "validation", "test"] = "train"  # select: split that documents are taken from
    seed: int = 0  # select: seed of the choice and the order of documents

    plan: str = ""  # pack, mix, stages: directory of the plan to write
    length: int = 32_768  # pack: tokens of a row
    algorithm: Literal["concat", "tails", "single", "best_fit", "intact", "whole"] = "concat"  # pack: see above
    doc_mask: bool = False  # pack: no attention between the documents of a row
    part: tuple[str, ...] = ()  # mix: plan:share; stages: plan:rows
    block: int = 100  # mix: rows in which the shares are met exactly

    def __post_init__(self):
        check_range(self, ("shard_tokens", "workers", "length", "block"), 1, 2**31)
        check_range(self, ("tokens",), 1, 2**53)
        check_range(self, ("boost_to", "short", "min_length"), 0)
        check_range(self, ("seed",), 0, 2**63)
        if not 0 <= self.held_out <= 1:
            raise ValueError(f"--held_out={self.held_out} must be between 0 and 1")

    def needed(self, name: str) -> str:
        """Returns the value of a flag. Raises ValueError if it is not given."""
        if not getattr(self, name):
            raise ValueError(f"--{name} is missing: see --help")
        return getattr(self, name)


def main(values: absl_flags.FlagValues = absl_flags.FLAGS, argv: list[str] | None = None) -> None:
    """The command longjax-prepare-data: its first argument is one of COMMANDS."""
    program, *words = sys.argv if argv is None else argv
    options = flags.define(PrepareDataOptions, values)
    name = renamed_flags.command(words.pop(0)) if words and not words[0].startswith("-") else ""

    def run() -> None:
        if name not in COMMANDS:
            raise ValueError(f"name a command: {', '.join(COMMANDS)}; --help shows examples")
        chosen = options()
        with writing(chosen, WRITES.get(name, "")):
            COMMANDS[name](chosen)

    start(run, values, [program, *words], __doc__)


def writing(options: PrepareDataOptions, flag: str) -> contextlib.AbstractContextManager[None]:
    """Returns the lock of the folder that a command writes, which a flag names; of none if it is not given."""
    folder = getattr(options, flag, "")
    return locked(pathlib.Path(folder), f"--{flag}") if folder else contextlib.nullcontext()


def tokenize(options: PrepareDataOptions) -> None:
    """Documents to a token store."""
    if not options.input:
        raise ValueError("--input is missing: name documents as label:path, like books:/data/books")
    tokenizer = Tokenizer(options.needed("tokenizer"), opening=options.opening)
    if options.template:
        sft.TEMPLATES[options.template].check(tokenizer, f"--template={options.template}")
        encoder = sft.Chat(options.template)
    else:
        encode.check_bos_eos(tokenizer, options.add_bos, options.add_eos)
        encoder = encode.TextEncoder(options.add_bos, options.add_eos)
    inputs, progress = documents.find_inputs(options.input, options.skip_bad), MultiProgress({"tokenize": 1.0})
    store = data.tokenize(
        pathlib.Path(options.needed("store")), inputs,
        documents.Fields(options.text_field, options.source_field, bool(options.template)), tokenizer, encoder,
        options.held_out, options.shard_tokens, options.workers or encode.available_cores(),
        lambda fraction, doing: progress.update("tokenize", fraction, doing), options.skip_bad,
    )  # fmt: skip
    for spec in options.input:
        if unread := documents.unread_files(pathlib.Path(spec.partition(":")[2])):
            print(f"skipped: {len(unread):,} files or links of --input={spec}, the first {unread[0]}")
    for reason, (count, first) in store.manifest["skipped"].items():
        print(f"skipped: {count:,} documents that are {reason}, the first {first}")
    print("\n".join(statistics.summarize(store, np.arange(len(store.docs)))))


def select(options: PrepareDataOptions) -> None:
    """A store to a selection of its documents, in random order."""
    store = data.open_store(options.needed("store"))
    tokens = None if options.tokens is None else int(options.tokens)
    rule = data.Rule(
        tokens, source_shares(options, store), options.keep, options.short, options.min_length, options.estimate,
        options.repeat, options.split, options.seed, tuple(split_names(options.sources)),
    )  # fmt: skip
    chosen = data.select(store, rule)
    for source, times in chosen.metadata["repeated"].items():
        print(f"{source} has too few tokens and was repeated {times} times")
    selection.save_selection(chosen, options.needed("selection"), store)
    print("\n".join(["before:", *statistics.summarize(store, data.select_all(store, options.split).docs)]))
    print("\n".join(["after:", *statistics.summarize(store, chosen.docs)]))


def source_shares(options: PrepareDataOptions, store: data.TokenStore) -> dict[str, float] | None:
    """Returns the shares by source that --shares and --boost set; None if neither is given."""
    if not options.shares and not options.boost:
        return None
    if options.shares in (None, "store"):
        shares = selection.tokens_by_source(store, options.split)
    elif options.shares in selection.SHARES:
        shares = selection.SHARES[options.shares]
    else:
        named = [name_and_number(part, "=", "shares") for part in options.shares.split(",")]
        shares = dict(named)
        if len(shares) < len(named):
            raise ValueError(f"--shares={options.shares} names a source twice")
    return selection.boost_shares(shares, split_names(options.boost), options.boost_to) if options.boost else shares


def pack(options: PrepareDataOptions) -> None:
    """A selection to a plan of rows."""
    chosen, folder = selection.open_selection(options.needed("selection"))
    algorithms = {
        "concat": data.Concat(), "tails": data.ConcatTails(options.min_length), "single": data.Single(),
        "best_fit": data.BestFit(), "intact": data.Intact(), "whole": data.Whole(),
    }  # fmt: skip
    algorithm = algorithms[options.algorithm]
    plan = data.pack(data.open_store(folder), chosen, algorithm, options.length, options.doc_mask)
    data.save_plan(plan, options.needed("plan"))
    print(
        f"{len(plan):,} rows of {plan.length:,} tokens, {len(plan) * plan.length:,} in all; "
        f"{plan.metadata['documents']:,} documents, {plan.metadata['dropped_documents']:,} left out; "
        f"{plan.metadata['padding']:.2%} padding; sha256 {plan.rows_sha256[:12]}"
    )


def mix(options: PrepareDataOptions) -> None:
    """Several plans to one that has their rows by share."""
    folders, shares = zip(*plan_parts(options), strict=True)
    mixed = data.save_mixed(options.needed("plan"), folders, shares, options.block)
    quotas = ", ".join(f"{n} of {folder}" for n, folder in zip(mixed.quotas, folders, strict=True))
    print(f"every {options.block} rows: {quotas}")


def stages(options: PrepareDataOptions) -> None:
    """Several plans to one that has their first rows, one after the other."""
    folders, rows = zip(*plan_parts(options), strict=True)
    if fraction := [n for n in rows if n < 1 or n != int(n)]:
        raise ValueError(f"--part=plan:{fraction[0]:g}: a stage has a whole number of rows, at least 1")
    curriculum = data.save_curriculum(options.needed("plan"), folders, [int(n) for n in rows])
    print(f"{sum(curriculum.rows):,} rows in {len(folders)} stages")


def plan_parts(options: PrepareDataOptions) -> list[tuple[str, float]]:
    """Returns the plans of --part, each with its share or number of rows."""
    if not options.part:
        raise ValueError("--part is missing: name plans, like --part=/data/long:0.6 --part=/data/short:0.4")
    parts = [name_and_number(part, ":", "part") for part in options.part]
    written = pathlib.Path(options.needed("plan")).resolve()
    if written in [pathlib.Path(folder).resolve() for folder, _ in parts]:
        raise ValueError(f"--plan={options.plan} is one of its own --part: choose another folder")
    return parts


def verify(options: PrepareDataOptions) -> None:
    """Compares all bytes of a store with their hashes."""
    store = data.open_store(options.needed("store"), verify=True)
    print(f"{store.folder} is what was written: {store.manifest['tokens']:,} tokens, sha256 {store.sha256[:12]}")


COMMANDS: dict[str, Callable[[PrepareDataOptions], None]] = {
    "tokenize": tokenize, "select": select, "pack": pack, "mix": mix, "stages": stages, "verify": verify,
}  # fmt: skip
WRITES = {
    "tokenize": "store",
    "select": "selection",
    "pack": "plan",
    "mix": "plan",
    "stages": "plan",
}  # flag of the folder
