"""Golden check of RULER: samples of its own generators have the structure that ours have, and the same sizes.

Folders of .jsonl files, a sample a line. Those with the whole input need RULER's prompts in ../prompts; a compact
set has only the `context` of each. Bytes cannot agree, as the random draws are others. What is checked of each row:
its context says what its `analysis` and `outputs` say; a sample of ours of that size says the same, token counts
included where no draw changes them; the input is the context in the benchmark's prompt; and our sizing, on a haystack
and word lists put together from the rows, ends at the same size.
"""

import functools
import json
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from golden_checks import eval_ruler_data
from golden_checks.common import Result
from golden_checks.eval_ruler_facts import FOUND, claimed, facts, items, tokens, without_needles
from golden_checks.exact_case import failure
from longjax.data.tokenizer import Tokenizer
from longjax.evals.context import EvalContext
from longjax.evals.metrics import ruler
from longjax.evals.prompts import RulerPrompt, ruler_prompts
from longjax.evals.ruler.inputs import RulerInputs
from longjax.evals.ruler.length_fitting import FittedSample
from longjax.evals.ruler.niah import single_needle
from longjax.evals.ruler.sample import SampleMaker, SampleSeed
from longjax.evals.ruler.versions import BASES, ESSAY, NIAH, VERSIONS, RulerTask, make_task

Row = dict[str, Any]
SEED = 42
DRAWN = ("niah_multikey_2", "cwe", "qa_1", "qa_2")  # their lengths depend on what is drawn
ONE_STEP = {"cwe": 10, "qa_1": 10, "qa_2": 10, "niah_multikey_2": 25}  # of sizes that do


class StandIn(Tokenizer):
    """A tokenizer of words of letters and digits, and signs, as in the golden rows."""

    def __init__(self):
        self.path, self.backend, self.opening = Path("stand-in"), WordEngine(), ""
        self.__dict__["sha256"] = "0" * 64


class WordEngine:
    path, vocab, eos_id, cuts_at_lines = Path("stand-in"), 1000, -1, True
    opening: tuple[int, ...] = ()
    eos_ids: tuple[int, ...] = ()

    def __init__(self):
        self.added: dict[str, int] = {}

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [[zlib.crc32(token.encode()) % self.vocab for token in tokens(text)] for text in texts]

    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str:
        raise ValueError("a stand-in reads only")

    def begins_anew(self, mark: str) -> bool:
        return True

    def find(self, piece: str) -> int | None:
        return None


def is_ruler(folder: Path) -> bool:
    path = next(iter(sorted(folder.glob("*.jsonl"))), None)
    if path is None:
        return False
    with path.open() as file:
        line = file.readline()
    return '"tokens_to_generate"' in line and '"analysis"' in line and '"max_seq_length"' in line


def results(folder: Path) -> Iterator[Result]:
    """Check every row of every file; one that cannot be read fails, and the others are still checked."""
    rows, broken = [], []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            try:
                rows.append(read(json.loads(line), folder))
            except Exception as error:
                broken.append(failure("ruler", f"{path.stem} {number}", f"{type(error).__name__}: {error}"))
    yield from broken
    with tempfile.TemporaryDirectory() as made:
        peers = Peers(folder, Path(made), rows)
        for row in rows:
            yield checked(peers, row)


def read(row: Row, folder: Path) -> Row:
    """Return the row with its context and its version of RULER. Raises ValueError if it cannot be parsed."""
    row["version"] = "main" if "answer_prefix" in row else "2024"
    if "context" not in row:
        row["context"] = context_of(row, prompt_of(row, folder))
    facts(row["task"], row["context"], row["outputs"])
    return row


def prompt_of(row: Row, folder: Path) -> RulerPrompt:
    prompt = VERSIONS[row["version"]].prompt(ruler_prompts(folder.parent / "prompts")[BASES[row["task"]]])
    return single_needle(prompt) if row["task"] in NIAH and len(row["outputs"]) == 1 else prompt


def context_of(row: Row, prompt: RulerPrompt) -> str:
    """Return the last {context} of a row's input. Raises ValueError unless the input is the prompt with it."""
    kinds = {} if row["task"] not in NIAH else {"type_needle_v": kind(row)}
    head, _, tail = prompt.template.partition("{context}")
    head = head.format(**kinds)
    _, _, rest = row["input"].rpartition(head)
    context = rest[: rest.rindex(tail.partition("{")[0])]
    query = asked(row, context)
    text = prompt.template.format(context=context, query=query, **kinds)
    text += prompt.answer_prefix.format(query=query, num_v=5, **kinds)
    if not row["input"].endswith(text) or (row["task"] not in ("vt", "cwe") and row["input"] != text):
        raise ValueError("the input is not the prompt with its context")
    return context


def kind(row: Row) -> str:
    name = NIAH[row["task"]].value
    return name.removesuffix("s") if len(row["outputs"]) == 1 else name


def asked(row: Row, context: str) -> str:
    """Return the query, found by the row's context and outputs."""
    if row["task"] in NIAH:
        key = {value: key for _, key, value in FOUND.findall(context)}
        keys = list(dict.fromkeys(key[output] for output in row["outputs"]))
        return ", ".join(keys[:-1]) + ", and " + keys[-1] if len(keys) > 1 else keys[0]
    if row["task"] == "vt":
        return row["analysis"]["query_value"]
    return (
        row["analysis"]["question"].removeprefix("Question: ").removesuffix(" Answer:")
        if row["task"][:2] == "qa"
        else ""
    )


class Sized(NamedTuple):
    """Our task of a length, and its first samples."""

    made: RulerTask
    fits: list[FittedSample | None]


