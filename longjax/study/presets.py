"""The study configurations by name, from a miniature to 7B models: only their numbers differ, never the code."""

from longjax.study.config import StudyConfig
from longjax.study.controlled_presets import H200_100M, MINI, QUICK
from longjax.study.paper_presets import (
    CLEX,
    LANDMARK,
    LCEG_SCRIPT,
    LONGLORA,
    PAPER,
    PHI2,
    PROLONG_64K,
    PROLONG_512K,
)

PRESETS: dict[str, StudyConfig] = {
    "mini": MINI, "quick": QUICK, "h200_100m": H200_100M,
    "paper": PAPER, "lceg_script": LCEG_SCRIPT, "longlora": LONGLORA, "landmark": LANDMARK, "clex": CLEX,
    "prolong_64k": PROLONG_64K, "prolong_512k": PROLONG_512K, "phi2": PHI2,
}  # fmt: skip
