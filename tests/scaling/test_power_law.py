"""Power laws through points, with the published IsoFLOP minima."""

from __future__ import annotations

import numpy as np
import pytest

from graphformer.scaling import fit_power_law

FLOPS = [1e18, 2.15e18, 4.64e18, 1e19]


@pytest.mark.parametrize(
    ("optima", "exponent"),
    [
        ([110_678_115, 167_797_457, 250_650_865, 381_758_347], 0.536),
        ([1_241_505_403, 1_785_336_422, 2_642_234_152, 3_806_871_243], 0.489),
    ],
)
def test_slopes_of_published_minima(optima: list[int], exponent: float) -> None:
    law = fit_power_law(FLOPS, optima)
    assert round(law.exponent, 3) == exponent
    assert law.predict(2e18) == pytest.approx(np.interp(2e18, FLOPS, optima), rel=0.05)


def test_exact_power_law() -> None:
    law = fit_power_law([2.0, 3.0, 5.0], [5 * 2**1.7, 5 * 3**1.7, 5 * 5**1.7])
    assert (law.coefficient, law.exponent) == pytest.approx((5, 1.7))


def test_one_point_is_no_line() -> None:
    with pytest.raises(ValueError, match="x: got 1 different values, expected 2 or more"):
        fit_power_law([3.0, 3.0], [1.0, 2.0])
