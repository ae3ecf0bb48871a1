"Parts moved between runs: as by hooks, all of them, none of them."

import pytest
import torch

from test_stream import own, pixels
from vit_mnist.attribution import share_logit, token_lens
from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.inside import look_inside
from vit_mnist.model import batch_logits, create_model, model_input
from vit_mnist.patching import ablate_parts, ablated_accuracies, fewest_heads
from vit_mnist.patching import list_parts, patch_logits, patch_path
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


def test_a_path_is_that_of_hooks():
    "What a head hears and says, computed with hooks and the weights of the layers"
    model = create_model("vit", seed=0, size="tiny").eval()
    images = load_data().test.images[:4]
    a, b = look_inside(model, images[:2]), look_inside(model, images[2:])
    layers, kept = model.transformer.layers, {}
    with torch.no_grad():
        for run, part in (("a", images[:2]), ("b", images[2:])):
            hooks = []
            for layer, (attention, _) in enumerate(layers):
                for name, module in (("in", attention), ("out", attention.to_out)):
                    key = run, name, layer
                    hooks.append(
                        module.register_forward_pre_hook(
                            lambda module, args, key=key: kept.__setitem__(key, args[0])
                        )
                    )
            batch_logits(model, part)
            for hook in hooks:
                hook.remove()
        width = kept["a", "out", 0].shape[-1] // a.layouts[0].heads
        head, late = slice(width, 2 * width), slice(2 * width, 3 * width)
        more = kept["b", "out", 0][..., head] - kept["a", "out", 0][..., head]
        weight = layers[0][0].to_out[0].weight[:, head]
        heard = kept["a", "in", 2] + more @ weight.T
        said = []
        hook = layers[2][0].to_out.register_forward_pre_hook(lambda m, args: said.append(args[0]))
        layers[2][0](heard)
        hook.remove()

        def change(module, args):
            z = args[0].clone()
            z[..., late] = said[0][..., late]
            return (z,)

        hook = layers[2][0].to_out.register_forward_pre_hook(change)
        wanted = batch_logits(model, images[:2])
        hook.remove()
    torch.testing.assert_close(patch_path(a, b, (0, 1), (2, 2)), wanted, atol=1e-6, rtol=1e-5)
    assert (wanted - a.logits).abs().max() > 1e-5


def test_tokens_first():
    model = own().eval()
    x = pixels(6)
    a, b = look_inside(model, x[:3]), look_inside(model, x[3:])
    tokens = list_parts(a, "token")[1]
    assert torch.equal(patch_logits(a, b, tokens), b.logits)
    one = patch_logits(a, b, [("token", 1, 4)])
    with torch.no_grad():
        before = model.encoder(model.embed(x).flatten(2).permute(2, 0, 1))
        before[4, :3] = before[4, 3:]
        wanted = model.head(before[:, :3].mean(0))
    assert a.trace.value(a.writes[-1].after).shape == (16, 3, 16)
    torch.testing.assert_close(one, wanted, atol=1e-5, rtol=1e-4)
    changed = ablate_parts(a, [("mlp", 1)], "mean", b)
    mean = b.mlps[1].mean(0)
    with torch.no_grad():
        wanted = model.head((a.between[1] + mean).mean(1))
    torch.testing.assert_close(changed, wanted, atol=1e-5, rtol=1e-4)
    shares = share_logit(a, 3)
    torch.testing.assert_close(shares.total(), shares.logit, atol=1e-4, rtol=0)
    assert token_lens(a).shape == (3, 3, 16, 10)


@pytest.mark.parametrize("how", ["mean", "resample"])
def test_what_a_head_is_set_to(how):
    "A head's own numbers, before the output projection, as a hook sees them"
    model = create_model("vit", seed=0, size="tiny").eval()
    images = load_data().test.images[:12]
    a, b = look_inside(model, images[:4]), look_inside(model, images[4:])
    to_out, kept = model.transformer.layers[1][0].to_out, []
    hook = to_out.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
    batch_logits(model, images[4:])
    hook.remove()
    width = kept[0].shape[-1] // a.layouts[1].heads
    answers = []
    for row in [kept[0].mean(0)] if how == "mean" else kept[0]:

        def change(module, args, row=row):
            z = args[0].clone()
            z[..., width : 2 * width] = row[:, width : 2 * width]
            return (z,)

        hook = to_out.register_forward_pre_hook(change)
        answers.append(batch_logits(model, images[:4]))
        hook.remove()
    found = ablate_parts(a, [("head", 1, 1)], how, b)
    apart = (torch.stack(answers) - found).abs().amax(-1)  # [candidates, 4]
    assert apart.amin(0).max() < 1e-5
    itself = ablate_parts(a, [("layer", 2)], "resample")
    assert not (itself == a.logits).all(1).any()  # never an image's own


def test_ablation_of_a_split_does_not_depend_on_batches():
    model, few = create_model("vit", seed=0, size="tiny"), load_data().test.take(50)
    cases = [[], [("mlp", 0)], [("head", 1, 0), ("head", 2, 1)]]
    for how in ("zero", "mean"):
        whole = ablated_accuracies(model, few, cases, how)
        again = ablated_accuracies(model, few, cases, how, batch_size=7)
        assert whole.shape == (3, 10) and torch.equal(whole.nan_to_num(), again.nan_to_num())
    right = batch_logits(model, few.images).argmax(1) == few.labels
    wanted = [right[few.labels == c].float().mean() for c in range(10)]
    torch.testing.assert_close(whole[0], torch.stack(wanted), equal_nan=True)


def test_paths_and_mistakes(runs):
    _, a, b = runs
    assert not torch.equal(patch_path(a, b, (0, 0), (1, 0)), a.logits)
    for wrong in (("head", 0, 99), ("mlp",), "head", ("token", 5, 0), ("head", True, 0)):
        with pytest.raises(UserError):
            patch_logits(a, b, [wrong])
    with pytest.raises(UserError, match="equal number"):
        patch_logits(a, look_inside(a.about.model, a.images[:1]), [])
