"""Laws of packing: which tokens stand in which row, whom they see, what is learned."""

import hashlib
import math

import numpy as np
import pytest

from longjax import data
from longjax.data import passkey_text, recall_rows
from longjax.data.packing import split_documents
from longjax.data.rows import OffsetSource
from longjax.data.store import DOC
from shape_names import checked
from small_data import sizes_of, store_of

ALGORITHMS = {
    "concat": data.Concat(),
    "tails": data.ConcatTails(8),
    "single": data.Single(),
    "intact": data.Intact(),
    "best_fit": data.BestFit(),
    "whole": data.Whole(),
}
T = 64


def planned(store, algorithm, length=T, doc_mask=False, seed=0):
    return data.pack(store, data.select_all(store), algorithm, length, doc_mask, seed)


def every(plan):
    """-> all rows, in the plan's own order."""
    return plan.rows(np.arange(len(plan)))


def digest(*arrays):
    return hashlib.sha256(b"".join(x.tobytes() for x in arrays)).hexdigest()[:16]


def test_the_rows_of_the_demo_are_frozen():
    """Hashes of what version 0.1 gave, when a plan was the split's stream cut into rows."""
    docs = np.zeros(3, DOC)
    docs["start"], docs["length"], docs["split"] = (0, 12000, 19011), (12000, 7011, 1000), (0, 0, 2)
    tokens = np.random.default_rng(7).integers(0, 512, 20011).astype("<u2")
    store = data.TokenStore(
        {"docs": "", "vocab": 512, "shards": [{"sha256": ""}], "sources": ["text"]}, docs, (tokens,)
    )
    plan = planned(store, data.Concat(), 128, seed=3)
    phrases = passkey_text.PasskeyText(
        *(tuple(range(*x)) for x in ((20, 30), (30, 36), (36, 44), (44, 60), (300, 310)))
    )
    assert digest(plan(200, 40).tokens_BS) == "21b64bff45f51627"
    assert digest(*recall_rows.RecallMixture(plan, phrases, seed=2)(200, 40)[:2]) == "c0b02d39b624d395"
    other = recall_rows.RecallMixture(plan, phrases, passkey=0.5, repeat=0.3, segment=24, long=0.0, seed=2)
    assert digest(*other(200, 40)[:2]) == "5d3288fc5ded0e31"


# Algorithms.


@pytest.mark.parametrize("seed", range(5))
def test_longer_rows_hold_the_tokens_of_shorter_ones(seed):
    store = store_of(sizes_of(200, seed), shards=3)
    short, long = every(planned(store, data.Concat())), every(planned(store, data.Concat(), 2 * T))
    n = len(long.tokens_BS)
    assert len(short.tokens_BS) // 2 == n
    np.testing.assert_array_equal(long.tokens_BS[:, :T], short.tokens_BS[: 2 * n : 2, :T])
    np.testing.assert_array_equal(long.tokens_BS[:, T:], short.tokens_BS[1 : 2 * n : 2])


def test_concat_is_the_stream_of_the_selected_documents():
    store = store_of(sizes_of(100), shards=2)
    chosen = data.select(store, data.Rule(seed=4))
    plan = data.pack(store, chosen, data.Concat(), T)
    doc = store.docs[chosen.docs]
    stream = np.concatenate([np.arange(d["start"], d["start"] + d["length"]) for d in doc])
    assert len(plan) == (len(stream) - 1) // T
    rows = every(plan)
    np.testing.assert_array_equal(rows.tokens_BS[:, :-1].ravel(), stream[: len(plan) * T])
    np.testing.assert_array_equal(rows.tokens_BS[:, 1:].ravel(), stream[1 : len(plan) * T + 1])
    assert rows.weights_BT.all()
    assert rows.start_BT is None


def test_tails_of_any_length_are_concat():
    store = store_of(sizes_of(300, 1))
    a, b = planned(store, data.ConcatTails(0)), planned(store, data.Concat())
    assert a.spans.sha256 == b.spans.sha256


@pytest.mark.parametrize("least", [8, 40, T])
def test_only_long_tails_go_on(least):
    sizes = sizes_of(300, 2)
    spans = planned(store_of(sizes), data.ConcatTails(least)).spans
    begin = spans.start - (np.cumsum(sizes) - sizes)[spans.doc]
    tails = begin > 0
    assert tails.sum() > 10
    assert ((sizes[spans.doc] - begin)[tails] > least).all()
    assert np.isin(np.flatnonzero(tails), spans.row_ptr).all()  # a tail begins its row
    assert (np.add.reduceat(spans.size, spans.row_ptr[:-1]) == T + 1).all()


