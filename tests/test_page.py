"""The page to draw on, in a real browser: thirty digits in three hands, by mouse, finger and keys;
from a disk, under a strict policy, narrow, dark, damaged, without scripts."""

import base64
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.digits import prepare_digit
from vit_mnist.explorer import AttentionExplorer
from vit_mnist.maps import capture_attention
from vit_mnist.model import create_model
from vit_mnist.page import draw_page, page_data
from vit_mnist.perturbation import AblatedHeads
from vit_mnist.weights import load_pretrained

FAULTS = Path(__file__).with_name("page_faults.js").read_text()
LAPTOP, PHONE = {"width": 1366, "height": 768}, {"width": 360, "height": 740}
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
PAGE = "document.querySelector('vit-page')"
FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture(scope="module")
def model():
    return load_pretrained("explain")


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    "The page as it is mailed, under a policy that allows only what is in the file"
    path = draw_page(model, tmp_path_factory.mktemp("page") / "page.html")
    policy = f'<head><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    path.write_text(path.read_text().replace("<head>", policy, 1))
    return path


@pytest.fixture
def page(visit, file):
    return visit(file.as_uri(), viewport=LAPTOP)


# ---- three hands

DIGITS = [
    [[(0.55, 0), (0.2, 0.1), (0, 0.5), (0.2, 0.95), (0.6, 1), (0.95, 0.6), (0.9, 0.2), (0.55, 0)]],
    [[(0.5, 0), (0.5, 0.35), (0.5, 0.7), (0.5, 1)]],
    [[(0.05, 0.25), (0.3, 0), (0.75, 0), (0.95, 0.25), (0.7, 0.55), (0.05, 1), (1, 1)]],
    [
        [(0.1, 0.1), (0.5, 0), (0.9, 0.15), (0.85, 0.4), (0.4, 0.48)],
        [(0.4, 0.48), (0.9, 0.6), (0.95, 0.85), (0.5, 1), (0.05, 0.9)],
    ],
    [[(0.15, 0), (0.05, 0.55), (0.95, 0.55)], [(0.75, 0.05), (0.7, 1)]],
    [
        [(0.95, 0), (0.15, 0), (0.1, 0.42), (0.55, 0.38), (0.95, 0.6)],
        [(0.95, 0.6), (0.9, 0.85), (0.5, 1), (0.05, 0.92)],
    ],
    [
        [(0.75, 0), (0.3, 0.25), (0.05, 0.65), (0.25, 0.97), (0.7, 1)],
        [(0.7, 1), (0.95, 0.75), (0.65, 0.52), (0.2, 0.65)],
    ],
    [[(0, 0.05), (0.5, 0.02), (1, 0), (0.7, 0.5), (0.4, 1)]],
    [
        [(0.9, 0.15), (0.5, 0), (0.1, 0.2), (0.5, 0.48), (0.95, 0.78), (0.5, 1)],
        [(0.5, 1), (0.05, 0.78), (0.5, 0.48), (0.92, 0.2), (0.9, 0.15)],
    ],
    [
        [(0.9, 0.2), (0.5, 0), (0.1, 0.2), (0.2, 0.45), (0.6, 0.5), (0.9, 0.2)],
        [(0.9, 0.2), (0.85, 0.6), (0.7, 1)],
    ],
]
HANDS = {"thin": (0.2, 0.1, 0.6, 0.8, 0), "thick": (0.55, 0.2, 0.24, 0.34, 0)}
HANDS["slanted"] = (0.3, 0.2, 0.38, 0.6, 0.3)  # left, top, width, height, slant


def strokes_of(digit, hand):
    "Place a digit's lines on the paper, from 0 to 1; of one pen, so what is small is thick"
    left, top, width, height, slant = HANDS[hand]
    return [
        [(left + width * x + slant * (0.5 - y) * height, top + height * y) for x, y in line]
        for line in DIGITS[digit]
    ]


