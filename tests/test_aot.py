"""Plans: what is read from compiled programs, what follows from it, and one compilation for a TPU that is not here."""

# ruff: noqa: E501 (HLO)
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from longjax.aot import compile, events, hlo, report, roofline, search, topology
from longjax.aot.search import MeshChoice
from longjax.config import LLAMA2_7B
from longjax.sharding import tpu_topology

ROOT = pathlib.Path(__file__).parent.parent

# A loop of four turns. A gather is started before a product and waited for after it; a scatter is not hidden.
PROGRAM = """HloModule jit_step, is_scheduled=true

%start.1 (p.1: bf16[64,512]) -> (bf16[64,512], bf16[256,512]) {
  %p.1 = bf16[64,512]{1,0} parameter(0)
  %gather.1 = bf16[256,512]{1,0:T(8,128)(2,1)} all-gather(%p.1), channel_id=7, replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}, dimensions={0}
  ROOT %custom-call.1 = (bf16[64,512]{1,0}, bf16[256,512]{1,0}) custom-call(%gather.1), custom_call_target="AsyncCollectiveStart"
}

%async_collective_fusion.2 (p.2: bf16[64,512]) -> f32[8] {
  %gather.2 = bf16[256,512]{1,0} all-gather(%p.2), channel_id=7, replica_groups=[2,4]<=[8], dimensions={0}
  ROOT %dot.2 = f32[8]{0} convolution(%gather.2)
}

%done.3 (p.3: bf16[64,512]) -> bf16[256,512] {
  %gather.3 = bf16[256,512]{1,0} all-gather(%p.3), channel_id=7, replica_groups=[2,4]<=[8], dimensions={0}
  ROOT %custom-call.3 = bf16[256,512]{1,0} custom-call(%p.3, %gather.3), custom_call_target="AsyncCollectiveDone"
}

%all-reduce-scatter.4 (p.4: f32[256,512]) -> f32[32,512] {
  %all-reduce.4 = f32[256,512]{1,0} all-reduce(%p.4), channel_id=9, replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add
  ROOT %slice.4 = f32[32,512]{1,0} dynamic-slice(%all-reduce.4)
}

%body.5 (p.5: (s32[], bf16[64,512])) -> (s32[], bf16[64,512]) {
  %fusion.50 = (bf16[64,512]{1,0}, bf16[256,512]{1,0}) fusion(%p.5), kind=kLoop, calls=%start.1, backend_config={"estimated_cycles":"100"}
  %fusion.51 = f32[8]{0} fusion(%p.5), kind=kOutput, calls=%async_collective_fusion.2, metadata={op_name="jit(step)/while/body/BTD,DF->BTF"}, backend_config={"estimated_cycles":"1000000"}
  %fusion.52 = bf16[256,512]{1,0} fusion(%p.5), kind=kLoop, calls=%done.3, backend_config={"estimated_cycles":"100"}
  %splash_mha_fwd.6 = bf16[8,1024,128]{2,1,0} custom-call(%p.5), custom_call_target="tpu_custom_call", backend_config={"x": "
 a kernel's own text
"}
  %splash_mha_dkv.7 = bf16[8,1024,128]{2,1,0} custom-call(%p.5), custom_call_target="tpu_custom_call"
  ROOT %fusion.53 = f32[32,512]{1,0} fusion(%p.5), kind=kCustom, calls=%all-reduce-scatter.4, metadata={op_name="jit(step)/transpose"}
}

%condition.6 (p.6: (s32[], bf16[64,512])) -> pred[] {
  %constant.6 = s32[]{:T(128)} constant(4)
  ROOT %compare.6 = pred[] compare(%p.6, %constant.6), direction=LT
}

ENTRY %main.7 (p.7: bf16[64,512]) -> f32[] {
  %while.7 = (s32[], /*index=1*/bf16[64,512]{1,0}) while(%p.7), condition=%condition.6, body=%body.5
  ROOT %all-reduce-start.8 = ((f32[1024,1024]{1,0}), f32[1024,1024]{1,0}) all-reduce-start(%p.7), channel_id=11, replica_groups=mesh['data'=2,'fsdp'=4] {'fsdp':(2)2}, to_apply=%add
}
"""


def test_collectives_are_counted_once_with_their_bytes():
    found = report.collective_sums(events.walk(events.events(hlo.parse_hlo(PROGRAM))))
    gather, scatter, reduce = (found[name] for name in ("all-gather", "reduce-scatter", "all-reduce"))
    assert (gather["count"], gather["hidden"], gather["dtypes"]) == (4, 4, ["bf16"])
    assert gather["sent"] == 4 * 256 * 512 * 2 * 3 / 4
    assert (scatter["count"], scatter["hidden"]) == (4, 0)
    assert scatter["sent"] == 4 * 256 * 512 * 4 * 7 / 8
    assert reduce["sent"] == 1024 * 1024 * 4 * 2 * 1 / 2  # within pairs
    assert list(found) == ["all-reduce", "reduce-scatter", "all-gather"]


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("{{0,1,2},{3,4,5}}", 3), ("[4,8]<=[32]", 8), ("[2,16]<=[8,4]T(1,0)", 16),
        ("mesh['a'=4,'b'=2,'c'=8] {'a','c'}", 32), ("mesh['a'=4,'b'=8], device_ids=(0,1) {'b':(2)4}", 4),
    ],
)  # fmt: skip
def test_groups(groups, size):
    assert events.group_size(f", replica_groups={groups}, dimensions={{0}}") == size


