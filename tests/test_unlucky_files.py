"""Files that are of another folder, another store, or no ordinary file are refused in one line."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from longjax import data, files
from longjax.data import documents, readers
from test_data_store import TEXTS, jsonl, records, tokenized


def test_a_selection_of_another_store_is_refused(tmp_path):
    for name, texts in (("old", TEXTS), ("new", TEXTS[:20])):
        (tmp_path / f"{name}.jsonl").write_bytes(jsonl(records(texts)))
    old, new = (tokenized(tmp_path / name, tmp_path / f"{name}.jsonl") for name in ("old", "new"))
    chosen = data.select_all(old)
    assert len(data.pack(old, chosen, data.Concat(), 16))
    with pytest.raises(ValueError, match=r"was chosen from another store than what .*new holds: select again"):
        data.pack(new, chosen, data.Concat(), 16)


@pytest.mark.parametrize("name", ["../private.jsonl", "{}/private.jsonl", "a/../../private.jsonl", 7, None])
def test_a_saved_dataset_reads_nothing_outside_its_folder(name, tmp_path):
    (tmp_path / "private.jsonl").write_text('{"text": "private"}')
    (tmp_path / "saved").mkdir()
    name = name.format(tmp_path) if isinstance(name, str) else name
    (tmp_path / "saved" / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(ValueError, match=r"state\.json (names|is damaged)"):
        documents.find_inputs([f"a:{tmp_path}/saved"])


def test_deep_json_is_one_bad_record(tmp_path):
    deep = "[" * 100_000
    (tmp_path / "x.jsonl").write_text(f'{{"text": "a"}}\n{{"text": {deep}\n{{"text": "b"}}\n')
    assert [record for record, _ in readers.iter_records(tmp_path / "x.jsonl")] == [{"text": "a"}, None, {"text": "b"}]
    (tmp_path / "y.json").write_text(deep)
    with pytest.raises(ValueError, match=r"y\.json is neither JSON lines nor a JSON list"):
        list(readers.iter_records(tmp_path / "y.json"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_fifo_among_the_documents_is_refused(tmp_path):
    os.mkfifo(tmp_path / "x.jsonl")
    with pytest.raises(ValueError, match=r"x\.jsonl is not an ordinary file"):
        documents.find_inputs([f"a:{tmp_path}"])


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    files.check_writable(tmp_path / "new" / "folder")
    assert not list((tmp_path / "new" / "folder").iterdir())
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"^[^\n]*file[^\n]* cannot be written: [^\n]*; choose another folder$"):
            files.check_writable(folder)


@pytest.mark.parametrize("least", [10**6])
def test_an_empty_selection_is_refused(least, tmp_path):
    (tmp_path / "x.jsonl").write_bytes(jsonl(records()))
    store = tokenized(tmp_path / "store", tmp_path / "x.jsonl")
    with pytest.raises(ValueError, match="no document is selected: lower --min_length"):
        data.select(store, data.Rule(min_length=least))
    assert np.all(np.isin(data.select(store, data.Rule()).docs, np.arange(len(store.docs))))


def test_an_edited_file_is_another_input(tmp_path):
    """Of the same size, after a finished store and after an interrupted one."""
    (tmp_path / "x.jsonl").write_text('{"text": "AAAA"}\n')
    tokenized(tmp_path / "store", tmp_path / "x.jsonl")
    begun = {"layout": json.loads((tmp_path / "store" / "manifest.json").read_text()), "shards": []}
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "ledger.json").write_text(json.dumps(begun))
    (tmp_path / "x.jsonl").write_text('{"text": "BBBB"}\n')
    with pytest.raises(ValueError, match="a finished store of other inputs or settings"):
        tokenized(tmp_path / "store", tmp_path / "x.jsonl")
    with pytest.raises(ValueError, match="was begun with other inputs: delete it"):
        tokenized(tmp_path / "begun", tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ('\ufeff{"text": "a"}\n{"text": "b"}\n', ["a", "b"]),
        ('\ufeff[{"text": "a"}, {"text": "b"}]', ["a", "b"]),
        ('\n\n [\n{"text": "a"},\n{"text": "b"}\n]\n', ["a", "b"]),
        ('{\n "text": "a",\n "meta": {}\n}\n', ["a"]),
        ('\ufeff{\n "text": "a"\n}', ["a"]),
        ('{"te\n{"text": "b"}\n', [None, "b"]),
        ("", []),
    ],
)
def test_json_is_read_with_a_byte_order_mark_and_over_several_lines(content, texts, tmp_path):
    (tmp_path / "x.json").write_text(content, "utf-8")
    assert [record and record["text"] for record, _ in readers.iter_records(tmp_path / "x.json")] == texts


def test_a_long_file_with_a_torn_first_line_is_not_held_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MAX_OBJECT", 20)
    (tmp_path / "x.jsonl").write_text('{"te\n' + '{"text": "b"}\n' * 9)
    found = readers.iter_records(tmp_path / "x.jsonl")
    assert [record for record, _ in found] == [None, *[{"text": "b"}] * 9]


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path):
    (tmp_path / "x.txt").write_text("words", "utf-8-sig")
    assert list(readers.iter_records(tmp_path / "x.txt")) == [({"text": "words"}, 1.0)]


@pytest.mark.parametrize("line", ['{"te', '{"text": "\\ud83d"}', '{"text": null}', '{"txt": "x"}', "[1]"])
def test_a_bad_document_is_refused_without_skip_bad(line, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "good"}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"^label/x\.jsonl:1 is not [^\n]*--skip_bad"):
        tokenized(tmp_path / "strict", tmp_path / "x.jsonl")
    (tmp_path / "config.json").write_text('{\n "vocab": 9\n}')  # without the field in its first record
    store = tokenized(tmp_path / "store", tmp_path / "x.jsonl", tmp_path / "config.json", skip_bad=True)
    assert len(store.docs) == 1
    assert sum(count for count, _ in store.manifest["skipped"].values()) == 2


def test_what_is_not_read_below_a_folder_is_named(tmp_path):
    for name in ("other", "in"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_text("words")
    assert len(documents.find_inputs([f"a:{tmp_path}/in"])) == 1
    (tmp_path / "in" / ".hidden").write_text("x")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "other")
    (tmp_path / "in" / "y.csv").write_text("x")
    with pytest.raises(ValueError, match=r"holds 2 links .*, the first .*linked: .*--skip_bad"):
        documents.find_inputs([f"a:{tmp_path}/in"])
    assert [file.name for file in documents.find_inputs([f"a:{tmp_path}/in"], skip_bad=True)] == ["a/x.txt"]


COMMAND = "import sys; from longjax.cli import prepare_data; prepare_data.main(argv=['x', {words}])"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(("target", "code", "lines"), [("pipe", 141, 0), ("/dev/full", 2, 1)])
def test_output_that_nobody_takes_ends_a_command_in_a_line(target, code, lines):
    if target == "pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open(target, os.O_WRONLY)
    words = [sys.executable, "-c", COMMAND.format(words="'--help'")]
    ended = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert ended.returncode == code, ended.stderr
    assert len(ended.stderr.splitlines()) == lines, ended.stderr