def draw(page, strokes, touch=False):
    "Draw on the paper as a hand does, and wait until the page has shown it"
    box = page.locator("[data-control=paper]").bounding_box()
    place = [
        [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in line]
        for line in strokes
    ]
    if touch:
        session = page.context.new_cdp_session(page)

        def send(kind, *points):
            given = {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]}
            session.send("Input.dispatchTouchEvent", given)

        for first, *others in place:
            send("touchStart", first)
            for point in others:
                send("touchMove", point)
            send("touchEnd")
        session.detach()
    else:
        for first, *others in place:
            page.mouse.move(*first)
            page.mouse.down()
            for point in others:
                page.mouse.move(*point)
            page.mouse.up()
    page.evaluate(FRAMES)


def answer(page):
    return page.evaluate(
        f"{PAGE}.view.result.logits.reduce((a, x, i, all) => x > all[a] ? i : a, 0)"
    )


def count_right(page, digits, hands, touch):
    right = 0
    for hand in hands:
        for digit in digits:
            page.get_by_role("button", name="Clear").evaluate("button => button.click()")
            draw(page, strokes_of(digit, hand), touch)
            right += answer(page) == digit
    return right


@pytest.fixture(params=["mouse", "touch"])
def tool(request, visit, file):
    touch = request.param == "touch"
    kind = {"viewport": PHONE, "has_touch": True, "is_mobile": True} if touch else {}
    return visit(file.as_uri(), **{"viewport": LAPTOP, **kind}), touch


def test_digits_of_three_hands_are_read(tool):
    page, touch = tool
    assert count_right(page, (2, 7), HANDS, touch) == 6
    assert page.evaluate("scrollY") == 0  # a stroke of a finger scrolls nothing


@pytest.mark.slow
def test_thirty_digits_of_three_hands_are_read(tool):
    page, touch = tool
    right = count_right(page, range(10), HANDS, touch)
    print(f"{right} of 30 right")
    assert right >= 28
    assert page.evaluate("scrollY") == 0


# ---- what is shown is what the model computes


def read_drawn(page):
    "Return the image that the model gets, and what Python makes of the same drawing"
    script = f"""(() => {{
        const page = {PAGE}, pad = page.shadowRoot.querySelector("vit-attention vit-pad");
        return [[...page.view.drawn], [...pad.pixels()], pad.side];
    }})()"""
    drawn, paper, side = page.evaluate(script)
    drawn = torch.tensor(drawn, dtype=torch.uint8).view(1, 28, 28)
    return drawn, prepare_digit(np.array(paper, np.uint8).reshape(side, side))


def test_answer_and_maps_are_pytorchs_while_a_stroke_grows(page, model):
    seen = set()
    for points in 2, 4, 7:
        page.evaluate(f"{PAGE}.shadowRoot.querySelector('vit-pad').clear()")
        draw(page, [line[:points] for line in strokes_of(2, "thin")])
        drawn, prepared = read_drawn(page)
        assert (drawn.int() - prepared.int()).abs().max() <= 2
        maps = capture_attention(model, drawn[None])
        explorer = f"{PAGE}.shadowRoot.querySelector('vit-attention')"
        probs = torch.tensor(page.evaluate(f"{explorer}.probs"))
        assert torch.allclose(probs, maps.logits[0].softmax(0), atol=1e-4)
        for layer, head, query in (5, None, "cls"), (2, 3, [3, 4]), (0, 1, "mean"):
            where = {"layer": layer, "head": head, "query": query}
            read = torch.tensor(page.evaluate(f"where => [...{explorer}.read(where)]", where))
            heads = maps.on_grid(layer, query if isinstance(query, str) else tuple(query))[0]
            true = heads.mean(0) if head is None else heads[head]
            assert torch.allclose(read, true.flatten(), atol=1e-5)
        words = page.locator("[data-control=prediction]").inner_text()
        assert words.startswith(f"Prediction: {probs.argmax()}")
        seen.add(words)
    assert len(seen) > 1
    assert "What the model sees: your drawing" in page.locator("[data-control=seen]").inner_text()


