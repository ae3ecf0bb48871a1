"""The panels of the live page, in a real browser: numbers equal to PyTorch's, links, the walk."""

import json
import random
import re
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from vit_mnist.attention import record_attention
from vit_mnist.attribution import token_lens
from vit_mnist.core import UserError
from vit_mnist.data import load_data, normalise
from vit_mnist.element import base64_text, bundle
from vit_mnist.explanation import explain
from vit_mnist.inside import look_inside
from vit_mnist.model import batch_logits, create_model, load_model, save_model
from vit_mnist.panels import faithfulness_facts, panel_html, panels_data, snapshots_of
from vit_mnist.perturbation import AblatedHeads
from vit_mnist.weights import load_pretrained

NAMES = "layers", "apart", "change", "move", "why", "training"
FAULTS = Path(__file__).with_name("page_faults.js").read_text()
PHONE = {"width": 360, "height": 740}
SAID = "document.querySelector('vit-panel').panel.node.querySelector('.panel-said').textContent"
PANEL = "document.querySelector('vit-panel')"


@pytest.fixture(scope="module")
def explainer():
    "The model as a page has it, its weights rounded to half precision"
    model = load_pretrained("explain")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    return model


@pytest.fixture(scope="module")
def digits():
    return load_data().test.images


@pytest.fixture(scope="module")
def facts():
    return panels_data()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A folder as a training run leaves it, with the weights of three steps"
    folder = tmp_path_factory.mktemp("run")
    (folder / "snapshots").mkdir()
    for step in (0, 30, 1200):
        model = create_model("vit", seed=step, size="tiny")
        save_model(model, folder / "snapshots" / f"step-{step:06d}.safetensors")
    return folder


@pytest.fixture
def show(visit, tmp_path, explainer):
    "Open a page with one panel"

    def show(panel, image=None, data=None, viewport=None, **state):
        html = panel_html(panel, image, explainer, data, **state)
        html = html.replace("const modules = {}", "const modules = (window.modules = {})", 1)
        scheme = "<style>:root { color-scheme: light dark; } "
        colours = "body { margin: 0; padding: 8px; background: Canvas; color: CanvasText; }"
        meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        (tmp_path / "page.html").write_text(
            f"<!doctype html>{meta}{scheme}{colours}</style>{html}", encoding="utf-8"
        )
        size = {"viewport": viewport} if viewport else {}
        return visit(f"file://{tmp_path}/page.html", **size)

    return show


@pytest.fixture
def modules(visit):
    "A page that has the functions of the panels, and a model, but no element"
    page = visit("about:blank")
    page.add_script_tag(content=f"(() => {{ {bundle('panel.js')} window.modules = modules; }})()")
    return page


def said(page):
    return page.evaluate(SAID)


def ask(page, script, given=None):
    "Run JavaScript of the panel's element, `panel`"
    return page.evaluate(f"(given) => {{ const panel = {PANEL}; return {script}; }}", given)


def put(page, image):
    "Change the drawing"
    text = base64_text(image.numpy().tobytes())
    bytes_of = "Uint8Array.from(atob(given), (letter) => letter.charCodeAt(0))"
    ask(page, f"void (panel.pixels = {bytes_of})", text)


def by_layers(model, images):
    "Return what the head reads from the tokens of every layer, by PyTorch, [n, depth + 1, classes]"
    tokens = []
    watched = [layer[0] for layer in model.transformer.layers] + [model.transformer.norm]
    hooks = [m.register_forward_pre_hook(lambda m, args: tokens.append(args[0])) for m in watched]
    with torch.no_grad():
        model(normalise(images))
        for hook in hooks:
            hook.remove()
        read = [model.mlp_head(model.transformer.norm(each)[:, 0]) for each in tokens]
    return torch.stack(read, 1)


# ---- after every layer


def test_the_answer_after_every_layer_is_pytorchs(show, explainer, digits):
    page = show("layers", digits[0])
    for image, logits in zip(digits[:8], by_layers(explainer, digits[:8])):
        put(page, image)
        rows = page.locator("tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.querySelectorAll('td')].map(cell => cell.textContent))"
        )
        shares, answers = logits.softmax(1), logits.argmax(1).tolist()
        for row, share in zip(rows, shares):
            for text, value in zip(row, share):
                assert abs(int(text or 0) - 100 * value) < 0.51
        start = len(answers) - 1
        while start and answers[start - 1] == answers[-1]:
            start -= 1
        framed = page.locator(".layers-first").evaluate_all("all => all.map(one => one.cellIndex)")
        assert [i - 1 for i in framed] == answers
        assert page.locator(".layers-decided th").text_content() == f"layer {start - 1}"
        before = shares[start - 1, answers[start - 1]]
        words = f"layer {start - 1}: from there on the answer is {answers[-1]}."
        assert words in said(page) and f"been {answers[start - 1]}, {100 * before:.0f}" in said(
            page
        )


