"""Pass keys from files in Self-Extend's form: Jin et al. 2024, arXiv:2401.01325, example.py.

A line is {"input": garbage with the key, "target": the key, "passkey_position": where it is}.
"""

from collections.abc import Iterator

from longjax.evals.context import EvalContext
from longjax.evals.passkey.sentences import QUESTION
from longjax.evals.requests import GenerationRequest, Record, Task
from longjax.files import sha256_file

HOLDS = "Self-Extend's pass keys, .jsonl files of {input, target, passkey_position}"
SOURCE = "the examples in Self-Extend's repository (passkey_examples.jsonl)"


def tasks(material: EvalContext) -> Iterator[Task]:
    """-> a task a file of passkey/."""
    folder = material.find_file(["passkey"], HOLDS, SOURCE)
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise ValueError(f"{folder} holds no .jsonl file: {HOLDS}. Get it from {SOURCE}")
    for path in paths:
        lines, bad = material.read_jsonl(path, ["input", "target", "passkey_position"])
        questions = [self_extend_request(material, line) for line in lines[: material.max_examples]]
        length = len(questions[0].tokens_T) + questions[0].max_new_tokens
        for asked in questions:
            asked.metadata["length"] = length
        settings = {"data_sha256": sha256_file(path), "bad_lines": bad}
        yield Task(f"passkey/self_extend/{path.stem}", questions, settings)


def self_extend_request(material: EvalContext, line: Record) -> GenerationRequest:
    """The question follows without a line's end, and ends in a blank; as many tokens as the key has characters."""
    text, key = str(line["input"]), str(line["target"]).strip()
    about = {"variant": "self_extend", "cell": None, "key": key, "position": line["passkey_position"]}
    depth = text.find(key) / max(1, len(text))
    return GenerationRequest(
        material.ids(f"{text}{QUESTION} "), {**about, "depth": depth, "rule": "number"}, max(1, len(key))
    )
