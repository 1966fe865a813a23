import json
import math
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from fake_model import nothing_known, records, says, uniform
from golden_checks import eval_needle
from longjax.data import passkey_text
from longjax.data.tokenizer import Tokenizer
from longjax.evals.context import EvalContext
from longjax.evals.passkey import PasskeyGrid, PasskeyTest, score
from longjax.evals.passkey.fitting import largest_fitting
from longjax.evals.passkey.sized_tasks import fitted_tasks
from longjax.evals.passkey.yarn import Yarn
from longjax.evals.passkey.yarn_hard import ordinal
from longjax.evals.requests import GenerationRequest, LoglikelihoodRequest, LoglikelihoodResult
from shape_names import checked
from small_data import token_stream

LENGTHS = (64, 128, 256)
HERE = Path(__file__).parent / "golden" / "eval"
SHARED = Path(__file__).parents[2] / "shared" / "golden" / "eval"
SETS = [folder / "passkey" for folder in (HERE, SHARED) if folder.exists()]


@pytest.fixture
def study(store, tokens):
    return PasskeyGrid(token_stream(store, "test"), passkey_text.PasskeyText.from_tokenizer(tokens), samples=6)


@pytest.fixture
def ctx(tmp_path):
    """With a tokenizer of LLaMA's kind."""
    (tmp_path / "haystack").mkdir()
    shutil.copy(HERE / "niah" / "haystack.txt", tmp_path / "haystack")
    return EvalContext(tmp_path, Tokenizer(HERE / "tokenizer" / "tokenizer.model"), (400, 1000))


class Looks:
    """Knows the key if its first token, where the needle says it first, is one of the last `window` tokens."""

    def __init__(self, window, before):
        self.window, self.before = window, list(before)

    def __call__(self, questions):
        return [self.answer(q.tokens_T.tolist(), q) for q in questions]

    def answer(self, row, question):
        starts = range(len(row) - len(self.before))
        (said,) = (i + len(self.before) for i in starts if row[i : i + len(self.before)] == self.before)
        asked, hit = len(row) - passkey_text.DIGITS, np.zeros(passkey_text.DIGITS, bool)
        if asked - said <= self.window:
            hit = np.equal(row[said : said + passkey_text.DIGITS], row[asked:])
        assert question.first_scored == asked
        return LoglikelihoodResult(np.zeros(passkey_text.DIGITS, np.float32), hit)


# The study's.


@pytest.mark.parametrize("window", [90, 10_000])
def test_a_key_is_found_where_it_can_be_seen(window, study):
    phrases = study.phrases
    sentences = 2 * passkey_text.DIGITS + len(phrases.between) + len(phrases.after) + len(phrases.question)
    found = []
    for length in LENGTHS:
        filler = length - phrases.needle_size - phrases.question_size
        rows = score(records(study.task(length), Looks(window, phrases.before)))
        assert [r["depth"] for r in rows] == list(study.depths)
        for r in rows:
            behind = filler - round(r["depth"] * filler)
            found.append(r["value"])
            assert r["value"] == r["partial"] == (1.0 if sentences + behind <= window else 0.0)
            assert (r["benchmark"], r["task"], r["length"], r["n"]) == ("passkey", "passkey", length, study.samples)
            assert r["stderr"] == 0
    assert set(found) == ({1.0} if window > 256 else {0.0, 1.0})


def test_a_key_counts_only_if_all_its_digits_do(study):
    def third_wrong(questions):
        answers = [LoglikelihoodResult(np.zeros(5, np.float32), np.ones(5, bool)) for _ in questions]
        for answer in answers[::2]:
            answer.is_greedy_U[2] = False
        return answers

    for r in score(records(study.task(64), third_wrong)):
        assert r["value"] == 0.5
        assert r["partial"] == pytest.approx(0.9)
        assert r["stderr"] == pytest.approx(math.sqrt(0.25 / 6))


def test_every_method_gets_the_same_prompts(study):
    first = study.prompts(128, 0.5)
    np.testing.assert_array_equal(first, study.prompts(128, 0.5))
    assert first.shape == (6, 128)
    keys = {tuple(p[-passkey_text.DIGITS :]) for d in study.depths for p in study.prompts(128, d)}
    assert len(keys) > 25  # of 30


