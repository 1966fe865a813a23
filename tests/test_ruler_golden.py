"""RULER's own samples have the structure and the sizes of ours; and the check that says so notices what is wrong."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from golden_checks import eval_ruler
from longjax.evals.ruler import haystacks, niah, sample, versions, vt
from longjax.evals.ruler.length_fitting import Linear

HERE = Path(__file__).parent / "golden" / "eval"
SHARED = Path(__file__).parents[2] / "shared" / "golden" / "eval"
FOLDERS = [root / name for root in (HERE, SHARED) for name in ("ruler", "ruler_main") if (root / name).exists()]
FULL = pytest.mark.skipif(not SHARED.exists(), reason="the full set is not here; the compact one is checked")


def faults(folder):
    return [result for result in eval_ruler.results(folder) if not result.error <= result.tolerance]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parts[-4]}-{folder.name}")
def test_every_sample(folder):
    assert eval_ruler.is_ruler(folder)
    assert faults(folder) == []


def test_there_is_a_sample_of_everything():
    for name, most in (("ruler", 26), ("ruler_main", 13)):
        rows = [json.loads(line) for line in (HERE / name / "samples.jsonl").read_text().splitlines()]
        assert {row["task"] for row in rows} == {*versions.BASES}
        assert len(rows) == most


def changed(tmp_path, change, task, name="ruler"):
    """-> faults of a set whose first sample of the task has been changed."""
    lines = (HERE / name / "samples.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    change(next(row for row in rows if row["task"] == task))
    (tmp_path / "samples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return faults(tmp_path)


def swap(old, new):
    def change(row):
        assert old(row) in row["context"]
        row["context"] = row["context"].replace(old(row), new(row), 1)

    return change


def first_output(row):
    return row["outputs"][0]


ROWS = {
    "an answer is gone": ("niah_single_2", swap(first_output, lambda _: "1234567")),
    "an answer twice": ("niah_multikey_2", swap(lambda r: r["context"].split("\n")[3], lambda r: line_of(r))),
    "a needle moved": ("niah_single_3", swap(lambda r: line_of(r) + " ", lambda _: "")),
    "another sentence": ("niah_multivalue", swap(lambda _: "One of the special", lambda _: "One of those special")),
    "other noise": ("niah_single_1", swap(lambda _: "The grass is green", lambda _: "The grass is red")),
    "a lost line": ("niah_multikey_3", swap(lambda r: r["context"].split("\n")[0] + "\n", lambda _: "")),
    "a broken chain": ("vt", swap(lambda r: f"= VAR {first_output(r)}", lambda r: f"= VAR {r['outputs'][1]}")),
    "a lost space": ("vt", swap(lambda r: f"= VAR {first_output(r)} ", lambda r: f"= VAR {first_output(r)}")),
    "a wrong number": ("cwe", swap(lambda _: " 17. ", lambda _: " 18. ")),
    "a word too few": ("fwe", swap(lambda r: first_output(r) + " ", lambda _: "")),
    "a word of five": ("fwe", swap(first_output, lambda r: first_output(r)[:5])),
    "documents not in turn": ("qa_1", swap(lambda _: "Document 4:", lambda _: "Document 5:")),
    "another size": ("cwe", lambda row: row.update(chosen_size=row["chosen_size"] + 10)),
    "too long": ("qa_2", lambda row: row.update(length=1025, n_tokens_input=1025 - 32)),
    "not what was said": ("niah_multiquery", lambda row: row["analysis"].update(n_needle_sentences=5)),
    "no task": ("vt", lambda row: row.update(task="tv")),
    "no context": ("qa_1", lambda row: row.pop("context")),
}


def line_of(row):
    return next(m[0] for m in eval_ruler.FOUND.finditer(row["context"]) if m[3] == row["outputs"][0])


@pytest.mark.parametrize("fault", ROWS)
def test_a_wrong_sample_is_noticed(tmp_path, fault):
    task, change = ROWS[fault]
    assert len(changed(tmp_path, change, task)) >= 1


def test_a_torn_file_is_noticed(tmp_path):
    text = (HERE / "ruler" / "samples.jsonl").read_text()
    (tmp_path / "samples.jsonl").write_text(text[:-2000])
    assert len(faults(tmp_path)) == 1


CODE = {
    "lines as in main": (versions.VERSIONS["2024"], "lines", vt.join_lines),
    "a gap": (versions.VERSIONS["2024"], "gap", " "),
    "the example as in main": (versions.VERSIONS["2024"], "shot", vt.ExamplePerSample(vt.join_as_in_2024)),
    "steps of 100 words": (versions.VERSIONS["2024"], "sizing", lambda task, length, new: Linear(100, 100, new)),
    "room for fwe's answer": (versions.VERSIONS["2024"], "sizing", versions.main_sizing),
    "the corrected prompt": (versions.VERSIONS["2024"], "prompt", versions.corrected),
}


@FULL
@pytest.mark.parametrize("fault", CODE)
def test_a_version_that_is_not_the_benchmarks_is_noticed(monkeypatch, tmp_path, fault):
    version, field, value = CODE[fault]
    shutil.copytree(SHARED / "prompts", tmp_path / "prompts")
    (tmp_path / "ruler").mkdir()
    lines = [path.read_text().splitlines()[0] for path in (SHARED / "ruler").glob("*.jsonl")]
    (tmp_path / "ruler" / "first.jsonl").write_text("\n".join(lines))
    assert not faults(tmp_path / "ruler")
    monkeypatch.setitem(versions.VERSIONS, version.name, dataclasses.replace(version, **{field: value}))
    assert faults(tmp_path / "ruler")


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (haystacks, "DEPTHS", (0, 50, 100)),
        (niah, "NEEDLE", "One of the magic {kind} for {key} is: {value}."),
        (haystacks, "NOISE", "The grass is green."),
        (vt, "LETTERS", 6),
        (versions, "NIAH", versions.NIAH | {"niah_multivalue": versions.NiahShape("essay", values=3)}),
    ],
)
def test_other_constants_are_noticed(monkeypatch, module, name, value):
    for holder in (module, eval_ruler, *vars(eval_ruler).values()):
        if hasattr(holder, name):
            monkeypatch.setattr(holder, name, value)
    from golden_checks import eval_ruler_facts

    if hasattr(eval_ruler_facts, name):
        monkeypatch.setattr(eval_ruler_facts, name, value)
    assert faults(HERE / "ruler")


def test_order_of_samples():
    first, second = sample.SampleSeed(0, "vt", 1), sample.SampleSeed(0, "cwe", 2)
    assert first.shared_order().random() == second.shared_order().random()
    assert sample.SampleSeed(0, "vt", 1).own_order().random() != sample.SampleSeed(0, "vt", 2).own_order().random()
