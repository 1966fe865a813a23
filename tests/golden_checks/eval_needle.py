"""Golden checks of needles and pass keys: folders with insert_needle.jsonl (needles) or yarn_hard.jsonl (pass keys).

Prompts must be the peers' to the byte.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from golden_checks.common import Result
from golden_checks.exact_case import failure
from longjax.data.tokenizer import Tokenizer
from longjax.evals.needle.facts import PROMPT, best_things
from longjax.evals.needle.insertion import (
    AfterIds,
    BosCodec,
    PlainCodec,
    full_stops,
    insert,
    sentence_start_before,
    trim,
)
from longjax.evals.needle.tasks import STUDY_LENGTHS, NeedleTest
from longjax.evals.passkey.landmark import Landmark
from longjax.evals.passkey.longlora import LongLora
from longjax.evals.passkey.sentences import PasskeySample
from longjax.evals.passkey.yarn import Yarn
from longjax.evals.passkey.yarn_hard import YarnHard
from longjax.files import sha256_bytes

NEEDLES, GRID, KEYS = "insert_needle.jsonl", "grid.jsonl", "yarn_hard.jsonl"
TOKENIZER = "tokenizer/tokenizer.model"  # beside the folder of needles
CODECS = {"plain": PlainCodec, "hf_with_bos": BosCodec}

Row = dict[str, Any]
Pairs = Iterator[tuple[str, Any, Any]]  # what, ours, theirs


def is_needle(folder: Path) -> bool:
    return (folder / NEEDLES).exists()


def is_passkey(folder: Path) -> bool:
    return (folder / KEYS).exists()


def needle_results(folder: Path) -> Iterator[Result]:
    tokenizer = Tokenizer(folder.parent / TOKENIZER)
    yield from rows("niah", folder / NEEDLES, lambda row: inserted(row, tokenizer, folder))
    yield from rows("niah_grid", folder / GRID, grid)


def passkey_results(folder: Path) -> Iterator[Result]:
    yield from rows("passkey_landmark", folder / "landmark_yarn.jsonl", landmark)
    yield from rows("passkey_longlora", folder / "longlora.jsonl", longlora)
    yield from rows("passkey_longlora_lengths", folder / "longlora_lengths.jsonl", longlora_lengths)
    yield from rows("passkey_yarn_hard", folder / KEYS, yarn_hard)


def rows(family: str, path: Path, compare: Callable[[Row], Pairs]) -> Iterator[Result]:
    """Check every row of a file; one that cannot be read fails, and the others are still checked."""
    lines = path.read_text().splitlines() if path.exists() else []
    if not lines:
        yield failure(family, path.name, "no rows")
    for number, line in enumerate(lines):
        try:
            for what, ours, theirs in compare(json.loads(line)):
                yield Result(family, f"{path.stem}/{number}", float(ours != theirs), 0.0, what)
        except Exception as error:
            yield failure(family, f"{path.stem}/{number}", f"{type(error).__name__}: {error}")


def inserted(row: Row, tokenizer: Tokenizer, folder: Path) -> Pairs:
    codec, stops = CODECS[row["tokenizer"]](tokenizer), AfterIds(full_stops(tokenizer))
    needles, depth, room = best_things(1), row["depth_percent"], row["context_length"] - row["buffer"]
    (sentence,) = needles.sentences
    needle = codec.encode(sentence)
    context = trim((folder / row["haystack"]).read_text(), row["context_length"], codec)
    text = codec.decode(insert(context, [needle], depth, room, stops)[0])
    prompt = PROMPT.format(context=text, question=needles.question)
    offset, inner = text.index(sentence.strip()), sentence.strip()
    after = offset + len(inner)
    index = None if depth == 100 else sentence_start_before(context[: room - len(needle)], depth, stops)
    yield "insertion_index", index, row["insertion_index"]
    yield "context_chars", len(text), row["context_chars"]
    yield "context_sha256", sha256_bytes(text), row["context_sha256"]
    yield "needle_char_offset", offset, row["needle_char_offset"]
    yield "text_before_needle", text[max(0, offset - 40) : offset], row["text_before_needle"]
    yield "text_after_needle", text[after : after + 40], row["text_after_needle"]
    yield "prompt_prefix", prompt[: len(row["prompt_prefix"])], row["prompt_prefix"]
    yield "prompt_suffix", prompt[-len(row["prompt_suffix"]) :], row["prompt_suffix"]
    yield "n_bos_in_prompt", codec.encode(prompt).count(tokenizer.bos_id), row["n_bos_in_prompt"]


def grid(row: Row) -> Pairs:
    yield "context_lengths", STUDY_LENGTHS, row["context_lengths"]
    yield "depths", NeedleTest().depths(), row["depths"]
    yield "sigmoid_depths", NeedleTest(needle_spacing="sigmoid").depths(), row["sigmoid_depths"]


def landmark(row: Row) -> Pairs:
    """Check Landmark's prompts, which are YaRN's, too."""
    for variant in (Landmark(), Yarn()):
        yield from same_prompt(variant.draw(row["seed"], row["n_garbage"]), row)


def longlora(row: Row) -> Pairs:
    return same_prompt(LongLora().draw(row["seed"], row["n_garbage"]), row)


def same_prompt(sample: PasskeySample, row: Row) -> Pairs:
    yield "answer", sample.key, str(row["answer"])
    yield "prompt_chars", len(sample.prompt), row["prompt_chars"]
    yield "prompt_sha256", sha256_bytes(sample.prompt), row["prompt_sha256"]
    if row["prompt"] is not None:
        yield "prompt", sample.prompt, row["prompt"]


def longlora_lengths(row: Row) -> Pairs:
    yield "n_garbage", list(LongLora().sizes), row["n_garbage"]


def yarn_hard(row: Row) -> Pairs:
    variant = YarnHard(row["docs"], row["num_keys"])
    plan, sample = variant.plan(row["seed"], row["n_docs"]), variant.draw(row["seed"], row["n_docs"])
    yield "n_docs", len(row["docs"]), row["n_docs"]
    yield "pass_keys", plan.keys, row["pass_keys"]
    yield "start_pos", plan.positions, row["start_pos"]
    yield "target", plan.target, row["target"]
    yield "key", sample.key, str(row["pass_keys"][row["target"]])
    yield "question", sample.prompt[-len(row["question"]) :], row["question"]
    yield "prompt_sha256", sha256_bytes(sample.prompt), row["prompt_sha256"]