def test_keys_in_records_are_those_in_prompts(study):
    for question in study.task(128).requests:
        digits = [study.phrases.digits[int(d)] for d in question.metadata["key"]]
        np.testing.assert_array_equal(question.tokens_T[question.first_scored :], digits)


def test_the_study_in_a_haystack_opens_with_a_token_and_has_its_length(ctx):
    tasks = PasskeyTest("study", passkey_samples=2, passkey_depths="0,1").tasks(ctx)
    assert [t.name for t in tasks] == ["passkey/study/400", "passkey/study/1000"]
    for task, length in zip(tasks, ctx.lengths, strict=True):
        assert len(task.requests) == 4
        assert all(len(q.tokens_T) == length and q.tokens_T[0] == 1 for q in task.requests)
        assert len(task.settings["haystack_sha256"]) == 64
        text = ctx.tokenizer.decode(task.requests[0].tokens_T[1:])
        key = task.requests[0].metadata["key"]
        assert re.search(f"The pass key is {key}. Remember it. {key} is the pass key.\n", text)
        assert text.endswith(f"The pass key is {key}")


# Others'.


def key_in(question):
    """What a model answers that finds the key in its prompt."""
    return f" {question.metadata['key']}. And"


@pytest.mark.parametrize("variant", ["landmark", "longlora", "yarn", "yarn_hard"])
def test_prompts_fill_their_length_and_keys_that_are_said_are_found(variant, ctx):
    tasks = PasskeyTest(variant, passkey_samples=4).tasks(ctx)
    assert [t.name for t in tasks] == [f"passkey/{variant}/{n}" for n in ctx.lengths]
    for task, length in zip(tasks, ctx.lengths, strict=True):
        sizes = [len(q.tokens_T) + q.max_new_tokens for q in task.requests]
        assert max(sizes) <= length
        assert min(sizes) > length - 64  # 128 characters are at most so many tokens here
        (row,) = score(records(task, says(key_in)))
        assert (row["value"], row["partial"], row["depth"], row["n"]) == (1.0, 1.0, None, 4)
        assert row["length"] == length
        (row,) = score(records(task, uniform))
        assert row["value"] == row["partial"] == 0
        assert len({q.metadata["key"] for q in task.requests}) == 4
        for q in task.requests:
            text = ctx.tokenizer.decode(q.tokens_T[1:])
            assert q.tokens_T[0] == 1
            assert 1 not in q.tokens_T[1:]
            assert q.metadata["key"] in text
            assert 0 <= q.metadata["depth"] <= 1


def test_longlora_s_key_is_given_and_others_are_said(ctx):
    (forced, *_), (said, *_) = (PasskeyTest(v, passkey_samples=1).tasks(ctx) for v in ("longlora", "yarn"))
    (q,) = forced.requests
    assert isinstance(q, LoglikelihoodRequest)
    assert isinstance(said.requests[0], GenerationRequest)
    assert said.requests[0].max_new_tokens == 10
    assert ctx.tokenizer.decode(q.tokens_T[q.first_scored :]) == q.metadata["key"]
    whole = ctx.tokenizer.decode(q.tokens_T[1:])
    assert whole.endswith(f"The pass key is {q.metadata['key']}")
    np.testing.assert_array_equal(ctx.ids(whole), q.tokens_T)  # the key's tokens are those within the text


def test_one_wrong_token_of_a_key_fails_it(ctx):
    task, _ = PasskeyTest("longlora", passkey_samples=2).tasks(ctx)

    def last_wrong(questions):
        answers = [nothing_known(q) for q in questions]
        for answer in answers:
            answer.is_greedy_U[:-1] = True
        return answers

    (row,) = score(records(task, last_wrong))
    assert row["value"] == 0
    assert 0 < row["partial"] < 1


