import dataclasses
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax import data, recall, text, tokenizer
from longjax.attention import Tokens
from longjax.config import TINY, ModelConfig
from longjax.evals import old_perplexity as ppl
from longjax.evals.old_passkey import Passkey
from longjax.evals.old_perplexity import Perplexity
from longjax.evals.task import Records, in_batches, read_records
from longjax.hf import safetensors
from longjax.hf.convert import from_hf
from longjax.llama import Llama, logits
from longjax.score import Scorer
from shape_names import checked
from test_data import document

VOCAB = 420
LENGTHS = (64, 128, 256)


@pytest.fixture(scope="session")
def documents():
    return [document(f"d{i}", 300) for i in range(60)]


@pytest.fixture(scope="session")
def tokens(documents, tmp_path_factory):
    return tokenizer.train(documents, tmp_path_factory.mktemp("tokenizer") / "sp.model", VOCAB, recall.SENTENCES)


@pytest.fixture(scope="session")
def store(documents, tokens, tmp_path_factory):
    return data.write_store(tmp_path_factory.mktemp("store"), documents, tokens)


@pytest.fixture
def passkey(store, tokens):
    return Passkey(store.stream("test"), recall.Phrases.of(tokens), LENGTHS, samples=6)


def uniform(tokens_BT, length_B):
    nll = np.full(tokens_BT.shape, math.log(VOCAB), np.float32)
    nll[:, 0] = 0
    return nll, np.zeros(tokens_BT.shape, bool)


def by_place(tokens_BT, length_B):
    """A loss that depends on the position alone: 1 at the first target, 1 / 2 at the second, ..."""
    place = np.arange(tokens_BT.shape[1])
    nll = np.where(place > 0, 1 / np.maximum(place, 1), 0)
    return np.broadcast_to(nll, tokens_BT.shape), np.zeros(tokens_BT.shape, bool)


class Looks:
    """Knows the key if its first token, where the needle says it first, is one of the last `window` tokens."""

    def __init__(self, window, before):
        self.window, self.before, self.shapes = window, list(before), set()

    def __call__(self, tokens_BT, length_B):
        self.shapes.add(tokens_BT.shape)
        hit = np.zeros(tokens_BT.shape, bool)
        for b, row in enumerate(tokens_BT.tolist()):
            starts = range(len(row) - len(self.before))
            (said,) = (i + len(self.before) for i in starts if row[i : i + len(self.before)] == self.before)
            asked = len(row) - recall.DIGITS
            if asked - said <= self.window:
                hit[b, asked:] = np.equal(row[said : said + recall.DIGITS], row[asked:])
        return np.zeros(tokens_BT.shape), hit


# Perplexity.


def test_a_uniform_model_has_the_perplexity_of_the_vocabulary(store):
    task = Perplexity(ppl.windows(store, LENGTHS), LENGTHS, buckets=8)
    for length in LENGTHS:
        record, *places = task(uniform, length)
        assert record["value"] == pytest.approx(VOCAB, rel=1e-6)  # float32's log(V)
        assert record["stderr"] == pytest.approx(0, abs=1e-9)
        assert record["n"] == len(task.text_JT) * 256 // length
        assert record["nan"] == 0
        assert len(places) == (8 if length == 256 else 0)


def test_lengths_differ_in_context_and_not_in_text(store):
    seen = {}

    def note(tokens_BT, length_B):
        assert (length_B == tokens_BT.shape[1]).all()
        seen.setdefault(tokens_BT.shape[1], []).extend(tokens_BT.tolist())
        return uniform(tokens_BT, length_B)

    task = Perplexity(ppl.windows(store, LENGTHS), LENGTHS, most=512)
    for length in LENGTHS:
        task(note, length)
    read = [np.concatenate(seen[n])[: task.text_JT.size] for n in LENGTHS]
    np.testing.assert_array_equal(read[0], task.text_JT.ravel())
    np.testing.assert_array_equal(read[0], read[1])
    np.testing.assert_array_equal(read[0], read[2])


