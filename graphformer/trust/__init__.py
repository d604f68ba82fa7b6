"""Whether a trained model can be relied on: measures, and the sections of one report.

`graphformer trust` writes the report; each section is also a function of a `Run`.
"""

from graphformer.trust.abstention import (
    class_scores,
    conformal_threshold,
    prediction_sets,
    risk_coverage,
)
from graphformer.trust.calibration import brier_score, fit_temperature, reliability
from graphformer.trust.card import model_card
from graphformer.trust.html import render_html
from graphformer.trust.norms import Norm, read_norms, score_norms
from graphformer.trust.outputs import Outputs, collect_outputs
from graphformer.trust.report import Figure, Report, Section, Table
from graphformer.trust.robustness.suffix_search import attack_prompts
from graphformer.trust.robustness.suffixes import SuffixAttack, find_suffix
from graphformer.trust.run import Run

__all__ = [
    "Figure",
    "Norm",
    "Outputs",
    "Report",
    "Run",
    "Section",
    "SuffixAttack",
    "Table",
    "attack_prompts",
    "brier_score",
    "class_scores",
    "collect_outputs",
    "conformal_threshold",
    "find_suffix",
    "fit_temperature",
    "model_card",
    "prediction_sets",
    "read_norms",
    "reliability",
    "render_html",
    "risk_coverage",
    "score_norms",
]
