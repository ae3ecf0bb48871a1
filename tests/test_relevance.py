"Relevance: each method on a model small enough to compute it by hand, classes, frozen weights."

import pytest
import torch
from torch import nn

from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.explanation import explain
from vit_mnist.layout import AttentionLayout, Tokens, grid_layout
from vit_mnist.maps import capture_attention
from vit_mnist.relevance import answering, follow, readout
from vit_mnist.weights import load_pretrained

HEADS = torch.tensor([[[0.8, 0.2], [0.4, 0.6]], [[0.1, 0.9], [0.5, 0.5]]])
IMAGE = torch.zeros(1, 1, 28, 28)


class TwoHeads(nn.Module):
    "Attend between two places worth 1 and 2; the second head counts three times"

    layout = grid_layout((1, 2), heads=2)

    def __init__(self):
        super().__init__()
        self.scores = nn.Parameter(HEADS.log()[None])

    def forward(self, images):
        values = torch.tensor([[1.0], [2]]) + images[:, :, :1, :1]
        heads = (self.scores.softmax(-1) @ values).mean((2, 3))
        answer = heads[:, :1] + 3 * heads[:, 1:]
        return torch.cat([answer, -answer], 1)


@pytest.mark.parametrize(
    "method, options, expected",
    [
        ("attention", {}, [0.45, 0.55]),  # both heads and both queries: the mean of four rows
        ("attention", {"head": 1, "query": (0, 0)}, [0.1, 0.9]),
        ("attention", {"head": -2, "query": (0, 1), "layer": -1}, [0.4, 0.6]),
        ("value_attention", {}, [0.45, 1.1]),
        ("rollout", {"discard": 0.4}, [0.475, 0.525]),  # less than one of two entries: none
        ("rollout", {"discard": 0.5}, [1 / 3.1, 2.1 / 3.1]),
        ("rollout", {"fusion": "max"}, [(1.8 / 2.7 + 0.5 / 2.1) / 2, (0.9 / 2.7 + 1.6 / 2.1) / 2]),
        ("rollout", {"fusion": "min"}, [(1.1 / 1.3 + 0.4 / 1.9) / 2, (0.2 / 1.3 + 1.5 / 1.9) / 2]),
        (
            "relevance",
            {},
            [0.875, 1.75],
        ),  # half a map of ones, and (first + 3 * second) * value / 4
        ("grad_attention", {}, [0.375, 1.25]),  # the same without the ones
        ("grad_attention", {"query": (0, 1)}, [0.475, 1.05]),
        ("grad_attention", {"target": 1}, [0, 0]),  # all attention speaks against it
        ("relevance", {"target": 1}, [0.5, 0.5]),
    ],
)
def test_a_map_is_what_the_formula_gives(method, options, expected):
    _, values = explain(TwoHeads(), IMAGE, method, tokens=True, **options)
    assert values.flatten().tolist() == pytest.approx(expected, abs=1e-5)


def test_who_answers_is_followed_through_tokens_without_a_place():
    both = Tokens((1, 2), before=("cls",), after=("register",))
    pool = torch.tensor([[[0.5, 0.2, 0.2, 0.1]]])
    below = torch.tensor([[[0.0, 0.4, 0.5, 0.1], [0, 1, 0, 0], [0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5]]])
    layouts = AttentionLayout(both), AttentionLayout(Tokens(before=("cls",)), both)
    assert torch.allclose(follow([below, pool], layouts), torch.tensor([[[0.45, 0.35]]]))
    assert readout(Tokens((1, 2), ("cls",), ("cls",))).tolist() == [0.5, 0, 0, 0.5]


class OneAnswers(TwoHeads):
    "Answer from the one place alone, though there is a class token"

    layout = grid_layout((1, 1), before=("cls",), heads=2)

    def forward(self, images):
        values = torch.tensor([[1.0], [2]]) + images[:, :, :1, :1]
        answer = (self.scores.softmax(-1) @ values)[:, :, 1].mean((1, 2))[:, None] * self.scale
        return torch.cat([answer, -answer], 1)

    scale = 1  # of the answer


def test_who_answers_is_told_by_the_gradient_without_emptying_rows(monkeypatch):
    maps = capture_attention(OneAnswers(), IMAGE, gradients=True)
    monkeypatch.setattr("vit_mnist.relevance._emptied_rows", None)
    assert answering(OneAnswers(), maps).tolist() == [[0, 1]]


def test_who_answers_is_told_by_emptying_rows_where_there_is_no_gradient():
    maps = capture_attention(OneAnswers(), IMAGE)
    assert answering(OneAnswers(), maps).tolist() == [[0, 1]]


def test_where_no_token_decides_the_layout_says_who_answers():
    model = OneAnswers()
    model.scale = 0
    for gradients in (True, False):
        maps = capture_attention(model, IMAGE, gradients=gradients)
        assert answering(model, maps).tolist() == [[1, 0]]


@pytest.mark.parametrize("method", ["grad_attention", "relevance", "grad_rollout", "legrad"])
def test_frozen_weights_give_the_same_map(method):
    model, images = load_pretrained("explain"), load_data().test.images[:2]
    plain = explain(model, images, method)
    assert plain.max() > 0
    assert torch.allclose(explain(model.requires_grad_(False), images, method), plain, atol=1e-6)


@pytest.mark.parametrize(
    "method, options, message",
    [
        ("value_attention", {"layer": -7}, "layers 0 to 5, not -7"),
        ("value_attention", {"head": -5}, "heads 0 to 3, not -5"),
        ("rollout", {"discard": -0.1}, "at least 0 and below 1, not -0.1"),
    ],
)
def test_a_layer_head_or_share_that_is_not_there_is_refused(method, options, message):
    with pytest.raises(UserError, match=message):
        explain(load_pretrained("explain"), IMAGE, method, **options)
