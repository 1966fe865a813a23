"""The files of evaluations as users have them: with marks, without text, in another encoding, too deep, no files."""

import dataclasses
import json
import os

import numpy as np
import pytest

from longjax.data.tokenizer import Tokenizer
from longjax.evals.context import EvalContext
from longjax.evals.haystack import read_haystack
from longjax.evals.longbench.examples import examples
from longjax.evals.manyshot import ManyShot, labeled_questions
from longjax.evals.passkey.self_extend import file_tasks
from longjax.evals.perplexity import PerplexityTest
from longjax.evals.ruler.tasks import Ruler
from test_data_sft import MODEL

BOM = b"\xef\xbb\xbf"
EXAMPLE = {
    "input": "How many?", "context": "A cat and a dog. " * 9, "length": 72, "answers": ["cat"], "all_classes": None,
    "dataset": "qasper", "language": "en", "_id": "x",
}  # fmt: skip


@pytest.fixture
def ctx(tmp_path):
    return EvalContext(tmp_path, Tokenizer(MODEL), (256,))


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def line(**changes):
    return (json.dumps(EXAMPLE | changes) + "\n").encode()


def test_a_byte_order_mark_is_no_text(ctx, tmp_path):
    assert len(examples(ctx, written(tmp_path / "a.jsonl", BOM + line()), "qasper")[0]) == 1
    written(tmp_path / "haystack" / "a.txt", BOM + b"One. Two.")
    assert read_haystack(ctx).text == "One. Two."
    (known,) = labeled_questions(written(tmp_path / "l", BOM + b"LOC:city What city ?\n"), False)[0]
    assert known[0] == "What city ?"
    written(tmp_path / "ruler" / "PaulGrahamEssays.json", BOM + b'{"text": "One. Two. "}')
    ruler = Ruler(ruler_tasks="niah_single_2", ruler_samples=1)
    assert ruler.tasks(dataclasses.replace(ctx, lengths=(1024,)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"answers": "cat"}, "answers must be a list of texts"),
        ({"context": None}, "context must be a text, not None"),
        ({"input": 7}, "input must be a text, not 7"), ({"answers": ["\ud83d"]}, "holds half of a surrogate pair"),
    ],
)  # fmt: skip
def test_a_fault_is_named_by_file_and_line(ctx, tmp_path, changes, said):
    """Behind a mark and an empty line, too; --skip_bad leaves that line out and counts it."""
    path = written(tmp_path / "a.jsonl", BOM + b"\n" + line(**changes) + line())
    with pytest.raises(ValueError, match=rf"a\.jsonl, line 2: .*{said}"):
        examples(ctx, path, "qasper")
    good, bad = examples(dataclasses.replace(ctx, skip_bad=True), path, "qasper")
    assert (len(good), bad) == (1, 1)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"{", b"7", b"\xff\xfe"])
def test_lines_that_are_no_records(ctx, tmp_path, content):
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1: "):
        examples(ctx, written(tmp_path / "a.jsonl", content + b"\n"), "qasper")


def test_what_is_no_file_is_not_waited_for(ctx, tmp_path):
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match=r"a\.jsonl is no regular file"):
        examples(ctx, tmp_path / "a.jsonl", "qasper")


def test_essays_without_text_are_refused(ctx, tmp_path):
    for content in (b'{"text": ""}', b'{"text": null}', b'{"other": 1}'):
        written(tmp_path / "ruler" / "PaulGrahamEssays.json", content)
        with pytest.raises(ValueError, match=r"PaulGrahamEssays\.json holds no text"):
            Ruler(ruler_tasks="niah_single_2", ruler_samples=1).tasks(dataclasses.replace(ctx, lengths=(1024,)))


def test_trec_is_utf_8_and_else_latin_1(tmp_path):
    question = "Which city has the caf\u00e9 \u201cZur Post\u201d ?"
    for encoding in ("utf-8", "latin-1"):
        text = question if encoding == "utf-8" else question.replace("\u201c", "'").replace("\u201d", "'")
        path = written(tmp_path / encoding, f"LOC:city {text}\n".encode(encoding))
        assert labeled_questions(path, False)[0] == [(text, "City")] or labeled_questions(path, False)[0][0][0] == text


def test_questions_of_the_training_set_are_not_asked(ctx, tmp_path):
    train = b"LOC:city What city ?\nNUM:date When was it ?\nHUM:ind Who was it ?\n"
    written(tmp_path / "manyshot" / "train.label", train)
    written(tmp_path / "manyshot" / "test.label", b"NUM:date When was it ?\nLOC:other Where is it ?\n")
    (task,) = ManyShot("2").tasks(ctx)
    assert len(task.requests) == 1
    assert task.settings["left_out_as_known"] == 1


def test_pass_keys_of_several_lengths_have_a_row_each(ctx, tmp_path):
    lines = [
        {"input": "grass " * n + "The pass key is 01234.", "target": "01234", "passkey_position": 1} for n in (9, 30)
    ]
    written(tmp_path / "passkey" / "two.jsonl", "".join(json.dumps(x) + "\n" for x in lines).encode())
    (task,) = file_tasks(ctx)
    lengths = [request.metadata["length"] for request in task.requests]
    assert lengths == [len(request.tokens_T) + request.max_new_tokens for request in task.requests]
    assert lengths[0] < lengths[1]
    assert [request.metadata["key"] for request in task.requests] == ["01234"] * 2  # a text, with its zero


def test_short_documents_are_not_shown_at_a_length_that_they_lack(ctx, tmp_path):
    documents = [json.dumps({"text": "A cat and a dog. " * n}) + "\n" for n in (3, 4)]
    written(tmp_path / "perplexity" / "a.jsonl", "".join(documents).encode())
    with pytest.raises(ValueError, match="no window of 256 tokens"):
        PerplexityTest("strided").tasks(ctx)
    assert PerplexityTest("strided").tasks(dataclasses.replace(ctx, lengths=(32,)))


def test_ids_of_32_bits_are_not_taken_for_ids_of_16(ctx, tmp_path):
    path = written(
        tmp_path / "perplexity" / "a.bin", (np.arange(1, 3001, dtype="<u4") % 997 + 1).astype("<u4").tobytes()
    )
    with pytest.raises(ValueError, match=r"a\.bin looks like 32-bit ids: write .* into .*a\.json"):
        PerplexityTest("nested").tasks(ctx)
    path.with_suffix(".json").write_text('{"dtype": "uint32"}')
    assert PerplexityTest("nested").tasks(ctx)