def test_windows_lie_within_documents_and_spread_over_all(store):
    windows = ppl.windows(store, (256,), count=10_000)
    assert len(windows) == sum(len(d) // 256 for d in store.documents("test"))
    assert not (windows[:, :-1] == 2).any()  # the end of a document is never in the middle
    few = ppl.windows(store, (256,), count=5)
    np.testing.assert_array_equal(few[[0, -1]], windows[[0, -1]])
    assert len(few) == 5


def test_positions_are_means_over_buckets(store):
    task = Perplexity(ppl.windows(store, (256,)), (256,), buckets=5)
    record, *places = task(by_place, 256)
    want = [np.mean(1 / p) for p in np.array_split(np.arange(1, 256), 5)]
    assert [r["value"] for r in places] == pytest.approx(want, rel=1e-12)
    assert [r["position"] for r in places] == [26, 77, 128, 179, 230]  # middles of 1..51, 52..102, ...
    assert sum(r["n"] for r in places) == 255 * record["n"]
    assert record["nll"] == pytest.approx(np.mean(1 / np.arange(1, 256)), rel=1e-12)


def test_the_standard_error_is_over_independent_pieces():
    """Four pieces of text cut in two give the standard error of four numbers, not of eight."""
    loss = np.array([1.0, 2.0, 4.0, 8.0]).repeat(2)[:, None] * np.ones(7)
    record = ppl.perplexity(loss, cluster=2)
    error = np.std([1, 2, 4, 8], ddof=1) / 2
    assert record["nll_stderr"] == pytest.approx(error, rel=1e-12)
    assert record["stderr"] == pytest.approx(error * math.exp(3.75), rel=1e-12)
    assert record["pieces"] == [1, 2, 4, 8]
    assert record["n"] == 8


def test_windows_without_a_finite_loss_are_counted():
    loss = np.ones((6, 4))
    loss[2, 1], loss[5] = np.nan, np.inf
    record = ppl.perplexity(loss, cluster=1)
    assert record["nan"] == 2
    assert record["n"] == 4
    assert record["value"] == pytest.approx(math.e, rel=1e-12)
    assert record["pieces"] == [1, 1, None, 1, 1, None]
    every = ppl.perplexity(np.full((3, 4), np.nan), cluster=1)
    assert every["value"] is None
    assert every["nan"] == 3
    json.dumps([record, every], allow_nan=False)


def test_too_short_documents_are_named(store):
    with pytest.raises(ValueError, match="the test split has 0 stretches of 999999 tokens"):
        ppl.windows(store, (999_999,))


# Pass keys.


@pytest.mark.parametrize("window", [90, 10_000])
def test_a_key_is_found_where_it_can_be_seen(window, passkey):
    phrases = passkey.phrases
    sentences = 2 * recall.DIGITS + len(phrases.between) + len(phrases.after) + len(phrases.question)
    found = []
    for length in LENGTHS:
        filler = length - phrases.needle_size - phrases.ask_size
        for r in passkey(Looks(window, phrases.before), length):
            behind = filler - round(r["depth"] * filler)
            found.append(r["value"])
            assert r["value"] == r["partial"] == (1.0 if sentences + behind <= window else 0.0)
            assert r["length"] == length
            assert r["n"] == passkey.samples
            assert r["stderr"] == 0
    assert len(found) == len(LENGTHS) * len(passkey.depths)
    assert set(found) == ({1.0} if window > 256 else {0.0, 1.0})


def test_a_key_counts_only_if_all_its_digits_do(passkey):
    def third_wrong(tokens_BT, length_B):
        hit = np.ones(tokens_BT.shape, bool)
        hit[::2, -3] = False
        return np.zeros(tokens_BT.shape), hit

    for r in passkey(third_wrong, 64):
        assert r["value"] == 0.5
        assert r["partial"] == pytest.approx(0.9)
        assert r["stderr"] == pytest.approx(math.sqrt(0.25 / 6))


def test_every_method_gets_the_same_prompts(passkey):
    first = passkey.prompts(128, 0.5)
    np.testing.assert_array_equal(first, passkey.prompts(128, 0.5))
    assert first.shape == (6, 128)
    keys = {tuple(p[-recall.DIGITS :]) for d in passkey.depths for p in passkey.prompts(128, d)}
    assert len(keys) > 25  # of 30


def test_batches_have_one_shape_and_change_nothing(passkey, store):
    looks = Looks(90, passkey.phrases.before)
    want = passkey(looks, 128)
    looks.shapes.clear()
    few = Passkey(passkey.source, passkey.phrases, LENGTHS, samples=6, most=128 * 7)
    assert few(looks, 128) == want
    assert looks.shapes == {(7, 128)}  # 30 prompts in five calls
    rows = ppl.windows(store, (64,), count=10)
    nll, hit = in_batches(by_place, rows, most=64 * 3)
    assert nll.shape == hit.shape == (10, 64)
    np.testing.assert_array_equal(nll, by_place(rows, None)[0])


# Records.

ABOUT = {"method": "pi", "weights": "ema", "kind": "exact trained"}


def test_what_is_done_is_not_done_again(passkey, store, tmp_path):
    tasks = [Perplexity(ppl.windows(store, LENGTHS), LENGTHS, buckets=4), passkey]
    records = Records(tmp_path / "new" / "records.jsonl")
    assert len(records.pending(tasks, ABOUT)) == 6
    for task, length in records.pending(tasks, ABOUT)[:4]:
        records.run(task, length, uniform, ABOUT)
    again = Records(records.path)
    assert again.all == records.all == read_records(records.path)
    assert [(t.name, n) for t, n in again.pending(tasks, ABOUT)] == [("passkey", 128), ("passkey", 256)]
    assert len(again.pending(tasks, ABOUT | {"weights": "raw"})) == 6
    assert len(again.all) == 3 + 4 + 5
    assert {r["task"] for r in again.all} == {"perplexity", "position_nll", "passkey"}
    assert all(r.items() >= ABOUT.items() for r in again.all)


@pytest.mark.parametrize("lost", [1, 40, 300])
def test_a_torn_batch_is_dropped(lost, passkey, tmp_path):
    path = tmp_path / "records.jsonl"
    records = Records(path)
    records.run(passkey, 64, uniform, ABOUT)
    whole = path.read_bytes()
    records.run(passkey, 128, uniform, ABOUT)
    path.write_bytes(path.read_bytes()[:-lost])
    assert len(read_records(path)) == 5
    again = Records(path)
    assert path.read_bytes() == whole
    assert [n for _, n in again.pending([passkey], ABOUT)] == [128, 256]
    again.run(passkey, 128, uniform, ABOUT)
    assert len(Records(path).all) == 10


def test_a_damaged_line_is_named(passkey, tmp_path):
    path = tmp_path / "records.jsonl"
    Records(path).run(passkey, 64, uniform, ABOUT)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:20], *lines[2:]]) + "\n")
    with pytest.raises(ValueError, match=r"records.jsonl, line 2: not a record"):
        Records(path)


