"model: what a name builds, what a mistake leaves behind, and what a file brings back."

import json
import math
import os
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from vit_mnist.core import UserError
from vit_mnist.data import load_data, normalise
from vit_mnist.layout import Tokens, AttentionLayout, Layout
from vit_mnist.model import about, batch_logits, count_flops, count_parameters, create_model
from vit_mnist.model import eval_mode, evaluating, load_model, model_for, safetensors_bytes
from vit_mnist.model import save_model

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


SMALL = dict(size="tiny", dim=8, depth=1, heads=1, dim_head=4, mlp_dim=8)


def refused(path, model, weights=None, **changes):
    "Save a model with changes to its metadata or its weights; return the line that refuses it"
    metadata = {"vit_mnist": json.dumps({**asdict(model.spec), **changes})}
    path.write_bytes(safetensors_bytes({**model.state_dict(), **(weights or {})}, metadata))
    with pytest.raises(UserError) as told:
        load_model(path)
    line = str(told.value)
    assert line.isprintable() and len(line) <= 1000 and line.startswith(str(path))
    return line


@pytest.mark.parametrize(
    "name",
    [
        *(
            "\x1b]0;owned\x07",
            "\x1b[2J",
            "\0",
            "7 (100.0 %)\nb.png: 3",
            "\u202e7",
            "\ud800",
            "\x9b",
        ),
        *("a" * 101, "a" * 100_000, "", "1", 5, None, True, ["a"]),
    ],
    ids=lambda name: ascii(name)[:20],
)
def test_a_name_that_nobody_should_print_is_refused_with_the_file(tmp_path, name):
    model = create_model("vit", seed=0, **SMALL)
    line = refused(tmp_path / "model", model, classes=[name, *"123456789"])
    wanted = (
        "two classes have the same name" if name == "1" else "a name must be 1 to 100 characters"
    )
    assert wanted in line
    refused(tmp_path / "model", model, classes=list("012345678"))
    refused(tmp_path / "model", model, data="\x1b[2J")
    refused(tmp_path / "model", model, args={**model.spec.args, "\x1b[2J" * 10**5: 1})
    refused(tmp_path / "model", model, name="a" * 10**6)


def test_names_of_any_writing_are_kept_to_a_hundred_characters(tmp_path):
    names = ("a" * 100, "ü", "数字", "🙂", "אבג", "$x^$", "a b", "T-shirt/top", "8", "9")
    model = create_model("vit", seed=0, **SMALL)
    model.spec = replace(model.spec, classes=names, mean=0, std=1e-4)
    save_model(model, tmp_path / "model")
    assert load_model(tmp_path / "model").spec == model.spec


def test_a_name_that_no_file_may_hold_is_refused_before_training():
    data = load_data()
    own = replace(data, name="own", train=replace(data.train, classes=("a\nb", *"123456789")))
    with pytest.raises(UserError, match="a name must be 1 to 100 characters"):
        model_for(own, "vit", **SMALL)
    numbers = replace(data, train=replace(data.train, classes=tuple(range(10))))
    assert model_for(numbers, "vit", **SMALL).spec.classes == tuple("0123456789")


