"""A checkpoint whose tensors are arrays at hand, for tests of what reads a `Tensors`."""

import numpy as np


class InMemory(dict[str, np.ndarray]):
    """Tensors by name: a `Tensors`."""

    def shapes(self):
        return {name: x.shape for name, x in self.items()}

    def read(self, name, rows=slice(None)):
        return self[name][rows]
