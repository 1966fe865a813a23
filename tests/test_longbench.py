"""LongBench: what is asked, what is cut, how it is scored; files that cannot be used."""

import json
from pathlib import Path

import numpy as np
import pytest

from fake_model import records, says, uniform
from golden_checks import eval_truncation
from longjax.data.tokenizer import Tokenizer
from longjax.evals.context import EvalContext
from longjax.evals.longbench import LongBench, export_longbench, score
from longjax.evals.longbench.prompts import PROMPTS
from longjax.evals.longbench.table import TASKS
from longjax.evals.longbench.tasks import longbench_names
from longjax.evals.longbench.truncation import truncate_middle
from shape_names import checked
from tools import check_golden

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "golden" / "eval"
TOKENIZER = Tokenizer(ROOT / "longjax" / "bases" / "mini")
ANSWERS = {"passage_retrieval_en": "Paragraph 3", "passage_retrieval_zh": "\u6bb5\u843d3", "passage_count": "3"}


def example(name="qasper", **other):
    return {
        "input": "How many?", "context": "A sentence of the text, and one more.\n" * 9, "length": 72, "_id": "x1",
        "answers": [ANSWERS.get(name, "cat")], "all_classes": ["cat", "dog"], "dataset": name, "language": "en",
    } | other  # fmt: skip


def write(folder, name, examples):
    path = folder / "longbench" / "data" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(x) + "\n" for x in examples))
    return path


def make_context(folder, **other):
    return EvalContext(folder, TOKENIZER, **{"lengths": (64, 96)} | other)


def one(folder, name="qasper", examples=None, **other):
    """-> the one task of these examples."""
    write(folder, name, examples or [example(name)])
    (task,) = LongBench(longbench_tasks=name).tasks(make_context(folder, **other))
    return task


# What is asked


def test_groups_of_tasks():
    paper, every, even = (longbench_names(name) for name in ("paper", "all", "e"))
    assert (len(paper), len(every), len(even)) == (16, 21, 13)
    assert not [name for name in paper if name.endswith("_zh") or name in ("dureader", "vcsum", "lsht")]
    assert longbench_names("qasper, lcc_e,qasper") == ["qasper", "lcc_e"]
    with pytest.raises(ValueError, match=r"^--longbench_tasks=qasper,foo: 'foo' is none of paper, all, e, narrativeqa"):
        longbench_names("qasper,foo")
    with pytest.raises(ValueError, match="'narrativeqa_e' is none of"):
        longbench_names("narrativeqa_e")


def test_all_tasks_run_from_end_to_end(tmp_path):
    for name in longbench_names("all,e"):
        write(tmp_path, name, [example(name.removesuffix("_e"))] * 2)
    tasks = LongBench("paper,e").tasks(make_context(tmp_path, lengths=(400,)))
    assert [task.name for task in tasks[:2] + tasks[-1:]] == [
        "longbench/narrativeqa", "longbench/qasper", "longbench_e/repobench-p_e",
    ]  # fmt: skip
    for task in tasks:
        (row,) = score(records(task, says(lambda q: q.metadata["answers"][0])))
        kind = row["task"].removesuffix("_e")
        assert row["benchmark"] == task.benchmark
        assert row["value"] == row["lceg"] == pytest.approx(1, abs=1e-8)  # the 1e-8 in ROUGE's denominator
        assert (row["n"], row["stderr"], row["empty"], row["truncated"], row["ended_by_length"]) == (2, 0, 0, 0, 1)
        assert {question.max_new_tokens for question in task.requests} == {TASKS[kind].max_new_tokens}
    assert len(LongBench("all").tasks(make_context(tmp_path))) == 21


