"""Zero- and few-shot evaluation against scores by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from helpers.chat import chat_folder
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch_geometric.data import Data

from graphformer import models
from graphformer.data import Bytes
from graphformer.data.text.hf_tokenizer import PretrainedTokenizer, read_pretrained_tokenizer
from graphformer.data.text.post_training.chat_template import SHIPPED
from graphformer.patterns import Causal
from graphformer.tasks.metrics import bleu, exact_match, normalize_answer, token_f1
from graphformer.tasks.text import few_shot as prompting
from graphformer.tasks.text.few_shot import (
    Question,
    evaluate_options,
    generate_answers,
    grade,
    read_questions,
    score_options,
    with_shots,
)


def lines(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def test_answers_are_compared_as_is_usual() -> None:
    assert normalize_answer("The  Cat, a dog!") == "cat dog"
    assert exact_match("the cat.", "Cat") == 1
    assert exact_match("two cats", "cat") == 0
    assert token_f1("the black cat sat", "a black cat") == pytest.approx(2 * 2 / (3 + 2))
    assert token_f1("x", "y") == 0
    assert token_f1("", "the") == 1


@given(st.text(max_size=20), st.text(max_size=20))
def test_f1_is_symmetric_and_one_for_equals(one: str, other: str) -> None:
    assert token_f1(one, other) == pytest.approx(token_f1(other, one))
    assert token_f1(one, one) == 1
    assert 0 <= token_f1(one, other) <= 1


def test_bleu_is_sacrebleus() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    answers, references = ["the cat sat on a mat"], ["the cat sat on the mat"]
    wanted = sacrebleu.corpus_bleu(answers, [references]).score
    assert bleu(answers, references) == wanted
    assert 0 < wanted < 100


def test_questions_from_a_file(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "a.jsonl",
        [
            {"q": "1+1", "options": ["1", "2"], "answer": 1},
            {"q": "sky", "options": ["blue", "red"], "answer": "blue"},
        ],
    )
    one, two = read_questions(path, "Q: {q}\nA:", options="options")
    assert one == Question("Q: 1+1\nA:", "2", ("1", "2"))
    assert two.answer == "blue"
    rows = "q,A,B,right\n1+1,1,2,B\n2+1,3,4,3\n4-1,2,3,1\n"
    (tmp_path / "a.csv").write_text(rows)
    table = list(read_questions(tmp_path / "a.csv", "{q}", answer="right", options="A,B"))
    assert [question.answer for question in table] == ["2", "3", "3"]
    assert table[2].options == ("2", "3")
    free = list(read_questions(path, "{q}"))
    assert free[1] == Question("sky", "blue")
    (tmp_path / "a.tsv").write_text("eins\tone\nzwei\ttwo\n")
    table = list(read_questions(tmp_path / "a.tsv", "{0} =", answer="1"))
    assert table == [Question("eins =", "one"), Question("zwei =", "two")]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"options": ["a"], "answer": 3}, "line 1: 'answer' is '3', which is neither one of the 1"),
        ({"options": "ab", "answer": 0}, "line 1: 'options' must be a list of options, got 'ab'"),
        ({"answer": 0}, "line 1: there is no field 'options'"),
        ({"options": ["a"]}, "line 1: there is no field 'answer'"),
    ],
)
def test_wrong_questions_are_named_by_line(
    tmp_path: Path, record: dict[str, Any], message: str
) -> None:
    path = lines(tmp_path / "a.jsonl", [record])
    with pytest.raises(ValueError, match=f"a.jsonl, {message}"):
        list(read_questions(path, "", options="options"))


def test_shots_are_others_and_seeded() -> None:
    questions = [Question(f"q{i}:", f"a{i}") for i in range(5)]
    shown = with_shots(questions, questions, 2, seed=3)
    for question, asked in zip(questions, shown, strict=True):
        *examples, last = asked.prompt.split("\n\n")
        assert last == question.prompt
        assert len(set(examples)) == 2
        assert all(example in [f"q{i}: a{i}" for i in range(5)] for example in examples)
        assert not any(example.startswith(question.prompt) for example in examples)
    assert with_shots(questions, questions, 2, seed=3) == shown
    assert with_shots(questions, questions, 0) == questions
    with pytest.raises(ValueError, match="shots: got 5, but there are only 4"):
        with_shots(questions, questions, 5)


class Bigram(nn.Module):
    """Logits by the token read."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(256, 256, generator=generator))

    def forward(self, batch: Data, adjacency: Any) -> Tensor:
        return self.weight[batch.x]


