"""Units: bytes such as "80GB", and numbers of bytes and FLOPs as text."""

from __future__ import annotations

import math
import re

_UNITS = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_bytes(text: str) -> int:
    """Return the number of bytes that a text such as "80GB", "512 MiB" or "1e9" means.

    Raises:
        ValueError: when the text is no such number.
    """
    match = _TEXT.fullmatch(text)
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None or not float(match[1]):
        raise ValueError(f"memory: got {text!r}, expected a size such as 80GB or 512MiB")
    return int(float(match[1]) * unit)


def format_bytes(number: float) -> str:
    """Return a number of bytes in powers of 1000, such as "2.95 TB"."""
    return _format(number, "B", ("", "k", "M", "G", "T", "P"))


def format_flops(number: float) -> str:
    """Return a number of FLOPs, such as "2.17 PFLOP"."""
    return _format(number, "FLOP", ("", "k", "M", "G", "T", "P", "E", "Z"))


def format_count(number: float) -> str:
    """Return a number, such as "174.6 B" for 1.746e11."""
    return _format(number, "", ("", "k", "M", "B", "T"))


def _format(number: float, unit: str, prefixes: tuple[str, ...]) -> str:
    if number < 1000:
        return f"{number:.0f} {unit}".strip()
    power = min(int(math.log10(number) + 1e-9) // 3, len(prefixes) - 1)
    return f"{number / 1000**power:.3g} {prefixes[power]}{unit}".strip()
