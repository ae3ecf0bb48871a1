"Faithfulness: curves counted by hand, fills, ranks against SciPy's, intervals, what seeds decide."

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from vit_mnist.core import UserError, make_generator
from vit_mnist.data import load_data
from vit_mnist.faithfulness import (
    accuracy_curve,
    area_between,
    area_under_curve,
    bootstrap,
    class_discrimination,
    deletion_curve,
    insertion_curve,
    noisy_linear,
    patch_order,
    plot_curves,
    randomisation_test,
    randomised_model,
    rank_correlation,
    removed_pixels,
)
from vit_mnist.weights import load_pretrained

ONES, BLANK = torch.ones(2, 1, 28, 28), torch.zeros(1, 28, 28)
RANDOM = torch.rand(2, 28, 28, generator=torch.Generator().manual_seed(0))


class Count(nn.Module):
    "Count the patches that are left: class 0 where they are 25 or more, else class 1"

    def __init__(self):
        super().__init__()
        self.enough = nn.Parameter(torch.tensor(24.5))

    def forward(self, images):
        surplus = images.sum((1, 2, 3)) / 16 - self.enough
        return torch.stack([surplus, -surplus], 1)


def test_a_class_is_followed_from_the_whole_image_to_none_of_it_and_back():
    left = torch.tensor([49, 37, 25, 12, 0])  # a quarter less each time, rounded
    expected = (2 * (left - 24.5)).sigmoid()
    options = dict(fill=BLANK, points=5)
    for target, curve in (None, expected), (0, expected), (1, 1 - expected):
        down = deletion_curve(Count(), ONES, RANDOM, target, **options)
        assert torch.allclose(down, curve.expand(2, 5), atol=1e-6)
    up = insertion_curve(Count(), ONES, RANDOM, **options)
    assert torch.allclose(up, expected.flip(0).expand(2, 5), atol=1e-6)
    assert deletion_curve(Count(), ONES, RANDOM).shape == (2, 13)  # where nothing is said
    # what counts patches does not care which of them go first
    assert not area_between(Count(), ONES, RANDOM, fill=BLANK).any()


def test_accuracy_is_counted_at_each_tenth_for_each_images_label():
    correct = accuracy_curve(Count(), ONES, RANDOM, torch.tensor([0, 1]), fill=BLANK)
    # 0, 5, 10, 15, 20, 24 of 49 patches gone leave 25 or more
    assert correct.tolist() == [[1] * 6 + [0] * 4, [0] * 6 + [1] * 4]
    with pytest.raises(UserError, match="'worst'; did you mean 'most'|known: most, least"):
        accuracy_curve(Count(), ONES, RANDOM, torch.tensor([0, 1]), first="worst", fill=BLANK)


@pytest.mark.parametrize("seed", range(3))
def test_ranks_correlate_as_scipy_says_with_equals_and_without(seed):
    rng = torch.Generator().manual_seed(seed)
    one, other = (torch.randint(6, (2, 4, 4), generator=rng).float() for _ in range(2))
    expected = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(one, other)]
    assert rank_correlation(one, other, 1).tolist() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(rank_correlation(one.exp(), other, 1), rank_correlation(one, other, 1))


