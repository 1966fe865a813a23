"""Golden check of whole models with Landmark attention.

All landmarks of layer 0 have the same key, so which far blocks are opened there is an exact tie. The peer's selections
(`sel_*`) are therefore replayed, and each must score as high as our own choice.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks.approx_case import FAMILY, Case, Computed, compare
from golden_checks.common import Result
from longjax.attention.core import MASK_VALUE, Attention, TokenPositions
from longjax.attention.landmark.memory import LandmarkMemory, PerChunk, PerToken, ScorePooling, top_blocks
from longjax.checkpoints import param_mapping
from longjax.config import ModelConfig
from longjax.methods.landmark import InsertLandmarks, landmark
from longjax.methods.method import Method
from longjax.model.llama import Llama, logits

REGRET = 1e-4  # in a sum of top_k scores: ours and theirs differ by float32 rounding in the layers below
POOLS: dict[str, ScorePooling] = {"per_token_head": PerToken(), "max_over_tokens": PerChunk()}


def memory_of(meta: dict[str, Any]) -> LandmarkMemory:
    """As in the peer, each call is a chunk."""
    block = meta["block"] if "block" in meta else meta["mem_freq"] + 1
    return LandmarkMemory(block, meta["top_k"], POOLS[meta.get("aggregate", "per_token_head")], chunk=None)


class Model(NamedTuple):
    cfg: ModelConfig
    params: dict[str, jax.Array]

    @classmethod
    def of(cls, case: Case) -> "Model":
        weights = Case.read(case.path.parent / f"{case.meta['weights']}.npz")
        meta = weights.meta
        cfg = ModelConfig(
            vocab=meta["vocab"], dim=meta["hidden"], layers=meta["layers"], heads=meta["heads"],
            kv_heads=meta["kv_heads"], ffn=meta["inter"], norm_eps=meta["rms_eps"], rope_base=meta["rope_theta"],
            dtype="float32",
        )  # fmt: skip
        return cls(cfg, {name: jnp.asarray(x) for name, x in param_mapping.from_hf(weights.arrays, cfg).items()})


def with_landmarks(ids: np.ndarray, case: Case, cfg: ModelConfig) -> np.ndarray:
    """The landmark is one id beyond the base model's vocabulary, and the file's last."""
    return InsertLandmarks(case.meta["mem_freq"] + 1)(ids, case.meta.get("mem_id", cfg.vocab - 1))[0]


def cross_entropy(logits_BTV: jax.Array, ids_BT: jax.Array) -> jax.Array:
    """Mean over the tokens after the first."""
    log_BTV = jax.nn.log_softmax(logits_BTV[:, :-1])
    return -jnp.mean(jnp.take_along_axis(log_BTV, ids_BT[:, 1:, None], axis=-1))


def training_model(case: Case) -> Computed:
    model = Model.of(case)
    ids = with_landmarks(case.arrays["raw_ids"], case, model.cfg)
    yield "input_ids", "inserted", ids
    ids_BT = jnp.asarray(ids, jnp.int32)
    llama = Llama(model.cfg, landmark(case.meta["mem_freq"] + 1), train=True)

    def loss(params):
        hidden_BTD, _ = llama.apply({"params": params}, ids_BT, TokenPositions.whole(*ids_BT.shape), ids_BT.shape[1])
        logits_BTV = logits(params, hidden_BTD)
        return cross_entropy(logits_BTV, ids_BT), logits_BTV

    (value, logits_BTV), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(model.params)
    yield "logits", "training", logits_BTV
    yield "loss", "training", value
    for name, grad in param_mapping.to_hf(jax.tree.map(np.asarray, grads), model.cfg).items():
        yield f"grad.{name}", "autodiff", grad


class GivenBlocks:
    """Chooses the stored blocks, and records how much higher the best ones score."""

    def __init__(self, block_BTNJ: jax.Array):
        self.block_BTNJ = block_BTNJ
        self.regret_BTN: jax.Array | None = None

    def __call__(self, score_BTNM: jax.Array, top_k: int) -> jax.Array:
        self.regret_BTN = jnp.abs(total(score_BTNM, top_blocks(score_BTNM, top_k)) - total(score_BTNM, self.block_BTNJ))
        return self.block_BTNJ


def total(score_BTNM: jax.Array, block_BTNJ: jax.Array) -> jax.Array:
    """Return the sum of the blocks' scores; a block too many, too few or twice costs 1e6."""
    is_block = block_BTNJ >= 0
    score_BTNJ = jnp.take_along_axis(score_BTNM, jnp.maximum(block_BTNJ, 0), axis=-1)
    twice = (jnp.diff(jnp.sort(block_BTNJ, axis=-1), axis=-1) == 0) & (jnp.sort(block_BTNJ, axis=-1)[..., 1:] >= 0)
    faults = jnp.sum(is_block, axis=-1) - 2 * jnp.sum(twice, axis=-1)
    return jnp.sum(jnp.where(is_block, jnp.maximum(score_BTNJ, MASK_VALUE), 0.0), axis=-1) + 1e6 * faults.astype(
        jnp.float32
    )


