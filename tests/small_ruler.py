"""Data and tokenizers for tests of RULER: small, of our own making."""

import json
import random
from pathlib import Path

from golden_checks.eval_ruler import StandIn, WordEngine
from longjax.data.tokenizer import Tokenizer
from longjax.evals.context import EvalContext

NOUNS = ["harbor", "lantern", "glacier", "weaver", "orchard", "compass", "beacon", "furnace", "pulley", "meadow"]
VERBS = ["crosses", "guards", "repairs", "follows", "measures", "opens", "counts", "carries"]


class ByteEngine(WordEngine):
    """Every byte is a token, and a text has one that opens it."""

    vocab, opening = 257, (256,)

    def encode(self, texts):
        return [list(text.encode()) for text in texts]


class PairEngine(WordEngine):
    """Two words are a token, so that counts of words do not add up to those of texts."""

    def encode(self, texts):
        return [[1] * -(-len(text.split()) // 2) for text in texts]


class Made(Tokenizer):
    def __init__(self, engine):
        self.path, self.backend, self.opening = Path("made"), engine, ""
        self.__dict__["sha256"] = type(engine).__name__.ljust(64, "0")


def tokenizers():
    model = Path(__file__).parent / "golden" / "eval" / "tokenizer" / "tokenizer.model"
    return {"words": StandIn(), "bytes": Made(ByteEngine()), "pairs": Made(PairEngine()), "pieces": Tokenizer(model, 1)}


def sentence(rng):
    a, b = rng.sample(NOUNS, 2)
    return f"The {a} {rng.choice(VERBS)} the {b}, and {rng.randint(2, 999)} of them {rng.choice('abc')}."


def paragraph(rng, count):
    return " ".join(sentence(rng) for _ in range(count))


def write_data(folder):
    rng = random.Random(0)
    (folder / "haystack").mkdir()
    (folder / "haystack" / "made.txt").write_text("\n\n".join(paragraph(rng, 9) for _ in range(40)))
    (folder / "ruler").mkdir()
    (folder / "ruler" / "squad.json").write_text(json.dumps(squad(rng)))
    (folder / "ruler" / "hotpotqa.json").write_text(json.dumps(hotpotqa(rng)))
    return folder


def squad(rng):
    articles = []
    for a in range(6):
        contexts = [f"{paragraph(rng, 4)} Tower {a}-{i} is {1000 + 10 * a + i} feet high." for i in range(5)]
        articles.append({"title": str(a), "paragraphs": [
            {"context": text, "qas": [
                {"id": f"{a}-{i}", "question": f"How high is tower {a}-{i}?", "is_impossible": False,
                 "answers": [{"text": f"{1000 + 10 * a + i}"}, {"text": f"{1000 + 10 * a + i} feet"}]},
                {"id": f"{a}-{i}-no", "question": "Why?", "is_impossible": True, "answers": []},
            ]}
            for i, text in enumerate(contexts)
        ]})  # fmt: skip
    return {"data": articles}


def hotpotqa(rng):
    return [
        {
            "_id": f"h{i}", "question": f"Which is older, Bridge {i}-0 or Bridge {i}-1?", "answer": f"Bridge {i}-1",
            "context": [[f"Bridge {i}-{k}", [sentence(rng) + " ", sentence(rng)]] for k in range(10)],
            "supporting_facts": [[f"Bridge {i}-0", 0], [f"Bridge {i}-1", 1]],
        }
        for i in range(8)
    ]  # fmt: skip


def make_context(folder, tokenizer, *lengths, **more):
    return EvalContext(folder, tokenizer, lengths, **more)
