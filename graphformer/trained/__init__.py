"""Trained models in Python: `load`, and the class it returns."""

from graphformer.trained.loading import load
from graphformer.trained.model import TrainedModel
from graphformer.trained.prediction import Prediction

__all__ = ["Prediction", "TrainedModel", "load"]
