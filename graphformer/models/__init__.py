"""Builder functions: one Transformer, put together for text, vision and graphs."""

from graphformer.models.graph import GAT, gat, graph_transformer
from graphformer.models.model import Model
from graphformer.models.text import language_model
from graphformer.models.vision import vit

__all__ = ["GAT", "Model", "gat", "graph_transformer", "language_model", "vit"]
