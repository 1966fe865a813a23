"""LongLoRA: trains on attention within groups, half of the heads shifted by half a group; then attends to all keys.

Chen et al. 2023, arXiv:2309.12307, section 3.2 (S2-Attn) over Position Interpolation; trains LoRA, embeddings and
norms, but not the output layer. The authors train with the flash path of their code, which does not wrap around: the
first half group of the shifted heads is a separate group. Their pseudo-code wraps (s2_wrap), so that the first tokens
attend to the last ones.
"""

import dataclasses
from typing import Literal

from longjax.attention.branched import BranchedAttention
from longjax.attention.branches import Branch
from longjax.attention.intervals import Chunk, RolledChunksLeak, ShiftedChunks
from longjax.config import ModelConfig
from longjax.methods.identity import identified
from longjax.methods.lora import Lora, LoraInit
from longjax.methods.method import AttentionFn, Method
from longjax.methods.pi import PiRope


@dataclasses.dataclass(frozen=True)
class ShiftedGroups:
    """S2-Attn with `groups` groups a row."""

    groups: int

    def __call__(self, cfg, length):
        return BranchedAttention((Branch(ShiftedChunks(group_size(length, self.groups), cfg.heads // 2)),))


@dataclasses.dataclass(frozen=True)
class RolledGroups:
    """S2-Attn by rolling the sequence, which leaks the last tokens to the first ones."""

    groups: int

    def __call__(self, cfg, length):
        size = group_size(length, self.groups)
        if size % 2:
            raise ValueError(f"--groups={self.groups} of {length} tokens cannot be rolled by half: odd size {size}")
        unshifted = cfg.heads // 2
        shifted, leak = ShiftedChunks(size, unshifted), RolledChunksLeak(size, unshifted, length)
        return BranchedAttention((Branch(shifted), Branch(leak)))


@dataclasses.dataclass(frozen=True)
class PlainGroups:
    """Attention within groups without shift: the ablation."""

    groups: int

    def __call__(self, cfg, length):
        return BranchedAttention((Branch(Chunk(group_size(length, self.groups))),))


@dataclasses.dataclass(frozen=True)
class FixedGroups:
    """S2-Attn of supervised fine-tuning: groups of `group` tokens, a quarter where 4096 divides the length."""

    group: int

    def __call__(self, cfg: ModelConfig, length: int) -> BranchedAttention:
        size = self.group if length % 4096 else length // 4
        return BranchedAttention((Branch(ShiftedChunks(size, cfg.heads // 2)),))


def group_size(length: int, groups: int) -> int:
    """Returns the tokens of a group. Raises ValueError if groups of this row would differ."""
    if length % groups:
        raise ValueError(f"--groups={groups} must divide the sequence length {length}")
    return length // groups


def lora_embedding_norm(path: str) -> bool:
    """Trains adapters, embeddings and norms: a `Method.trainable`."""
    name = path.rsplit("/", 1)[-1]
    return name.startswith(("lora_", "embed_")) or "norm" in name


def _method(factor: float, attention: AttentionFn, rank: int, alpha: float) -> Method:
    lora = Lora(rank, alpha)
    return Method(
        rope=PiRope(factor),
        attention_train=attention,
        init_params=LoraInit(lora),
        adapt=lora,
        trainable=lora_embedding_norm,
    )


@identified
def longlora(
    factor: float = 8.0,  # of position interpolation: extended length / trained length
    groups: int = 4,  # groups of a training row; they must divide its length
    shift: Literal["s2", "s2_wrap", "noshift"] = "s2",  # groups of half of the heads: shifted, rolled (leaks), plain
    rank: int = 8,  # of the adapters
    alpha: float = 16.0,  # adapters are multiplied by alpha / rank
) -> Method:
    """LongLoRA: S2-Attn and LoRA in training over position interpolation, full attention afterwards."""
    shifts = {"s2": ShiftedGroups, "s2_wrap": RolledGroups, "noshift": PlainGroups}
    return _method(factor, shifts[shift](groups), rank, alpha)


@identified
def longlora_sft(
    factor: float = 8.0,  # of position interpolation: extended length / trained length
    group: int = 8192,  # tokens of a group in training; rows that 4096 divides have four groups instead
    rank: int = 8,  # of the adapters
    alpha: float = 16.0,  # adapters are multiplied by alpha / rank
) -> Method:
    """LongLoRA with the groups of its supervised fine-tuning."""
    return _method(factor, FixedGroups(group), rank, alpha)
