"""LongLoRA: train on attention within groups, half of the heads shifted by half a group; then attend to all.

Chen et al. 2023, arXiv:2309.12307, section 3.2 (S2-Attn) over Position Interpolation; trains LoRA, embeddings and
norms, but not the output layer. The authors train with the flash path of their code, which does not wrap around: the
first half group of the shifted heads is a group of its own. Their pseudo-code wraps (s2_wrap), and so shows the first
tokens the last ones.
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
    """S2-Attn with `groups` groups."""

    groups: int

    def __call__(self, cfg, length):
        return BranchedAttention((Branch(ShiftedChunks(group_size(length, self.groups), cfg.heads // 2)),))


@dataclasses.dataclass(frozen=True)
class RolledGroups:
    """S2-Attn by rolling the sequence, with the leak."""

    groups: int

    def __call__(self, cfg, length):
        size = group_size(length, self.groups)
        if size % 2:
            raise ValueError(f"--groups={self.groups} of {length} tokens cannot be rolled by half: odd size {size}")
        plain = cfg.heads // 2
        return BranchedAttention((Branch(ShiftedChunks(size, plain)), Branch(RolledChunksLeak(size, plain, length))))


@dataclasses.dataclass(frozen=True)
class PlainGroups:
    """The ablation without shift."""

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
    if length % groups:
        raise ValueError(f"--groups={groups} must divide the sequence length {length}")
    return length // groups


def lora_embedding_norm(path: str) -> bool:
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
    factor: float = 8.0,
    groups: int = 4,
    shift: Literal["s2", "s2_wrap", "noshift"] = "s2",
    rank: int = 8,
    alpha: float = 16.0,
) -> Method:
    shifts = {"s2": ShiftedGroups, "s2_wrap": RolledGroups, "noshift": PlainGroups}
    return _method(factor, shifts[shift](groups), rank, alpha)


@identified
def longlora_sft(factor: float = 8.0, group: int = 8192, rank: int = 8, alpha: float = 16.0) -> Method:
    return _method(factor, FixedGroups(group), rank, alpha)
