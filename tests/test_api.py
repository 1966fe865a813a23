"""The Python API: what `longjax.load` returns is the model itself, and a step of it is the trainer's."""

import ast
import dataclasses
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from absl import logging

import longjax
from longjax import api, sharding
from longjax.attention.core import TokenPositions
from longjax.checkpoints import hf_writer, orbax_params, pretrained
from longjax.data import RowBatch
from longjax.methods import clex, landmark, ntk_frozen, self_extend, with_lora, yarn
from longjax.model.llama import logits
from longjax.progress import no_progress
from longjax.study.presets import MINI
from longjax.training.trainer import TrainingRun, train
from test_adapters import factors, write

BASE = pathlib.Path(str(MINI.base_dir))
TOKENS_BS = np.random.default_rng(0).integers(3, 2000, (2, 65)).astype(np.int32)
TOKENS_BT = TOKENS_BS[:, :-1]
PROMPT = "The pass key is 49283. Remember it. 49283 is the pass key. What is the pass key? The pass key is"
METHODS = {
    "yarn": yarn(factor=8.0),
    "ntk_frozen": ntk_frozen(),
    "clex": clex(max_factor=4, ode_steps=16),
    "landmark": landmark(16, 2, row_length=64),
    "lora": with_lora(yarn(factor=8.0), 4),
}


@pytest.fixture(scope="module")
def load():
    """-> load(name, **options), in float32; each model is loaded once."""
    loaded = {}

    def get(name):
        if name not in loaded:
            loaded[name] = longjax.load(BASE, METHODS.get(name), dtype="float32")
        return loaded[name]

    return get


def log_softmax(x):
    return x - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)) - x.max(-1, keepdims=True)