def test_rows_of_long_documents_are_single():
    sizes = T + 1 + np.arange(3 * T)
    for algorithm in (data.ConcatTails(T), data.Single()):
        spans = planned(store_of(sizes), algorithm).spans
        assert len(spans.doc) == len(spans.row_ptr) - 1 == ((sizes - 1) // T).sum()
    assert len(planned(store_of(sizes), data.ConcatTails(T - 1)).spans.doc) > ((sizes - 1) // T).sum()


@pytest.mark.parametrize("name", ["intact", "best_fit"])
def test_every_token_is_predicted_once_where_nothing_is_dropped(name):
    store = store_of(sizes_of(300, 5), shards=4)
    rows = every(planned(store, ALGORITHMS[name], doc_mask=True))
    learned = rows.tokens_BS[:, 1:][rows.weights_BT > 0]
    first = store.docs["start"]
    assert sorted(learned) == sorted(set(range(len(np.concatenate(store.shards)))) - set(first.tolist()))


def test_best_fit_is_that_of_a_slow_search():
    sizes = np.random.default_rng(0).integers(1, T + 2, 200)
    rooms = []
    for size in sorted(sizes.tolist(), reverse=True):
        fitting = [room for room in rooms if room >= size]
        if fitting:
            rooms.remove(min(fitting))
        rooms.append((min(fitting) if fitting else T + 1) - size)
    spans = planned(store_of(sizes), data.BestFit()).spans
    assert sorted(T + 1 - np.add.reduceat(spans.size.astype(int), spans.row_ptr[:-1])) == sorted(rooms)
    assert len(rooms) <= 11 / 9 * math.ceil(sizes.sum() / (T + 1)) + 1  # Johnson's bound


def test_documents_that_fit_are_not_cut():
    sizes = sizes_of(300, 6)
    for name in ("best_fit", "whole"):
        spans = planned(store_of(sizes), ALGORITHMS[name]).spans
        assert (spans.size[sizes[spans.doc] <= T + 1] == sizes[spans.doc][sizes[spans.doc] <= T + 1]).all()
    assert set(spans.doc) == set(np.flatnonzero(sizes <= T + 1))  # whole: all of these, and no others
    plan = planned(store_of(sizes), data.Whole())
    assert plan.metadata["dropped_documents"] == (sizes > T + 1).sum() > 0


def test_spans_of_a_document_share_a_token():
    assert split_documents(np.array([1, 4, 5, 8, 9, 10]), 4) == [
        (0, 0, 1), (1, 0, 4), (2, 0, 5), (3, 0, 5), (3, 4, 4), (4, 0, 5), (4, 4, 5), (5, 0, 5), (5, 4, 5), (5, 8, 2)
    ]  # fmt: skip


@pytest.mark.parametrize("name", ALGORITHMS)
def test_masks_by_the_token(name):
    """Token by token, from the list of documents alone."""
    store = store_of(sizes_of(120, 7), shards=3)
    plan = planned(store, ALGORITHMS[name], doc_mask=True)
    rows = every(plan)
    doc_of = np.repeat(np.arange(len(store.docs)), store.docs["length"])
    padded = 0
    for r in range(len(plan)):
        real = int(plan.spans.size[plan.spans.row_ptr[r] : plan.spans.row_ptr[r + 1]].sum())
        padded += T + 1 - real
        for t in range(T):
            same = t + 1 < real and doc_of[rows.tokens_BS[r, t]] == doc_of[rows.tokens_BS[r, t + 1]]
            assert rows.weights_BT[r, t] == same
            first = t
            while first and (first >= real) == (t >= real) and rows.start_BT[r, t] < first:
                first -= 1
            assert rows.start_BT[r, t] == first
            if 0 < first < real:
                assert doc_of[rows.tokens_BS[r, first - 1]] != doc_of[rows.tokens_BS[r, first]]
            if t < real:
                assert len(set(doc_of[rows.tokens_BS[r, first : t + 1]])) == 1
    assert (padded > 0) == (name in ("intact", "best_fit", "whole"))


def test_tokens_that_are_only_read_have_no_weight():
    plain = store_of(sizes_of(50, 8), shards=2)
    learned = [np.random.default_rng(k).integers(0, 2, len(x)).astype(np.uint8) for k, x in enumerate(plain.shards)]
    store = data.TokenStore(plain.manifest, plain.docs, plain.shards, tuple(learned))
    rows = every(planned(store, data.Concat()))
    np.testing.assert_array_equal(rows.weights_BT, np.concatenate(learned)[rows.tokens_BS[:, 1:]])


def test_a_plan_needs_a_row():
    with pytest.raises(ValueError, match=r"--length=999 is too long: the train split has \d+ tokens"):
        planned(store_of([100, 200]), data.Concat(), 999)
    with pytest.raises(ValueError, match="--length=99 is too long"):
        planned(store_of([100, 200], splits=[1, 1]), data.Concat(), 99)


# Order, mixtures, curricula.


def sources():
    a = planned(store_of(sizes_of(300, 9), shards=2), data.Concat(), seed=1)
    b = planned(store_of(sizes_of(200, 10)), data.BestFit(), doc_mask=True, seed=1)
    mixed = data.Mixed((a, b), (0.6, 0.4), block=10)
    return {"plan": b, "mixed": mixed, "curriculum": data.Curriculum((a, mixed, b), (7, 13, 5))}


@pytest.mark.parametrize("name", ["plan", "mixed", "curriculum"])
def test_rows_are_a_function_of_their_number(name):
    """What a run sees after a kill, with any batch and any number of hosts, is what it would have seen."""
    source, far = sources()[name], 10_000
    for first in (0, far):
        whole = source(first, 40)
        for sizes in ([1] * 40, [3, 7, 30], [16, 24]):
            at, parts = first, []
            for size in sizes:
                parts.append(source(at, size))
                at += size
            np.testing.assert_array_equal(np.concatenate([p.tokens_BS for p in parts]), whole.tokens_BS)
            np.testing.assert_array_equal(np.concatenate([p.weights_BT for p in parts]), whole.weights_BT)
            starts = [np.zeros((len(p.tokens_BS), T), int) if p.start_BT is None else p.start_BT for p in parts]
            np.testing.assert_array_equal(np.concatenate(starts), whole.start_BT)
    assert whole.tokens_BS.dtype == whole.start_BT.dtype == np.int32
    assert whole.weights_BT.dtype == np.float32
    assert source.length == T
    assert source.documents(0, 3)


def test_shares_of_a_mixture_are_exact_in_every_block():
    a, b, c = (planned(store_of(sizes_of(200, k)), data.Concat(), seed=k) for k in range(3))
    mixed = data.Mixed((a, b, c), (0.3, 0.3, 0.4), block=16)
    assert mixed.quotas.tolist() == [5, 5, 6]
    plan_I, row_I = mixed.locate(np.arange(16 * 50))
    for block in plan_I.reshape(50, 16):
        assert np.bincount(block).tolist() == [5, 5, 6]
    for k in range(3):  # no row is left out or comes twice
        assert sorted(row_I[plan_I == k]) == list(range(50 * mixed.quotas[k]))
    assert len({tuple(block) for block in plan_I.reshape(50, 16)}) > 40
    assert data.Mixed((a, b, c), (30, 30, 40), 16, seed=1).sha256 != mixed.sha256
    with pytest.raises(ValueError, match=r"--block=10 is too small for a share of 0\.01"):
        data.Mixed((a, b), (0.99, 0.01), 10)
    with pytest.raises(ValueError, match="rows of 32 and 64 tokens cannot be mixed"):
        data.Mixed((a, planned(store_of([99, 99]), data.Concat(), 32)), (1, 1))


def test_a_curriculum_goes_through_each_plan_from_its_beginning():
    parts = sources()
    a, mixed, b = parts["curriculum"].plans
    rows = parts["curriculum"](0, 40)
    np.testing.assert_array_equal(rows.tokens_BS[:7], a(0, 7).tokens_BS)
    np.testing.assert_array_equal(rows.tokens_BS[7:20], mixed(0, 13).tokens_BS)
    np.testing.assert_array_equal(rows.tokens_BS[20:], b(0, 20).tokens_BS)
    assert (rows.start_BT[:7] == 0).all()  # a knows no documents: its rows are one each
    assert OffsetSource(a, 5).sha256 != a.sha256
    stages = data.StagedSource(((4, a), (9, a), (12, b)))  # the numbers of the whole training
    np.testing.assert_array_equal(stages(2, 9).tokens_BS[:7], a(2, 7).tokens_BS)
    np.testing.assert_array_equal(stages(30, 2).tokens_BS, b(30, 2).tokens_BS)


def test_hashes_see_all_that_makes_rows():
    store, other = store_of(sizes_of(99, 1)), store_of(sizes_of(99, 2))
    plans = [
        planned(store, data.Concat()), planned(store, data.Concat(), doc_mask=True), planned(store, data.BestFit()),
        planned(store, data.Concat(), 32), planned(other, data.Concat()), planned(store, data.Concat(), seed=1),
    ]  # fmt: skip
    assert len({plan.sha256 for plan in plans}) == 6
    assert len({plan.rows_sha256 for plan in plans}) == 5  # the seed orders the same rows
    assert planned(store, data.Concat()).sha256 == plans[0].sha256


def test_array_names_tell_the_truth():
    with checked("longjax") as seen:
        parts = sources()
        parts["curriculum"](0, 30)
        for algorithm in ALGORITHMS.values():
            planned(store_of(sizes_of(60)), algorithm)
    assert {name for _, name in seen} >= {"tokens_BS", "start_BS", "weights_S", "local_J", "count_N", "plan_B", "end_I"}


def test_a_curriculum_has_one_kind_of_batch():
    """Else the trainer would compile its step again in the middle, or stop."""
    store = store_of(sizes_of(200))
    plain, masked = (
        data.pack(store, data.select_all(store), data.Concat(), 64, doc_mask=mask) for mask in (False, True)
    )
    rows = data.Curriculum((plain, masked), (4, 4))
    assert not rows(0, 4).start_BT.any()
    assert rows(4, 4).start_BT.any()
    assert data.Curriculum((plain, plain), (4, 4))(0, 8).start_BT is None
