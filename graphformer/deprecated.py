"""Old names of arguments, exports and attributes: accepted for one release, with a warning."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])


def renamed_keywords(**new_names: str) -> Callable[[_F], _F]:
    """Accept old keyword arguments of a function, `@renamed_keywords(eos_id="eos_token_id")`.

    The map is kept as `renamed_keywords` on the function, where the command line finds it to
    rename settings of stored configurations.

    Raises:
        TypeError: when called with both the old and the new keyword.
    """

    def decorate(function: _F) -> _F:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            for old in kwargs.keys() & new_names.keys():
                new = new_names[old]
                if new in kwargs:
                    raise TypeError(f"{new}: got {old} as well, its old name; pass {new} alone")
                _warn(f"the argument {old} of {function.__qualname__}", new)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        wrapper.renamed_keywords = new_names  # type: ignore[attr-defined]
        return wrapper  # type: ignore[return-value]

    return decorate


def converted_arguments(
    convert: Callable[[dict[str, Any]], dict[str, Any] | None], *positional: str
) -> Callable[[_F], _F]:
    """Accept calls of a function in an old form, where renaming keywords does not suffice.

    `convert` is kept as `convert_keywords` on the function, for stored configurations. It goes
    below `@renamed_keywords`.

    Args:
        convert: old keyword arguments -> those of today, or None for arguments of today's form.
        positional: names of the positional arguments in the old form.
    """

    def decorate(function: _F) -> _F:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            old = {**dict(zip(positional, args, strict=False)), **kwargs}
            new = convert(old) if len(args) <= len(positional) else None
            if new is None:
                return function(*args, **kwargs)
            changed = [name for name in old if name not in new or new[name] is not old[name]]
            added = [name for name in new if name not in old or new[name] is not old[name]]
            _warn(
                f"the argument {' and '.join(changed)} of {function.__qualname__}",
                " and ".join(added),
            )
            return function(**new)

        wrapper.convert_keywords = convert  # type: ignore[attr-defined]
        return wrapper  # type: ignore[return-value]

    return decorate


def old_keywords(target: Callable[..., Any]) -> dict[str, str]:
    """Return old keyword -> new one, of a function or of a class with its base classes."""
    if not isinstance(target, type):
        return dict(getattr(target, "renamed_keywords", {}))
    constructors = [vars(base).get("__init__") for base in reversed(target.__mro__)]
    return {k: v for c in constructors for k, v in getattr(c, "renamed_keywords", {}).items()}


def upgrade_settings(target: Callable[..., Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of today for those that an earlier release has stored."""
    new_names = old_keywords(target)
    renamed = {new_names.get(name, name): value for name, value in settings.items()}
    constructor = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    convert = getattr(constructor, "convert_keywords", None)
    return renamed if convert is None else convert(renamed) or renamed


def renamed_exports(module: str, new_names: dict[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module that resolves old names of its exports."""

    def look_up(name: str) -> Any:
        if name in new_names:
            _warn(f"{module}.{name}", f"{module}.{new_names[name]}")
            return getattr(sys.modules[module], new_names[name])
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return look_up


def renamed_function(old_name: str, function: _F) -> _F:
    """Return a function under its old name, `same = renamed_function("same", matching_pairs)`."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        _warn(f"{function.__module__}.{old_name}", function.__name__)
        return function(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


class renamed_attribute:  # noqa: N801 - used like `property`
    """The old name of an attribute or method, `kinds = renamed_attribute("part_mask")`."""

    def __init__(self, new_name: str) -> None:
        self.new_name = new_name

    def __set_name__(self, owner: type, name: str) -> None:
        self.old_name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        kind = type(instance).__name__
        _warn(f"{kind}.{self.old_name}", f"{kind}.{self.new_name}")
        return getattr(instance, self.new_name)


def renamed_value(argument: str, value: str, new_values: dict[str, str]) -> str:
    """Return an argument's value, today's for an old one: `{"first": "cls"}`."""
    if value not in new_values:
        return value
    new = new_values[value]
    warnings.warn(
        f"{argument}={value!r} is now called {argument}={new!r}; change it",
        FutureWarning,
        stacklevel=4,
    )
    return new


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is now called {new}; change it", FutureWarning, stacklevel=3)
