from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphformer.data import DependencyTrees, ListOps
from graphformer.data.text.conllu import NUM_WORD_FEATURES, read_conllu, word_features
from graphformer.data.text.listops import TOKENS, parse_expression
from graphformer.patterns import Edges, Window


def line(number: str, form: str, tag: str, head: str) -> str:
    return f"{number}\t{form}\t_\t{tag}\tX{tag}\t_\t{head}\tdep\t_\t_"


SENTENCE = "\n".join(
    [
        "# text = I don't know ...",
        line("1", "I", "PRON", "4"),
        line("2-3", "don't", "_", "_"),
        line("2", "do", "AUX", "4"),
        line("3", "n't", "PART", "4"),
        line("4", "know", "VERB", "0"),
        line("4.1", "what", "PRON", "_"),
        line("5", "...", "_", "_"),
    ]
)


def conllu(folder: Path, text: str) -> Path:
    path = folder / "a.conllu"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n\n\n# last comment\n\n"])
@pytest.mark.parametrize("begin", ["", "\ufeff", "\n", "# newdoc\n\n"])
def test_sentences_without_multiword_tokens_and_empty_nodes(
    tmp_path: Path, begin: str, end: str
) -> None:
    path = conllu(tmp_path, begin + SENTENCE + "\n\n" + SENTENCE + end)
    one, two = read_conllu(path)
    assert one == two
    assert one.forms == ("I", "do", "n't", "know", "...")
    assert one.labels == ("PRON", "AUX", "PART", "VERB", "_")
    assert one.heads == (4, 4, 4, 0, -1)
    assert next(read_conllu(path, "xpos")).labels[0] == "XPRON"
    assert next(read_conllu(path, "relation")).labels[0] == "dep"


def test_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.conllu"
    path.write_bytes((SENTENCE + "\n").replace("\n", "\r\n").encode())
    assert len(next(read_conllu(path)).forms) == 5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1\tI\t_\t", "1\tI\t", "line 2: expected 10 columns separated by tabs, got 9"),
        ("1\tI", "one\tI", "line 2: expected word 1, got 'one'"),
        ("3\tn't", "4\tn't", "line 5: expected word 3, got '4'"),
        ("\t_\t4\tdep", "\t_\t6\tdep", "line 2: the head is '6'; expected a number from 0 to 5"),
        ("\t_\t4\tdep", "\t_\t-1\tdep", "line 2: the head is '-1'"),
        ("4\tknow", "4 know", "line 6: expected 10 columns .* got 9"),
    ],
)
def test_what_is_not_conllu_is_named_by_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = conllu(tmp_path, SENTENCE.replace(old, new, 1))
    with pytest.raises(ValueError, match=f"a.conllu, {message}") as caught:
        list(read_conllu(path))
    assert "\n" not in str(caught.value)


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.conllu"
    path.write_bytes(b"# caf\xe9\n" + SENTENCE.encode())
    with pytest.raises(ValueError, match=r"a.conllu, line 1 or soon after: not UTF-8"):
        list(read_conllu(path))


@given(st.text(min_size=1), st.integers(1, 97))
def test_word_features_are_few_and_stable(word: str, buckets: int) -> None:
    ids = word_features(word, buckets)
    assert len(ids) == NUM_WORD_FEATURES
    assert all(0 <= i < buckets for i in ids)


def test_unseen_words_share_their_ends_with_seen_ones() -> None:
    run, jump = (set(word_features(word, 1 << 20)) for word in ("running", "Jumping"))
    assert len(run & jump) == 3  # -g, -ng, -ing
    assert word_features("a", 1 << 15) == word_features("a", 1 << 15)


def test_trees_become_edges_of_a_batch(tmp_path: Path) -> None:
    path = str(conllu(tmp_path, "\n\n".join([SENTENCE] * 7)))
    data = DependencyTrees(path, path, path, max_tokens=11, max_edges=7)
    data.setup()
    assert data.labels == ["AUX", "PART", "PRON", "VERB"]
    batches = list(data.train_dataloader())
    assert [batch.lengths for batch in batches] == [(5, 5), (5, 5), (5, 5), (5,)] or len(
        batches
    ) == 4
    batch = next(b for b in batches if len(b.lengths) == 2)
    assert batch.x.shape == (10, NUM_WORD_FEATURES)
    assert batch.y.tolist() == [2, 0, 1, 3, -100] * 2
    assert batch.edge_index.tolist() == [[3, 3, 3, 8, 8, 8], [0, 1, 2, 5, 6, 7]]
    assert Edges()(batch).num_edges == 6
    tree = Edges(undirected=True, self_loops=True)(batch)
    assert tree.num_edges == 2 * 6 + 10
    assert (Edges(undirected=True) | Window(1))(batch).num_edges == 26 + 2 * 4


