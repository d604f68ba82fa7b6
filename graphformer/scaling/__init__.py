"""Scaling laws: the loss as a function of model size, training tokens and compute."""

from graphformer.scaling.bootstrap import HeldOut, bootstrap, hold_out_largest
from graphformer.scaling.isoflop import IsoFLOP, Minimum, fit_isoflop
from graphformer.scaling.kaplan import KaplanLaw, fit_kaplan
from graphformer.scaling.parametric import ParametricLaw, fit_parametric
from graphformer.scaling.plot import draw_laws
from graphformer.scaling.power_law import PowerLaw, fit_power_law
from graphformer.scaling.report import LawReport, report_laws
from graphformer.scaling.table import RunTable, read_table

__all__ = [
    "RunTable",
    "read_table",
    "ParametricLaw",
    "fit_parametric",
    "KaplanLaw",
    "fit_kaplan",
    "IsoFLOP",
    "Minimum",
    "fit_isoflop",
    "PowerLaw",
    "fit_power_law",
    "bootstrap",
    "hold_out_largest",
    "HeldOut",
    "LawReport",
    "report_laws",
    "draw_laws",
]
