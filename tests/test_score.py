"""The study's evaluators with a model: from the text to the rows, through everything between."""

import dataclasses

import jax
import numpy as np
import pytest

from longjax.attention.core import TokenPositions
from longjax.config import TINY
from longjax.data import passkey_text
from longjax.evals.benchmarks import score
from longjax.evals.evaluator import evaluate_in_memory
from longjax.evals.passkey import PasskeyGrid
from longjax.evals.perplexity import PerplexityTest, from_store
from longjax.inference.engine import InferenceEngine
from longjax.model.llama import Llama, logits
from shape_names import checked
from small_data import token_stream

VOCAB, LENGTHS = 420, (48, 96)
MODEL = Llama(dataclasses.replace(TINY, vocab=VOCAB))


@pytest.fixture(scope="module")
def params():
    one = np.zeros((1, 8), np.int32)
    return jax.jit(MODEL.init, static_argnums=3)(jax.random.key(0), one, TokenPositions.whole(1, 8), 8)["params"]


@pytest.fixture
def subject(params, tokens):
    return InferenceEngine(MODEL, params, tokens, {}, batch_tokens=256)


def next_logits(params, rows):
    """-> in float64, of the token after each; by the whole rows at once."""
    where = TokenPositions.whole(*rows.shape)
    hidden, _ = jax.jit(MODEL.apply, static_argnums=3)({"params": params}, rows, where, rows.shape[1])
    return np.asarray(logits(params, hidden), np.float64)


def log_p(params, rows):
    """-> of each token but the first of a row; and whether it is the likeliest."""
    x = next_logits(params, rows)[:, :-1]
    said = np.take_along_axis(x, rows[:, 1:, None], -1)[..., 0]
    return said - np.log(np.exp(x).sum(-1)), said == x.max(-1)


def test_perplexity_is_that_of_the_logits(store, params, subject):
    """Rows of 48 tokens are asked in buckets of 64, a few a call; buckets of positions hold one position each."""
    short, long = PerplexityTest("nested", num_windows=3, ppl_buckets=95).tasks_of(from_store(store), LENGTHS)
    for task, length in ((short, 48), (long, 96)):
        assert len(subject.plan(task.requests).batches) > 1
        whole, *places = score(evaluate_in_memory(task, subject))
        want, hit = log_p(params, np.stack([q.tokens_T for q in task.requests]))
        assert want.shape == (3 * 96 // length, length - 1)
        assert whole["nll"] == pytest.approx(-want.mean(), rel=1e-6)  # float32 sums of 420 exponentials
        assert whole["value"] == pytest.approx(np.exp(-want.mean()), rel=1e-5)
        assert whole["accuracy"] == pytest.approx(hit.mean())
        np.testing.assert_allclose(whole["pieces"], -want.reshape(3, -1).mean(axis=1), rtol=2e-6)
    np.testing.assert_allclose([row["value"] for row in places], -want.mean(axis=0), rtol=1e-5)  # single logits
    assert [row["position"] for row in places] == list(range(1, 96))


def test_keys_that_the_model_would_say_are_found(store, tokens, params, subject):
    """Greedy decoding by whole rows gives each prompt the key that is found; of every other the third digit is not."""
    task = PasskeyGrid(
        token_stream(store, "test"), passkey_text.PasskeyText.from_tokenizer(tokens), depths=(0.0, 1.0), samples=6
    ).task(96)
    assert {row["value"] for row in score(evaluate_in_memory(task, subject))} == {0}  # untrained: five digits by chance
    rows = np.stack([q.tokens_T for q in task.requests])
    for t in range(96 - passkey_text.DIGITS, 96):
        rows[:, t] = next_logits(params, rows)[:, t - 1].argmax(-1)
        rows[::2, t] += (t == 93) * np.where(rows[::2, t] < VOCAB - 1, 1, -1)
    questions = [dataclasses.replace(q, tokens_T=row) for q, row in zip(task.requests, rows, strict=True)]
    found = score(evaluate_in_memory(dataclasses.replace(task, requests=questions), subject))
    assert [(row["depth"], row["value"]) for row in found] == [(0.0, 0.5), (1.0, 0.5)]
    assert [row["partial"] for row in found] == pytest.approx([0.9, 0.9])


def test_array_names_tell_the_truth(store, subject):
    (task,) = PerplexityTest("nested", num_windows=2).tasks_of(from_store(store), (32,))
    with checked("longjax") as seen:
        score(evaluate_in_memory(task, subject))
    assert {name for _, name in seen} >= {"nll_BT", "hit_BT", "nll_U", "loss_I", "weight_I"}
