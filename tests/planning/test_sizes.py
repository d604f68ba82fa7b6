"""Sizes as text."""

from __future__ import annotations

import pytest

from graphformer.planning import format_bytes, format_flops, parse_bytes
from graphformer.planning.sizes import format_count


@pytest.mark.parametrize(
    ("text", "size"),
    [("80GB", 80 * 10**9), ("512 MiB", 2**29), ("1.5tb", 15 * 10**11), ("7", 7), ("3KiB", 3072)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "80 GBs", "-1GB", "0GB", "1,5GB", "80XB", "1e400GB"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="memory: got .*, expected a size such as 80GB"):
        parse_bytes(text)


def test_numbers_are_written() -> None:
    assert format_bytes(0) == "0 B"
    assert format_bytes(999) == "999 B"
    assert format_bytes(2_950_000_000_000) == "2.95 TB"
    assert format_flops(2.17e15) == "2.17 PFLOP"
    assert format_count(174_604_259_328) == "175 B"
