"""A method on a base whose RoPE was scaled before: Llama 3.1, or an extension by YaRN that is extended further."""

import dataclasses

from longjax.attention.rope import inv_freq
from longjax.methods.method import Method, RopeFn, plain_rope


@dataclasses.dataclass(frozen=True)
class FurtherRope:
    """Frequencies changed twice: by what the base has, then by the factors of a method.

    The method's factors are those that it has on unscaled frequencies, from the length that the base reads now.

    Attributes:
      base: RoPE of the base.
      base_len: tokens that the base was trained on before it was extended.
      method: RoPE of the method.

    """

    base: RopeFn
    base_len: int
    method: RopeFn = plain_rope

    def __call__(self, cfg, length, method_params, key):
        before = self.base(dataclasses.replace(cfg, trained_len=self.base_len), cfg.trained_len, {}, None)
        rope = self.method(cfg, length, method_params, key)
        return rope.replace(
            inv_freq_R=rope.inv_freq_R * (before.inv_freq_R / inv_freq(cfg)), scale=rope.scale * before.scale
        )


def further(base: Method, base_len: int) -> Method:
    """Returns a base that methods extend from all that it reads now (`checkpoints.config_from_hf.on_base`)."""
    return dataclasses.replace(base, rope=FurtherRope(base.rope, base_len))
