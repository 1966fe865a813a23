"""Searches mesh and rematerialization: candidates are ranked by estimated memory, and the best of them compiled."""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from longjax.aot.topology import GIB
from longjax.config import ModelConfig
from longjax.training.remat import Remat


class MeshChoice(NamedTuple):
    """Mesh, rows of a micro-batch and rematerialization, which do not change the result."""

    fsdp: int
    seq: int
    micro_rows: int
    remat: Remat

    def flags(self) -> str:
        """Returns the flags of this choice."""
        sizes = f"--mesh_fsdp={self.fsdp} --mesh_seq={self.seq} --micro_batch_size={self.micro_rows}"
        return f"{sizes} --remat={self.remat}"


def meshes(cfg: ModelConfig, rows: int, chips: int) -> Iterator[tuple[int, int, int]]:
    """Yields fsdp, seq and rows of a micro-batch; those that split sequences least, and exchange least, come first.

    Ulysses needs a query head for each part of a sequence.
    """
    for seq in (2**n for n in range(chips.bit_length())):
        fsdp = chips // seq
        if chips % seq == 0 and cfg.heads % seq == 0 and rows % fsdp == 0:
            yield fsdp, seq, fsdp


def choices(cfg: ModelConfig, rows: int, chips: int, remats: Iterable[Remat]) -> list[MeshChoice]:
    """Returns all choices for a batch of `rows` on so many chips."""
    return [MeshChoice(*mesh, remat) for mesh, remat in itertools.product(meshes(cfg, rows, chips), remats)]


def best_choices(bytes_of: dict[MeshChoice, int], limit: float, count: int = 3) -> list[MeshChoice]:
    """Returns choices that fit by the estimate: the fewest parts of a sequence first, then the least recomputation.

    What recomputes least saves most, so it has the most bytes.
    """
    fitting = [choice for choice, bytes_ in bytes_of.items() if bytes_ <= limit]
    return sorted(fitting, key=lambda choice: (choice.seq, -bytes_of[choice]))[:count]


def search_advice(bytes_of: dict[MeshChoice, int], limit: float) -> str:
    """Returns which flags make a program fit that does not, or what else would."""
    if best := best_choices(bytes_of, limit, 1):
        return f"it should fit with {best[0].flags()}"
    choice = min(bytes_of, key=lambda choice: bytes_of[choice])
    smallest = f"{choice.flags()}, {bytes_of[choice] / GIB:.1f} GiB of {limit / GIB:.1f}"
    smaller = "more chips, or a smaller state (--mu_dtype=bfloat16, --ema_decay=0, --lora_rank)"
    return f"no mesh and no remat policy makes it fit; the smallest is {smallest}: {smaller}"
