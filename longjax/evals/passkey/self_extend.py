"""Pass keys from files in Self-Extend's form: Jin et al. 2024, arXiv:2401.01325, example.py.

A line is {"input": garbage with the key, "target": the key, "passkey_position": its position}.
"""

from collections.abc import Iterator

from longjax.evals.context import EvalContext
from longjax.evals.passkey.sentences import QUESTION
from longjax.evals.requests import GenerationRequest, Record, Task
from longjax.files import sha256_file

FIELDS = ("input", "target", "passkey_position")
HOLDS = "Self-Extend's pass keys, .jsonl files of {input, target, passkey_position}"
SOURCE = "the examples in Self-Extend's repository (passkey_examples.jsonl)"


def file_tasks(ctx: EvalContext) -> Iterator[Task]:
    """Yield a task for each file of passkey/. Raises ValueError if there is none."""
    folder = ctx.find_file(["passkey"], HOLDS, SOURCE)
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise ValueError(f"{folder} holds no .jsonl file: {HOLDS}. Get it from {SOURCE}")
    for path in paths:
        lines, bad = ctx.read_jsonl(path, FIELDS, ("input",))
        requests = [self_extend_request(ctx, line) for line in lines[: ctx.max_examples]]
        for request in requests:  # a row of results for each length of a file, so that like prompts stay together
            request.metadata["length"] = two_digits(len(request.tokens_T) + request.max_new_tokens)
        settings = {"data_sha256": sha256_file(path), "bad_lines": bad}
        yield Task(f"passkey/self_extend/{path.stem}", requests, settings)


def two_digits(n: int) -> int:
    """Return a number rounded to its first two digits: 5,146 -> 5,100."""
    return round(n, 2 - len(str(n)))


def self_extend_request(ctx: EvalContext, line: Record) -> GenerationRequest:
    """Return the request of one line.

    The question follows the garbage without a line end, and ends in a blank; the answer has as many tokens as the key
    has characters.
    """
    text, key = line["input"], str(line["target"]).strip()
    metadata = {"variant": "self_extend", "cell": None, "key": key, "position": line["passkey_position"]}
    depth = text.find(key) / max(1, len(text))
    return GenerationRequest(
        ctx.ids(f"{text}{QUESTION} "), {**metadata, "depth": depth, "rule": "number"}, max(1, len(key))
    )
