"""The methods. Each is one file here; add yours to METHODS and it runs everywhere."""

from collections.abc import Callable

from longjax.methods.base import Method, base, compose
from longjax.methods.pi import pi
from longjax.methods.self_extend import self_extend

METHODS: dict[str, Callable[..., Method]] = {f.__name__: f for f in (base, pi, self_extend)}

__all__ = ["METHODS", "Method", "base", "compose", "pi", "self_extend"]
