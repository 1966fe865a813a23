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