def log_p(network: Bigram, prompt: str, option: str) -> float:
    text = list(f"{prompt} {option}".encode())
    table = network.weight.detach().log_softmax(-1)
    start = len(prompt.encode())
    return float(sum(table[a, b] for a, b in zip(text[start - 1 :], text[start:], strict=False)))


@pytest.mark.parametrize("max_length", [None, 11])
def test_options_are_scored_by_their_likelihood(max_length: int | None) -> None:
    network, question = Bigram(), Question("which one?", "no", ("yes", "no", "maybe"))
    scores = score_options(network, Causal(), Bytes(), question, max_length=max_length)
    wanted = [log_p(network, question.prompt, option) for option in question.options]
    np.testing.assert_allclose(scores.numpy(), wanted, rtol=1e-4)
    sizes = [len(option) for option in question.options]
    result = evaluate_options(network, Causal(), Bytes(), [question])
    assert result["accuracy"] == float(np.argmax(wanted) == 1)
    assert result["accuracy_per_byte"] == float(np.argmax(np.divide(wanted, sizes)) == 1)
    with pytest.raises(ValueError, match="without tokens"):
        score_options(network, Causal(), Bytes(), Question("", "a", ("a",)))


def test_an_options_score_does_not_depend_on_the_others() -> None:
    torch.manual_seed(0)
    network = models.language_model(256, dim=16, depth=2, num_heads=2).eval()
    options = ("yes", "no", "perhaps")
    together = score_options(network, Causal(), Bytes(), Question("well?", "no", options))
    for option, score in zip(options, together, strict=True):
        alone = score_options(network, Causal(), Bytes(), Question("well?", "no", (option,)))
        torch.testing.assert_close(alone[0], score)


