"""The sections of a report: `SECTIONS` has a function for each, by its name in `--only`."""

from collections.abc import Callable

from graphformer.trust.report import Section
from graphformer.trust.run import Run
from graphformer.trust.sections.calibration import calibration_section
from graphformer.trust.sections.consistency import consistency_section
from graphformer.trust.sections.explanation import explanation_section
from graphformer.trust.sections.fairness import fairness_section
from graphformer.trust.sections.leaks import leaks_section
from graphformer.trust.sections.norms import norms_section
from graphformer.trust.sections.privacy import privacy_section
from graphformer.trust.sections.robustness import robustness_section
from graphformer.trust.sections.safety import safety_section

SECTIONS: dict[str, Callable[[Run], Section]] = {
    "calibration": calibration_section,
    "consistency": consistency_section,
    "explanation": explanation_section,
    "fairness": fairness_section,
    "leaks": leaks_section,
    "norms": norms_section,
    "privacy": privacy_section,
    "robustness": robustness_section,
    "safety": safety_section,
}
__all__ = [
    "SECTIONS",
    "calibration_section",
    "consistency_section",
    "explanation_section",
    "fairness_section",
    "leaks_section",
    "norms_section",
    "privacy_section",
    "robustness_section",
    "safety_section",
]
