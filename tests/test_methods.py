"Methods: the table keeps its word, maps become pixels, which layouts can be followed, fills."

from dataclasses import replace

import pytest
import torch

from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.explanation import explain
from vit_mnist.layout import AttentionLayout, Tokens
from vit_mnist.methods import FAMILIES, METHODS, NEEDS, Attribution
from vit_mnist.methods import fill_image, find_layouts, is_chain, pick_layer, to_pixels
from vit_mnist.model import create_model
from vit_mnist.weights import load_pretrained

CLS, PATCHES, BOTH = Tokens(before=("cls",)), Tokens((4, 4)), Tokens((4, 4), before=("cls",))
PLACES, SELF = AttentionLayout(PATCHES), AttentionLayout(BOTH)
POOL = AttentionLayout(CLS, BOTH, role="cls")


@pytest.mark.parametrize("name", METHODS)
def test_a_map_depends_on_the_class_exactly_where_the_table_says_so(name):
    entry, options = METHODS[name], {"steps": 2} if name == "integrated_gradients" else {}
    assert entry.needs in NEEDS and entry.shows and entry.cost
    model, image = load_pretrained("explain"), load_data().test.images[:1]
    seven, two = (explain(model, image, name, target, **options) for target in (7, 2))
    assert torch.equal(seven, two) is not entry.class_specific


def test_the_table_is_sorted_by_families():
    families = [FAMILIES.index(entry.family) for entry in METHODS.values()]
    assert families == sorted(families) and set(families) == {0, 1, 2, 3}


def test_a_border_is_cut_off_and_no_value_is_mixed_with_another():
    pixels = to_pixels(Attribution(torch.arange(16.0).view(1, 4, 4), pad=2))
    assert pixels.shape == (1, 28, 28)
    widths = torch.tensor([6, 8, 8, 6])  # cells are eight pixels wide, those outside lose two
    expected = torch.arange(16.0).view(4, 4).repeat_interleave(widths, 0)
    assert torch.equal(pixels[0], expected.repeat_interleave(widths, 1))


@pytest.mark.parametrize(
    "layouts, followed",
    [
        ([SELF, POOL], True),
        ([POOL, SELF], False),  # the places of the second are not made by the first
        ([PLACES, SELF], True),  # the class token joins late
        ([AttentionLayout(PATCHES, BOTH)], False),  # places that stay no places
        ([AttentionLayout(CLS)], False),  # no place to end on
        ([replace(SELF, exact=False)], False),
        ([replace(SELF, role="cross")], False),
    ],
)
def test_what_is_a_chain_from_the_answer_down_to_one_grid(layouts, followed):
    assert is_chain(layouts) is followed


def test_sixteen_places_are_enough_for_the_default_layer_and_fifteen_are_not():
    small = AttentionLayout(Tokens((3, 5)))
    assert pick_layer([PLACES, PLACES, small]) == 1
    assert pick_layer([AttentionLayout(Tokens((8, 8))), PLACES]) == 1
    assert pick_layer([small, POOL, AttentionLayout(Tokens((2, 2)))]) == 1


def test_layouts_of_a_model_that_declares_nothing_are_captured():
    model, images = create_model("vit", seed=0, size="tiny").eval(), torch.zeros(2, 1, 28, 28)
    declared = find_layouts(model, images)
    del model.spec
    assert find_layouts(model, images) == declared and len(declared) > 1


def test_a_fill_of_ones_own_may_be_one_image_or_a_batch_of_one():
    model, images = load_pretrained("explain"), torch.zeros(2, 1, 28, 28)
    own = torch.full((1, 28, 28), 255, dtype=torch.uint8)
    for fill in own, own[None]:
        white = fill_image(model, fill, images)
        assert white.shape == (1, 1, 28, 28)
        assert torch.allclose(white, torch.tensor((1 - 0.1307) / 0.3081))
    with pytest.raises(UserError, match="'grey'; known: black, mean"):
        fill_image(model, "grey", images)
