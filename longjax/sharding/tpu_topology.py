"""Order of the chips of a TPU torus, so that the chips of one sequence, which exchange heads, are neighbors.

An all-to-all among n chips in a line takes n / 4 times the array over a link; in a ring, or in a block of 2 x n / 2,
half of that.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def compact_device_order(devices: Sequence[Any], block: int) -> list[Any]:
    """Returns TPU chips in an order in which every `block` consecutive ones are compact; other devices as they come."""
    if not all(hasattr(device, "coords") for device in devices):
        return list(devices)
    coordinates = [(*device.coords[::-1], getattr(device, "core_on_chip", 0)) for device in devices]  # x is the fastest
    shape = [max(column) + 1 for column in zip(*coordinates, strict=True)]
    tile = best_block(shape, block)
    if math.prod(shape) != len(devices) or tile is None:
        return list(devices)
    grid = np.empty(shape, object)
    for coordinate, device in zip(coordinates, devices, strict=True):
        grid[coordinate] = device
    split = [n for size, side in zip(shape, tile, strict=True) for n in (size // side, side)]
    outer_then_inner = [*range(0, len(split), 2), *range(1, len(split), 2)]
    return list(grid.reshape(split).transpose(outer_then_inner).ravel())


def best_block(shape: Sequence[int], block: int) -> tuple[int, ...] | None:
    """Returns the sides of the block with the fastest all-to-all, of whole axes if that is as fast; None: none fits.

    Args:
      shape: sides of the torus, in chips.
      block: chips of the block.

    """
    rings = ring_axes(shape)

    def cost(tile: tuple[int, ...]) -> tuple:
        whole = [side == size for side, size in zip(tile, shape, strict=True)]
        times = [side / (8 if all_ and ring else 4) for side, all_, ring in zip(tile, whole, rings, strict=True)]
        cuts = sum(side > 1 and not all_ for side, all_ in zip(tile, whole, strict=True))
        return max(times), cuts, sum(tile), tile

    sides = itertools.product(*([n for n in range(1, size + 1) if size % n == 0] for size in shape))
    return min((tile for tile in sides if math.prod(tile) == block), key=cost, default=None)


def ring_axes(shape: Sequence[int]) -> tuple[bool, ...]:
    """Returns along which axes the last chip is linked to the first: of three (v5p), in cubes of 4; of two, at 16."""
    cubes = sum(size > 1 for size in shape) > 2
    return tuple(all(n % 4 == 0 for n in shape if n > 1) if cubes else size == 16 for size in shape)
