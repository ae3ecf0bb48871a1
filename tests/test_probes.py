"Probes find what was planted and nothing in noise, off any model, which stays as it was."

import pytest
import torch

from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.model import create_model
from vit_mnist.probes import STRENGTHS, control_values, count_holes, digit_properties, fit_probes
from vit_mnist.probes import image_kinds, plot_probes, probe_layers, read_layers


def drawn(n=400, dim=12):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(0))


def test_planted_properties_are_found_and_noise_does_not_beat_its_control():
    states = drawn()
    hidden = {"number": states @ torch.linspace(-1, 1, 12), "class": states[:, :3].argmax(1)}
    found = fit_probes(states, hidden)
    assert found["number"].score > 0.999 and found["class"].score > 0.8
    torch.testing.assert_close(found["number"].read(states), hidden["number"], atol=0.05, rtol=0.02)
    kinds = torch.arange(400) % 20
    values = {"a": torch.randint(4, (400,), generator=torch.Generator().manual_seed(1))}
    control = {"c": control_values(values["a"], kinds)}
    noise = fit_probes(states, values | control)
    assert abs(noise["a"].score - noise["c"].score) < 0.25 and noise["a"].score < 0.15


def test_kinds_can_be_learnt_by_heart_when_the_numbers_tell_them_apart():
    kinds = torch.arange(400) % 20
    control = {"c": control_values(torch.arange(400) % 4, kinds)}
    one_hot = torch.nn.functional.one_hot(kinds).float()
    assert fit_probes(one_hot, control)["c"].score == 1
    assert fit_probes(drawn(), control)["c"].score < 0.2


def test_the_penalty_is_chosen_on_images_that_did_not_fit():
    # more numbers than images: any noise can be learnt by heart, which helps for no other image
    noise = fit_probes(drawn(100, 300), {"it": drawn(100, 1)[:, 0].roll(1)})["it"]
    there = fit_probes(drawn(100, 12), {"it": drawn(100, 12)[:, 0]})["it"]
    assert noise.strength == max(STRENGTHS) > there.strength == min(STRENGTHS)
    assert abs(noise.score) < 0.2


def test_holes_are_counted():
    image = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    image[0, 0, 3:12, 3:12], image[0, 0, 5:10, 5:10] = 255, 0
    image[0, 0, 15:25, 15:25], image[0, 0, 17:23, 17:23] = 255, 0
    image[1, 0, :, 10] = 255  # a line from edge to edge encloses nothing
    assert count_holes(image).tolist() == [2, 0]


@pytest.mark.parametrize("name", ["parallel_vit", "simple_flash_attn_vit", "timm"])
def test_any_model_with_a_stream_is_probed_and_left_as_it_was(name, rgb):
    if name == "timm":
        model, images = rgb, torch.randn(24, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    else:
        model, images = create_model(name, seed=0, size="tiny"), load_data().valid.images[:24]
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    mode = model.training
    values = {"brightness": images.float().flatten(1).mean(1), "first half": torch.arange(24) < 12}
    table = probe_layers(model, images, values, kinds=5)
    assert table.rows[:3] == ("pixels", "embedding", "layer 0")
    assert table.score.shape == table.control.shape == (len(table.rows), 2)
    torch.testing.assert_close(table.selectivity, table.score - table.control)
    assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
    assert model.training is mode
    shown = plot_probes({"it": table}).axes[0].images[0].get_array()
    torch.testing.assert_close(torch.from_numpy(shown.data.copy()).float(), table.score)


def test_mistakes_are_told_in_a_line():
    states = drawn(40)
    model, images = create_model("vit", seed=0, size="tiny"), load_data().valid.images[:24]
    mistakes = [
        lambda: fit_probes(states, {}),
        lambda: fit_probes(states, {"a": torch.zeros(3)}),
        lambda: fit_probes(states, {"a": ["x"] * 40}),
        lambda: fit_probes(states, {"a": torch.full((40,), torch.nan)}),
        lambda: fit_probes(drawn(200), {"a": torch.arange(200)}),
        lambda: fit_probes(states.long(), {"a": torch.arange(40) % 2}),
        lambda: fit_probes(states[:5], {"a": torch.arange(5) % 2}),
        lambda: read_layers(model, images, read="first"),
        lambda: read_layers(model, images, read=99),
        lambda: probe_layers(model, images, {"a": torch.zeros(9)}),
        lambda: digit_properties(load_data().valid.take(2).__class__(images / 255, images, ())),
        lambda: plot_probes({}),
    ]
    for mistake in mistakes:
        with pytest.raises(UserError) as error:
            mistake()
        assert "\n" not in str(error.value)


def test_images_that_are_all_alike_are_one_kind():
    assert image_kinds(torch.zeros(30, 1, 28, 28)).tolist() == [0] * 30
