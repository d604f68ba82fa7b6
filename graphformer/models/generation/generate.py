"""`generate`: continue texts by sampling or beam search until each is complete."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TypeAlias, get_args, overload

import torch
from torch import Tensor
from typing_extensions import TypedDict, Unpack

from graphformer.deprecated import renamed_keywords
from graphformer.models.base import Patterns
from graphformer.models.generation.beam_search import beam_search
from graphformer.models.generation.causal_patterns import per_block
from graphformer.models.generation.compiled_step import CompiledStep, compiled_step
from graphformer.models.generation.decoders import (
    CachedDecoder,
    Decoder,
    SpeculativeDecoder,
    UncachedDecoder,
    WindowedDecoder,
)
from graphformer.models.generation.encoder_output import EncoderOutput
from graphformer.models.generation.logits_rules import LogitsRules, apply_rules
from graphformer.models.generation.modes import WeightDtype, eval_mode, fast_linear
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
from graphformer.models.protocols import TokenNetwork, is_cached_model, pools_nodes
from graphformer.patterns import Causal

TokenCallback: TypeAlias = Callable[[int, int], object]
"""Called with the number of a text and its new token; True ends the text."""
RENAMED = {"eos_id": "eos_token_id", "guess": "prompt_lookup", "source": "encoder_output"}
"""Old names of options of `generate`."""


class GenerateOptions(TypedDict, total=False):
    """The options of `generate`, whose docstring describes them."""

    adjacency: Patterns
    temperature: float
    top_k: int | None
    top_p: float | None
    repetition_penalty: float
    num_beams: int
    length_penalty: float
    eos_token_id: int | Sequence[int] | None
    forced_bos_token_id: int | None
    forced_eos_token_id: int | Sequence[int] | None
    min_new_tokens: int | None
    min_length: int
    no_repeat_ngram_size: int
    bad_words_ids: Sequence[Sequence[int]]
    suppress_tokens: Sequence[int]
    begin_suppress_tokens: Sequence[int]
    stop: Sequence[Sequence[int] | str]
    seed: int | None
    stream: TokenCallback | None
    context: int | None
    cache: bool
    prompt_lookup: bool
    weight_dtype: WeightDtype
    encoder_output: EncoderOutput | None


@overload
def generate(
    network: TokenNetwork,
    prompts: Sequence[int],
    *,
    max_new_tokens: int,
    **options: Unpack[GenerateOptions],
) -> list[int]: ...
@overload
def generate(
    network: TokenNetwork,
    prompts: Sequence[Sequence[int]] | Sequence[Tensor],
    *,
    max_new_tokens: int,
    **options: Unpack[GenerateOptions],
) -> list[list[int]]: ...
@overload
def generate(
    network: TokenNetwork,
    prompts: Prompts,
    *,
    max_new_tokens: int,
    **options: Unpack[GenerateOptions],
) -> list[int] | list[list[int]]: ...
@renamed_keywords(**RENAMED)
@torch.inference_mode()
def generate(
    network: TokenNetwork,
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
    forced_bos_token_id: int | None = None,
    forced_eos_token_id: int | Sequence[int] | None = None,
    min_new_tokens: int | None = None,
    min_length: int = 0,
    no_repeat_ngram_size: int = 0,
    bad_words_ids: Sequence[Sequence[int]] = (),
    suppress_tokens: Sequence[int] = (),
    begin_suppress_tokens: Sequence[int] = (),
    stop: Sequence[Sequence[int] | str] = (),
    seed: int | None = None,
    stream: TokenCallback | None = None,
    context: int | None = None,
    cache: bool = True,
    prompt_lookup: bool = True,
    weight_dtype: WeightDtype = "float32",
    encoder_output: EncoderOutput | None = None,
) -> list[int] | list[list[int]]:
    """Continue texts token by token.

    Args:
        network: a `Model`, or with `cache=False` any network that returns logits [N, K] when
            called as `network(batch, adjacency)`.
        prompts: token ids of one text, or of several of any lengths; none may be empty.
        max_new_tokens: the maximal number of tokens added to a text.
        adjacency: the pattern that the network was trained with, or one per block. With a causal
            window, the cache holds the window only.
        temperature: divides the logits; 0 selects the most likely token.
        top_k: sample from the k most likely tokens.
        top_p: sample from the fewest tokens that reach this share of the probability.
        repetition_penalty: above 1 makes tokens that occurred before less likely.
        num_beams: above 1 runs beam search with this many beams, instead of sampling.
        length_penalty: beam search divides log-probabilities by the length to this power.
        eos_token_id: the token that ends a text, or several such tokens; it is part of the result.
        forced_bos_token_id: the token that follows a text of one token, such as the target language
            after the start token of a decoder.
        forced_eos_token_id: the token, or one of several, that is the last of `max_new_tokens`.
        min_new_tokens: the least number of tokens added to a text before `eos_token_id` may follow.
        min_length: the same for the whole text, its prompt included; `min_new_tokens` replaces it.
        no_repeat_ngram_size: no sequence of this many tokens occurs twice in a text, its prompt
            included; 0 allows all.
        bad_words_ids: token sequences that are not generated.
        suppress_tokens: tokens that are not generated, not even as forced ones.
        begin_suppress_tokens: tokens that are not generated first, or first after a forced one.
        stop: token sequences that end a text, or strings if the network has a tokenizer; they are
            part of the result.
        seed: of the random streams; None takes a random one. The tokens drawn for a prompt do not
            depend on the other prompts; equal prompts get different ones.
        stream: called with the number of a text and each new token; True ends the text. Not
            available for beam search.
        context: the number of last tokens of a text that the network reads; all by default.
        cache: keep keys and values; without, the network runs on the whole texts at each step.
        prompt_lookup: propose tokens from earlier repetitions in the text and verify them in one
            step, for a single text with a cache; changes the speed only, not the result.
        weight_dtype: "bfloat16" rounds the weights of linear layers and embeddings, on a CPU, which
            halves the bytes that are read per token; arithmetic stays float32.
        encoder_output: nodes to attend to, for the decoder of an encoder-decoder.

    Returns:
        The token ids with their prompt, a list; a list of such lists for several prompts.

    Raises:
        TypeError: when prompts are not token ids.
        ValueError: when an option is out of range, a prompt is empty or has ids that the network
            has no embedding for, a text grows longer than the learned positions, or the cache does
            not support the pattern.
    """
    _check_options(max_new_tokens, num_beams, length_penalty, context)
    rules = LogitsRules(
        max_new_tokens=max_new_tokens,
        eos_token_id=eos_token_id,
        min_length=min_length,
        min_new_tokens=min_new_tokens,
        no_repeat_ngram_size=no_repeat_ngram_size,
        bad_words_ids=bad_words_ids,
        forced_bos_token_id=forced_bos_token_id,
        forced_eos_token_id=forced_eos_token_id,
        suppress_tokens=suppress_tokens,
        begin_suppress_tokens=begin_suppress_tokens,
    )
    on_cpu = next(network.parameters()).device.type == "cpu"
    _check_weight_dtype(weight_dtype, on_cpu, encoder_output)
    if num_beams > 1 and (top_k is not None or top_p is not None or stream is not None):
        raise ValueError(
            f"num_beams: got {num_beams} with top_k, top_p or stream, expected none of these with "
            "beam search, which samples nothing; leave them out"
        )
    texts, is_batch = as_token_lists(prompts)
    check_token_ids(network, texts)
    check_length(network, texts, max_new_tokens, context)
    keys = seed_keys(texts, None if encoder_output is None else encoder_output.checksums)
    # Consecutive texts of equal length share a buffer of the cache.
    sizes = [(_source_length(encoder_output, i), len(text)) for i, text in enumerate(texts)]
    order = sorted(range(len(texts)), key=sizes.__getitem__)
    texts = [texts[i] for i in order]
    if encoder_output is not None:
        encoder_output = encoder_output.select(torch.tensor(order))
    sampler = Sampler(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        seed_keys=[keys[i] for i in order],
    )
    decode = getattr(getattr(network, "tokenizer", None), "decode", None)
    stopping = StoppingCriteria(eos_token_id, stop, max_new_tokens, decode)
    fast = fast_linear(network, weight_dtype) if on_cpu else nullcontext()
    compiled = None
    if on_cpu and encoder_output is None and is_cached_model(network):
        compiled = compiled_step(network, weight_dtype)
    with eval_mode(network), fast:
        decoder = _decoder(
            network, texts, per_block(adjacency), context, encoder_output, cache, compiled
        )
        if num_beams > 1:
            texts = beam_search(decoder, texts, num_beams, sampler, rules, stopping, length_penalty)
        elif prompt_lookup and len(texts) == 1 and not isinstance(decoder, UncachedDecoder):
            _sample_with_lookup(decoder, texts[0], sampler, rules, stopping, stream)
        else:
            _sample(decoder, texts, sampler, rules, stopping, order, stream)
    results = dict(zip(order, texts, strict=True))
    return [results[i] for i in range(len(order))] if is_batch else texts[0]


def _check_options(
    max_new_tokens: int, num_beams: int, length_penalty: float, context: int | None
) -> None:
    # Written as `not (x >= bound)`, so that NaN is refused as well.
    for name, value in {"max_new_tokens": max_new_tokens, "num_beams": num_beams}.items():
        if not value >= 1:
            raise ValueError(f"{name}: got {value}, expected at least 1")
    if context is not None and not context >= 1:
        raise ValueError(f"context: got {context}, expected at least 1, or None for all tokens")
    if not math.isfinite(length_penalty):
        raise ValueError(f"length_penalty: got {length_penalty}, expected a finite number")


def _check_weight_dtype(
    weight_dtype: str, on_cpu: bool, encoder_output: EncoderOutput | None
) -> None:
    if weight_dtype not in get_args(WeightDtype):
        names = " or ".join(get_args(WeightDtype))
        raise ValueError(f"weight_dtype: got {weight_dtype!r}, expected {names}")
    if weight_dtype != "float32" and not on_cpu:
        raise ValueError(
            f"weight_dtype: got {weight_dtype!r} for a network on another device, expected one on "
            "a CPU; convert the network with .to(torch.bfloat16)"
        )
    if weight_dtype != "float32" and encoder_output is not None:  # projections of parts of q, k, v
        raise ValueError(
            f"weight_dtype: got {weight_dtype!r} with encoder_output, expected a network without "
            "an encoder; leave it out"
        )


def _sample(
    decoder: Decoder,
    texts: list[list[int]],
    sampler: Sampler,
    rules: LogitsRules,
    stopping: StoppingCriteria,
    order: list[int],
    stream: TokenCallback | None,
) -> None:
    """Append tokens to the texts, in place; complete ones leave the batch."""
    prompt_lengths = [len(text) for text in texts]
    active = list(range(len(texts)))
    logits = decoder.start()
    sampler.start(texts, logits.shape[-1], logits.device)
    while active:
        starts = [prompt_lengths[number] for number in active]
        logits = apply_rules(logits, [texts[number] for number in active], starts, rules)
        tokens = sampler.sample(logits)
        rows = []  # of the texts that are not complete
        for row, (number, token) in enumerate(zip(active, tokens.tolist(), strict=True)):
            texts[number].append(token)
            ended = stream is not None and stream(order[number], token) is True
            if not ended and not stopping(texts[number], prompt_lengths[number]):
                rows.append(row)
        if len(rows) < len(active):
            index = torch.tensor(rows, dtype=torch.int64, device=tokens.device)
            active, tokens = [active[row] for row in rows], tokens[index]
            if not active:
                return
            decoder.select(index)
            sampler.select(index)
        logits = decoder.step(tokens)


def _sample_with_lookup(
    decoder: SpeculativeDecoder,
    text: list[int],
    sampler: Sampler,
    rules: LogitsRules,
    stopping: StoppingCriteria,
    stream: TokenCallback | None,
) -> None:
    """Append tokens to the one text, in place; draft tokens are verified in one step."""
    prompt_length, lookup, draft = len(text), PromptLookup(text), list[int]()
    logits = decoder.start()
    sampler.start([text], logits.shape[-1], logits.device)
    while True:
        accepted = 0
        # Row i is the logits after draft token i, valid while all tokens before are accepted.
        for row in logits.split(1):
            token = int(sampler.sample(apply_rules(row, [text], [prompt_length], rules)))
            text.append(token)
            ended = stream is not None and stream(0, token) is True
            if ended or stopping(text, prompt_length):
                return
            lookup.append(token)
            if accepted == len(draft) or token != draft[accepted]:
                break
            accepted += 1
        if draft:
            lookup.update(accepted, len(draft))
            decoder.crop(len(draft) - accepted)
        left = stopping.max_new_tokens - (len(text) - prompt_length)
        draft = lookup.propose(min(decoder.max_draft(), left - 1))
        logits = decoder.extend(torch.tensor(text[-1:] + draft, device=logits.device))


def _decoder(
    network: TokenNetwork,
    texts: list[list[int]],
    pattern: Patterns,
    context: int | None,
    encoder_output: EncoderOutput | None,
    cache: bool,
    compiled: CompiledStep | None,
) -> UncachedDecoder | CachedDecoder | WindowedDecoder:
    """Return a decoder of the texts.

    Raises:
        ValueError: when the network cannot be decoded this way.
    """
    if pools_nodes(network):
        raise ValueError(
            "network: got one whose head pools the nodes, expected logits for each token; use a "
            "head that does not pool"
        )
    if not cache:
        return UncachedDecoder(
            network, texts, pattern, context=context, encoder_output=encoder_output
        )
    if not is_cached_model(network):
        raise ValueError(
            f"network: got {type(network).__name__}, expected a graphformer Model for decoding "
            "with a cache; pass cache=False"
        )
    cached = CachedDecoder(
        network, texts, pattern, encoder_output=encoder_output, compiled=compiled
    )
    return cached if context is None else WindowedDecoder(cached, texts, context)


def _source_length(output: EncoderOutput | None, number: int) -> int:
    return 0 if output is None else output.lengths[number]