def test_what_is_read_off_each_patch_is_pytorchs(show, explainer, digits):
    page = show("layers", digits[0])
    for image in digits[:3]:
        put(page, image)
        wanted = token_lens(look_inside(explainer, image[None]))[:, 0, 1:].softmax(-1)
        answer = int(batch_logits(explainer, image[None]).argmax())
        lens = torch.tensor(ask(page, "panel.panel.lens.map(step => Array.from(step))"))
        torch.testing.assert_close(lens, wanted[..., answer], atol=5e-3, rtol=0)
    assert page.locator(".layers-lens canvas").count() == len(wanted)
    assert f"finds {answer}" in page.locator(".layers-lens + p").text_content()


# ---- one head taken apart


def read_tables(page):
    tables = page.locator(".panel-numbers").evaluate_all(
        """tables => tables.map(table => [...table.rows].map(row =>
             [...row.cells].map(cell => cell.textContent)))"""
    )
    return [SimpleNamespace(rows=table[1:], names=table[0]) for table in tables]


def column(rows, i):
    return torch.tensor([float(row[i]) for row in rows], dtype=torch.float64)


@pytest.mark.parametrize("case", range(2))
def test_a_head_taken_apart_has_pytorchs_numbers_and_adds_up(show, explainer, digits, case):
    draw = random.Random(case)
    image = digits[draw.randrange(1000)]
    layer, head, query, key = (draw.randrange(n) for n in (6, 4, 50, 50))
    place = "cls" if query == 0 else list(divmod(query - 1, 7))
    page = show("apart", image, layer=layer, head=head, query=place)
    page.locator("[data-apart=key]").select_option(str(key + 1))
    page.locator("summary").click()
    model = explainer.double()
    try:
        with torch.no_grad(), record_attention(1) as layers:
            model(normalise(image[None]).double())
    finally:
        explainer.float()
    q, k, v = (getattr(layers[layer], name)[0, head] for name in ("queries", "keys", "values"))
    scores = k @ q[query] / 4
    powers = (scores - scores.max()).exp()
    shares = layers[layer].probs[0, head, query]

    first, softmax, values = read_tables(page)
    numbers = [q[query], k[key], q[query] * k[key]]
    for i, right in enumerate(numbers, start=1):
        assert (column(first.rows[:16], i) - right).abs().max() < 1e-4
    assert sum(Decimal(row[3]) for row in first.rows[:16]) == Decimal(first.rows[16][3])
    assert abs(float(page.locator("[data-apart=score]").text_content()) - scores[key]) < 1e-4
    share = page.locator("[data-apart=share]").text_content()
    assert abs(float(share.removesuffix(" %")) / 100 - shares[key]) < 1e-4

    for i, right in enumerate([scores, powers, 100 * shares], start=1):
        assert (column(softmax.rows[:50], i) - right).abs().max() < (1e-2 if i == 3 else 1e-4)
    assert sum(Decimal(row[2]) for row in softmax.rows[:50]) == Decimal(softmax.rows[50][2])
    assert sum(Decimal(row[3]) for row in softmax.rows[:50]) == 100
    for i, right in enumerate([v[key], shares[key] * v[key], shares @ v], start=1):
        assert (column(values.rows, i) - right).abs().max() < 1e-4


def test_the_key_is_the_one_attended_most_until_one_is_chosen(show, digits):
    page = show("apart", digits[0], layer=2, head=1, query=[3, 3])
    assert "patch (3, 3) gives" in said(page) and "to patch (2, 1)" in said(page)
    page.locator("[data-apart=query]").select_option("0")
    assert said(page).startswith("Layer 2, head 1: CLS gives")
    assert ask(page, "panel.state.query") == "cls"
    page.locator("[data-apart=head]").select_option("3")
    assert ask(page, "panel.state.head") == 3


