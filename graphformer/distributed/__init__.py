"""Training by several processes: the ranks of data parallelism, and what they exchange."""

from graphformer.distributed.mesh import DataParallel, data_parallel
from graphformer.distributed.shard import full_tensors, shard_parameters

__all__ = ["DataParallel", "data_parallel", "full_tensors", "shard_parameters"]
