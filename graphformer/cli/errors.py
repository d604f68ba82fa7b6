"""One short message for a wrong command line or file, with the nearest right name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UsageError(Exception):
    """Something that the user can put right; the message is all that needs to be shown."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """`: did you mean 'x'?` for the choice nearest to a name, else `: choose from a, b`."""
    names = sorted(set(choices))
    folded = {choice.casefold(): choice for choice in names}
    found = get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    if found:
        return f": did you mean {folded[found[0]]!r}?"
    return f": choose from {', '.join(names)}" if names and len(names) <= 20 else ""
