"Pictures: what is drawn where, in which colours, and distances and entropies computed by hand."

from dataclasses import replace

import pytest
import torch
from torch import nn

from vit_mnist.attention import Attention
from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.layout import AttentionLayout, Tokens
from vit_mnist.maps import AttentionMaps
from vit_mnist.model import about
from vit_mnist.pictures import (
    attention_distance,
    attention_entropy,
    layer_list,
    logit_lens,
    plot_attention,
    plot_attention_distance,
    plot_class_attention,
    plot_logit_lens,
    plot_patch_filters,
    plot_position_similarity,
    plot_query,
)
from vit_mnist.weights import load_pretrained

IMAGE = torch.ones(1, 1, 28, 28)
IMAGE[..., 14:] = 3


def toy(matrix, tokens, pad=0):
    "Make the maps of one attention `[windows * heads, queries, keys]` over one image"
    attention, known = Attention(0, matrix[None], matrix[None], None), about(nn.Identity())
    layouts, known = (AttentionLayout(tokens),), replace(known, pad=pad)
    return AttentionMaps([attention], layouts, torch.zeros(1, 10), IMAGE, known)


def test_a_map_covers_the_border_and_is_coloured_from_nothing_to_its_largest_share():
    matrix = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).expand(1, 4, 4)
    maps = toy(matrix, Tokens((2, 2)), pad=2)
    (axis,), digit = plot_attention(maps).axes, plot_query(maps, (0, 1)).axes[0]
    shown, outline = axis.images[0], axis.collections[0]
    assert shown.get_array().tolist() == [[0.5, 0.25], [0.125, 0.125]]
    assert (shown.get_clim(), shown.cmap.name) == ((0, 0.5), "cividis")
    assert shown.get_extent() == [-2.5, 29.5, 29.5, -2.5]  # two pixels more on each side
    assert (axis.get_xlim(), axis.get_ylim()) == ((-0.5, 27.5), (27.5, -0.5))
    assert (axis.get_title(), axis.texts[0].get_text()) == ("Head 0\n50 %", "Layer 0")
    assert outline.levels == [2]  # between darkest and brightest
    assert torch.equal(torch.tensor(digit.images[0].get_array().data), IMAGE[0, 0])
    assert digit.patches[0].get_bbox().bounds == (13.5, -2.5, 16, 16)
    for axis in digit.xaxis, digit.yaxis:  # rows and columns from 0, in the middle of their cells
        assert [label.get_text() for label in axis.get_ticklabels()] == ["0", "1"]
        assert axis.get_ticklocs().tolist() == [5.5, 21.5]


def test_distance_is_measured_on_the_image_with_its_border_and_among_places():
    far = torch.tensor([[0.0, 0, 1], [0.5, 0, 0.5], [0, 0, 1]])  # half for the class token
    tokens = Tokens((1, 2), before=("cls",))
    maps = toy(torch.stack([torch.eye(3), far]), tokens, pad=2)
    assert attention_distance(maps)[0].tolist() == [0, 8]  # of 32 pixels in two cells
    axis = plot_attention_distance(maps).axes[0]
    mean, equal = axis.lines
    assert mean.get_ydata() == [4] and equal.get_ydata() == [8, 8]
    assert axis.collections[0].get_offsets().tolist() == [[0, 0], [0, 8]]
    with pytest.raises(UserError, match="Identity has no attention between places"):
        plot_attention_distance(toy(far[None], Tokens(before=("channel",) * 3)))


def test_the_mean_of_a_class_says_which_layer_and_head():
    split, model = load_data().test.take(4), load_pretrained("explain")  # 7, 2, 1, 0
    last = plot_class_attention(model, split)._suptitle.get_text()
    assert last == "Mean attention of the last layer over 4 images"
    fig = plot_class_attention(model, split, layer=0)
    assert fig._suptitle.get_text() == "Mean attention of layer 0 over 4 images"
    assert [fig.axes[10 * row].texts[0].get_text() for row in (1, 4)] == ["Head 0", "Head 3"]
    assert torch.equal(torch.tensor(fig.axes[2].images[0].get_array().data), split.images[1, 0])


def test_entropy_is_the_mean_over_windows_for_each_head():
    even, sharp = torch.full((4, 4), 0.25), torch.eye(4)
    maps = toy(torch.stack([even, sharp, even, even]), Tokens((2, 4), window=(2, 2)))
    assert attention_entropy(maps)[0].tolist() == [1, 0.5]


def test_filters_and_positions_are_drawn_with_zero_in_the_middle_of_the_colours():
    model = nn.Sequential(nn.Conv2d(1, 4, 2))
    model.pos_embedding = torch.tensor([[9.0, 9], [1, 0], [0, 1], [3, 4], [-3, 4]])  # cls first
    rows = 1 + torch.tensor([[2.0, 0], [-2, 0], [0, 1], [0, -1]])  # of each filter, both alike
    model[0].weight.data = rows[:, None, None].expand(4, 1, 2, 2)
    first, second = plot_patch_filters(model, n=2).axes
    assert [first.get_title(), second.get_title()] == ["80 %", "20 %"]  # 8 and 2 of 10
    for axis in first, second:
        assert axis.images[0].get_clim() == pytest.approx((-(0.5**0.5), 0.5**0.5))
    tiles = plot_position_similarity(model).axes[0].images[0]
    assert tiles.get_array()[:2, :2].tolist() == [[1, 0], [pytest.approx(0.6), pytest.approx(-0.6)]]
    assert tiles.get_clim() == pytest.approx((-0.8, 0.8))


class Doubled(nn.Module):
    "Double three numbers of the image in each of some layers"

    def __init__(self, layers):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(3, 3, bias=False) for _ in range(layers))
        for layer in self.blocks:
            layer.weight.data = 2 * torch.eye(3)

    def forward(self, images):
        return nn.Sequential(*self.blocks)(images[:, 0, 0, 13:16])


def test_the_lens_shows_the_answer_after_each_layer_and_one_layer_is_no_list():
    images = IMAGE.repeat(5, 1, 1, 1)
    expected = torch.stack([(images[:, 0, 0, 13:16] * scale).softmax(1) for scale in (1, 2, 4)])
    assert torch.allclose(logit_lens(Doubled(2), images), expected)
    fig = plot_logit_lens(Doubled(2), images, classes="abc")
    axis, bar = fig.axes[4], fig.axes[8]  # below four digits, and beside them
    assert torch.allclose(torch.tensor(axis.images[0].get_array().data), expected[:, 0].T)
    assert (axis.images[0].get_clim(), list(axis.get_xticks())) == ((0, 1), [0, 1, 2])
    assert [label.get_text() for label in axis.get_yticklabels()] == list("abc")
    assert bar.get_ylabel() == "probability"
    with pytest.raises(UserError, match="no list of equal layers"):
        layer_list(Doubled(1))