class Device:
    def __init__(self, *coords):
        self.coords = coords


class Mesh:
    """16 x 16 chips: sequences over 2 x 4 neighbours, rows over the rest."""

    axis_names = ("data", "fsdp", "seq", "model")
    shape = {"data": 1, "fsdp": 32, "seq": 8, "model": 1}  # noqa: RUF012
    devices = np.array(
        [[Device(8 * 0 + 2 * (r // 4) + s // 4, 4 * (r % 4) + s % 4, 0) for s in range(8)] for r in range(32)], object
    ).reshape(1, 32, 8, 1)


def clock(name="v5e:16x16", pairs=2.0**30):
    return roofline.StepClock(topology.parse_topology(name), Mesh, hlo.parse_hlo(PROGRAM), pairs, 128)


def test_groups_lie_on_the_torus():
    spanned = [roofline.spanned(group, Mesh, topology.parse_topology("v5e:16x16")) for group in (8, 32, 256)]
    assert spanned == [[(2, False), (4, False)], [(8, False), (4, False)], [(16, True), (16, True)]]


def test_time_is_that_of_the_schedule():
    """By hand: a product hides the gather; the scatter, and the kernels, hide nothing."""
    found = clock().estimate()
    assert found.where["products and element-wise"] == pytest.approx(4 * 1_000_200 / (1.97e14 / 131_072))
    assert "waits: all-gather" not in found.where
    per_pair = 2 * 128 / 1.97e14
    assert found.where["attention, forward"] == pytest.approx(4 * 2**30 * per_pair * 2 / 0.865)
    assert found.where["attention, backward"] == pytest.approx(4 * 2**30 * per_pair * 5 / 0.967)
    scatter = 5e-6 + 256 * 512 * 4 * 7 / 8 / (2 * 4.5e10)  # two axes, no ring along either
    assert found.where["waits: reduce-scatter"] == pytest.approx(4 * scatter)
    assert sum(found.where.values()) == pytest.approx(found.seconds)
    assert found.places[0][0] == "splash_mha_dkv.7" or found.places[0][1] >= found.places[-1][1]


def test_a_gather_that_is_not_hidden_is_waited_for():
    module = PROGRAM.replace('"estimated_cycles":"1000000"', '"estimated_cycles":"10"')
    found = roofline.StepClock(topology.parse_topology("v5e:16x16"), Mesh, hlo.parse_hlo(module), 1.0, 128).estimate()
    alone = 5e-6 + 256 * 512 * 2 * 3 / 4 / 4.5e10
    assert found.where["waits: all-gather"] == pytest.approx(4 * (alone - 110 / (1.97e14 / 131_072)), rel=1e-3)


def test_products_of_gpus_are_counted():
    text = """ENTRY %main.1 (a.1: bf16[64,128], b.1: bf16[128,32]) -> bf16[64,32] {
  %a.1 = bf16[64,128]{1,0} parameter(0)
  %b.1 = bf16[128,32]{1,0} parameter(1)
  ROOT %dot.1 = bf16[64,32]{1,0} dot(%a.1, %b.1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}
"""
    module = hlo.parse_hlo(text)
    assert (
        roofline.StepClock(topology.parse_topology("h200:4"), Mesh, module, 1.0, 128).matmul_flops(module["ENTRY"][-1])
        == 2 * 64 * 32 * 128
    )


def test_topologies():
    assert tpu_topology.ring_axes((4, 4, 8)) == (True, True, True)
    assert tpu_topology.ring_axes((2, 2, 4)) == (False, False, False)
    assert tpu_topology.ring_axes((8, 16)) == (False, True)
    assert topology.parse_topology("h200:4").chips == 4
    for wrong in ("v5e", "v5e:16", "v7:2x2", "h200:0", "v5p:4x4", "h200:x"):
        with pytest.raises(ValueError, match=f"--topology={wrong}: write v5e, v5p, v6e, h100, h200"):
            topology.parse_topology(wrong)
    with pytest.raises(ValueError, match=r"--mesh_fsdp=3 .* is 3 chips, but --topology=h200:4 has 4"):
        topology.parse_topology("h200:4").mesh(1, 3, 1, 1)


def test_meshes_split_rows_and_heads():
    assert [*search.meshes(LLAMA2_7B, 32, 256)] == [(32, 8, 32), (16, 16, 16), (8, 32, 8)]
    assert [*search.meshes(LLAMA2_7B, 32, 4)] == [(4, 1, 4), (2, 2, 2), (1, 4, 1)]
    assert [*search.meshes(LLAMA2_7B, 3, 4)] == [(1, 4, 1)]


def test_advice_is_what_computes_the_least_again():
    small, kept, split = MeshChoice(32, 8, 32, "full"), MeshChoice(32, 8, 32, "qkv"), MeshChoice(16, 16, 16, "none")
    sizes = {small: 6, kept: 9, split: 9, MeshChoice(32, 8, 32, "none"): 20}
    assert search.best_choices(sizes, 10) == [kept, small, split]
    assert search.search_advice(sizes, 10).endswith("--mesh_fsdp=32 --mesh_seq=8 --micro_batch_size=32 --remat=qkv")
    assert "no mesh and no remat" in search.search_advice(sizes, 5)


def test_both_wordings_of_too_little_memory():
    one = "Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm. Exceeded hbm capacity by 4.75G."
    other = "Ran out of memory on HBM, the total memory required for HLO temporaries (272.00G) exceeds available HBM"
    assert compile.requested_bytes(one) == 20.5 * 2**30
    assert compile.requested_bytes(other) == 272 * 2**30
    assert compile.requested_bytes("a bug") == 0


def planned(*arguments):
    """-> the finished process of tools.plan; one of its own, as its compiler stays loaded."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    command = [sys.executable, "-m", "tools.plan", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=500)


@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="libtpu is not installed (pip install longjax[tpu])")
def test_training_compiles_for_a_tpu(tmp_path):
    """Splash attention within Ulysses, the whole step: weights are gathered, gradients scattered."""
    mesh = ("--topology=v5e:2x2", "--mesh_fsdp=2", "--mesh_seq=2")
    done = planned(
        "--model=tiny", "--batch_size=4", "--length=2048", *mesh, "--remat=full", "--fast", f"--out={tmp_path}/it"
    )
    assert done.returncode == 0, done.stderr
    assert "it fits" in done.stdout
    found = json.loads((tmp_path / "it.json").read_text())
    assert found["kernels"] == {"forward": 4, "backward": 4}  # of two layers, forward twice; for queries, and for keys
    assert {"all-to-all", "all-gather", "reduce-scatter"} <= {*found["collectives"]}
    assert found["hbm"]["parameters"] < found["hbm"]["peak"] < found["hbm"]["limit"]
    assert "| train | v5e:2x2 | tiny, yarn | 4 x 2048 | fsdp 2 seq 2 | full |" in (tmp_path / "PLANS.md").read_text()


def test_mistakes_are_one_line():
    done = planned("--model=llama9")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --model=llama9 is unknown")


def test_parts_of_a_sequence_are_neighbours():
    chips = [Device(x, y, 0) for y in range(16) for x in range(16)]
    for block in (4, 8, 16):
        order = tpu_topology.compact_device_order(chips, block)
        assert {device.coords for device in order} == {device.coords for device in chips}
        for at in range(0, 256, block):
            spans = [
                max(column) - min(column) + 1
                for column in zip(*(d.coords for d in order[at : at + block]), strict=True)
            ]
            assert spans == [{4: 2, 8: 4, 16: 4}[block], {4: 2, 8: 2, 16: 4}[block], 1]
    assert tpu_topology.best_block((8, 8, 4, 1), 16) == (2, 2, 4, 1)  # the third axis is a ring
    assert tpu_topology.best_block((8, 4, 4, 1), 4) == (1, 1, 4, 1)
    assert tpu_topology.best_block((4, 4), 3) is None
    assert tpu_topology.compact_device_order([1, 2, 3], 2) == [1, 2, 3]  # no TPUs


def test_of_a_sliced_array_only_the_slice_is_read():
    text = """%fused.1 (p.1: f32[32,8,128], p.2: s32[], p.3: f32[32,64]) -> f32[32,64] {
  %p.1 = f32[32,8,128]{2,1,0} parameter(0)
  %p.2 = s32[] parameter(1)
  %p.3 = f32[32,64]{1,0} parameter(2)
  %slice.1 = f32[1,8,128]{2,1,0} dynamic-slice(%p.1, %p.2), dynamic_slice_sizes={1,8,128}
  %sum.1 = f32[1,64]{1,0} reduce(%slice.1), to_apply=%add
  ROOT %update.1 = f32[32,64]{1,0} dynamic-update-slice(%p.3, %sum.1, %p.2)
}

ENTRY %main.1 (a.1: f32[32,8,128], b.1: s32[], c.1: f32[32,64]) -> f32[32,64] {
  ROOT %fusion.1 = f32[32,64]{1,0} fusion(%a.1, %b.1, %c.1), kind=kLoop, calls=%fused.1
}
"""
    module = hlo.parse_hlo(text)
    types = {op.name: op.type for ops in module.values() for op in ops}
    assert hlo.accessed_bytes(module["ENTRY"][0], module, types) == 4 + 8 * 128 * 4 + 64 * 4


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    said = topology.install_advice(topology.CHIPS["v5e"], RuntimeError("no such platform"))
    assert said.startswith('pip install "libtpu')
    assert topology.install_advice(topology.CHIPS["h200"], RuntimeError("")).startswith('pip install "jax[cuda13]"')
