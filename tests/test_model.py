"model: what a name builds, what a mistake leaves behind, and what a file brings back."

from dataclasses import replace

import pytest
import torch
from torch import nn

from vit_mnist.core import UserError
from vit_mnist.data import load_data, normalise
from vit_mnist.layout import Tokens, AttentionLayout, Layout
from vit_mnist.model import about, batch_logits, count_flops, count_parameters, create_model
from vit_mnist.model import eval_mode, evaluating, load_model, model_for, save_model

IMAGES = load_data().test.images[:8]


def tiny(**settings):
    return create_model("vit", seed=0, size="tiny", **settings)


def test_a_seed_decides_the_weights_and_leaves_other_random_numbers_alone():
    state = torch.get_rng_state()
    one, same, other = tiny(), tiny(), create_model("vit", seed=1, size="tiny")
    assert torch.equal(torch.get_rng_state(), state)
    weights = [model.mlp_head.weight for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(depth=129), "depth must be from 1 to 128, not 129"),
        (dict(depth=0), "depth must be from 1 to 128, not 0"),
        (dict(mlp_dim=8193), "mlp_dim must be from 1 to 8192, not 8193"),
        (dict(dropout=1.0), "dropout must be at least 0 and below 1, not 1.0"),
        (dict(emb_dropout=-0.1), "emb_dropout must be at least 0"),
        (dict(heads=float("nan")), "must be a number, a word or a tuple"),
        (dict(heads={}), "must be a number, a word or a tuple of these, not '{}'"),
        (dict(pool="max"), "can't build vit with these settings"),
        (dict(num_classes=0), "num_classes must be from 1"),
        (dict(channels=3), "can't build vit with these settings"),  # the image is gray
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(settings, message):
    with pytest.raises(UserError) as told:
        tiny(**settings)
    assert message in str(told.value) and "\n" not in str(told.value)


def test_the_ends_of_a_range_are_allowed_and_lists_become_tuples():
    model = tiny(depth=1, dropout=0, emb_dropout=0.99, num_classes=1, patch_size=[28, 28])
    assert model.spec.args["patch_size"] == (28, 28) and model.spec.classes == ("0",)
    registers = create_model("simple_uvit", size="tiny", num_register_tokens=0)
    assert about(registers).layouts[0].queries == Tokens((4, 4))


def test_modes_and_random_numbers_come_back_after_an_error():
    model = nn.Sequential(nn.Dropout(), nn.Linear(2, 2).eval())
    state = torch.get_rng_state()
    for manager in (eval_mode, evaluating):
        with pytest.raises(ZeroDivisionError), manager(model):
            assert not model[0].training and torch.rand(3).sum() > 0
            1 / 0
        assert [part.training for part in model.modules()] == [True, True, False]
        assert torch.is_grad_enabled()
    assert not torch.equal(torch.get_rng_state(), state)  # of eval_mode's draw


def test_logits_are_those_of_evaluation_for_pixels_and_for_floats():
    model = create_model("cnn", seed=0, size="tiny").train()
    expected = model.eval()(normalise(IMAGES))
    model.train()
    for images in (IMAGES, normalise(IMAGES)):
        found = batch_logits(model, images, batch_size=3)
        torch.testing.assert_close(found, expected)
        assert not found.requires_grad and model.training


def test_costs_are_those_of_arithmetic():
    model = nn.Sequential(nn.Conv2d(1, 6, 5, 2), nn.Flatten(), nn.Linear(6 * 12 * 12, 10))
    assert count_parameters(model) == 6 * 25 + 6 + 864 * 10 + 10
    assert count_flops(model) == 2 * (6 * 12 * 12 * 25 + 864 * 10)
    model[0].requires_grad_(False)
    assert count_parameters(model) == 864 * 10 + 10  # what training changes


def test_a_model_of_ones_own_is_known_by_what_it_declares():
    own = nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
    assert (about(own).name, about(own).declared, about(own).shape) == ("Sequential", None, None)
    assert about(nn.Flatten()).device is None and about(own).device.type == "cpu"
    grid, back = Tokens((4, 4)), Tokens(before=("layer",) * 2)
    among = (
        AttentionLayout(grid),
        AttentionLayout(Tokens((4, 4), window=(1, 1)), back, role="depth"),
    )
    own.layout = Layout("grid", lambda args: among)
    assert about(own).declared == among and about(own).layouts == among[:1]
    assert about(own).borders == [7, 14, 21] and about(own).class_names(3) == ["0", "1", "2"]
    assert [about(tiny(patch_size=size)).patch_side() for size in (2, 14)] == [2, 14]
    padded = about(create_model("twins_svt", size="tiny"))  # 32 pixels in 8 patches, 2 outside
    assert padded.borders == [4 * i - 2 for i in range(1, 8)]


def test_a_file_brings_back_weights_names_and_normalisation_and_is_the_same_each_time(tmp_path):
    data = load_data()
    few = replace(data, name="own", train=replace(data.train, classes=tuple("abc")), mean=0.25)
    model = model_for(few, "vit", seed=0, size="tiny").train()
    for name in ("one.safetensors", "new/model.safetensors"):
        save_model(model, tmp_path / name)
    loaded = load_model(tmp_path / "new")
    assert loaded.spec == model.spec and loaded.spec.classes == tuple("abc")
    assert not loaded.training and model.training
    assert torch.equal(batch_logits(loaded, IMAGES), batch_logits(model, IMAGES))
    files = [path.read_bytes() for path in sorted(tmp_path.rglob("*.safetensors"))]
    assert files[0] == files[1]
    with pytest.raises(UserError, match="only a model made by create_model"):
        save_model(nn.Linear(1, 1), tmp_path / "own" / "model.safetensors")
    assert not (tmp_path / "own").exists()
