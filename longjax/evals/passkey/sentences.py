"""The sentences that papers hide pass keys in, and prompts made of them.

Mohtashami and Jaggi 2023, arXiv:2305.16300, section 4.2; LongLoRA and YaRN use the same ones.
"""

from typing import NamedTuple

TASK = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
    "I will quiz you about the important information there."
)
GARBAGE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
QUESTION = "What is the pass key? The pass key is"
STEP = 128  # characters by which the garbage grows where it is fitted, as in YaRN's search
MAX_SIZE = 10**9  # characters: the garbage can be repeated without end


class PasskeySample(NamedTuple):
    """A prompt, its key, and the depth of the key: 0 at the beginning of the garbage, 1 at its end."""

    prompt: str
    key: str
    depth: float


def hide_key(size: int, before: int, key: int) -> PasskeySample:
    """Return a prompt with `size` characters of garbage, `before` of them before the key. Words are cut."""
    garbage = " ".join([GARBAGE] * (size // len(GARBAGE) + 1))
    info = f"The pass key is {key}. Remember it. {key} is the pass key."
    prompt = "\n".join([TASK, garbage[:before], info, garbage[: size - before], QUESTION])
    return PasskeySample(prompt, str(key), before / max(1, size))
