"""The interface of stock attention kernels, one a file."""

from typing import ClassVar, Protocol

import jax

from longjax.attention.rectangles import Rectangle

Starts = tuple[jax.Array, jax.Array] | None  # document starts of queries and of keys; documents do not see each other


class Kernel(Protocol):
    """Attention within a rectangle. A frozen dataclass. K may be fewer than N heads (grouped queries).

    documents: whether it can keep packed documents apart.
    """

    documents: ClassVar[bool]

    def unsupported_reason(self, q_BTNH: jax.Array, k_BSKH: jax.Array, rectangle: Rectangle) -> str | None:
        """Return why the kernel cannot do this rectangle of these arrays; None if it can."""
        ...

    def forward(
        self, q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, rectangle: Rectangle, starts: Starts
    ) -> tuple[jax.Array, jax.Array]:
        """Return out_BTNH, lse_BNT of the seen pairs inside; lse in float32, by the natural logarithm."""
        ...

    def backward(
        self,
        q_BTNH: jax.Array,
        k_BSKH: jax.Array,
        v_BSKH: jax.Array,
        out_BTNH: jax.Array,
        lse_BNT: jax.Array,
        d_out_BTNH: jax.Array,
        rectangle: Rectangle,
        starts: Starts,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return the rectangle's share of dq_BTNH, dk_BSKH, dv_BSKH; out and lse are those of the whole softmax."""
        ...
