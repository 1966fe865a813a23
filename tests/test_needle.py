import dataclasses
import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from fake_model import VOCAB, records, says, uniform
from golden_checks import eval_needle
from longjax.data import passkey_text, tokenizer
from longjax.data.tokenizer import Tokenizer
from longjax.evals.context import EvalContext
from longjax.evals.haystack import read_haystack
from longjax.evals.metrics.needle import STUDY_WORDS
from longjax.evals.needle import NeedleTest, export_needle, score
from longjax.evals.needle.facts import CITIES, MAX_NEEDLES, best_things
from longjax.evals.needle.insertion import (
    AfterIds,
    AfterSentences,
    BosCodec,
    PlainCodec,
    full_stops,
    insert,
    sentence_start_before,
)
from longjax.evals.requests import LoglikelihoodRequest
from longjax.files import sha256_bytes
from test_data import document

HERE = Path(__file__).parent / "golden" / "eval"
SHARED = Path(__file__).parents[2] / "shared" / "golden" / "eval"
LLAMA2 = Path(__file__).parents[2] / "shared" / "data" / "llama2_tokenizer.model"
SETS = [folder / "niah" for folder in (HERE, SHARED) if folder.exists()]
NEEDLE = best_things(1).sentences[0]


@pytest.fixture(scope="session")
def llama():
    """A tokenizer of LLaMA's kind."""
    return Tokenizer(HERE / "tokenizer" / "tokenizer.model")


@pytest.fixture
def ctx(llama, tmp_path):
    (tmp_path / "haystack").mkdir()
    shutil.copy(HERE / "niah" / "haystack.txt", tmp_path / "haystack")
    return EvalContext(tmp_path, llama, (600, 1000))


def text_of(question, ctx):
    return ctx.tokenizer.decode(question.tokens_T[1:])


# The haystack.


def test_a_haystack_is_all_files_in_order(ctx):
    folder = ctx.data_dir / "haystack"
    (folder / "a.txt").write_text("First. ")
    (folder / "z.md").write_text("not this")
    found, rest = read_haystack(ctx), (folder / "haystack.txt").read_text()
    assert (found.text, found.id) == ("First. " + rest, "a+1")
    assert found.metadata == {"haystack": "a+1", "haystack_sha256": sha256_bytes("First. " + rest)}


def test_a_haystack_is_repeated_where_it_is_short(ctx):
    (ctx.data_dir / "haystack" / "haystack.txt").write_text("One small text. ")
    found = read_haystack(ctx)
    for count in (1, 50, 333):
        ids = found.tokens(ctx.tokenizer, count)
        assert len(ids) == count
        assert (found.text * 100).startswith(ctx.tokenizer.decode(ids))
        assert len(ctx.tokenizer.encode(found.repeated(ctx.tokenizer, count))) >= count


