"""The model in the page, in a real browser: numbers equal to PyTorch's, damaged weights, speed."""

import base64
import copy
import json
import math
import random
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter
from vit_pytorch import ViT

from vit_mnist.attention import record_attention
from vit_mnist.core import to_json
from vit_mnist.data import load_data, normalise
from vit_mnist.digits import prepare_digit
from vit_mnist.element import base64_text, bundle, live_weights
from vit_mnist.maps import capture_attention
from vit_mnist.methods import METHODS
from vit_mnist.model import batch_logits, create_model, safetensors_bytes
from vit_mnist.perturbation import AblatedHeads
from vit_mnist.weights import load_pretrained

# what the tests ask of the page: bytes travel as base64, results as float32, one after the other
ASK = """
const { ViT } = modules["vit.js"];
const toBytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
function toText(tables) {
  let text = "";
  for (const table of tables) {
    const bytes = new Uint8Array(table.buffer);
    for (let i = 0; i < bytes.length; i += 9999)
      text += String.fromCharCode(...bytes.subarray(i, i + 9999));
  }
  return btoa(text);
}
let model;
const load = (weights) => { model = new ViT(toBytes(weights)); };
function ask({ image, floats, masks, names }) {
  const bytes = toBytes(image), numbers = floats ? new Float32Array(bytes.buffer) : bytes;
  const result = model.forward(numbers, masks);
  return names.map((name) => toText([result[name]].flat()));
}
ask.logits = (image) => model.forward(image).logits;
Object.assign(window, { load, ask, toBytes });
"""
PARTS = ("logits", "attention", "queries", "keys", "values", "tokens", "answers")


@pytest.fixture
def page(visit):
    page = visit("about:blank")
    page.add_script_tag(content=f"(() => {{ {bundle('vit.js')}{ASK} }})()")
    return page


def load(page, content):
    page.evaluate("(weights) => load(weights)", base64_text(content))


def numbers(text):
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.float32)


def ask(page, image, masks=None, names=PARTS):
    "Return what the page computes of one image, each part flat"
    floats = image.is_floating_point()
    image = base64_text(image.numpy().tobytes())
    given = {"image": image, "floats": floats, "masks": masks or {}, "names": list(names)}
    texts = page.evaluate("(given) => ask(given)", given)
    return SimpleNamespace(**dict(zip(names, map(numbers, texts))))


def in_torch(model, images, heads=None):
    """Return the same parts by PyTorch, [n, layers, ...]; `heads` multiplies each head's weights.
    In float64: for some of MNIST's images PyTorch's own float32 attention is wrong by 1e-5."""
    model, images = copy.deepcopy(model).double(), images.double()
    tokens, layers = [], model.transformer.layers
    watched = [layer[0] for layer in layers] + [model.transformer.norm]
    hooks = [m.register_forward_pre_hook(lambda m, args: tokens.append(args[0])) for m in watched]

    def edit(attention):
        return attention.weights * torch.tensor(heads[attention.layer])[:, None, None]

    with torch.no_grad(), record_attention(len(images), edit=heads and edit) as seen:
        logits = model(images)
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        normed = [model.transformer.norm(each) for each in tokens]
        pooled = [t.mean(1) if model.pool == "mean" else t[:, 0] for t in normed]
        answers = torch.stack([model.mlp_head(each) for each in pooled], 1)
    parts = {"attention": "probs", "queries": "queries", "keys": "keys", "values": "values"}
    stacked = {k: torch.stack([getattr(a, v) for a in seen], 1) for k, v in parts.items()}
    return SimpleNamespace(logits=logits, tokens=torch.stack(tokens, 1), answers=answers, **stacked)


def check_close(ours, theirs, i=0):
    for name in vars(ours):
        bound = 1e-5 if name == "attention" else 1e-4
        wrong = (getattr(ours, name) - getattr(theirs, name)[i].flatten()).abs().max()
        assert wrong < bound, (name, wrong)
    assert ours.logits.argmax() == theirs.logits[i].argmax()


@pytest.fixture(scope="module")
def explainer():
    return load_pretrained("explain")


@pytest.fixture(scope="module")
def digits():
    return load_data().test.images


def test_the_page_computes_what_pytorch_computes_of_test_images(page, explainer, digits):
    load(page, live_weights(explainer))
    for images in digits[:500].split(100):
        theirs = in_torch(explainer, normalise(images))
        for i, image in enumerate(images):
            check_close(ask(page, image, names=PARTS if i == 0 else PARTS[:2]), theirs, i)


