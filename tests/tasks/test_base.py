"""Options that all tasks share."""

from __future__ import annotations

import inspect
from typing import get_type_hints

import pytest
from torch import nn

from graphformer import tasks
from graphformer.tasks import Task, TaskOptions

OF_SUBCLASSES = {
    "Classification": {"num_classes": 3},
    "EdgeClassification": {"num_classes": 3, "dim": 5},
}
NAMES = sorted(set(tasks.__all__) - {"Task", "TaskOptions", "ImageTextContrast"})


@pytest.mark.parametrize("name", NAMES)
def test_misspelt_options_are_refused_by_name(name: str):
    networks = [nn.Identity()] * (2 if name == "ReplacedTokenDetection" else 1)
    with pytest.raises(TypeError, match=rf"^{name}\(\) got an unexpected option 'weight_deccay'"):
        getattr(tasks, name)(*networks, **OF_SUBCLASSES.get(name, {}), weight_deccay=0.1)


def test_declared_options_are_those_of_the_constructor():
    parameters = inspect.signature(Task).parameters
    own = {
        name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert own == TaskOptions.__annotations__.keys()
    hints = get_type_hints(Task.__init__)
    assert {name: hints[name] for name in own} == get_type_hints(TaskOptions)
