"""Published numbers as data: arXiv:2409.12181, LLaMA-2 7B. Perplexity as it is, scores in per cent."""

from typing import NamedTuple


class Published(NamedTuple):
    """One number of the paper's numbered `table`; `column`: PPL, needle, many-shot, LongBench or RULER."""

    method: str
    column: str
    length: int
    value: float
    table: int


COLUMNS = ("PPL", "needle", "many-shot", "LongBench", "RULER")
TABLE_1 = """
ntk_frozen   14.5   18.8  64.5  25.5   0.72
pi            5.9   42.1  75.5  33.5  57.66
yarn          5.9   46.7  75.0  33.5  36.95
clex          5.8   71.1  74.0  33.5  52.2
ntk_32k       5.79  83.7  71.0  35.32 59.42
ntk_64k       5.9   69.1  73.0  34.3  60.0
lm_infinite   6.7   23.9  61.5  25.84 12.34
self_extend   -     25.8  72.0  33.6  29.5
longlora      -     -     -     23.30  3.53
landmark      -     -     -     28.19 13.56
base          -     -     -     32.92  -
"""  # at 32768; the base at its own 4096
TABLE_3 = [Published("ntk_32k", "RULER", 65536, 46.26, 3)]


def _table_1() -> list[Published]:
    lines = [line.split() for line in TABLE_1.strip().splitlines()]
    cells = [(m, c, x) for m, *values in lines for c, x in zip(COLUMNS, values, strict=True) if x != "-"]
    return [Published(m, column, 4096 if m == "base" else 32768, float(x), 1) for m, column, x in cells]


PUBLISHED: tuple[Published, ...] = (*_table_1(), *TABLE_3)


def published_column(name: str) -> dict[str, float]:
    """Return a column of the paper's Table 1 by method, without the base, which stands at another length."""
    return {x.method: x.value for x in PUBLISHED if x.table == 1 and x.column == name and x.method != "base"}
