"""The training loop: goes on where it was, on whatever mesh; says why it ends."""

import dataclasses
import os
import signal

import jax
import numpy as np
import pytest

from longjax import sharding
from longjax.data import RowBatch
from longjax.methods import Method
from longjax.model.llama import Llama
from longjax.progress import no_progress
from longjax.sharding.out_of_memory import explain_oom
from longjax.study.runner import SINGLE_DEVICE, RunConfig
from longjax.training import metrics_writer
from longjax.training.recipe import Recipe
from longjax.training.trainer import LoopConfig, PreemptedError, TrainingRun, train
from test_laws import CFG, T, params

RECIPE = Recipe(steps=5, batch_size=4, learning_rate=1e-3, warmup=2, ema_decay=0.9)


@dataclasses.dataclass
class Text:
    """Random rows that note which of them were asked for; those of `bad` steps are no numbers."""

    bad: tuple[int, ...] = ()
    length: int = T
    sha256: str = "text"

    def __post_init__(self):
        self.asked = []

    def __call__(self, first, count):
        self.asked.append((first, count))
        tokens_BS = np.stack(
            [np.random.default_rng(i).integers(0, CFG.vocab, T + 1) for i in range(first, first + count)]
        )
        weights_BT = np.full((count, T), np.nan if first // count in self.bad else 1.0, np.float32)
        return RowBatch(tokens_BS.astype(np.int32), weights_BT)


def trained(folder, source=None, mesh=None, report=no_progress, loop=LoopConfig(save_every=2), recipe=RECIPE):
    at = RunConfig(mesh) if mesh else SINGLE_DEVICE
    model = Llama(CFG, train=True, placement=at.placement())
    run = TrainingRun(model, recipe, source or Text(), folder, {"model": "tiny"}, mesh, loop)
    with at.scope(CFG, recipe.batch_size, T):
        return train(run, params(Method()), report)


def losses(folder):
    return [m["loss"] for m in metrics_writer.read_metrics(folder)]


def end_at(step):
    """-> a report that tells this process to end, as a scheduler does, once this step was done."""

    def report(fraction, doing):
        if doing.startswith(f"step {step}/"):
            os.kill(os.getpid(), signal.SIGTERM)

    return report


def test_told_to_end_it_saves_and_goes_on_bit_by_bit(tmp_path):
    straight = trained(tmp_path / "straight")
    with pytest.raises(PreemptedError, match="preempted: checkpoint saved at step 4 of 5"):  # seen one step later
        trained(tmp_path / "broken", report=end_at(3), loop=LoopConfig(save_every=100))
    broken = trained(tmp_path / "broken")
    assert losses(tmp_path / "broken") == losses(tmp_path / "straight")
    jax.tree.map(np.testing.assert_array_equal, broken.ema, straight.ema)


def test_it_goes_on_over_other_devices_with_the_same_rows(tmp_path):
    whole, first, second = Text(), Text(), Text()
    trained(tmp_path / "one", whole)
    with pytest.raises(PreemptedError):
        trained(tmp_path / "two", first, sharding.make_mesh(fsdp=2, seq=2, model=2), end_at(1))
    trained(tmp_path / "two", second, sharding.make_mesh(data=2, fsdp=2, model=2))
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-5)
    assert [step["tokens_seen"] for step in metrics_writer.read_metrics(tmp_path / "two")] == [
        (i + 1) * 4 * T for i in range(5)
    ]
    assert set(whole.asked) == set(first.asked) | set(second.asked)
    assert min(second.asked)[0] == 2 * RECIPE.batch_size  # the first two steps are not read again


def test_bad_rows_are_left_out_and_too_many_end_the_run(tmp_path):
    state = trained(tmp_path / "one", Text(bad=(1, 3)))
    assert int(state.skip_step.skipped) == 2
    assert [m["skipped"] for m in metrics_writer.read_metrics(tmp_path / "one")] == [0, 1, 1, 2, 2]
    with pytest.raises(ValueError, match=r"2 steps in a row, to step 3.*look at the rows of steps 2 to 3"):
        trained(tmp_path / "many", Text(bad=(2, 3, 4)), loop=LoopConfig(save_every=2, max_skipped_steps=2))
    assert int(trained(tmp_path / "many", Text()).step) == 5  # from the checkpoint of step 2, with sound rows


def test_it_says_what_it_needs_and_probes(tmp_path):
    said, probed = [], []

    def probe(params):
        probed.append(params["norm_D"].shape)
        return {"perplexity": 7.0}

    run = TrainingRun(Llama(CFG, train=True), RECIPE, Text(), tmp_path, {}, None, LoopConfig(eval_every=2))
    train(run, params(Method()), lambda fraction, doing: said.append(doing), probe)
    assert said[0].startswith("estimated memory of a device:")
    assert "estimate" in (tmp_path / "memory.txt").read_text()
    assert len(probed) == 2
    assert [m.get("perplexity") for m in metrics_writer.read_metrics(tmp_path)] == [None, 7.0, None, 7.0, None]
    assert sum("perplexity 7" in words for words in said) == 2


def test_out_of_memory_is_one_line_that_names_flags():
    with pytest.raises(ValueError, match=r"^lower --batch_tokens$"), explain_oom("lower --batch_tokens"):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.")
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), explain_oom("lower --batch_tokens"):
        raise jax.errors.JaxRuntimeError("INTERNAL: another error")
