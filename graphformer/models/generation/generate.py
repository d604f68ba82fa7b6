"""The loop: ask for what comes next, choose, add, until every text has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from graphformer.deprecated import renamed_keywords
from graphformer.models.generation.beam_search import beam_search
from graphformer.models.generation.decoders import (
    CachedDecoder,
    Decoder,
    EncoderOutput,
    ExtendableDecoder,
    Patterns,
    UncachedDecoder,
    WindowedDecoder,
    per_block,
)
from graphformer.models.generation.prompt_lookup import PromptLookup
from graphformer.models.generation.prompts import (
    Prompts,
    as_token_lists,
    check_length,
    check_token_ids,
    seed_keys,
)
from graphformer.models.generation.sampling import Sampler
from graphformer.models.generation.stopping import StoppingCriteria
from graphformer.patterns import Causal

if TYPE_CHECKING:
    from graphformer.models.protocols import CachedModel

Stream = Callable[[int, int], Any]
RENAMED = {"eos_id": "eos_token_id", "guess": "prompt_lookup", "source": "encoder_output"}


@renamed_keywords(**RENAMED)
@torch.inference_mode()
def generate(
    network: nn.Module,
    prompts: Prompts,
    *,
    max_new_tokens: int,
    adjacency: Patterns = Causal(),
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    eos_token_id: int | Sequence[int] | None = None,
    stop: Sequence[Sequence[int]] = (),
    seed: int | None = None,
    stream: Stream | None = None,
    context: int | None = None,
    cache: bool = True,
    prompt_lookup: bool = True,
    encoder_output: EncoderOutput | None = None,
) -> Any:
    """Continue texts, token by token.

    Args:
        network: a `Model`, or with `cache=False` any `network(batch, adjacency)` that gives logits
            for every token.
        prompts: token ids of one text, or of several of whatever lengths; none may be empty.
        max_new_tokens: how many tokens are added at most.
        adjacency: the pattern that the network was trained with, or one a block. A causal window
            keeps no more than its radius of a text.
        temperature: divides the logits; 0 takes the most likely token.
        top_k: draw among the k most likely tokens.
        top_p: draw among the fewest tokens with this share of the probability.
        repetition_penalty: above 1 makes tokens that were there before less likely.
        num_beams: above 1 looks for the most likely text with so many beams, without drawing.
        length_penalty: of beams, whose log-probability is divided by their length to this power.
        eos_token_id: the token that ends a text, or several of which each does; it is kept.
        stop: sequences of tokens that end a text; they are kept.
        seed: of the draws; None draws differently each time. What is drawn for a prompt does not
            depend on the others; equal ones draw differently.
        stream: called with a text's number and its new token at once; a text ends if it returns
            True. Not for beams.
        context: how many tokens of a text the network looks at, the last ones; all by default.
        cache: whether keys and values are kept; without, the network sees whole texts each time.
        prompt_lookup: propose tokens from earlier repetitions in the text and verify them in one
            step, for a single text with a cache; changes the speed only, not the result.
        encoder_output: nodes of an encoder that the decoder attends to.

    Returns:
        The ids with their prompt, a list; a list of such lists for several prompts.

    Raises ValueError for empty prompts, ids out of range, texts that grow longer than positions
    were learned, and a pattern that no cache can serve.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    if num_beams < 1:
        raise ValueError(f"num_beams must be at least 1, got {num_beams}")
    texts, several = as_token_lists(prompts)
    check_token_ids(network, texts)
    check_length(network, texts, max_new_tokens, context)
    marks = seed_keys(texts, None if encoder_output is None else encoder_output.marks)
    # Texts of one length lie side by side in the cache.
    order = sorted(
        range(len(texts)), key=lambda i: (_source_length(encoder_output, i), len(texts[i]))
    )
    texts = [texts[i] for i in order]
    device = next(network.parameters()).device
    if encoder_output is not None:
        encoder_output = encoder_output.select(torch.tensor(order))
    sampler = Sampler(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        marks=[marks[i] for i in order],
    )
    stopping = StoppingCriteria(eos_token_id, stop, max_new_tokens)
    several_rows = len(texts) * num_beams > 1 and device.type == "cpu"
    with eval_mode(network), fast_linear(network) if several_rows else nullcontext():
        decoding = _decoding(network, texts, per_block(adjacency), context, encoder_output, cache)
        if num_beams > 1:
            if top_k is not None or top_p is not None or stream is not None:
                raise ValueError(
                    "num_beams looks for the most likely text and draws nothing: leave top_k, "
                    "top_p and stream out"
                )
            texts = beam_search(decoding, texts, num_beams, sampler, stopping, length_penalty)
        elif (
            prompt_lookup
            and len(texts) == 1
            and isinstance(decoding, CachedDecoder | WindowedDecoder)
        ):
            _sample_ahead(network, decoding, texts[0], sampler, stopping, stream)
        else:
            _sample(decoding, texts, sampler, stopping, order, stream)
    placed = dict(zip(order, texts, strict=True))
    return [placed[i] for i in range(len(order))] if several else texts[0]


