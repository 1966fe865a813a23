"""Word segmentation of Chinese text by the optional package jieba, as in LongBench."""

import functools
import importlib.util
import logging
from collections.abc import Callable, Iterable


def segment(text: str) -> list[str]:
    """Split text into words and what is between them. Raises ValueError without jieba."""
    return list(_cutter()(text))


def can_segment() -> bool:
    """Whether jieba is installed."""
    return importlib.util.find_spec("jieba") is not None


@functools.cache
def _cutter() -> Callable[[str], Iterable[str]]:
    try:
        import jieba  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("the Chinese tasks of LongBench are scored with jieba: pip install 'longjax[zh]'") from error
    jieba.setLogLevel(logging.WARNING)  # it logs its cache
    return jieba.cut
