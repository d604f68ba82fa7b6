"""What predictions rest on: attributions, their fidelity, and the rank of attention."""

from graphformer.trust.explanation.attribution import (
    attention_attributions,
    gnn_explainer,
    gradient_times_input,
    integrated_gradients,
    replaced_output,
)
from graphformer.trust.explanation.explained import Explained
from graphformer.trust.explanation.fidelity import fidelity, overlap, top_nodes
from graphformer.trust.explanation.rank import attention_ranks

__all__ = [
    "Explained",
    "attention_attributions",
    "attention_ranks",
    "fidelity",
    "gnn_explainer",
    "gradient_times_input",
    "integrated_gradients",
    "overlap",
    "replaced_output",
    "top_nodes",
]