def _sample(
    decoding: Decoder,
    texts: list[list[int]],
    sampler: Sampler,
    stopping: StoppingCriteria,
    order: list[int],
    stream: Stream | None,
) -> None:
    """Add tokens to the texts, in place; those that have ended leave the batch."""
    prompts = [len(text) for text in texts]
    alive = list(range(len(texts)))
    logits = decoding.start()
    sampler.start(texts, logits.shape[-1], logits.device)
    while alive:
        tokens = sampler.choose(logits)
        going = []
        for row, (number, token) in enumerate(zip(alive, tokens.tolist(), strict=True)):
            texts[number].append(token)
            told = None if stream is None else stream(order[number], token)
            if told is not True and not stopping(texts[number], prompts[number]):
                going.append(row)
        if len(going) < len(alive):
            rows = torch.tensor(going, dtype=torch.int64, device=tokens.device)
            alive, tokens = [alive[row] for row in going], tokens[rows]
            if not alive:
                return
            decoding.select(rows)
            sampler.select(rows)
        logits = decoding.step(tokens)


def _sample_ahead(
    network: nn.Module,
    decoding: ExtendableDecoder,
    text: list[int],
    sampler: Sampler,
    stopping: StoppingCriteria,
    stream: Stream | None,
) -> None:
    """Add tokens to the one text, in place; tokens guessed ahead are checked in one step."""
    prompt, guesses, ahead = len(text), PromptLookup(text), list[int]()
    logits = decoding.start()
    sampler.start([text], logits.shape[-1], logits.device)
    slow = logits.device.type == "cpu"
    with ExitStack() as stack:
        while True:
            right = 0
            for row in logits.split(1):  # holds as long as what was guessed before it is right
                token = int(sampler.choose(row))
                text.append(token)
                told = None if stream is None else stream(0, token)
                if told is True or stopping(text, prompt):
                    return
                guesses.add(token)
                if right == len(ahead) or token != ahead[right]:
                    break
                right += 1
            if ahead:
                guesses.judge(right, len(ahead))
                decoding.drop(len(ahead) - right)
            left = stopping.max_new_tokens - (len(text) - prompt)
            ahead = guesses.next(min(decoding.room(), left - 1))
            if ahead and slow:
                stack.enter_context(fast_linear(network))
                slow = False
            logits = decoding.extend(torch.tensor([token, *ahead], device=logits.device))


def _decoding(
    network: nn.Module,
    texts: list[list[int]],
    pattern: Patterns,
    context: int | None,
    source: EncoderOutput | None,
    cache: bool,
) -> Decoder:
    if not cache:
        return UncachedDecoder(network, texts, pattern, context=context, source=source)
    if not hasattr(network, "transformer"):
        raise ValueError(
            f"a cache needs a graphformer Model, got {type(network).__name__}; pass cache=False"
        )
    if getattr(getattr(network, "head", None), "pool", None) is not None:
        raise ValueError(
            "generate needs logits for each token, but the network pools them: use a head that "
            "does not pool"
        )
    cached = CachedDecoder(cast("CachedModel", network), texts, pattern, source=source)
    return cached if context is None else WindowedDecoder(cached, texts, context)


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Without dropout; every module is then again as it was."""
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def fast_linear(network: nn.Module) -> Iterator[None]:
    """With linear maps that are quick for few rows, on a CPU; afterwards as they were."""
    from graphformer.ops.cpu.skinny_linear import linear, suits  # compiles its kernel

    changed = []
    for module in network.modules():
        if type(module) is nn.Linear and "forward" not in module.__dict__ and suits(module.weight):
            module.forward = partial(linear, weight=module.weight, bias=module.bias)  # type: ignore[method-assign]
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.__dict__["forward"]


def _source_length(source: EncoderOutput | None, number: int) -> int:
    return 0 if source is None else source.lengths[number]
