"layout: every cell of a grid belongs to one token of one window, and shapes follow the axes."

import dataclasses

import numpy as np
import pytest

from vit_mnist.layout import AttentionLayout, Layout, Tokens, grid_layout, places

GRIDS = [  # grid, window
    ((3, 5), None),
    ((4, 6), (2, 3)),
    ((4, 6), (4, 2)),
    ((6, 6), (1, 1)),
    ((2, 8), (2, 8)),
]


@pytest.mark.parametrize("grid, window", GRIDS)
@pytest.mark.parametrize("dilated", [False, True])
def test_each_cell_belongs_to_the_window_that_arithmetic_says(grid, window, dilated):
    tokens = Tokens(grid, ("cls", "cls"), ("register",), window, dilated)
    found = places(tokens)
    assert found.shape == (tokens.windows, len(tokens))
    assert (found[:, :2] == -1).all() and (found[:, -1] == -1).all()
    (h, w), (rows, columns) = window or grid, grid
    across = columns // w  # windows side by side
    expected = np.full((tokens.windows, h * w), -1)
    for y in range(rows):
        for x in range(columns):
            if dilated:  # a window's tokens are as far apart as there are windows
                step = rows // h
                which, place = (y % step) * across + x % across, (y // step) * w + x // across
            else:
                which, place = (y // h) * across + x // w, (y % h) * w + x % w
            expected[which, place] = y * columns + x
    assert (found[:, 2:-1] == expected).all() and (expected >= 0).all()


def test_tokens_without_a_grid_have_no_place_and_count_by_their_names():
    slots = Tokens(before=("slot",) * 2, after=("cls",))
    assert (len(slots), slots.windows) == (3, 1) and places(slots).tolist() == [[-1, -1, -1]]
    assert len(Tokens()) == 0 and places(Tokens()).shape == (1, 0)


@pytest.mark.parametrize(
    "axes, shape",
    [
        ("n h q k", (2, 3, 5, 8)),
        ("(n w) h q k", (12, 3, 5, 8)),
        ("(n w h) q k", (36, 5, 8)),
        ("n w h k q", (2, 6, 3, 8, 5)),
        ("h 1 k n w", (3, 1, 8, 2, 6)),
    ],
)
def test_the_shape_of_a_matrix_follows_its_axes(axes, shape):
    windowed, few = Tokens((4, 6), ("cls",), window=(2, 2)), Tokens(before=("slot",) * 8)
    layout = AttentionLayout(windowed, few, heads=3, axes=axes)
    assert layout.shape(2) == shape and layout.windows == 6
    swapped = AttentionLayout(few, windowed, heads=3)  # the side with more windows decides
    assert swapped.windows == 6 and swapped.shape(1) == (6, 3, 8, 5)


def test_an_attention_without_more_words_is_one_heads_among_its_own_tokens():
    tokens = Tokens((2, 2))
    plain = AttentionLayout(tokens)
    assert plain.keys is tokens and plain.exact and plain.shape(7) == (7, 1, 4, 4)
    assert (plain.role, plain.sums) == ("self", "keys")
    assert {plain: "a key of a dictionary"}[AttentionLayout(Tokens((2, 2)))]
    with pytest.raises(dataclasses.FrozenInstanceError):
        plain.heads = 2


def test_a_plain_layout_is_as_deep_as_asked_for_and_takes_lists():
    layout = grid_layout([2, 3], before=["cls"], heads=2, depth=4)
    attentions = layout.attentions({"depth": 99})  # the arguments of a model do not matter
    assert isinstance(layout, Layout) and len(attentions) == 4 and len(set(attentions)) == 1
    assert attentions[0].queries == Tokens((2, 3), ("cls",)) and attentions[0].heads == 2
    assert [each.heads for each in grid_layout((2, 2)).attentions({})] == [1]
    kinds = [grid_layout((2, 2), after=names).kind for names in ((), ("cls",), ("register",))]
    assert kinds == ["grid", "grid + CLS", "grid + registers"]
    assert grid_layout((2, 2), ("cls",), ("register",)).kind == "grid + registers"