def test_a_mean_is_not_taken_apart(show, digits):
    page = show("apart", digits[0], query="mean")
    note = page.locator(".panel-quiet").first
    words = "A mean has no numbers of its own: head 0 and CLS are taken apart."
    assert note.text_content() == words
    page.locator("[data-apart=head]").select_option("3")
    assert note.text_content() == "A mean has no numbers of its own: CLS is taken apart."
    page.locator("[data-apart=query]").select_option("8")
    assert note.is_hidden()


# ---- switched off, emptied


def emptied(images, patches):
    images = images.clone()
    for patch in patches:
        row, column = divmod(patch, 7)
        images[..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 0
    return images


def test_heads_and_patches_are_switched_by_keyboard_and_the_answer_is_pytorchs(
    show, explainer, digits
):
    page = show("change", digits[18])
    heads = page.locator(".change-heads [data-knob]")
    heads.nth(6).focus()  # after six layers: layer 0, head 0
    for key in ("ArrowRight", "Space", "ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.locator(".change-heads [data-knob='4']").first.click()  # a whole layer
    page.locator(".change-patches [data-knob='0']").focus()
    for key in (
        "ArrowLeft",
        *["ArrowRight"] * 3,
        *["ArrowDown"] * 2,
        "Space",
        "ArrowDown",
        "Space",
    ):
        page.keyboard.press(key)
    off = [[0, 1], [2, 1], *([4, head] for head in range(4))]
    assert ask(page, "panel.state.off") == off
    assert ask(page, "panel.state.empty") == [17, 24]

    with torch.no_grad():
        right = AblatedHeads(explainer, off)(normalise(emptied(digits[18:19], [17, 24])))[0]
        whole = explainer(normalise(digits[18:19]))[0]
    ours = torch.tensor(ask(page, "[...panel.view.result.logits]"))
    assert (ours - right).abs().max() < 1e-3
    shares, before = right.softmax(0), whole.softmax(0)
    widths = page.locator(".panel-fill").evaluate_all("all => all.map(one => one.style.width)")
    assert all(abs(float(w[:-1]) - 100 * p) < 0.02 for w, p in zip(widths, shares))
    lines = page.locator(".panel-before").evaluate_all("all => all.map(one => one.style.left)")
    places = [float(re.search(r"[\d.e-]+", line)[0]) for line in lines]
    assert all(abs(place - 100 * p) < 0.02 for place, p in zip(places, before))
    assert said(page).startswith("With 6 of 24 heads off and 2 of 49 patches empty the answer is")
    states = page.locator(".change-patches [aria-checked=false]").evaluate_all(
        "all => all.map(one => one.getAttribute('aria-label'))"
    )
    assert states == ["Patch (2, 3)", "Patch (3, 3)"]

    page.locator(".change-heads [data-knob='4']").first.click()
    assert ask(page, "panel.state.off") == off[:2]
    page.locator("[data-change=heads]").click()
    page.locator("[data-change=patches]").click()
    assert ask(page, "[panel.state.off, panel.state.empty]") == [[], []]
    assert said(page).startswith("Nothing is off: the answer is")


# ---- moved, turned, grown


def moved(images, across, down, turn, grow):
    "Do the same by PyTorch"
    angle = torch.tensor(turn * torch.pi / 180)
    turned = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()]).view(2, 2) / grow
    shift = turned @ torch.tensor([across, down]).float() / 14
    theta = torch.cat([turned, -shift[:, None]], 1)[None]
    grid = F.affine_grid(theta, (1, 1, 28, 28), align_corners=False)
    return F.grid_sample(images.float(), grid, align_corners=False)


def test_a_drawing_is_moved_as_pytorch_moves_it(modules, digits):
    draw = random.Random(3)
    for i in range(12):
        move = {"across": draw.randint(-10, 10), "down": draw.randint(-10, 10)}
        move |= {"turn": draw.randint(-180, 180), "grow": draw.randint(40, 160) / 100}
        image = digits[i : i + 1]
        ours = modules.evaluate(
            "([pixels, move]) => [...modules['transform.js'].transformImage(pixels, move)]",
            [image.flatten().tolist(), move],
        )
        right = moved(image, **move).flatten()
        assert (torch.tensor(ours) - right).abs().max() < 0.6  # rounded to bytes


