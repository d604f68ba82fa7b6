"""Trained models as programs of `torch.export` and as ONNX files."""

from graphformer.export.onnx_file import OPSET, save_onnx
from graphformer.export.program import Exported, export_model, save_program

__all__ = ["OPSET", "Exported", "export_model", "save_onnx", "save_program"]
