"""The sections of a report: `SECTIONS` has a function for each, by its name in `--only`."""

from collections.abc import Callable

from graphformer.trust.report import Section
from graphformer.trust.run import Run
from graphformer.trust.sections.calibration import calibration_section

SECTIONS: dict[str, Callable[[Run], Section]] = {
    "calibration": calibration_section,
}
__all__ = ["SECTIONS", "calibration_section"]
