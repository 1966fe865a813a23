"""What a method is called and with which settings: the same in every process and under every name of a class.

{"name": "yarn", "settings": {"factor": 8.0, ...}}; the settings of `compose`, `with_lora` and others hold methods.
Files keep this, and resuming compares it.
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
    """Decorates a function that returns a method: its name and its arguments, defaults included, are the identity."""
    signature = inspect.signature(make)

    @functools.wraps(make)
    def made(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return with_identity(make(*args, **kwargs), make.__name__, bound.arguments)

    return made  # pyright: ignore[reportReturnType]


def with_identity(method: Any, name: str, settings: Mapping[str, Any]) -> Any:
    """Returns the method with this identity instead of its own."""
    named = dataclasses.replace(method)
    object.__setattr__(named, "_identity", {"name": name, "settings": as_json(settings)})
    return named


def method_identity(method: Any) -> Identity:
    """Returns the name and the settings of a method, which JSON holds without loss.

    A method made by `Method(...)` or by `dataclasses.replace`, not by an `identified` function, is called "method";
    its settings are its fields that are not the default, each by its `repr` without addresses.
    """
    if method._identity is not None:
        return method._identity
    fields = [field for field in dataclasses.fields(method) if field.init]
    settings = {field.name: getattr(method, field.name) for field in fields}
    return {
        "name": "method",
        "settings": {f.name: described(x) for f in fields if (x := settings[f.name]) != f.default},
    }


def as_json(value: Any) -> Any:
    if hasattr(value, "_identity"):
        return method_identity(value)
    if isinstance(value, Mapping):
        return {name: as_json(x) for name, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(x) for x in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else described(value)


def in_words(identity: Any) -> str:
    """Returns an identity as a call: compose(position=yarn(factor=4.0), attention=rerope(window=512))."""
    if not (isinstance(identity, dict) and identity.keys() == {"name", "settings"}):
        return str(identity)
    return f"{identity['name']}({', '.join(f'{k}={in_words(x)}' for k, x in identity['settings'].items())})"


def described(plug_in: Any) -> str:
    """Returns the `repr` of a part of a method without addresses of functions. For people: it changes with names."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(plug_in))
