"""The text in which needles are hidden: the user's essays, one after the other."""

import dataclasses

import numpy as np

from longjax.evals.material import Material
from longjax.evals.questions import sha256
from longjax.tokenizer import Tokenizer

SOURCE = "any text of yours; the study has Paul Graham's essays, which may not be passed on"


@dataclasses.dataclass(frozen=True)
class Haystack:
    """A text that results name, so that scores on one are never taken for scores on another.

    Attributes:
      id: names of its files.
      sha256: of its text.
      text: all files, in the order of their names.

    """

    id: str
    sha256: str
    text: str

    def repeated(self, tokenizer: Tokenizer, count: int) -> str:
        """-> the text so many times that it has at least `count` tokens."""
        return self.text * max(1, -(-count // len(tokenizer.encode(self.text))))

    def tokens(self, tokenizer: Tokenizer, count: int) -> np.ndarray:
        """-> the first `count` tokens of the text, repeated where it is shorter."""
        text = self.repeated(tokenizer, count)
        ids = tokenizer.encode(text)
        while len(ids) < count:  # tokens may span two repetitions
            text += self.text
            ids = tokenizer.encode(text)
        return ids[:count]


def read_haystack(material: Material) -> Haystack:
    """-> what lies in haystack/*.txt."""
    folder = material.find(["haystack"], "a folder of .txt files that needles are hidden in", SOURCE)
    paths = sorted(folder.glob("*.txt"))
    try:
        text = "".join(path.read_text("utf-8") for path in paths)
    except UnicodeDecodeError as error:
        raise ValueError(f"{folder} holds a .txt file that is not UTF-8 ({error}): convert or remove it") from error
    if not text.strip():
        raise ValueError(f"{folder} holds no text: it needs .txt files ({SOURCE})")
    more = f"+{len(paths) - 1}" if len(paths) > 1 else ""
    return Haystack(paths[0].stem + more, sha256(text), text)
