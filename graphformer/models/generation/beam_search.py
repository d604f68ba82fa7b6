"""Beam search: the most likely continuation, among several beams per prompt."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from graphformer.models.generation.decoders import Decoder
from graphformer.models.generation.logits_rules import LogitsRules, apply_rules
from graphformer.models.generation.sampling import Sampler
from graphformer.models.generation.stopping import StoppingCriteria


class Candidate(NamedTuple):
    """A continuation of a beam by one token."""

    score: float
    beam: int
    token: int


@dataclass
class Search:
    """The beams of one prompt: active texts with their log-probabilities, and finished ones.

    The finished texts are sorted by log-probability over length^penalty, best first.
    """

    prompt_length: int
    texts: list[list[int]]
    scores: list[float]
    finished: list[tuple[float, list[int]]] = field(default_factory=list)


def beam_search(
    decoder: Decoder,
    prompts: list[list[int]],
    num_beams: int,
    sampler: Sampler,
    rules: LogitsRules,
    stopping: StoppingCriteria,
    length_penalty: float,
) -> list[list[int]]:
    """Return the prompts with the continuation of the largest log-probability / length^penalty.

    A text that is complete leaves the beams. The search of a prompt ends when `num_beams` texts
    are complete and no active beam, at its present length, scores better than the worst of them.
    The length is that of the continuation.

    Args:
        decoder: of the prompts.
        prompts: token ids of each prompt.
        num_beams: beams per prompt.
        sampler: applies its repetition penalty; nothing is drawn.
        rules: tokens that may follow.
        stopping: whether a text is complete.
        length_penalty: exponent of the length.

    Source: Sutskever et al., 2014, section 3.2; Wu et al., 2016, section 7.
    """
    logits = decoder.start()
    sampler.start(prompts, logits.shape[-1], logits.device)
    searches = [Search(len(prompt), [prompt], [0.0]) for prompt in prompts]
    active = searches
    while active:
        ranked = _rank(logits, active, num_beams, sampler, rules)
        parents: list[int] = []  # row of the decoder that each new row continues
        tokens: list[int] = []
        first, still_active = 0, []
        for search, candidates in zip(active, ranked, strict=True):
            num_rows = len(search.texts)
            chosen = _advance(search, candidates, num_beams, stopping, length_penalty)
            if chosen:
                parents += [first + candidate.beam for candidate in chosen]
                tokens += [candidate.token for candidate in chosen]
                still_active.append(search)
            first += num_rows
        active = still_active
        if active:
            if parents != list(range(len(logits))):
                rows = torch.tensor(parents, device=logits.device)
                decoder.select(rows)
                sampler.select(rows)
            new = torch.tensor(tokens, device=logits.device)
            sampler.update(new)
            logits = decoder.step(new)
    return [max(search.finished, key=lambda text: text[0])[1] for search in searches]


def _rank(
    logits: Tensor, searches: list[Search], num_beams: int, sampler: Sampler, rules: LogitsRules
) -> list[list[Candidate]]:
    """Return the best candidates of each prompt, best first, twice as many as beams.

    At most `num_beams` of them can be complete, so that as many active ones remain. There are
    fewer where the rules forbid most tokens.
    """
    texts = [text for search in searches for text in search.texts]
    starts = [search.prompt_length for search in searches for _ in search.texts]
    logp = sampler.penalize(apply_rules(logits.log_softmax(-1), texts, starts, rules))
    sizes = [len(search.texts) for search in searches]
    scores = torch.tensor([s for search in searches for s in search.scores], dtype=torch.float64)
    logp = logp + scores.to(logits).unsqueeze(1)
    ranked = []
    for part in logp.split(sizes):  # [beams, K] of each prompt
        best, index = part.flatten().topk(min(2 * num_beams, part.numel()))
        beam, token = index // part.shape[1], index % part.shape[1]
        rows = zip(best.tolist(), beam.tolist(), token.tolist(), strict=True)
        ranked.append([Candidate(*row) for row in rows if row[0] != -math.inf])
    return ranked


def _advance(
    search: Search,
    candidates: list[Candidate],
    num_beams: int,
    stopping: StoppingCriteria,
    length_penalty: float,
) -> list[Candidate]:
    """Replace the beams of a prompt by its best candidates.

    Returns:
        The candidates that became beams; none when the search of the prompt is complete.
    """
    prompt = search.prompt_length
    texts: list[list[int]] = []
    chosen: list[Candidate] = []
    for rank, candidate in enumerate(candidates):
        text = [*search.texts[candidate.beam], candidate.token]
        if stopping(text, prompt):
            # A complete text below the first `num_beams` candidates would displace better ones.
            if rank < num_beams:
                score = candidate.score / (len(text) - prompt) ** length_penalty
                search.finished.append((score, text))
        elif len(texts) < num_beams:
            texts.append(text)
            chosen.append(candidate)
    search.finished = sorted(search.finished, key=lambda text: -text[0])[:num_beams]
    search.texts, search.scores = texts, [candidate.score for candidate in chosen]
    if texts and len(search.finished) == num_beams:
        length = len(texts[0]) - prompt
        if search.finished[-1][0] >= max(search.scores) / length**length_penalty:
            return []
    return chosen
