"""graphformer: transformers as attention over graphs.

Sequences, image patches and graphs are nodes, an adjacency says which nodes each node attends to,
and one sparse attention serves all of them. Names are imported on first use, so that
`import graphformer` is quick.
"""

# ruff: noqa: F401 - __getattr__ returns at run time what is imported here for type checkers
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_ADJACENCY = [
    "Adjacency",
    "as_adjacency",
    "batch",
    "causal",
    "complete",
    "from_edge_index",
    "from_mask",
    "from_networkx",
    "grid",
    "union",
    "window",
]
_OPS = ["additive_attention", "attention"]
_MODULES = [
    "adjacency",
    "data",
    "models",
    "nn",
    "ops",
    "patterns",
    "pretrained",
    "pyg",
    "tasks",
    "trained",
]
_HOME = {
    **dict.fromkeys(_ADJACENCY, "graphformer.adjacency"),
    **dict.fromkeys(_OPS, "graphformer.ops"),
    "AdjacencyLike": "graphformer.patterns",
    "Transformer": "graphformer.nn",
    "accelerate": "graphformer.pyg",
    "attention_kept": "graphformer.models.sparsify",
    "from_pretrained": "graphformer.pretrained",
    "register_with_transformers": "graphformer.pretrained",
    "learn_adjacency": "graphformer.models.sparsify",
    "learn_blocks": "graphformer.models.learn_blocks",
    "load": "graphformer.trained",
}
__all__ = [*_HOME, *_MODULES, "__version__"]

if TYPE_CHECKING:
    from graphformer import (
        adjacency,
        data,
        models,
        nn,
        ops,
        patterns,
        pretrained,
        pyg,
        tasks,
        trained,
    )
    from graphformer.adjacency import (
        Adjacency,
        as_adjacency,
        batch,
        causal,
        complete,
        from_edge_index,
        from_mask,
        from_networkx,
        grid,
        union,
        window,
    )
    from graphformer.models.learn_blocks import learn_blocks
    from graphformer.models.sparsify import attention_kept, learn_adjacency
    from graphformer.nn import Transformer
    from graphformer.ops import additive_attention, attention
    from graphformer.patterns import AdjacencyLike
    from graphformer.pretrained import from_pretrained, register_with_transformers
    from graphformer.pyg import accelerate
    from graphformer.trained import load


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"graphformer.{name}")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'graphformer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
