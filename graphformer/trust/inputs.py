"""`check_inputs`: whether the given texts and group can be read, before a section is computed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from graphformer.models import Model
from graphformer.tasks.text.few_shot import Question, TextModel, prompt_ids, question_ids
from graphformer.trust.norms import Norm
from graphformer.trust.robustness.suffix_search import target_ids
from graphformer.trust.run import Run, is_classification, language_model
from graphformer.trust.sections.fairness import groups_of_outputs
from graphformer.trust.sections.safety import PROMPTS

T = TypeVar("T")


def check_inputs(run: Run, names: Collection[str]) -> None:
    """Read what the named sections will read of texts and of the group, as they will.

    A report then does not end within a later section, after earlier ones were computed.

    Args:
        run: whose norms, prompts, target of suffixes and group are read.
        names: of sections.

    Raises:
        ValueError: when a model's vocabulary lacks a character of a text, when a text has no
            tokens, or when the data has no such group.
    """
    if "fairness" in names and run.group is not None and is_classification(run.task):
        groups_of_outputs(run, run.group)
    own = language_model(run)
    if own is None:
        return
    for model in (own, *([] if run.before is None else [run.before])):
        if "norms" in names:
            _check_norms(model, run.norms, chat=run.chat)
        if "safety" in names:
            _check_prompts(model, run)


def _check_norms(model: TextModel, norms: Sequence[Norm], *, chat: bool) -> None:
    _each("--items", norms, lambda norm: question_ids(model.tokenizer, norm.question, chat=chat))


def _check_prompts(model: TextModel, run: Run) -> None:
    def read(prompt: str) -> None:
        if not len(prompt_ids(model.tokenizer, Question(prompt, ""), chat=run.chat)):
            raise ValueError(f"prompt: got {prompt!r}, which has no tokens; remove it")

    _each("--prompts", run.prompts[:PROMPTS], read)
    if run.prompts and run.suffix_steps and isinstance(model.network, Model):
        target = [run.suffix_target]
        _each("--suffix-target", target, lambda text: _read_target(model, text, chat=run.chat))


def _read_target(model: TextModel, text: str, *, chat: bool) -> None:
    if not target_ids(model.tokenizer, text, chat=chat):
        raise ValueError(f"target: got {text!r}, which has no tokens; write a text")


def _each(option: str, values: Sequence[T], read: Callable[[T], object]) -> None:
    """Read each value; name the option and the number of the first that cannot be read."""
    for number, value in enumerate(values, 1):
        try:
            read(value)
        except ValueError as error:
            raise ValueError(f"{option}, number {number} of {len(values)}: {error}") from error
