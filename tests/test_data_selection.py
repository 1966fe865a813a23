"""Which documents are chosen: the loop of arXiv:2402.10171's code, with hashes for its random numbers."""

import dataclasses

import numpy as np
import pytest

from longjax import data
from longjax.data import selection as choosing
from longjax.data.selection import Rule, boost_shares, open_selection, save_selection, tokens_by_source
from longjax.data.statistics import summarize
from small_data import sizes_of, store_of

RNG = np.random.default_rng(11)
SIZES = sizes_of(3000, 11, median=80)
NAMES = RNG.choice(["web", "books", "code"], 3000, p=[0.8, 0.15, 0.05]).tolist()
SPLITS = RNG.choice(3, 3000, p=[0.9, 0.05, 0.05])
STORE = store_of(SIZES, NAMES, SPLITS, shards=3)
SHARES = {"web": 0.6, "books": 0.3, "code": 0.1}
RULE = Rule(tokens=60_000, shares=SHARES, keep=0.3, short=200, seed=5)


def loop(store, rule):
    """The algorithm as it is written down, document by document (slimpajama_packing.py, 284-305)."""
    everything = data.select(store, Rule(seed=rule.seed)).docs
    kept = set(data.select(store, Rule(seed=rule.seed, keep=rule.keep, short=10**9)).docs.tolist())
    used, chosen = dict.fromkeys(rule.shares, 0.0), []
    for d in everything.tolist():
        source = store.manifest["sources"][store.docs["source"][d]]
        size = store.docs["characters"][d] / 3.68 if rule.estimate else store.docs["length"][d]
        if used[source] > rule.shares[source] * rule.tokens:
            continue
        if size < rule.short and d not in kept:
            continue
        used[source] += size
        chosen.append(d)
    return chosen