def test_a_prompt_is_the_wording_with_the_example_in_it(tmp_path):
    task = one(tmp_path, lengths=(400,))
    (asked,) = task.requests
    text = PROMPTS["qasper"].format(context=example()["context"], input="How many?")
    np.testing.assert_array_equal(asked.tokens_T, [1, *TOKENIZER.encode(text)])
    assert asked.metadata == {
        "id": "x1", "answers": ["cat"], "all_classes": ["cat", "dog"], "length": 72, "n_truncated": 0,
    }  # fmt: skip
    assert (asked.stop_ids, asked.min_new_tokens) == ((), 0)
    assert task.settings["prompts"] == "own"
    assert task.settings["max_length"] == 400


def test_braces_in_a_text_are_text(tmp_path):
    (asked,) = one(tmp_path, "lcc", [example("lcc", context="f = {x: {}}\n", input="{y}")], lengths=(400,)).requests
    assert "f = {x: {}}\n" in TOKENIZER.decode(asked.tokens_T[1:])


def test_prompts_of_the_benchmark(tmp_path):
    folder = tmp_path / "prompts"
    folder.mkdir()
    said = {"tasks": {"qasper": {"prompt": "T: {context}Q: {input}", "max_gen": 3}}}
    (folder / "longbench.json").write_text(json.dumps(said))
    task = one(tmp_path, examples=[example(context="c ")], prompts=folder)
    assert TOKENIZER.decode(task.requests[0].tokens_T[1:]) == "T: c Q: How many?"
    assert task.requests[0].max_new_tokens == 3
    assert len(task.settings["prompts"]) == 64
    write(tmp_path, "lcc", [example()])
    with pytest.raises(ValueError, match=r"longbench.json has no task lcc"):
        LongBench("lcc").tasks(make_context(tmp_path, prompts=folder))


def test_answers_of_samsum_end_with_their_line_and_are_not_empty(tmp_path):
    (asked,) = one(tmp_path, "samsum").requests
    assert (asked.stop_ids, asked.min_new_tokens) == (tuple(TOKENIZER.encode("\n")), 1)


def test_at_most_so_many_questions(tmp_path):
    assert len(one(tmp_path, examples=[example()] * 9, max_examples=4).requests) == 4


# What is cut


