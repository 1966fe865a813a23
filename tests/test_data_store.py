"""From files of any kind to a store: the same documents, whatever their format, the workers, and interruptions."""

import gzip
import hashlib
import itertools
import json
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import time

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longjax import data
from longjax.data import documents, encode, readers
from longjax.data.documents import Fields
from longjax.data.encode import TextEncoder
from longjax.data.plan_files import save_plan
from longjax.data.selection import open_selection
from longjax.data.store_ledger import Layout, Ledger
from longjax.data.store_writer import EncodedDocument, write_shards
from longjax.data.tokenizer import Tokenizer
from longjax.files import sha256_file

ROOT = pathlib.Path(__file__).parent.parent
MODEL = ROOT / "tests" / "base" / "tokenizer.model"
TOKENIZER = Tokenizer(MODEL)
WORDS = [
    "a",
    "tiny",
    "study",
    "of",
    "long",
    "(context)",
    ",",
    "and",
    "few",
    "words",
    ".",
    "caf\u00e9",
    "\u4e2d",
    "1",
    "345",
]


def text(i, lines=6):
    rng = random.Random(i)
    return "".join(
        " ".join(rng.choices(WORDS, k=rng.randrange(1, 15))) + "\n" * rng.randrange(1, 3) for _ in range(lines)
    )


TEXTS = [text(i) for i in range(40)]


def records(texts=TEXTS):
    return [{"text": x, "meta": {"set": "ab"[i % 2]}, "number": i} for i, x in enumerate(texts)]


def jsonl(some):
    return "".join(json.dumps(x) + "\n" for x in some).encode()


def make_txt(folder):
    for i, x in enumerate(TEXTS):
        (folder / f"{i:03}.txt").write_bytes(x.encode())
    return folder


def make_jsonl(folder):
    (folder / "x.jsonl").write_bytes(jsonl(records()))
    return folder / "x.jsonl"


def make_gz(folder):
    (folder / "x.json.gz").write_bytes(gzip.compress(jsonl(records()[:9])) + gzip.compress(jsonl(records()[9:])))
    return folder


def make_zst(folder):
    codec = pa.Codec("zstd")
    frames = [codec.compress(jsonl(x), asbytes=True) for x in (records()[:9], records()[9:25], records()[25:])]
    (folder / "1.jsonl.zst").write_bytes(frames[0] + frames[1])  # as pzstd writes it
    (folder / "2.jsonl.zst").write_bytes(frames[2])
    return folder


def make_list(folder):
    (folder / "x.json").write_text(json.dumps(records()))
    return folder


def make_parquet(folder):
    pq.write_table(pa.Table.from_pylist(records()), folder / "x.parquet", row_group_size=7)
    return folder


def make_dataset(folder):
    datasets.Dataset.from_list(records()).save_to_disk(str(folder / "saved"), num_shards=3)
    return folder / "saved"


MAKERS = {
    "txt": make_txt, "jsonl": make_jsonl, "gz": make_gz, "zst": make_zst, "list": make_list, "parquet": make_parquet,
    "dataset": make_dataset,
}  # fmt: skip


def tokenized(folder, *specs, fields=Fields(), encoder=TextEncoder(), tokenizer=TOKENIZER, **settings):
    inputs = documents.find_inputs([f"label:{x}" if ":" not in str(x) else x for x in specs])
    return data.tokenize(folder, inputs, fields, tokenizer, encoder, **settings)


def ids(store):
    return [store.read(int(d["start"]), int(d["length"])).tolist() for d in store.docs]


EXPECTED = [[*TOKENIZER.encode(x).tolist(), TOKENIZER.eos_id] for x in TEXTS]


# Readers.


@pytest.mark.parametrize("kind", MAKERS)
def test_every_format_gives_the_same_documents(kind, tmp_path):
    (tmp_path / "in").mkdir()
    spec = MAKERS[kind](tmp_path / "in")
    field = None if kind == "txt" else "meta.set"
    store = tokenized(tmp_path / "store", spec, fields=Fields(source=field), shard=400)
    assert ids(store) == EXPECTED
    assert len(store.shards) > 3
    assert [len(x) <= 400 for x in store.shards].count(False) == 0
    assert store.docs["characters"].tolist() == [len(x) for x in TEXTS]
    counts = {name: x["documents"] for name, x in store.manifest["counts"].items()}
    assert counts == ({"label": 40} if kind == "txt" else {"a": 20, "b": 20})
    assert store.manifest["skipped"] == {}


