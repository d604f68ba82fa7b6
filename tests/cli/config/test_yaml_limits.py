"""Limits of YAML documents."""

from __future__ import annotations

import pytest

from graphformer.cli.config.yaml_limits import check_yaml
from graphformer.cli.errors import UsageError


def nested(levels: int) -> str:
    return "a: " + "[" * levels + "]" * levels


def doubling(levels: int) -> str:
    """A document whose last value has 2 to the power of `levels` words without aliases."""
    lines = (f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, levels + 1))
    return "\n".join(["a0: &a0 x", *lines])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# a comment",
        "1",
        "a: {b: [1, 2, null]}",
        "a: &x {b: 1}\nc: *x\nd: *x",
        nested(97),
        doubling(13),
        "[" + "1, " * 99_990 + "1]",
        b"a: 1",
    ],
    ids=lambda text: str(text[:20]),
)
def test_settings_pass(text: str | bytes):
    check_yaml(text, "x.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, {", "x.yaml is no YAML"),
        ("a: *b", "x.yaml is no YAML .*undefined alias"),
        (b"\xff\xfe\xff", "x.yaml is no YAML"),
        ("a: 1\n---\nb: 2", "x.yaml is no YAML"),
        (nested(101), "x.yaml: got YAML of more than 100 levels"),
        (nested(5_000), "x.yaml: got YAML with more levels than can be read"),
        (doubling(17), "x.yaml: got more than 100,000 values"),
        (doubling(90), "x.yaml: got more than 100,000 values"),
        ("a: &x [*x]", "x.yaml: got more than 100,000 values"),
        ("[" + "1, " * 100_000 + "1]", "x.yaml: got more than 100,000 values"),
    ],
    ids=lambda text: str(text[:20]),
)
def test_others_are_refused(text: str | bytes, message: str):
    with pytest.raises(UsageError, match=message):
        check_yaml(text, "x.yaml")