def random_model(number):
    "Make a plain ViT of any size with wide weights, and the file that a page reads it from"
    draw, generator = random.Random(number), torch.Generator().manual_seed(number)
    patch = draw.choice([2, 3, 4, 7]), draw.choice([2, 3, 4, 7])
    grid, heads = (draw.randint(1, 5), draw.randint(1, 5)), draw.randint(1, 4)
    dim, dim_head = draw.randint(2, 40), draw.randint(1, 20)
    if number % 5 == 0:  # vit-pytorch mixes no heads where there is one of the tokens' own width
        heads, dim_head = 1, dim
    args = {
        "image_size": [p * n for p, n in zip(patch, grid)],
        "patch_size": list(patch),
        "num_classes": draw.randint(2, 12),
        "channels": draw.choice([1, 2, 3]),
        "pool": draw.choice(["cls", "mean"]),
        "depth": draw.randint(1, 4),
        "mlp_dim": draw.randint(1, 50),
        **{"dim": dim, "heads": heads, "dim_head": dim_head},
    }
    pairs = {key: tuple(args[key]) for key in ("image_size", "patch_size")}
    model = ViT(**{**args, **pairs}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.3 * noise)
            if number % 3 == 0:
                parameter.copy_(parameter.half())
    tensors = model.state_dict()
    if number % 3 == 0:
        tensors = {name: tensor.half() for name, tensor in tensors.items()}
    classes = list(map(str, range(args["num_classes"])))
    spec = {"name": "vit", "args": args, "mean": 0.25, "std": 0.5, "classes": classes}
    content = safetensors_bytes(tensors, {"vit_mnist": to_json(spec)})
    return model, args, grid, content, draw, generator


def emptied(images, patches, grid, black):
    "Return images with black pixels where `patches` has a 0"
    rows, columns = images.shape[2] // grid[0], images.shape[3] // grid[1]
    kept = torch.tensor(patches).view(1, 1, *grid).bool()
    kept = kept.repeat_interleave(rows, 2).repeat_interleave(columns, 3)
    return images.where(kept, torch.tensor(black))


def test_the_page_computes_models_of_any_size_with_heads_and_patches_off(page):
    for number in range(50):
        model, args, grid, content, draw, generator = random_model(number)
        load(page, content)
        shape = 1, args["channels"], *args["image_size"]
        pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        images = normalise(pixels, 0.25, 0.5)
        check_close(ask(page, pixels), in_torch(model, images))
        check_close(ask(page, images), in_torch(model, images))

        heads = [draw.choices([0, 1, 0.5], k=args["heads"]) for _ in range(args["depth"])]
        patches = draw.choices([0, 1], k=math.prod(grid))
        theirs = in_torch(model, emptied(images, patches, grid, -0.5), heads)
        for given in pixels, images:
            check_close(ask(page, given, {"heads": heads, "patches": patches}), theirs)


def test_heads_and_patches_are_taken_away_as_python_takes_them_away(page, explainer, digits):
    load(page, live_weights(explainer))
    image, off = digits[7:8], [(0, 1), (4, 0), (4, 1), (4, 2), (4, 3)]
    heads = [[float((layer, head) not in off) for head in range(4)] for layer in range(6)]
    maps = capture_attention(AblatedHeads(explainer, off), image)
    ours = ask(page, image, {"heads": heads})
    assert torch.allclose(ours.logits, maps.logits[0], atol=1e-4)
    theirs = torch.stack([each.probs[0] for each in maps]).flatten()
    assert torch.allclose(ours.attention, theirs, atol=1e-4)

    whole = ask(page, image).logits
    target = whole.argmax().item()
    lost = METHODS["occlusion"].run(explainer, normalise(image), torch.tensor([target])).values
    for patch in 0, 24, 31:
        kept = [float(i != patch) for i in range(49)]
        logits = ask(page, image, {"patches": kept}).logits
        gone = whole[target] - logits[target]
        assert abs(gone - lost.flatten()[patch]) < 1e-4


def test_half_precision_answers_alike(page, explainer, digits):
    load(page, live_weights(explainer, half=True))
    theirs = batch_logits(explainer, digits[:50])
    ours = torch.stack([ask(page, image, names=["logits"]).logits for image in digits[:50]])
    assert (ours - theirs).abs().max() < 0.05
    assert torch.equal(ours.argmax(1), theirs.argmax(1))