@pytest.mark.parametrize(
    ("rule", "said", "value", "partial"),
    [
        ("number", " 4321.", 1, 1),
        ("number", "It is 04321", 1, 1),
        ("number", "43210", 0, 4 / 5),
        ("number", "12 or 4321", 0, 0),
        ("number", "432", 0, 3 / 4),
        ("number", "none", 0, 0),
        ("start", " 43210", 1, 1),
        ("start", "It is 4321", 0, 0),
        ("start", "4329", 0, 3 / 4),
        ("start", "", 0, 0),
    ],
)
def test_what_counts_as_said(rule, said, value, partial):
    about = {"variant": "yarn", "length": 9, "cell": None, "key": "4321", "rule": rule, "prediction": said}
    (row,) = score([about])
    assert (row["value"], row["partial"], row["stderr"], row["n"]) == (value, partial, None, 1)


def test_published_lengths_are_in_characters(ctx):
    tasks = PasskeyTest("landmark", passkey_lengths="published", passkey_samples=1).tasks(ctx)
    assert [t.name for t in tasks][:3] == ["passkey/landmark/0c", "passkey/landmark/100c", "passkey/landmark/500c"]
    assert len(tasks) == 13
    for task in tasks:
        (q,) = task.requests
        assert q.metadata["length"] == len(q.tokens_T) + q.max_new_tokens
    with pytest.raises(ValueError, match="--passkey_variant=yarn has no published sizes"):
        PasskeyTest("yarn", passkey_lengths="published").tasks(ctx)


def test_yarn_s_hard_keys_are_several_and_one_is_asked_for(ctx):
    task, _ = PasskeyTest("yarn_hard", passkey_samples=6, passkey_keys=2).tasks(ctx)
    for q in task.requests:
        text = ctx.tokenizer.decode(q.tokens_T[1:])
        keys = dict(re.findall(r"The (\w+) pass key is (\d+)\. Remember it", text))
        asked = re.search(r"What is the (\w+) pass key\? The \1 pass key is$", text)[1]
        assert set(keys) == {"1st", "2nd"}
        assert keys[asked] == q.metadata["key"]
    assert {q.metadata["haystack"] for q in task.requests} == {"haystack"}


def test_ordinals_are_english():
    assert [ordinal(i) for i in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 101, 111)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd", "101st", "111th",
    ]  # fmt: skip


@pytest.mark.parametrize("power", [1, 0.8, 1.1])
@pytest.mark.parametrize("seed", range(8))
def test_the_largest_prompt_that_fits_is_found(seed, power):
    rng = random.Random(seed)
    base, rate, room, most = rng.randint(0, 90), rng.uniform(0.05, 3), rng.randint(20, 900), rng.choice([64, 4096])

    def tokens(size):
        return base + int(rate * size**power)

    fits = [size for size in range(0, most + 1, 8) if tokens(size) <= room]
    found = largest_fitting(tokens, room, 8, 80, most)
    assert found == (max(fits) if tokens(0) <= room else -1)


def test_all_draws_fit_and_not_the_first_alone(ctx):
    class Uneven(Yarn):
        def draw(self, seed, size):
            sample = super().draw(seed, size)
            return sample._replace(prompt="Well then. " * 10 * (seed > 0) + sample.prompt)

    for task, length in zip(fitted_tasks(Uneven(), ctx, 3), ctx.lengths, strict=True):
        assert max(len(q.tokens_T) + q.max_new_tokens for q in task.requests) <= length


# Files and settings.


def lines(ctx, text):
    (ctx.data_dir / "passkey").mkdir()
    (ctx.data_dir / "passkey" / "short.jsonl").write_text(text)


def test_self_extend_s_files_are_read(ctx):
    line = {"input": "grass\nThe pass key is 89427. Remember it.\ngrass", "target": "89427", "passkey_position": 1}
    lines(ctx, json.dumps(line) + "\n\n" + json.dumps(line | {"target": 10_023_456_789}) + "\n")
    (task,) = PasskeyTest("self_extend").tasks(ctx)
    assert task.name == "passkey/self_extend/short"
    assert [q.max_new_tokens for q in task.requests] == [5, 11]
    text = ctx.tokenizer.decode(task.requests[0].tokens_T)
    assert text == line["input"] + "What is the pass key? The pass key is "
    rows = score(records(task, says(lambda q: "89427 is")))
    assert [(row["value"], row["n"]) for row in rows] == [(1.0, 1), (0.0, 1)]  # the longer key is not given


