"""What a run says: every step once, whatever kills it; rates; loss by position."""

import itertools
import math
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax import sharding
from longjax.training import metrics_writer, position_loss
from longjax.training.throughput import ThroughputMeter, peak_memory


def run(folder, first, last, **more):
    with metrics_writer.MetricsWriter(folder, resume_at=first, **more) as log:
        for step in range(first, last):
            log(step, {"loss": 1 / (step + 3), "skipped": 0})


def test_what_is_written_is_read_bit_for_bit(tmp_path):
    run(tmp_path, 0, 5)
    assert metrics_writer.read_metrics(tmp_path) == [
        {"step": step, "loss": 1 / (step + 3), "skipped": 0} for step in range(5)
    ]


def test_no_number_becomes_null(tmp_path):
    with metrics_writer.MetricsWriter(tmp_path) as log:
        log(0, {"loss": math.nan, "norm": math.inf, "rate": np.float32(0.1), "count": 3})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text == f'{{"step": 0, "loss": null, "norm": null, "rate": {float(np.float32(0.1))}, "count": 3}}\n'
    (numbers,) = metrics_writer.read_metrics(tmp_path)
    assert math.isnan(numbers["loss"])
    assert math.isnan(numbers["norm"])


@pytest.mark.parametrize("torn", ["", '{"step": 7, "lo', '{"step": 7, "loss": 0.1, "skipped": 0}'])
def test_a_resumed_run_has_every_step_once(tmp_path, torn):
    run(tmp_path / "straight", 0, 9)
    run(tmp_path / "killed", 0, 7)
    path = tmp_path / "killed" / "metrics.jsonl"
    path.write_text(path.read_text() + torn)
    assert len(metrics_writer.read_metrics(tmp_path / "killed")) == 7  # while it goes on, it can be read
    run(tmp_path / "killed", 4, 9)
    assert path.read_bytes() == (tmp_path / "straight" / "metrics.jsonl").read_bytes()
    assert [p.name for p in path.parent.iterdir()] == ["metrics.jsonl"]


def test_what_was_whole_is_not_written_again(tmp_path):
    run(tmp_path, 0, 5)
    before = (tmp_path / "metrics.jsonl").stat()
    run(tmp_path, 5, 5)
    after = (tmp_path / "metrics.jsonl").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"metrics\.jsonl does not exist"):
        metrics_writer.read_metrics(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n{"step": 1, "lo\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl: line 2 is no step's metrics"):
        metrics_writer.read_metrics(tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(ValueError, match="line 2"):
        metrics_writer.MetricsWriter(tmp_path, resume_at=1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_full_disk_is_named(tmp_path):
    with metrics_writer.MetricsWriter(tmp_path) as log:
        log.file.close()
        log.file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115 - the log closes it
        with pytest.raises(ValueError, match=r"metrics\.jsonl cannot be written: No space left on device"):
            log(0, {"loss": 1.0})


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"tensorboard": True}, "--tensorboard .* pip install tensorboardX"),
        ({"wandb": "study"}, "--wandb .* pip install wandb"),
    ],
)
def test_what_is_not_installed_is_named(tmp_path, monkeypatch, asked, line):
    for name in ("tensorboardX", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=line):
        metrics_writer.MetricsWriter(tmp_path, **asked)
    metrics_writer.MetricsWriter(tmp_path).__exit__()  # neither was asked for


class Recorder:
    """Stands for a writer of tensorboardX and for wandb with its run."""

    def __init__(self, *args, **settings):
        self.said = [(args, settings)]

    def init(self, **settings):
        self.said.append(settings)
        return self

    def add_scalar(self, name, x, step):
        self.said.append((step, name, x))

    def log(self, numbers, step):
        self.said.append((step, numbers))

    def close(self):
        self.said.append("closed")

    finish = close


def test_sinks_are_told(tmp_path, monkeypatch):
    writers, wandb = [], Recorder()
    writer = types.SimpleNamespace(SummaryWriter=lambda *a, **k: writers.append(Recorder(*a, **k)) or writers[-1])
    monkeypatch.setitem(sys.modules, "tensorboardX", writer)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    for _ in range(2):
        run(tmp_path, 3, 4, tensorboard=True, wandb="study")
    numbers = {"loss": 1 / 6, "skipped": 0}
    begun = ((str(tmp_path / "tensorboard"),), {"purge_step": 3})
    assert writers[0].said == [begun, *((3, name, x) for name, x in numbers.items()), "closed"]
    _, once, told, closed, again, *_ = wandb.said
    assert (once["project"], once["resume"], told, closed) == ("study", "allow", (3, numbers), "closed")
    assert once["id"] == again["id"]  # the same run goes on


