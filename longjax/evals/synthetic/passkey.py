"""Pass keys in whole lines of garbage, in the schema of Self-Extend's examples (Jin et al. 2024, arXiv:2401.01325).

The sentences are those of Mohtashami and Jaggi 2023, arXiv:2305.16300.
"""

from longjax.evals.passkey import sentences
from longjax.evals.synthetic.settings import Files, SyntheticConfig, to_jsonl

TASK = sentences.TASK.replace("memorize them", "memorize it")  # as Self-Extend has it
KEY = "The pass key is {key}. Remember it. {key} is the pass key."


def files(config: SyntheticConfig) -> Files:
    """Yield passkey/self_extend.jsonl."""
    rows = []
    for rng in config.each("passkey"):
        key, count = str(rng.randint(10_000, 99_999)), max(2, config.words // len(sentences.GARBAGE.split()))
        garbage = [sentences.GARBAGE] * count
        garbage.insert(rng.randint(0, count), KEY.format(key=key))
        text = "\n".join([TASK, *garbage]) + "\n"
        rows.append({"input": text, "target": key, "passkey_position": text.index(key)})
    yield "passkey/self_extend.jsonl", to_jsonl(rows)