def evaluate(tokens: list[str]) -> int:
    """The value of an expression, by recursion."""

    def value(place: int) -> tuple[int, int]:
        if tokens[place].isdigit():
            return int(tokens[place]), place + 1
        operator, values, place = tokens[place], [], place + 1
        while tokens[place] != "]":
            one, place = value(place)
            values.append(one)
        values_of = {"[MIN": min, "[MAX": max, "[SM": lambda v: sum(v) % 10,
                     "[MED": lambda v: int(np.median(v)),
                     "[FIRST": lambda v: v[0], "[LAST": lambda v: v[-1]}  # fmt: skip
        return values_of[operator](values), place + 1

    return value(0)[0]


def test_the_tree_is_enough_to_find_the_value(real_data: Callable[[str], Path]) -> None:
    lines = real_data("listops/test_d20a.tsv").read_text().splitlines()[:211]
    for value, expression in (one.split("\t") for one in lines):
        ids, edges = parse_expression(expression)
        tokens = [TOKENS[i] for i in ids]
        assert evaluate(tokens) == int(value)
        children: dict[int, list[int]] = {}
        for member, bracket in edges.T.tolist():
            children.setdefault(bracket, []).append(member)

        def by_tree(node: int, tokens=tokens, children=children) -> int:
            if tokens[node].isdigit():
                return int(tokens[node])
            operator, *members = children[node]
            return evaluate([tokens[operator], *(str(by_tree(m)) for m in members), "]"])

        assert by_tree(len(ids) - 1) == int(value)


def test_an_expression_is_a_tree() -> None:
    ids, edges = parse_expression("( ( ( [MAX 2 ) ( [MIN 4 ) 7 ] ) ) 0 ] )")
    assert [TOKENS[i] for i in ids] == ["[MAX", "2", "[MIN", "4", "7", "]", "0", "]"]
    assert edges.tolist() == [[2, 3, 4, 0, 1, 5, 6], [5, 5, 5, 7, 7, 7, 7]]
    assert parse_expression("7")[1].shape == (2, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3\t[MAX 2", r"line 1: expected one whole expression, got 0 and 1 open|line 1: .*open"),
        ("3\t2 ]", "line 1: a bracket closes that was never opened"),
        ("3\t[MUL 2 ]", r"line 1: unknown token '\[MUL'"),
        ("3\t2 3", "line 1: expected one whole expression, got 2"),
        ("x\t2", "line 1: the value is 'x'; expected a digit"),
        ("3\t3\n[MAX 2 ]", "line 2: expected 2 columns"),
    ],
)
def test_what_is_no_expression_is_named_by_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.tsv").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        ListOps(str(tmp_path / "a.tsv")).setup()
    assert "\n" not in str(caught.value)
    assert "a.tsv" in str(caught.value)


def test_listops_batches(real_data: Callable[[str], Path]) -> None:
    data = ListOps(str(real_data("listops/test_d20a.tsv")), max_length=61, max_edges=20_011)
    data.setup()
    sizes = {split: len(data.splits[split]) for split in data.splits}
    assert sizes["val"] == sizes["test"]
    assert sizes["train"] > 7 * sizes["val"]
    batch = next(iter(data.train_dataloader()))
    assert max(batch.lengths) <= 61
    assert sum(n * n for n in batch.lengths) <= 20_011
    last = torch.tensor(batch.lengths).cumsum(0) - 1
    assert all(TOKENS[i] in ("]", *map(str, range(10))) for i in batch.x[last].tolist())
    again = ListOps(str(real_data("listops/test_d20a.tsv")), max_length=61)
    again.setup()
    pairs = zip(data.splits["test"], again.splits["test"], strict=True)
    assert all(np.array_equal(a[0], b[0]) for a, b in pairs)


def test_real_trees(real_data: Callable[[str], Path]) -> None:
    sentences = list(read_conllu(real_data("ud_ewt/en_ewt-ud-dev.conllu")))
    assert len(sentences) == 2001
    assert all(sentence.heads.count(0) == 1 for sentence in sentences)
    assert len({tag for sentence in sentences for tag in sentence.labels}) == 17