def test_rates():
    """Steps of 2000 tokens in 0.5 s on 4 devices, a fifth of the time waiting; the first also compiled for 60 s."""
    meter = ThroughputMeter(steps=100, devices=4, useful=3e9, full=4e9, peak=1e13)
    assert meter(0, 2000, 60.5, 0.1) == {"seconds": 60.5}
    for step in range(1, 50):
        numbers = meter(step, 2000, 0.5, 0.1)
    assert numbers == pytest.approx(
        {
            "seconds": 0.5, "tokens_per_s": 4000, "tokens_per_s_per_device": 1000, "data_wait": 0.2,
            "eta_seconds": 25, "mfu": 4000 * 3e9 / 4e13, "mfu_full_attention": 4000 * 4e9 / 4e13,
        },
        rel=1e-12,
    )  # fmt: skip
    for step in range(50, 82):
        numbers = meter(step, 2000, 1.0)
    assert numbers["tokens_per_s"] == 2000  # the last 32 steps
    assert meter(99, 2000, 1.0)["eta_seconds"] == 0


def test_an_unknown_peak_gives_no_share():
    meter = ThroughputMeter(steps=2, devices=1, useful=1.0, full=1.0, peak=None)
    meter(0, 1, 1.0)
    assert not [name for name in meter(1, 1, 1.0) if "mfu" in name]
    assert peak_memory(jax.devices()) == {}
    stats = types.SimpleNamespace(memory_stats=lambda: {"peak_bytes_in_use": 3 * 2**30})
    none = types.SimpleNamespace(memory_stats=lambda: None)
    assert peak_memory([stats, none]) == {"peak_memory_gib": 3.0}


def test_buckets_double():
    assert position_loss.bucket_edges(128) == (0, 128)
    assert position_loss.bucket_edges(256) == (0, 256)
    assert position_loss.bucket_edges(1024) == (0, 256, 512, 1024)
    assert position_loss.bucket_edges(1040) == (0, 256, 512, 1024, 1040)  # with landmarks
    assert position_loss.bucket_names((0, 4096, 8192)) == ["loss@0-4095", "loss@4096-8191"]


def by_hand(nll, weights, bounds):
    pairs = itertools.pairwise(bounds)
    return {
        f"loss@{lo}-{hi - 1}": (nll * weights)[:, lo:hi].sum() / weights[:, lo:hi].sum()
        for lo, hi in pairs
        if weights[:, lo:hi].sum()
    }


@pytest.mark.parametrize("axes", [None, {"data": 1, "seq": 8}, {"data": 4, "seq": 2}])
def test_loss_by_position(axes):
    """In micro-batches, on one device and with T split over several."""
    rng, bounds = np.random.default_rng(0), (0, 8, 16, 32, 40)
    nll, weights = rng.uniform(size=(8, 40)).astype(np.float32), rng.integers(0, 2, (8, 40)).astype(np.float32)
    weights[:, 8:16] = 0  # a bucket without weight has no loss
    index = np.broadcast_to(np.arange(40, dtype=np.int32), nll.shape)
    run, parts = jax.jit(position_loss.bucket_sums, static_argnums=3), np.zeros((2, 4))
    if axes is None:
        for rows in (slice(0, 3), slice(3, 8)):
            parts += np.array(run(nll[rows], weights[rows], index[rows], bounds))
    else:
        mesh = sharding.make_mesh(**axes)
        with jax.set_mesh(mesh):
            place = jax.NamedSharding(mesh, sharding.TOKENS_BT)
            parts += np.array(run(*(jax.device_put(x, place) for x in (nll, weights, index)), bounds))
    expected = by_hand(nll.astype(np.float64), weights, bounds)
    assert position_loss.bucket_means(*parts, bounds) == pytest.approx(
        expected, rel=1e-6
    )  # fp32 sums of at most 128 numbers
    assert len(expected) == 3
    assert float(jnp.sum(parts[1])) == weights.sum()