@pytest.mark.slow
def test_the_page_is_right_as_often_as_pytorch(page, explainer):
    load(page, live_weights(explainer))
    test = load_data().test
    right = page.evaluate(
        """([images, labels]) => {
          const all = toBytes(images), digits = toBytes(labels);
          return digits.reduce((sum, digit, i) => {
            const logits = ask.logits(all.subarray(784 * i, 784 * (i + 1)));
            return sum + (logits.indexOf(Math.max(...logits)) === digit);
          }, 0);
        }""",
        [
            base64_text(each.to(torch.uint8).numpy().tobytes())
            for each in (test.images, test.labels)
        ],
    )
    assert right == (batch_logits(explainer, test.images).argmax(1) == test.labels).sum()


# ---- damaged weights: one sentence


def in_header(change):
    "Return what changes the header of a safetensors file"

    def damage(content):
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        change(header)
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + content[8 + size :]

    return damage


def in_spec(args=(), **changes):
    "Return what changes what a file says of its model"

    def change(header):
        spec = {**json.loads(header["__metadata__"]["vit_mnist"]), **changes}
        spec["args"].update(args)
        header["__metadata__"]["vit_mnist"] = json.dumps(spec)

    return in_header(change)


def in_entry(**changes):
    "Return what changes where and how the class token lies in a file"
    return in_header(lambda header: header["cls_token"].update(changes))


SHORT, FAR = "damaged: the file ends before its header does", "the file ends before cls_token does"
UNREAD, NO_MODEL = "damaged: their header can't be read", "write them with save_model"
NO_SIZE, UNFIT = "sizes that no model has", "don't fit their model"
DAMAGE = {
    "nothing at all": (lambda b: b"", SHORT),
    "a few bytes": (lambda b: b[:7], SHORT),
    "half a header": (lambda b: b[:500], SHORT),
    "a header without end": (lambda b: b"\xff" * 8 + b[8:], SHORT),
    "no JSON": (lambda b: b[:8] + b"?" + b[9:], UNREAD),
    "other JSON": (lambda b: b"\2" + bytes(7) + b"12", UNREAD),
    "half the numbers": (lambda b: b[:-1000], "damaged: the file ends before .* does"),
    "an empty entry": (in_header(lambda header: header.update(cls_token=None)), "cls_token"),
    "no shape": (in_entry(shape=7), "where cls_token lies"),
    "a place before": (in_entry(data_offsets=[-256, 0]), FAR),
    "no place": (in_entry(data_offsets=["a", {}]), FAR),
    "another size": (in_entry(shape=[1, 63]), "cls_token is not of its shape"),
    "another type": (in_entry(dtype="BF16"), "cls_token is neither float32 nor float16"),
    "no number": (lambda b: b[:-4] + b"\0\0\xc0\x7f", "holds what is no number"),
    "infinity": (lambda b: b[:-4] + b"\0\0\x80\x7f", "holds what is no number"),
    "a lost tensor": (
        in_header(lambda header: header.pop("pos_embedding")),
        r"don't fit their model: pos_embedding must be \[17, 64\]",
    ),
    "one too many": (
        in_header(lambda header: header.update(more=header["cls_token"])),
        "it has no more",
    ),
    "no model": (in_header(lambda header: header.pop("__metadata__")), NO_MODEL),
    "nonsense of a model": (
        in_header(lambda header: header["__metadata__"].update(vit_mnist="[")),
        NO_MODEL,
    ),
    "no scale": (in_spec(std=0), NO_MODEL),
    "no classes": (in_spec(classes=None), NO_MODEL),
    "another model": (in_spec(name="cct"), "computes the model vit, not cct"),
    "half a head": (in_spec({"heads": 2.5}), NO_SIZE),
    "no depth": (in_spec({"depth": 0}), NO_SIZE),
    "words for sizes": (in_spec({"dim": "64"}), NO_SIZE),
    "cut unevenly": (in_spec({"patch_size": 5}), NO_SIZE),
    "far too deep": (in_spec({"depth": 10**9}), UNFIT),
    "far too wide": (in_spec({"heads": 10**9}), UNFIT),
    "other heads": (in_spec({"heads": 8}), UNFIT),
}


@pytest.fixture(scope="module")
def small():
    return live_weights(create_model("vit", seed=0, size="tiny"))


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_weights_are_told_in_a_sentence(page, small, kind):
    damage, said = DAMAGE[kind]
    script = "(weights) => { try { load(weights); } catch (error) { return String(error); } }"
    message = page.evaluate(script, base64_text(damage(small)))
    assert message and message.startswith("Error: Th") and message.endswith("."), message
    assert re.search(said, message), message


