"Explanations: every method on every model it claims, captum missing, the command, and speed."

import csv
import functools
import importlib
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from vit_mnist.data import load_data
from vit_mnist.core import UserError
from vit_mnist.explanation import explain, list_methods, plot_why
from vit_mnist.faithfulness import deletion_curve, patch_order
from vit_mnist.methods import METHODS
from vit_mnist.model import create_model, model_input
from vit_mnist.summary import list_models
from vit_mnist.weights import load_pretrained

CHEAP = {"integrated_gradients": {"steps": 2}, "occlusion": {"patch_size": 14}}
TOKENS = ("rollout", "relevance", "grad_rollout")  # need layers that all attend to the same tokens


@functools.cache
def digits():
    return load_data().test.images[:2]


@functools.lru_cache(1)
def zoo(name):
    "Build a model as one may find it: in training, a part of it not, with a gradient somewhere"
    model = create_model(name, seed=0, size="tiny").train()
    next(module for module in model.modules() if not list(module.children())).eval()
    first = next(model.parameters())
    first.grad = torch.full_like(first, 7)
    return model, list(list_methods(model))


def state(model):
    "Collect all that an explanation might change"
    modules = list(model.modules())
    kinds = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks"
    hooks = [[len(getattr(m, kind)) for kind in kinds] for m in modules]
    tensors = {key: value.clone() for key, value in model.state_dict().items()}
    gradients = [p.grad is not None and p.grad.eq(7).all().item() for p in model.parameters()]
    modes, names = [m.training for m in modules], [set(vars(m)) for m in modules]
    return modes, hooks, names, gradients, tensors


