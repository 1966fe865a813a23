"""Records of evaluations: what a kill leaves, what is refused, what scores are made of."""

import contextlib
import json
import re
import time
from operator import itemgetter

import numpy as np
import pytest

from fake_model import uniform
from longjax.data.passkey_text import DIGITS, PasskeyText
from longjax.evals.batching import Batch, Batcher, ProgramShape, bucket
from longjax.evals.evaluator import evaluate_in_memory, evaluate_task, remaining_plan
from longjax.evals.passkey import PasskeyGrid
from longjax.evals.records import COST, MANIFEST, RECORDS, RUN, SCORE, read_records, write_or_check
from longjax.evals.requests import GenerationRequest, LoglikelihoodRequest, Task, ended_by_length
from longjax.evals.results import example_values, read_rows

PHRASES = PasskeyText((3, 4), (5,), (6, 7), (8, 9), tuple(range(10, 20)))
SOURCE = np.random.default_rng(0).integers(20, 90, 4000).astype(np.int32)


class Subject:
    """Answers by the tokens of a question; may be killed before a call."""

    def __init__(self, dies_at=None, budget=300, **about):
        self.metadata, self.calls, self.dies_at, self.budget = {"method": "pi"} | about, 0, dies_at, budget

    def plan(self, questions, done=()):
        return Batcher(self.budget)(questions, done)

    def run_batch(self, batch, questions):
        if self.calls == self.dies_at:
            raise KeyboardInterrupt
        self.calls += 1
        time.sleep(0.002)  # a call takes time
        assert len(questions) == len(batch.indices) <= batch.shape.rows
        answers = uniform(questions)
        return [a._replace(is_greedy_U=q.tokens_T[-DIGITS:] % 2 == 0) for q, a in zip(questions, answers, strict=True)]

    def cost(self):
        return {"peak_bytes": 7 * self.calls}


def quiet(fraction, doing):
    assert 0 < fraction <= 1
    assert doing


@pytest.fixture
def task():
    return PasskeyGrid(SOURCE, PHRASES, samples=3).task(64)


def run_bare(task, subject, folder):
    return evaluate_task(task, remaining_plan(task, subject, folder), subject, folder, quiet)


def run(task, subject, folder):
    write_or_check(folder / RUN, subject.metadata | {"weights": "raw", "kind": "exact trained"})
    return run_bare(task, subject, folder)


def without_clock(path):
    return re.sub(rb'"wall_ms": [0-9.]+', b"", path.read_bytes())


def torn(path, lost):
    path.write_bytes(path.read_bytes()[:-lost])


def test_all_is_kept(task, tmp_path):
    records = run(task, Subject(), tmp_path)
    again, _ = read_records(tmp_path / task.name / RECORDS)
    assert again == records
    assert sorted(r["index"] for r in records) == list(range(15))
    by_index = {r["index"]: r for r in records}
    for index, question in enumerate(task.requests):
        assert by_index[index].items() >= question.metadata.items()
        assert by_index[index]["n_prompt_tokens"] == 64
    answers = [{k: v for k, v in r.items() if k in by_index[0]} for r in evaluate_in_memory(task, uniform)]
    assert answers[0].keys() <= by_index[0].keys()
    assert json.loads((tmp_path / task.name / MANIFEST).read_text())["n"] == 15


