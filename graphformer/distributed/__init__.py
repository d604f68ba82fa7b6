"""Training by several processes: the ranks of data parallelism, and what they exchange."""

from graphformer.distributed.atomic_save import save_atomically
from graphformer.distributed.mesh import DataParallel, data_parallel
from graphformer.distributed.partition import Partitioned, order_nodes
from graphformer.distributed.partitioned_graph import PartitionedGraph
from graphformer.distributed.shard import full_tensors, scale_gradients, shard_parameters
from graphformer.distributed.statistics import share_statistics, unshare_statistics

__all__ = [
    "DataParallel",
    "Partitioned",
    "PartitionedGraph",
    "data_parallel",
    "full_tensors",
    "order_nodes",
    "save_atomically",
    "scale_gradients",
    "shard_parameters",
    "share_statistics",
    "unshare_statistics",
]
