"""Every classifier of the zoo, built, run, trained for a moment, saved and loaded.

The names are compared with the modules of the vit-pytorch that is installed: with a newer one, the first test
names what the table does not know yet.
"""

import os
import subprocess
import sys
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vit_mnist.data import load_data, normalise
from vit_mnist.model import about, count_parameters, create_model, load_model, save_model
from vit_mnist.zoo import ZOO

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.backends.cuda.sdp_kernel"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors"),
]
NAMES = [name for name, entry in ZOO.items() if not entry.missing]
STEM = "cct, stem"  # with residual blocks in place of its convolutions
BASELINES = {"mlp", "cnn", "cnn_strong"}
# Modules of vit-pytorch without a classifier of two-dimensional images
OTHERS = {
    "accept_video_wrapper",
    "cct_3d",
    "na_vit_nested_tensor_3d",
    "simple_flash_attn_vit_3d",
    "simple_vit_1d",
    "simple_vit_3d",
    "vat_siglip",
    "vit_1d",
    "vit_3d",
    "vivit",
    "vivit_with_moss",  # other inputs
    "dino",
    "es_vit",
    "lejepa",
    "levjepa",
    "levjepa_nd",
    "mae",
    "mpp",
    "simmim",  # ways to pre-train
    "extractor",
    "recorder",
    "vit_nd_masking",  # tools
}
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


def test_the_table_knows_every_module_of_vit_pytorch():
    package = Path(find_spec("vit_pytorch").submodule_search_locations[0])
    there = {path.stem for path in package.glob("*.py")} - {"__init__"}
    known = {
        entry.module.removeprefix("vit_pytorch.")
        for name, entry in ZOO.items()
        if name not in BASELINES
    }
    assert there - known - OTHERS == set(), (
        "vit-pytorch has modules that are neither in the zoo nor listed as something else"
    )
    assert known - there == set(), "the zoo has models that this vit-pytorch does not"
    assert {name for name in ZOO if name not in BASELINES} == known and len(known) == 62
    assert [name for name, entry in ZOO.items() if entry.missing] == ["vaat"]


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
    for step in range(30):
        loss = F.cross_entropy(model(images), labels)
        first = loss.item() if step == 0 else first
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
def test_the_command_trains_one_of_each_layout(name, tmp_path):
    command = [
        Path(sys.executable).parent / "vit_mnist_train",
        "--model",
        name,
        "--limit",
        "512",
        "--epochs",
        "1",
        "--model-args",
        '{"size": "tiny"}',
        "--valid-size",
        "0",
        "--device",
        "cpu",
        "--out",
        tmp_path / "run",
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout
    assert load_model(tmp_path / "run").spec.name == name