@pytest.mark.parametrize("dies_at", [0, 1, 3])
@pytest.mark.parametrize("lost", [0, 1, 100, 700])
def test_a_kill_leaves_no_trace(dies_at, lost, task, tmp_path):
    """Killed between two calls, and in the middle of writing one; a call has four records of about 400 bytes."""
    run(task, Subject(), tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run(task, Subject(dies_at), tmp_path / "killed")
    path = tmp_path / "killed" / task.name / RECORDS
    done = dies_at
    if dies_at and lost:
        torn(path, lost)
        done -= 1
    again = Subject()
    run(task, again, tmp_path / "killed")
    assert again.calls == 4 - done
    assert without_clock(path) == without_clock(tmp_path / "straight" / task.name / RECORDS)
    (tmp_path / "killed" / task.name / COST).unlink()
    (tmp_path / "straight" / task.name / COST).unlink()
    clocks = {"seconds", "tokens_per_second", "run"}
    rows = [
        [{k: x for k, x in row.items() if k not in clocks} for row in read_rows(tmp_path / n)]
        for n in ("killed", "straight")
    ]
    assert rows[0] == rows[1]
    run(task, Subject(dies_at=0), tmp_path / "killed")  # nothing is asked again


def test_another_model_or_other_questions_are_refused(task, tmp_path):
    run(task, Subject(), tmp_path)
    with pytest.raises(
        ValueError, match=r"holds another run: run.json differs in method \(fingerprints \w{12} and \w{12}\)"
    ):
        run(task, Subject(method="yarn"), tmp_path)
    other = Task(task.name, task.requests[::-1], task.settings)
    with pytest.raises(ValueError, match=r"manifest.json differs in questions \("):
        run(other, Subject(), tmp_path)
    with pytest.raises(ValueError, match=r"manifest.json differs in settings"):
        run(Task(task.name, task.requests, {"seed": 9}), Subject(), tmp_path)


@pytest.mark.parametrize("dies_at", [1, 3, None])
@pytest.mark.parametrize("lost", [0, 100])
def test_smaller_batches_go_on(dies_at, lost, task, tmp_path):
    """Whole records stay as they are, those of a torn batch too; only the other requests are planned."""
    straight = run(task, Subject(), tmp_path / "straight")
    path = tmp_path / "other" / task.name / RECORDS
    with pytest.raises(KeyboardInterrupt) if dies_at else contextlib.nullcontext():
        run(task, Subject(dies_at), tmp_path / "other")
    torn(path, lost or -path.stat().st_size)
    kept = path.read_bytes().rpartition(b"\n")[0] + b"\n"
    again = Subject(budget=64)
    records = run(task, again, tmp_path / "other")
    assert path.read_bytes().startswith(kept)
    assert again.calls == 15 - kept.count(b"\n")
    assert [r["batch"] for r in records] == sorted(r["batch"] for r in records)
    whole = [
        sorted(({k: x for k, x in r.items() if k not in ("batch", "wall_ms")} for r in side), key=itemgetter("index"))
        for side in (straight, records)
    ]
    assert whole[0] == whole[1]


def test_a_finished_task_is_not_planned(task, tmp_path, monkeypatch):
    records = run(task, Subject(), tmp_path)
    monkeypatch.setattr(Subject, "plan", None)
    assert run(task, Subject(dies_at=0), tmp_path) == records
    assert remaining_plan(task, Subject(), tmp_path).tokens == 0


def test_no_score_is_made_of_nan(task, tmp_path):
    class Broken(Subject):
        def run_batch(self, batch, questions):
            factors = [np.nan if i == 6 else 1.0 for i in batch.indices]
            answers = zip(super().run_batch(batch, questions), factors, strict=True)
            return [answer._replace(nll_U=factor * answer.nll_U) for answer, factor in answers]

    with pytest.raises(ValueError, match=r"^passkey/study/64, record 6: the model's logits are NaN or infinite; check"):
        run(task, Broken(), tmp_path)
    assert not (tmp_path / task.name / SCORE).exists()


def test_the_share_of_answers_that_ended_by_length():
    reasons = ("length", "eos", "stop", "length", "length")
    assert ended_by_length([{"finish_reason": reason} for reason in reasons]) == {"ended_by_length": 0.6}
    assert ended_by_length([{"hits": 3}]) == {"ended_by_length": None}  # nothing was generated


def test_a_run_of_0_1_goes_on(task, tmp_path):
    """Its manifest cannot tell whether the batches are the same; the records can."""
    with pytest.raises(KeyboardInterrupt):
        run(task, Subject(dies_at=2), tmp_path)
    path = tmp_path / task.name / MANIFEST
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"plan": 64 * "0"}))
    again = Subject()
    run(task, again, tmp_path)
    assert again.calls == 2


