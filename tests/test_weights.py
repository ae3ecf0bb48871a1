"The weights in the package against their cards."

import json
import os
from importlib import import_module

import pytest

from vit_mnist.core import sha256
from vit_mnist.data import load_data
from vit_mnist.loop import loss_and_accuracy
from vit_mnist.presets import find_preset
from vit_mnist.settings import Settings
from vit_mnist.weights import list_pretrained, load_pretrained, read_card


@pytest.mark.parametrize("name", list_pretrained())
def test_weights_of_the_package_are_as_good_as_their_card_says(name):
    card = read_card(name)
    accuracy = loss_and_accuracy(load_pretrained(name), load_data().test)[1]
    assert accuracy == pytest.approx(card["test_accuracy"], abs=2e-4)  # rounding may tip an image
    assert Settings(**card["settings"]) == find_preset(name, seed=card["seed"])


@pytest.mark.slow
def test_the_command_on_the_card_makes_the_same_weights_again(tmp_path, real_script):
    card, run = read_card("fast"), tmp_path / "run"
    environment = {**os.environ, "OMP_NUM_THREADS": str(card["threads"])}
    words = [*card["command"].split(), "--out", run, "--tracking", "disabled"]
    real_script(*words, env=environment, check=True)
    names = "config.json", "metrics.json"
    config, metrics = (json.loads((run / name).read_text()) for name in names)
    assert metrics["test_accuracy"] == pytest.approx(card["test_accuracy"], abs=3e-3)
    keys = "versions", "machine", "threads", "device"
    other = [key for key in keys if config[key] != card[key]]
    if other:
        differ = f"{' and '.join(other)} differ from the card's"
        pytest.skip(f"as good, but bit for bit is a promise for one machine: {differ}")
    assert sha256((run / "model.safetensors").read_bytes()) == card["sha256"]


@pytest.mark.parametrize(
    "module, old, new",
    [
        ("weights", "ship", "publish_weights"),
        ("runs", "is_shipped", "is_pretrained"),
        ("tuning", "Report", "ReportToTrial"),
    ],
)
def test_names_of_the_version_before_still_work(module, old, new):
    module = import_module(f"vit_mnist.{module}")
    with pytest.warns(DeprecationWarning, match=f"{old} is now .*{new}"):
        assert getattr(module, old) is getattr(module, new)