@pytest.mark.parametrize(("content", "message"), [(b"", "holds no text"), (b"\xff\xfe", "is not UTF-8")])
def test_a_bad_haystack_is_named(content, message, ctx):
    (ctx.data_dir / "haystack" / "haystack.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_haystack(ctx)


def test_a_missing_haystack_says_where_to_get_one(ctx):
    shutil.rmtree(ctx.data_dir / "haystack")
    with pytest.raises(ValueError, match=r"has no haystack: .*make_eval_data"):
        NeedleTest().tasks(ctx)


# Insertion.


def test_needles_follow_full_stops():
    ids, nine = [5, 6, 9, 7, 7, 9, 8, 8, 8, 8], AfterIds(frozenset({9}))
    assert [sentence_start_before(ids, depth, nine) for depth in (0, 20, 30, 50, 60, 99, 100)] == [0, 0, 3, 3, 6, 6, 10]
    assert insert(ids, [[1, 2]], 50, 100, nine) == ([5, 6, 9, 1, 2, 7, 7, 9, 8, 8, 8, 8], 0.3)
    assert insert(ids, [[1, 2]], 100, 8, nine) == ([5, 6, 9, 7, 7, 9, 1, 2], 1.0)
    assert insert(ids, [[1], [2]], 0, 100, nine) == ([1, 5, 6, 9, 2, 7, 7, 9, 8, 8, 8, 8], 0.0)
    assert insert(ids, [[1], [2]], 100, 100, nine) == ([*ids, 1, 2], 1.0)


@pytest.mark.parametrize(
    "sentence",
    ["One of {} lines.\n", "Is it {}?  ", 'He said: "{}."\n\n', "\u7b2c{}\u53e5\u8bdd\u3002", "no end {} at all "],
)
def test_a_needle_stands_at_the_depth_that_its_record_says(sentence, ctx):
    """In every form of text: at line ends, behind quotes, in Chinese, and where there are no sentences."""
    text = "".join(sentence.format(i) for i in range(3000))
    (ctx.data_dir / "haystack" / "haystack.txt").write_text(text)
    (task,) = NeedleTest("number", needle_depths=5).tasks(dataclasses.replace(ctx, lengths=(2000,)))
    for question in task.requests:
        prompt, depth = text_of(question, ctx), question.metadata["depth"]
        place = prompt.index(question.metadata["needle"].strip()) / len(prompt)
        assert abs(question.metadata["true_depth"] - depth) < 0.05
        assert abs(place - depth) < 0.2  # the frame of the prompt and the needle take their share


def test_numbers_do_not_end_sentences(ctx):
    ids = ctx.tokenizer.encode("Pi is 3.14 and more. Then").tolist()
    ends = [ctx.tokenizer.decode(ids[:i]) for i in range(1, len(ids)) if AfterSentences(ctx.tokenizer)(ids, i)]
    assert next(iter(ends)).strip() == "Pi is 3.14 and more."


@pytest.mark.parametrize("bos", ["clean", "lceg"])
def test_the_needle_is_where_it_is_said_to_be(bos, ctx):
    for task in NeedleTest(needle_bos=bos).tasks(ctx):
        places = []
        for question in task.requests:
            text = text_of(question, ctx)
            places.append(text.index(NEEDLE.strip()) / len(text))
            assert text.count(NEEDLE.strip()) == 1
            assert len(question.tokens_T) + question.max_new_tokens <= question.metadata["length"]
            assert question.metadata["n_bos"] == (1 if bos == "clean" else 4)
            assert question.tokens_T[0] == 1
        assert places == sorted(places)
        assert [round(100 * q.metadata["depth"]) for q in task.requests] == [0, 11, 22, 33, 44, 56, 67, 78, 89, 100]


def test_the_study_s_way_puts_an_opening_token_before_the_needle(ctx):
    (task, _) = NeedleTest(needle_bos="lceg").tasks(ctx)
    ids = task.requests[5].tokens_T.tolist()
    start = [i for i, x in enumerate(ids) if x == 1][-1]
    assert ctx.tokenizer.decode(ids[start:]).strip().startswith(NEEDLE.strip())


def test_decoding_writes_what_encoding_reads(llama):
    codec, text = BosCodec(llama), "A text.\n\nWith  blanks and 123."
    ids = codec.encode(text)
    assert ids == [1, *PlainCodec(llama).encode(text)]
    assert codec.decode(ids) == "<s> " + text
    assert codec.encode(codec.decode(ids)) == [1, *ids]
    assert full_stops(llama) == {llama.backend.find("."), llama.backend.find("\u2581.") or llama.backend.find(".")}


@pytest.mark.skipif(not LLAMA2.exists(), reason="its licence keeps LLaMA-2's tokenizer out of the repository")
def test_full_stops_of_llama_2_are_those_of_the_study():
    assert full_stops(Tokenizer(LLAMA2)) == {29889, 869}


def test_a_tokenizer_of_another_kind_will_do(ctx, tmp_path):
    """Without blanks put before texts, and a vocabulary of 420."""
    mini = tokenizer.train_tokenizer(
        [document(f"d{i}", 100) for i in range(30)], tmp_path / "sp.model", VOCAB, passkey_text.SENTENCES
    )
    here = EvalContext(ctx.data_dir, mini, (1200,))
    (task,) = NeedleTest().tasks(here)
    assert all(NEEDLE in text_of(q, here) for q in task.requests)
    (row, *_) = score(records(task, says(lambda q: STUDY_WORDS)))
    assert row["value"] == 1


# Scores.


def test_the_best_answer_has_everything_but_eleven_twelfths(ctx):
    for task in NeedleTest(needle_depths=3).tasks(ctx):
        rows = score(records(task, says(lambda q: " Eat a sandwich and sit in Dolores Park on a sunny day.\n")))
        assert [(r["value"], r["exact"], r["n"], r["stderr"]) for r in rows] == [(1.0, 1.0, 1, None)] * 3
        assert {r["word_overlap"] for r in rows} == {11 / 12}
        assert [r["rouge1"] for r in rows] == [pytest.approx(8 / 11)] * 3  # as of the first golden row
        assert [r["depth"] for r in rows] == [0, 0.5, 1]
        assert all((r["benchmark"], r["task"], r["form"]) == ("needle", "needle", "sentence") for r in rows)


def test_half_an_answer_is_half_a_recall(ctx):
    (task, _) = NeedleTest(needle_depths=2).tasks(ctx)
    for said, value in (("eat a sandwich", 0.5), ("sit in Dolores Park", 0.0), ("", 0.0)):
        rows = score(records(task, says(lambda q, said=said: said)))
        assert {(r["value"], r["exact"]) for r in rows} == {(value, 0.0)}


def test_answer_is_what_the_heat_map_wants():
    assert best_things(1).answer.lower() == STUDY_WORDS


def test_several_needles_are_all_asked_for(ctx):
    (task,) = NeedleTest(needle_count=3, needle_depths=4).tasks(EvalContext(ctx.data_dir, ctx.tokenizer, (1000,)))
    for q in task.requests:
        text = text_of(q, ctx)
        places = [text.index(s.strip()) for s in best_things(3).sentences]
        assert places == sorted(places)
        assert text.endswith("What are the best things to do in San Francisco, Lisbon and Kyoto?\nAnswer:")
    gaps = np.diff([text_of(task.requests[0], ctx).index(s.strip()) for s in best_things(3).sentences])
    assert gaps.min() > 1000  # of about 3600 characters: thirds, less the way back to a full stop
    rows = score(records(task, says(lambda q: q.metadata["answer"])))
    assert {(r["value"], r["exact"]) for r in rows} == {(1.0, 1.0)}
    rows = score(records(task, says(lambda q: "Drink green tea.")))
    assert {r["value"] for r in rows} == {1 / 6}


def test_facts_of_cities_differ():
    facts = list(itertools.chain(*CITIES.values()))
    assert len(set(facts)) == len(facts) == 2 * MAX_NEEDLES


@pytest.mark.parametrize("count", [1, 4])
def test_numbers_are_given_and_need_no_decoding(count, ctx):
    for task in NeedleTest("number", needle_count=count, needle_depths=3).tasks(ctx):
        for q in task.requests:
            assert isinstance(q, LoglikelihoodRequest)
            text = text_of(q, ctx)
            numbers = dict(re.findall(r"The special magic ([A-Za-z ]+) number is: (\d{7})\.", text))
            assert len(numbers) == count
            city, said = re.search(r"The special magic ([A-Za-z ]+) number is: (\d{7})$", text).groups()
            assert numbers[city] == said == q.metadata["answer"]
            assert ctx.tokenizer.decode(q.tokens_T[q.first_scored :]) == said
            assert len(q.tokens_T) <= q.metadata["length"]
        assert {r["value"] for r in score(records(task, says(str)))} == {1.0}
        rows = score(records(task, uniform))
        assert {(r["value"], r["partial"]) for r in rows} == {(0.0, 0.0)}


def test_numbers_of_cells_differ(ctx):
    questions = [q for task in NeedleTest("number").tasks(ctx) for q in task.requests]
    assert len({q.metadata["answer"] for q in questions}) == 20
    assert len({re.search(r"magic (.+) number", q.metadata["needle"])[1] for q in questions}) > 4


def test_the_plots_of_the_study_read_what_is_exported(ctx, tmp_path):
    (task, _) = NeedleTest(needle_depths=3).tasks(ctx)
    paths = export_needle(records(task, says(lambda q: "eat a sandwich ")), tmp_path / "cells", "yarn")
    assert [p.name for p in paths] == [f"yarn_len_600_depth_{d}_results.json" for d in (0, 5000, 10000)]
    cell = json.loads(paths[1].read_text())
    assert (cell["context_length"], cell["depth_percent"], cell["model_response"]) == (600, 50, "eat a sandwich")
    assert cell["needle"] == NEEDLE
    assert 0 < cell["score"] < 10
    for spacing in ("linear", "sigmoid"):
        test = NeedleTest(needle_spacing=spacing)
        paths = export_needle(records(test.tasks(ctx)[0], says(str)), tmp_path / spacing)
        assert [json.loads(p.read_text())["depth_percent"] for p in paths] == test.depths()
    (number, _) = NeedleTest("number").tasks(ctx)
    with pytest.raises(ValueError, match="with --needle_kind=number nothing is generated"):
        export_needle(records(number, uniform), tmp_path)


# Settings.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"needle_count": 9}, "--needle_count=9 must be from 1 to 8"),
        ({"needle_depths": 0}, "--needle_depths=0 must be at least 1"),
        ({"needle_buffer": -1}, "--needle_buffer=-1 must be at least 0"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        NeedleTest(**settings)


def test_lengths_without_room_are_left_out_and_none_is_an_error(ctx):
    here = EvalContext(ctx.data_dir, ctx.tokenizer, (100, 600))
    assert [t.name for t in NeedleTest().tasks(here)] == ["needle/sentence/600"]
    with pytest.raises(ValueError, match="--lengths=100,150: none has room for a needle"):
        NeedleTest().tasks(EvalContext(ctx.data_dir, ctx.tokenizer, (100, 150)))
    with pytest.raises(ValueError, match="none has room for a needle and --needle_buffer=0"):
        NeedleTest(needle_buffer=0).tasks(ctx)  # question and answer need more


def test_a_tokenizer_without_an_opening_token_has_no_quirk(ctx):
    class Mute(Tokenizer):
        bos_id = -1

    here = EvalContext(ctx.data_dir, Mute(ctx.tokenizer.path), (600,))
    with pytest.raises(ValueError, match=r"--needle_bos=lceg: .*tokenizer.model has no token that opens a text"):
        NeedleTest(needle_bos="lceg").tasks(here)
    (task,) = NeedleTest(needle_depths=2).tasks(here)
    assert {q.metadata["n_bos"] for q in task.requests} == {0}


def test_the_study_s_lengths_end_with_ours(ctx):
    test = NeedleTest(needle_lengths="study", needle_depths=1)
    assert test.lengths(EvalContext(ctx.data_dir, ctx.tokenizer, (4096, 8192))) == [1000, 4256, 7513]
    few = EvalContext(ctx.data_dir, ctx.tokenizer, (600,), max_examples=2)
    assert [q.metadata["depth"] for q in NeedleTest().tasks(few)[0].requests] == [0, 1]


# Golden prompts.


@pytest.mark.parametrize("folder", SETS, ids=lambda path: path.parts[-4])
def test_prompts_are_the_study_s_to_the_byte(folder):
    found = list(eval_needle.needle_results(folder))
    assert [r for r in found if r.error] == []
    assert {r.family for r in found} == {"niah", "niah_grid"}


def test_changed_needles_are_noticed(tmp_path):
    folder = shutil.copytree(HERE, tmp_path / "eval") / "niah"
    path = folder / "insert_needle.jsonl"
    row = next(row for line in path.read_text().splitlines() if (row := json.loads(line))["insertion_index"])
    names = [n for n in row if n not in ("id", "tokenizer", "context_length", "buffer", "depth_percent", "haystack")]
    changed = [row | {name: row[name] + (1 if isinstance(row[name], int) else "x")} for name in names]
    path.write_text("\n".join(json.dumps(x) for x in [*changed, {"id": 1}, row]))
    failed = [r.case for r in eval_needle.needle_results(folder) if r.error]
    assert failed == [f"insert_needle/{i}" for i in range(len(changed) + 1)]
    assert len(changed) == 9