def test_a_damaged_file_is_named(task, tmp_path):
    run(task, Subject(), tmp_path)
    path = tmp_path / task.name / RECORDS
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "{no\n", *lines[2:]]))
    with pytest.raises(ValueError, match=r"records.jsonl, line 3: not a record; delete it and all after it"):
        run(task, Subject(), tmp_path)
    for damaged in (
        [lines[1], *lines[1:]],
        [*lines, lines[3]],
        [*lines[1:], lines[0].replace('"index": 0', '"index": 15')],
    ):
        path.write_text("".join(damaged))
        with pytest.raises(ValueError, match="its records are not those of 15 requests, each once; delete"):
            run(task, Subject(), tmp_path)


def test_a_full_disk_is_told(task, tmp_path, monkeypatch):
    def full(fd):
        raise OSError(28, "No space left on device")

    with pytest.raises(KeyboardInterrupt):
        run_bare(task, Subject(dies_at=1), tmp_path)
    monkeypatch.setattr("longjax.evals.records.os.fsync", full)
    with pytest.raises(ValueError, match=r"records.jsonl cannot be written: No space left on device"):
        run_bare(task, Subject(), tmp_path)


def test_rows_say_whose_they_are(task, tmp_path):
    run(task, Subject(), tmp_path / "a")
    unfinished = PasskeyGrid(SOURCE, PHRASES, samples=3).task(80)
    with pytest.raises(KeyboardInterrupt):
        run(unfinished, Subject(dies_at=2), tmp_path / "a")
    rows = read_rows(tmp_path)
    assert [row["depth"] for row in rows] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert {(row["method"], row["weights"], row["run"], row["peak_bytes"]) for row in rows} == {("pi", "raw", "a", 28)}
    assert rows[0]["settings"] == task.settings
    assert sum(row["seconds"] > 0 for row in rows) == 1
    records, _ = read_records(tmp_path / "a" / task.name / RECORDS)
    values = example_values(records)
    for row in rows:
        mine = [v for v, r in zip(values, records, strict=True) if r["depth"] == row["depth"]]
        assert row["value"] == pytest.approx(np.mean(mine))


# Plans


def likely(length):
    return LoglikelihoodRequest(np.zeros(length, np.int32), {})


def test_sizes_of_rows():
    sizes = [bucket(n) for n in range(1, 70_000, 7)]
    assert all(size >= n for n, size in zip(range(1, 70_000, 7), sizes, strict=True))
    assert all(size % min(size, 2048) == 0 for size in sizes)  # chunks of a prompt fit in
    assert len(set(sizes)) == 21
    assert bucket(65_536) == 65_536  # what just fits is not padded


def test_a_plan_has_each_question_once_and_few_shapes():
    rng = np.random.default_rng(1)
    questions = [likely(int(n)) for n in rng.integers(2, 500, 60)]
    questions += [GenerationRequest(np.zeros(int(n), np.int32), {}, 16) for n in rng.integers(2, 500, 20)]
    plan = Batcher(1024, parts=2)(questions)
    assert sorted(i for batch in plan.batches for i in batch.indices) == list(range(80))
    for batch in plan.batches:
        kind, rows, size, _ = batch.shape
        assert rows % 2 == 0
        assert len(batch.indices) <= rows
        assert rows * size <= max(1024, 2 * size)
        for i in batch.indices:
            assert (
                len(questions[i].tokens_T) + questions[i].max_new_tokens
                <= size
                < 2 * max(64, len(questions[i].tokens_T) + questions[i].max_new_tokens)
            )
            assert (kind == "generation") == isinstance(questions[i], GenerationRequest)
    assert len(plan.shapes) <= 8
    assert 0 < plan.padding < 0.6
    assert plan.tokens == sum(len(q.tokens_T) + q.max_new_tokens for q in questions)
    assert Batcher(1024, parts=2)(questions) == plan != Batcher(512)(questions)
    rest = Batcher(1024, parts=2)(questions, done={7, 70})
    assert sorted(i for batch in rest.batches for i in batch.indices) == sorted({*range(80)} - {7, 70})


def test_questions_that_no_program_can_share_are_kept_apart():
    questions = [likely(n) for n in (10, 20, 30, 40)]
    plan = Batcher(1024, group_key=lambda q: len(q.tokens_T) > 20)(questions)
    assert {batch.indices for batch in plan.batches} == {(0, 1), (2, 3)}
    assert plan.batches[0] == Batch(ProgramShape("likelihood", 2, 64, group=False), (0, 1), (10, 20), (10, 20))
