"""Options that a function passes on by `**options`: misspelt names are refused by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])


def checked_options(function: _F) -> _F:
    """Refuse keyword arguments that are neither parameters nor keys of `**options`' TypedDict.

    For a function, or an `__init__`, that declares `**options: Unpack[SomeTypedDict]` and passes
    these on. The annotation is removed from the run-time signature, so that jsonargparse follows
    the call that receives the options and finds their defaults and descriptions there.
    `@renamed_keywords` goes above this decorator.

    Raises:
        TypeError: when called with another keyword; the message names the nearest option.
    """
    signature = inspect.signature(function)
    keywords = next(p for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD)
    named = signature.parameters.keys() - {keywords.name}

    @functools.cache
    def allowed() -> frozenset[str]:
        annotation = keywords.annotation
        if isinstance(annotation, str):  # at the first call, when all names are defined
            annotation = eval(annotation, inspect.unwrap(function).__globals__)
        (options,) = annotation.__args__
        return frozenset(options.__annotations__) | named

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not kwargs.keys() <= named:
            for name in sorted(kwargs.keys() - allowed()):
                owner = function.__qualname__.removesuffix(".__init__")
                raise TypeError(
                    f"{owner}() got an unexpected option {name!r}{suggestion(name, allowed())}"
                )
        return function(*args, **kwargs)

    plain = keywords.replace(annotation=inspect.Parameter.empty)
    wrapper.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[plain if p is keywords else p for p in signature.parameters.values()]
    )
    wrapper.__annotations__ = {
        name: hint for name, hint in function.__annotations__.items() if name != keywords.name
    }
    return wrapper  # type: ignore[return-value]


def suggestion(name: str, choices: Iterable[str]) -> str:
    """`: did you mean 'x'?` for the choice nearest to a name, else `: choose from a, b`."""
    names = sorted(set(choices))
    folded = {choice.casefold(): choice for choice in names}
    found = get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    if found:
        return f": did you mean {folded[found[0]]!r}?"
    return f": choose from {', '.join(names)}" if names and len(names) <= 20 else ""
