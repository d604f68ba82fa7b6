"""Beam search: the most likely text, looked for along several at once."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from graphformer.models.generation.decoders import Decoder
from graphformer.models.generation.sampling import Sampler
from graphformer.models.generation.stopping import StoppingCriteria


@dataclass
class Search:
    """The beams of one prompt: texts that go on, with their log-probability, and those ended."""

    prompt_length: int
    going: list[list[int]]
    scores: list[float]
    ended: list[tuple[float, list[int]]] = field(default_factory=list)


def beam_search(
    decoding: Decoder,
    texts: list[list[int]],
    num_beams: int,
    sampler: Sampler,
    stopping: StoppingCriteria,
    length_penalty: float,
) -> list[list[int]]:
    """The most likely continuation of each text, by log-probability over length^penalty.

    Every prompt has `num_beams` beams. A text that ends leaves them; the search goes on until so
    many have ended, and the best beam is not better than any of these as it is now. The length is
    that of what was added.

    Source: Sutskever et al., 2014, section 3.2; Wu et al., 2016, section 7.
    """
    logits = decoding.start()
    sampler.start(texts, logits.shape[-1], logits.device)
    searches = [Search(len(text), [text], [0.0]) for text in texts]
    alive = searches
    while alive:
        ranked = _ranked(logits, alive, num_beams, sampler)
        parents, tokens, first, going = [], [], 0, []
        for search, candidates in zip(alive, ranked, strict=True):
            count = len(search.going)
            chosen = _advance(search, candidates, num_beams, stopping, length_penalty)
            if chosen:
                parents += [first + parent for parent, _ in chosen]
                tokens += [token for _, token in chosen]
                going.append(search)
            first += count
        alive = going
        if alive:
            rows = torch.tensor(parents, device=logits.device)
            if parents != list(range(len(logits))):
                decoding.select(rows)
                sampler.select(rows)
            new = torch.tensor(tokens, device=logits.device)
            sampler.note(new)
            logits = decoding.step(new)
    return [max(search.ended, key=lambda end: end[0])[1] for search in searches]


def _ranked(
    logits: Tensor, searches: list[Search], num_beams: int, sampler: Sampler
) -> list[list[tuple[float, int, int]]]:
    """For each prompt the best (score, beam, token), twice as many as beams."""
    sizes = [len(search.going) for search in searches]
    scores = torch.tensor([s for search in searches for s in search.scores], dtype=torch.float64)
    logp = sampler.penalised(logits.log_softmax(-1)) + scores.to(logits).unsqueeze(1)
    ranked = []
    for part in logp.split(sizes):
        best, place = part.flatten().topk(min(2 * num_beams, part.numel()))
        beam, token = place // part.shape[1], place % part.shape[1]
        ranked.append(list(zip(best.tolist(), beam.tolist(), token.tolist(), strict=True)))
    return ranked


def _advance(
    search: Search,
    candidates: list[tuple[float, int, int]],
    num_beams: int,
    stopping: StoppingCriteria,
    length_penalty: float,
) -> list[tuple[int, int]]:
    """Let a prompt's beams grow by a token: the (parent, token) of those that go on, if any."""
    prompt = search.prompt_length
    texts: list[list[int]] = []
    scores: list[float] = []
    chosen: list[tuple[int, int]] = []
    for rank, (score, beam, token) in enumerate(candidates):
        text = [*search.going[beam], token]
        per_length = score / (len(text) - prompt) ** length_penalty
        if stopping(text, prompt):
            # An end that is not among the best would push better ones out.
            if rank < num_beams:
                search.ended.append((per_length, text))
        elif len(texts) < num_beams:
            texts.append(text)
            scores.append(score)
            chosen.append((beam, token))
    search.ended = sorted(search.ended, key=lambda end: -end[0])[:num_beams]
    search.going, search.scores = texts, scores
    if not texts:
        return []
    if len(search.ended) == num_beams:
        length = len(texts[0]) - prompt
        if search.ended[-1][0] >= max(scores) / length**length_penalty:
            return []
    return chosen
