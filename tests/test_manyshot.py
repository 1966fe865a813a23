"""Many examples in one prompt: the study's files, or examples drawn from TREC's."""

import json
from pathlib import Path

import numpy as np
import pytest

from fake_model import records, says
from longjax.data.tokenizer import Tokenizer
from longjax.evals.context import EvalContext
from longjax.evals.manyshot import NAMES, ManyShot, score

TOKENIZER = Tokenizer(Path(__file__).parents[1] / "longjax" / "bases" / "mini")
LABELS = list(NAMES)


@pytest.fixture
def folder(tmp_path):
    """TREC's two files: sixty questions to draw from, five to ask. TREC writes latin-1."""
    held = tmp_path / "manyshot"
    held.mkdir()
    for name, count in (("train", 60), ("test", 5)):
        lines = [f"{LABELS[i % 50]} What caf\u00e9 is {name} {i} ?\n" for i in range(count)]
        (held / f"{name}.label").write_text("".join(lines), "latin-1")
    return tmp_path


def make_context(folder, **other):
    return EvalContext(folder, TOKENIZER, **{"lengths": (4096,)} | other)


def asked(folder, shots, per_item=False, **other):
    """-> texts of the prompts with so many examples."""
    (task,) = ManyShot(str(shots), per_item).tasks(make_context(folder, **other))
    return [TOKENIZER.decode(question.tokens_T[1:]) for question in task.requests]


def examples_of(prompt):
    """-> the examples before the question."""
    return prompt[prompt.index("Question:") : prompt.rindex("Question:")].rstrip("\n")


def test_fifty_classes_by_their_coarse_ones():
    assert len(set(NAMES.values())) == len(NAMES) == 50
    coarse = [label.split(":")[0] for label in NAMES]
    assert {x: coarse.count(x) for x in set(coarse)} == {
        "ABBR": 2, "DESC": 4, "ENTY": 22, "HUM": 4, "LOC": 5, "NUM": 13,
    }  # fmt: skip


def test_a_prompt_shows_examples_and_asks_for_one_more(folder):
    (prompt, *_) = asked(folder, 2)
    examples = examples_of(prompt).split("\n")
    assert [line.split(":")[0] for line in examples] == ["Question", "Type"] * 2
    for question, name in zip(examples[::2], examples[1::2], strict=True):
        number = int(question.split()[-2])
        assert name == f"Type: {NAMES[LABELS[number % 50]]}"
    assert prompt.endswith("\nQuestion: What caf\u00e9 is test 0 ?\nType:")


def test_the_same_examples_for_all_questions_and_fewer_are_the_first_of_more(folder):
    many, few = asked(folder, 20), asked(folder, 5)
    assert len(many) == 5
    assert len({examples_of(prompt) for prompt in many}) == 1
    assert examples_of(many[0]).startswith(examples_of(few[0]) + "\n")
    assert len(set(examples_of(many[0]).split("\n"))) >= 20  # drawn without replacement


def test_examples_of_its_own_for_every_question(folder):
    own = asked(folder, 20, per_item=True)
    assert len({examples_of(prompt) for prompt in own}) == 5
    assert own == asked(folder, 20, per_item=True)


def test_examples_depend_on_the_seed_alone(folder):
    assert asked(folder, 5) == asked(folder, 5)
    assert asked(folder, 5) != asked(folder, 5, seed=1)
    assert asked(folder, 5, max_examples=2) == asked(folder, 5)[:2]


def test_rows_say_how_many_examples_and_tokens(folder):
    tasks = ManyShot("1,5").tasks(make_context(folder))
    assert [task.name for task in tasks] == ["manyshot/trec_1", "manyshot/trec_5"]
    for task, shots in zip(tasks, (1, 5), strict=True):
        kept = records(task, says(lambda q: f"\n{q.metadata['answers'][0]}\nQuestion: x"))
        (row,) = score(kept)
        assert (row["benchmark"], row["task"], row["shots"]) == ("manyshot", f"trec_{shots}", shots)
        assert (row["value"], row["n"], row["truncated"], row["empty"], row["ended_by_length"]) == (1, 5, 0, 0, 1)
        assert row["prompt_tokens"] == np.mean([len(question.tokens_T) for question in task.requests])
        json.dumps(row, allow_nan=False)
    assert task.requests[0].max_new_tokens == 64
    assert task.settings["examples"] == "same for all"


def test_too_many_examples_lose_the_middle_and_are_counted(folder):
    (task,) = ManyShot("50").tasks(make_context(folder, lengths=(128, 256)))
    sizes = [len(question.tokens_T) + question.max_new_tokens for question in task.requests]
    assert all(256 - 16 <= size <= 256 for size in sizes)  # a prompt with its answer fits
    (row,) = score(records(task, says(lambda q: "x")))
    assert (row["truncated"], row["value"]) == (1, 0)


def test_the_studys_files_come_first(folder):
    line = {"input": "Question: q\nType:", "context": "C", "answers": ["City"], "length": 1, "all_classes": ["City"]}
    (folder / "manyshot" / "trec_5shots.jsonl").write_text(json.dumps(line))
    own, drawn = ManyShot("5,1").tasks(make_context(folder))
    assert (own.settings["examples"], drawn.settings["examples"]) == ("file", "same for all")
    (question,) = own.requests
    assert TOKENIZER.decode(question.tokens_T[1:]).endswith("\n\nC\nQuestion: q\nType:")
    assert {"id": "0", "shots": 5, "answers": ["City"]}.items() <= question.metadata.items()


@pytest.mark.parametrize(
    ("shots", "said"),
    [("1,x", "--manyshot_shots=1,x must be whole numbers"), ("5,0", "--manyshot_shots=5,0: 0 must be at least 1"),
     ("61", "--manyshot_shots=61: .*train.label has 60 questions")],
)  # fmt: skip
def test_numbers_that_cannot_be(folder, shots, said):
    with pytest.raises(ValueError, match=said):
        ManyShot(shots).tasks(make_context(folder))


def test_files_that_cannot_be_used(folder):
    path = folder / "manyshot" / "train.label"
    whole = path.read_text("latin-1")
    path.write_text("LOC:city Where ?\nLOC:town Where ?\n\n")
    with pytest.raises(ValueError, match=r"train.label, line 2: 'LOC:town' is no type with a question.*--skip_bad"):
        asked(folder, 1)
    assert "Where ?" in asked(folder, 1, skip_bad=True)[0]
    (task,) = ManyShot("1").tasks(make_context(folder, skip_bad=True))
    assert task.settings["bad_lines"] == 1
    path.write_text("\n")
    with pytest.raises(ValueError, match=r"train.label is empty: it needs lines like \"LOC:city"):
        asked(folder, 1)
    path.unlink()
    with pytest.raises(ValueError, match=r"has no manyshot/train.label: .* or trec_1shots.jsonl.*Get it from cogcomp"):
        asked(folder, 1)
    path.write_text(whole)