def test_generated_answers_end_where_they_shall(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = models.language_model(256, dim=16, depth=1, num_heads=2)
    options: dict[str, Any] = {"max_new_tokens": 7, "stop": "\0"}
    prompts = ["one", "another prompt", "three"]
    answers = generate_answers(network, Causal(), Bytes(), prompts, **options)
    alone = [generate_answers(network, Causal(), Bytes(), [p], **options)[0] for p in prompts]
    assert answers == alone
    monkeypatch.setattr(prompting, "_PROMPTS_PER_BATCH", 2)
    assert generate_answers(network, Causal(), Bytes(), prompts, **options) == answers
    ids = network.generate(list(b"one"), max_new_tokens=7, temperature=0.0)
    assert answers[0] == Bytes().decode(ids[3:]).split("\0")[0].strip()


def test_grades_look_at_what_is_extracted() -> None:
    pytest.importorskip("sacrebleu")
    answers = ["so it is #### 7", "#### 8 or #### 9", "no idea"]
    result = grade(answers, ["#### 7", "#### 9", "#### 1"], extract=r"#### (\d+)")
    assert result["exact_match"] == pytest.approx(2 / 3)
    assert grade(["red b"], ["red c"])["f1"] == pytest.approx(0.5)


@pytest.fixture
def pretrained() -> PretrainedTokenizer:
    """A byte-level tokenizer that begins a text with <s> and ends it with </s>."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=283,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["the capital of France is Paris"] * 7, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PretrainedTokenizer(backend, {"bos": "<s>", "eos": "</s>"})


def test_options_continue_the_prompt_without_special_tokens(
    pretrained: PretrainedTokenizer,
) -> None:
    torch.manual_seed(0)
    network = models.language_model(pretrained.vocab_size, dim=16, depth=2, num_heads=2).eval()
    question = Question("the capital is", "Paris", ("Paris", "of Rome"))
    scores = score_options(network, Causal(), pretrained, question)
    for option, score in zip(question.options, scores, strict=True):
        ids = pretrained.encode(f"{question.prompt} {option}")[:-1]  # without </s>
        start = len(pretrained.encode(question.prompt)) - 1
        batch = Data(x=ids, pos=torch.arange(len(ids)), lengths=(len(ids),))
        log_p = network(batch, Causal()(batch)).log_softmax(-1)
        expected = sum(log_p[i - 1, ids[i]] for i in range(start, len(ids)))
        torch.testing.assert_close(score, expected)


def test_generation_continues_the_prompt_without_its_last_special_token(
    pretrained: PretrainedTokenizer,
) -> None:
    torch.manual_seed(0)
    network = models.language_model(pretrained.vocab_size, dim=16, depth=1, num_heads=2).eval()
    (answer,) = generate_answers(
        network, Causal(), pretrained, ["the capital"], max_new_tokens=5, stop=""
    )
    prompt = pretrained.encode("the capital")[:-1].tolist()
    ids = network.generate(prompt, max_new_tokens=5, temperature=0.0, eos_token_id=1)
    assert answer == pretrained.decode(ids[len(prompt) :]).strip()


def test_an_answer_without_a_match_is_wrong_and_a_reference_is_used_whole() -> None:
    pytest.importorskip("sacrebleu")
    pattern = r"#### (-?\d+)"
    for answer, reference, expected in (
        ("I do not know", "18", 0.0),
        ("I do not know", "I do not know", 0.0),
        ("I do not know", "", 0.0),
        ("#### 18", "18", 1.0),
        ("#### 18", "#### 18", 1.0),
        ("#### 18 and #### 19", "#### 18", 0.0),
        ("#### 18", "eighteen", 0.0),
    ):
        result = grade([answer], [reference], extract=pattern)
        assert (result["exact_match"], result["f1"]) == (expected, expected)
    whole = grade(["so x=3"], ["x=3"], extract="x=.")
    assert whole["exact_match"] == 1
    with pytest.raises(ValueError, match=r"extract: got '\(', expected a regular expression"):
        grade(["a"], ["a"], extract="(")


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("1.5", "15", False),
        ("-5", "5", False),
        ("\N{MINUS SIGN}5.", "-5", True),
        ("1/2", "12", False),
        ("3:15", "315", False),
        ("1,5", "15", False),
        ("1,500", "1500", True),
        ("1,234,567.89", "1234567.89", True),
        ("$-5.50!", "-5.50", True),
        ("-$7", "-7", True),
        ("(12)", "12", True),
        (".5", "5", False),
        ("+7", "7", True),
        ("e.g. well-known", "eg wellknown", True),
        ("the answer: 18.", "answer 18", True),
    ],
)
def test_numbers_keep_their_signs_and_points(answer: str, reference: str, same: bool) -> None:
    assert exact_match(answer, reference) == float(same)


def test_examples_are_turns_of_a_chat_with_one_begin_token(tmp_path: Path) -> None:
    template = "{{ bos_token }}" + SHIPPED["chatml"]
    tokenizer = read_pretrained_tokenizer(chat_folder(tmp_path, template=template))
    assert tokenizer is not None
    questions = [Question("one?", "1"), Question("two?", "2")]
    (asked, _) = with_shots(questions, questions, 1, chat=True)
    assert (asked.prompt, asked.shots) == ("one?", (("two?", "2"),))
    ids = prompting.prompt_ids(tokenizer, asked, chat=True)
    assert ids.count(tokenizer.need("bos")) == 1
    assert tokenizer.decode(ids) == "user\ntwo?\nassistant\n2\nuser\none?\nassistant\n"
