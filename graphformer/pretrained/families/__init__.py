"""The supported model families, by the `model_type` of their config."""

from graphformer.pretrained.families.bert import BERT
from graphformer.pretrained.families.clip import CLIP
from graphformer.pretrained.families.convbert import CONVBERT
from graphformer.pretrained.families.decoders.deepseek import DEEPSEEK_V2, DEEPSEEK_V3
from graphformer.pretrained.families.decoders.gemma import GEMMA, GEMMA2, GEMMA3
from graphformer.pretrained.families.decoders.gpt2 import GPT2
from graphformer.pretrained.families.decoders.gpt_neox import GPT_NEOX
from graphformer.pretrained.families.decoders.llama import (
    LLAMA,
    MISTRAL,
    MIXTRAL,
    PHI3,
    QWEN2,
    QWEN3,
)
from graphformer.pretrained.families.decoders.opt import OPT
from graphformer.pretrained.families.decoders.phi import PHI
from graphformer.pretrained.families.dinov2 import DINOV2
from graphformer.pretrained.families.distilbert import DISTILBERT
from graphformer.pretrained.families.electra import ELECTRA
from graphformer.pretrained.families.family import Family, Kind, Table
from graphformer.pretrained.families.llava import LLAVA
from graphformer.pretrained.families.mpnet import MPNET
from graphformer.pretrained.families.reformer import REFORMER
from graphformer.pretrained.families.roberta import CAMEMBERT, ROBERTA, XLM_ROBERTA
from graphformer.pretrained.families.seq2seq.bart import BART, MBART
from graphformer.pretrained.families.seq2seq.t5 import MT5, T5
from graphformer.pretrained.families.siglip import SIGLIP
from graphformer.pretrained.families.vit import DEIT, VIT, VIT_MAE
from graphformer.pretrained.families.xlm import FLAUBERT, XLM
from graphformer.pretrained.families.xlnet import XLNET

FAMILIES: dict[str, Family] = {
    "bart": BART,
    "bert": BERT,
    "camembert": CAMEMBERT,
    "clip": CLIP,
    "convbert": CONVBERT,
    "deepseek_v2": DEEPSEEK_V2,
    "deepseek_v3": DEEPSEEK_V3,
    "deit": DEIT,
    "dinov2": DINOV2,
    "distilbert": DISTILBERT,
    "electra": ELECTRA,
    "flaubert": FLAUBERT,
    "gemma": GEMMA,
    "gemma2": GEMMA2,
    "gemma3_text": GEMMA3,
    "gpt2": GPT2,
    "gpt_neox": GPT_NEOX,
    "llama": LLAMA,
    "llava": LLAVA,
    "mistral": MISTRAL,
    "mbart": MBART,
    "mixtral": MIXTRAL,
    "mpnet": MPNET,
    "mt5": MT5,
    "opt": OPT,
    "phi": PHI,
    "phi3": PHI3,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "reformer": REFORMER,
    "roberta": ROBERTA,
    "siglip": SIGLIP,
    "t5": T5,
    "vit": VIT,
    "vit_mae": VIT_MAE,
    "xlm": XLM,
    "xlm-roberta": XLM_ROBERTA,
    "xlnet": XLNET,
}

__all__ = ["FAMILIES", "Family", "Kind", "Table"]
