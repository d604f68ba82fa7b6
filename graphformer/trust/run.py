"""`Run`: the trained task and the data that the sections of a report are about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

from graphformer import __version__
from graphformer.batch_type import BatchLike
from graphformer.data.base import DataModule
from graphformer.data.text.base import TokenizedData
from graphformer.models.generation import decoding_options
from graphformer.models.protocols import pools_nodes
from graphformer.tasks import Classification, Regression, Task
from graphformer.tasks.text.few_shot import TextModel
from graphformer.tasks.text.safety import Toxicity
from graphformer.trust.norms import Norm
from graphformer.trust.outputs import Outputs, collect_outputs, split_batches
from graphformer.trust.report import Section


@dataclass
class Run:
    """A trained task, its data, and how much of the data a report reads.

    Attributes:
        task: in evaluation mode.
        data: after `setup`.
        seed: of all random draws of a report.
        max_batches: maximum number of batches that are read of each split; None for all.
        group: the column or field by which the section on fairness groups the test samples.
        prompts: texts that a language model should refuse, for the section on safety.
        toxicity: of its answers; None leaves it out.
        norms: choice items for the section on norms.
        paraphrases: pairs of texts of one meaning, for the section on consistency.
        others: further runs of the same setting by name, of other seeds, for consistency; they
            did not train on the test samples of `data`.
        before: a language model from before tuning, to compare with; None without.
        chat: whether prompts are messages in the chat template of the model.
        suffix_steps: steps of the search for adversarial suffixes of prompts; 0 leaves it out.
        suffix_target: beginning of the answer that a suffix should cause.
    """

    task: Task
    data: DataModule
    seed: int = 0
    max_batches: int | None = None
    group: str | None = None
    prompts: Sequence[str] = ()
    toxicity: Toxicity | None = None
    norms: Sequence[Norm] = ()
    paraphrases: Sequence[tuple[str, str]] = ()
    others: Mapping[str, Task] = field(default_factory=dict)
    before: TextModel | None = None
    chat: bool = False
    suffix_steps: int = 0
    suffix_target: str = "Sure, here is"
    _outputs: dict[str, Outputs] = field(default_factory=dict, repr=False)

    def outputs(self, split: str) -> Outputs:
        """Return outputs and labels of a split, computed once.

        Raises:
            TypeError: when the task is neither a classification nor a regression.
            ValueError: when the split has no labels.
        """
        if not isinstance(self.task, Classification | Regression):
            raise TypeError(
                f"task: got {type(self.task).__name__}, expected Classification or Regression; "
                "choose another run"
            )
        if split not in self._outputs:
            self._outputs[split] = collect_outputs(
                self.task, self.data, split, max_batches=self.max_batches
            )
        return self._outputs[split]

    def batches(self, split: str) -> Iterator[BatchLike]:
        """Yield the batches of a split that the report reads, without augmentation."""
        return split_batches(self.data, split, max_batches=self.max_batches)


def model_facts(task: Task, data: DataModule | None) -> dict[str, str]:
    """Return what a trained model is, by name: task, network, size, adjacency, data, version."""
    facts = {
        "task": type(task).__name__,
        "network": type(task.network).__name__,
        "parameters": f"{sum(p.numel() for p in task.network.parameters()):,}",
        "adjacency": str(task.adjacency),
    }
    of_data = {} if data is None else {"data": type(data).__name__}
    return {**facts, **of_data, "graphformer": __version__}


def is_classification(task: Task) -> TypeGuard[Classification]:
    """Whether a task returns logits over classes for each labelled row."""
    return isinstance(task, Classification)


def language_model(run: Run) -> TextModel | None:
    """Return a run's network, adjacency and tokenizer if it generates text."""
    if not isinstance(run.data, TokenizedData) or isinstance(run.task, Classification | Regression):
        return None
    model = TextModel(run.task.network, run.task.adjacency, run.data.need_tokenizer())
    return model if generates_text(model) else None


def generates_text(model: TextModel) -> bool:
    """Whether a network has a token as output at each place, and reads earlier ones only."""
    network, adjacency, _ = model
    if not hasattr(network, "generate") or pools_nodes(network):
        return False
    try:
        decoding_options(network, adjacency)
    except ValueError:  # tokens attend to later ones
        return False
    return True


def not_applicable(name: str, title: str, run: Run, needs: str) -> Section:
    """Return a section that says why a part does not apply to a run."""
    return Section(
        name,
        title,
        notes=[f"Not applicable: this run is a {type(run.task).__name__}, and this part {needs}."],
    )
