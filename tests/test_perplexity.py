import dataclasses
import itertools
import json
import math
import os
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest

from fake_model import VOCAB, records, uniform
from golden_checks import eval_ppl
from longjax.evals.context import EvalContext
from longjax.evals.perplexity import PerplexityTest, from_store, read_texts, score
from longjax.evals.perplexity.protocols import Sliding, Strided, WithoutMemory, spans
from longjax.evals.perplexity.text import concat_documents
from longjax.evals.requests import LoglikelihoodResult
from shape_names import checked

LENGTHS = (64, 128, 256)
HERE = Path(__file__).parent / "golden" / "eval" / "ppl"
SHARED = Path(__file__).parents[2] / "shared" / "golden" / "eval" / "ppl"


@pytest.fixture(scope="session")
def split(store):
    return from_store(store)


def made(*sizes):
    """Documents of these sizes, each opened by 1; all other ids differ."""
    ends = np.cumsum([0, *sizes])
    ids = np.arange(ends[-1], dtype=np.int32) + 10
    parts = [np.concatenate([[1], ids[a + 1 : b]]).astype(np.int32) for a, b in itertools.pairwise(ends)]
    return concat_documents("made", parts, True, "", "made")


def by_place(questions):
    """A loss that depends on the place alone: 1 at the first target, 1 / 2 at the second, ..."""
    places = [np.arange(q.first_scored, len(q.tokens_T)) for q in questions]
    return [LoglikelihoodResult((1 / p).astype(np.float32), p % 2 == 0) for p in places]


def by_token(questions):
    """A loss that depends on the token alone."""
    scored = [q.tokens_T[q.first_scored :] for q in questions]
    return [LoglikelihoodResult(np.sin(ids_U).astype(np.float32) + 1, ids_U > 0) for ids_U in scored]


def rows(task, ask):
    whole, *places = score(records(task, ask))
    return whole, places


def nested(split, lengths=LENGTHS, **settings):
    return PerplexityTest("nested", **settings).tasks_of(split, lengths)


# Nested windows, of which the study is made.


def test_a_uniform_model_has_the_perplexity_of_the_vocabulary(split):
    for task, length in zip(nested(split, num_windows=16, ppl_buckets=8), LENGTHS, strict=True):
        row, places = rows(task, uniform)
        assert row["value"] == pytest.approx(VOCAB, rel=1e-6)  # float32's log(V)
        assert row["stderr"] == pytest.approx(0, abs=1e-9)
        assert row["n"] == len(row["pieces"]) * 256 // length
        assert row["nan"] == 0
        assert len(places) == (8 if length == 256 else 0)
        assert (row["benchmark"], row["task"], row["protocol"]) == ("perplexity", "perplexity", "nested")
        assert task.name == f"perplexity/nested/test/{length}"


def test_lengths_differ_in_context_and_not_in_text(split):
    read = [np.concatenate([q.tokens_T for q in task.requests]) for task in nested(split)]
    np.testing.assert_array_equal(read[0], read[1])
    np.testing.assert_array_equal(read[0], read[2])


