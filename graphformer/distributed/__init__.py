"""Training by several processes: the ranks of data parallelism, and what they exchange."""

from graphformer.distributed.mesh import DataParallel, data_parallel

__all__ = ["DataParallel", "data_parallel"]