# With a model.

GOLDEN = pathlib.Path(__file__).parents[2] / "shared/golden/eval/ppl"


def test_a_model_answers_as_its_logits_say(store, passkey):
    model = Llama(dataclasses.replace(TINY, vocab=VOCAB))
    rows = ppl.windows(store, (64,), count=4)
    where = Tokens.whole(4, 64)
    params = jax.jit(model.init, static_argnums=3)(jax.random.key(0), rows, where, 64)["params"]
    hidden_BTD, _ = jax.jit(model.apply, static_argnums=3)({"params": params}, rows, where, 64)
    log_p = np.asarray(jax.nn.log_softmax(logits(params, hidden_BTD)), np.float64)
    want = -np.mean([log_p[b, t - 1, rows[b, t]] for b in range(4) for t in range(1, 64)])
    record, *_ = Perplexity(rows, (64,), most=256)(Scorer(model, params), 64)
    assert record["nll"] == pytest.approx(want, rel=1e-6)  # float32 sums of 420 exponentials
    few = dataclasses.replace(passkey, most=256)  # the same shape: nothing is compiled again
    assert max(r["value"] for r in few(Scorer(model, params), 64)) == 0  # untrained: five digits by chance


@pytest.mark.skipif(not GOLDEN.exists(), reason="needs the golden vectors beside the repository")
def test_losses_of_the_study_s_own_evaluator():
    """Windows, their mean losses and the loss at each position, from the study's code. Its loss is in float32."""
    weights = safetensors.read(GOLDEN / "model.safetensors")
    cfg = ModelConfig(vocab=128, dim=32, layers=2, heads=4, kv_heads=4, ffn=64, dtype="float32")
    model = Scorer(Llama(cfg), jax.tree.map(jnp.asarray, from_hf(weights, cfg)))
    want = json.loads((GOLDEN / "expected.jsonl").read_text().splitlines()[0])
    tokens = np.fromfile(GOLDEN / "tokens.bin", "<u2")
    rows = np.stack([tokens[i : i + 256] for i in want["window_starts"]]).astype(np.int32)
    record, *places = Perplexity(rows, (256,), buckets=255)(model, 256)
    assert record["nll"] == pytest.approx(want["mean_of_window_means"], rel=1e-6)
    assert record["value"] == pytest.approx(want["expected_val_perplexity"], rel=1e-5)  # theirs is 2.71828 ** loss
    np.testing.assert_allclose(record["pieces"], want["per_window_mean_nll"], rtol=2e-6)
    np.testing.assert_allclose([r["value"] for r in places], want["mean_nll_by_position"], rtol=1e-5)


def test_array_names_tell_the_truth(store, passkey):
    with checked("longjax") as seen:
        Perplexity(ppl.windows(store, LENGTHS), LENGTHS)(uniform, 256)
        passkey(uniform, 64)
    assert {name for _, name in seen} >= {"nll_IU", "loss_I", "tokens_IT", "hit_IT", "index_B"}


def test_splits_are_those_of_the_text(store):
    assert all(store.documents(split) for split in text.SPLITS)
