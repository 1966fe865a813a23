"""Stock attention kernels behind one contract, one a file."""

from typing import ClassVar, Protocol

import jax

from longjax.attention.rectangles import Rectangle

Starts = tuple[jax.Array, jax.Array] | None  # of the documents of queries and of keys, that see only themselves


class Kernel(Protocol):
    """Attention within a rectangle. A frozen dataclass. K may be fewer than N heads (grouped queries).

    documents: whether it can keep documents apart.
    """

    documents: ClassVar[bool]

    def unsupported_reason(self, q_BTNH: jax.Array, k_BSKH: jax.Array, rectangle: Rectangle) -> str | None:
        """-> why it cannot do this rectangle of these arrays; None if it can."""
        ...

    def forward(
        self, q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, rectangle: Rectangle, starts: Starts
    ) -> tuple[jax.Array, jax.Array]:
        """-> out_BTNH, lse_BNT: of what is seen inside; lse in float32, by the natural logarithm."""
        ...

    def backward(
        self, q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, out_BTNH: jax.Array, lse_BNT: jax.Array,
        d_out_BTNH: jax.Array, rectangle: Rectangle, starts: Starts,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
        """-> dq_BTNH, dk_BSKH, dv_BSKH: the rectangle's share, where out and lse are those of the whole softmax."""
        ...