def test_a_file_of_self_extend_has_a_row_a_length(ctx):
    """Prompts of about the same length, by two digits, stay together."""
    prompts = [
        {"input": "grass " * n + "The pass key is 5.", "target": 5, "passkey_position": 1} for n in (900, 90, 901)
    ]
    lines(ctx, "\n".join(map(json.dumps, prompts)))
    (task,) = PasskeyTest("self_extend").tasks(ctx)
    rows = score(records(task, says(lambda q: "5" if len(q.tokens_T) > 500 else "6")))
    assert [(row["value"], row["n"]) for row in rows] == [(0.0, 1), (1.0, 2)]
    assert rows[0]["length"] < rows[1]["length"]
    assert all(row["length"] % 10 == 0 for row in rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"input": "x"}', "short.jsonl, line 1: no target, passkey_position"),
        ("", "short.jsonl is empty"),
    ],
)
def test_bad_files_of_self_extend_are_named(text, message, ctx):
    lines(ctx, text)
    with pytest.raises(ValueError, match=message):
        PasskeyTest("self_extend").tasks(ctx)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"passkey_samples": 0}, "--passkey_samples=0 must be at least 1"),
        ({"passkey_keys": 0}, "--passkey_keys=0 must be at least 1"),
        ({"passkey_variant": "study", "passkey_depths": "0;1"}, "--passkey_depths=0;1 must be numbers like"),
        ({"passkey_variant": "study", "passkey_depths": "0,2"}, "--passkey_depths=0,2 must lie between 0 and 1"),
        ({"passkey_variant": "self_extend"}, "has no passkey"),
    ],
)
def test_wrong_settings_are_named(settings, message, ctx):
    with pytest.raises(ValueError, match=message) as error:
        PasskeyTest(**settings).tasks(ctx)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("variant", ["study", "landmark", "longlora", "yarn_hard"])
def test_lengths_without_room_are_left_out_and_none_is_an_error(variant, ctx):
    test = PasskeyTest(variant, passkey_samples=1)
    tasks = test.tasks(EvalContext(ctx.data_dir, ctx.tokenizer, (20, 400)))
    assert [t.name for t in tasks] == [f"passkey/{variant}/400"]
    with pytest.raises(ValueError, match="--lengths=20,30: "):
        test.tasks(EvalContext(ctx.data_dir, ctx.tokenizer, (20, 30)))


def test_at_most_so_many_questions(ctx):
    few = EvalContext(ctx.data_dir, ctx.tokenizer, (400,), max_examples=5)
    assert len(PasskeyTest("study").tasks(few)[0].requests) == 5
    assert len(PasskeyTest("landmark").tasks(few)[0].requests) == 5
    other = EvalContext(ctx.data_dir, ctx.tokenizer, (400,), max_examples=5, seed=7)
    first, second = (PasskeyTest().tasks(m)[0].requests for m in (few, other))
    assert {q.metadata["key"] for q in first}.isdisjoint(q.metadata["key"] for q in second)


# Golden prompts.


@pytest.mark.parametrize("folder", SETS, ids=lambda path: path.parts[-4])
def test_prompts_are_the_peers_to_the_byte(folder):
    found = list(eval_needle.passkey_results(folder))
    assert [r for r in found if r.error] == []
    assert len({r.family for r in found}) == 4


def test_changed_keys_are_noticed(tmp_path):
    folder = shutil.copytree(HERE / "passkey", tmp_path / "passkey")
    for name in ("landmark_yarn", "longlora", "longlora_lengths", "yarn_hard"):
        path = folder / f"{name}.jsonl"
        first, *rest = path.read_text().splitlines()
        path.write_text("\n".join([first.replace("1", "2"), "{}", *rest]))
    failed = {r.case for r in eval_needle.passkey_results(folder) if r.error}
    names = ("landmark_yarn", "longlora", "longlora_lengths", "yarn_hard")
    assert failed == {f"{name}/{row}" for name in names for row in (0, 1)}


def test_array_names_tell_the_truth(study):
    with checked("longjax") as seen:
        score(records(study.task(64), uniform))
    assert {name for _, name in seen} >= {"tokens_T"}
