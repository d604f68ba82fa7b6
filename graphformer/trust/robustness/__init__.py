"""Perturbed inputs: edges and features of graphs, pixels of images, words of texts."""

from graphformer.trust.robustness.edges import EdgeWeights, perturb_edges, prbcd
from graphformer.trust.robustness.features import attack_features, perturb_features
from graphformer.trust.robustness.images import CORRUPTIONS, SEVERITIES, corrupt, pgd
from graphformer.trust.robustness.synonyms import read_synonyms, replace_synonyms
from graphformer.trust.robustness.text import swap_words, typos

__all__ = [
    "CORRUPTIONS",
    "SEVERITIES",
    "EdgeWeights",
    "attack_features",
    "corrupt",
    "perturb_edges",
    "perturb_features",
    "pgd",
    "prbcd",
    "read_synonyms",
    "replace_synonyms",
    "swap_words",
    "typos",
]
