"""Packages that some tests compare with, or read files by, and that users do without."""

from typing import Any

import pytest


def peer(name: str) -> Any:
    """-> the module. Without it there is nothing to compare with, and the test is skipped; CI has it."""
    return pytest.importorskip(name, reason=f"needs {name}: the extra `parity`, which CI installs")
