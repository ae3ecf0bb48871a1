"Every classifier of the zoo and of a newer vit-pytorch: built, run, trained, saved and loaded."

import os
import subprocess
import sys
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import HANGS

from vit_mnist.data import load_data, normalise
from vit_mnist.model import about, count_parameters, create_model, load_model, save_model
from vit_mnist.zoo import OTHER_MODULES, ZOO, find_untried

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.backends.cuda.sdp_kernel"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors"),
]
NAMES = [name for name, entry in ZOO.items() if not entry.missing]
STEM = "cct, stem"  # with residual blocks in place of its convolutions
# Learning rates with which the loss on a few images halves in 30 steps; 5e-3 does for all others
RATES = {"cct": 7e-3, "twins_svt": 3e-4}


@pytest.fixture(scope="module")
def batch():
    images, labels = load_data().train[:17]
    return normalise(images), labels


def made(name):
    return (
        create_model("cct", seed=0, size="tiny", stem=(16,))
        if name == STEM
        else create_model(name, seed=0, size="tiny")
    )


def logits(model, images):
    "In evaluation mode; seeded, because ats_vit samples tokens there too"
    torch.manual_seed(0)
    with torch.inference_mode():
        return model.eval()(images)


def test_the_zoo_has_no_model_that_this_vit_pytorch_lacks():
    package = Path(find_spec("vit_pytorch").submodule_search_locations[0])
    there = {path.stem for path in package.glob("*.py")} - {"__init__"}
    in_zoo = {entry.module.removeprefix("vit_pytorch.") for entry in ZOO.values()} - {
        "vit_mnist.baselines"
    }
    assert in_zoo <= there
    assert OTHER_MODULES.keys() <= there and not OTHER_MODULES.keys() & in_zoo
    untried = {
        entry.module.removeprefix("vit_pytorch.") for entry in find_untried(package).values()
    }
    assert not untried & (in_zoo | OTHER_MODULES.keys())
    assert [name for name, entry in ZOO.items() if entry.missing] == ["vaat"]


NEWER = """
import torch
from torch import nn
from vit_pytorch.vit import Transformer

class NewViT(nn.Module):
    def __init__(
        self, *, image_size, patch_size, num_classes, dim, depth, heads, mlp_dim, dim_head=64,
        channels=3
    ):
        super().__init__()
        self.cut = nn.Conv2d(channels, dim, patch_size, patch_size)
        self.transformer = Transformer(dim, depth, heads, dim_head, mlp_dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, images):
        return self.head(self.transformer(self.cut(images).flatten(2).transpose(1, 2)).mean(1))
"""
OLD_HABITS = """
from torch import nn

class Demanding(nn.Module):
    def __init__(self, *, num_classes, wavelength):
        super().__init__()
"""
LOOK = """
from vit_mnist.all import *
print(list(list_models("new*")), list(list_models("demand*")))
model = create_model("new_vit", seed=0, size="tiny", num_classes=7)
maps = capture_attention(model, load_data().test.images[:2])
print(model(torch.zeros(1, 1, 28, 28)).shape[1], len(maps), tuple(maps.on_grid(0).shape))
print("untried" in repr(list_models("new*")))
try:
    create_model("demanding")
except UserError as error:
    print(error)
"""


def test_classifiers_of_a_newer_vit_pytorch_are_offered_as_untried(tmp_path):
    package = Path(find_spec("vit_pytorch").submodule_search_locations[0])
    newer = tmp_path / "vit_pytorch"
    newer.mkdir()
    for path in package.glob("*.py"):
        (newer / path.name).symlink_to(path)
    (newer / "new_vit.py").write_text(NEWER)
    (newer / "demanding.py").write_text(OLD_HABITS)
    command = [sys.executable, "-c", f"import torch{LOOK}"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == ["['new_vit'] []", "7 3 (2, 4, 4, 4)", "True"]
    assert lines[3].startswith("can't build demanding")


@pytest.mark.parametrize("name", NAMES)
def test_sizes_grow(name):
    tiny, small, base = (
        count_parameters(create_model(name, size=size)) for size in ("tiny", "small", "base")
    )
    assert tiny < small < base


@pytest.mark.parametrize("name", [*NAMES, STEM])
def test_logits(name, batch):
    model = made(name)
    for n in (1, 17):
        found = logits(model, batch[0][:n])
        assert found.shape == (n, 10) and found.isfinite().all()
        assert torch.equal(found, logits(model, batch[0][:n]))
    if name != "ats_vit":  # an image's logits do not depend on its neighbours in the batch
        torch.testing.assert_close(logits(model, batch[0][:1]), found[:1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [*NAMES, STEM])
def test_saved_and_loaded(name, batch, tmp_path):
    model = made(name)
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path)
    assert loaded.spec == model.spec
    assert torch.equal(logits(loaded, batch[0][:4]), logits(model, batch[0][:4]))


@pytest.mark.parametrize("name", [*NAMES, STEM])
def test_loss_halves_and_gradients_reach_every_parameter(name, batch):
    model, (images, labels) = made(name).train(), batch
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATES.get(name, 5e-3))
    waiting = {key for key, parameter in model.named_parameters() if parameter.numel()}
    torch.manual_seed(0)
    first = None
    for _ in range(30):
        loss = F.cross_entropy(model(images), labels)
        first = first or loss.item()
        if loss < first / 2:
            break
        optimizer.zero_grad()
        loss.backward()
        waiting -= {
            key
            for key, parameter in model.named_parameters()
            if parameter.grad is not None and parameter.grad.any()
        }
        optimizer.step()
    assert loss < first / 2
    idle = {
        pattern: [key for key in waiting if fnmatch(key, pattern)]
        for pattern in ZOO[model.spec.name].idle
    }
    assert all(idle.values()), "declared idle, but it learns"
    assert waiting == set().union(*idle.values()), "no gradient"


@pytest.mark.parametrize(
    "name", [*(name for name in NAMES if name not in ("ats_vit", "na_vit_nested_tensor")), STEM]
)
def test_layout_has_the_shapes_of_the_model(name, batch):
    "Against a simple record of softmaxes; that of attention itself is tested with the capture"
    shapes = []

    class Softmaxes(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if func.__name__ == "scaled_dot_product_attention":
                shapes.append((*args[0].shape[:-1], args[1].shape[-2]))
            if func.__name__ == "softmax":
                shapes.append(tuple(result.shape))
            return result

    model = made(name)
    with Softmaxes():
        logits(model, batch[0][:3])
    assert shapes == [layout.shape(3) for layout in about(model).declared]


@pytest.mark.parametrize("name", ["deepvit", "mp3", "simple_uvit", "cait", "pit", "max_vit"])
def test_the_command_trains_one_of_each_layout(name, tmp_path, brief_train):
    options = "--limit 512 --epochs 1 --valid-size 0 --device cpu".split()
    size = ["--model-args", '{"size": "tiny"}']
    done = brief_train("--model", name, *size, *options, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout
    assert load_model(tmp_path / "run").spec.name == name
