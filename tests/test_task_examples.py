"""Task examples: the tests' requests with their best answers, of which no test makes use."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from longjax import data
from longjax.data.passkey_text import PasskeyText
from longjax.data.recall_rows import RecallMixture
from longjax.data.tokenizer import Tokenizer
from longjax.evals import benchmarks
from longjax.evals.needle.facts import CITIES
from longjax.evals.requests import LoglikelihoodRequest
from longjax.evals.ruler.inputs import RulerInputs
from longjax.study import task_examples
from longjax.study.task_examples import build
from longjax.study.task_examples.answers import best_answer, solve
from longjax.study.task_examples.generator_context import GeneratorContext
from longjax.study.task_examples.generators import GENERATORS
from shape_names import checked
from small_data import store_of
from test_data import document

TOKENIZER = Tokenizer(Path(__file__).parents[1] / "longjax" / "bases" / "mini")
LENGTHS = (256, 1536)
TOKENS = 300_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(scope="module")
def ctx(folder):
    text = "\n".join(document(f"d{i}", 300).text for i in range(20))
    return task_examples.prepare_sources(folder / "data", text, TOKENIZER, LENGTHS, seed=3)


@pytest.fixture(scope="module")
def pool(folder, ctx):
    task_examples.write_examples(folder / "pool", ctx, TOKENS)
    return task_examples.TaskExamples(folder / "pool", TOKENIZER.sha256)


@pytest.fixture(scope="module")
def context(ctx):
    return GeneratorContext(RulerInputs(ctx))


def asked(context, task, count=4, length=LENGTHS[-1]):
    return list(GENERATORS[task](context, length, count, np.random.default_rng(5)))


def texts(pool):
    return [TOKENIZER.decode(np.concatenate(pool[i])) for i in range(len(pool))]


# Answers.


@pytest.mark.parametrize("task", GENERATORS)
def test_the_best_answer_gets_full_marks(context, task):
    questions = asked(context, task)
    assert 3 <= len(questions) <= 4  # a text that was cut may come back a token longer, and then has no room
    for question in questions:
        solved = solve(question, TOKENIZER)
        assert solved.ids[0] == TOKENIZER.bos_id
        assert solved.ids[-1] == TOKENIZER.eos_id
        assert len(solved.ids) <= LENGTHS[-1]
        np.testing.assert_array_equal(solved.ids[: solved.answer_start], question.tokens_T[: solved.answer_start])
        if isinstance(question, LoglikelihoodRequest):
            continue
        prediction = TOKENIZER.decode(solved.ids[solved.answer_start : -1])
        assert prediction.strip() == best_answer(question.metadata).strip()
        name = f"ruler/{LENGTHS[-1]}/{task}" if "ruler_task" in question.metadata else f"{task}/trec_9"
        said = {"task": name, "prediction": prediction, "shots": 9, "n_prompt_tokens": 1, "n_truncated": 0}
        said |= {"finish_reason": "eos", "n_new": 9}
        (row,) = benchmarks.score([question.metadata | said])
        assert row["value"] == pytest.approx(100 if row["value"] > 1 else 1)


def test_what_is_hidden_answers_the_question(context):
    for task, before in (
        ("needle", r"The best thing to do in {} is "),
        ("number", r"The special magic {} number is: "),
    ):
        for question in asked(context, task, 12):
            text, answer = (TOKENIZER.decode(x) for x in np.split(question.tokens_T, [question.first_scored]))
            town = re.search(r"(?:do in|special magic) ([\w ]+?)(?: number)?\?\n", text[text.rindex("Question:") :])[1]
            hidden = text[: text.rindex("Question:")]
            assert before.format(town) + answer.strip() in hidden


def test_values_are_said_in_the_order_of_the_text(context):
    for question in asked(context, "niah_multivalue"):
        text = TOKENIZER.decode(question.tokens_T)
        places = [text.index(value) for value in best_answer(question.metadata).strip().split(", ")]
        assert places == sorted(places)


def test_excerpts_differ(context):
    texts = [TOKENIZER.decode(question.tokens_T)[300:400] for question in asked(context, "niah_single_2")]
    assert len(set(texts)) == len(texts)


def test_array_names_tell_the_truth(context):
    with checked("longjax/study/task_examples") as seen:
        for task in ("niah_single_2", "needle", "passkey", "manyshot"):
            assert asked(context, task, 2)
    assert ("hidden_needles", "tokens_T") in seen


# What must not be learned.


def test_no_needle_of_a_test_is_in_an_example(pool, ctx):
    every = "\n".join(texts(pool))
    for place, facts in CITIES.items():
        assert place not in every
        assert not any(fact in every for fact in facts)
    keys = re.findall(r"The pass key is (\d{5})", every)
    assert len(keys) > 40
    assert all(int(key) % 7 for key in keys)
    assert ctx.seed > 999_999


# The pool.


def test_a_pool_has_all_tasks_and_as_many_tokens_of_each_length(pool):
    cells = pool.manifest["cells"]
    assert {cell["task"] for cell in cells} == set(GENERATORS)
    for length in LENGTHS:
        mine = [cell["tokens"] for cell in cells if cell["length"] == length]
        # Cells stop at whole examples, some of which are shorter than planned.
        assert 0.75 < sum(mine) / (TOKENS / len(LENGTHS)) < 1.25
    sizes = [len(pool[i].question) + len(pool[i].answer) for i in range(len(pool))]
    assert sizes == sorted(sizes)
    assert sum(sizes) == len(pool.tokens) == sum(cell["tokens"] for cell in cells)
    assert sum(len(pool[i].answer) for i in range(len(pool))) == sum(cell["answers"] for cell in cells)


def test_a_random_token_chooses_the_example(pool):
    rng = np.random.default_rng(0)
    for room in (256, 700, 1536):
        sizes = pool.index["size"][pool.index["size"] <= room].astype(float)
        drawn = [sum(map(len, pool.draw(rng, room))) for _ in range(2000)]
        assert max(drawn) <= room
        # The mean of a draw by tokens is sum(size^2) / sum(size); 5 standard errors of 2000 draws.
        mean = (sizes**2).sum() / sizes.sum()
        spread = np.sqrt((sizes**3).sum() / sizes.sum() - mean**2)
        assert abs(np.mean(drawn) - mean) < 5 * spread / np.sqrt(2000)
    assert pool.draw(rng, 20) is None


def test_cores_do_not_matter(folder, ctx, pool, monkeypatch):
    small = task_examples.prepare_sources(
        folder / "data", Path(ctx.data_dir / "haystack/train.txt").read_text(), TOKENIZER, (256,), 3
    )
    tasks = ("niah_single_2", "needle", "passkey")
    task_examples.write_examples(folder / "one", small, 20_000, tasks)
    monkeypatch.setattr(build, "MIN_TOKENS", 0)
    monkeypatch.setattr(build.os, "cpu_count", lambda: 2)
    task_examples.write_examples(folder / "two", small, 20_000, tasks)
    assert task_examples.TaskExamples(folder / "one").sha256 == task_examples.TaskExamples(folder / "two").sha256


def test_user_mistakes_are_named(folder, ctx, pool):
    with pytest.raises(ValueError, match="task examples: there is no task 'niah'"):
        task_examples.write_examples(folder / "no", ctx, 1000, ["niah"])
    with pytest.raises(ValueError, match="was written with another tokenizer: delete"):
        task_examples.TaskExamples(folder / "pool", "other")
    with pytest.raises(ValueError, match=r"manifest\.json is missing or damaged"):
        task_examples.TaskExamples(folder / "nowhere")
    path = folder / "pool" / "drills.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"drills\.npy does not match its manifest"):
        task_examples.TaskExamples(folder / "pool")
    path.write_bytes(whole)


# Rows.


@pytest.fixture(scope="module")
def mixture(pool):
    store = store_of([200_000], vocab=512)
    plan = data.pack(store, data.select_all(store), data.Concat(), 2048)
    return RecallMixture(
        plan,
        PasskeyText.from_tokenizer(TOKENIZER),
        passkey=0.2,
        repeat=0.2,
        seed=1,
        task_examples=pool,
        task_example_share=0.3,
    )


def test_rows_of_examples_hold_whole_ones_and_end_with_text(mixture, pool):
    whole = {np.concatenate(pool[i]).tobytes(): len(pool[i].question) for i in range(len(pool))}
    found = 0
    for i in range(40):
        tokens_S, weights_S = mixture.make_row(i, mixture.plan(i, 1).tokens_BS[0])
        starts = np.flatnonzero(tokens_S == TOKENIZER.bos_id)
        if (tokens_S == TOKENIZER.eos_id).sum() < 2:
            continue
        found += 1
        ends = np.flatnonzero(tokens_S == TOKENIZER.eos_id) + 1
        for start, end in zip(starts, ends, strict=False):
            question = whole[tokens_S[start:end].astype(np.uint16).tobytes()]
            np.testing.assert_array_equal(
                weights_S[start:end], np.where(np.arange(end - start) < question, np.float32(0.3), 4)
            )
        assert (weights_S[ends[-1] :] == np.float32(0.3)).all()
        assert len(tokens_S) - ends[-1] < 256
    assert 10 <= found <= 14  # 0.3 of them, and the golden sequence's discrepancy


def test_rows_depend_on_seed_number_and_examples(mixture, folder, ctx, pool):
    again = mixture(0, 8)
    for b in range(8):
        np.testing.assert_array_equal(mixture(b, 1).tokens_BS[0], again.tokens_BS[b])
    task_examples.write_examples(folder / "fewer", ctx, TOKENS // 8, ["passkey"])
    others = [
        dataclasses.replace(mixture, seed=2),
        dataclasses.replace(mixture, task_example_share=0.2),
        dataclasses.replace(mixture, task_examples=task_examples.TaskExamples(folder / "fewer")),
    ]
    assert len({mixture.sha256, *(other.sha256 for other in others)}) == 4


def test_rows_without_examples_are_what_they_were(mixture):
    none = dataclasses.replace(mixture, task_examples=None, task_example_share=0.0)
    zero = dataclasses.replace(mixture, task_example_share=0.0)
    np.testing.assert_array_equal(none(0, 20).tokens_BS, zero(0, 20).tokens_BS)
