"Trust: strangers, scores by hand, files that lie or belong to another model, the twin in a page."

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from vit_mnist.core import UserError
from vit_mnist.data import load_data, normalise
from vit_mnist.element import base64_text
from vit_mnist.element import bundle, live_weights
from vit_mnist.model import batch_logits, create_model, load_model, safetensors_bytes, save_model
from vit_mnist.prediction import predict
from vit_mnist.presets import list_pretrained
from vit_mnist.trust import (
    _looks_shapes,
    LETTERS,
    SCORES,
    STRANGERS,
    Looks,
    Trust,
    auroc,
    fit_strangers,
    fit_trust,
    load_trust,
    make_strangers,
    read_tokens,
    redrawn,
    save_trust,
    trust_facts,
    trust_file,
)
from vit_mnist.weights import load_pretrained


@pytest.fixture(scope="module")
def data():
    return load_data()


@pytest.fixture(scope="module")
def trust():
    return load_trust(load_pretrained("explain"))


@pytest.fixture(scope="module")
def fitted(data):
    "A trust of an untrained model, from a few images"
    return fit_trust(create_model("vit", size="tiny", seed=0).eval(), data, n=200)


@pytest.fixture(scope="module")
def strangers():
    return {kind: make_strangers(kind, 104, seed=5) for kind in STRANGERS}


@pytest.fixture(scope="module")
def anew(data):
    return redrawn(data.test.images[5000:5100])


@pytest.mark.parametrize("name", list_pretrained())
def test_strangers_are_told_and_digits_are_trusted(name, data, strangers, anew):
    own = load_trust(name)
    assert own.trusted(data.test.images[5000:5300]).float().mean() >= 0.96
    for kind, images in strangers.items():
        assert (~own.trusted(images)).float().mean() >= 0.9, kind
    assert own.trusted(anew).float().mean() >= 0.85


def test_the_shapes_that_a_file_must_have_are_those_of_the_network():
    assert _looks_shapes() == {name: tuple(t.shape) for name, t in Looks().tensors().items()}


def test_an_empty_image_is_never_trusted(trust):
    empty = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    assert trust.score(empty).tolist() == [torch.inf] * 2 and not trust.trusted(empty).any()
    assert not trust.trusted(normalise(empty)).any()


def test_pixels_and_normalised_floats_score_alike_in_batches_of_any_size(trust, data):
    images = data.test.images[:33]
    score = trust.score(images)
    assert torch.allclose(trust.score(normalise(images)), score, atol=1e-3)
    apart = torch.cat([trust.score(part) for part in images.split(10)])
    assert torch.allclose(apart, score, atol=1e-4)


def test_the_models_own_scores_are_those_computed_by_hand(fitted, data):
    model, images = fitted.model, data.test.images[:20]
    logits, tokens = read_tokens(model, images)
    assert torch.allclose(logits, batch_logits(model, images), atol=1e-5)
    assert torch.allclose(model.mlp_head(tokens), logits, atol=1e-5)
    whiten, means = fitted.tensors["whiten"].double(), fitted.tensors["means"].double()
    by_hand = {
        "probability": (1 - logits.double().softmax(1).max(1).values).log(),
        "energy": -logits.double().exp().sum(1).log(),
        "distance": torch.stack(
            [
                min(((whiten @ t - m) ** 2).sum() for m in means).sqrt().log()
                for t in tokens.double()
            ]
        ),
    }
    centre, scale = fitted.tensors["centre"], fitted.tensors["scale"]
    parts = fitted.parts(images)
    for i, (name, raw) in enumerate(by_hand.items()):
        assert SCORES[i] == name
        assert torch.allclose(parts[:, i].double(), (raw - centre[i]) / scale[i], atol=2e-3), name
    weights = fitted.tensors["weights"]
    assert torch.allclose(fitted.score(images), parts @ weights)


def test_no_more_validation_images_are_refused_than_was_asked(fitted, data):
    refused = ~fitted.trusted(data.valid.images[:200])
    assert refused.float().mean() <= 0.015
    table = fitted.facts["validation"]
    assert table[fitted.facts["chosen"]]["caught"] == max(row["caught"] for row in table.values())


def test_auroc_is_the_share_of_pairs():
    assert auroc(torch.tensor([0.0, 1, 2]), torch.tensor([1.5, 3])) == pytest.approx(5 / 6)


def test_letters_that_are_classes_are_no_strangers():
    all_of_them, few = (fit_strangers(300, classes, 0) for classes in ("0123456789", LETTERS))
    assert len(all_of_them) - len(few) >= 130 and len(few) > 100
    assert len(fit_strangers(300, tuple("abc"), 0)) == len(all_of_them) - 9


def test_without_validation_images_nothing_is_chosen(data):
    with pytest.raises(UserError, match="no validation images"):
        fit_trust(load_pretrained("fast"), load_data(valid_size=0), n=10)


def test_a_class_without_images_and_classes_that_are_no_digits(data):
    keep = data.train.labels[:400] != 4
    few = replace(
        data.train, images=data.train.images[:400][keep], labels=data.train.labels[:400][keep]
    )
    named = tuple(f"class {i}" for i in range(10))
    other = replace(
        data, train=replace(few, classes=named), valid=replace(data.valid, classes=named)
    )
    model = create_model("mlp", seed=0).eval()
    found = fit_trust(model, other, n=100)
    assert found.tensors["means"].shape[0] == 9 and "out.weight" not in found.tensors
    assert found.parts(data.test.images[:3]).shape == (3, 3)
    assert "looks" not in found.facts["validation"]