def test_windows_lie_within_documents_and_spread_over_all(store, split):
    (task,) = nested(split, (256,))
    windows = np.stack([q.tokens_T for q in task.requests])
    assert len(windows) == sum(len(d) // 256 for d in store.documents("test"))
    assert not (windows[:, :-1] == 2).any()  # the end of a document is never in the middle
    (few,) = nested(split, (256,), num_windows=5)
    np.testing.assert_array_equal([few.requests[i].tokens_T for i in (0, -1)], windows[[0, -1]])
    assert len(few.requests) == 5
    (short,) = [task for task in nested(split) if task.name.endswith("/64")]
    for q in (*few.requests, *short.requests):
        want = store.documents("test")[q.metadata["document"]][q.metadata["start"] :][: len(q.tokens_T)]
        np.testing.assert_array_equal(q.tokens_T, want)


def test_positions_are_means_over_buckets(split):
    (task,) = nested(split, (256,), ppl_buckets=5)
    row, places = rows(task, by_place)
    want = [np.mean(1 / p) for p in np.array_split(np.arange(1, 256), 5)]
    assert [r["value"] for r in places] == pytest.approx(want, rel=1e-7)  # losses are float32
    assert [r["position"] for r in places] == [26, 77, 128, 179, 230]  # middles of 1..51, 52..102, ...
    assert sum(r["n"] for r in places) == 255 * row["n"]
    assert row["nll"] == pytest.approx(np.mean(1 / np.arange(1, 256)), rel=1e-7)
    assert row["accuracy"] == pytest.approx(127 / 255)
    assert all(r["task"] == "position_nll" and r["length"] == 256 for r in places)


def window(loss, piece, n=7, weight=1.0):
    about = {"protocol": "nested", "data": "x", "length": 8, "piece": piece, "weight": weight}
    return about | {"nll": None if loss is None else loss * n, "n": n, "hits": 0}


def test_the_standard_error_is_over_independent_pieces():
    """Four pieces of text cut in two give the standard error of four numbers, not of eight."""
    (row,) = score([window(loss, piece) for piece, loss in enumerate([1.0, 2.0, 4.0, 8.0]) for _ in range(2)])
    error = np.std([1, 2, 4, 8], ddof=1) / 2
    assert row["nll_stderr"] == pytest.approx(error, rel=1e-12)
    assert row["stderr"] == pytest.approx(error * math.exp(3.75), rel=1e-12)
    assert row["pieces"] == [1, 2, 4, 8]
    assert row["n"] == 8


def test_windows_without_a_finite_loss_are_counted():
    (row,) = score([window(loss, piece) for piece, loss in enumerate([1.0, 1.0, None, 1.0, 1.0, None])])
    assert row["nan"] == 2
    assert row["n"] == 4
    assert row["value"] == pytest.approx(math.e, rel=1e-12)
    assert row["lceg"] == pytest.approx(2.71828, rel=1e-12)
    assert row["pieces"] == [1, 1, None, 1, 1, None]
    (every,) = score([window(None, piece) for piece in range(3)])
    assert every["value"] is None
    assert every["nan"] == 3
    json.dumps([row, every], allow_nan=False)


def test_a_loss_beyond_all_numbers_has_a_perplexity():
    (row,) = score([window(800.0, 0)])
    assert row["value"] == math.exp(700)


def test_one_piece_has_no_standard_error():
    (row,) = score([window(1.0, 0), window(2.0, 0)])
    assert (row["stderr"], row["nll_stderr"]) == (None, None)
    assert row["nll"] == 1.5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_no_number_is_kept_as_such(bad, split):
    def ask(questions):
        answers = by_place(questions)
        answers[1].nll_U[3] = bad
        return answers

    (task,) = nested(split, (64,))
    kept = records(task, ask)
    assert kept[1]["nll"] is None
    json.dumps(kept, allow_nan=False)
    row, places = rows(task, ask)
    assert row["nan"] == 1
    assert {r["n"] for r in places} <= {row["n"], 2 * row["n"]}  # 63 places in 32 buckets, of the good windows


def test_too_short_documents_are_named(split):
    with pytest.raises(ValueError, match=r"the test split of .* has 0 stretches of 999999 tokens"):
        nested(split, (999_999,))


# The protocols of others.


def test_the_study_reads_ten_documents_and_leaves_out_the_last_window():
    source = made(*[40] * 12)
    found = Sliding(16, 10)(source, 64)
    assert [w.start for w in found] == list(range(0, 400 - 64, 16))[:-1]
    assert [w.document for w in found][:4] == [0, 0, 0, 1]  # 0, 16, 32, 48: windows cross documents
    assert len(Sliding(16)(source, 64)) == len(range(0, 480 - 64, 16)) - 1
    np.testing.assert_array_equal(found[3].tokens_T, source.ids[48:112])


@pytest.mark.parametrize("stride", [5, 16, 30])
@pytest.mark.parametrize("begin", [-1, 7])
def test_strided_windows_score_every_token_once(stride, begin):
    """All but the first of a document, if nothing stands before it."""
    source = made(100, 31, 3, 1, 64)
    found = Strided(stride, begin)(source, 32)
    scored = np.concatenate([w.tokens_T[w.first_scored :] for w in found])
    bodies = [d[1:] if begin >= 0 else d[2:] for _, d in source.documents()]
    np.testing.assert_array_equal(scored, np.concatenate(bodies))
    assert max(len(w.tokens_T) for w in found) == 32
    assert all(w.weight == len(w.tokens_T) - w.first_scored for w in found)
    assert begin < 0 or all(w.tokens_T[0] == begin for w in found)
    full = [w for w in found if w.start > 0]
    assert all(w.first_scored >= min(32 - stride, len(w.tokens_T) - stride) for w in full)


def test_strides_over_the_length_lose_no_token():
    """With an opening token a window has room for 31, as the default stride must notice."""
    source = made(100)
    (task,) = PerplexityTest().tasks_of(source, [32], bos_id=7)
    scored = np.concatenate([q.tokens_T[q.first_scored :] for q in task.requests])
    np.testing.assert_array_equal(scored, source.ids[1:])


def test_buckets_add_up_to_the_whole():
    """Windows at the end of a document fill buckets otherwise than its first."""
    (task,) = PerplexityTest(ppl_stride=13, ppl_buckets=7).tasks_of(made(100, 77), [40], bos_id=7)
    row, places = rows(task, by_token)
    total = sum(r["value"] * r["n"] for r in places)
    assert sum(r["n"] for r in places) == 99 + 76
    assert total / 175 == pytest.approx(row["nll"], rel=1e-12)


def test_windows_that_do_not_overlap_see_nothing_before_them():
    found = Strided(None, 7)(made(100), 32)
    assert [len(w.tokens_T) for w in found] == [32, 32, 32, 1 + 99 - 93]
    assert all(w.first_scored == 1 for w in found)


def test_yarn_s_windows_weigh_equally_and_ours_by_tokens():
    """By hand: 99 tokens after the opening one are scored in groups of 49, 49 and 1."""
    source = made(100)
    (equal,) = PerplexityTest("yarn", ppl_stride=49).tasks_of(source, [50], bos_id=7)
    (honest,) = PerplexityTest("strided", ppl_stride=49).tasks_of(source, [50], bos_id=7)
    loss = np.sin(source.ids[1:]).astype(np.float32) + np.float32(1)
    groups = [loss[:49], loss[49:98], loss[98:]]
    assert rows(equal, by_token)[0]["nll"] == pytest.approx(np.mean([g.mean() for g in groups]), rel=1e-6)
    assert rows(honest, by_token)[0]["nll"] == pytest.approx(loss.mean(), rel=1e-6)
    (short,) = PerplexityTest("yarn", ppl_stride=49, ppl_truncate=True).tasks_of(source, [50], bos_id=7)
    assert rows(short, by_token)[0]["nll"] == pytest.approx(groups[0].mean(), rel=1e-6)


def test_short_documents_can_be_left_out():
    """The first two of those with at least 40 tokens, as YaRN chooses books of Proof-pile."""
    (task,) = PerplexityTest("yarn", ppl_least=40, ppl_documents=2, ppl_truncate=True).tasks_of(
        made(39, 40, 20, 50, 60), [32]
    )
    assert [q.metadata["document"] for q in task.requests] == [1, 3]


def test_spans_end_with_the_document():
    assert spans(299, 255, 256) == [(0, 255, 255), (256, 299, 44)]  # as released: token 255 is lost
    assert spans(10, 10, 5) == [(0, 10, 10)]
    assert spans(0, 10, 5) == []


def test_parts_forget_what_was_before_them():
    source = made(*[40] * 12)
    found = WithoutMemory(Sliding(16, 10), 24)(source, 64)
    assert [len(w.tokens_T) for w in found[:4]] == [24, 24, 16, 24]
    assert [w.offset for w in found[:4]] == [0, 24, 48, 0]
    assert sum(w.weight for w in found[:3]) == pytest.approx(1)
    np.testing.assert_array_equal(np.concatenate([w.tokens_T for w in found[3:6]]), source.ids[16:80])


def test_landmark_s_parts_weigh_by_length():
    """A loss that grows with the place in a part: 512 targets of one part, then 88 of the other."""
    source = made(*[400] * 10)
    (task,) = PerplexityTest("landmark_lceg", ppl_buckets=599).tasks_of(source, [600])
    row, places = rows(task, by_place)
    parts = [np.mean(1 / np.arange(1, n)) for n in (512, 88)]
    assert row["nll"] == pytest.approx((512 * parts[0] + 88 * parts[1]) / 600, rel=1e-6)
    want = [1 / (p if p < 512 else p - 512) for p in range(1, 600) if p != 512]  # which nothing predicts
    assert [r["value"] for r in places] == pytest.approx(want, rel=1e-6)


def test_a_base_model_starts_anew_after_its_context():
    (task,) = PerplexityTest("chunked").tasks_of(made(*[400] * 10), [600], trained_len=150)
    assert {len(q.tokens_T) for q in task.requests} == {150}
    assert rows(task, by_place)[0]["nll"] == pytest.approx(np.mean(1 / np.arange(1, 150)), rel=1e-6)


@pytest.mark.parametrize("protocol", ["strided", "lceg", "longlora", "yarn", "nonoverlap", "landmark_lceg", "chunked"])
def test_few_windows_are_spread_and_keep_first_and_last(protocol):
    source = made(*[200] * 20)
    many, few = (
        PerplexityTest(protocol, num_windows=n, ppl_stride=32).tasks_of(source, [100], trained_len=100)[0].requests
        for n in (None, 5)
    )
    assert len(few) == 5 < len(many)
    for i in (0, -1):
        np.testing.assert_array_equal(few[i].tokens_T, many[i].tokens_T)


def test_windows_are_copied_when_they_are_asked():
    """2001 windows of 1000 tokens of 3000: all at once would take 667 times the text."""
    source = made(3000)
    (task,) = PerplexityTest("yarn", ppl_stride=1).tasks_of(source, [1000], bos_id=7)
    assert len(task.requests) == 2001
    for q in (task.requests[5], task.requests[-1]):
        assert q.tokens_T.base is None
        np.testing.assert_array_equal(q.tokens_T[1:], source.ids[1:][q.metadata["start"] :][:999])
    assert all(np.shares_memory(w.text_S, source.ids) for w in Strided(1, 7)(source, 1000)[::500])


@pytest.mark.parametrize("name", ["ppl_stride", "num_windows", "ppl_documents", "ppl_least", "ppl_buckets"])
def test_settings_are_positive(name):
    with pytest.raises(ValueError, match=f"--{name}=0 must be at least 1"):
        PerplexityTest(**{name: 0})


# Files.


@pytest.fixture
def ctx(tokens, tmp_path):
    (tmp_path / "perplexity").mkdir()
    return EvalContext(tmp_path, tokens, (64,))


def put(ctx, name, content):
    path = ctx.data_dir / "perplexity" / name
    path.write_bytes(content)
    return path


def test_files_of_ids_come_back(ctx):
    ids = made(30, 40, 50).ids % VOCAB
    ids[[0, 30, 70]] = 1
    ids[ids == 1] = np.where(np.isin(np.flatnonzero(ids == 1), [0, 30, 70]), 1, 2)
    put(ctx, "small.bin", ids.astype("<u2").tobytes())
    put(ctx, "wide.bin", ids.astype("<u4").tobytes())
    put(ctx, "wide.json", b'{"dtype": "uint32"}')
    small, wide = read_texts(ctx, "")
    for found in (small, wide):
        np.testing.assert_array_equal(found.ids, ids)
        assert found.starts.tolist() == [0, 30, 70]
    assert (small.name, wide.name) == ("small", "wide")
    assert small.sha256 != wide.sha256
    (one,) = read_texts(ctx, "wide.bin")
    assert one.name == "wide"
    assert [t.name for t in PerplexityTest("longlora", ppl_stride=8).tasks(ctx)] == [
        "perplexity/longlora/small/64", "perplexity/longlora/wide/64",
    ]  # fmt: skip


def test_lines_of_text_are_tokenised(ctx, tokens):
    texts = ["One text.\n", "Another, longer one."]
    put(ctx, "lines.jsonl", "\n".join(json.dumps({"text": x}) for x in texts).encode())
    (found,) = read_texts(ctx, "lines")
    assert [tokens.decode(d[1:]) for _, d in found.documents()] == texts
    assert [d[0] for _, d in found.documents()] == [tokens.bos_id] * 2
    assert found.has_bos


def test_lines_that_are_no_text_are_named(ctx):
    path = ctx.data_dir / "x.jsonl"
    path.write_bytes(b'{"text": "good"}\n{"text": "caf\xe9"}\n')
    with pytest.raises(ValueError, match=r"x.jsonl, line 2: 'utf-8' codec can't decode"):
        ctx.read_jsonl(path, ["text"])
    lenient = dataclasses.replace(ctx, skip_bad=True)
    assert lenient.read_jsonl(path, ["text"]) == ([{"text": "good"}], 1)


def test_saved_datasets_are_read(ctx):
    folder = ctx.data_dir / "perplexity" / "saved"
    datasets.Dataset.from_dict({"input_ids": [[1, 5, 6, 7], [1, 8, 9]]}).save_to_disk(str(folder))
    (found,) = read_texts(ctx, "")
    assert [d.tolist() for _, d in found.documents()] == [[1, 5, 6, 7], [1, 8, 9]]
    assert found.has_bos


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.bin", b"\1\0\2", "a.bin has 3 bytes, no whole number of uint16 ids"),
        ("a.bin", b"", "a.bin has 0 bytes"),
        ("a.bin", np.array([1, 7, 50_000], "<u2").tobytes(), r"a.bin has ids like 50000, but .*sp.model has only 420"),
        ("a.bin", np.array([1, 420], "<u2").tobytes(), r"a.bin has ids like 420, but"),
        ("a.bin", np.array([1, 7, 8], "<u2").tobytes(), "has 3 tokens in 1 documents: no window of 64 tokens"),
        ("a.jsonl", b'{"words": "x"}', "a.jsonl, line 1: no text"),
        ("a.jsonl", rb'{"text": "\ud800"}', r"a\.jsonl, line 1: holds half of a surrogate pair"),
        ("a.txt", b"x", "perplexity holds no text"),
    ],
)
def test_bad_files_are_named(name, content, message, ctx):
    put(ctx, name, content)
    with pytest.raises(ValueError, match=message) as error:
        PerplexityTest("lceg").tasks(ctx)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("first", "warned"), [(1, False), (5, True)])
