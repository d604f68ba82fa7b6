"""Limits of YAML documents: syntax, depth, and size after aliases are expanded."""

from __future__ import annotations

import yaml

from graphformer.cli.errors import UsageError

_MAX_NODES = 100_000
_MAX_DEPTH = 100


def check_yaml(text: str | bytes, name: str) -> None:
    """Refuse a YAML document that cannot be read, or whose content is not that of settings.

    Args:
        text: the document.
        name: of the file or option, for messages.

    Raises:
        UsageError: when the syntax is wrong, or when it has too many values or levels; an alias
            counts as all values of its anchor.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError:
        raise UsageError(f"{name}: got YAML with more levels than can be read") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{name} is no YAML ({' '.join(str(error).split())})") from error
    if root is not None and _count_nodes(root, {}, name, 0) > _MAX_NODES:
        raise UsageError(
            f"{name}: got more than {_MAX_NODES:,} values, aliases expanded, expected settings"
        )


def _count_nodes(node: yaml.Node, known: dict[int, int], name: str, depth: int) -> int:
    """Return the number of values of a node; each is visited once."""
    if depth > _MAX_DEPTH:
        raise UsageError(f"{name}: got YAML of more than {_MAX_DEPTH} levels, expected settings")
    if id(node) not in known:
        known[id(node)] = _MAX_NODES + 1  # for an alias of a node that contains it
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        known[id(node)] = 1 + sum(_count_nodes(each, known, name, depth + 1) for each in children)
    return known[id(node)]
