"""The base that comes with us: small, read by stock transformers, and one that recalls within its context."""

import dataclasses
import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from longjax.attention.blockwise import Blockwise
from longjax.checkpoints import pretrained
from longjax.cli import stock_logits
from longjax.data import corpus
from longjax.data.tokenizer import Tokenizer
from longjax.evals.benchmarks import score
from longjax.evals.context import EvalContext
from longjax.evals.evaluator import evaluate_in_memory
from longjax.evals.needle import NeedleTest
from longjax.evals.passkey import PasskeyTest
from longjax.inference.engine import InferenceEngine
from longjax.model.llama import Llama
from longjax.study.presets import MINI
from peers import peer

BASE = pathlib.Path(__file__).parent.parent / "longjax" / "bases" / "mini"
CONTEXT = MINI.model.trained_len


def test_it_is_small_and_what_the_preset_says():
    given = pretrained.open_checkpoint(BASE, dtype="float32")
    assert sum(path.stat().st_size for path in BASE.iterdir()) <= 16 * 2**20
    assert sum(np.prod(shape) for shape in given.tensors.shapes().values()) <= 8e6
    assert given.cfg == dataclasses.replace(MINI.model, head_width=MINI.model.dim // MINI.model.heads)
    assert json.loads((BASE / "config.json").read_text())["dtype"] == "bfloat16"


def test_stock_transformers_computes_the_same():
    """Weights are bfloat16 in the file and float32 in both; sums in another order differ by 1e-5 of logits near 10."""
    peer("transformers")
    tokens_BT = np.random.default_rng(0).integers(3, MINI.model.vocab, (2, CONTEXT)).astype(np.int32)
    want = stock_logits.longjax_logits(pretrained.open_checkpoint(BASE, dtype="float32"), tokens_BT)
    got = stock_logits.transformers_logits(BASE, tokens_BT)
    assert got is not None
    assert np.std(want) > 1
    np.testing.assert_allclose(got, want, atol=1e-3)


def test_stock_transformers_reads_the_tokenizer():
    transformers = peer("transformers")
    stock = transformers.AutoTokenizer.from_pretrained(BASE)
    for said in ("def f(x):\n    return {x: 1234.5}  # so\n\n\n", " The pass key is 49283.\tRemember it.", "caf\u00e9"):
        assert stock.encode(said, add_special_tokens=False) == Tokenizer(BASE).encode(said).tolist()


@pytest.fixture(scope="module")
def subject():
    given = pretrained.open_checkpoint(BASE, dtype="float32")
    params = pretrained.load(given.tensors, given.cfg, dtype=jnp.float32)
    model = Llama(given.cfg, backend=Blockwise(256, 256))
    return InferenceEngine(model, params, Tokenizer(BASE), {}, batch_tokens=8192)


@pytest.mark.parametrize(
    "test",
    [
        PasskeyTest("study", passkey_samples=20), NeedleTest("number", needle_depths=64, needle_buffer=112),
        NeedleTest("sentence", needle_depths=32, needle_buffer=112),
    ],
    ids=["pass keys", "numbers", "sentences"],
)  # fmt: skip
def test_it_recalls_within_its_context(subject, tmp_path, test):
    """Of text that it has not seen: 95 % of 100 keys, 64 numbers, 32 sentences (facts named)."""
    (tmp_path / "haystack").mkdir()
    unseen = [document.text for document in corpus.collect_documents(None, 3_000_000) if document.split == "test"]
    (tmp_path / "haystack" / "unseen.txt").write_text("\n".join(unseen))
    ctx = EvalContext(tmp_path, subject.tokenizer, (CONTEXT,), trained_len=CONTEXT)
    (task,) = test.tasks(ctx)
    assert np.mean([row["value"] for row in score(evaluate_in_memory(task, subject))]) >= 0.95