@dataclasses.dataclass(frozen=True)
class WholeCall:
    pool: ScorePooling
    whole_call = True

    def __call__(self, score_BTNM, queries):
        return self.pool(score_BTNM, queries)


@dataclasses.dataclass(frozen=True)
class Replay:
    """Landmark memory with given blocks: its cache is (store, the blocks to open, their regret) of all layers."""

    cache: LandmarkMemory

    def __call__(self, q_BTNH, k_BSKH, v_BSKH, metadata, cache=None):
        assert cache is not None
        store, block_LBTNJ, regret_LBTN = cache
        given = GivenBlocks(block_LBTNJ[metadata.layer])
        replay = dataclasses.replace(self.cache, pool=WholeCall(self.cache.pool), choose=given)
        out_BTNH, store = replay(q_BTNH, k_BSKH, v_BSKH, metadata, store)
        return out_BTNH, (store, block_LBTNJ, regret_LBTN.at[metadata.layer].set(given.regret_BTN))

    def init_cache(self, cfg, batch, size):
        return self.cache.init_cache(cfg, batch, size)


@dataclasses.dataclass(frozen=True)
class Always:
    attention: Attention

    def __call__(self, cfg, length):
        return self.attention


@functools.partial(jax.jit, static_argnames=("llama", "length"))
def call(llama: Llama, params: Any, ids_BT: jax.Array, first: jax.Array, length: int, cache: Any):
    index_BT = first + jnp.broadcast_to(jnp.arange(ids_BT.shape[1], dtype=jnp.int32), ids_BT.shape)
    hidden_BTD, cache = llama.apply({"params": params}, ids_BT, TokenPositions.at(index_BT), length, cache)
    return logits(params, hidden_BTD), cache


