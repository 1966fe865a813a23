"""Benchmarks run at sizes for a CPU, and ours and the peer do the same work."""

import dataclasses
import json
import math
import os
import queue
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import (
    attention,
    beside,
    generation,
    jax_attention,
    jax_generation,
    jax_training,
    kernels,
    page,
    pages,
    training,
)
from benchmarks import methods as costs
from benchmarks.page import Bar
from longjax import methods
from longjax.attention.core import Dense
from longjax.config import TINY, ModelConfig
from longjax.evals.requests import GenerationRequest
from longjax.inference.generator import Generator
from longjax.model.llama import Llama
from longjax.study.presets import PRESETS
from peers import peer

CFG = ModelConfig(dim=64, heads=4, kv_heads=4, head_width=16, trained_len=64)
METHODS = ("causal", *attention.BRANCHED)
LENGTH = 256


def shell(text, tmp_path, monkeypatch):
    """A script in Python's place."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    monkeypatch.setattr(beside.sys, "executable", str(path))


def test_a_case_that_hangs_keeps_its_rows(tmp_path, monkeypatch):
    later = f"(sleep 1.5; touch {tmp_path}/alive) &"
    shell(f"""echo noise; echo 'ROW {{"a": 1}}'; {later} sleep 60""", tmp_path, monkeypatch)
    start = time.monotonic()
    rows = beside.run(beside.Case("x", {"length": 8}, 99), 0.6)
    assert time.monotonic() - start < 10
    about = {"case": "x length=8", "program": "x", "length": 8}
    assert rows == [about | {"a": 1}, about | {"error": "stopped after 1 s"}]
    time.sleep(1.5)
    assert not (tmp_path / "alive").exists()  # what it had started is gone, too


def test_a_case_that_crashes_has_its_exit_code(tmp_path, monkeypatch):
    shell("""echo 'ROW {"a": 1}'; printf 'ROW {"b'; exit 3""", tmp_path, monkeypatch)
    rows = beside.run(beside.Case("x", {}, 99), 30)
    assert [row.get("a") for row in rows] == [1, None]
    assert rows[1]["error"] == "ended with 3"


def test_a_case_dies_with_its_benchmark(tmp_path, monkeypatch):
    shell(f"touch {tmp_path}/begun; sleep 1.5; touch {tmp_path}/late", tmp_path, monkeypatch)
    code = "import sys; from benchmarks import beside; sys.executable = sys.argv[1]; "
    code += "beside.run(beside.Case('x', {}, 99), 60)"
    monkeypatch.undo()
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "python")]) as benchmark:
        while not (tmp_path / "begun").exists():
            assert benchmark.poll() is None
            time.sleep(0.05)
        benchmark.kill()
    time.sleep(2)
    assert not (tmp_path / "late").exists()


def test_bars():
    assert Bar("", 2.0, {"a": 2.0, "b": 3.0}).verdict == "reached"
    assert Bar("", 2.0, {"a": 1.9, "b": 3.0}).verdict == "NOT REACHED"
    assert Bar("", 2.0, {"a": 1.9, "b": 2.1}, at_most=True).verdict == "NOT REACHED"
    assert Bar("", 2.0, {}).verdict == "not measured"


def test_kernels_by_kind():
    ms = kernels.Milliseconds({
        "cudnn_generated_fort_native_sdpa_sm90_flash_fprop": 5.0, "nvjet_hsh_256x128": 7.0, "gemm_fusion_dot_12": 1.0,
        "ncclDevKernel_AllGather_RING_LL": 2.0, "loop_multiply_fusion": 0.5, "MemcpyD2D": 0.25,
    })  # fmt: skip
    kinds = {"products": 8.0, "attention": 5.0, "collectives": 2.0, "all else": 0.5, "copies": 0.25}
    found = kernels.summary(ms)
    assert found["by_kind_ms"] == kinds
    assert next(iter(found["kernels_ms"])) == "nvjet_hsh_256x128"
    row = {"program": "jax_training", "length": 64, **found}
    assert "| jax:length=64 | 8.0 " in "\n".join(page.times(training.PAGE, [row]))


def test_settings():
    line = "jax:length=32,ema=0.99,remat=qkv"
    assert beside.settings_of(line) == ("jax", {"length": 32, "ema": 0.99, "remat": "qkv"})
    with pytest.raises(ValueError, match="--cases"):
        beside.settings_of("flax:length=32")


def attention_row(program, method, ms, **more):
    return {
        "program": program, "method": method, "length": 65_536, "forward_ms": ms, "both_ms": 4 * ms,
        "forward_tflops": 1.0, "both_tflops": 1.0, **more,
    }  # fmt: skip


def test_results_are_written_after_every_case(tmp_path, monkeypatch):
    ours = attention_row(attention.OURS, "causal", 10.0, error_out=2e-3, error_grad=4e-3)
    rows = {"a": [ours], "b": [attention_row(attention.PEER, "causal", 9.0, peer="cudnn")], "c": [{"program": "c"}]}
    rows["c"][0]["error"] = "stopped after 1 s"
    seen = []

    def run(case, seconds):
        seen.append(json.loads((tmp_path / "x.json").read_text())["rows"] if seen else [])
        return rows[case.program]

    monkeypatch.setattr(beside, "run", run)
    cases = [beside.Case(name, {}, 9) for name in rows]
    beside.play(attention.PAGE, cases, beside.Terms(out=str(tmp_path / "x")))
    assert seen[2] == rows["a"] + rows["b"]
    bars = {bar["what"]: bar for bar in json.loads((tmp_path / "x.json").read_text())["bars"]}
    assert bars["causal: speed over torch's cuDNN"]["values"] == {"64K forward": 0.9, "64K forward + backward": 0.9}
    assert bars["causal: speed over torch's cuDNN"]["verdict"] == "NOT REACHED"
    assert bars["relative error against float32"]["verdict"] == "NOT REACHED"
    text = (tmp_path / "x.md").read_text()
    assert "stopped after 1 s" in text
    assert "| causal | 64K " in text


def results(path, name, *rows):
    machine = {"machine": "1 x GPU"}
    path.write_text(json.dumps({"benchmark": name, "command": path.stem, "machine": machine, "rows": rows}))
    return path


def test_results_of_several_runs(tmp_path):
    causal, peer = (
        attention_row(program, "causal", ms, case=program, peer="cudnn")
        for program, ms in ((attention.OURS, 10.0), (attention.PEER, 9.0))
    )
    failed = {"case": attention.OURS, "program": attention.OURS, "error": "ended with 1"}
    a = results(tmp_path / "a.json", "attention", causal | {"forward_ms": 20.0}, peer)
    b = results(tmp_path / "b.json", "attention", causal)
    c = results(tmp_path / "c.json", "attention", failed)  # what was measured is not lost to it
    ((path, found),) = pages.grouped([a, b, c]).items()
    assert path == a
    assert found["rows"] == [peer, causal]
    (line, *_) = pages.show(path, found)
    assert line[:4] == ["attention", "1 x GPU", "causal: speed over torch's cuDNN", ">= 0.95"]
    assert "| causal | 64K " in (tmp_path / "a.md").read_text()
    assert pages.read(a)["rows"] == [peer, causal]
    (tmp_path / "d.json").write_text("[")
    with pytest.raises(ValueError, match=r"d\.json"):
        pages.read(tmp_path / "d.json")


def test_what_is_left_is_skipped_when_the_time_is_up(monkeypatch):
    monkeypatch.setattr(beside, "run", lambda case, seconds: pytest.fail("no time was left"))
    (row,) = beside.play(attention.PAGE, [beside.Case("x", {}, 9)], beside.Terms(tiny=True, budget=0.0))
    assert "--budget" in row["error"]


def seen_by_us(name):
    """-> of each branch who sees whom: [branch, head, query, key]."""
    heads = np.arange(CFG.heads)[:, None]
    branches = Llama(CFG, jax_attention.method_of(name, LENGTH), train=True).attention(LENGTH).branches
    start = np.asarray(jax_attention.token_positions(name, 1, LENGTH).start_BT)[0]
    bounds = [branch.interval(jnp.arange(LENGTH) - start, jnp.asarray(heads)) for branch in branches]
    j = np.arange(LENGTH)
    lo, hi = (np.stack([np.broadcast_to(b[n], (CFG.heads, LENGTH)) for b in bounds]) + start for n in (0, 1))
    return (lo[..., None] <= j) & (j < hi[..., None])


@pytest.mark.parametrize("name", METHODS)
def test_flops_count_the_pairs_that_are_seen(name):
    pairs = seen_by_us(name).sum()
    assert jax_attention.flops_of(name, CFG, LENGTH) == pytest.approx(4 * CFG.head_dim * pairs, rel=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_the_peer_sees_what_we_see(name):
    torch = peer("torch")
    from benchmarks import torch_attention

    h, i, j = (torch.arange(n) for n in (CFG.heads, LENGTH, LENGTH))
    theirs = [
        mask(0, h[:, None, None], i[None, :, None], j) & (j < keys)
        for mask, keys in torch_attention.branches_of(name, LENGTH, CFG.heads)
    ]
    theirs = torch.stack([mask.expand(CFG.heads, LENGTH, LENGTH) for mask in theirs]).numpy()
    assert (theirs == seen_by_us(name)).all()


def test_the_peer_merges_its_calls_into_one_softmax():
    torch = peer("torch")
    from benchmarks import torch_attention

    torch.manual_seed(0)
    found = torch_attention.errors(torch_attention.cudnn(4, 2), 4, 2, 16, 64)
    assert 1e-4 < found["error_out"] < 5e-3  # rounding to bfloat16, of few numbers
    assert 1e-4 < found["error_grad"] < 1e-2
    q, k, v = (torch.randn(1, 4, 64, 16) for _ in range(3))
    out = torch_attention.flex("self_extend", 4, 4, 64)([q, q], [k, k], v)
    assert (out - torch_attention.cudnn(4, 4)([q], [k], v)).abs().max() < 2e-6  # float32; its two rotations are one


def test_attention_is_measured():
    shape = {"heads": 4, "kv_heads": 2, "width": 16, "tokens": 128, "exact_at": 64}
    (row,) = jax_attention.measure(["lm_infinite"], lengths=[64], **shape)
    assert row["rows"] == 2
    assert row["forward_ms"] > 0 < row["both_ms"]
    assert 1e-4 < row["error_out"] < 5e-3  # rounding to bfloat16, of few numbers
    assert 1e-4 < row["error_grad"] < 5e-3


def test_what_fails_at_one_length_does_not_hide_the_next(monkeypatch):
    def times(name, cfg, softmax, rows, length):
        if length == 64:
            raise ValueError("out of\nmemory")
        return {"forward_ms": 1.0}

    monkeypatch.setattr(jax_attention, "times", times)
    first, second = jax_attention.measure(["causal"], 4, 4, 16, [64, 128], 128, 0)
    assert first["error"] == "ValueError: out of memory"
    assert second["forward_ms"] == 1.0


def test_training_is_measured(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
    row, profile = jax_training.measure(
        64, layers=2, steps=1, tiny=True, state="bfloat16", ema=0.9, remat="full", profile=1
    )
    assert row["losses"][0] == pytest.approx(math.log(TINY.vocab), abs=0.3)  # of random weights
    assert profile == {"by_kind_ms": {}, "kernels_ms": {}}  # no GPU
    flops = row["tflops"] * 1e12 * row["step_s"]
    assert flops > 6 * 64 * 2 * (4 * 64 * 64 * 0.75 + 3 * 64 * 96)  # 3/4: half as many key heads
    assert training.line(row | {"program": "jax_training", "length": 64}, {})[1] == "1"


def test_generation_is_measured():
    row, profile = jax_generation.measure(96, rows=2, new=8, method="self_extend", layers=2, tiny=True, profile=1)
    assert row["prefill_s"] > 0
    assert row["compile_s"] > 0.1  # seconds, where a token takes milliseconds
    assert profile == {"by_kind_ms": {}, "kernels_ms": {}}  # no GPU
    assert (
        "1 x 32K"
        in generation.line(row | {"program": "jax_generation", "method": "base", "rows": 1, "prompt": 32_768}, {})[0]
    )


def test_bytes_of_a_token():
    cfg = dataclasses.replace(TINY, dtype="bfloat16")
    params = {"embed_VD": np.zeros(7, np.float16), "q_DNH": np.zeros(5, np.float16)}
    token = 2 * 2 * cfg.layers * cfg.kv_heads * cfg.head_dim
    infinite = Llama(cfg, methods.lm_infinite(window=16, first=4))
    assert jax_generation.bytes_a_token(Llama(cfg), params, 3, 100) == 10 + 3 * 100 * token
    assert jax_generation.bytes_a_token(infinite, params, 3, 100) == 10 + 3 * 20 * token
    assert jax_generation.bytes_a_token(Llama(cfg, methods.self_extend(16, 4)), params, 1, 100) == 10 + 100 * token


def test_the_peers_are_measured():
    peer("torch")
    peer("transformers")
    from benchmarks import torch_generation, torch_training

    (row,) = torch_generation.measure(64, rows=2, new=4, method="base", layers=2, tiny=True)
    assert row["prefill_tokens_s"] == pytest.approx(2 * 64 / row["prefill_s"])
    about = {"length": 64, "layers": 2, "steps": 1, "tiny": True, "gpus": 1, "state": "float32", "rows": 1}
    results = queue.SimpleQueue()
    torch_training.worker(0, about, 0, results)
    losses = results.get()["losses"]
    assert losses[0] == pytest.approx(math.log(97), abs=0.3)
    assert losses[-1] < losses[0]  # the same rows again


def test_both_count_the_same_work():
    peer("torch")
    peer("transformers")
    from benchmarks.torch_training import SIZES, flops_a_token
    from longjax.config import LLAMA2_7B
    from longjax.training.flops import train_flops

    ours = train_flops(LLAMA2_7B, methods.METHODS["yarn"](), 32_768, 1).useful
    assert flops_a_token(SIZES, 32, 32_768) == pytest.approx(ours, rel=1e-4)


COST = costs.Sizes(lengths="48", new=3, runs=2)
COST_PRESET = dataclasses.replace(
    PRESETS["mini"], model=TINY, attention=Dense(), settings={"landmark": {"block": 8, "top_k": 2}}
)


def test_methods_of_one_program_are_measured_once():
    names = ["base", "pi", "ntk_32k", "clex", "longlora", "yarn", "self_extend", "landmark"]
    programs = costs.distinct_programs(COST_PRESET, names, [32, 16])
    alike = [("base", "pi", "ntk_32k", "clex", "longlora", "yarn"), ("self_extend",), ("landmark",)]
    assert [(s.length, s.names) for s in programs] == [(n, x) for n in (16, 32) for x in alike]
    with pytest.raises(ValueError, match="--methods=base,pie: pie is unknown"):
        costs.distinct_programs(COST_PRESET, ["base", "pie"], [16])


@pytest.mark.parametrize("name", ["base", "landmark"])
def test_what_is_timed_is_what_the_generator_answers(name):
    """The measured programs and the evaluators' continue a prompt alike; the times and sizes are there."""
    (program,) = costs.distinct_programs(COST_PRESET, [name], [48])
    params = jax_generation.random_weights(program.model.cfg)
    more = costs.answer_tokens(COST)
    ready, inputs = costs.compile_program(program, params, more), costs.prompt_inputs(program, more)
    rows = ready.prefill(params, inputs.rope, costs.empty_cache(program, inputs), *inputs[2:])
    rows = ready.decode(params, inputs.rope, rows, inputs.rules, np.int32(6))
    generator = Generator(program.model, params, jax_generation.NoTokenizer(TINY.vocab))
    ids = generator.new_ids(rows, inputs.length_B)[0]
    insert = program.model.method.insert_tokens
    prompt_C = inputs.tokens_BC[0, : inputs.length_B[0]]
    prompt_T = prompt_C[~insert.is_inserted(np.arange(len(prompt_C)))] if insert else prompt_C
    assert len(prompt_T) == 48
    requests = [GenerationRequest(prompt_T, {}, len(ids), min_new_tokens=len(ids))]
    (answer,) = generator(requests, inputs.tokens_BC.shape[1], np.array([inputs.rope_length]))
    assert list(answer.ids) == ids.tolist()
    row = costs.measure(program, ready, params, COST)
    assert min(row["prefill_ms"], row["decode_ms"], row["prefill_gib"], row["decode_gib"]) > 0
    lines = costs.lines([costs.about(name, program) | row])
    assert lines[0][:2] == [name, "48"]
