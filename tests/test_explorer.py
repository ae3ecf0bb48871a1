"Explorer: what the kernel answers, refuses and forgets, and the page that it writes."

import base64
import json
import re
import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from vit_mnist import element
from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.explorer import AttentionExplorer
from vit_mnist.maps import capture_attention
from vit_mnist.model import about, create_model, declare, save_model
from vit_mnist.perturbation import AblatedHeads

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


def test_what_a_page_leaves_out_is_said_on_it_and_by_save(explorer, tmp_path, capsys, monkeypatch):
    data = held(explorer.save(tmp_path / "all.html").read_text())
    assert (len(data["images"]), data["left_out"], capsys.readouterr().out) == (3, "", "")
    data = held(explorer.save(tmp_path / "two.html", images=2).read_text())
    assert data["left_out"] == "This page holds the first 2 of 3 images."
    said = f"{tmp_path / 'two.html'} holds the first 2 of 3 images; images=3 keeps all\n"
    assert capsys.readouterr().out == said
    sizes = [len(json.dumps(result)) for result in data["results"]]
    one = sizes[0] + len(data["images"][0]["pixels"])
    monkeypatch.setattr("vit_mnist.explorer._page_bytes", 2.5 * one)
    assert len(held(explorer.save(tmp_path / "fits.html").read_text())["images"]) == 2
    monkeypatch.setattr("vit_mnist.explorer._page_bytes", 1)
    explorer.image = 2
    page = explorer.save(tmp_path / "one.html").read_text()
    assert held(page)["state"]["image"] == 0 and 'alt="What vit attends to over the image 7' in page
    with pytest.raises(UserError, match="images must be at least 1, not 0"):
        explorer.save(tmp_path / "none.html", images=0)


def test_its_repr_says_where_it_stands_in_the_numbers_of_the_page(explorer):
    assert repr(explorer).endswith("3 images; image 0, layer 2, mean of all heads, class token")
    explorer.image, explorer.head, explorer.query = 1, 0, (2, 3)
    assert repr(explorer).endswith("image 1, layer 2, head 0, patch (2, 3)")
    explorer.method = "relevance"
    assert repr(explorer).endswith("image 1, relevance")


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
    shared = {"image", "layer", "head", "query", "method", "target", "step", "off", "same_scale"}
    assert shared <= set(explorer.get_state())


def photograph(height, width, seed=0):
    return np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)


def test_photographs_of_any_form_are_taken_and_others_refused(rgb):
    array = photograph(48, 64)
    pixels = torch.from_numpy(array).movedim(2, 0)
    forms = array, Image.fromarray(array), [array], pixels, pixels[None]
    for form in forms:
        assert torch.equal(AttentionExplorer(rgb, form, methods=["ink"]).images[0], pixels)
    explorer = AttentionExplorer(rgb, [array, array], [3, 39], methods=["ink"])
    explorer.add(Image.fromarray(photograph(48, 64, 1)), label=2)
    explorer.replace(0, photograph(48, 64, 2), "new")
    assert [image["title"] for image in explorer._data["images"]] == ["new", "39", "2"]
    assert np.array_equal(explorer.images[0].movedim(0, 2), photograph(48, 64, 2))
    for change in explorer.add, lambda image: explorer.replace(0, image):
        with pytest.raises(UserError, match=r"is \[3, 48, 64\], not \[3, 64, 48\]"):
            change(photograph(64, 48))
        with pytest.raises(UserError, match="one image at a time, not 2"):
            change([array, array])
    with pytest.raises(UserError, match="labels must be a class from 0 to 39, not"):
        explorer.add(array, label=40)
    assert len(explorer.images) == 3
    with pytest.raises(UserError, match="how Sequential wants its pixels normalised"):
        own = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48 * 64 * 3, 2))
        AttentionExplorer(own, array)


def test_windows_registers_and_heads_off_of_models_that_declare_nothing(rgb):
    torch.manual_seed(0)
    small = {"img_size": 32, "patch_size": 4, "num_classes": 5}
    swin = {"window_size": 4, "embed_dim": 12, "depths": (2, 1), "num_heads": (1, 2)}
    vit = {"embed_dim": 24, "depth": 2, "num_heads": 3, "reg_tokens": 2}
    models = {
        "swin_tiny_patch4_window7_224": (swin, (5, 6)),
        "vit_tiny_patch16_224": (vit, "register 2"),
    }
    for name, (args, query) in models.items():
        model = timm.create_model(name, **small, **args).eval()
        explorer = AttentionExplorer(model, photograph(32, 32))
        explorer.layer = 1
        explorer.query = query
        maps = capture_attention(model, explorer.images)
        assert torch.allclose(explorer.map, maps.on_grid(1, query)[0].mean(0), atol=1e-6)
        explorer.off = [(0, 0)]
        ablated = capture_attention(AblatedHeads(model, [(0, 0)]), explorer.images)
        assert torch.allclose(explorer.probs, ablated.logits[0].softmax(0), atol=1e-6)
        assert not torch.allclose(explorer.probs, maps.logits[0].softmax(0), atol=1e-6)