class Calls:
    """A model that is called piece by piece, with the peer's selections."""

    def __init__(self, case: Case, model: Model, batch: int, size: int):
        self.case, self.model, self.size, self.first = case, model, size, 0
        self.seen_by = memory_of(case.meta)
        self.llama = Llama(model.cfg, Method(attention=Always(Replay(self.seen_by))))
        self.store = self.llama.init_cache(batch, size, size)
        self.regrets: dict[str, np.ndarray] = {}

    def __call__(self, ids: np.ndarray, prefix: str) -> np.ndarray:
        """Return the logits of the next piece, whose selections are the arrays `prefix`0, `prefix`1, ..."""
        names = [f"{prefix}{layer}" for layer in range(self.model.cfg.layers)]
        block_LBTNJ = jnp.asarray(np.stack([self.stored(name, ids.shape) for name in names]))
        cache = (self.store, block_LBTNJ, jnp.zeros(block_LBTNJ.shape[:-1], jnp.float32))
        first = jnp.int32(self.first)
        out, cache = call(self.llama, self.model.params, jnp.asarray(ids, jnp.int32), first, self.size, cache)
        self.store, _, regret_LBTN = cache
        self.first += ids.shape[1]
        self.regrets |= dict(zip(names, np.asarray(regret_LBTN), strict=True))
        return np.asarray(out)

    def stored(self, name: str, shape: tuple[int, int]) -> np.ndarray:
        """Return block_BTNJ; a call without a past needs no array."""
        few = min(self.seen_by.top_k, -(-self.size // self.seen_by.block))
        blocks = np.full((*shape, self.model.cfg.heads, few), -1, np.int32)
        if self.first >= self.seen_by.block or name in self.case.arrays:
            chosen_BTNJ = np.moveaxis(self.case.arrays[name], 1, 2)[:, : shape[1]]
            blocks[..., : chosen_BTNJ.shape[-1]] = chosen_BTNJ
        return blocks


class Replayed(NamedTuple):
    computed: list[tuple[str, str, Any]]
    regrets: dict[str, np.ndarray]  # by the name of the selection


def replayed(case: Case, run: Replayed, inputs: set[str]) -> Iterator[Result]:
    regrets = {name: x for name, x in run.regrets.items() if name in case.arrays}
    yield from compare(case, iter(run.computed), inputs | set(regrets))
    for name, regret in regrets.items():
        yield Result(FAMILY, f"{case.path.stem}/{name}", float(regret.max()), REGRET, "scores lower than our choice by")


def generation(case: Case) -> Replayed:
    """Run a prompt in chunks, then token by token; the step before a landmark includes the landmark."""
    meta, model = case.meta, Model.of(case)
    raw, block = case.arrays["raw_ids"], meta["mem_freq"] + 1
    prompt = with_landmarks(raw[:, : meta["prefill_raw"]], case, model.cfg)
    calls = Calls(case, model, raw.shape[0], -(-raw.shape[1] // (block - 1)) * block)
    cuts = [*range(0, prompt.shape[1], meta["max_chunk_length"]), prompt.shape[1]]
    chunks = [calls(prompt[:, a:b], f"sel_p{p}_l") for p, (a, b) in enumerate(itertools.pairwise(cuts))]
    steps, lengths = [], []
    for number, token in enumerate(raw[:, meta["prefill_raw"] :].T, len(chunks)):
        ids = token[:, None]
        if InsertLandmarks(block).is_inserted(calls.first + 1):
            ids = np.concatenate([ids, np.full_like(ids, meta["mem_id"])], axis=1)
        steps.append(calls(ids, f"sel_p{number}_l")[:, -1:])
        lengths.append(ids.shape[1])
    if lengths != meta["decode_step_input_lengths"]:
        raise ValueError(f"steps of {lengths} tokens, not {meta['decode_step_input_lengths']}")
    shown = chunks if meta["aggregate"] == "per_token_head" else chunks[-1:]
    computed = [("ids_with_landmarks", "inserted", prompt)]
    computed += [("logits_prefill", "chunks", np.concatenate(shown, axis=1))]
    computed += [("logits_decode", "cache", np.concatenate(steps, axis=1))]
    return Replayed(computed, calls.regrets)


def separate_pieces(case: Case) -> Replayed:
    """Run LCEG's perplexity: pieces share no cache, and the logits of landmarks are dropped."""
    meta, model, ids = case.meta, Model.of(case), case.arrays["input_ids"]
    block, piece = meta["mem_freq"] + 1, meta["piece"]
    kept, losses, regrets = [], [], {}
    for t, start in enumerate(range(0, ids.shape[1], piece)):
        raw = ids[:, start : start + piece]
        longer = with_landmarks(raw, case, model.cfg)
        calls = Calls(case, model, ids.shape[0], piece // (block - 1) * block)
        chunks, cuts = [], call_ends(case, t, longer.shape[1])
        for p, (a, b) in enumerate(itertools.pairwise([0, *cuts])):
            chunks.append(calls(longer[:, a:b], f"sel_t{t}_p{p}_l"))
        is_inserted = InsertLandmarks(block).is_inserted(np.arange(longer.shape[1]))
        kept.append(np.concatenate(chunks, axis=1)[:, ~is_inserted])
        losses.append(cross_entropy(jnp.asarray(kept[-1]), jnp.asarray(raw)))
        regrets |= calls.regrets
    computed = [("logits", "pieces", np.concatenate(kept, axis=1)), ("losses", "pieces", np.stack(losses))]
    return Replayed(computed, regrets)


def call_ends(case: Case, t: int, length: int) -> list[int]:
    """Return where the calls of piece t end, by the stored selections; the peer's last call has one more landmark."""
    full = case.meta["piece"] // case.meta["mem_freq"] * (case.meta["mem_freq"] + 1)
    later, p = [], 1
    while f"sel_t{t}_p{p}_l0" in case.arrays:
        later.append(case.arrays[f"sel_t{t}_p{p}_l0"].shape[2])
        p += 1
    return [min(int(end), length) for end in full - sum(later) + np.cumsum([0, *later])]
