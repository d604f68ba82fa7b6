"""What is trained, and how fast: frozen parts, rates by layer, adapters."""

from __future__ import annotations

import sys
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from graphformer import models, tasks
from graphformer.patterns import Complete
from graphformer.tasks.finetuning import add_lora, freeze, layer_lr_factors, load_lora
from graphformer.tasks.optimization import make_optimizer

LENGTHS = (5, 7, 3)
DEPTH = 3


def batch(seed: int = 3) -> Data:
    x = torch.randint(11, (15,), generator=torch.Generator().manual_seed(seed))
    pos = torch.cat([torch.arange(n) for n in LENGTHS])
    return Data(x=x, pos=pos, lengths=LENGTHS, num_nodes=15, y=torch.tensor([0, 2, 1]))


def classifier() -> models.Model:
    torch.manual_seed(0)
    return models.text_classifier(11, 3, dim=12, depth=DEPTH, num_heads=3)


def trained(task: tasks.Task, steps: int = 2) -> set[str]:
    """Train for some steps; the names of the network's weights that changed."""
    task.configure_model()  # adapters have names of their own
    before = {name: weight.clone() for name, weight in task.network.state_dict().items()}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        enable_checkpointing=False,
        log_every_n_steps=1,
        limit_val_batches=0,
        **quiet,
    )
    batches = torch.utils.data.DataLoader([batch(s) for s in range(steps)], batch_size=None)
    trainer.fit(task, batches, batches)
    after = task.network.state_dict()
    return {name for name, weight in before.items() if not torch.equal(after[name], weight)}


@pytest.mark.parametrize(
    ("options", "still"),
    [
        ({"frozen_blocks": 2}, ("transformer.blocks.0.", "transformer.blocks.1.")),
        ({"frozen_embedding": True}, ("embedding.",)),
        ({"frozen_blocks": 1, "frozen_embedding": True}, ("embedding.", "transformer.blocks.0.")),
    ],
)
def test_frozen_parts_stay_and_all_others_move(options, still):
    network = classifier()
    task = tasks.Classification(network, Complete(), num_classes=3, lr=0.1, **options)
    names = set(network.state_dict())
    moved = trained(task)
    assert not any(name.startswith(still) for name in moved)
    # Keys' biases cancel in the softmax, types that do not occur have no gradient.
    assert {n for n in names - moved if not n.startswith(still)} <= {"embedding.types.weight"}


def test_each_layer_has_its_rate():
    network = classifier()
    rates = layer_lr_factors(network, 0.5)
    for name, parameter in network.named_parameters():
        if name.startswith("embedding"):
            assert rates[parameter] == 0.5**4
        elif name.startswith("head"):
            assert rates[parameter] == 1
    assert rates[network.transformer.blocks[0].attention.qkv.weight] == 0.5**3
    assert rates[network.transformer.blocks[2].norm2.bias] == 0.5


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_optimiser_takes_the_rates(name):
    """Adam's first step moves each weight by its rate, whatever the gradient."""
    network = classifier()
    rates = layer_lr_factors(network, 0.5)
    optimizer = make_optimizer(
        network, name, lr=0.1, weight_decay=0.0, betas=(0.9, 0.99), lr_factors=rates
    )
    before = [p.detach().clone() for p in network.parameters()]
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for old, new in zip(before, network.parameters(), strict=True):
        torch.testing.assert_close(old - new, torch.full_like(old, 0.1 * rates[new]))


def test_a_task_uses_the_rates_under_its_schedule():
    task = tasks.Classification(
        classifier(), Complete(), num_classes=3, lr=0.1, layer_decay=0.5, warmup_steps=10
    )
    assert trained(task)
    found = {round(group["lr"], 6) for group in task.trainer.optimizers[0].param_groups}
    assert found == {round(0.1 * 0.5**n * 0.3, 6) for n in range(5)}  # the third step's warm-up


def test_wrong_use():
    with pytest.raises(ValueError, match="frozen_blocks: got 4, expected 0 to 3"):
        freeze(classifier(), blocks=4)
    with pytest.raises(ValueError, match="layer_decay: got 1.5, expected a number above 0"):
        tasks.Classification(classifier(), num_classes=3, layer_decay=1.5)
    with pytest.raises(ValueError, match="network: got Linear, expected"):
        tasks.Classification(nn.Linear(3, 3), num_classes=3, frozen_blocks=1)
    with pytest.raises(ValueError, match="lora: got frozen_blocks or frozen_embedding as well"):
        tasks.Classification(classifier(), num_classes=3, lora={"r": 2}, frozen_blocks=1)
    with pytest.raises(ValueError, match="lora: got None, expected settings of adapters"):
        tasks.Classification(classifier(), num_classes=3).save_adapter("nowhere")


def test_without_peft_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'graphformer\[peft\]'"):
        add_lora(classifier(), {"r": 2})


class TestLora:
    @pytest.fixture(autouse=True)
    def needs_peft(self):
        pytest.importorskip("peft", reason="needs the package peft")

    def test_only_adapters_and_the_head_are_trained(self):
        task = tasks.Classification(classifier(), num_classes=3, lr=0.1, lora={"r": 2})
        task.configure_model()
        moved = trained(task, steps=3)
        assert all("lora_" in name or "head.modules_to_save" in name for name in moved)
        blocks = {name.split(".")[2] for name in moved if "lora_B" in name}
        assert blocks == {"0", "1", "2"}
        assert any(name.startswith("head.") for name in moved)

    def test_saved_adapters_give_the_same_answers(self, tmp_path: Path):
        task = tasks.Classification(classifier(), num_classes=3, lr=0.1, lora={"r": 2})
        trained(task, steps=3)
        expected = task.eval()(batch())
        task.save_adapter(tmp_path)
        assert {file.name for file in tmp_path.iterdir()} >= {
            "adapter_config.json",
            "adapter_model.safetensors",
        }
        plain = classifier().eval()
        assert not torch.allclose(plain(batch(), Complete()), expected, atol=1e-3)
        load_lora(plain, tmp_path)
        torch.testing.assert_close(plain.eval()(batch(), Complete()), expected)

    def test_merged_adapters_give_the_same_answers_in_a_plain_model(self):
        task = tasks.Classification(classifier(), num_classes=3, lr=0.1, lora={"r": 2})
        trained(task, steps=3)
        expected = task.eval()(batch())
        names = set(classifier().state_dict())
        network = task.merge_adapter()
        assert set(network.state_dict()) == names
        torch.testing.assert_close(network(batch(), Complete()), expected, rtol=1e-4, atol=1e-5)

    def test_cross_attention_hears_adapters(self):
        from graphformer.nn import MultiHeadAttention

        attention = MultiHeadAttention(12, 3)
        x, source = torch.randn(5, 12), torch.randn(7, 12)
        import graphformer as gf

        before = attention(x, gf.complete(5, 7), source)
        holder = nn.ModuleDict({"attention": attention})
        add_lora(holder, {"r": 2, "init_lora_weights": False})
        assert not torch.allclose(attention(x, gf.complete(5, 7), source), before, atol=1e-3)

    def test_unknown_settings_are_named(self):
        with pytest.raises(ValueError, match="'rank': 2}, expected settings of peft: .*'rank'"):
            add_lora(classifier(), {"rank": 2})