def test_an_empty_sheet_is_not_predicted_and_says_why(page):
    sentence = "so nothing is predicted"
    assert sentence in page.locator("[data-control=seen]").inner_text()
    assert page.locator(".bar").filter(visible=True).count() == 0
    assert page.locator("canvas[data-control=query]").is_visible()
    where = page.locator("[data-control=layer]").bounding_box()
    for digit in range(2):
        page.locator(f"[data-example='{digit}']").click()
    assert page.locator(".bar").filter(visible=True).count() == 10
    assert page.locator("[data-control=layer]").bounding_box() == where  # nothing has moved
    draw(page, strokes_of(7, "thick"))
    page.get_by_role("button", name="Undo").click()
    page.evaluate(FRAMES)
    assert answer(page) == 1
    page.get_by_role("button", name="Clear").click()
    page.get_by_text(sentence).wait_for()
    assert page.evaluate(f"{PAGE}.view.result") is None


def test_an_example_of_every_digit_is_read_as_that_digit(page):
    for digit in range(10):
        page.locator(f"[data-example='{digit}']").click()
        page.evaluate(FRAMES)
        assert answer(page) == digit


def test_what_is_no_digit_is_not_to_be_trusted_and_a_digit_is(page):
    said = page.locator("[data-control=trust]")
    for digit in range(10):
        page.locator(f"[data-example='{digit}']").click()
        page.evaluate(FRAMES)
        assert said.inner_text() == ""
    house = [(0.2, 0.85), (0.2, 0.45), (0.5, 0.15), (0.8, 0.45), (0.8, 0.85), (0.2, 0.85)]
    door = [(0.45, 0.85), (0.45, 0.6), (0.6, 0.6), (0.6, 0.85)]
    chance = random.Random(0)
    scribble = [(chance.uniform(0.1, 0.9), chance.uniform(0.1, 0.9)) for _ in range(14)]
    for drawing in [house, [(0.2, 0.45), (0.8, 0.45)], door], [scribble]:
        page.get_by_role("button", name="Clear").click()
        draw(page, drawing)
        assert said.inner_text().startswith("Don't trust this answer: ")
        assert "validation images against letters and scribbles" in said.inner_text()
    page.get_by_role("button", name="Clear").click()
    page.evaluate(FRAMES)
    assert said.inner_text() == ""