def test_a_file_that_opens_otherwise_is_pointed_out(first, warned, ctx, caplog):
    put(ctx, "a.bin", np.array([first, 7, 8, first, 9], "<u2").tobytes())
    (found,) = read_texts(ctx, "")
    assert found.starts.tolist() == [0, 3]
    assert ("a.bin begins with id 5" in caplog.text) == warned


def test_missing_and_unknown_files_are_named(ctx):
    put(ctx, "a.json", b"[]")
    put(ctx, "a.bin", b"\1\0\2\0")
    with pytest.raises(ValueError, match=r"a.json must be like"):
        read_texts(ctx, "")
    with pytest.raises(ValueError, match=r"has no perplexity/pg19 or perplexity/pg19.bin"):
        read_texts(ctx, "pg19")


# Golden numbers.


@pytest.mark.parametrize("folder", [SHARED if os.environ.get("LONGJAX_FULL_GOLDEN") == "1" else HERE])
def test_released_evaluators_give_the_same(folder):
    found = list(eval_ppl.results(folder))
    assert [r for r in found if not r.error <= r.tolerance] == []
    assert {r.family for r in found} == {"ppl_lceg", "ppl_longlora", "ppl_yarn"}


def test_changed_numbers_are_noticed(tmp_path, monkeypatch):
    """Every expected number is compared: 1e-5 more, or another integer, fails."""
    folder = shutil.copytree(HERE, tmp_path / "ppl")
    lines = [json.loads(line) for line in (HERE / "expected.jsonl").read_text().splitlines()]
    wanted = [line for line in lines if line["id"] in (0, 2, 9)]
    numbers = [(line, name) for line in wanted for name in line if name.startswith(("expected", "n_", "w", "mean"))]
    changed = [line | {name: other(line[name]), "id": i} for i, (line, name) in enumerate(numbers)]
    (folder / "expected.jsonl").write_text("\n".join(map(json.dumps, [*changed, {"id": 99}])))
    model = eval_ppl.Model(HERE)
    monkeypatch.setattr(eval_ppl, "Model", lambda _: model)
    failed = {r.case for r in eval_ppl.results(folder) if not r.error <= r.tolerance}
    assert failed == {*map(str, range(len(changed))), "99"}
    assert len(changed) == 18


def other(x):
    if isinstance(x, list):
        return [*x[:-1], other(x[-1])]
    return x + 1 if isinstance(x, int) else x * (1 + 1e-5)


def test_array_names_tell_the_truth(split):
    with checked("longjax") as seen:
        (task,) = nested(split, (256,), num_windows=4)
        rows(task, uniform)
        for name in ("strided", "chunked"):
            rows(PerplexityTest(name, ppl_stride=9).tasks_of(made(100, 50), [64], 7, trained_len=30)[0], uniform)
    assert {name for _, name in seen} >= {"nll_U", "bucket_U", "tokens_T", "loss_I", "weight_I", "deviation_P"}
