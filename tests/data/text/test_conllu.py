"""CoNLL-U files: sentences, features of words, trees, and malformed lines."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphformer.data import DependencyTrees, TaggedText
from graphformer.data.text.conllu import NUM_WORD_FEATURES, read_conllu, word_features
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
    with pytest.raises(ValueError, match=r"a.conllu, line 1: not utf-8 text"):
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
    assert sorted(batch.lengths for batch in batches) == [(5,), (5, 5), (5, 5), (5, 5)]
    batch = next(b for b in batches if len(b.lengths) == 2)
    assert batch.x.shape == (10, NUM_WORD_FEATURES)
    assert batch.y.tolist() == [2, 0, 1, 3, -100] * 2
    assert batch.edge_index.tolist() == [[3, 3, 3, 8, 8, 8], [0, 1, 2, 5, 6, 7]]
    assert Edges()(batch).num_edges == 6
    tree = Edges(undirected=True, self_loops=True)(batch)
    assert tree.num_edges == 2 * 6 + 10
    assert (Edges(undirected=True) | Window(1))(batch).num_edges == 26 + 2 * 4


def test_real_trees(real_data: Callable[[str], Path]) -> None:
    sentences = list(read_conllu(real_data("ud_ewt/en_ewt-ud-dev.conllu")))
    assert len(sentences) == 2001
    assert all(sentence.heads.count(0) == 1 for sentence in sentences)
    assert len({tag for sentence in sentences for tag in sentence.labels}) == 17


def test_compressed_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.conllu.gz"
    path.write_bytes(gzip.compress((SENTENCE + "\n").encode()))
    assert len(next(read_conllu(path)).forms) == 5
    path.write_bytes(b"no gzip")
    with pytest.raises(ValueError, match=r"a.conllu.gz: not a complete gzip file"):
        list(read_conllu(path))


@pytest.mark.parametrize("heads", [(1,), (2, 1), (0, 3, 4, 2), (2, 3, 1, 0)])
def test_cycles_are_named_by_line(tmp_path: Path, heads: tuple[int, ...]) -> None:
    rows = [line(str(i), f"w{i}", "X", str(head)) for i, head in enumerate(heads, 1)]
    path = conllu(tmp_path, "# comment\n" + "\n".join(rows))
    with pytest.raises(ValueError, match=r"a.conllu, line \d: the head of word \d depends on"):
        list(read_conllu(path))


@given(st.lists(st.integers(0, 96), max_size=30))
def test_forests_have_no_cycle(choices: list[int]) -> None:
    heads = [choice % (i + 1) for i, choice in enumerate(choices)]  # a word before it, or none
    rows = [line(str(i), f"w{i}", "X", str(head)) for i, head in enumerate(heads, 1)]
    with tempfile.TemporaryDirectory() as folder:
        sentences = list(read_conllu(conllu(Path(folder), "\n".join(rows))))
    assert [list(sentence.heads) for sentence in sentences] == ([heads] if heads else [])


def test_a_column_without_tags_is_refused(tmp_path: Path) -> None:
    path = str(conllu(tmp_path, "1\ta\t_\tX\t_\t_\t0\tdep\t_\t_\n\n" * 5))
    for kind in (DependencyTrees, TaggedText):
        with pytest.raises(ValueError, match="label: got 'xpos', which is '_' at all words"):
            kind(path, label="xpos").setup()
        data = kind(path, label="relation")
        data.setup()
        assert data.labels == ["dep"]
