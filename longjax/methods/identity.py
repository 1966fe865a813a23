"""The identity of a method: its name and its settings, which do not depend on the names of classes.

{"name": "yarn", "settings": {"factor": 8.0, ...}}; the settings of `compose`, `with_lora` and others hold methods.
Checkpoints and records store it, and a resumed run compares it.
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Identity = dict[str, Any]  # as JSON gives it back
F = TypeVar("F", bound=Callable[..., Any])


def identified(make: F) -> F:
    """Decorates a function that returns a method: its name and all arguments become the method's identity."""
    signature = inspect.signature(make)

    @functools.wraps(make)
    def make_identified(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return with_identity(make(*args, **kwargs), make.__name__, bound.arguments)

    return make_identified  # pyright: ignore[reportReturnType]


def with_identity(method: Any, name: str, settings: Mapping[str, Any]) -> Any:
    """Returns a copy of the method with this name and these settings as its identity."""
    copy = dataclasses.replace(method)
    object.__setattr__(copy, "_identity", {"name": name, "settings": _as_json(settings)})
    return copy


def method_identity(method: Any) -> Identity:
    """Returns the name and the settings of a method, which JSON stores without loss.

    A method made by `Method(...)` or by `dataclasses.replace`, not by an `identified` function, has the name "method";
    its settings are the fields that differ from the default, each as its `stable_repr`.
    """
    if method._identity is not None:
        return method._identity
    fields = [field for field in dataclasses.fields(method) if field.init]
    settings = {field.name: getattr(method, field.name) for field in fields}
    return {
        "name": "method",
        "settings": {f.name: stable_repr(x) for f in fields if (x := settings[f.name]) != f.default},
    }


def _as_json(value: Any) -> Any:
    if hasattr(value, "_identity"):
        return method_identity(value)
    if isinstance(value, Mapping):
        return {name: _as_json(x) for name, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(x) for x in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else stable_repr(value)


def identity_as_call(identity: Any) -> str:
    """Returns an identity as people read it: compose(position=yarn(factor=4.0), attention=rerope(window=512))."""
    if not (isinstance(identity, dict) and identity.keys() == {"name", "settings"}):
        return str(identity)
    return f"{identity['name']}({', '.join(f'{k}={identity_as_call(x)}' for k, x in identity['settings'].items())})"


def stable_repr(component: Any) -> str:
    """Returns the `repr` of a method's component without addresses, which differ between processes."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(component))