def same(before, after):
    return before[:-1] == after[:-1] and all(
        torch.equal(value, after[-1][key]) for key, value in before[-1].items()
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", list_models())
def test_every_method_on_every_model(name, method):
    model, works = zoo(name)
    if method not in works:
        with pytest.raises(UserError, match=f"{method} needs .* for it there is: .*occlusion"):
            explain(model, digits(), method)
        return
    before, options, maps = state(model), CHEAP.get(method, {}), []
    for seed in (1, 2):  # of the generator that all share: neither read nor moved
        torch.manual_seed(seed)
        rng = torch.get_rng_state()
        maps.append(explain(model, digits(), method, target=3, **options))
        assert torch.equal(torch.get_rng_state(), rng)
    assert maps[0].shape == (2, 28, 28) and maps[0].isfinite().all() and not maps[0].requires_grad
    assert torch.equal(*maps)
    assert same(before, state(model))


def test_what_is_claimed():
    "What follows attention through all layers needs one grid of tokens; other methods need less"
    works = {
        name: set(list_methods(create_model(name, size="tiny")))
        for name in ("vit", "vit_5", "cct", "jet_vit", "max_vit", "mlp")
    }
    assert works["vit"] == works["vit_5"] == set(METHODS)
    assert works["cct"] == set(METHODS) - {"legrad"}
    assert works["jet_vit"] == works["max_vit"] == set(METHODS) - {*TOKENS, "legrad"}
    assert works["mlp"] == {
        "random",
        "centre",
        "ink",
        "gradient",
        "input_x_gradient",
        "integrated_gradients",
        "occlusion",
    }


class OnePatch(nn.Module):
    "Class 0 is the sum of one patch, class 1 of another"

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return self.scale * torch.stack(
            [images[:, 0, 4:8, 8:12].sum((1, 2)), images[:, 0, 20:24, 16:20].sum((1, 2))], 1
        )


@pytest.mark.parametrize(
    "method", ["gradient", "input_x_gradient", "integrated_gradients", "occlusion"]
)
def test_a_model_of_ones_own_that_looks_at_one_patch(method):
    images = digits().clone()
    images[:, :, 4:8, 8:12] = images[:, :, 20:24, 16:20] = 255
    for target, (top, left) in enumerate([(4, 8), (20, 16)]):
        attribution = explain(OnePatch(), images, method, target)
        assert attribution[:, top : top + 4, left : left + 4].min() > 0
        attribution[:, top : top + 4, left : left + 4] = 0
        assert attribution.abs().max() < 1e-4


def test_images_in_inference_mode_and_frozen_weights():
    model = create_model("vit", seed=0, size="tiny")
    plain = explain(model, digits())
    with torch.inference_mode():
        images = digits().clone()
        assert torch.allclose(explain(model.requires_grad_(False), images), plain, atol=1e-6)


NO_CAPTUM = """
import sys
# what Python does for a package that is not there
sys.modules["captum"] = sys.modules["captum.attr"] = None
from vit_mnist.data import load_data
from vit_mnist.explanation import explain
from vit_mnist.model import create_model
model, images = create_model("vit", seed=0, size="tiny"), load_data().test.images[:2]
for method in ("relevance", "occlusion", "gradcam"): explain(model, images, method)
explain(model, images, "integrated_gradients")
"""


def test_without_captum_one_line_says_how_to_get_it(script):
    done = script("python", "-c", NO_CAPTUM)
    assert done.returncode and done.stderr.splitlines()[-1].endswith(
        "this method needs captum: pip install 'vit_mnist[explain]'"
    )


@pytest.mark.filterwarnings("ignore")
def test_the_deletion_curve_is_what_quantus_computes():
    quantus = pytest.importorskip("quantus")
    model, images = load_pretrained("explain"), load_data().test.images[:6]
    x = model_input(model, images)
    black = model_input(model, torch.zeros(1, 1, 28, 28, dtype=torch.uint8)).max().item()
    patches = torch.rand(6, 7, 7, generator=torch.Generator().manual_seed(0))  # none alike
    attribution = patches.repeat_interleave(4, 1).repeat_interleave(4, 2)
    flip = quantus.PixelFlipping(
        features_in_step=16,
        perturb_baseline=black,
        normalise=False,
        abs=False,
        return_auc_per_sample=False,
        disable_warnings=True,
    )
    theirs = flip(
        model=model,
        x_batch=x.numpy(),
        y_batch=model(x).argmax(1).numpy(),
        a_batch=attribution[:, None].numpy(),
        device="cpu",
        softmax=True,
    )
    ours = deletion_curve(model, images, attribution, points=50)[:, 1:]
    assert torch.allclose(ours, torch.tensor(theirs, dtype=torch.float32), atol=1e-6)


OLD_NAMES = {
    "explanation": ["draw_heat"],
    "faithfulness": ["area", "gone_after", "take_away", "scrambled"],
    "element": ["AblatedHeads", "HeadsOff", "DEFAULT"],
}


@pytest.mark.parametrize("module", OLD_NAMES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_names_of_the_version_before_are_found(module):
    for name in OLD_NAMES[module]:
        assert getattr(importlib.import_module(f"vit_mnist.{module}"), name) is not None


def test_parameters_of_the_version_before_are_accepted():
    maps = torch.arange(784.0).view(1, 28, 28)
    with pytest.warns(DeprecationWarning, match="heat is now attribution"):
        assert torch.equal(patch_order(heat=maps, patch_size=14), patch_order(maps, 14))
    with pytest.warns(DeprecationWarning, match="target is now other"):
        fig = plot_why(load_pretrained("explain"), digits()[:1], target=3)
    assert fig.axes[2].get_title().startswith("Why not 3 ")


def test_a_method_that_is_not_measured_says_so(monkeypatch):
    newcomer = replace(METHODS["ink"], name="newcomer")
    monkeypatch.setitem(METHODS, "newcomer", newcomer)
    (line,) = [line for line in repr(list_methods()).splitlines() if "newcomer" in line]
    assert "not measured" in line


def test_the_benchmark_adds_one_method_to_what_is_stored(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    trust = importlib.import_module("trust")
    for path in (trust.SCORES, trust.CURVES):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert trust.merged(path, [], []) == rows
        new = [{**rows[0], "method": "ink", "mean": "0.1"}, {**rows[0], "method": "relevance"}]
        together = trust.merged(path, new, ["ink"])
        assert [row for row in together if row["method"] == "ink"] == new[:1]
        others = [row for row in rows if row["method"] != "ink"]
        assert [row for row in together if row["method"] != "ink"] == others


def test_the_command_draws_why(tmp_path, script):
    for i in range(2):
        Image.fromarray(255 - load_data().test.images[i, 0].numpy()).resize((200, 200)).save(
            tmp_path / f"{i}.png"
        )
    words = "vit_mnist_explain explain 0.png 1.png --target 3 --method rollout".split()
    done = script(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "rollout of 2 images is in why.png\n"), done.stderr
    assert Image.open(tmp_path / "why.png").width > 300


@pytest.mark.slow
def test_three_hundred_relevance_maps_a_second():
    model = create_model("vit", seed=0, patch_size=4).eval()
    images = load_data().test.images[:1000]

    def seconds(call):
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    def plain():
        x = images.float()
        with torch.no_grad():
            for part in x.split(100):
                model(part)

    explain(model, images[:100])
    alone, explained = (
        min(seconds(call) for _ in range(3)) for call in (plain, lambda: explain(model, images))
    )
    print(f"{1000 / explained:.0f} images a second, {explained / alone:.1f} times a forward pass")
    assert 1000 / explained > 300
