"""The model card of a trained model: facts, figures of the run, and how to load it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from graphformer.cli.config.files import config_files
from graphformer.cli.many_runs.recorded import read_run
from graphformer.data.base import DataModule
from graphformer.patterns import Pattern
from graphformer.tasks import LanguageModeling, SequenceToSequence, Task
from graphformer.trust.card import model_card
from graphformer.trust.report import Report, Section
from graphformer.trust.run import model_facts

_MOST_CLASSES = 20
"""The largest number of classes that a card lists."""


class Facts(NamedTuple):
    """What a card and a saved folder say about a model; see `TrainedModel`."""

    task: Task
    adjacency: Pattern
    checkpoint: Path
    classes: list[str] | None
    data: DataModule | None


def trained_card(model: Facts, settings: dict[str, Any], *, title: str, licence: str | None) -> str:
    """Return the text of README.md.

    Args:
        model: the model.
        settings: of task and data.
        title: name of the model, by which it is loaded.
        licence: of the model, as the Hub names it.
    """
    facts = {**model_facts(model.task, model.data), "adjacency": str(model.adjacency)}
    if model.classes is not None:
        shown, count = ", ".join(model.classes[:_MOST_CLASSES]), len(model.classes)
        facts["classes"] = shown if count <= _MOST_CLASSES else f"{count}: {shown} ..."
    of_data = data_licence(settings.get("data"))
    if of_data is not None:
        facts["licence of the data"] = of_data
    facts["settings"] = "config.yaml"
    report = Report(title, facts, [_figures(model.checkpoint)])
    return model_card(report, usage=_usage(model.task, settings, title), licence=licence)


def data_licence(settings: dict[str, Any] | None) -> str | None:
    """Return the licence in the card in `datasets/` of the data of a run; None if not known.

    Args:
        settings: class path and arguments of the data.
    """
    if settings is None:
        return None
    arguments, found = settings.get("init_args") or {}, set()
    for file in config_files("datasets"):
        text = file.read_text(encoding="utf-8")
        data = yaml.safe_load(text)["data"]
        named = {k: v for k, v in (data.get("init_args") or {}).items() if isinstance(v, str)}
        is_same_class = _class_name(data) == _class_name(settings)
        if is_same_class and all(arguments.get(key) == value for key, value in named.items()):
            found |= {" ".join(match.split("#")) for match in _licences(text)}
    return " ".join(found.pop().split()) if len(found) == 1 else None


def _licences(text: str) -> list[str]:
    """Return the field `licence` of a data card, whose further lines are indented."""
    return re.findall(r"^# licence: *(.+(?:\n#    +.+)*)", text, flags=re.MULTILINE)


def _class_name(settings: dict[str, Any]) -> str:
    return str(settings["class_path"]).rpartition(".")[2]


def _figures(checkpoint: Path) -> Section:
    """Return the figures of the run of a checkpoint, or those of the card in its folder."""
    run, card = checkpoint.parent.parent, checkpoint.parent / "README.md"
    metrics: dict[str, float] = {}
    if checkpoint.parent.name == "checkpoints" and (run / "config.yaml").is_file():
        metrics = read_run(run).results
    elif card.is_file():
        metrics = _figures_of_card(card.read_text(encoding="utf-8"))
    note = (
        "The last value of each metric in metrics.csv of the run; those of the best checkpoint "
        "where the run has tested it."
        if metrics
        else "The figures of the run are not known: the checkpoint was not in the run's folder."
    )
    return Section("figures", "Figures of the run", notes=[note], metrics=metrics)


def _figures_of_card(text: str) -> dict[str, float]:
    found = re.match(r"---\n(.*?\n)---\n", text, flags=re.DOTALL)
    metadata = yaml.safe_load(found[1]) if found is not None else {}
    results = (each for model in metadata.get("model-index", ()) for each in model["results"])
    return {metric["name"]: metric["value"] for each in results for metric in each["metrics"]}


def _usage(task: Task, settings: dict[str, Any], title: str) -> str:
    own = "".join(f", {name}={name}" for name in settings.get("not_stored") or [])
    call = "model.predict(inputs))  # texts, images or graphs, as in training"
    if isinstance(task, LanguageModeling | SequenceToSequence):
        call = 'model.generate("a text"))'
    return f'import graphformer as gf\n\nmodel = gf.load("{title}"{own})\nprint({call}'