def test_the_curve_tips_where_pytorch_tips(show, explainer, digits):
    page = show("move", digits[0], move={"across": 1, "down": 0, "turn": 0, "grow": 1})
    page.wait_for_function(
        f"/answer (tips|is)/.test({PANEL}.panel.node.querySelector('[data-move=tips]').textContent)"
    )
    words = page.locator("[data-move=tips]").text_content()
    found = {}
    for part in words.split(": ")[1].rstrip(".").split("; "):
        place, answer = part.rsplit(" is ", 1)
        ends = [int(end.replace("−", "-").rstrip("°")) for end in place.split(" to ")]
        for turn in range(ends[0], ends[-1] + 1, 15):
            found[turn] = int(answer)
    assert sorted(found) == list(range(-180, 181, 15))
    for turn, answer in found.items():
        image = moved(digits[:1], 1, 0, turn, 1).round()
        with torch.no_grad():
            top = explainer(normalise(image.byte()))[0].topk(2)
        assert answer == top.indices[0] or top.values[0] - top.values[1] < 0.2

    page.locator("[data-move=down]").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert ask(page, "panel.state.move") == {"across": 1, "down": 3, "turn": 0, "grow": 1}
    heading = page.locator("section h4")
    assert heading.text_content() == "Move down: where the answer tips"
    page.locator("[data-move=back]").click()
    assert ask(page, "panel.state.move") == {"across": 0, "down": 0, "turn": 0, "grow": 1}


# ---- why this and not that


def test_why_is_occlusion_for_two_classes_beside_its_measured_faithfulness(
    show, explainer, digits, facts
):
    page = show("why", digits[0], data=facts, target=7, other=1)
    page.wait_for_function(
        f"{PANEL}.panel.without.length === 49 && !{SAID}.startsWith('Computing')"
    )
    maps = {}
    for target in (7, 1):
        right = explain(explainer, digits[:1], "occlusion", target, tokens=True)[1].flatten()
        script = (
            "panel.panel.without.map((logits) => panel.view.whole.logits[given] - logits[given])"
        )
        ours = torch.tensor(ask(page, script, target))
        assert (ours - right).abs().max() < 1e-4 * right.abs().max().clamp(min=1)
        maps[target] = right
    lead = maps[7] - maps[1]
    row, column = divmod(lead.argmax().item(), 7)
    assert f"For 7 rather than 1 speaks most patch ({row}, {column})" in said(page)
    assert f"changes by −{lead.max():.1f}." in said(page)
    assert page.locator("[data-why=target]").input_value() == "7"

    page.locator("[data-why=other]").select_option("3")
    assert ask(page, "panel.state.other") == 3 and "For 7 rather than 3" in said(page)
    assert page.locator("figcaption").all_text_contents()[2] == "The lead of 7 over 3"

    words = page.locator(".why-trust").text_content()
    for name in ("between", "deletion", "insertion", "chance"):
        row = facts["faithfulness"][name]
        mean, low, high = (f"{row[part]:z.2f}" for part in ("mean", "low", "high"))
        assert f"{mean} (95\xa0%: {low} to {high})" in words
    assert "1,000 test images with 3 trained models of the preset explain" in words


def test_a_new_drawing_drops_the_old_question(show, digits):
    page = show("why", digits[0])
    for image in digits[1:4]:
        put(page, image)
    page.wait_for_function(
        f"{PANEL}.panel.without.length === 49 && !{SAID}.startsWith('Computing')"
    )
    fresh = ask(page, "[...panel.host.forward(panel.view.pixels, { off: [], empty: [24] }).logits]")
    assert ask(page, "[...panel.panel.without[24]]") == fresh
    assert "Nobody has measured" in page.locator(".why-trust").text_content()


def test_faithfulness_is_what_was_measured():
    measured = faithfulness_facts()
    assert measured["between"]["mean"] == 0.5803 and measured["discrimination"]["mean"] == 7.6854
    assert faithfulness_facts("no such method") is None
    assert faithfulness_facts("relevance")["between"] != measured["between"]


# ---- through training