@pytest.mark.parametrize("kind", MAKERS)
def test_readers_say_how_far_they_are(kind, tmp_path):
    inputs = documents.find_inputs([f"x:{MAKERS[kind](tmp_path)}"])
    raws = list(documents.read_documents(inputs, Fields()))
    done = [raw.done for raw in raws]
    assert done == sorted(done)
    assert done[0] > 0
    assert done[-1] == pytest.approx(1.0, abs=0.05)
    for start in (0, 17, 39):  # going on is reading on
        at = (raws[start].file, raws[start].row)
        assert [x.name for x in documents.read_documents(inputs, Fields(), at)] == [x.name for x in raws[start:]]


def test_tokens_are_taken_as_they_are(tmp_path):
    rows = [{"input_ids": list(range(5, 25))}, {"input_ids": [7, 8]}, {"input_ids": [511, 512]}, {"input_ids": []}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    store = tokenized(tmp_path / "store", tmp_path / "x.parquet", skip_bad=True)
    assert ids(store) == [list(range(5, 25)), [7, 8]]
    assert store.manifest["skipped"] == {
        "with ids beyond the tokenizer's 512": [1, "label/x.parquet:2"], "empty": [1, "label/x.parquet:3"]
    }  # fmt: skip
    spans = [{"source": "Book", "start": 0, "end": 12}, {"source": "C4", "start": 12, "end": 20}]
    pq.write_table(pa.Table.from_pylist([{"input_ids": list(range(20)), "source": spans}]), tmp_path / "y.parquet")
    store = tokenized(tmp_path / "other", tmp_path / "y.parquet")
    assert ids(store) == [list(range(12)), list(range(12, 20))]
    assert store.manifest["sources"] == ["Book", "C4"]


def test_what_cannot_be_used_is_counted(tmp_path):
    lines = [
        '{"text": "good"}', '{"text": NaN}', '{"text": 3}', '{"text": "  \\n"}', '{"text": "\\ud800"}', '{"te', "[1]",
        "", '{"text": null}', '{"txt": "another field"}', '{"text": "good"}',
    ]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00words")
    (tmp_path / "c.txt").write_text("good")
    store = tokenized(tmp_path / "store", tmp_path, skip_bad=True)
    assert [TOKENIZER.decode(x[:-1]) for x in ids(store)] == ["good"] * 3
    assert {why: count for why, (count, _) in store.manifest["skipped"].items()} == {
        "not text": 7, "empty": 1, "not Unicode": 1
    }  # fmt: skip
    assert store.manifest["skipped"]["not text"][1] == "label/a.jsonl:1"
    with pytest.raises(ValueError, match=r"hold no document \(1 not text, the first label/b.txt\)"):
        tokenized(tmp_path / "none", tmp_path / "b.txt", skip_bad=True)


@pytest.mark.parametrize("kind", ["gz", "zst", "parquet", "dataset", "list"])
def test_a_torn_file_is_named(kind, tmp_path):
    (tmp_path / "in").mkdir()
    MAKERS[kind](tmp_path / "in")
    path = sorted(p for p in (tmp_path / "in").rglob("*") if p.name.endswith(readers.SUFFIXES))[0]
    if path.name == "dataset_info.json":
        path = next(path.parent.glob("*.arrow"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(ValueError, match=path.name) as said:
        tokenized(tmp_path / "store", next((tmp_path / "in").glob("saved"), tmp_path / "in"))
    assert "\n" not in str(said.value)


def test_mistakes_with_inputs_are_named(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"content": "words"}')
    (tmp_path / "x.pdf").write_text("words")
    (tmp_path / "empty").mkdir()
    for spec, words in {
        f"{tmp_path}": "must be label:path", "a:/nowhere": "/nowhere does not exist",
        f"a:{tmp_path}/x.pdf": "no known format", f"a:{tmp_path}/empty": "holds no .md .py",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=words):
            documents.find_inputs([spec])
    with pytest.raises(ValueError, match=r"x.jsonl, record 0 has no field 'text' but 'content': see --text_field"):
        tokenized(tmp_path / "store", tmp_path / "x.jsonl")
    assert (
        TOKENIZER.decode(ids(tokenized(tmp_path / "ok", tmp_path / "x.jsonl", fields=Fields("content")))[0][:-1])
        == "words"
    )
    with pytest.raises(ValueError, match=r"--source_field=meta.set: a record has no such field, but 'content'"):
        tokenized(tmp_path / "s", tmp_path / "x.jsonl", fields=Fields("content", "meta.set"))


# Writing.


def tree(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_workers_change_no_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "BATCH", 900)  # many batches, so that workers would overtake each other
    source = make_jsonl(tmp_path)
    one = tokenized(tmp_path / "one", source, shard=400)
    two = tokenized(tmp_path / "two", source, shard=400, workers=3)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert one.sha256 == two.sha256


def test_an_interrupted_store_is_finished_to_the_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "BATCH", 900)
    (tmp_path / "in").mkdir()
    source = make_txt(tmp_path / "in")
    tokenized(tmp_path / "straight", source, shard=500)
    done = []
    for after in range(3, 40, 6):

        class Interrupted(TextEncoder):
            left = itertools.count()

            def __call__(self, tokenizer, content, after=after, left=left):
                if next(left) == after:
                    raise KeyboardInterrupt
                return TextEncoder.__call__(self, tokenizer, content)

        folder = tmp_path / f"broken{after}"
        with pytest.raises(KeyboardInterrupt):
            tokenized(folder, source, shard=500, encoder=Interrupted())
        assert not (folder / "manifest.json").exists()
        assert not list(folder.glob("*.new"))
        done.append(len(list(folder.glob("tokens-*.bin"))))
        tokenized(folder, source, shard=500)
        assert tree(folder) == tree(tmp_path / "straight")
    assert len(set(done)) > 3  # shards that were finished


def interrupted(folder, source, shards):
    """-> a folder with some finished shards."""
    inputs = documents.find_inputs([f"label:{source}"])
    settings = {
        "inputs": [sha256_file(x.path) for x in inputs],
        "fields": vars(Fields()),
        "encoder": ["Text", vars(TextEncoder())],
    }
    layout = Layout(tuple(x.name for x in inputs), TOKENIZER.sha256, 512, False, 300, 0.1, settings)
    items = (
        EncodedDocument(n, "label", i, 0, np.array(x), len(t))
        for i, (n, x, t) in enumerate(zip(layout.files, EXPECTED, TEXTS, strict=True))
    )
    ledger = Ledger(folder, layout)

    def some():
        for item in items:
            if len(ledger.shards) == shards:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        write_shards(folder, ledger, some())


@pytest.mark.parametrize("harm", ["none", "torn shard", "no shard", "torn docs", "new file"])
def test_a_harmed_shard_is_made_again(harm, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    source = make_txt(tmp_path / "in")
    tokenized(tmp_path / "straight", source, shard=300)
    interrupted(folder := tmp_path / "broken", source, 3)
    if harm == "torn shard":
        os.truncate(folder / "tokens-00001.bin", 10)
    elif harm == "no shard":
        (folder / "tokens-00001.bin").unlink()
    elif harm == "torn docs":
        os.truncate(folder / "docs-00001.npy", 10)
    elif harm == "new file":
        (folder / "tokens-00003.bin.new").write_bytes(b"half")
    seen = []
    call = TextEncoder.__call__
    monkeypatch.setattr(TextEncoder, "__call__", lambda self, t, x: seen.append(x) or call(self, t, x))
    tokenized(folder, source, shard=300)
    assert tree(folder) == tree(tmp_path / "straight")
    straight = data.open_store(tmp_path / "straight")
    finished = {"none": 3, "new file": 3}.get(harm, 1)  # shards, which are not made again
    assert len(TEXTS) - len(seen) == (straight.shard_of(straight.docs["start"]) < finished).sum()


def test_a_finished_store_is_not_made_again(tmp_path, monkeypatch):
    source = make_jsonl(tmp_path)
    first = tokenized(tmp_path / "store", source)
    monkeypatch.setattr(TextEncoder, "__call__", None)
    assert tokenized(tmp_path / "store", source).sha256 == first.sha256
    with pytest.raises(
        ValueError, match="holds a finished store of other inputs or settings: choose another folder, or delete it"
    ):
        tokenized(tmp_path / "store", source, held_out=0.5)


def test_a_store_is_gone_on_with_only_as_it_was_begun(tmp_path):
    (tmp_path / "in").mkdir()
    source = make_txt(tmp_path / "in")
    interrupted(tmp_path / "broken", source, 2)
    with pytest.raises(ValueError, match="was begun with other encoder: delete it, or run as before"):
        tokenized(tmp_path / "broken", source, shard=300, encoder=TextEncoder(add_bos=True))
    with pytest.raises(ValueError, match="was begun with other shard:"):
        tokenized(tmp_path / "broken", source, shard=301)
    (tmp_path / "in" / "999.txt").write_text("more")
    with pytest.raises(ValueError, match="was begun with other files, inputs:"):
        tokenized(tmp_path / "broken", source, shard=300)
    (tmp_path / "broken" / "ledger.json").write_text("{")
    with pytest.raises(ValueError, match=r"ledger\.json is damaged: delete"):
        tokenized(tmp_path / "broken", source, shard=300)


def command(store, source):
    about = [f"--input=x:{source}", f"--tokenizer={MODEL}", f"--store={store}", "--shard_tokens=30000", "--workers=2"]
    return [sys.executable, "-m", "tools.prepare_data", "tokenize", *about]


def test_kill_9(tmp_path):
    """Of the process that writes: its workers end too, and the store is finished to the byte."""
    (tmp_path / "x.jsonl").write_bytes(jsonl(records([text(i, 1500) for i in range(16)])))
    process = subprocess.Popen(command(tmp_path / "broken", tmp_path / "x.jsonl"), cwd=ROOT, start_new_session=True)
    while not (tmp_path / "broken" / "ledger.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "broken" / "manifest.json").exists()
    for _ in range(100):
        try:
            os.killpg(process.pid, 0)  # is anybody left?
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("workers are left")
    done = len(json.loads((tmp_path / "broken" / "ledger.json").read_text())["shards"])
    subprocess.run(command(tmp_path / "broken", tmp_path / "x.jsonl"), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    tokenized(tmp_path / "straight", f"x:{tmp_path / 'x.jsonl'}", shard=30_000, held_out=0.02)
    assert tree(tmp_path / "broken") == tree(tmp_path / "straight")
    assert 0 < done < len(data.open_store(tmp_path / "broken").shards)


def test_a_full_disk_leaves_what_was_there(tmp_path):
    (tmp_path / "in").mkdir()
    source = make_txt(tmp_path / "in")
    interrupted(folder := tmp_path / "broken", source, 2)
    before = tree(folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    try:
        with pytest.raises(ValueError, match=r"(tokens|docs)-00002\.\w+ cannot be written: File too large"):
            tokenized(folder, source, shard=300)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert tree(folder) == before
    tokenized(folder, source, shard=300)


def test_ids_have_room(tmp_path):
    for vocab, dtype in ((65_536, "<u2"), (65_537, "<u4")):
        folder = tmp_path / str(vocab)
        layout = Layout(("made",), "none", vocab, held_out=0.0)
        store = write_shards(
            folder, Ledger(folder, layout), [EncodedDocument("x", "made", 0, 0, np.array([0, vocab - 1]))]
        )
        assert store.manifest["dtype"] == dtype
        assert ids(store) == [[0, vocab - 1]]
    data.check_vocab(store, 65_537, "--plan_dir=x")
    with pytest.raises(
        ValueError, match="--plan_dir=x was tokenized with a vocabulary of 65537 but the model has 32000"
    ):
        data.check_vocab(store, 32_000, "--plan_dir=x")


def made(folder, items, **settings):
    layout = Layout(("made",), "none", 100, held_out=0.0, **settings)
    return write_shards(folder, Ledger(folder, layout), items)


def test_a_document_longer_than_a_shard_has_its_own(tmp_path):
    sizes = (3, 12, 4, 6, 1, 30)
    store = made(tmp_path, [EncodedDocument(str(i), "x", 0, i, np.full(n, i)) for i, n in enumerate(sizes)], shard=10)
    assert [len(x) for x in store.shards] == [3, 12, 10, 1, 30]
    assert ids(store) == [[i] * n for i, n in enumerate(sizes)]


def test_a_source_is_not_a_name(tmp_path):
    with pytest.raises(ValueError, match="--source_field gives 65537 sources, like 0: a store has at most 65536"):
        made(tmp_path, (EncodedDocument("x", str(i), 0, i, np.ones(1)) for i in range(2**16 + 1)))


# Stores and plans on disk.


@pytest.fixture
def planned(tmp_path):
    source = make_jsonl(tmp_path)
    store = tokenized(tmp_path / "store", source, shard=400)
    plan = data.pack(store, data.select_all(store), data.Concat(), 64, doc_mask=True, seed=4)
    save_plan(plan, tmp_path / "plan")
    return plan


def test_a_plan_comes_back(planned, tmp_path):
    again = data.open_plan(tmp_path / "plan", 4, TOKENIZER)
    assert again.sha256 == planned.sha256
    for a, b in zip(again(3, 9), planned(3, 9), strict=True):
        np.testing.assert_array_equal(a, b)
    data.save_plan(data.pack(planned.store, data.select_all(planned.store), data.Single(), 64), tmp_path / "other")
    data.save_mixed(tmp_path / "mixed", [str(tmp_path / "plan"), str(tmp_path / "other")], [3, 1], 8)
    data.save_curriculum(tmp_path / "both", [str(tmp_path / "mixed"), str(tmp_path / "other")], [10, 5])
    mixed, both = data.open_plan(tmp_path / "mixed", 4), data.open_plan(tmp_path / "both", 4)
    np.testing.assert_array_equal(both(0, 10).tokens_BS, mixed(0, 10).tokens_BS)
    assert (mixed.store.sha256, both.length) == (planned.store.sha256, 64)
    with pytest.raises(ValueError, match="mixed is itself made of plans"):
        data.save_mixed(tmp_path / "no", [str(tmp_path / "mixed")], [1])
    with pytest.raises(ValueError, match="both is itself a curriculum"):
        data.save_curriculum(tmp_path / "no", [str(tmp_path / "both")], [1])
    save_plan(data.pack(planned.store, data.select_all(planned.store), data.Concat(), 64), tmp_path / "plan")
    with pytest.raises(ValueError, match="plan was packed anew since"):
        data.open_plan(tmp_path / "mixed")


@pytest.mark.parametrize(
    "harm", ["torn", "flipped", "none", "no json", "other store", "no shard", "torn shard", "no docs"]
)
def test_a_plan_that_does_not_fit_is_named(harm, planned, tmp_path):
    npz, shard = tmp_path / "plan" / "plan.npz", tmp_path / "store" / "tokens-00001.bin"
    content = npz.read_bytes()
    if harm == "torn":
        npz.write_bytes(content[:-50])
    elif harm == "flipped":
        at = content.index(b"size.npy") + 140
        npz.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    elif harm == "none":
        npz.unlink()
    elif harm == "no json":
        (tmp_path / "plan" / "plan.json").unlink()
    elif harm == "other store":
        for path in (tmp_path / "store").iterdir():
            path.unlink()
        tokenized(tmp_path / "store", tmp_path / "x.jsonl", shard=400, encoder=TextEncoder(True))
    elif harm == "no shard":
        shard.unlink()
    elif harm == "torn shard":
        os.truncate(shard, 10)
    else:
        (tmp_path / "store" / "docs.npy").unlink()
    words = {"no json": "plan.json", "other store": "another store", "no shard": "tokens-00001.bin is missing",
             "torn shard": "tokens-00001.bin does not match", "no docs": "docs.npy is missing"}  # fmt: skip
    with pytest.raises(ValueError, match=words.get(harm, "plan.npz")) as said:
        data.open_plan(tmp_path / "plan")
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plan.json", "{}"), ("plan.json", '{"kind": 5}'), ("plan.json", '{"kind": "plan", "store": 5}'),
        ("plan.json", '{"kind": "mixed", "plans": [5], "shares": [1], "block": 8}'),
        ("plan.json", '{"kind": "curriculum", "plans": [], "rows": ["x"]}'),
        ("plan.json", '{"kind": "mixed", "plans": [{"folder": ".", "content": ""}], "shares": [1], "block": 8}'),
        ("manifest.json", '{"shards": [5]}'), ("manifest.json", '{"shards": 5}'), ("selection.json", "{}"),
    ],
)  # fmt: skip
def test_a_description_of_other_types_is_damaged(name, text, planned, tmp_path):
    """Values of wrong types, missing keys, and a mixture of itself."""
    folder = {"plan.json": "plan", "manifest.json": "store", "selection.json": "selection"}[name]
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name} is damaged: ") as said:
        open_selection(tmp_path / folder) if name == "selection.json" else data.open_plan(tmp_path / "plan")
    assert "\n" not in str(said.value)


def test_a_store_of_an_earlier_version_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text('{"tokens": 5, "documents": []}')
    with pytest.raises(ValueError, match=r"manifest\.json is of an earlier version: delete"):
        data.open_store(tmp_path)


def test_a_plan_of_another_tokenizer_is_named(planned, tmp_path):
    manifest = tmp_path / "store" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(TOKENIZER.sha256, "0" * 64))
    with pytest.raises(ValueError, match=r"manifest\.json was written with another tokenizer than .*tokenizer\.model"):
        data.open_plan(tmp_path / "plan", 0, TOKENIZER)
