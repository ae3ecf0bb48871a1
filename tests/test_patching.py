"Parts moved between runs: as by hooks, all of them, none of them."

import pytest
import torch

from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.inside import look_inside
from vit_mnist.model import batch_logits, create_model, model_input
from vit_mnist.patching import ablate_parts, fewest_heads, list_parts, patch_logits, patch_path
from vit_mnist.perturbation import AblatedHeads


@pytest.fixture(scope="module", params=["vit", "simple_vit", "simple_flash_attn_vit"])
def runs(request):
    model = create_model(request.param, seed=0, size="tiny").eval()
    images = load_data().test.images[:8]
    return model, look_inside(model, images[:4]), look_inside(model, images[4:])


def test_everything_and_nothing(runs):
    model, a, b = runs
    assert torch.equal(patch_logits(a, b, []), batch_logits(model, a.images))
    wanted = batch_logits(model, b.images)
    assert torch.equal(patch_logits(a, b, [("layer", -1)]), wanted)
    rows = [row for kind in ("layer", "head", "mlp") for row in list_parts(a, kind)]
    every = sum(rows, [])
    assert torch.equal(patch_logits(a, b, every), wanted)
    tokens = list_parts(a, "token")[-1]
    assert torch.equal(patch_logits(a, b, tokens), wanted)


def test_one_patch_is_that_of_hooks(runs):
    model, a, b = runs
    attention, mlp = model.transformer.layers[0]
    for module, part in ((mlp, ("mlp", 0)), (attention, None)):
        kept = []
        hook = module.register_forward_hook(lambda module, args, out: kept.append(out))
        batch_logits(model, b.images)
        hook.remove()
        hook = module.register_forward_hook(lambda module, args, out: kept[0])
        wanted = batch_logits(model, a.images)
        hook.remove()
        parts = [part] if part else list_parts(a, "head")[0]
        torch.testing.assert_close(patch_logits(a, b, parts), wanted, atol=1e-6, rtol=1e-5)


def test_one_head_is_that_of_a_hook():
    model = create_model("vit", seed=0, size="tiny").eval()
    images = load_data().test.images[:2]
    a, b = (look_inside(model, image[None]) for image in images)
    to_out, width, kept = model.transformer.layers[1][0].to_out, 0, []
    hook = to_out.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
    batch_logits(model, images[1:])
    hook.remove()
    width = kept[0].shape[-1] // a.layouts[1].heads

    def change(module, args):
        z = args[0].clone()
        z[..., width : 2 * width] = kept[0][..., width : 2 * width]
        return (z,)

    hook = to_out.register_forward_pre_hook(change)
    wanted = batch_logits(model, images[:1])
    hook.remove()
    assert torch.equal(patch_logits(a, b, [("head", 1, 1)]), wanted)
    assert not torch.equal(wanted, a.logits)


def test_ablation_is_that_of_ablated_heads(runs):
    model, a, _ = runs
    wanted = AblatedHeads(model, [(0, 0), (1, 1)])(model_input(model, a.images)).detach()
    off = [("head", 0, 0), ("head", 1, 1)]
    torch.testing.assert_close(ablate_parts(a, off), wanted, atol=1e-5, rtol=1e-4)
    labels = a.logits.argmax(1)
    assert len(fewest_heads(a, labels, keep=0)) == 0


def test_paths_and_mistakes(runs):
    _, a, b = runs
    assert not torch.equal(patch_path(a, b, (0, 0), (1, 0)), a.logits)
    for wrong in (("head", 0, 99), ("mlp",), "head", ("token", 5, 0), ("head", True, 0)):
        with pytest.raises(UserError):
            patch_logits(a, b, [wrong])
    with pytest.raises(UserError, match="equal number"):
        patch_logits(a, look_inside(a.about.model, a.images[:1]), [])
