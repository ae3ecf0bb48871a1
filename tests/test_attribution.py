"Shares of a logit add up to it, in models of several makes."

import pytest
import timm
import torch
from torchvision.models import vision_transformer

from test_own_models import ByHand
from vit_mnist.attribution import token_lens, share_logit
from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.inside import look_inside
from vit_mnist.model import create_model

SMALL = dict(img_size=64, depth=2, embed_dim=32, num_heads=2, num_classes=3)
TORCHVISION = dict(hidden_dim=32, mlp_dim=64, num_classes=3)


def torchvision_vit():
    model = vision_transformer.VisionTransformer(64, 16, 2, 2, **TORCHVISION)
    torch.nn.init.normal_(model.heads.head.weight)  # zeros at first
    return model


MODELS = {
    name: lambda name=name: create_model(name, size="tiny")
    for name in ("vit", "simple_vit", "simple_vit_with_register_tokens")
} | {
    "timm": lambda: timm.create_model("vit_tiny_patch16_224", **SMALL),
    "torchvision": torchvision_vit,
    "by hand": ByHand,
}


@pytest.mark.parametrize("name", MODELS)
def test_shares_add_up(name):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    own = name in ("timm", "torchvision", "by hand")
    x = torch.randn(2, 3, 64, 64) if own else load_data().test.images[:2]
    inside = look_inside(model, x)
    assert len(inside) > 1 and inside.heads[1].shape[:2] == (2, inside.layouts[1].heads)
    for against in (None, 1):
        shares = share_logit(inside, 2, against=against)
        torch.testing.assert_close(shares.total(), shares.logit, atol=1e-4, rtol=0)
        torch.testing.assert_close(
            shares.logit, inside.logits[:, 2] - (0 if against is None else inside.logits[:, 1])
        )
        assert all(part.abs().max() > 1e-6 for part in (*shares.heads, shares.embedding))


def test_the_last_lens_is_the_answer():
    inside = look_inside(create_model("vit", seed=0, size="tiny"), load_data().test.images[:2])
    lens = token_lens(inside)
    torch.testing.assert_close(lens[-1][:, 0], inside.logits)
    assert lens.shape == (1 + len(inside), 2, inside.embedding.shape[1], 10)


def test_a_head_that_is_not_linear_is_refused():
    model = create_model("cait", seed=0, size="tiny")
    with pytest.raises(UserError, match="have no shares"):
        share_logit(look_inside(model, load_data().test.images[:1]), 0)
