"""Arguments of the kernels: a table of int64 values, and the tuples that inlined steps are passed.

Python fills the table, one entry per field; kernels read it by the constants below. A pointer is an
address, 0 if there is none; a float is the bits of a float64.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

from typing import Any, NamedTuple

from graphformer.ops.cpu.kernels.simd import as_float, cast, inlined, pointer, read_index, shift

FIELDS = (  # noqa: SIM905 - read in groups
    # the edges by row: neighbours of each row, slots and ids of its edges, split into work items
    "indptr neighbours slots edge_ids num_slots wide items hubs "
    # sizes
    "heads kv_heads repeat width value_width edge_width tile_stride phase "
    # inputs: queries, keys and values, each with the distance between its rows
    "q q_stride k k_stride v v_stride vector u edge bias bias_stride bias_head "
    "weight weight_stride weight_head "
    # scalars
    "scale slope dropout keep_scale seed "
    # results of the forward pass
    "out lse z weights partial "
    # inputs and results of the backward pass
    "dout dout_stride dz dweights delta dq dk dv du dedge dbias dweight dvector "
    # addresses of the optional steps in use
    "list_edges multiply add_bias drop write_edges add_edges"
).split()
(
    INDPTR, NEIGHBOURS, SLOTS, EDGE_IDS, NUM_SLOTS, WIDE, ITEMS, HUBS,
    HEADS, KV_HEADS, REPEAT, WIDTH, VALUE_WIDTH, EDGE_WIDTH, TILE_STRIDE, PHASE,
    Q, Q_STRIDE, K, K_STRIDE, V, V_STRIDE, VECTOR, U, EDGE,
    BIAS, BIAS_STRIDE, BIAS_HEAD, WEIGHT, WEIGHT_STRIDE, WEIGHT_HEAD,
    SCALE, SLOPE, DROPOUT, KEEP_SCALE, SEED,
    OUT, LSE, Z, WEIGHTS, PARTIAL,
    DOUT, DOUT_STRIDE, DZ, DWEIGHTS, DELTA, DQ, DK, DV, DU, DEDGE, DBIAS, DWEIGHT, DVECTOR,
    LIST_EDGES, MULTIPLY, ADD_BIAS, DROP, WRITE_EDGES, ADD_EDGES,
) = range(len(FIELDS))  # fmt: skip

FIRST_ROW, END_ROW, FIRST_SLOT, END_SLOT, PART = range(5)
"""Fields of a work item. `PART` numbers the parts of split rows; it is -1 for whole rows."""
ITEM_FIELDS = 5

CHUNK = 1024
"""Edges per work item: rows with more are split, rows with fewer share an item.

Fixed, so that sums are taken in the same order for any number of threads.
"""
AHEAD = CHUNK + 12
"""Where the list of neighbours has those of the next 4 slots, whose rows are prefetched."""
CAPACITY = AHEAD + 4
"""Length of the lists of a tile's edges, with padding."""


class Heads(NamedTuple):
    """Numbers of heads.

    Widths are not in a tuple: LLVM sees constants in tuples only after it has unrolled loops.
    """

    queries: int
    """H."""
    keys: int
    """Of keys and values, Hkv."""
    repeat: int
    """Query heads per key head, H / Hkv."""


class Tile(NamedTuple):
    """Up to `stride` edges of one row, which are processed together.

    Numbers of a tile, such as logits, are stored head by head, `x[h * stride + e]`.
    """

    nodes: Any
    """The neighbour on each edge; like the other lists, padded with the last edge."""
    slots: Any
    """The edge's slot in the CSR."""
    ids: Any
    """The edge's position in the caller's order."""
    size: int
    """The number of edges n."""
    stride: int
    """The distance between the numbers of two heads."""


class Rows(NamedTuple):
    """Feature rows of nodes or edges, one for each head or for each group of heads.

    The row of node i, head h of group g begins at
    `base[i * step + h * head_step + g * group_step]`; one of the last two steps is 0.
    """

    base: Any
    step: int
    head_step: int
    group_step: int


class Gatv2(NamedTuple):
    """Constants of GATv2's scores, a_h . leaky_relu(q_ih + k_jh + e_ijh)."""

    vector: Any
    """a, [H, D]."""
    slope: float
    edges: int
    """Whether there are edge keys; a constant of the kernel."""
    edge: Any
    """Edge keys e, [E, H, D]."""


class Sums(NamedTuple):
    """Running sums of a row's softmax, relative to the largest logit so far."""

    values: Any
    """sum_j p v, [H, Dv]."""
    features: Any
    """sum_j p e, [H, F]."""
    largest: Any
    """Largest logit, [H]."""
    total: Any
    """sum_j p, [H]."""


@inlined
def work_item(table, item):
    """The fields of work item `item`."""
    return shift(pointer(table[ITEMS], table), item * ITEM_FIELDS)


@inlined
def row_slots(table, work, row):
    """The first and end slot of those edges of `row` that belong to the work item."""
    begin = max(read_index(table[INDPTR], table[WIDE], row), work[FIRST_SLOT])
    end = min(read_index(table[INDPTR], table[WIDE], row + 1), work[END_SLOT])
    return begin, end


@inlined
def edge_lists(table, scratch):
    """Room for the lists of a tile (nodes, slots, ids) at the start of scratch, and the rest."""
    nodes = cast(scratch, table)
    slots = shift(nodes, CAPACITY)
    ids = shift(slots, CAPACITY)
    return nodes, slots, ids, cast(shift(ids, CAPACITY), scratch)


@inlined
def read_gatv2(table, edges, like):
    """The constants of GATv2's scores; null pointers for other kinds of scores."""
    vector, edge = pointer(table[VECTOR], like), pointer(table[EDGE], like)
    return Gatv2(vector, as_float(table[SLOPE]), edges, edge)


@inlined
def at_row(table, field, row, width, like):
    """Row `row` of the dense array [rows, width] whose address is a field of the table."""
    return shift(pointer(table[field], like), row * width)
