"""Mutated files and flags: success, or the one line of a refusal; nothing else. Derandomized, so that CI repeats it."""

import contextlib
import copy
import functools
import io
import json
import pathlib
import resource
import shutil
import struct
import tempfile

import pytest
from absl import flags
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longjax.checkpoints import pretrained
from longjax.cli import evaluate, study, train
from longjax.data import documents
from longjax.data.tokenizer import Tokenizer
from longjax.methods import METHODS
from longjax.study.devices import Device
from test_convert_tool import CASES, LLAMA

BASE = pathlib.Path(__file__).parents[1] / "longjax" / "bases" / "mini"
MEMORY = 16 * 2**30  # of addresses, which no refusal needs
few = functools.partial(settings, derandomize=True, deadline=None, database=None, suppress_health_check=[*HealthCheck])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8),
    st.sampled_from([0, 1, -1, 10**12, "4", "nan", "../x", "/etc/passwd", "\ud83d", 1e400]),
    st.sampled_from([[], {}, [[]], {"a": 1}]).map(copy.deepcopy),
)  # fmt: skip
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(st.text(max_size=5), SCALARS, max_size=3))


@pytest.fixture(autouse=True)
def bounded_memory():
    """An input that asks for more memory than any refusal needs fails as MemoryError, which no refusal is."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def refused_or_done(action):
    """Runs it; a refusal is a ValueError with one line of words, as the commands print it."""
    refusal = None
    try:
        action()
    except ValueError as error:
        refusal = error
    assert refusal is None or (type(refusal) is ValueError and str(refusal).strip()), repr(refusal)


@st.composite
def mutated(draw, content):
    """-> a JSON object with one to three of its values, at any depth, changed, moved or left out."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        place = content
        while True:
            keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], (dict, list)) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            if draw(st.booleans()):
                place[key] = draw(VALUES)
            else:
                del place[key]
            break
        if isinstance(place, dict) and draw(st.booleans()):
            place[draw(st.text(max_size=6))] = draw(VALUES)
    return content


@contextlib.contextmanager
def changed(source, name, content):
    """-> a new folder with the files of another, one of them with this content."""
    with tempfile.TemporaryDirectory() as folder:
        for path in source.iterdir():
            if path.name != name:
                pathlib.Path(folder, path.name).symlink_to(path)
        pathlib.Path(folder, name).write_text(dumped(content))
        yield pathlib.Path(folder)


def dumped(content):
    return json.dumps(content, ensure_ascii=True, allow_nan=True)


def config_of(name):
    return json.loads((CASES / name / "hf" / "config.json").read_text())


CONFIGS = [config_of(path.parent.name) for path in sorted(CASES.glob("*/hf"))][:8]


@few(max_examples=120)
@given(content=st.sampled_from(CONFIGS).flatmap(mutated))
def test_config_json(content):
    """Opening a checkpoint reads its configuration, and compares it with the tensors."""
    with changed(LLAMA, "config.json", content) as folder:
        refused_or_done(lambda: pretrained.open_checkpoint(folder))


def header_of(path):
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


WHOLE = next(path for path in sorted(CASES.glob("*/hf/model.safetensors")) if path.stat().st_size < 200_000)
HEADER, BYTES = header_of(WHOLE)


@few(max_examples=100)
@given(header=mutated(HEADER), declared=st.one_of(st.none(), st.integers(0, 2**64 - 1)), cut=st.integers(0, 2**12))
def test_safetensors(tmp_path_factory, header, declared, cut):
    folder = tmp_path_factory.mktemp("s", numbered=True)
    shutil.copy(WHOLE.with_name("config.json"), folder)
    encoded = dumped(header).encode()
    size = struct.pack("<Q", len(encoded) if declared is None else declared)
    (folder / "model.safetensors").write_bytes((size + encoded + BYTES)[: None if cut % 3 else -cut or None])

    def read():
        tensors = pretrained.open_checkpoint(folder).tensors
        for name in tensors.shapes():
            tensors.read(name)

    refused_or_done(read)
    shutil.rmtree(folder)


INDEX = json.loads((LLAMA / "model.safetensors.index.json").read_text())


@few(max_examples=60)
@given(content=mutated(INDEX))
def test_weight_index(content):
    with changed(LLAMA, "model.safetensors.index.json", content) as folder:
        refused_or_done(lambda: pretrained.open_checkpoint(folder))


LORA = CASES / "lora_rs_patterns"
ADAPTER = json.loads((LORA / "adapter" / "adapter_config.json").read_text())


