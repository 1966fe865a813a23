"""The command line from documents to rows, and what it says to mistakes."""

import dataclasses

import pytest
from absl import flags

from longjax import data
from longjax.cli import prepare_data
from test_data_store import MODEL, TEXTS, TOKENIZER, jsonl, records


def run(command, **given):
    """`longjax-prepare-data command --flag=...`, in this process."""
    lists = {name: x if isinstance(x, list) else [x] for name, x in given.items()}
    words = [f"--{name}={x}" for name, values in lists.items() for x in values]
    prepare_data.main(flags.FlagValues(), ["longjax-prepare-data", command, *words])


def test_from_documents_to_rows(tmp_path, capsys):
    (tmp_path / "x.jsonl").write_bytes(jsonl([*records(TEXTS * 20), {"text": ""}]))
    store, chosen = tmp_path / "store", tmp_path / "chosen"
    run("tokenize", input=f"x:{tmp_path}/x.jsonl", tokenizer=MODEL, store=store, workers=1, shard_tokens=20_000)
    said = capsys.readouterr().out
    assert "skipped: 1 documents that are empty, the first x/x.jsonl:800" in said
    assert "a second" in said
    run("verify", store=store)
    run("select", store=store, selection=chosen, tokens=30_000, shares="store", keep=0.9, short=40, seed=3)
    assert "after:" in capsys.readouterr().out
    for length in (64, 128):
        run("pack", selection=chosen, plan=tmp_path / str(length), length=length)
    short, long = (data.open_plan(tmp_path / str(n), 0, TOKENIZER) for n in (64, 128))
    assert len(short) // 2 == len(long) > 200
    assert short.metadata["selection_sha256"] == long.metadata["selection_sha256"]
    run(
        "pack", selection=chosen, plan=tmp_path / "single", length=64, algorithm="tails", min_length=64, doc_mask="true"
    )
    run("mix", plan=tmp_path / "mixed", part=[f"{tmp_path}/64:0.6", f"{tmp_path}/single:0.4"])
    assert "every 100 rows: 60 of" in capsys.readouterr().out
    run("stages", plan=tmp_path / "both", part=[f"{tmp_path}/64:50", f"{tmp_path}/mixed:100"])
    assert "150 rows in 2 stages" in capsys.readouterr().out
    assert data.open_plan(tmp_path / "both")(0, 200).start_BT is not None


@pytest.mark.parametrize(
    ("command", "given", "words"),
    [
        ("tokenize", {}, "error: --input is missing"),
        ("tokenize", {"input": "x:."}, "error: --tokenizer is missing"),
        ("tokenize", {"input": "x:.", "tokenizer": "/no"}, "error: there is no tokenizer /no"),
        ("tokenize", {"input": f"x:{MODEL.parents[2]}", "tokenizer": MODEL, "template": "chatml"}, "needs the tokens"),
        ("tokenize", {"template": "x"}, "--template=x: value should be one of"),
        ("select", {"tokns": 9}, "Unknown command line flag 'tokns'"),
        ("select", {"store": "/no"}, "error: /no/manifest.json is missing or damaged"),
        ("pack", {"selection": "/no"}, "error: /no/selection.json is missing or damaged: select again"),
        ("mix", {"plan": "x"}, "error: --part is missing"),
        ("mix", {"plan": "x", "part": "a:b"}, "error: --part: 'a:b' must be name:number"),
        ("stages", {"plan": "x", "part": "/no:5"}, "error: /no/plan.json is missing or damaged: name a folder"),
        ("selct", {}, "name a command: tokenize, select, pack"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(command, given, words, capsys):
    with pytest.raises(SystemExit) as stop:
        run(command, **given)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().split("\n")
    assert words in line


def test_help_says_all(capsys):
    run("--help")
    said = capsys.readouterr().out
    names = [field.name for field in dataclasses.fields(prepare_data.PrepareDataOptions)]
    assert all(f"--{name}:" in said or f"--[no]{name}:" in said for name in names)
    for words in ("--tokens=1e9", "--length=32768", "--length=65536", "--shares=slimpajama_code"):
        assert words in said


def test_shares_by_hand():
    options = prepare_data.PrepareDataOptions(shares="a=3,b=1", boost="b", boost_to=0.5)
    assert prepare_data.source_shares(options, None) == {"a": 0.75, "b": 0.5}