def test_the_steps_of_training_answer_as_pytorch(show, run, digits):
    page = show("training", digits[5], data={"snapshots": snapshots_of(run)})
    assert "when you ask" in said(page) and page.locator("[data-training=step]").is_hidden()
    page.locator("[data-training=load]").click()
    page.wait_for_function(
        f"/answer/.test({PANEL}.panel.node.querySelector('[data-training=tips]').textContent)"
    )
    page.locator("[data-training=step]").focus()
    page.keyboard.press("Home")
    answers = []
    for step in (0, 30, 1200):
        model = load_model(run / "snapshots" / f"step-{step:06d}.safetensors")
        with torch.no_grad():
            shares = model(normalise(digits[5:6]))[0].softmax(0)
        widths = page.locator(".panel-fill").evaluate_all("all => all.map(one => one.style.width)")
        assert all(abs(float(w[:-1]) - 100 * p) < 0.3 for w, p in zip(widths, shares))
        assert said(page).startswith(f"At step {step} the answer is {shares.argmax()},")
        answers.append(shares.argmax().item())
        page.keyboard.press("ArrowRight")
    assert f"the answer is {answers[-1]}" in page.locator("[data-training=tips]").text_content()
    assert ask(page, "panel.state.step") == 1200


def test_a_page_without_snapshots_and_damaged_ones_say_so(show, run, digits):
    page = show("training", digits[0])
    assert said(page).startswith("This page holds the trained weights alone; draw_page")
    damaged = snapshots_of(run)
    damaged["steps"][1]["weights"] = "AAAA"
    page = show("training", digits[0], data={"snapshots": damaged})
    page.locator("[data-training=load]").click()
    page.wait_for_function(f"/can't be loaded here/.test({SAID})")
    assert page.locator("[data-training=load]").is_enabled()
    put(page, digits[1])
    assert "can't be loaded here" in said(page)


def test_a_dozen_snapshots_go_along(run, tmp_path):
    packed = snapshots_of(run)
    assert [each["step"] for each in packed["steps"]] == [0, 30, 1200]
    assert packed["note"] == "3 steps of one run, the last at step 1,200."
    assert [each["step"] for each in snapshots_of(run, most=2)["steps"]] == [0, 1200]
    assert json.loads(json.dumps(packed)) == packed
    with pytest.raises(UserError, match="most must be at least 2"):
        snapshots_of(run, most=1)
    with pytest.raises(UserError, match="has no snapshots"):
        snapshots_of(tmp_path)
    assert panels_data(run)["snapshots"] == packed
    assert panels_data("images/steps.json")["snapshots"] == {"src": "images/steps.json"}


# ---- every panel


def check_readable(page):
    "Text is dark or light enough and nothing is wider than a phone, in both schemes"
    for scheme in ("dark", "light"):
        page.evaluate(
            "(scheme) => { document.documentElement.style.colorScheme = scheme; }", scheme
        )
        faults = page.evaluate(FAULTS)
        assert not faults["faint"] and not faults["wide"] and faults["pageWidth"] <= 360


@pytest.mark.parametrize("panel", NAMES)
def test_a_panel_on_a_phone_blank_and_drawn_as_a_picture_and_on_paper(
    show, panel, run, digits, facts
):
    data = {**facts, "snapshots": snapshots_of(run)}
    state = {"off": [[0, 0]], "empty": [9], "step": 30, "head": 1, "layer": 1}
    page = show(panel, None, data, PHONE, **state)
    page.wait_for_function(f"{SAID}.startsWith('Nothing is drawn yet')")
    check_readable(page)
    put(page, digits[0])
    page.wait_for_function(f"!/Computing|Nothing/.test({PANEL}.panel.node.innerText)")
    check_readable(page)
    controls = "[...panel.shadowRoot.querySelectorAll('button, input, select')]"
    unnamed = "(one) => !(one.ariaLabel || one.textContent || one.labels?.length)"
    assert ask(page, f"{controls}.filter({unnamed}).length") == 0

    drawn = "modules['share.js'].panelPicture(panel.panel, panel.host.model, panel.view)"
    colours = (
        "new Set(new Uint32Array(picture.getContext('2d').getImageData(0, 0, w, h).data.buffer))"
    )
    script = f"((picture, w = picture.width, h = picture.height) => [h, {colours}.size])({drawn})"
    height, shades = ask(page, script)
    assert 300 < height < 5200 and shades > 20
    page.emulate_media(media="print")
    left = page.locator("button:visible, select:visible, input:visible").evaluate_all(
        "all => all.filter(one => !one.closest('.panel-board')).length"
    )
    assert left == 0 and page.locator(".panel-said").is_visible()
    ask(page, "void (panel.pixels = null)")
    assert said(page).startswith("Nothing is drawn yet")