def assert_same_bits(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


# The package


def test_the_import_starts_no_jax():
    """Half of the time is the interpreter's margin: the module alone takes 2 ms."""
    program = (
        "import sys, time; start = time.perf_counter(); import longjax; "
        "print(time.perf_counter() - start, *sorted({'jax', 'numpy', 'flax'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=BASE)
    seconds, *libraries = done.stdout.split()
    assert float(seconds) < 0.1
    assert libraries == []


def test_public_names_are_there():
    assert all(getattr(longjax, name) is not None for name in longjax.__all__)
    assert {*longjax.__all__} <= {*dir(longjax)}
    assert longjax.load is api.load
    with pytest.raises(AttributeError, match="module 'longjax' has no attribute 'lod'"):
        longjax.lod  # noqa: B018
    program = ast.parse(pathlib.Path(longjax.__file__).read_text())
    typed = [n for n in ast.walk(program) if isinstance(n, ast.ImportFrom) and n.module.startswith("longjax")]
    assert sorted(a.name for n in typed for a in n.names) == sorted(longjax.__all__)


def test_the_version_has_one_source():
    root = pathlib.Path(longjax.__file__).parents[1]
    command = [sys.executable, "setup.py", "--version"]
    built = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout.split()[-1]
    assert built == longjax.__version__


# Inference


@pytest.mark.parametrize("name", ["yarn", "ntk_frozen", "clex", "lora"])
def test_logits_are_those_of_the_model(load, name):
    """As people with a loop of their own call it: `length` chooses the frequencies."""
    lm = load(name)
    model = longjax.Llama(lm.model.cfg, lm.model.method)
    positions = TokenPositions.whole(*TOKENS_BT.shape)
    for length in (64, 1000):
        hidden, _ = model.apply({"params": lm.params}, TOKENS_BT, positions, length)
        want = np.asarray(logits(lm.params, hidden))
        got = lm.logits(TOKENS_BT, length)
        assert (got.dtype, got.shape) == (np.float32, (2, 64, lm.model.cfg.vocab))
        np.testing.assert_allclose(got, want, atol=2e-4)  # blockwise against dense attention, logits near 10
    changed = np.abs(lm.logits(TOKENS_BT) - lm.logits(TOKENS_BT, 1000)).max() > 1e-2
    assert changed == (name in ("ntk_frozen", "clex"))


@pytest.mark.parametrize("name", ["yarn", "clex", "landmark"])
def test_loglikelihoods_are_those_of_the_logits(load, name):
    lm = load(name)
    rows = [TOKENS_BT[0], TOKENS_BT[1, :40], TOKENS_BT[1, :1].tolist()]
    for row, got in zip(rows, lm.loglikelihood(rows), strict=True):
        x_TV = log_softmax(lm.logits([row])[0].astype(np.float64))
        want = sum(x_TV[t, row[t + 1]] for t in range(len(row) - 1))
        assert got.num_tokens == len(row) - 1
        assert got.total == pytest.approx(want, abs=1e-4 * len(row))
    assert got == (0.0, 0)
    assert np.isnan(got.perplexity)


def test_a_text_is_scored_whole_after_the_id_that_opens_it(load):
    lm = load("yarn")
    text = "def f(x): return x"
    ids = lm.tokenizer.encode(text).tolist()
    by_text, by_ids = lm.loglikelihood([text, [lm.tokenizer.bos_id, *ids]])
    assert by_text == by_ids
    assert by_text.num_tokens == len(ids)
    assert by_text.perplexity == pytest.approx(np.exp(-by_text.total / len(ids)))


@pytest.mark.parametrize("name", ["ntk_frozen", "landmark"])
def test_generation_is_the_likeliest_token_again_and_again(load, name):
    lm, new = load(name), 6
    row = [lm.tokenizer.bos_id, *lm.tokenizer.encode("import os\n\n\ndef main(")]
    (got,), length = lm.generate([row], new), len(row) + new
    for _ in range(new):
        row.append(int(lm.logits([row], length)[0, -1, : lm.tokenizer.vocab].argmax()))
    assert got == lm.tokenizer.decode(row[-new:])


def test_generation_of_texts_and_its_end(load):
    lm = load(None)
    prompts = [PROMPT, "def f(x):\n    return"]
    free = lm.generate(prompts, max_new_tokens=12)
    assert free[0].startswith(" 49283\n")
    ids = [[lm.tokenizer.bos_id, *lm.tokenizer.encode(prompt)] for prompt in prompts]
    assert lm.generate(ids, 12) == free
    assert lm.generate(prompts[:1], 12, stop="\n") == [" 49283"]
    assert lm.generate(prompts[:1], 12, stop=["no such text", "83"]) == [" 492"]


# Training


@dataclasses.dataclass(frozen=True)
class SameRows:
    """A source that gives TOKENS_BS at every step."""

    length: int = 64
    sha256: str = "same rows"

    def __call__(self, first, count):
        return RowBatch(TOKENS_BS, np.ones((2, 64), np.float32))


@pytest.mark.parametrize("name", ["yarn", "clex", "landmark", "lora"])
def test_a_step_is_the_trainer_s(load, name, tmp_path):
    lm = load(name)
    recipe = longjax.Recipe(steps=2, batch_size=2, learning_rate=1e-3, warmup=1, ema_decay=0.5)
    run = TrainingRun(lm.train_model, recipe, SameRows(), tmp_path, {})
    want = train(run, lm.params, no_progress)
    state, losses = lm.init_train_state(recipe), []
    for _ in range(2):
        state, metrics = lm.train_step(recipe, state, TOKENS_BS)
        losses.append(float(metrics["loss"]))
    assert_same_bits(state.params(), want.params())
    assert_same_bits(state.params(average=True), want.params(average=True))
    assert losses[1] < losses[0]
    if name in ("yarn", "lora"):  # the others train with another attention, or random factors
        scores = lm.loglikelihood(TOKENS_BS)
        assert losses[0] == pytest.approx(-np.mean([score.total for score in scores]) / 64, rel=1e-5)


def test_frozen_methods_are_not_trained():
    lm = longjax.load(BASE, self_extend(window=64, group=16))
    with pytest.raises(ValueError, match="the method trains no parameter: evaluate it without training"):
        lm.init_train_state(longjax.Recipe())


# Directories


@pytest.mark.parametrize("name", ["yarn", "clex", "landmark"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_saved_is_loaded_bit_for_bit(load, name, dtype, tmp_path, monkeypatch):
    source = load(name)
    params = jax.tree.map(lambda x: x + 0.01 * jax.random.normal(jax.random.key(1), x.shape), source.params)
    cast = {n: x if n == "method" else jax.tree.map(lambda x: x.astype(dtype), x) for n, x in params.items()}
    lm = source.replace(params=cast)
    notes = lm.save_pretrained(tmp_path)
    assert (notes == []) == (name == "yarn")
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda *args: warnings.append(args))
    again = longjax.load(tmp_path, METHODS[name] if notes else None, dtype=dtype)
    assert_same_bits(again.params, lm.params)
    assert again.model.cfg.vocab == lm.model.cfg.vocab
    assert warnings == []
    if notes:
        with pytest.raises(ValueError, match=f"is for another method: name it .* {name}"):
            longjax.load(tmp_path)


def test_lora_is_saved_merged(load, tmp_path):
    lm = load("lora")
    recipe = longjax.Recipe(batch_size=2, learning_rate=1e-2, warmup=1, ema_decay=0)
    state, _ = lm.train_step(recipe, lm.init_train_state(recipe), TOKENS_BS)
    trained = lm.replace(params=state.params())
    assert trained.save_pretrained(tmp_path / "out") == []
    again = longjax.load(tmp_path / "out", dtype="float32")
    assert "method" not in again.params
    np.testing.assert_allclose(again.logits(TOKENS_BT), trained.logits(TOKENS_BT), atol=2e-4)
    assert np.abs(again.logits(TOKENS_BT) - lm.logits(TOKENS_BT)).max() > 1e-2


def test_adapters_are_added(load, tmp_path):
    lm, module = load(None), "model.layers.1.self_attn.q_proj"
    held = {name: 0.1 * x for name, x in factors(module, 128, 128).items()}
    adapted = longjax.load(BASE, adapter=write(tmp_path / "adapter", held), dtype="float32")
    b, a = (held[f"base_model.model.{module}.lora_{x}.weight"] for x in "BA")
    want = np.asarray(lm.params["q_DNH"][1]) + (2.0 * b @ a).T.reshape(128, 2, 64)
    np.testing.assert_allclose(adapted.params["q_DNH"][1], want, atol=1e-6)
    np.testing.assert_array_equal(adapted.params["q_DNH"][0], lm.params["q_DNH"][0])


def test_orbax_directories_are_loaded(load, tmp_path):
    source = pretrained.open_checkpoint(BASE)
    tensors = pretrained.ModelTensors(source.tensors, source.cfg)
    text = hf_writer.text_files(BASE)
    orbax_params.write_orbax(tmp_path / "o", tensors, source.cfg, source.config, text, no_progress)
    lm = longjax.load(tmp_path / "o", dtype="float32")
    assert_same_bits(lm.params, load(None).params)
    assert lm.generate([PROMPT], 4) == load(None).generate([PROMPT], 4)


def test_parameters_may_be_wider_than_activations():
    lm = longjax.load(BASE, param_dtype=jax.numpy.float32)
    assert lm.params["embed_VD"].dtype == np.float32
    assert lm.model.cfg.dtype == "bfloat16"
    assert longjax.load(BASE).params["embed_VD"].dtype == jax.numpy.bfloat16


# Meshes


@pytest.mark.parametrize("name", ["yarn", "landmark"])
def test_on_a_mesh(load, name, tmp_path):
    """Rows, sequence and heads are split; sums in another order differ by 1e-5 of logits near 10."""
    alone, sizes = load(name), {"data": 2, "model": 2, "seq": 1 if name == "landmark" else 2}
    mesh = sharding.make_mesh(**sizes, fsdp=8 // np.prod(list(sizes.values())))
    spread = longjax.load(BASE, METHODS[name], dtype="float32", mesh=mesh)
    assert len(spread.params["q_DNH"].sharding.device_set) == 8
    np.testing.assert_allclose(spread.logits(TOKENS_BT), alone.logits(TOKENS_BT), atol=1e-3)
    texts = [PROMPT, TOKENS_BT[0], "def f(x):"]
    for got, want in zip(spread.loglikelihood(texts), alone.loglikelihood(texts), strict=True):
        assert got.total == pytest.approx(want.total, rel=1e-5)
    assert spread.generate([PROMPT], 6) == alone.generate([PROMPT], 6)
    recipe = longjax.Recipe(batch_size=4, learning_rate=1e-3, warmup=1)
    tokens_BS, results = np.tile(TOKENS_BS, (2, 1)), []
    for lm in (alone, spread):
        _, metrics = lm.train_step(recipe, lm.init_train_state(recipe), tokens_BS)
        results.append((float(metrics["loss"]), float(metrics["grad_norm"])))
    assert results[1] == pytest.approx(results[0], rel=1e-4)
    spread.save_pretrained(tmp_path)
    again = longjax.load(tmp_path, METHODS[name], dtype="float32")
    assert_same_bits(again.params, jax.tree.map(np.asarray, spread.params))


# Mistakes


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lm: lm.generate("text", 4), "must be a sequence of texts: write"),
        (lambda lm: lm.generate(["a", []], 4), "text 1 must be token ids with 1 axes"),
        (lambda lm: lm.generate(["a"], 0), "max_new_tokens=0 must be at least 1"),
        (lambda lm: lm.generate(["a"], 4, min_new_tokens=5), "min_new_tokens=5"),
        (lambda lm: lm.loglikelihood([[1, 2048]]), "text 0 has ids from 1 to 2048, but the vocabulary has 2048"),
        (lambda lm: lm.logits(TOKENS_BT[0]), "tokens_BT must be token ids with 2 axes, not int32 of shape"),
        (lambda lm: lm.logits(TOKENS_BT / 2), "tokens_BT must be token ids with 2 axes, not float64"),
        (lambda lm: lm.logits(-TOKENS_BT), "tokens_BT has ids from -"),
        (lambda lm: lm.train_step(longjax.Recipe(), None, TOKENS_BS), "has 2 rows, but the recipe has batch_size=32"),
        (lambda lm: lm.save_pretrained("out", dtype="int8"), "dtype=int8 is not known: choose bfloat16, float32"),
        (lambda lm: longjax.load("/nowhere"), r"/nowhere/config\.json is missing or damaged: name a folder"),
        (lambda lm: longjax.load(BASE, yarn), "is no method: call one of longjax.methods"),
        (lambda lm: longjax.load(BASE, dtype="float16"), "dtype=float16 is not supported: choose bfloat16 or float32"),
        (lambda lm: longjax.load(BASE, param_dtype="int8"), "dtype=int8 is not supported: choose bfloat16 or float32"),
        (lambda lm: longjax.load(BASE, adapter="/nowhere"), "/nowhere/adapter_model.bin"),
    ],
)
def test_mistakes_are_told_in_one_line(load, call, message):
    with pytest.raises(ValueError, match=message) as error:
        call(load(None))
    assert "\n" not in str(error.value)