@pytest.mark.parametrize("estimate", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_selection_is_the_loop(estimate, seed):
    rule = dataclasses.replace(RULE, estimate=estimate, seed=seed)
    assert data.select(STORE, rule).docs.tolist() == loop(STORE, rule)


def test_shares_are_kept_to_within_a_document():
    docs = data.select(STORE, RULE).docs
    for i, source in enumerate(STORE.manifest["sources"]):
        mine = SIZES[docs[STORE.docs["source"][docs] == i]]
        budget = SHARES[source] * RULE.tokens
        assert mine.sum() - mine[-1] <= budget < mine.sum()
    assert (SPLITS[docs] == 0).all()
    assert len(set(docs.tolist())) == len(docs)


def test_long_documents_stay_and_short_ones_are_thinned():
    docs = data.select(STORE, Rule(keep=0.3, short=200)).docs
    train = np.flatnonzero(SPLITS == 0)
    long = SIZES >= 200
    assert set(train[long[train]]) <= set(docs.tolist())
    # Binomial, four standard deviations.
    short = (~long[train]).sum()
    assert abs((~long[docs]).sum() - 0.3 * short) < 4 * np.sqrt(0.21 * short)
    held = [SIZES[x][SIZES[x] >= 200].sum() / SIZES[x].sum() for x in (train, docs)]
    assert held[1] > held[0] + 0.1


def test_choices_depend_on_names_alone():
    """Neither shards (and so workers) nor a document's neighbours matter; the seed does."""
    other = data.select(store_of(SIZES, NAMES, SPLITS, shards=7), RULE)
    assert other.docs.tolist() == data.select(STORE, RULE).docs.tolist()
    keep = Rule(keep=0.5, short=10**9)
    few = store_of(SIZES[:1000], NAMES[:1000], SPLITS[:1000])
    kept = set(data.select(STORE, keep).docs.tolist())
    assert set(data.select(few, keep).docs.tolist()) == {d for d in kept if d < 1000}
    assert set(data.select(STORE, dataclasses.replace(keep, seed=1)).docs.tolist()) != kept


def test_all_documents_and_those_of_some():
    all_ = data.select(STORE, Rule())
    assert sorted(all_.docs) == data.select_all(STORE).docs.tolist() == np.flatnonzero(SPLITS == 0).tolist()
    assert (np.diff(all_.docs) < 0).any()
    some = data.select(STORE, Rule(sources=("code",), min_length=100, split="test")).docs
    expected = [i for i in range(3000) if NAMES[i] == "code" and SIZES[i] >= 100 and SPLITS[i] == 2]
    assert sorted(some) == expected
    half = data.select(STORE, Rule(tokens=30_000)).docs
    assert half.tolist() == all_.docs[: len(half)].tolist()
    assert SIZES[half].sum() - SIZES[half[-1]] <= 30_000 < SIZES[half].sum()


def test_a_source_that_runs_out_is_named_or_repeated():
    rule = Rule(tokens=40_000, shares={"code": 1.0, "web": 1.0}, seed=5)
    with pytest.raises(
        ValueError, match=r"code holds \d+ tokens to choose from, and its share is 20000: lower --tokens"
    ):
        data.select(STORE, rule)
    chosen = data.select(STORE, dataclasses.replace(rule, repeat=True))
    with pytest.raises(ValueError, match=r"^--repeat: \d+ passes over code needs [\d,]+ GiB of memory, and there are"):
        data.select(STORE, dataclasses.replace(rule, repeat=True, tokens=2**52))
    times = chosen.metadata["repeated"]["code"]
    code = chosen.docs[np.array(NAMES)[chosen.docs] == "code"]
    counts = np.unique(code, return_counts=True)[1]
    assert set(counts) <= {times - 1, times}
    assert times > 1
    once = len(set(code.tolist()))
    assert code.tolist() == code[np.arange(len(code)) % once].tolist()  # again in the same order


def test_shares():
    tokens = tokens_by_source(STORE)
    assert tokens["web"] == SIZES[[n == "web" and s == 0 for n, s in zip(NAMES, SPLITS, strict=True)]].sum()
    assert boost_shares({"a": 3.0, "b": 1.0}, ["b"], 0.6) == {"a": 0.75, "b": 0.6}
    for shares in choosing.SHARES.values():
        assert sum(shares.values()) == pytest.approx(1.0, abs=2e-8)  # as printed in the code: 1.00000001
    long = choosing.PROLONG["code-by-repo"] + choosing.PROLONG["book"]
    assert long == pytest.approx(0.6)


def test_a_selection_comes_back(tmp_path):
    selection = data.select(STORE, RULE)
    save_selection(selection, tmp_path / "chosen", dataclasses.replace(STORE, folder=tmp_path / "store"))
    again, where = open_selection(tmp_path / "chosen")
    assert again.docs.tolist() == selection.docs.tolist()
    assert again.sha256 == selection.sha256
    assert where.resolve() == tmp_path / "store"
    path = tmp_path / "chosen" / "selection.npy"
    content = path.read_bytes()
    for torn in (content[:-4], content[:-4] + b"\x01\0\0\0", b""):
        path.write_bytes(torn)
        with pytest.raises(ValueError, match=r"selection\.npy"):
            open_selection(tmp_path / "chosen")


def test_user_mistakes_are_named():
    for rule, words in {
        "unknown": (
            lambda: Rule(tokens=9, shares={"wbe": 1.0}),
            "there is no source wbe; the store has books, code, web",
        ),
        "keep": (lambda: Rule(keep=2.0), "--keep=2.0 is a share"),
        "tokens": (lambda: Rule(tokens=0), "--tokens=0 must be positive"),
        "negative": (lambda: Rule(tokens=9, shares={"web": -1.0}), "must be finite, not negative, and not all zero"),
        "alone": (lambda: Rule(shares=SHARES), "--shares needs --tokens"),
    }.values():
        with pytest.raises(ValueError, match=words):
            data.select(STORE, rule())
    with pytest.raises(ValueError, match="--boost=x: the sources are web, books, code"):
        boost_shares(SHARES, ["x"])
    with pytest.raises(ValueError, match=r"--split=test: .* has no documents in it"):
        data.select(store_of([3, 4]), Rule(split="test"))
    plain = store_of([3, 4])
    plain.docs["characters"] = 0
    with pytest.raises(ValueError, match="--estimate needs characters"):
        data.select(plain, Rule(estimate=True))


def test_the_table_counts():
    head, *rows = summarize(STORE, np.arange(3000))
    cells = dict(zip(head.replace(">= ", ">=").split(), rows[-1].split(), strict=True))
    assert cells["source"] == "all"
    assert cells["tokens"] == f"{SIZES.sum():,}"
    assert cells["p100"] == str(SIZES.max())
    assert cells["p50"] == str(np.sort(SIZES)[1500])
    assert cells[">=4K"] == f"{SIZES[SIZES >= 4096].sum() / SIZES.sum():.1%}"
    assert [row.split()[0] for row in rows] == ["books", "code", "web", "all"]
