"""Objectives: a network and a pattern, with loss, metrics, optimiser and schedule."""

from graphformer.tasks.base import Task
from graphformer.tasks.classification import Classification
from graphformer.tasks.language import LanguageModeling
from graphformer.tasks.regression import Regression

__all__ = ["Classification", "LanguageModeling", "Regression", "Task"]
