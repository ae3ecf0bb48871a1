"""ONNX files from outside: equal to PyTorch for each layout, refused where they would differ, and
their facts, read by onnxruntime alone."""

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from vit_mnist import export
from vit_mnist.core import UserError
from vit_mnist.data import load_data, normalise
from vit_mnist.export import export_onnx, measure_onnx, quantise_onnx
from vit_mnist.maps import capture_attention
from vit_mnist.model import batch_logits, create_model
from vit_mnist.perturbation import AblatedHeads
from vit_mnist.weights import load_pretrained, read_card


@pytest.fixture(scope="module")
def test_split():
    return load_data().test


def answers(path, images, heads=None):
    "Return what onnxruntime computes of uint8 images, by name"
    session = onnxruntime.InferenceSession(path)
    given = {"images": normalise(images).numpy()}
    if heads is not None:
        given["head_mask"] = np.array(heads, np.float32)
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, map(torch.from_numpy, session.run(names, given))))


def check_parity(model, path, images, heads=None):
    "Compare logits and the attention of every layer, however many images there are"
    off = [(i, j) for i, row in enumerate(heads or []) for j, on in enumerate(row) if not on]
    maps = capture_attention(AblatedHeads(model, off) if off else model, images)
    given = answers(path, images, heads)
    logits = given.pop("logits")
    assert (logits - maps.logits).abs().max() < 1e-4
    assert torch.equal(logits.argmax(1), maps.logits.argmax(1))
    if set(given) == {"attention"}:
        given = dict(enumerate(given["attention"].unbind(1)))
    assert len(given) == len(maps)
    for ours, theirs in zip(given.values(), maps):
        assert (ours - theirs.probs).abs().max() < 2e-5  # PyTorch's own is wrong by up to 1e-5


@pytest.fixture(scope="module")
def explain(tmp_path_factory):
    "The exported `explain`: what was told, the model, the file"
    path, model = tmp_path_factory.mktemp("onnx") / "explain.onnx", load_pretrained("explain")
    return export_onnx(model, path, card=read_card("explain")), model, path


def test_the_preset_explain_answers_as_in_pytorch_with_heads_off_too(explain, test_split):
    told, model, path = explain
    assert told["inputs"] == ["images", "head_mask"] and told["outputs"] == ["logits", "attention"]
    heads = np.random.default_rng(0).integers(0, 2, (6, 4)).tolist()
    for n in 1, 7, 200:
        images = test_split.images[:n]
        check_parity(model, path, images, [[1] * 4] * 6)
        check_parity(model, path, images, heads)


# one of each layout; those that take long to trace are slow
LAYOUTS = {
    "simple_vit": True,
    "cct": False,
    "cnn": None,
}
MORE = {
    "deepvit": False,
    "simple_vit_with_register_tokens": True,
    "cross_vit": False,
    "cait": False,
}


def check_layout(name, heads, folder, images):
    model, path = create_model(name, seed=1, size="tiny").eval(), folder / f"{name}.onnx"
    told = export_onnx(model, path)
    assert ("head_mask" in told["inputs"]) == bool(heads)
    if heads is None:
        given = answers(path, images)
        assert list(given) == ["logits"]
        assert (given["logits"] - batch_logits(model, images)).abs().max() < 1e-4
    elif heads:
        layers = capture_attention(model, images[:1])
        size = len(layers), layers[0].probs.shape[1]
        check_parity(model, path, images, np.ones(size).tolist())
        check_parity(model, path, images, np.random.default_rng(2).integers(0, 2, size).tolist())
    else:
        check_parity(model, path, images)


@pytest.mark.parametrize("name", LAYOUTS)
def test_models_answer_as_in_pytorch(name, tmp_path, test_split):
    check_layout(name, LAYOUTS[name], tmp_path, test_split.images[:20])


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_more_models_answer_as_in_pytorch(name, tmp_path, test_split):
    check_layout(name, MORE[name], tmp_path, test_split.images[:20])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fast", "best"])
def test_the_other_presets_answer_as_in_pytorch(name, tmp_path, test_split):
    model, path = load_pretrained(name), tmp_path / "model.onnx"
    export_onnx(model, path)
    check_parity(model, path, test_split.images[:100])


@pytest.mark.slow
def test_explain_is_right_as_often_as_in_pytorch(explain, test_split):
    right = batch_logits(explain[1], test_split.images).argmax(1) == test_split.labels
    assert measure_onnx(explain[2], test_split)["accuracy"] == right.double().mean().item()


def test_a_file_says_what_it_is_to_onnxruntime_alone(explain):
    reads = f"""
import json, sys, numpy, onnxruntime
session = onnxruntime.InferenceSession({str(explain[2])!r})
print(session.get_modelmeta().custom_metadata_map["vit_mnist"])
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", reads], capture_output=True, text=True, check=True)
    facts, card = json.loads(done.stdout), read_card("explain")
    assert (facts["name"], facts["classes"]) == ("vit", list("0123456789"))
    assert (facts["mean"], facts["std"], facts["data"]) == (0.1307, 0.3081, "mnist")
    assert facts["args"]["heads"] == 4 and facts["card"] == card


def test_nothing_of_where_it_was_made_stands_in_the_file(explain):
    assert b"site-packages" not in explain[2].read_bytes()
    assert [path.name for path in explain[2].parent.iterdir()] == ["explain.onnx"]


def test_eight_bits_are_smaller_and_nearly_as_good(explain, test_split, tmp_path):
    quantise_onnx(explain[2], tmp_path / "small.onnx")
    small, whole = (
        measure_onnx(p, test_split.take(500)) for p in (tmp_path / "small.onnx", explain[2])
    )
    assert small["bytes"] < 0.4 * whole["bytes"]
    assert abs(small["accuracy"] - whole["accuracy"]) < 0.02
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
    model = create_model("vit", seed=0, size="tiny")
    path = tmp_path / "model.onnx"
    path.write_bytes(b"what was there")
    traced = export._traced

    def other(wrapped, images, masked):  # an exporter that gets one weight wrong
        graph = traced(wrapped, images, masked)
        with torch.no_grad():
            wrapped.model.mlp_head.bias[3] += 0.01
        return graph

    monkeypatch.setattr(export, "_traced", other)
    with pytest.raises(UserError, match="differs from PyTorch by 0.01: not written"):
        export_onnx(model, path)
    assert path.read_bytes() == b"what was there" and len(list(tmp_path.iterdir())) == 1


def test_a_missing_extra_is_told_with_its_cure(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else True)
    cure = r'an export needs onnxscript: pip install "vit_mnist\[export\]"'
    with pytest.raises(UserError, match=cure):
        export_onnx(create_model("vit", seed=0, size="tiny"), tmp_path / "model.onnx")


def test_a_model_that_torch_can_not_trace_is_told_in_a_line(tmp_path):
    class Fickle(torch.nn.Module):
        def forward(self, images):
            sums = images.sum((1, 2, 3))
            return torch.stack([sums, sums if sums[0].item() > 0 else -sums], 1)

    with pytest.raises(UserError, match="Fickle can't be exported: ") as told:
        export_onnx(Fickle(), tmp_path / "model.onnx")
    assert "\n" not in str(told.value) and not list(tmp_path.iterdir())


def test_a_model_in_training_is_exported_as_it_answers(tmp_path, test_split):
    model = create_model("vit", seed=0, size="tiny", dropout=0.5).train()
    export_onnx(model, tmp_path / "model.onnx")
    assert model.training
    layers, heads = 3, 4
    check_parity(model, tmp_path / "model.onnx", test_split.images[:3], [[1] * heads] * layers)
