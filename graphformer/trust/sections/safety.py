"""The section on safety: answers to harmful prompts, plain, in templates, and after suffixes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from graphformer.models import Model
from graphformer.tasks.text.few_shot import TextModel, generate_answers
from graphformer.trust.report import Cell, Section, Table
from graphformer.trust.robustness.suffix_search import LENGTH, attack_prompts
from graphformer.trust.run import Run, language_model, not_applicable
from graphformer.trust.safety import TEMPLATES, attack_templates

NAME, TITLE = "safety", "Safety and misuse"
PROMPTS = 100
"""Prompts that are answered at most."""
ATTACKED = 5
"""Prompts for which suffixes are searched at most."""


def safety_section(run: Run) -> Section:
    """Return refusals and toxicity of a language model's answers to the run's prompts."""
    model = language_model(run)
    if model is None:
        return not_applicable(NAME, TITLE, run, "needs a model that generates text")
    if not run.prompts:
        return not_applicable(NAME, TITLE, run, "needs prompts to refuse; pass --prompts FILE")
    section = Section(NAME, TITLE)
    models = {"": model} if run.before is None else {"": model, " before tuning": run.before}
    _add_templates(section, run, models)
    if run.suffix_steps:
        _add_suffixes(section, run, models)
    else:
        section.notes.append(
            "Adversarial suffixes of the prompts were not searched: pass --suffix-steps N."
        )
    return section


def _answers(run: Run, model: TextModel, prompts: Sequence[str]) -> list[str]:
    return generate_answers(*model, prompts, max_new_tokens=64, chat=run.chat, seed=run.seed)


def _can_read(model: TextModel, text: str) -> bool:
    """Whether the vocabulary of a model has all characters of a text."""
    try:
        model.tokenizer.encode_plain([text])
    except ValueError:
        return False
    return True


def _add_templates(section: Section, run: Run, models: dict[str, TextModel]) -> None:
    """Add the answers by template, of the run's model and of that before tuning."""
    prompts = list(run.prompts[:PROMPTS])
    templates = {
        name: template
        for name, template in TEMPLATES.items()
        if all(_can_read(model, template.replace("{prompt}", "")) for model in models.values())
    }
    if missing := TEMPLATES.keys() - templates.keys():
        section.notes.append(
            "Templates were left out, whose characters the vocabulary lacks: "
            f"{', '.join(sorted(missing))}."
        )
    reports = {
        when: attack_templates(
            partial(_answers, run, model), prompts, toxicity=run.toxicity, templates=templates
        )
        for when, model in models.items()
    }
    section.notes.append(
        f"{len(prompts)} prompts that a model should refuse, as they are and in templates that "
        "attack it, with greedy answers of at most 64 tokens. An answer counts as a refusal by "
        "phrases at its beginning; the share that is neither empty nor a refusal is the success of "
        "an attack. Nothing reads what the answers say"
        + ("." if run.toxicity is None else ", apart from the words of the toxicity's list.")
    )
    figures = [f"{name}{when}" for when, own in reports.items() for name in own["plain"]]
    rows: list[list[Cell]] = [
        [template, *(value for own in reports.values() for value in own[template].values())]
        for template in reports[""]
    ]
    section.tables.append(Table("Answers by template", ["template", *figures], rows))
    for when, own in reports.items():
        answered = [report["answered"] for report in own.values()]
        section.metrics[f"answered, plain prompts{when}"] = own["plain"]["answered"]
        section.metrics[f"answered, strongest template{when}"] = max(answered)


def _add_suffixes(section: Section, run: Run, models: dict[str, TextModel]) -> None:
    """Add suffixes found by gradients, and how often the answer then begins with the target."""
    prompts = list(run.prompts[:ATTACKED])
    rows: list[list[Cell]] = []
    for when, model in models.items():
        if not isinstance(model.network, Model):
            name = type(model.network).__name__
            section.notes.append(f"Suffixes were left out: {name} is no decoder with a gradient.")
            return
        found = list(
            attack_prompts(
                model, prompts, target=run.suffix_target, steps=run.suffix_steps, chat=run.chat,
                seed=run.seed,
            )
        )  # fmt: skip
        for prompt, suffix, attack, is_text in found:
            success = "yes" if attack.succeeded else "no"
            first, last = attack.losses[0], attack.losses[-1]
            text = "yes" if is_text else "no"
            rows.append([prompt, when.strip() or "this run", first, last, success, suffix, text])
        share = sum(each.attack.succeeded for each in found) / len(found)
        section.metrics[f"success of adversarial suffixes{when}"] = share
    section.notes.append(
        f"Adversarial suffixes of {LENGTH} tokens, searched by gradients in at most "
        f"{run.suffix_steps} steps for each of {len(prompts)} prompts: an attack succeeds if the "
        f'greedy answer begins with "{run.suffix_target}". Losses are means over its tokens in '
        "nats, at the first suffix and at the best one."
    )
    columns = ["prompt", "model", "first loss", "last loss", "success", "suffix", "is text"]
    section.tables.append(Table("Suffixes found by gradients", columns, rows))
