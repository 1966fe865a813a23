"""Which mesh and which remat? Candidates by the cheap estimate of memory.py first; the best of them are compiled."""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from longjax.aot.topology import GIB
from longjax.config import ModelConfig
from longjax.training.remat import Remat


class MeshChoice(NamedTuple):
    """What may be changed without changing the result."""

    fsdp: int
    seq: int
    micro_rows: int
    remat: Remat

    def flags(self) -> str:
        sizes = f"--mesh_fsdp={self.fsdp} --mesh_seq={self.seq} --micro_batch_size={self.micro_rows}"
        return f"{sizes} --remat={self.remat}"


def meshes(cfg: ModelConfig, rows: int, chips: int) -> Iterator[tuple[int, int, int]]:
    """-> fsdp, seq and micro_rows, from those with the least exchange of activations on: few parts of a sequence.

    Ulysses needs so many query heads as parts.
    """
    for seq in (2**n for n in range(chips.bit_length())):
        fsdp = chips // seq
        if chips % seq == 0 and cfg.heads % seq == 0 and rows % fsdp == 0:
            yield fsdp, seq, fsdp


def choices(cfg: ModelConfig, rows: int, chips: int, remats: Iterable[Remat]) -> list[MeshChoice]:
    return [MeshChoice(*mesh, remat) for mesh, remat in itertools.product(meshes(cfg, rows, chips), remats)]


def best_choice(bytes_of: dict[MeshChoice, int], limit: float, most: int = 3) -> list[MeshChoice]:
    """-> those that seem to fit: the fewest parts of a sequence first, then what computes the least again, which is
    what keeps the most.
    """
    fitting = [choice for choice, bytes_ in bytes_of.items() if bytes_ <= limit]
    return sorted(fitting, key=lambda choice: (choice.seq, -bytes_of[choice]))[:most]


def choice_line(bytes_of: dict[MeshChoice, int], limit: float) -> str:
    """-> what to do about a program that does not fit."""
    found = best_choice(bytes_of, limit, 1)
    if found:
        return f"it should fit with {found[0].flags()}"
    choice = min(bytes_of, key=lambda choice: bytes_of[choice])
    smallest = f"{choice.flags()}, {bytes_of[choice] / GIB:.1f} GiB of {limit / GIB:.1f}"
    smaller = "more chips, or a smaller state (--mu_dtype=bfloat16, --ema_decay=0, --lora_rank)"
    return f"no mesh and no remat of ours makes it fit; the smallest is {smallest}: {smaller}"