def test_heads_and_patches_are_taken_away_in_the_explorer_and_in_panels(page, model):
    page.locator("[data-example='4']").click()
    page.locator("[data-switch='1']").click()
    page.evaluate(f"{PAGE}.set({{ empty: [17, 24] }})")
    drawn, _ = read_drawn(page)
    less = drawn.clone()
    for patch in 17, 24:
        row, column = divmod(patch, 7)
        less[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 0
    logits = capture_attention(AblatedHeads(model, [(5, 1)]), less[None]).logits[0]
    probs = page.evaluate(f"{PAGE}.shadowRoot.querySelector('vit-attention').probs")
    assert torch.allclose(torch.tensor(probs), logits.softmax(0), atol=1e-4)
    shown = torch.tensor([*page.evaluate(f"Object.values({PAGE}.view.result.logits)")])
    assert torch.allclose(shown, logits, atol=1e-3)
    page.locator("[data-tab=change]").click()
    page.locator("[data-change=heads]").click()
    assert page.locator("[data-switch='1']").inner_text() == "Switch off"
    page.evaluate(f"{PAGE}.set({{ empty: [], move: {{ across: 3, down: 0, turn: 0, grow: 1 }} }})")
    moved = page.evaluate(f"[...{PAGE}.view.pixels]")
    assert torch.equal(torch.tensor(moved).view(28, 28)[:, 3:], drawn[0, :, :-3].long())


# ---- keys


FOCUSED = """() => {
    let node = document.activeElement;
    while (node?.shadowRoot?.activeElement) node = node.shadowRoot.activeElement;
    if (!node || node === document.body) return null;
    const { outlineStyle, outlineWidth } = getComputedStyle(node);
    const text = node.labels?.[0]?.textContent ?? node.textContent;
    const name = node.getAttribute("aria-label") || text.trim();
    const outline = outlineStyle !== "none" && parseFloat(outlineWidth);
    return { name, control: node.dataset.control ?? node.dataset.tab, outline };
}"""


def test_by_keyboard_alone_a_digit_is_drawn_and_looked_into(page):
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
        if reached[-1]["control"] == "paper":
            break
    for key in ("Space", *["ArrowDown"] * 8, "Space"):
        page.keyboard.press(key)
    page.evaluate(FRAMES)
    assert answer(page) == 1
    for _ in range(60):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused is None:
            break
        reached.append(focused)
        if focused["control"] == "query":
            page.keyboard.press("ArrowLeft")
            page.keyboard.press("[")
        if focused["control"] == "layers":
            page.keyboard.press("ArrowRight")
    state = page.evaluate(f"{PAGE}.state")
    assert (state["query"], state["layer"], state["panel"]) == ([3, 3], 4, "apart")
    assert not [each for each in reached if not each["name"] or each["outline"] < 2]
    page.locator("[data-control=paper]").focus()
    page.keyboard.press("Control+z")
    page.get_by_text("so nothing is predicted").wait_for()


# ---- anywhere


def test_nothing_but_the_file_is_loaded(page):
    page.locator("[data-example='3']").click()
    for tab in page.locator("[role=tab]").all():
        tab.click()
        assert page.locator("[role=tabpanel]").filter(visible=True).count() == 1
    assert page.evaluate("performance.getEntriesByType('resource').length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_all_can_be_read_and_pressed(visit, file, scheme, viewport):
    page = visit(file.as_uri(), viewport=viewport, color_scheme=scheme)
    page.locator("[data-example='5']").click()
    page.evaluate(FRAMES)
    faults = page.evaluate(FAULTS)
    assert not faults["faint"] and not faults["wide"], faults
    assert faults["pageWidth"] <= viewport["width"]
    small = page.locator("vit-page button:visible").evaluate_all(
        "all => all.filter((one) => one.getBoundingClientRect().height < 24).length"
    )
    assert small == 0
    if viewport == LAPTOP:  # the first screen
        parts = ("[data-control=paper]", "[data-part=seen]", ".bars", "[data-control=map]")
        for part in (*parts, "[data-control=head]"):
            box = page.locator(part).bounding_box()
            assert box["y"] >= 0 and box["y"] + box["height"] <= viewport["height"], part
    assert page.locator("[data-control=answer]").is_visible() == (viewport == PHONE)


def test_on_a_phone_the_answer_stands_below_the_paper_while_one_draws(visit, file):
    page = visit(file.as_uri(), viewport=PHONE, has_touch=True, is_mobile=True)
    told = page.locator("[data-control=answer]")
    assert told.text_content() == ""
    draw(page, strokes_of(7, "thin"), touch=True)
    assert re.fullmatch(r"7, [\d.]+\xa0%", told.text_content())
    paper = page.locator("[data-control=paper]").bounding_box()
    box = told.bounding_box()
    below = box["y"] - paper["y"] - paper["height"]
    assert 0 <= below < 60 and box["y"] + box["height"] <= PHONE["height"]
    page.get_by_role("button", name="Clear").click()
    page.evaluate(FRAMES)
    assert told.text_content() == ""


def test_on_paper_there_are_pictures_and_no_buttons(page):
    page.locator("[data-example='5']").click()
    page.evaluate(FRAMES)
    page.emulate_media(media="print")
    assert page.locator("canvas[data-control=map]").is_visible()
    for part in "[data-walk=start]", "[data-control=link]", "[role=tab]", "[data-example='5']":
        assert not page.locator(part).first.is_visible(), part


def test_without_scripts_there_is_a_picture_and_a_sentence(visit, file):
    page = visit(file.as_uri(), java_script_enabled=False)
    assert page.locator("img").bounding_box()["width"] > 200
    assert page.get_by_text("What vit attends to over a 7").first.is_visible()


DAMAGE = {
    "cut off": (lambda text: text[: len(text) // 2], "The weights are damaged: "),
    "no base64": (lambda text: "?" + text[1:], "it holds what is no base64."),
    "other bytes": (lambda text: "////" + text[4:], "The weights are damaged: "),
    "nothing": (lambda text: "", "The weights are damaged: "),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_weights_leave_a_sentence_and_a_picture(visit, file, tmp_path, kind):
    damage, said = DAMAGE[kind]
    start, weights, end = re.split(r'(?<="weights": ")([^"]+)', file.read_text())
    (tmp_path / "page.html").write_text(start + damage(weights) + end)
    page = visit((tmp_path / "page.html").as_uri())
    assert said in page.get_by_role("alert").inner_text()
    assert page.get_by_role("img").is_visible()


def test_a_page_that_is_cut_off_says_so(visit, file, tmp_path):
    text = file.read_text().replace('"layers": [', '"layers": [[', 1)
    (tmp_path / "page.html").write_text(text)
    page = visit((tmp_path / "page.html").as_uri())
    assert page.get_by_role("alert").inner_text() == "The page is damaged: its data can't be read."


# ---- links, the walk


def test_a_link_holds_drawing_and_state_and_a_damaged_one_says_so(visit, file, page):
    draw(page, strokes_of(5, "slanted"))
    state = {"layer": 2, "head": 1, "query": [2, 3], "off": [[0, 1]], "empty": [24], "panel": "why"}
    page.evaluate(f"state => {PAGE}.set(state)", state)
    page.locator("[data-control=link]").click()
    page.wait_for_function("location.hash")
    link = page.evaluate("location.href")
    other = visit(link, viewport=LAPTOP)
    other.evaluate(FRAMES)
    assert other.evaluate(f"{PAGE}.state").items() >= state.items()
    drawn, again = (read_drawn(each)[0].int() for each in (page, other))
    assert (drawn - again).abs().float().mean() < 4  # strokes are simplified
    for damaged in "#v=1&d=~", "#v=1&layer=-9", "#v=2":
        other.evaluate("hash => { location.hash = hash; }", damaged)
        other.get_by_text("This link is damaged").wait_for()
        other.evaluate(
            f"location.hash = ''; {PAGE}.shadowRoot.querySelector('.page-said').textContent = ''"
        )


def test_a_damaged_link_leaves_a_whole_page_and_a_good_one_what_it_names_alone(visit, file):
    page = visit(f"{file.as_uri()}#v=1&d=~", viewport=LAPTOP)
    page.get_by_text("This link is damaged").wait_for()
    assert page.locator("[role=tab][aria-selected=true]").count() == 1
    assert page.locator("[role=tabpanel]:visible").count() == 1
    first = page.evaluate(f"{PAGE}.state")
    for hash in "#v=1&empty=48&off=0.1&panel=why&method=rollout&layer=1", "#v=1&d=~", "#v=1":
        page.evaluate("hash => { location.hash = hash; }", hash)
    page.wait_for_function(f"{PAGE}.state.empty.length === 0")
    assert page.evaluate(f"{PAGE}.state") == first
    assert not page.get_by_text("This link is damaged").is_visible()


def test_a_tap_is_a_dot_and_a_pen_whose_line_was_undone_draws_no_more(page):
    pad = f"{PAGE}.shadowRoot.querySelector('vit-pad')"
    assert page.evaluate(f"({pad}.strokes = [[[0.5, 0.5]]], {pad}.pixels().some(Boolean))")
    page.locator("[data-control=clear]").click()
    page.locator("[data-control=paper]").focus()
    for key in " ", "ArrowDown", " ", "ArrowRight", " ", "ArrowDown":
        page.keyboard.press(key)
    page.evaluate(f"{pad}.undo()")
    kept = page.evaluate(f"{pad}.strokes")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(f"{pad}.strokes") == kept and len(kept) == 1
    page.keyboard.press(" ")
    page.keyboard.press("ArrowDown")
    assert len(page.evaluate(f"{pad}.strokes")) == 2


def test_the_walk_outlines_what_it_speaks_of_and_leaves_it_in_sight(page):
    page.locator("[data-example='5']").click()
    page.locator("[data-walk=start]").click()
    for _ in range(11):
        page.evaluate(FRAMES)
        box = page.locator("[data-told]").bounding_box()
        step = page.locator(".walk-step").bounding_box()
        assert box["y"] < step["y"] and box["y"] + box["height"] > 0
        if box["height"] < 400:
            assert box["y"] + box["height"] <= step["y"]
        page.locator("[data-walk=next]").click()
    assert page.locator("[data-told]").count() == 0


# ---- an explorer with the model in it


def test_an_explorer_saved_alive_switches_heads_off_and_reads_drawings(visit, model, tmp_path):
    digits = load_data().test.take(3)
    explorer = AttentionExplorer(model, digits.images, digits.labels)
    path = explorer.save(tmp_path / "page.html", live=True)
    assert path.stat().st_size < 1_600_000
    page = visit(path.as_uri())
    alive = "document.querySelector('vit-attention')"
    off = [(0, 1), (5, 2)]
    for method in "attention", "rollout":
        for image in range(3):
            explorer.image, explorer.off, explorer.method = image, off, method
            state = {"image": image, "off": off, "method": method}
            page.evaluate(f"state => {alive}.set(state)", state)
            read = torch.tensor(page.evaluate(f"[...{alive}.map().values]"))
            assert torch.allclose(read, explorer.map.flatten(), atol=1e-5)
            probs = torch.tensor(page.evaluate(f"{alive}.probs"))
            assert torch.allclose(probs, explorer.probs, atol=1e-4)
    assert "Relevance: only in a notebook" in page.locator(".note").inner_text()
    draw(page, strokes_of(7, "thin"))
    assert page.locator("[data-control=prediction]").inner_text().startswith("Prediction: 7")
    assert not page.get_by_role("button", name="Keep as example").is_visible()
    text = path.read_text().replace('"weights": "', '"weights": "AAAA', 1)
    (tmp_path / "damaged.html").write_text(text)
    page = visit((tmp_path / "damaged.html").as_uri())
    assert page.get_by_role("alert").inner_text().startswith("The weights are damaged: ")


def test_a_model_that_reads_the_mean_of_its_tokens_computes_as_in_python(visit, tmp_path):
    mean = create_model("vit", seed=0, size="tiny", pool="mean").eval()
    explorer = AttentionExplorer(mean, load_data().test.images[:1])
    explorer.off = [(1, 0)]
    page = visit(explorer.save(tmp_path / "page.html", live=True).as_uri())
    alive = "document.querySelector('vit-attention')"
    for method in "rollout", "attention":
        explorer.method = method
        page.evaluate(f"method => {alive}.set({{ method }})", method)
        read = torch.tensor(page.evaluate(f"[...{alive}.map().values]"))
        assert torch.allclose(read, explorer.map.flatten(), atol=1e-5)
    probs = torch.tensor(page.evaluate(f"{alive}.probs"))
    assert torch.allclose(probs, explorer.probs, atol=1e-5)


# ---- in Python


def test_a_page_holds_a_model_for_digits_and_no_other(model, tmp_path):
    data = page_data(model, half=True)
    assert len(base64.b64decode(data["weights"])) < 430_000
    assert json.loads(json.dumps(data, allow_nan=False))["weights"] == data["weights"]
    with pytest.raises(UserError, match="a page can compute the model vit, not cnn"):
        draw_page(create_model("cnn", seed=0), tmp_path / "page.html")
    with pytest.raises(UserError, match="can't write"):
        draw_page(model, "/proc/page.html")
