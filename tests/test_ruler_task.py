"""RULER from files to rows: its store of samples, questions, scores, exports, and what users get wrong."""

import json
import re
import shutil

import numpy as np
import pytest

import fake_model
import small_ruler
from longjax.evals import wordlists
from longjax.evals.requests import GenerationRequest
from longjax.evals.ruler import export_ruler, parallel, sample_store, score
from longjax.evals.ruler import tasks as ruler_tasks
from longjax.evals.ruler.inputs import RulerInputs
from longjax.evals.ruler.niah import single_needle
from longjax.evals.ruler.prompts import OWN
from longjax.evals.ruler.tasks import Ruler
from longjax.evals.ruler.versions import BASES

WORDS, PIECES = (small_ruler.tokenizers()[name] for name in ("words", "pieces"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_ruler.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def folder(data, tmp_path):
    return shutil.copytree(data, tmp_path / "data")


def tasks(folder, *lengths, tokenizer=WORDS, names="all", samples=3, version="exact", **more):
    return Ruler(version, names, samples).tasks(small_ruler.make_context(folder, tokenizer, *lengths, **more))


def test_all_cores_make_what_one_does(folder, tmp_path, monkeypatch, capsys):
    names = "niah_single_1,vt,cwe"  # the last is too long for 1024
    alone = tasks(folder, 1024, tokenizer=PIECES, names=names)
    monkeypatch.setattr(parallel, "MIN_TOKENS", 0)
    shutil.move(folder / "ruler_cache", tmp_path / "alone")
    together = tasks(folder, 1024, tokenizer=PIECES, names=names)
    assert [task.name for task in together] == [task.name for task in alone]
    made = sorted(path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*.json*"))
    assert len(made) == 4
    for path in made:
        assert (folder / "ruler_cache" / path).read_bytes() == (tmp_path / "alone" / path).read_bytes()
    assert "samples of RULER" in capsys.readouterr().out


def test_tasks_and_their_questions(folder):
    made = tasks(folder, 1024, 2048, tokenizer=PIECES)
    assert {task.name for task in made} == {f"ruler/{n}/{name}" for n in (1024, 2048) for name in BASES} - {
        "ruler/1024/cwe"  # is too short
    }
    for task in made:
        _, length, name = task.name.split("/")
        assert len(task.requests) == 3
        assert json.loads(json.dumps(task.settings)) == task.settings
        new = {"niah": 128, "vt": 30, "cwe": 120, "fwe": 50, "qa": 32}[name.split("_")[0]]
        for i, question in enumerate(task.requests):
            assert isinstance(question, GenerationRequest)
            assert (question.max_new_tokens, question.metadata["id"], question.metadata["length"]) == (
                new,
                i,
                int(length),
            )
            assert question.metadata["metric"] == ("part" if name.startswith("qa") else "all")
            row = task.requests.samples[i]
            whole = PIECES.encode(row["input"] + row["answer_prefix"])
            assert np.array_equal(question.tokens_T, [PIECES.bos_id, *whole])
            assert question.tokens_T.dtype == np.int32
            assert len(question.tokens_T) == question.metadata["n_tokens"] <= int(length) - new
    assert {task.settings["prompts"] for task in made} == {"own"}
    essay = next(task for task in made if task.name.endswith("niah_single_2"))
    assert essay.settings["haystack"] == "made"
    assert len(essay.settings["haystack_sha256"]) == 64


def test_questions_are_a_sequence(folder):
    (task,) = tasks(folder, 1024, names="vt")
    assert [q.metadata["id"] for q in task.requests[1:]] == [1, 2]
    assert task.requests[-1].metadata == task.requests[2].metadata
    with pytest.raises(IndexError):
        task.requests[3]


def same(a, b):
    pairs = zip(a.requests, b.requests, strict=True)
    return a.settings == b.settings and all(
        p.metadata == q.metadata and np.array_equal(p.tokens_T, q.tokens_T) for p, q in pairs
    )


@pytest.fixture
def no_making(monkeypatch):
    def fail(*_):
        raise AssertionError("made again")

    return lambda: monkeypatch.setattr(sample_store, "write_samples", fail)


def test_samples_are_made_once(folder, no_making):
    first = tasks(folder, 1024)
    no_making()
    assert all(map(same, first, tasks(folder, 1024)))
    shrunk = tasks(folder, 1024, samples=2)
    assert [len(task.requests) for task in shrunk] == [min(2, len(task.requests)) for task in first]
    with pytest.raises(AssertionError, match="made again"):
        tasks(folder, 1024, samples=4)


def test_fewer_of_many_are_those_that_few_would_be(folder, tmp_path):
    tasks(folder, 1024, samples=4)
    few = Ruler("exact", "all", 2, str(tmp_path / "other")).tasks(small_ruler.make_context(folder, WORDS, 1024))
    assert all(map(same, few, tasks(folder, 1024, samples=2)))


@pytest.mark.parametrize("harm", ["torn", "changed", "no settings", "torn settings"])
def test_harmed_samples_are_made_again(folder, harm):
    (first,) = tasks(folder, 1024, names="vt")
    path = next((folder / "ruler_cache").rglob("vt.jsonl"))
    whole = path.read_bytes()
    if harm == "torn":
        path.write_bytes(whole[:-9])
    elif harm == "changed":
        path.write_bytes(whole.replace(b"green", b"greem", 1))
    elif harm == "no settings":
        path.with_suffix(".json").unlink()
    else:
        path.with_suffix(".json").write_text('{"made"')
    (again,) = tasks(folder, 1024, names="vt")
    assert path.read_bytes() == whole
    assert same(first, again)


def test_a_folder_that_cannot_be_written(folder):
    (folder / "ruler_cache").write_text("a file")
    with pytest.raises(ValueError, match=r"vt\.jsonl cannot be written .*--ruler_cache"):
        tasks(folder, 1024, names="vt")


def test_a_host_that_was_as_fast_does_no_harm(folder, monkeypatch):
    """Both make the samples; the slower one puts its own, the same, in the place of the other's."""
    held, made = sample_store.load_samples, []

    def also(path, *rest):
        if not made and not made.append(path):
            tasks(folder, 1024, names="vt")
        return None

    monkeypatch.setattr(sample_store, "load_samples", also)
    tasks(folder, 1024, names="vt")
    monkeypatch.setattr(sample_store, "load_samples", held)
    assert sorted(path.name for path in made[0].parent.iterdir()) == ["vt.json", "vt.jsonl"]
    tasks(folder, 1024, names="vt")


def test_making_that_was_broken_off_leaves_nothing(folder, monkeypatch):
    whole = ruler_tasks.sample_row

    def stored(made, sample_seed, fit):
        if sample_seed.index:
            raise KeyboardInterrupt
        return whole(made, sample_seed, fit)

    monkeypatch.setattr(ruler_tasks, "sample_row", stored)
    with pytest.raises(KeyboardInterrupt):
        tasks(folder, 1024, names="vt")
    assert [path for path in (folder / "ruler_cache").rglob("*") if path.is_file()] == []
    monkeypatch.undo()
    (task,) = tasks(folder, 1024, names="vt")
    assert len(task.requests) == 3


def test_another_haystack_makes_other_samples(folder):
    (first,) = tasks(folder, 1024, names="niah_single_2")
    (folder / "haystack" / "made.txt").write_text("Another text. " * 400)
    (second,) = tasks(folder, 1024, names="niah_single_2")
    assert first.settings["haystack_sha256"] != second.settings["haystack_sha256"]
    essays = folder / "ruler" / "PaulGrahamEssays.json"
    essays.write_text(json.dumps({"text": "Yet  another\ntext. " * 400}))
    (third,) = tasks(folder, 1024, names="niah_single_2")
    assert third.settings["haystack"] == "PaulGrahamEssays"
    assert "Yet another text. Yet" in sample_store.load_samples(
        next((folder / "ruler_cache").rglob("niah_single_2.jsonl")), third_made(third), 3
    )[0]["input"]  # fmt: skip


def third_made(task):
    return {name: x for name, x in task.settings.items() if name not in ("samples", "data_sha256")}


def test_stored_samples_are_in_the_benchmarks_form(folder):
    tasks(folder, 1024, names="niah_multikey_1")
    path = next((folder / "ruler_cache").rglob("niah_multikey_1.jsonl"))
    for i, line in enumerate(path.read_text().splitlines()):
        row = json.loads(line)
        assert row["index"] == i
        assert row["length"] == len(WORDS.encode(row["input"] + row["answer_prefix"])) + 128
        assert row["outputs"][0] in row["input"]


def test_prompts_of_the_users(folder, tmp_path):
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    entries = {
        name: {
            "template": "MINE " + x.template,
            "answer_prefix": x.answer_prefix,
            "tokens_to_generate": x.max_new_tokens - 1,
        }
        for name, x in OWN.items()
    }
    (prompts / "ruler.json").write_text(json.dumps({"base_tasks": entries}))
    for mine, own in zip(tasks(folder, 1100, prompts=prompts), tasks(folder, 1100), strict=True):
        assert mine.settings["prompts"] != own.settings["prompts"] == "own"
        assert mine.requests[0].max_new_tokens == own.requests[0].max_new_tokens - 1
        assert mine.requests.samples[0]["input"].lstrip().startswith("MINE ")


def test_our_wording_for_one_value():
    said = single_needle(OWN["niah"])
    text = said.template + said.answer_prefix
    assert text.startswith("A special magic {type_needle_v} is hidden")
    assert not re.search(r"\b(are|all|Some)\b", text)
    assert text.endswith("for {query} is")


def answers(question):
    return " ".join(question.metadata["references"])


def test_scores(folder):
    for task in tasks(folder, 1100):
        name = task.name.split("/")[2]
        (right,), (wrong,), (empty,) = (
            score(fake_model.records(task, fake_model.says(say)))
            for say in (answers, lambda _: "no idea 0000000", lambda _: " \n")
        )
        assert (right["benchmark"], right["task"], right["length"]) == ("ruler", name, 1100)
        assert (right["value"], right["stderr"], right["n"], right["nulls"]) == (1.0, 0.0, 3, 0)
        assert (wrong["value"], wrong["nulls"], empty["value"], empty["nulls"]) == (0.0, 0, 0.0, 3)
        assert right["fill"] > 0.9
        assert (right["precision"] in (1.0, None), right["ended_by_length"]) == (True, 1.0)
        assert empty["precision"] is None


def test_precision_counts_whole_words(folder):
    """Not parts of longer ones, and no small letters where variables are in capitals."""
    before = {"vt": "The five variables assigned this value are", "fwe": "The most frequently appearing words are:"}
    for task in tasks(folder, 1100, names=",".join(before)):
        said = before[task.name.split("/")[2]]
        full = fake_model.says(lambda q, said=said: f" {said} {', '.join(q.metadata['references'])}.")
        (row,) = score(fake_model.records(task, full))
        assert (row["value"], row["precision"]) == (1.0, 1.0)
        parts = fake_model.says(lambda q, said=said: f" {said} {'x'.join(q.metadata['references'])}.")
        assert score(fake_model.records(task, parts))[0]["precision"] is None


def test_recall_precision_and_their_errors(folder):
    (task,) = tasks(folder, 1100, names="niah_multivalue")
    halves = iter([True, False, True])

    def say(question):
        values = question.metadata["references"]
        return " ".join(values[:2]) + " 1234567 7654321" if next(halves) else " ".join(values)

    (row,) = score(fake_model.records(task, fake_model.says(say)))
    assert row["value"] == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert row["precision"] == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert row["stderr"] == pytest.approx(np.std([0.5, 1, 0.5], ddof=1) / np.sqrt(3))
    (task,) = tasks(folder, 1100, names="qa_1", samples=1)
    (row,) = score(fake_model.records(task, fake_model.says(lambda q: q.metadata["references"][0])))
    assert (row["value"], row["stderr"]) == (1.0, None)  # any of the answers will do
    assert score([]) == []


def test_export(folder, tmp_path):
    (task,) = tasks(folder, 1100, names="vt")
    export_ruler(fake_model.records(task, fake_model.says(answers)), tmp_path / "vt.jsonl")
    found = [json.loads(line) for line in (tmp_path / "vt.jsonl").read_text().splitlines()]
    assert [row["index"] for row in found] == [0, 1, 2]
    assert found[0].keys() == {"index", "pred", "input", "outputs", "others", "truncation", "length"}
    assert found[0]["pred"].split() == found[0]["outputs"]


@pytest.mark.parametrize(
    ("name", "content", "task", "message"),
    [
        ("squad.json", '{"data": [', "qa_1", "squad.json is torn or not as published"),
        ("squad.json", '{"data": []}', "qa_1", "squad.json has no question"),
        ("hotpotqa.json", '[{"question": "?"}]', "qa_2", "hotpotqa.json is torn or not as published"),
        ("words.json", '{"nouns": ["a"]}', "cwe", "words.json is torn, or not an object of lists"),
        ("words.json", '{"nouns": ["a"], "verbs": ["b"], "adjectives": ["c"]}', "cwe", "too few words"),
        ("PaulGrahamEssays.json", "[]", "niah_single_2", "PaulGrahamEssays.json is damaged"),
    ],
)
def test_files_that_cannot_be_read(folder, name, content, task, message):
    (folder / "ruler" / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        tasks(folder, 1024, names=task)


def test_what_users_get_wrong(folder):
    with pytest.raises(ValueError, match="--ruler_tasks=vt,nope: no task 'nope'; there are niah_single_1"):
        tasks(folder, 1024, names="vt,nope")
    with pytest.raises(ValueError, match="--ruler_samples=0"):
        tasks(folder, 1024, samples=0)
    (folder / "ruler" / "squad.json").unlink()
    with pytest.raises(ValueError, match=r"ruler/squad\.json.*dev-v2\.0"):
        tasks(folder, 1024, names="qa_1")


def test_fewer_questions_than_wanted(folder):
    (task,) = tasks(folder, 1024, names="qa_2", samples=50)
    assert len(task.requests) == 8
    (task,) = tasks(folder, 1024, names="vt", samples=50, max_examples=2)
    assert len(task.requests) == 2


def test_words():
    ours = wordlists.read_words(small_ruler.Path("none"))
    assert (len(ours.nouns) > 1000, len(ours.adjectives) > 600, len(ours.verbs) > 300) == (True, True, True)
    for kind in (ours.nouns, ours.adjectives, ours.verbs, ours.all):
        assert list(kind) == sorted(set(kind))
        assert all(word.isascii() and word.isalpha() and word.islower() for word in kind)
    assert len(set(wordlists.synthetic_words(12_000))) == 12_000
    assert not set(wordlists.synthetic_words(50)) - set(wordlists.synthetic_words(50))
    assert len(set(wordlists.synthetic_words(60_000))) == 60_000  # more than there are of two syllables


def test_longer_lists_than_there_are_words(folder):
    inputs = RulerInputs(small_ruler.make_context(folder, WORDS))
    assert inputs.list_words(100)[1] == "own"
    made, name = inputs.list_words(9000)
    assert (len(made) >= 9000, len(set(made)), name) == (True, len(made), "own+made")
    (folder / "ruler" / "english_words.json").write_text(json.dumps([f"word{i}" for i in range(9000)]))
    assert inputs.list_words(9000)[1] == "own+english_words.json"