def test_the_panels_have_the_names_that_links_know(modules):
    kinds = modules.evaluate("modules['panels.js'].PANELS.map((make) => make.name)")
    assert kinds == [f"{name}Panel" for name in NAMES]
    assert modules.evaluate("modules['panels.js'].PANEL_NAMES") == list(NAMES)


# ---- links


def scribble(draw, strokes, points):
    line = [[[draw.random(), draw.random()] for _ in range(points)] for _ in range(strokes)]
    return line


def link(page, strokes, state):
    script = "([strokes, state]) => modules['share.js'].encode(strokes, state)"
    return page.evaluate(script, [strokes, state])


def unlink(page, text):
    return page.evaluate("(text) => modules['share.js'].decode(text)", text)


STATE = {
    **{"layer": 2, "head": 1, "query": [3, 0], "target": 7, "other": 1, "step": 400},
    **{"off": [[0, 1], [5, 3]], "empty": [0, 48], "panel": "why", "walk": 4, "method": "rollout"},
    "move": {"across": -3, "down": 10, "turn": -45, "grow": 1.25},
}


def test_a_link_holds_drawing_and_state(modules):
    strokes = [[[0.25, 0.25], [0.5, 0.75], [0.75, 0.25]], [[0.5, 0.5]], [[-0.125, 1.125], [1, 0]]]
    text = link(modules, strokes, STATE)
    assert re.fullmatch(r"[\w.=&~-]+", text) and len(text) < 200
    assert unlink(modules, f"#{text}") == {"strokes": strokes, "state": STATE}
    assert unlink(modules, text)["state"] == STATE
    plain = {"layer": 5, "head": None, "query": "cls", "off": [], "empty": [], "walk": None}
    still = {"across": 0, "down": 0, "turn": 0, "grow": 1}
    short = link(modules, [], {**plain, "move": still})
    assert short == "v=1&layer=5&query=cls"
    assert unlink(modules, short) == {"strokes": [], "state": {"layer": 5, "query": "cls"}}
    away = [[[0.5, 0.5], [4.75, -3]]]  # a pen that has left the sheet
    assert unlink(modules, link(modules, away, {}))["strokes"] == [[[0.5, 0.5], [2, -1]]]


def test_a_long_drawing_is_simplified_and_stays_what_it_was(modules):
    turn = torch.linspace(0, 6.28, 700)
    circle = torch.stack([0.5 + 0.3 * turn.cos(), 0.5 + 0.4 * turn.sin()], 1).tolist()
    text = link(modules, [circle, circle], STATE)
    assert len(text) < 500
    for stroke in unlink(modules, text)["strokes"]:
        points = torch.tensor(stroke)
        away = ((points[:, 0] - 0.5) / 0.3) ** 2 + ((points[:, 1] - 0.5) / 0.4) ** 2
        assert (away - 1).abs().max() < 0.05 and len(points) > 12
    draw = random.Random(0)
    for strokes, points in ((1, 3000), (30, 60), (2000, 1)):
        text = link(modules, scribble(draw, strokes, points), STATE)
        assert len(text) <= 2000 and unlink(modules, text)["state"] == STATE


HOSTILE = [
    "", "#", "v", "v=2", "v=1&d=!", "v=1&d=A", "v=1&d=gggggggggggggg", "v=1&d=" + "A" * 5000,
    "v=1&layer=-1", "v=1&layer=1e3", "v=1&layer=9999999", "v=1&layer=NaN", "v=1&layer=",
    "v=1&query=constructor", "v=1&query=1", "v=1&query=1.2.3", "v=1&panel=__proto__",
    "v=1&panel=<img src=x onerror=alert(1)>", "v=1&off=1.2_3", "v=1&off=1.2.3", "v=1&empty=a",
    "v=1&empty=" + "_".join(["1"] * 401), "v=1&move=1_2_3", "v=1&move=1_2_3_1e9",
    "v=1&move=1_2_3_Infinity", "v=1&walk=%00", "v=1&d=__________AA", "v=1&d=.", "v=1&d=ggDA",
]  # fmt: skip


def test_a_damaged_link_is_refused_as_a_whole(modules):
    assert [text for text in HOSTILE if unlink(modules, text) is not None] == []


