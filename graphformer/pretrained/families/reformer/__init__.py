"""Reformer: shared queries and keys over buckets of a hash, and two residual streams."""

from graphformer.pretrained.families.reformer.family import REFORMER

__all__ = ["REFORMER"]
