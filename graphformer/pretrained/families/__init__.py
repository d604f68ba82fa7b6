"""The families of models whose weights are known, by the `model_type` of their config."""

from graphformer.pretrained.families.bert import BERT
from graphformer.pretrained.families.distilbert import DISTILBERT
from graphformer.pretrained.families.family import Family, Kind, Table
from graphformer.pretrained.families.roberta import ROBERTA, XLM_ROBERTA

FAMILIES: dict[str, Family] = {
    "bert": BERT,
    "distilbert": DISTILBERT,
    "roberta": ROBERTA,
    "xlm-roberta": XLM_ROBERTA,
}

__all__ = ["FAMILIES", "Family", "Kind", "Table"]
