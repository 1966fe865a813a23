"""The text in which needles are hidden: the user's essays, one after the other."""

import dataclasses

import numpy as np

from longjax.data.tokenizer import Tokenizer
from longjax.evals.context import EvalContext
from longjax.evals.requests import Record
from longjax.files import read_text, sha256_bytes

SOURCE = "any text of yours; the study has Paul Graham's essays, which may not be passed on"
CHARACTERS = 6  # of a token, more than most texts have
SPARE = 256  # tokens behind those that are needed


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
        """Return the beginning of the text, repeated where it is short, that has at least `count` tokens.

        There are some more, so that the first `count` do not depend on where the text ends.
        """
        text, size = "", CHARACTERS * (count + SPARE)
        while len(tokenizer.encode(text)) < count + SPARE:
            text = (self.text * -(-size // len(self.text)))[:size]
            size *= 2
        return text

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
