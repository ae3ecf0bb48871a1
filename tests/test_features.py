"Planted sparse features are found; exact tokens change nothing; models stay as they were."

import pytest
import torch
import torch.nn.functional as F

from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.features import explained_variance, fit_autoencoder, measure_autoencoder
from vit_mnist.features import plot_top_patches, steer_logits, substitute_tokens, top_patches
from vit_mnist.inside import look_inside
from vit_mnist.model import create_model


def test_planted_sparse_features_are_rebuilt_and_found():
    rng = torch.Generator().manual_seed(0)
    planted = F.normalize(torch.randn(12, 24, generator=rng), dim=1)
    amounts = torch.rand(3000, 12, generator=rng) + 0.5
    kept = torch.rand(3000, 12, generator=rng).topk(2).indices
    states = torch.zeros(3000, 12).scatter(1, kept, amounts.gather(1, kept)) @ planted
    found = fit_autoencoder(states[:2000], 24, active=3, steps=500, batch_size=256)
    assert explained_variance(states[2000:], found(states[2000:])) > 0.9
    assert ((planted @ found.directions.T).max(1).values > 0.8).float().mean() > 0.7
    assert (found.encode(states) > 0).sum(1).max() <= 3
    torch.testing.assert_close(found.directions.norm(dim=1), torch.ones(24))
    noise = torch.randn(2000, 24, generator=rng)
    chance = fit_autoencoder(noise, 24, active=3, steps=200, batch_size=256)
    assert explained_variance(noise, chance(noise)) < 0.7


@pytest.mark.parametrize("name", ["vit", "parallel_vit", "simple_flash_attn_vit", "timm"])
def test_exact_tokens_change_nothing_in_any_model(name, rgb):
    own = name == "timm"
    model = rgb if own else create_model(name, seed=0, size="tiny")
    images = torch.randn(3, 3, 48, 64) if own else load_data().valid.images[:3]
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    mode, inside = model.training, look_inside(model, images)
    for layer, tokens in enumerate(inside.tokens):
        assert torch.equal(substitute_tokens(inside, layer, tokens), inside.logits)
        direction = torch.randn(tokens.shape[-1])
        assert torch.equal(steer_logits(inside, layer, direction, 0), inside.logits)
        assert not torch.equal(steer_logits(inside, layer, direction, 1), inside.logits)
    assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
    assert model.training is mode
    assert len(plot_top_patches(inside, inside.tokens[0], [0, 1], 3).axes) == 6


def test_an_autoencoder_that_keeps_everything_costs_nothing():
    model, split = create_model("vit", seed=0, size="tiny"), load_data().valid.take(20)
    states = look_inside(model, split.images).tokens[0]
    dim = states.shape[-1]
    whole = fit_autoencoder(states, 2 * dim, active=2 * dim, steps=1)
    both = torch.cat([torch.eye(dim), -torch.eye(dim)])
    whole.encoder.data, whole.directions.data = both, both
    kept = measure_autoencoder(whole, model, split, 0)
    assert kept["explained"] > 0.9999 and kept["substituted"] == kept["accuracy"]
    assert kept["live"] == 2 * dim


def test_a_seed_decides_and_the_callers_numbers_stay():
    states = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    runs = [fit_autoencoder(states, 16, 2, steps=5, seed=seed).directions for seed in (0, 0, 1)]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_the_best_patches_come_first_and_from_different_images():
    values = torch.tensor([[0.0, 5], [9, 8], [1, 2]])
    images, tokens = top_patches(values, 2)
    assert images.tolist() == [1, 0] and tokens.tolist() == [0, 1]


def test_mistakes_are_told_in_a_line():
    model, images = create_model("vit", seed=0, size="tiny"), load_data().valid.images[:2]
    inside = look_inside(model, images)
    states, dim = inside.tokens[0], inside.embedding.shape[-1]
    mistakes = [
        lambda: fit_autoencoder(states, 4, active=5),
        lambda: fit_autoencoder(states * torch.nan),
        lambda: substitute_tokens(inside, 99, states),
        lambda: substitute_tokens(inside, 0, states[:1]),
        lambda: steer_logits(inside, 0, torch.zeros(dim), 1),
        lambda: steer_logits(inside, 0, torch.ones(dim + 1), 1),
        lambda: top_patches(states),
        lambda: plot_top_patches(inside, states[:, 1:], [0]),
    ]
    for mistake in mistakes:
        with pytest.raises(UserError) as error:
            mistake()
        assert "\n" not in str(error.value)
