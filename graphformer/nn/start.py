"""How large weights are before training."""

from __future__ import annotations

import math


def weight_std(dim: int) -> float:
    """The deviation that weights of a model of this width start with: 0.02 at 768, as in GPT-2.

    It falls with the root of the width, so that maps of normalised nodes start out with results of
    one size at every width. With 0.02 throughout, narrow models hardly hear their attention and
    feed-forward nets for the first hundreds of steps.

    Source: Radford et al., 2019 (GPT-2), at its width; the root: Glorot & Bengio, 2010.
    """
    return 0.02 * math.sqrt(768 / dim)
