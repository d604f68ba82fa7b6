"""What a kernel is told: one int64 a field, shared by Python and the compiled side.

A pointer is an address, 0 where there is nothing; a float is its bits as float64.
"""

FIELDS = (  # noqa: SIM905 - read in groups
    # the pattern: rows of the pass, neighbours of each row, what numbers the edges
    "indptr neighbours slots edge_ids wide items hubs "
    # sizes
    "heads kv_heads repeat width value_width edge_width block prefetch phase "
    # inputs: queries, keys and values with the distance between their rows
    "q q_stride k k_stride v v_stride vector u edge bias bias_stride bias_head "
    "weight weight_stride weight_head "
    # scalars
    "scale slope dropout keep_scale seed "
    # forward results
    "out lse z weights partial "
    # backward
    "dout dout_stride dz dweights delta dq dk dv du dedge dbias dweight dvector "
    # addresses of the sweeps in use
    "list_edges multiply add_bias drop write_edges add_edges"
).split()
(
    INDPTR, NEIGHBOURS, SLOTS, EDGE_IDS, WIDE, ITEMS, HUBS,
    HEADS, KV_HEADS, REPEAT, WIDTH, VALUE_WIDTH, EDGE_WIDTH, BLOCK, PREFETCH, PHASE,
    Q, Q_STRIDE, K, K_STRIDE, V, V_STRIDE, VECTOR, U, EDGE,
    BIAS, BIAS_STRIDE, BIAS_HEAD, WEIGHT, WEIGHT_STRIDE, WEIGHT_HEAD,
    SCALE, SLOPE, DROPOUT, KEEP_SCALE, SEED,
    OUT, LSE, Z, WEIGHTS, PARTIAL,
    DOUT, DOUT_STRIDE, DZ, DWEIGHTS, DELTA, DQ, DK, DV, DU, DEDGE, DBIAS, DWEIGHT, DVECTOR,
    LIST_EDGES, MULTIPLY, ADD_BIAS, DROP, WRITE_EDGES, ADD_EDGES,
) = range(len(FIELDS))  # fmt: skip

CHUNK = 1024
"""Edges of a work item: rows with more are split, smaller ones share an item.

Fixed, so that sums are taken in the same order whatever the number of threads.
"""
CAPACITY = CHUNK + 16
"""Room for the edges of an item's row, with padding."""
