"variants: what is declared of a model's attentions is what it computes, with other settings too."

import math

import numpy as np
import pytest
import torch

from vit_mnist.attention import record_attention
from vit_mnist.layout import places
from vit_mnist.model import about, create_model
from vit_mnist.variants import named, one_grid, patch_grid
from vit_mnist.zoo import ZOO

CHANGED = {  # settings that no size of the model has
    "cait": dict(depth=2, cls_depth=3, heads=3),
    "cct": dict(n_conv_layers=1, kernel_size=4, stride=2, padding=2, num_layers=1, num_heads=2),
    "cross_vit": dict(sm_enc_depth=2, lg_enc_depth=3, cross_attn_depth=2, sm_patch_size=14),
    "cvt": dict(s1_emb_stride=4, s2_kv_proj_stride=1, s3_depth=2, s2_heads=3),
    "jet_vit": dict(attn_layers=("WA", "FA", "WA"), window_size=4, dim=32, heads=3),
    "levit": dict(stages=3, dim=(32, 48, 64), depth=(2, 1, 1), heads=(1, 2, 3)),
    "look_vit": dict(patch_size=14, highres_patch_size=7, heads=3, cross_attn_heads=2),
    "max_vit_with_registers": dict(num_register_tokens=3, depth=(2, 1), dim_head=8),
    "nest": dict(num_hierarchies=3, patch_size=2, block_repeats=(1, 2, 1), heads=1),
    "pit": dict(patch_size=2, depth=(1, 2, 1), heads=(1, 2, 3)),
    "scalable_vit": dict(reduction_factor=(4, 2), window_size=(None, 2), depth=(2, 1)),
    "simple_vit_with_fft": dict(freq_patch_size=14, depth=1),
    "t2t": dict(t2t_layers=((7, 4), (3, 2), (3, 1)), depth=2),
    "twins_svt": dict(s1_global_k=8, s2_depth=2, s1_local_patch_size=2),
    "vit_with_patch_merger": dict(patch_merge_layer=2, patch_merge_num_tokens=3, depth=4),
    "wwt": dict(num_slots=4, depth=2, heads=2),
    "xcit": dict(depth=1, cls_depth=2, dim_head=8, heads=3),
}


@pytest.mark.parametrize("name", CHANGED)
def test_shapes_follow_the_settings(name):
    model = create_model(name, seed=0, size="tiny", **CHANGED[name]).eval()
    with record_attention(2) as found, torch.no_grad():
        model(torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0)))
    declared = about(model).declared
    sizes = [(each.windows * each.heads, len(each.queries), len(each.keys)) for each in declared]
    assert [tuple(attention.weights.shape[1:]) for attention in found] == sizes


@pytest.mark.parametrize("name", [name for name, entry in ZOO.items() if not entry.missing])
def test_windows_cover_each_cell_of_every_grid_once(name):
    entry = ZOO[name]
    for args in entry.sizes.values():
        for layout in entry.layout.attentions({**args, "pixels": entry.pixels}):
            assert {layout.queries.windows, layout.keys.windows} <= {1, layout.windows}
            for tokens in (layout.queries, layout.keys):
                cells = np.sort(places(tokens)[places(tokens) >= 0])
                assert cells.tolist() == list(range(math.prod(tokens.grid or (0,))))
                assert "cls" not in tokens.after


def test_roles_say_who_attends_and_sums_over_what():
    roles = {
        name: [layout.role for layout in ZOO[name].layout.attentions(ZOO[name].sizes["tiny"])]
        for name in ("cait", "xcit", "cross_vit", "wwt", "vit_with_patch_merger", "na_vit")
    }
    assert roles["cait"] == ["self"] * 3 + ["cls"] and roles["xcit"] == ["channels"] * 3 + ["cls"]
    assert roles["cross_vit"] == ["self", "self", "cross", "cross"]
    assert set(roles["wwt"]) == {"cross"} and roles["na_vit"] == ["self"] * 3 + ["pool"]
    assert roles["vit_with_patch_merger"] == ["self", "pool", "self", "self"]
    sep = ZOO["sep_vit"].layout.attentions({**ZOO["sep_vit"].sizes["tiny"], "pixels": 56})
    assert [layout.role for layout in sep] == ["self", "windows", "self"]
    wwt = ZOO["wwt"].layout.attentions(ZOO["wwt"].sizes["tiny"])
    assert {layout.sums for layout in wwt} == {"queries"}


def test_names_come_from_the_arguments_and_grids_from_sides():
    names = named(("register", lambda a: a["registers"]), "cls")
    layout = one_grid("grid", names, named("dist"), depth=lambda a: 2 * a["depth"], axes="n h q k")
    args = dict(image_size=(28, 42), patch_size=(7, 14), heads=3, depth=2, registers=2)
    attentions = layout.attentions(args)
    tokens = attentions[0].queries
    assert len(attentions) == 4 and attentions[0].shape(5) == (5, 3, 16, 16)
    assert (tokens.before, tokens.after) == (("register", "register", "cls"), ("dist",))
    assert patch_grid(args).grid == (4, 3) and patch_grid(args, after=("x",)).after == ("x",)