def test_what_is_stored_comes_back_and_belongs_to_its_weights(fitted, data, tmp_path):
    path, images = tmp_path / "model.safetensors", data.test.images[:5]
    save_model(fitted.model, path)
    model = load_model(tmp_path)
    assert load_trust(model) is None and load_trust(tmp_path) is None
    save_trust(fitted, trust_file(path))
    again = load_trust(model)
    assert torch.equal(again.score(images), Trust(model, again.tensors, again.facts).score(images))
    assert torch.allclose(again.score(images), fitted.score(images), atol=1e-4)
    assert again.facts["threshold"] == fitted.facts["threshold"]
    assert predict(model, images[0]).trusted in (True, False)
    with torch.no_grad():
        model.mlp_head.bias.add_(1)
    assert load_trust(model) is None and predict(model, images[0]).trusted is None


def damaged(content, tmp_path, **facts):
    "Change what a file says, and its tensors by the function `tensors`"
    change = facts.pop("tensors", lambda tensors: tensors)
    path = tmp_path / "whole.trust"
    path.write_bytes(content)
    with safe_open(path, "pt") as file:
        said = json.loads(file.metadata()["trust"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    return safetensors_bytes(change(tensors), {"trust": json.dumps({**said, **facts})})


WRONG = {
    "cut off": lambda content, folder: content[:-100],
    "empty": lambda content, folder: b"",
    "a list": lambda content, folder: safetensors_bytes({"a": torch.zeros(1)}, {"trust": "[]"}),
    "no number": lambda content, folder: damaged(content, folder, threshold="high"),
    "unknown score": lambda content, folder: damaged(content, folder, chosen="luck"),
    "a tensor missing": lambda content, folder: damaged(
        content, folder, tensors=lambda t: {k: v for k, v in t.items() if k != "conv1.bias"}
    ),
    "another size": lambda content, folder: damaged(
        content, folder, tensors=lambda t: t | {"centre": torch.zeros(9)}
    ),
    "not finite": lambda content, folder: damaged(
        content, folder, tensors=lambda t: t | {"means": t["means"] * torch.nan}
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_damaged_file_is_one_line(kind, fitted, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(fitted.model, path)
    save_trust(fitted, trust_file(path))
    trust_file(path).write_bytes(WRONG[kind](trust_file(path).read_bytes(), tmp_path))
    with pytest.raises(UserError, match="damaged|not written by save_trust"):
        load_trust(tmp_path)


def test_models_of_other_kinds_have_tokens(data):
    for name in ("cct", "simple_vit", "cnn", "mlp"):
        model = create_model(name, size="tiny", seed=0).eval()
        logits, tokens = read_tokens(model, data.test.images[:7], batch_size=3)
        assert len(logits) == len(tokens) == 7 and tokens.ndim == 2
    with pytest.raises(UserError, match="no linear layer"):
        read_tokens(torch.nn.Flatten(), data.test.images[:1])


# ---- the page

ASK = """
const { ViT } = modules["vit.js"], { judge } = modules["trust.js"];
const toBytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
window.judgeAll = ([weights, facts, images]) => {
  const model = new ViT(toBytes(weights)), all = toBytes(images), found = [];
  for (let at = 0; at < all.length; at += 784) {
    const pixels = all.subarray(at, at + 784);
    found.push(judge(model.forward(pixels), facts, pixels));
  }
  const number = (score) => (Number.isFinite(score) ? score : null);
  return found.map(({ score, trusted, reason }) => [number(score), trusted, reason]);
};
"""


def judged(page, trust, images):
    "Return what the page says of images: scores, and whether each is trusted"
    given = [base64_text(live_weights(trust.model)), trust_facts(trust)]
    images = base64_text(images.numpy().tobytes())
    return page.evaluate("(given) => judgeAll(given)", [*given, images])


@pytest.fixture
def page(visit):
    page = visit("about:blank")
    page.add_script_tag(content=f"(() => {{ {bundle('trust.js')}{ASK} }})()")
    return page


def test_the_page_judges_as_python_does(page, trust, data):
    strangers = [make_strangers(kind, 10) for kind in STRANGERS]
    images = torch.cat([data.test.images[:40], *strangers])
    found = judged(page, trust, images)
    ours, theirs = np.array([row[0] for row in found]), trust.score(images).numpy()
    assert np.abs(ours - theirs).max() <= 1e-3 * np.abs(theirs).max()
    assert [row[1] for row in found] == trust.trusted(images).tolist()
    for (_, trusted, reason), image in zip(found, images):
        assert reason == ("" if trusted else trust.reason(image))
    (empty,) = judged(page, trust, torch.zeros(1, 1, 28, 28, dtype=torch.uint8))
    assert empty == [None, False, "there is no ink"]


def test_the_page_judges_a_model_that_pools_by_the_mean(page, data):
    model = create_model("vit", size="tiny", pool="mean", seed=0).eval()
    other = fit_trust(model, data, n=200)
    other.tensors["weights"] = torch.tensor([0.5, 0.25, 1.0, 0.5])
    images = data.test.images[:10]
    ours = np.array([row[0] for row in judged(page, other, images)])
    theirs = other.score(images).numpy()
    assert np.abs(ours - theirs).max() <= 1e-3 * np.abs(theirs).max()


def test_facts_are_json_and_small_and_of_a_plain_vit_alone(trust, fitted):
    text = json.dumps(trust_facts(trust))
    assert len(text) < 100_000 and trust_facts(trust.model) == json.loads(text)
    with pytest.raises(UserError, match="the model vit, not cct"):
        trust_facts(load_pretrained("fast"))
    with pytest.raises(UserError, match="no threshold is stored"):
        trust_facts(copy.deepcopy(fitted.model))
