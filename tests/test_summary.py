"summary: tables line up and are safe in a page, and their numbers are those of the models."

import pytest
import torch
from torch import nn

from vit_mnist.core import UserError
from vit_mnist.model import count_flops, count_parameters, create_model
from vit_mnist.summary import Table, list_models, summary


def test_numbers_stand_right_words_left_and_nothing_is_a_dash():
    table = Table(
        ["name", "n", "of"], [["long name", 1234567, ("b", "")], ["c", None, None]], "end"
    )
    lines = ["name               n  of", "---------  ---------  --"]
    lines += ["long name  1,234,567  b", "c                  -  -", "end"]
    assert repr(table) == "\n".join(lines)


def test_what_cells_hold_is_text_in_a_page_too():
    hostile = "<script>'\"&"
    table = Table([hostile], [[(hostile, "https://a.org/?a='>")], [7]], hostile)
    html = table._repr_html_()
    assert "<script>" not in html and html.count("&lt;script&gt;") == 3
    assert "<a href='https://a.org/?a=&#x27;&gt;'>" in html
    assert "<td style='text-align:right'>7</td>" in html
    assert "<a " not in Table(["a"], [[("words", "")]])._repr_html_()


@pytest.mark.parametrize("size", ["tiny", "base"])
def test_the_list_shows_each_model_with_its_cost_at_a_size(size):
    models = list_models("[cm]*n*", size=size)
    rows = {row[0]: row for row in models.table().rows}
    assert "cnn" in rows and "mlp" not in rows and list(rows) == models
    for name in ("cnn", "cnn_strong"):
        model = create_model(name, size=size)
        assert rows[name][2:4] == [count_parameters(model), count_flops(model)]
    assert f"size {size}, one image" in repr(models) and "vaat can't be built" in repr(models)
    assert f"{rows['cnn'][2]:,}" in models._repr_html_() and list_models("nothing*") == []


def test_an_unknown_size_is_refused_with_those_that_are_known():
    with pytest.raises(UserError, match="unknown size 'huge'; known: tiny, small, base"):
        repr(list_models("cnn", size="huge"))


def own_model():
    "Make three equal layers, one of them run twice, and one that never runs"
    model = nn.Sequential(nn.Flatten(), *(nn.Linear(784, 784) for _ in range(3)), nn.Dropout())
    model.append(model[1])
    model.unused = nn.Linear(1, 1)
    model.forward = lambda x: model[5](model[4](model[3](model[2](model[1](model[0](x))))))
    return model


def test_rows_are_what_ran_in_order_with_like_parts_together_and_costs_by_hand():
    model, layer = own_model().train(), 784 * 784
    table = summary(model, depth=1)
    assert [row[:3] for row in table.rows] == [
        ["0", "Flatten", "n x 784"],
        ["1", "Linear", "n x 784"],
        ["2-3", "Linear x 2", "n x 784"],
    ]
    assert [row[3] for row in table.rows] == [0, layer + 784, 2 * (layer + 784)]
    assert [row[4] for row in table.rows] == [0, 2 * 2 * layer, 2 * 2 * layer]
    assert (
        table.caption
        == f"Sequential: {3 * (layer + 784) + 2:,} parameters, {8 * layer:,} FLOPs an image"
    )
    assert model.training and not model[1]._forward_hooks and not model[1]._forward_pre_hooks


def test_a_level_more_shows_what_is_inside_and_the_numbers_outside_stay():
    model = create_model("vit", seed=0, size="tiny")
    outer, inner = ({row[0]: row for row in summary(model, depth).rows} for depth in (1, 2))
    assert "transformer" in outer and not [name for name in outer if "." in name]
    assert outer.items() <= inner.items() and len(inner) > len(outer)
    parts = inner["transformer.layers.0-2.0"], inner["transformer.layers.0-2.1"]
    assert sum(part[4] for part in parts) == outer["transformer"][4]
    assert inner["mlp_head"][2] == "n x 10" and torch.is_grad_enabled()
