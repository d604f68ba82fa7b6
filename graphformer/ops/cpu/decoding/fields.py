"""The argument table of the compiled step: one row of int64 numbers per block.

Arrays are addresses, 0 for one that is absent; floats are the bits of float64.
"""

from __future__ import annotations

from typing import Final

(
    # Norms: weight and bias [C], whether the mean is subtracted (LayerNorm), epsilon
    NORM1_WEIGHT, NORM1_BIAS, NORM1_CENTRED, NORM1_EPS,
    NORM2_WEIGHT, NORM2_BIAS, NORM2_CENTRED, NORM2_EPS,
    # Sizes: width C, query heads H, key and value heads Hkv, width D of a head
    DIM, HEADS, KV_HEADS, HEAD_DIM,
    # Attention: maps [(H + 2 Hkv) D, C] and [C, H D]; RMS norms of queries and keys [D]
    QKV_WEIGHT, QKV_BIAS, OUT_WEIGHT, OUT_BIAS,
    Q_NORM_WEIGHT, Q_NORM_EPS, K_NORM_WEIGHT, K_NORM_EPS, SCALE,
    # Rotation of the first ROTARY_WIDTH dimensions of a head: cosines and sines of the position
    COS, SIN, ROTARY_WIDTH,
    # Feed-forward net: maps [F or 2 F, C] and [C, F]; F; whether half of the first are gates
    UP_WEIGHT, UP_BIAS, DOWN_WEIGHT, DOWN_BIAS, HIDDEN, GATED, ACTIVATION,
    # Cache: keys and values [Hkv, CAPACITY, D]; the first slot attended to and that of the token
    KEYS, VALUES, CAPACITY, FIRST, SLOT,
) = range(NUM_FIELDS := 36)  # fmt: skip

ACTIVATIONS: Final = ("relu", "silu", "gelu", "gelu_tanh", "quick_gelu")
"""Names of the activations; the table has their index."""
