"Explorer: what the kernel answers, refuses and forgets, and the page that it writes."

import base64
import json
import re

import pytest
import torch

from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.explorer import AttentionExplorer
from vit_mnist.maps import capture_attention
from vit_mnist.model import create_model, save_model

DIGITS, LABELS = load_data().test[:3]


@pytest.fixture(scope="module")
def model():
    return create_model("vit", seed=0, size="tiny").eval()


@pytest.fixture
def explorer(model):
    return AttentionExplorer(model, DIGITS, LABELS)


def held(html):
    "Read the data that a page holds"
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', html)[1])


def test_a_page_holds_the_first_images_as_they_stand_and_switched_off_heads_beside(explorer):
    explorer.image, explorer.layer, explorer.head, explorer.query = 2, 0, 1, (1, 2)
    explorer.off = [(1, 0)]
    data = held(explorer.html(images=2))
    assert [image["title"] for image in data["images"]] == ["7", "2"] and data["live"] is False
    assert [(r["image"], r["off"]) for r in data["results"]] == [
        (i, off) for i in (0, 1) for off in ([], [[1, 0]])
    ]
    state = data["state"]
    assert [state[key] for key in ("image", "layer", "head", "query")] == [
        0,
        0,
        1,
        [1, 2],
    ]  # image 2 is not there
    whole, less = explorer.result(1), explorer.result(1, off=[(1, 0)])
    assert base64.b64decode(data["results"][2]["attention"]) == whole[1] != less[1]
    assert data["results"][3]["probs"] == less[0]["probs"] != whole[0]["probs"]


def test_a_saved_page_replaces_the_one_before_and_its_path_comes_back(explorer, tmp_path):
    path = tmp_path / "folder" / "page.html"
    for count in 1, 3:
        assert explorer.save(path, images=count) == path
        assert len(held(path.read_text())["images"]) == count
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]
    with pytest.raises(UserError, match="can't write"):
        explorer.save(path / "below")


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("head", -5, "head must be from 0 to"),
        ("target", 10, "target must be from 0 to 9, not 10"),
        ("method", "relevanc", "did you mean 'relevance'"),
        ("query", (0, 4), "column must be from 0 to 3, not 4"),
    ],
)
def test_what_is_not_there_is_refused_and_nothing_changes(explorer, name, value, message):
    before = getattr(explorer, name)
    with pytest.raises(UserError, match=message):
        setattr(explorer, name, value)
    assert getattr(explorer, name) == before


def test_results_are_computed_once_until_their_image_is_replaced(explorer):
    kept, other = explorer.result(0), explorer.result(1)
    assert explorer.result(0, off=[(1, 1), (0, 0)]) is explorer.result(0, off=[(0, 0), (1, 1)])
    explorer.replace(0, DIGITS[2], "new")
    assert explorer.result(1) is other and explorer.result(0) is not kept
    assert explorer.result(0)[0] == explorer.result(2)[0]
    assert torch.equal(explorer.images[0], DIGITS[2]) and not torch.equal(DIGITS[0], DIGITS[2])
    assert held(explorer.html())["images"][0]["title"] == "new"


def test_snapshots_of_a_run_are_its_steps_in_order(model, tmp_path):
    for step in 20, 3:
        file = tmp_path / "snapshots" / f"step-{step:06d}.safetensors"
        save_model(create_model("vit", seed=step, size="tiny"), file)
    explorer = AttentionExplorer(model, DIGITS[:1], run=tmp_path)
    results = held(explorer.html(steps=True))["results"]
    assert [result["step"] for result in results] == [None, 3, 20]
    explorer.step = 3
    early = capture_attention(create_model("vit", seed=3, size="tiny").eval(), DIGITS[:1])
    assert torch.allclose(explorer.probs, early.logits[0].softmax(0), atol=1e-6)
    explorer.query = "mean"
    assert torch.allclose(explorer.map, early.on_grid(query="mean")[0].mean(0), atol=1e-6)


def test_the_page_is_answered_and_told_of_a_new_image_and_may_move_by_itself(explorer):
    sent = []
    explorer.send = lambda content, buffers=None: sent.append((content, buffers))
    need = {"image": 1, "step": None, "off": []}
    explorer._handle_custom_msg({"need": need}, [])  # as ipywidgets hands it on
    explorer.replace(1, DIGITS[0], "new")
    (answer, before), (told, after) = sent
    assert answer["result"].items() >= need.items() and before != after == [explorer.result(1)[1]]
    assert (
        told["replaced"]["title"] == "new"
        and told["result"]["probs"] == explorer.result(1)[0]["probs"]
    )
    explorer.query = (1, 2)
    explorer.set_state({"layer": 0, "method": "rollout", "head": 1})
    assert (explorer.layer, explorer.head, explorer.method, explorer.query) == (
        0,
        1,
        "rollout",
        (1, 2),
    )
    shared = {"image", "layer", "head", "query", "method", "target", "step", "off"}
    assert shared <= set(explorer.get_state())
