"""Generation settings of checkpoints: greedy texts are those of `transformers`."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
import torch
from helpers.checkpoints import configured

import graphformer as gf

SOURCES = [[7, 13, 5], [3, 4, 8, 15, 16, 7, 2], [22, 9]]
COUNT = 9
BART: dict[str, Any] = {
    "vocab_size": 23, "d_model": 16, "encoder_layers": 1, "decoder_layers": 2,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "max_position_embeddings": 31, "bos_token_id": 0, "pad_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": None,
}  # fmt: skip
T5 = {
    "vocab_size": 23, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2,
    "num_decoder_layers": 2, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
}  # fmt: skip
LLAMA = {
    "vocab_size": 23, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 1, "max_position_embeddings": 31, "bos_token_id": 0, "eos_token_id": 2,
}  # fmt: skip
MODELS = {
    "bart": ("BartForConditionalGeneration", "BartConfig", BART),
    "mbart": ("MBartForConditionalGeneration", "MBartConfig", BART),
    "t5": ("T5ForConditionalGeneration", "T5Config", T5),
    "llama": ("LlamaForCausalLM", "LlamaConfig", LLAMA),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "forced": {"forced_bos_token_id": 5, "forced_eos_token_id": 2},
    "shortest": {"min_length": 8},
    "shortest-new": {"min_length": 30, "min_new_tokens": 4},
    "pairs": {"no_repeat_ngram_size": 2, "repetition_penalty": 0.7},
    "single": {"no_repeat_ngram_size": 1},
    "all": {
        "forced_bos_token_id": 5, "forced_eos_token_id": [2, 4], "min_length": 5,
        "no_repeat_ngram_size": 3, "bad_words_ids": [[7], [2], [5, 6]], "suppress_tokens": [9],
        "begin_suppress_tokens": [10, 12], "repetition_penalty": 1.2,
    },
}  # fmt: skip


def pretrained(make: Any, kind: str, dtype: torch.dtype, settings: dict[str, Any]) -> Any:
    """A model whose tokens depend on the text and repeat."""
    theirs = make(*MODELS[kind][:2], dtype, **MODELS[kind][2])
    with torch.no_grad():
        theirs.get_input_embeddings().weight.mul_(3)
    theirs.generation_config.update(**settings)
    return theirs


def greedy(theirs: Any, **options: Any) -> list[list[int]]:
    found = [
        theirs.generate(
            torch.tensor([text]), do_sample=False, num_beams=1, max_new_tokens=COUNT, **options
        )
        for text in SOURCES
    ]
    return [row[0].tolist() for row in found]


def check(ours: Any, expected: list[list[int]], **options: Any) -> None:
    options = {"max_new_tokens": COUNT, "temperature": 0, **options}
    for cache in (True, False):
        assert ours.generate(SOURCES, cache=cache, **options) == expected
    for lookup in (True, False):
        each = [ours.generate(text, prompt_lookup=lookup, **options) for text in SOURCES]
        assert each == expected


@pytest.mark.parametrize("kind", MODELS)
def test_greedy_texts_equal_transformers(make, tmp_path, kind: str):
    longest = greedy(pretrained(make, kind, torch.float64, {"eos_token_id": 99}))
    start = len(SOURCES[0]) if kind == "llama" else 1
    first, end = longest[0][start : start + 2]
    ended = greedy(pretrained(make, kind, torch.float64, {"eos_token_id": end}))
    forbidden = {"begin_suppress_tokens": [first], "suppress_tokens": [end]}
    for name, settings in ({"forbidden": forbidden} | SETTINGS).items():
        is_short = name.startswith("shortest")
        eos = {"eos_token_id": end if is_short else 99}
        theirs = pretrained(make, kind, torch.float64, eos | settings)
        expected = greedy(theirs)
        assert expected != (ended if is_short else longest), name
        check(gf.from_pretrained(theirs), expected)
    theirs.save_pretrained(tmp_path)  # "all", from files
    check(gf.from_pretrained(tmp_path), expected)
    own = json.loads((tmp_path / "generation_config.json").read_text())
    (tmp_path / "generation_config.json").unlink()
    stated = {name: own[name] for name in settings}
    ours = gf.from_pretrained(configured(tmp_path, **stated))
    again = type(theirs).from_pretrained(tmp_path)
    check(ours, greedy(again))


def test_the_compiled_step_and_drafts_follow_the_rules(make):
    for settings in SETTINGS.values():
        theirs = pretrained(make, "llama", torch.float32, settings)
        check(gf.from_pretrained(theirs), greedy(theirs))


def test_options_replace_settings_of_the_checkpoint(make):
    theirs = pretrained(make, "bart", torch.float64, SETTINGS["all"])
    ours = gf.from_pretrained(theirs)
    options = {"forced_bos_token_id": 8, "no_repeat_ngram_size": 2, "min_new_tokens": 3}
    check(ours, greedy(theirs, **options), **options)
    none = {"forced_bos_token_id": None, "bad_words_ids": (), "repetition_penalty": 1.0}
    assert ours.generate(SOURCES[0], max_new_tokens=3, temperature=0, **none)[1] != 5


def test_settings_that_do_not_apply_are_named_once(make, tmp_path):
    make(*MODELS["bart"][:2], **BART).save_pretrained(tmp_path)
    settings = {"num_beams": 4, "encoder_no_repeat_ngram_size": 3, "min_length": 0, "top_p": 0.5}
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, **settings}))
    ours = gf.from_pretrained(tmp_path)
    message = "got num_beams=4, encoder_no_repeat_ngram_size=3 in the checkpoint.*pass num_beams="
    with pytest.warns(UserWarning, match=message):
        ours.generate(SOURCES, max_new_tokens=2, temperature=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.generate(SOURCES, max_new_tokens=2, temperature=0)
    sampled = {"eos_token_id": 2, "do_sample": True, "top_p": 0.5, "top_k": 50, "num_beams": 4}
    (tmp_path / "generation_config.json").write_text(json.dumps(sampled))
    ours = gf.from_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.generate(SOURCES, max_new_tokens=2, num_beams=2)
    with pytest.warns(UserWarning, match="got num_beams=4, top_p=0.5 in the checkpoint"):
        ours.generate(SOURCES, max_new_tokens=2)