def test_an_interval_is_the_quantiles_of_means_drawn_by_the_seed():
    values, state = torch.tensor([0.0, 0, 0, 1]), torch.get_rng_state()
    mean, low, high = bootstrap(values, level=0.5)
    assert (mean, low, high) == (0.25, 0, 0.5)  # binomial: P(0) = 0.32, P(2 or more) = 0.26
    assert bootstrap(RANDOM[0, 0]) == bootstrap(RANDOM[0, 0]) != bootstrap(RANDOM[0, 0], seed=1)
    assert bootstrap(values, level=1)[1:] == (0, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert area_under_curve(torch.tensor([[2.0, 2, 2], [0, 1, 2]])).tolist() == [2, 1]


def test_as_many_means_are_drawn_as_asked_for_and_an_image_is_28_by_28():
    means = []
    rng = make_generator(3, "bootstrap")
    for count in (100, 100, 50):
        means.append(RANDOM[0, 0].double()[torch.randint(28, (count, 28), generator=rng)].mean(1))
    ends = torch.cat(means).quantile(torch.tensor([0.05, 0.95], dtype=torch.double))
    found = bootstrap(RANDOM[0, 0], level=0.9, resamples=250, seed=3)
    assert found == (RANDOM[0, 0].double().mean(), *ends.tolist())
    assert removed_pixels(torch.arange(784)[None], 1, patch_size=1).nonzero().tolist() == [[0] * 4]


def test_linear_fill_keeps_what_is_there_and_adds_noise_of_the_seed():
    removed = removed_pixels(patch_order(RANDOM), 20)
    flat = noisy_linear(ONES, removed, noise=0)
    assert torch.allclose(flat, ONES, atol=1e-3)  # nothing but ones around
    noisy, again = (noisy_linear(ONES, removed, noise=0.5) for _ in range(2))
    assert torch.equal(noisy, again) and torch.equal(noisy[~removed], ONES[~removed])
    assert (noisy - flat)[removed].std() == pytest.approx(0.5, rel=0.1)
    assert not torch.equal(noisy, noisy_linear(ONES, removed, noise=0.5, seed=1))


def test_maps_that_change_places_change_the_sign_of_what_they_tell_apart():
    model, images = load_pretrained("explain"), load_data().test.images[:2]
    classes = torch.tensor([7, 2]), torch.tensor([2, 1])
    lead = class_discrimination(model, images, (RANDOM, RANDOM.flip(1)), classes)
    assert lead.abs().min() > 0
    assert torch.allclose(
        class_discrimination(model, images, (RANDOM.flip(1), RANDOM), classes), -lead
    )
    assert torch.allclose(
        class_discrimination(model, images, (RANDOM, RANDOM.flip(1)), classes[::-1]), -lead
    )


def test_the_original_of_a_randomised_model_is_left_and_its_answer_is_explained():
    model, images = load_pretrained("explain"), load_data().test.images[:4]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scores = randomisation_test(model, images, "grad_attention", layer=2)
    assert scores.shape == (4,) and scores.abs().max() < 0.99
    assert torch.equal(scores, randomisation_test(model, images, "grad_attention", layer=2))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    one, two = (randomised_model(model, seed).state_dict() for seed in (0, 1))
    assert all(
        torch.equal(one[name].flatten().sort()[0], before[name].flatten().sort()[0]) for name in one
    )
    assert not torch.equal(one["mlp_head.weight"], two["mlp_head.weight"])


def test_curves_are_drawn_as_means_with_bands_of_one_colour_and_a_line_of_their_own():
    curves = {"a": torch.tensor([[1.0, 0.5], [0.5, 0.5]]), "b": torch.zeros(2, 2)}
    axis = plot_curves(curves, "two").axes[0]
    assert [list(line.get_ydata()) for line in axis.lines] == [[0.75, 0.5], [0, 0]]
    assert [list(line.get_xdata()) for line in axis.lines] == [[0, 100]] * 2
    assert [line.get_linestyle() for line in axis.lines] == ["-", "--"]
    band = axis.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (0.5, 1)
    assert (axis.get_title(), axis.get_ylim()[0]) == ("two", 0)
    assert axis.get_xlabel() == "patches removed, %"
    assert axis.get_ylabel() == "probability of the predicted class"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a", "b"]


def test_curves_have_13_points_and_patches_of_4_pixels_unless_told_otherwise():
    model, maps = load_pretrained("explain"), RANDOM
    images, asked = load_data().test.images[:2], {"points": 13, "patch_size": 4}
    for measure in deletion_curve, insertion_curve, area_between:
        assert torch.equal(measure(model, images, maps), measure(model, images, maps, **asked))
    order = patch_order(maps, 4)
    assert removed_pixels(order, 5).shape == (2, 1, 28, 28)
    assert removed_pixels(order, 5).sum((1, 2, 3)).tolist() == [80, 80]
