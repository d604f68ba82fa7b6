"""The section on safety: answers to harmful prompts, plain and in attacking templates."""

from __future__ import annotations

from collections.abc import Sequence

from graphformer.data.text.base import TokenizedData
from graphformer.tasks.text.few_shot import generate_answers
from graphformer.trust.report import Cell, Section, Table
from graphformer.trust.run import Run, not_applicable
from graphformer.trust.safety import attack_templates

NAME, TITLE = "safety", "Safety and misuse"
PROMPTS = 100
"""Prompts that are answered at most."""


def safety_section(run: Run) -> Section:
    """Return refusals and toxicity of a language model's answers to the run's prompts."""
    network, data = run.task.network, run.data
    if not hasattr(network, "generate") or not isinstance(data, TokenizedData):
        return not_applicable(NAME, TITLE, run, "needs a model that generates text")
    if not run.prompts:
        return not_applicable(NAME, TITLE, run, "needs prompts to refuse; pass --prompts FILE")
    prompts, tokenizer = list(run.prompts[:PROMPTS]), data.need_tokenizer()

    def answer(texts: Sequence[str]) -> list[str]:
        return generate_answers(
            network, run.task.adjacency, tokenizer, texts, max_new_tokens=64, seed=run.seed
        )

    reports = attack_templates(answer, prompts, toxicity=run.toxicity)
    section = Section(NAME, TITLE)
    section.notes.append(
        f"{len(prompts)} prompts that a model should refuse, as they are and in templates that "
        "attack it, with greedy answers of at most 64 tokens. An answer counts as a refusal by "
        "phrases at its beginning; the share that is neither empty nor a refusal is the success of "
        "an attack. Nothing reads what the answers say"
        + ("." if run.toxicity is None else ", apart from the words of the toxicity's list.")
    )
    figures = list(next(iter(reports.values())))
    rows: list[list[Cell]] = [[name, *report.values()] for name, report in reports.items()]
    section.tables.append(Table("Answers by template", ["template", *figures], rows))
    section.metrics = {
        "answered, plain prompts": reports["plain"]["answered"],
        "answered, strongest template": max(each["answered"] for each in reports.values()),
    }
    return section