def test_the_kernel_answers_with_what_a_large_model_leaves_out(rgb, monkeypatch):
    monkeypatch.setattr(element, "_patch_bytes", 1600)
    explorer, sent = AttentionExplorer(rgb, photograph(48, 64), methods=["relevance"]), []
    explorer.send = lambda content, buffers=None: sent.append((content["result"], buffers[0]))
    need = {"image": 0, "step": None, "off": []}
    explorer._handle_custom_msg({"need": {**need, "layer": 1, "query": [5, 7]}}, [])
    row, packed = sent.pop()
    assert row == {**need, "layer": 1, "query": [5, 7], "row": True}
    scales = torch.frombuffer(bytearray(packed[:12]), dtype=torch.float32)
    codes = torch.frombuffer(bytearray(packed[12:]), dtype=torch.uint8).view(3, 6, 8)
    exact = capture_attention(rgb, explorer.images).on_grid(1, (5, 7))[0]
    assert torch.allclose(codes / 255 * scales[:, None, None], exact, atol=1e-4)
    unlikely = int(explorer.probs.argmin())
    explorer._handle_custom_msg({"need": {**need, "method": "relevance", "target": unlikely}}, [])
    explorer.method, explorer.target = "relevance", unlikely
    (values,) = sent.pop()[0]["more"]["values"]
    assert torch.allclose(torch.tensor(values), explorer.map.flatten(), rtol=1e-2, atol=1e-9)


def test_a_page_of_a_large_model_is_small_and_says_what_it_leaves_out(tmp_path):
    model = create_model("vit", seed=0, size="tiny").eval()
    assert AttentionExplorer(model, DIGITS)._data["left_out"] == ""
    torch.manual_seed(0)
    large = {"embed_dim": 96, "depth": 12, "num_heads": 12}  # as many shares as a ViT-B has
    model = timm.create_model("vit_tiny_patch16_224", **large).eval()
    explorer = AttentionExplorer(model, photograph(224, 224))
    page = explorer.save(tmp_path / "page.html")
    assert page.stat().st_size < 1_500_000
    data = held(page.read_text())
    assert "the mean over all heads in layers 0 to 11" in data["left_out"]
    assert len(data["results"][0]["shown"]) == 5 and len(data["results"][0]["probs"]) == 1000


def test_an_output_without_classes_is_a_sigmoid(rgb):
    model = torch.nn.Sequential(rgb, torch.nn.Linear(40, 1)).eval()
    declare(model, normalise=(0.5, 0.5))
    explorer = AttentionExplorer(model, photograph(48, 64), [1], methods=["ink", "attention"])
    logit = model(about(model).takes(explorer.images)).detach()
    assert torch.allclose(explorer.probs, logit.sigmoid()[0], atol=1e-6)
    explorer.method = "ink"
    assert explorer.map.shape == (48, 64)


VIEW = "application/vnd.jupyter.widget-view+json"


def test_an_output_holds_page_and_picture_and_a_view_only_where_nothing_else_is_shown(
    explorer, monkeypatch
):
    data, metadata = explorer._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html", "image/png"} and not metadata
    assert "<b>run this cell first</b>" in data["text/html"]
    monkeypatch.setitem(sys.modules, "google.colab", object())
    data, _ = explorer._repr_mimebundle_()
    assert data[VIEW]["model_id"] == explorer.model_id and "text/html" in data


def test_an_output_holds_small_snapshots_of_a_run_too(model, tmp_path):
    for step in (0, 10):
        save_model(model, tmp_path / "snapshots" / f"step-{step:06d}.safetensors")
    small = AttentionExplorer(model, load_data().test.images[:1], run=tmp_path)
    held = small._repr_mimebundle_()[0]["text/html"].split('application/json">')[1]
    page = json.loads(held.split("</script>")[0])
    assert page["steps"] == [0, 10] and {r["step"] for r in page["results"]} == {None, 0, 10}