@few(max_examples=60)
@given(content=mutated(ADAPTER))
def test_adapter_config(content):
    with changed(LORA / "adapter", "adapter_config.json", content) as folder:
        refused_or_done(lambda: pretrained.open_checkpoint(LORA / "hf", folder))


TOKENIZER_CONFIG = {
    "bos_token": "<s>", "eos_token": {"content": "</s>"}, "add_bos_token": True, "add_prefix_space": None,
    "additional_special_tokens": ["<x>"], "added_tokens_decoder": {"5": {"content": "<pad>", "special": True}},
}  # fmt: skip


@few(max_examples=60)
@given(config=mutated(TOKENIZER_CONFIG), ends=VALUES)
def test_files_beside_a_tokenizer(tmp_path_factory, config, ends):
    folder = tmp_path_factory.mktemp("t", numbered=True)
    shutil.copy(BASE / "tokenizer.model", folder)
    (folder / "tokenizer_config.json").write_text(dumped(config))
    (folder / "generation_config.json").write_text(dumped({"eos_token_id": ends}))
    refused_or_done(lambda: Tokenizer(folder, 1).encode("a text", bos=True))
    shutil.rmtree(folder)


@few(max_examples=80)
@given(lines=st.lists(st.one_of(mutated({"text": "words", "meta": {"source": "x"}}).map(dumped).map(str.encode),
                                st.binary(max_size=30)), min_size=1, max_size=4))  # fmt: skip
def test_lines_of_documents(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("d", numbered=True)
    (folder / "a.jsonl").write_bytes(b"\n".join(lines))

    def read():
        fields = documents.Fields("text", "meta.source", False)
        for document in documents.read_documents(documents.find_inputs([f"a:{folder}"]), fields):
            assert document.content is None or isinstance(document.content, str)

    refused_or_done(read)
    shutil.rmtree(folder)


NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
    st.sampled_from(["", "x", "1,2", "0", "1e9", "-1", "\n"]),
)


def exits(main, *arguments):
    """Runs a command in this process: it ends well, or with one line and code 2."""
    code, said = 0, io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            main(*arguments)
        except SystemExit as end:
            code = end.code
    errors = [line for line in said.getvalue().splitlines() if line.startswith("error: ")]
    assert (code, len(errors)) in ((None, 0), (0, 0), (2, 1)), (code, said.getvalue())


@few(max_examples=60)
@given(flag=st.sampled_from(["lengths", "num_samples", "batch_tokens", "max_length", "seed", "method_config", "tasks"]),
       value=NUMBERS)  # fmt: skip
def test_flags_of_evaluate(tmp_path_factory, flag, value):
    where = tmp_path_factory.mktemp("e", numbered=True)
    fixed = {
        "checkpoint": str(BASE),
        "tasks": "perplexity",
        "lengths": "64",
        "data_dir": str(where),
        "out_dir": str(where),
    }
    words = [f"--{name}={x}" for name, x in (fixed | {flag: value}).items()]
    exits(evaluate.main, flags.FlagValues(), ["longjax-evaluate", *words, "--dry_run"])
    shutil.rmtree(where, ignore_errors=True)


@few(max_examples=60)
@given(flag=st.sampled_from(["extended", "tokens", "samples", "hours", "steps", "learning_rate", "arms", "batch_size"]),
       value=NUMBERS)  # fmt: skip
def test_flags_of_a_study(monkeypatch, flag, value):
    monkeypatch.setattr(study, "probe_devices", lambda: Device("cpu", "cpu", 1, None, 1e11))
    fixed = {"base_dir": str(BASE), "extended": "1024", "tokens": "1e5", "arms": "base"}
    words = [f"--{name}={x}" for name, x in (fixed | {flag: value}).items()]
    exits(study.main, flags.FlagValues(), ["longjax-study", *words, "--dry_run"])


@few(max_examples=40)
@given(flag=st.sampled_from(["factor", "steps", "learning_rate", "ema_decay", "length", "warmup", "max_grad_norm"]),
       value=NUMBERS)  # fmt: skip
def test_flags_of_an_experiment(flag, value):
    """With a text that is not there, so that nothing begins: whatever the flag, one line."""
    words = [f"--{flag}={value}", "--text_dir=/nowhere", "--run_dir=/proc/nowhere", "--preset=quick"]
    exits(train.experiment, METHODS["yarn"], flags.FlagValues(), ["longjax-train", *words])