class Peers:
    """Our tasks, made of the same data as the rows."""

    def __init__(self, folder: Path, made: Path, rows: Sequence[Row]):
        eval_ruler_data.write(made, rows)
        self.full = (folder.parent / "prompts").exists() and all("input" in row for row in rows)
        self.inputs = RulerInputs(
            EvalContext(made, StandIn(), (), prompts=folder.parent / "prompts" if self.full else None)
        )
        self.bare = RulerInputs(EvalContext(made, StandIn(), (), prompts=eval_ruler_data.bare_prompts(made / "bare")))

    @functools.cache  # noqa: B019 (as long as a check)
    def maker(self, version: str, task: str, length: int) -> SampleMaker:
        """Return the task without text around its context."""
        return make_task(VERSIONS[version], task, length, SEED, self.bare).maker

    @functools.cache  # noqa: B019
    def sized(self, version: str, task: str, length: int) -> Sized:
        made = make_task(VERSIONS[version], task, length, SEED, self.inputs)
        sample_seeds = [SampleSeed(SEED, task, i) for i in range(min(3, made.maker.num_samples))]
        return Sized(made, list(made.sizing(made.maker, made.room, sample_seeds)))


def checked(peers: Peers, row: Row) -> Result:
    """Return the number of faults of a row, with the first of them as note."""
    case = f"{row.get('task')} {row.get('max_seq_length')} {row.get('id')}"
    try:
        faults = [*of_row(row), *of_size(peers, row), *(of_length(peers, row) if peers.full else [])]
    except Exception as error:
        return failure("ruler", case, f"{type(error).__name__}: {error}")
    return Result(f"ruler_{row['version']}", case, float(len(faults)), 0.0, "; ".join(faults[:2]))


def of_row(row: Row) -> Iterator[str]:
    """Check a row against its own analysis and RULER's rule of lengths."""
    said = facts(row["task"], row["context"], row["outputs"])
    claims = claimed(row["task"], row["analysis"], row["context"])
    yield from (f"{name} is {said[name]}, not {claims[name]}" for name in claims if said[name] != claims[name])
    yield from (f"{name} is false" for name, x in said.items() if x is False and name not in ("spaced", "one_a_line"))
    answer = " ".join(row["outputs"])
    if ruler.string_match_all(ruler.cleaned(answer), row["outputs"]) != 1:
        yield "the answers do not score 1"
    over = row["tokens_to_generate"] if (row["task"], row["version"]) == ("fwe", "2024") else 0
    if row["length"] != row["n_tokens_input"] + row["tokens_to_generate"]:
        yield "the length is not that of prompt and answer"
    if row["length"] > row["max_seq_length"] + over:
        yield "the sample is too long"
    if "input" in row and row["n_tokens_input"] != len(tokens(row["input"])):
        yield "the input has another number of tokens"


def size_of(row: Row) -> int | None:
    """Return the size of a sample in units of the task; None: unknown."""
    task, context = row["task"], row["context"]
    if row.get("chosen_size") is not None:
        return row["chosen_size"]
    if task in NIAH:
        return len(without_needles(context)) if NIAH[task].hay == ESSAY else len(context.split("\n")) - 1
    if task == "vt":
        return row["analysis"]["noise_sentences"]
    if task == "cwe":
        return len(set(items(context.split("\n")[-1])))
    return row["analysis"]["n_documents"] if task in ("qa_1", "qa_2") else None


def of_size(peers: Peers, row: Row) -> Iterator[str]:
    """Compare a row with a sample of ours of the same size."""
    size, task = size_of(row), row["task"]
    if size is None:
        return
    ours = peers.maker(row["version"], task, row["max_seq_length"])(SampleSeed(SEED, task, 0), size)
    context = ours.input[: ours.input.rindex(eval_ruler_data.MARK)].rpartition(
        "\n\n" if task == "vt" else eval_ruler_data.MARK
    )[2]
    theirs, mine = facts(task, row["context"], row["outputs"]), facts(task, context, ours.outputs)
    same = theirs.keys() - {"plain", "plain_keys"}  # which depend on the keys that were drawn
    yield from (f"{name} is {theirs[name]}, ours {mine[name]}" for name in same if theirs[name] != mine[name])
    counts = [len(tokens(FOUND.sub("needle", x))) for x in (row["context"], context)]  # keys may be of more tokens
    if task not in DRAWN and counts[0] != counts[1]:
        yield f"its context has {counts[0]} tokens, ours {counts[1]}"


def of_length(peers: Peers, row: Row) -> Iterator[str]:
    """Compare sizes and the text around the context with ours, in the benchmark's prompts."""
    task, limit = row["task"], row["max_seq_length"]
    fits, want = peers.sized(row["version"], task, limit).fits, row.get("chosen_size")
    if fits[0] is None:
        yield "does not fit"
        return
    if want is not None and abs(fits[0].size - want) > ONE_STEP.get(task, 0):
        yield f"its size is {want}, ours {fits[0].size}"
    lengths = {fit.tokens + row["tokens_to_generate"] for fit in fits if fit}
    if max(lengths) > limit + (row["tokens_to_generate"] if task == "fwe" and row["version"] == "2024" else 0):
        yield "ours is too long"
    if task not in (*DRAWN, "niah_multikey_1", "niah_multivalue", "niah_multiquery") and lengths != {row["length"]}:
        yield f"its length is {row['length']}, ours {lengths}"
    if eval_ruler_data.around(row["input"], task) != eval_ruler_data.around(fits[0].sample.text, task):
        yield "what stands around the context is not as in ours"