def test_an_image_of_another_size_is_refused(page, small):
    load(page, small)
    with pytest.raises(Exception, match="An image has 784 numbers."):
        ask(page, torch.zeros(27, 28, dtype=torch.uint8))


# ---- a drawing made like MNIST's digits


@pytest.fixture
def desk(visit):
    page = visit("about:blank")
    page.add_script_tag(content=f"(() => {{ {bundle('digits.js')}{ASK_DIGITS} }})()")
    return page


ASK_DIGITS = """
const { prepareDigit, describeStep } = modules["digits.js"];
window.prepare = ({ gray, width, height }) => {
  const step = prepareDigit(Uint8Array.from(atob(gray), (c) => c.charCodeAt(0)), width, height);
  return step && { ...step, pixels: [...step.pixels], words: describeStep(step) };
};
"""


def prepare(page, gray):
    "Return what the page makes of gray pixels, [height, width]"
    height, width = gray.shape
    given = {"gray": base64_text(gray.tobytes()), "width": width, "height": height}
    return page.evaluate("(given) => prepare(given)", given)


def check_twins(page, gray):
    ours, theirs = prepare(page, gray), prepare_digit(gray).flatten().int()
    assert (torch.tensor(ours["pixels"]) - theirs).abs().max() <= 2


def strokes(draw, side):
    "Draw one to three strokes, thick or thin, anywhere, over the edge too"
    image = Image.new("L", (side, side))
    pen = ImageDraw.Draw(image)
    for _ in range(draw.randint(1, 3)):
        points = [(draw.uniform(-0.1, 1.1) * side, draw.uniform(-0.1, 1.1) * side) for _ in "abcd"]
        pen.line(points[: draw.randint(2, 4)], draw.randint(90, 255), draw.randint(1, side // 5))
    return np.array(image)


def test_python_and_the_page_make_the_same_of_strokes(desk):
    draw, drawn = random.Random(0), 0
    while drawn < 200:
        gray = strokes(draw, draw.choice([28, 60, 140, 199]))
        if len(np.unique(gray)) > 1:
            check_twins(desk, 255 - gray if drawn % 4 == 0 else gray)
            drawn += 1


def test_python_and_the_page_make_the_same_of_digits_anywhere(desk, digits):
    draw = random.Random(1)
    for digit in digits[:50]:
        size, height, width = draw.randint(12, 120), draw.randint(130, 180), draw.randint(130, 180)
        image = Image.fromarray(digit[0].numpy()).resize((size, size), Image.Resampling.BILINEAR)
        for _ in range(draw.randint(0, 2)):
            image = image.filter(ImageFilter.MaxFilter(3))  # thicker
        paper = Image.new("L", (width, height))
        paper.paste(image, (draw.randint(0, width - size), draw.randint(0, height - size)))
        check_twins(desk, np.array(paper))


def test_python_and_the_page_make_the_same_of_uneven_paper(desk, digits):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:56, :84]
    for digit in digits[:10]:
        ink = np.pad(digit[0].numpy(), ((9, 19), (30, 26)))
        light = 200 - 0.5 * x - 0.3 * y + rng.normal(0, 2, ink.shape)
        check_twins(desk, (light - 0.5 * ink).clip(0, 255).astype(np.uint8))


def square(top, left, side):
    gray = np.zeros((140, 140), np.uint8)
    gray[top : top + side, left : left + side] = 255
    return gray


@pytest.mark.parametrize(
    "gray, words",
    [
        (square(20, 20, 100), "left as it was drawn"),
        (square(35, 20, 100), "moved up 3"),
        (square(5, 10, 100), "moved down 3 and right 2"),
        (square(45, 45, 50), "made 2.0 times larger"),
        (square(0, 0, 140), None),
        (square(10, 5, 125), "moved right 1, made 1.3 times smaller"),
        (square(60, 75, 50), "moved up 3 and left 6, made 2.0 times larger"),
    ],
)
def test_the_page_says_what_centring_did(desk, gray, words):
    step = prepare(desk, gray)
    assert (step and step["words"]) == words


def test_a_symmetric_drawing_lies_alike_in_both(desk):
    for wide in range(5, 60, 5):
        gray = np.zeros((140, 140), np.uint8)
        gray[20:120, 40 : 40 + wide] = 200
        gray[60:63, 40 : 40 + wide] = 123
        check_twins(desk, gray)
