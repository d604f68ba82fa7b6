"""Attributions: how much a prediction rests on each node of a sample, by several methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch_geometric.explain import Explainer, GNNExplainer, ModelConfig

from graphformer.nn.record import AttentionRecord
from graphformer.nn.rollout import attention_from, rollout_from

Score = Callable[[Tensor], Tensor]
"""From the nodes that are explained, [N, C], to the explained probability of each sample, [B]."""


@contextmanager
def replaced_output(module: nn.Module, output: Tensor) -> Iterator[None]:
    """Make a module return the given output within a `with` block."""
    handle = module.register_forward_hook(lambda *_: output)
    try:
        yield
    finally:
        handle.remove()


def gradient_times_input(score: Score, x: Tensor) -> Tensor:
    """Return the attribution of each node, sum_c x_c d score / d x_c, [N] of x [N, C]."""
    x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(score(x).sum(), x)
    return (gradient * x).sum(1).detach()


def integrated_gradients(score: Score, x: Tensor, *, steps: int = 16) -> Tensor:
    """Return the attribution of each node along the line from zero to x, [N] of x [N, C].

    The attributions of a sample add up to score(x) - score(0), but for the error of a quadrature
    with `steps` points.

    Raises:
        ModuleNotFoundError: without captum.

    Source: Sundararajan et al., 2017, https://arxiv.org/abs/1703.01365, as in captum.
    """
    try:
        from captum.attr import IntegratedGradients
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'integrated gradients need captum; pip install "graphformer[trust]"'
        ) from error
    # captum would stack the points of the line as more samples, which a packed batch is not: an
    # internal batch of N rows is one point.
    method = IntegratedGradients(score)
    found: Tensor = method.attribute(x.detach(), n_steps=steps, internal_batch_size=len(x))
    return found.sum(1).detach()


def attention_attributions(records: Sequence[AttentionRecord], share: Tensor) -> dict[str, Tensor]:
    """Return the attention of the last block, and attention rollout over all blocks, [N] each.

    Args:
        records: attention of the blocks in order, N x N each.
        share: of each output node in what is explained, [N].

    Source: Abnar and Zuidema, 2020, https://arxiv.org/abs/2005.00928.
    """
    return {
        "attention of the last block": attention_from(records[-1], share),
        "attention rollout": rollout_from(records, share),
    }


class _NodesToLogits(nn.Module):
    """Calls a function as PyG's explainers call a model."""

    def __init__(self, logits: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.logits(x)


def gnn_explainer(
    logits: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    index: int | None = None,
    epochs: int = 50,
    seed: int = 0,
) -> Tensor:
    """Return PyG's GNNExplainer as attribution: a learned mask of the nodes, from 0 to 1, [N].

    Args:
        logits: from nodes [N, C] to logits [B, K].
        x: the nodes.
        index: the row of the logits that is explained; None for all.
        epochs: steps of the optimisation of the mask.
        seed: of its initial values.

    Source: Ying et al., 2019, https://arxiv.org/abs/1903.03894.
    """
    level = "graph" if index is None else "node"
    explainer = Explainer(
        _NodesToLogits(logits),
        algorithm=GNNExplainer(epochs=epochs),
        explanation_type="model",
        node_mask_type="object",
        model_config=ModelConfig("multiclass_classification", level, return_type="raw"),
    )
    no_edges = torch.empty(2, 0, dtype=torch.long)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mask: Tensor = explainer(x.detach(), no_edges, index=index).node_mask
    return mask.squeeze(1)
