"Maps: attention computed by hand, of windows and of tokens that share a name; gradients; means."

import pytest
import torch
from torch import nn

from vit_mnist.attention import Attention
from vit_mnist.core import UserError
from vit_mnist.data import Split
from vit_mnist.layout import AttentionLayout, Tokens, grid_layout
from vit_mnist.maps import AttentionMaps, capture_attention, mean_map, token_words
from vit_mnist.model import about

SHARES = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.4, 0.4], [0.1, 0.2, 0.7]])  # rows: cls, left, right
PIXELS = torch.tensor([1.0, 2]).view(2, 1, 1, 1).expand(2, 1, 28, 28)  # two images of one gray


class Known(nn.Module):
    "Answer with what a class token takes from the values 0, 1, 3, times the image's gray"

    layout = grid_layout((1, 2), before=("cls",))

    def __init__(self):
        super().__init__()
        self.scores = nn.Parameter(SHARES.log()[None, None])

    def forward(self, images):
        values = torch.tensor([[0.0], [1], [3]]) * images[:, :, :1, :1]
        answer = (self.scores.softmax(-1) @ values)[:, 0, 0]
        return torch.cat([answer, -answer], 1)


def by_hand(matrix, tokens):
    "Make the maps of one attention `[windows * heads, queries, keys]` for one image"
    attention = Attention(0, matrix[None], matrix[None], None)
    image, known = torch.zeros(1, 1, 28, 28), about(nn.Identity())
    return AttentionMaps([attention], (AttentionLayout(tokens),), torch.zeros(1, 2), image, known)


@pytest.mark.parametrize("target, signs", [(None, [1, 1]), (1, [-1, -1]), ([0, 1], [1, -1])])
def test_grad_is_the_derivative_of_each_images_own_class(target, signs):
    model = Known()
    maps = capture_attention(model, PIXELS, gradients=True).backward(target)
    expected = [[sign * gray, 3 * sign * gray] for sign, gray in zip(signs, [1, 2])]
    assert maps.on_grid(of="grad").flatten(1).tolist() == expected
    assert not maps.on_grid(query="mean", of="grad").any()  # only the class token's row is read
    assert model.scores.grad is None and model.training


def test_each_query_finds_its_window_and_the_class_tokens_of_windows_share_one_map():
    matrix = torch.arange(1.0, 51).view(2, 5, 5)
    maps = by_hand(matrix, Tokens((2, 4), before=("cls",), window=(2, 2)))
    assert maps.on_grid(query=(1, 2))[0, 0].tolist() == [[0, 0, 42, 43], [0, 0, 44, 45]]
    assert maps.on_grid()[0, 0].tolist() == [[1, 1.5, 13.5, 14], [2, 2.5, 14.5, 15]]  # halves
    assert maps.on_grid(query="mean").sum() == matrix[:, 1:, 1:].sum() / 8
    assert repr(maps).endswith("layer 0: 1 head, 5 tokens (cls + 2 x 2 in each of 2 windows)")


def test_tokens_of_one_name_are_one_query_and_a_misspelt_name_gets_a_suggestion():
    tokens = Tokens((1, 2), before=("register",), after=("register",))
    matrix = torch.tensor([[0.0, 8, 6, 0], [0, 1, 2, 0], [0, 3, 4, 0], [0, 2, 0, 9]])
    maps = by_hand(matrix[None], tokens)
    assert maps.on_grid(query="register")[0, 0].tolist() == [[5, 3]]
    assert maps.on_grid()[0, 0].tolist() == [[2, 3]]  # without a class token the mean of places
    with pytest.raises(UserError, match="'registre'; did you mean 'register'"):
        maps.on_grid(query="registre")


def test_a_class_without_images_has_a_mean_of_zeros():
    means = mean_map(Known(), Split(PIXELS, torch.tensor([2, 2]), ("a", "b", "c")), query=(0, 1))
    assert means.shape == (3, 1, 1, 2) and not means[:2].any()
    assert torch.allclose(means[2, 0], SHARES[2, 1:])


def test_tokens_that_no_pixel_changes_alone_have_no_place_and_the_line_says_the_cure():
    model = Known()
    model.layout, model.scores = None, nn.Parameter(torch.zeros(1, 1, 1, 3))
    maps = capture_attention(model, PIXELS)  # its values all come from the first pixel
    (layout,) = maps.layouts
    assert (token_words(layout.queries), token_words(layout.keys)) == ("cls", "3 tokens")
    with pytest.raises(UserError, match=r"declare\(model, layout=grid_layout"):
        maps.on_grid()