@pytest.mark.parametrize("value", [1e-38, -1, 1e308, math.inf, math.nan, True, "0.3", None, [0.3]])
def test_pixels_are_normalised_by_real_numbers(tmp_path, value):
    model = create_model("vit", seed=0, **SMALL)
    assert "standard deviation must be a number" in refused(tmp_path / "model", model, std=value)
    if value not in (1e-38, -1):
        assert "mean must be a number" in refused(tmp_path / "model", model, mean=value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    model = create_model("vit", seed=0, **SMALL)
    for name in ("cls_token", "mlp_head.bias"):
        weight = model.state_dict()[name].clone()
        weight.flatten()[-1] = value
        line = refused(tmp_path / "model", model, {name: weight})
        assert "holds weights that are no numbers" in line
    large = {"mlp_head.bias": torch.full((10,), 1e300, dtype=torch.double)}  # no float32
    assert "holds weights that are no numbers" in refused(tmp_path / "model", model, large)
    huge = {"mlp_head.weight": torch.full((10, 8), 3e38)}  # numbers, but what they give is none
    assert "answers are no numbers" in refused(tmp_path / "model", model, huge)
    whole = {"mlp_head.bias": torch.zeros(10, dtype=torch.long)}
    assert "weights of another architecture" in refused(tmp_path / "model", model, whole)


def test_places_in_a_table_are_those_of_the_architecture(tmp_path):
    model = create_model("levit", seed=0, size="tiny")
    places = next(name for name in model.state_dict() if name.endswith("pos_indices"))
    line = refused(tmp_path / "model", model, {places: model.state_dict()[places] + 10**6})
    assert f"holds another {places} than that of its architecture" in line
    net = create_model("cnn_strong", seed=0, size="tiny")
    negative = {k: -torch.ones_like(v) for k, v in net.state_dict().items() if "running_var" in k}
    assert "answers are no numbers" in refused(tmp_path / "model", net, negative)


ASKS = {
    "vit": [
        *(dict(depth=128), dict(heads=128, dim_head=8192, patch_size=1), dict(dim=8192)),
        *(
            dict(depth=128, dim=1, mlp_dim=1, dim_head=1),
            dict(depth=10**9),
            dict(depth=[128] * 128),
        ),
    ],
    "looped_vit": [dict(num_looped_blocks=128, loop_depth=128, dim=1, mlp_dim=1)],
    "parallel_vit": [dict(depth=128, num_parallel_branches=128, dim=1, mlp_dim=1, dim_head=1)],
    "max_vit": [dict(window_size=128), dict(depth=[128] * 128)],
}
ASKS = [(name, args) for name, many in ASKS.items() for args in many]


@pytest.mark.parametrize("name, args", ASKS, ids=lambda value: str(value)[:50])
def test_a_file_of_a_few_bytes_builds_no_more_than_that(tmp_path, monkeypatch, name, args):
    made = []
    own = nn.Module.__init__
    monkeypatch.setattr(nn.Module, "__init__", lambda self, *a, **k: made.append(1) or own(self))
    metadata = {**asdict(create_model("vit", **SMALL).spec), "name": name}
    metadata["args"] = {"num_classes": 10, **args}
    made.clear()
    path = tmp_path / "model"
    path.write_bytes(safetensors_bytes({"a": torch.ones(3)}, {"vit_mnist": json.dumps(metadata)}))
    with pytest.raises(UserError, match="can't be loaded"):
        load_model(path)
    assert len(made) < 500


def test_weights_whose_results_are_far_wider_than_they_are_refused_before_they_are_computed():
    with pytest.raises(UserError, match="computes more than 33.6 million numbers at once"):
        tiny(depth=1, dim=1, mlp_dim=1, heads=64, dim_head=2048, patch_size=1)
    with pytest.raises(UserError, match="takes far too long for one image"):
        create_model("looped_vit", size="tiny", num_looped_blocks=128, loop_depth=64)


def test_a_model_of_wide_results_gets_fewer_images_at_once():
    model, seen = create_model("cnn", seed=0, size="tiny"), []
    expected = batch_logits(model, IMAGES)
    model.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    model.widest = 2**26 // 3
    torch.testing.assert_close(batch_logits(model, IMAGES), expected)
    assert seen == [3, 3, 2]


def test_only_a_regular_file_of_bounded_size_is_opened(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    os.mkfifo(run / "model.safetensors")
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(2**40)
    (tmp_path / "header").write_bytes((2**31).to_bytes(8, "little") + b"{" * 100)
    for name, why in {
        "run": "not a file but a device or a pipe",
        "run/model.safetensors": "not a file but a device or a pipe",
        "/dev/zero": "not a file but a device or a pipe",
        "sparse": "sparse has more than 1,024 MB",
        "header": "its header is too long",
        "missing": "no such file",
    }.items():
        with pytest.raises(UserError, match=why):
            load_model(tmp_path / name)
