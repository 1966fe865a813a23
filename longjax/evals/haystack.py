"""The text in which needles are hidden: the user's essays, one after the other."""

import dataclasses

import numpy as np

from longjax.data.tokenizer import Tokenizer
from longjax.evals.context import EvalContext
from longjax.evals.requests import Record
from longjax.files import read_text, sha256_bytes

SOURCE = "any text of yours; the study has Paul Graham's essays, which may not be passed on"


@dataclasses.dataclass(frozen=True)
class Haystack:
    """A text with the name and hash by which results tell it from others.

    Attributes:
      id: name of its first file, and the number of further files.
      sha256: of its text.
      text: all files, in the order of their names.

    """

    id: str
    sha256: str
    text: str

    @property
    def metadata(self) -> Record:
        """What results hold of it."""
        return {"haystack": self.id, "haystack_sha256": self.sha256}

    def repeated(self, tokenizer: Tokenizer, count: int) -> str:
        """Return the text, repeated until it has at least `count` tokens."""
        times, once = 1, len(tokenizer.encode(self.text))
        while (missing := count - len(tokenizer.encode(self.text * times))) > 0:  # seams may save tokens
            times += -(-missing // once)
        return self.text * times

    def tokens(self, tokenizer: Tokenizer, count: int) -> np.ndarray:
        """Return the first `count` tokens of the text, which is repeated where it is shorter."""
        return tokenizer.encode(self.repeated(tokenizer, count))[:count]


def read_haystack(ctx: EvalContext) -> Haystack:
    """Read haystack/*.txt in the data directory. Raises ValueError if there is no text."""
    folder = ctx.find_file(["haystack"], "a folder of .txt files that needles are hidden in", SOURCE)
    paths = sorted(folder.glob("*.txt"))
    text = "".join(read_text(path) for path in paths)
    if not text.strip():
        raise ValueError(f"{folder} holds no text: it needs .txt files ({SOURCE})")
    more = f"+{len(paths) - 1}" if len(paths) > 1 else ""
    return Haystack(paths[0].stem + more, sha256_bytes(text), text)
