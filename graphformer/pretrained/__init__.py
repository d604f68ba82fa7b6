"""Public weights on the graph core: from Hugging Face's folders and models, and back to them."""

from graphformer.pretrained.loading import from_pretrained
from graphformer.pretrained.saving import save_pretrained
from graphformer.pretrained.tokenizer import PretrainedTokenizer, load_tokenizer

__all__ = ["PretrainedTokenizer", "from_pretrained", "load_tokenizer", "save_pretrained"]