@pytest.mark.parametrize("most", [2, 7, 8, 41, 64])
def test_long_prompts_lose_their_middle(tmp_path, most):
    text = "abcdefgh " * 40
    held = make_context(tmp_path)
    whole = held.ids(text)
    ids, left_out = truncate_middle(held, text, most)
    assert left_out == len(whole) - 2 * (most // 2)
    head, tail = TOKENIZER.decode(whole[1 : most // 2]), TOKENIZER.decode(whole[-(most // 2) :])
    np.testing.assert_array_equal(ids, held.ids(head + tail))


def test_short_prompts_keep_all(tmp_path):
    held = make_context(tmp_path)
    ids = held.ids("abc " * 9)
    for most, left_out in ((len(ids), 0), (len(ids) - 1, len(ids) - 2 * ((len(ids) - 1) // 2))):
        assert truncate_middle(held, "abc " * 9, most)[1] == left_out


def test_a_prompt_fits_into_the_longest_length_with_its_answer(tmp_path):
    """Whatever tokens the seam adds; where the answer has more than half, the prompt has the other half."""
    texts = ["a  \n" * 300 + word for word in ("", "x", "xy")]
    for length in (*range(250, 280), 2000):
        task = one(tmp_path, "hotpotqa", [example("hotpotqa", context=x) for x in texts], lengths=(64, length))
        for request in task.requests:
            size = len(request.tokens_T) + request.max_new_tokens
            assert (length - 16 if request.metadata["n_truncated"] else 0) <= size <= length
    (request,) = one(tmp_path, "gov_report", [example("gov_report", context=texts[0])], lengths=(600,)).requests
    assert 290 <= len(request.tokens_T) <= 300


def test_the_longest_prompt_is_the_context_unless_said(tmp_path):
    assert one(tmp_path).settings["max_length"] == 96
    (task,) = LongBench("qasper", 40).tasks(make_context(tmp_path))
    assert task.settings["max_length"] == 40
    assert abs(len(task.requests[0].tokens_T) - 40) <= 8
    assert task.requests[0].metadata["n_truncated"] > 0
    for few in (0, 1):
        with pytest.raises(ValueError, match=f"--longbench_max_length={few} must be at least 2"):
            LongBench("qasper", few).tasks(make_context(tmp_path))


@pytest.mark.skipif(not SHARED.exists(), reason="its rows need the benchmark's prompts, which are not ours to ship")
def test_the_ids_that_the_study_gave():
    results = list(eval_truncation.results(SHARED / "longbench_truncation"))
    assert len({result.case for result in results}) == 84
    assert [result for result in results if not check_golden.passed(result)] == []


# How it is scored


def recorded(answers, lengths=None, kind="qasper", **other):
    """-> records of these (prediction, answers)."""
    lengths = lengths or [10] * len(answers)
    about = {"task": f"longbench/{kind}", "all_classes": ["cat", "dog"], "n_truncated": 0} | other
    return [
        about | {"prediction": said, "answers": wanted, "length": length}
        for (said, wanted), length in zip(answers, lengths, strict=True)
    ]


def test_the_best_of_the_answers_counts_and_stderr_is_that_of_a_mean():
    (row,) = score(recorded([("cat", ["dog", "cat"]), ("dog", ["cat"]), ("x", ["cat"])]))
    assert (row["value"], row["n"]) == (pytest.approx(1 / 3), 3)
    assert row["stderr"] == pytest.approx(1 / 3)
    assert score(recorded([("cat", ["cat"])]))[0]["stderr"] is None


def test_the_study_reads_the_first_line_alone():
    (row,) = score(recorded([("\ncat\nQuestion: which?", ["cat"])]))
    assert (row["value"], row["lceg"]) == (0.5, 1)
    (row,) = score(recorded([("\ncat\ndog", ["cat"])], kind="trec"))
    assert row["value"] == row["lceg"] == 1
    (row,) = score(recorded([("cat\nsat", ["cat sat"])], kind="gov_report"))
    assert row["value"] == row["lceg"] == pytest.approx(1)


def test_lengths_fall_into_the_benchmarks_buckets():
    """4000 words are in 4-8k, of both scorers, yet not in the study's 4k+; 32000 are in that alone."""
    lengths = [3999, 4000, 4001, 7999, 8000, 15_999, 16_000, 31_999, 32_000]
    (row,) = score(recorded([("cat", ["cat"])] * 4 + [("x", ["cat"])] * 5, lengths))
    assert row["n_by_length"] == {"0-4k": 1, "4-8k": 3, "8k+": 5}
    assert row["by_length"] == {"0-4k": 1, "4-8k": 1, "8k+": 0}
    assert row["lceg_n_by_length"] == {"0-4k": 1, "4-8k": 3, "8-16k": 2, "16-32k": 2, "4k+": 7}
    assert row["lceg_by_length"] == {"0-4k": 1, "4-8k": 1, "8-16k": 0, "16-32k": 0, "4k+": pytest.approx(2 / 7)}
    with checked("longjax/evals") as seen:
        (row,) = score(recorded([("cat", ["cat"])], [9000]))
    assert ("score", "length_I") in seen
    assert row["by_length"] == {"0-4k": None, "4-8k": None, "8k+": 1}


def test_silence_scores_nothing_and_is_counted(tmp_path):
    (row,) = score(records(one(tmp_path, examples=[example()] * 3), uniform))
    assert (row["value"], row["lceg"], row["empty"], row["n"]) == (0, 0, 1, 3)
    rows = recorded([("cat", ["cat"]), (" \n", ["cat"])])
    rows[0]["n_truncated"] = 5
    assert {"empty": 0.5, "truncated": 0.5}.items() <= score(rows)[0].items()


def test_rows_are_what_json_holds():
    json.dumps(score(recorded([("cat", ["cat"])] * 2)), allow_nan=False)


def test_the_benchmarks_own_scorer_can_read_our_answers(tmp_path):
    path = tmp_path / "pred" / "qasper.jsonl"
    export_longbench(recorded([("\u4e2d\ncat", ["cat"])], [7]), path)
    text = path.read_text("utf-8")
    assert text == '{"pred": "\u4e2d\\ncat", "answers": ["cat"], "all_classes": ["cat", "dog"], "length": 7}\n'
    (tmp_path / "pred" / "qasper.jsonl.new").mkdir()  # nothing can be written there
    with pytest.raises(ValueError, match="pred cannot be written: Is a directory"):
        export_longbench(recorded([("x", ["cat"])]), path)
    assert path.read_text("utf-8") == text


# Files that cannot be used


def test_a_missing_file_is_named_with_its_schema_and_source(tmp_path):
    names = r"has no longbench/data/qasper.jsonl or longbench/qasper.jsonl: LongBench's task qasper"
    with pytest.raises(ValueError, match=rf"{names}.*answers, length, all_classes.*huggingface.co/datasets/THUDM"):
        LongBench("qasper").tasks(make_context(tmp_path))


def test_both_layouts(tmp_path):
    path = write(tmp_path, "qasper", [example()])
    path.rename(tmp_path / "longbench" / "qasper.jsonl")
    assert len(LongBench("qasper").tasks(make_context(tmp_path))) == 1


BAD = [
    ({"answers": "cat"}, "answers must be a list of texts, not 'cat'"),
    ({"answers": []}, "answers must be a list of texts"),
    ({"answers": [3]}, "answers must be a list of texts"),
    ({"context": None}, "context must be a text, not None"),
    ({"input": "\ud800"}, "holds half of a surrogate pair"),
    ({"length": "9"}, "length must be a number of words, not '9'"),
]


@pytest.mark.parametrize(("change", "said"), BAD)
def test_examples_of_the_wrong_type_are_named_by_file_and_line(tmp_path, change, said):
    path = write(tmp_path, "qasper", [example(), example(**change), example()])
    with pytest.raises(ValueError, match=rf"^{path}, line 2: {said}[^\n]*--skip_bad leaves such lines out\)$"):
        LongBench("qasper").tasks(make_context(tmp_path))
    (task,) = LongBench("qasper").tasks(make_context(tmp_path, skip_bad=True))
    assert (len(task.requests), task.settings["bad_lines"]) == (2, 1)


def test_what_a_metric_could_not_score_is_found_before_it_is_asked(tmp_path):
    write(tmp_path, "trec", [example(all_classes=None)])
    with pytest.raises(ValueError, match="line 1: all_classes must be a list of texts, not None"):
        LongBench("trec").tasks(make_context(tmp_path))
    write(tmp_path, "passage_retrieval_en", [example(answers=["three"])])
    with pytest.raises(ValueError, match="line 1: the answer 'three' names no paragraph"):
        LongBench("passage_retrieval_en").tasks(make_context(tmp_path))


def test_torn_lines_are_counted_or_end_the_run(tmp_path):
    path = write(tmp_path, "qasper", [example()])
    path.write_text("\n{torn\n" + path.read_text() + '{"input": "x"}\n')
    with pytest.raises(ValueError, match=r"qasper.jsonl, line 2: "):
        LongBench("qasper").tasks(make_context(tmp_path))
    (task,) = LongBench("qasper").tasks(make_context(tmp_path, skip_bad=True))
    assert (len(task.requests), task.settings["bad_lines"]) == (1, 2)
    path.write_text(json.dumps(example(answers=1)))
    with pytest.raises(ValueError, match=r"qasper.jsonl: no line can be used"):
        LongBench("qasper").tasks(make_context(tmp_path, skip_bad=True))


def test_the_chinese_tasks_warn_of_jieba_before_they_are_asked(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("longjax.evals.longbench.tasks.can_segment", lambda: False)
    one(tmp_path, "dureader")
    assert "scoring dureader will need jieba: pip install" in caplog.text
