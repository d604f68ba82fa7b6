"""Position encodings: added to the nodes, rotations of queries and keys, biases of the logits."""

from graphformer.nn.positions.added import Positions, sinusoidal
from graphformer.nn.positions.relative import ALiBi, RelativeBias
from graphformer.nn.positions.rotary import Rotary, rotate

__all__ = ["ALiBi", "Positions", "RelativeBias", "Rotary", "rotate", "sinusoidal"]
