"optimizers: the learning rate by hand, every weight in one place, and what decays."

import math

import pytest
import torch
from torch import nn

from vit_mnist.core import UserError
from vit_mnist.model import create_model
from vit_mnist.optimizers import hidden_matrices, lr_factor, make_optimizers, set_lr
from vit_mnist.settings import Training
from vit_mnist.vit import VisionTransformer


@pytest.mark.parametrize(
    "total, warmup, schedule, factors",
    [
        (6, 1 / 3, "linear", [0.5, 1, 1, 0.75, 0.5, 0.25]),
        (6, 1 / 3, "cosine", [0.5, 1, 1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
        (4, 1.0, "cosine", [0.25, 0.5, 0.75, 1]),
        (3, 0.0, "linear", [1, 1, 0.5]),
        (1, 0.1, "cosine", [1]),
    ],
)
def test_the_rate_rises_to_its_highest_and_falls_to_zero(total, warmup, schedule, factors):
    found = [lr_factor(step, total, warmup, schedule) for step in range(total)]
    assert found == pytest.approx(factors)
    if 1 < total * warmup < total:
        assert lr_factor(total, total, warmup, schedule) == pytest.approx(0, abs=1e-12)


def test_the_cosine_is_what_is_meant_if_nothing_is_said():
    assert lr_factor(30, 100, 0.1) == lr_factor(30, 100, 0.1, "cosine") > 1 - 20 / 90


@pytest.mark.parametrize("name", ["vit", "cct", "cait"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_weight_that_learns_is_in_one_place_and_frozen_ones_in_none(name, optimizer):
    model = create_model(name, seed=0, size="tiny")
    frozen = [next(model.parameters()), *hidden_matrices(model)[:1]]
    for parameter in frozen:
        parameter.requires_grad_(False)
    made = make_optimizers(model, Training(optimizer=optimizer))
    given = [p for each in made for group in each.param_groups for p in group["params"]]
    learning = [p for p in model.parameters() if p.requires_grad]
    assert len(given) == len(learning) and {*map(id, given)} == {*map(id, learning)}
    assert [type(each).__name__ for each in made] == ["Muon", "AdamW"][optimizer == "adamw" :]


def test_matrices_decay_at_their_own_rate_and_vectors_do_not():
    model = VisionTransformer(dim=16, depth=1, heads=2, dim_head=8, mlp_dim=16)
    settings = Training(optimizer="muon", lr=0.1, muon_lr=0.3, weight_decay=0.5, beta1=0.7)
    inner, before = {*map(id, hidden_matrices(model))}, {}
    for name, parameter in model.named_parameters():
        parameter.grad, before[name] = torch.zeros_like(parameter), parameter.detach().clone()
    made = make_optimizers(model, settings)
    for optimizer in made:
        optimizer.step()
    assert len(inner) == 4 and made[1].defaults["betas"] == (0.7, 0.98)
    assert made[1].defaults["fused"]  # one pass over the weights instead of ten
    for name, parameter in model.named_parameters():
        rate = 0.3 if id(parameter) in inner else 0.1 if parameter.ndim >= 2 else 0.0
        torch.testing.assert_close(parameter.detach(), before[name] * (1 - 0.5 * rate))


def test_muon_without_a_transformer_is_refused_and_a_linear_layer_alone_is_none():
    plain = nn.Sequential(nn.Linear(4, 4))
    assert hidden_matrices(plain) == []
    with pytest.raises(UserError, match="this model has none; use adamw"):
        make_optimizers(plain, Training(optimizer="muon"))


def test_a_factor_is_of_the_highest_rate_and_not_of_the_last():
    made = make_optimizers(VisionTransformer(depth=1), Training(optimizer="muon", lr=0.01))
    for factor in (0.5, 0.5, 1.0, 0.25):
        set_lr(made, factor)
        rates = [group["lr"] for each in made for group in each.param_groups]
        assert rates == pytest.approx([0.02 * factor, 0.01 * factor, 0.01 * factor])