def test_no_link_breaks_the_page(modules):
    draw, letters = random.Random(0), "v=1&d.layer_query5panel-whyAZ#%<\x00\u2603 "
    for value in (None, 7, {}, [], True):
        assert unlink(modules, value) is None
    good = link(modules, [[[0.1, 0.1], [0.9, 0.9]]], STATE)
    texts = ["".join(draw.choices(letters, k=draw.randint(0, 60))) for _ in range(1000)]
    for _ in range(1000):
        broken = list(good)
        for _ in range(draw.randint(1, 4)):
            broken[draw.randrange(len(broken))] = draw.choice(letters)
        texts.append("".join(broken))
    script = "(texts) => texts.map((text) => modules['share.js'].decode(text))"
    for found in modules.evaluate(script, texts):
        assert found is None or set(found) == {"strokes", "state"}
    polluted = unlink(modules, "v=1&__proto__=1&constructor=2&layer=3")
    assert polluted == {"strokes": [], "state": {"layer": 3}}
    assert modules.evaluate("({}).layer") is None


def test_a_state_from_anywhere_fits_the_model(show, digits):
    page = show("change", digits[0])
    wild = {
        **{"layer": 999, "head": 77, "query": [500, 3], "target": 10, "other": 3, "walk": 300},
        **{"off": [[99, 0], [0, 99], [1, 1], [1, 1]], "empty": [4000, 3, 3], "step": 5},
        "move": {"across": -300, "down": 1, "turn": 999, "grow": 0},
    }
    ask(page, "void (panel.state = given)", wild)
    assert ask(page, "panel.state") == {
        **{"layer": 5, "head": None, "query": [6, 3], "target": None, "other": 3, "walk": None},
        **{"off": [[1, 1]], "empty": [3], "step": 5, "panel": "layers", "method": "attention"},
        "move": {"across": -10, "down": 1, "turn": 180, "grow": 0.4},
    }


# ---- the walk


def begin_walk(page):
    "Put the walk into the page of a panel; what it frames is kept in `framed`"
    page.evaluate(f"""() => {{
      const panel = {PANEL}, framed = (window.framed = []);
      const host = {{ ...panel.host, set: (changes) => {{
        panel.host.set(changes);
        guide.show(panel.view);
      }} }};
      const guide = modules['walk.js'].walk(host, (part) => framed.push(part));
      panel.shadowRoot.append(guide.node);
      guide.show(panel.view);
      window.guide = guide;
      window.again = () => guide.show(panel.view);
    }}""")


def heading(page):
    return page.locator(".walk h3").text_content()


def test_the_walk_is_gone_to_its_end_by_keyboard(show, digits):
    page = show("change", digits[0])
    begin_walk(page)
    count = page.evaluate("guide.steps.length")
    assert 8 <= count <= 12
    page.locator("[data-walk=start]").focus()
    page.keyboard.press("Enter")
    for step in range(count):
        assert heading(page).startswith(f"{step + 1} of {count}: ")
        assert page.locator(".walk-do").text_content()
        page.keyboard.press("Space")
    assert ask(page, "panel.state.walk") is None
    assert page.locator(".walk-step").is_hidden()
    framed, known = page.evaluate("[framed, modules['walk.js'].PARTS]")
    assert framed[0] is None and framed[-1] is None and len(framed) == count + 2
    assert set(framed[1:-1]) <= set(known)
    wanted = "Patches Tokens Position Query Key Head Layer Residual CLS Why can't".split()
    titles = page.evaluate("guide.steps.map((step) => step.title).join(' ')")
    assert all(word in titles for word in wanted)


def test_the_walk_is_left_and_taken_up_again(show, digits):
    page = show("change", digits[0])
    begin_walk(page)
    page.locator("[data-walk=start]").click()
    for _ in range(3):
        page.locator("[data-walk=next]").click()
    page.keyboard.press("Escape")
    assert ask(page, "panel.state.walk") is None
    assert page.locator("[data-walk=start]").text_content() == "Guided walk: go on at step 4"
    page.locator("[data-walk=start]").click()
    assert heading(page).startswith("4 of ")
    page.locator("[data-walk=back]").click()
    page.locator("[data-walk=leave]").click()
    assert page.locator("[data-walk=start]").text_content() == "Guided walk: go on at step 3"


def test_the_walk_sees_what_was_done(show, digits):
    page = show("change", digits[0], walk=7)  # the residual stream: switch a layer off
    begin_walk(page)
    assert "Residual stream" in heading(page)
    assert page.locator(".walk-state").text_content() == ""
    page.locator(".change-heads [data-knob='2']").first.click()
    page.evaluate("again()")
    assert page.locator(".walk-state").text_content() == "Done."
