"""The explorer in a real browser, on saved pages.

Every request to another host is blocked.
"""

import copy
import json
import random
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

import vit_mnist.element
from vit_mnist.core import make_generator
from vit_mnist.data import load_data
from vit_mnist.element import base64_text, bundle
from vit_mnist.explorer import AttentionExplorer
from vit_mnist.maps import capture_attention
from vit_mnist.model import create_model, save_model
from vit_mnist.pad import DigitPad

NBS = Path(__file__).parent.parent / "nbs"


@pytest.fixture(scope="module")
def digits():
    return load_data().test.take(4)


@pytest.fixture(scope="module")
def model():
    return create_model("vit", seed=0, patch_size=4).eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory, digits, model):
    "An explorer and the page it was saved as"
    explorer = AttentionExplorer(model, digits.images, digits.labels)
    return explorer, explorer.save(tmp_path_factory.mktemp("saved") / "page.html")


def element(page, script, *args):
    "Runs a function of the first explorer on the page"
    return page.locator("vit-attention").first.evaluate(script, *args)


def pictures(page):
    "What the two large canvases show"
    return element(
        page, "e => [...e.shadowRoot.querySelectorAll('.stage canvas')].map(c => c.toDataURL())"
    )


def text(page, name="label"):
    return page.locator(f"[data-control={name}]").first.inner_text().replace("\u00a0", " ")


def click_patch(page, row, column, cells=7):
    box = page.locator("canvas[data-control=query]").first.bounding_box()
    page.mouse.click(
        box["x"] + (column + 0.5) * box["width"] / cells,
        box["y"] + (row + 0.5) * box["height"] / cells,
    )
    page.mouse.move(0, 0)


def widget_code(name):
    "Write a browser file as anywidget gets it, in base64"
    return base64_text(bundle(name, widget=True).encode())


def give_kernel(page, explorer):
    "Put an explorer on the page whose questions this process answers, as a notebook's kernel does"

    def kernel(need):
        answer, attention = explorer._answer(json.loads(need))
        return json.dumps([answer, base64_text(attention)])

    page.expose_function("kernel", kernel)
    page.evaluate(
        """async ([code, values]) => {
            const { default: widget } = await import("data:text/javascript;base64," + code);
            const heard = {};
            const send = async ({ need }) => {
                const [answer, text] = JSON.parse(await kernel(JSON.stringify(need)));
                const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
                const result = { ...need, ...answer };
                heard["msg:custom"]({ result }, [new DataView(bytes.buffer)]);
            };
            const model = {
                get: (name) => values[name], set: (name, value) => (values[name] = value),
                on: (name, f) => (heard[name] = f), off: () => {}, save_changes: () => {}, send,
            };
            widget.render({ model, el: document.body });
        }""",
        [widget_code("attention.js"), explorer.get_state()],
    )


# ---- a saved page


def test_four_examples_fit_in_600_kilobytes(saved):
    assert saved[1].stat().st_size < 600_000


def test_click_arrow_and_sliders_change_picture_and_label(saved, visit):
    page = visit(saved[1].as_uri())
    assert "Layer 5, mean of all heads: class token attends" in text(page)

    def changes(act, label, canvases=(0, 1)):
        before = pictures(page)
        act()
        after = pictures(page)
        assert label in text(page) and all(before[i] != after[i] for i in canvases)

    changes(lambda: click_patch(page, 2, 4), "patch (2, 4) attends")
    changes(
        lambda: (
            page.locator("canvas[data-control=query]").focus(),
            page.keyboard.press("ArrowLeft"),
        ),
        "patch (2, 3) attends",
    )
    changes(lambda: page.keyboard.press("ArrowDown"), "patch (3, 3) attends")
    changes(lambda: page.keyboard.press("["), "Layer 4", [1])
    changes(
        lambda: (page.locator("[data-control=layer]").focus(), page.keyboard.press("Home")),
        "Layer 0",
        [1],
    )
    changes(
        lambda: (page.locator("[data-control=head]").focus(), page.keyboard.press("End")),
        "head 3",
        [1],
    )
    changes(lambda: page.get_by_role("button", name="class token").click(), "class token attends")
    changes(lambda: page.get_by_role("button", name="Image 2: 1").click(), "class token attends")
    changes(lambda: page.get_by_role("button", name="Rollout").click(), "Rollout")
    changes(lambda: page.get_by_role("button", name="Relevance").click(), "Relevance for", [1])
    changes(lambda: page.locator(".bar").nth(8).click(), "Relevance for 8", [1])


def test_hovering_tries_a_query_and_reads_a_value(saved, visit):
    page = visit(saved[1].as_uri())
    box = page.locator("canvas[data-control=query]").bounding_box()
    page.mouse.move(box["x"] + 1.5 * box["width"] / 7, box["y"] + 5.5 * box["height"] / 7)
    assert (
        "patch (5, 1) attends most to" in text(page)
        and element(page, "e => e.state.query") == "cls"
    )
    box = page.locator("canvas[data-control=map]").bounding_box()
    page.mouse.move(box["x"] + 2.5 * box["width"] / 7, box["y"] + 3.5 * box["height"] / 7)
    share = (
        100
        * capture_attention(saved[0].model, saved[0].images[:1])
        .on_grid(5, "cls")[0]
        .mean(0)[3, 2]
        .item()
    )
    assert f"class token attends to row 3, column 2 ({share:.1f} %)" in text(page)


def test_values_equal_those_of_python_within_the_stored_precision(saved, visit):
    explorer, path = saved
    page, rng, maps = (
        visit(path.as_uri()),
        random.Random(0),
        capture_attention(explorer.model, explorer.images),
    )
    for _ in range(20):
        image, layer, head = rng.randrange(4), rng.randrange(6), rng.choice([None, 0, 1, 2, 3])
        query = rng.choice(["cls", "mean", (rng.randrange(7), rng.randrange(7))])
        heads = maps.on_grid(layer, query)[image]
        true = (heads.mean(0) if head is None else heads[head]).flatten()
        read = element(
            page,
            "(e, where) => [...e.read(where)]",
            {"image": image, "layer": layer, "head": head, "query": query},
        )
        assert (torch.tensor(read) - true).abs().max() <= maps[layer].probs[
            image
        ].max() / 510 + 1e-6
    for name in ("rollout", "relevance"):
        explorer.method, explorer.target = name, 3
        read = element(page, "(e, name) => [...e.map({method: name, target: 3}).values]", name)
        assert torch.allclose(torch.tensor(read), explorer.map.flatten(), rtol=1e-3)
    explorer.method, explorer.target = "attention", None
    assert torch.allclose(torch.tensor(element(page, "e => e.probs")), explorer.probs, atol=1e-6)


@pytest.mark.slow  # depends on the machine
def test_an_interaction_takes_less_than_100_ms(saved, visit):
    page = visit(saved[1].as_uri())
    rounds = [
        element(
            page,
            """async e => {
        const times = [], frame = () => new Promise(requestAnimationFrame);
        for (let i = 0; i < 40; i++) {
            await frame();
            const start = performance.now();
            const place = [i % 7, (3 * i) % 7], head = i % 3 ? i % 4 : null;
            e.set({ image: i % 4, layer: i % 6, query: place, head });
            const canvas = e.shadowRoot.querySelector("canvas");
            canvas.getContext("2d").getImageData(0, 0, 1, 1); // until it is drawn
            times.push(performance.now() - start);
        }
        return times.sort((a, b) => a - b);
    }""",
        )
        for _ in range(3)
    ]
    times = min(rounds, key=lambda times: times[38])  # a busy machine may hold up a round
    print(f"median {times[20]:.1f} ms, 95th percentile {times[38]:.1f} ms")
    assert times[38] < 100


def test_play_runs_through_the_layers(saved, visit):
    page = visit(saved[1].as_uri())
    assert (
        element(
            page,
            """e => {
                e.shadowRoot.querySelector('[aria-label="Play through the layers"]').click();
                return e.state.layer;
            }""",
        )
        == 0
    )
    page.wait_for_function("document.querySelector('vit-attention').state.layer === 5")
    page.get_by_role("button", name="Play through the layers").wait_for()


def test_the_view_is_copied_as_a_picture(saved, visit):
    page = visit(saved[1].as_uri(), permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy as PNG").click()
    page.get_by_text("Copied.").wait_for()
    width = page.evaluate("""async () => {
        const [item] = await navigator.clipboard.read();
        return (await createImageBitmap(await item.getType("image/png"))).width;
    }""")
    assert width == 1480


def test_where_there_is_no_clipboard_the_picture_is_a_file(saved, visit):
    page = visit(saved[1].as_uri())
    page.evaluate(
        "() => { navigator.clipboard.write = () => Promise.reject(new Error('refused')); }"
    )
    with page.expect_download() as download:
        page.get_by_role("button", name="Copy as PNG").click()
    assert (
        download.value.suggested_filename == "attention.png"
        and Path(download.value.path()).read_bytes()[:4] == b"\x89PNG"
    )


FOCUSED = """() => {
    const node = document.activeElement?.shadowRoot?.activeElement;
    if (!node) return null;
    const style = getComputedStyle(node);
    const name = node.getAttribute("aria-label") || node.textContent.trim();
    const outline = style.outlineStyle !== "none" && parseFloat(style.outlineWidth);
    return { name, tag: node.tagName, outline };
}"""


def test_every_control_is_reached_by_tab_has_a_name_and_shows_its_focus(saved, visit):
    page, reached = visit(saved[1].as_uri()), []
    for _ in range(60):
        page.keyboard.press("Tab")
        found = page.evaluate(FOCUSED)
        if found is None:
            break
        reached.append(found)
    controls = element(
        page,
        """e => e.shadowRoot.querySelectorAll(
            'button:not([hidden]):not(:disabled), input, [tabindex]').length""",
    )
    assert len(reached) == controls > 25
    assert all(control["name"] and control["outline"] >= 2 for control in reached), reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_360_pixels_and_text_stands_out(saved, visit, scheme):
    page = visit(saved[1].as_uri(), viewport={"width": 360, "height": 700}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("canvas[data-control=query]").bounding_box()["width"] > 150
    ink, paper = page.evaluate(
        """() => {
            const style = getComputedStyle(document.documentElement);
            return [style.color, style.backgroundColor];
        }"""
    )
    brightness = [sum(map(int, colour[4:-1].split(", "))) / 3 for colour in (ink, paper)]
    assert abs(brightness[0] - brightness[1]) > 150 and (brightness[1] > 128) == (scheme == "light")


HOSTILE = (
    "</script><script>document.title=2</script>"  # 99 characters with the next line
    '<img src=x onerror="document.title=1"> "\' & ünï 数字 <!--'
)


def test_hostile_titles_and_class_names_are_text(visit, digits, tmp_path):
    model = create_model("vit", seed=0, patch_size=7).eval()
    model.spec = type(model.spec)(
        **{**vars(model.spec), "classes": tuple(f"{i}{HOSTILE}" for i in range(10))}
    )
    explorer = AttentionExplorer(
        model, digits.images[:2], digits.labels[:2], titles=[HOSTILE, "b"], title=HOSTILE
    )
    page = visit(explorer.save(tmp_path / "page.html").as_uri())
    shown = element(
        page,
        """e => ['.title', '.thumb span', '[data-control=prediction]'].map(
            s => e.shadowRoot.querySelector(s).textContent)""",
    )
    assert shown[:2] == [HOSTILE, HOSTILE] and HOSTILE in shown[2] and page.title() == HOSTILE
    assert (
        page.locator("img").count() == 0
        and element(page, "e => e.shadowRoot.querySelectorAll('img, script').length") == 0
    )


def test_two_explorers_on_a_page_do_not_disturb_each_other(visit, digits, model, tmp_path):
    one, two = (
        AttentionExplorer(model, digits.images[i : i + 2], title=f"explorer {i}") for i in range(2)
    )
    (tmp_path / "page.html").write_text(
        f"<!doctype html><meta charset=utf-8><body>{one.html()}<hr>{two.html()}"
    )
    page = visit((tmp_path / "page.html").as_uri())
    second = page.locator("vit-attention").nth(1)
    before = second.evaluate("e => e.picture().toDataURL()")
    click_patch(page, 1, 1)
    page.locator("[data-control=layer]").first.press("Home")
    assert element(page, "e => [e.state.query, e.state.layer]") == [[1, 1], 0]
    assert (
        second.evaluate("e => [e.state.query, e.state.layer]") == ["cls", 5]
        and second.evaluate("e => e.picture().toDataURL()") == before
    )


@pytest.mark.parametrize("name", ["cnn", "xcit"])
def test_a_model_without_a_token_grid_says_what_can_be_shown(visit, digits, tmp_path, name):
    explorer = AttentionExplorer(
        create_model(name, seed=0).eval(), digits.images[:1], digits.labels[:1]
    )
    page = visit(explorer.save(tmp_path / "page.html").as_uri())
    if name == "cnn":
        assert "no attention that can be captured" in page.locator(".note").inner_text()
    else:
        page.locator("[data-control=layer]").press("Home")
        assert "no places on the image" in text(page)
    assert text(page, "prediction").startswith("Prediction") and page.locator(".bar").count() == 10


def test_a_slider_through_training(visit, digits, model, tmp_path):
    for step in (0, 100):
        save_model(
            create_model("vit", seed=step, patch_size=4),
            tmp_path / "run" / "snapshots" / f"step-{step:06d}.safetensors",
        )
    explorer = AttentionExplorer(model, digits.images[:1], run=tmp_path / "run")
    page = visit(explorer.save(tmp_path / "page.html", steps=True).as_uri())
    page.locator("[data-control=step]").press("Home")
    page.locator("[data-control=step]").press("ArrowRight")
    explorer.step = 100
    assert element(page, "e => e.state.step") == 100
    assert torch.allclose(torch.tensor(element(page, "e => e.probs")), explorer.probs, atol=1e-6)
    assert not torch.equal(explorer.probs, AttentionExplorer(model, digits.images[:1]).probs)


def test_the_first_lesson_goes_back_through_training(visit, tmp_path):
    lesson = nbformat.read(NBS / "tutorials" / "first_steps.ipynb", 4)
    (output,) = next(cell.outputs for cell in lesson.cells if "run=run.folder" in cell.source)
    (tmp_path / "page.html").write_text(
        f"<!doctype html><meta charset=utf-8><body>{output.data['text/html']}"
    )
    page = visit((tmp_path / "page.html").as_uri())
    slider, seen = page.locator("[data-control=step]"), []
    assert slider.is_visible()
    slider.press("Home")
    for step in (0, 10, 30, 60, 100, 200, None):
        assert element(page, "e => e.state.step") == step
        bars = page.locator(".bar .fill").evaluate_all("bars => bars.map(b => b.style.width)")
        seen.append((pictures(page)[1], bars))
        slider.press("ArrowRight")
    for (picture, bars), (next_picture, next_bars) in zip(seen, seen[1:]):
        assert picture != next_picture and bars != next_bars


def test_where_no_script_may_run_there_is_a_picture(visit, saved, tmp_path):
    (tmp_path / "page.html").write_text(
        f"<!doctype html><meta charset=utf-8><body>{saved[0].html(picture=saved[0].picture())}"
    )
    page = visit((tmp_path / "page.html").as_uri(), java_script_enabled=False)
    assert page.locator("vit-attention img").bounding_box()["width"] > 200


# ---- as a beginner meets it: words, numbers, scales, room, paper


PHONE, LAPTOP = {"width": 360, "height": 740}, {"width": 1366, "height": 768}


def box(page, selector):
    return page.locator(selector).first.bounding_box()


def style(page, selector, name):
    return page.locator(selector).first.evaluate("(e, name) => getComputedStyle(e)[name]", name)


def test_help_explains_every_word_and_sign(saved, visit):
    page = visit(saved[1].as_uri(), viewport=PHONE)
    words, button = page.locator("[data-control=help-text]"), page.locator("[data-control=help]")
    assert not words.is_visible()
    button.focus()
    page.keyboard.press("Enter")
    assert words.is_visible() and button.get_attribute("aria-expanded") == "true"
    terms = {
        line.split(":")[0]: line.split(":", 1)[1]
        for line in words.locator("dl > div").all_inner_texts()
    }
    assert set(terms) == {
        *("Patch", "Class token (CLS)", "Query", "Attention", "Layer", "Head", "Patch mean"),
        *("Tokens without a place", "Uniform", "Rollout", "Relevance", "Logit"),
    }
    assert all(len(sentence) > 20 and sentence.endswith(".") for sentence in terms.values())
    said = words.inner_text()
    for sign in "White outline", "Colour of a map", "Orange frame", "Blue lines", "counted from 0":
        assert sign in said
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    button.click()
    assert not words.is_visible()


@pytest.mark.parametrize("name", ["query", "map"])
def test_rows_and_columns_are_numbered_where_they_lie(saved, visit, name):
    page = visit(saved[1].as_uri(), viewport=PHONE)
    canvas = box(page, f"canvas[data-control={name}]")
    for axis, start, length in ("rows", "y", "height"), ("columns", "x", "width"):
        numbers = page.locator(f"[data-axis={name}-{axis}] span")
        assert numbers.all_inner_texts() == list("0123456")
        for i, number in enumerate(numbers.all()):
            at = number.bounding_box()
            middle = at[start] + at[length] / 2 - canvas[start]
            assert middle == pytest.approx((i + 0.5) * canvas[length] / 7, abs=1.5)
    values = torch.tensor(element(page, "e => [...e.map().values]"))
    row, column = divmod(int(values.argmax()), 7)
    assert f"row {row}, column {column} (" in text(page)


def test_small_maps_say_which_head_or_class_they_show(saved, visit):
    page = visit(saved[1].as_uri())
    heads = [t.replace("\n", " ") for t in page.locator("[data-many] > span").all_inner_texts()]
    assert all(title.startswith(f"Head {i}: ") for i, title in enumerate(heads)) and len(heads) == 4
    page.get_by_role("button", name="Relevance").click()
    assert page.locator("[data-many] > span").nth(9).inner_text().startswith("9: ")


def scale(page):
    "The numbers below the map"
    numbers = page.locator("[data-control=scale] .numbers span").all_inner_texts()
    return [text.replace("\u00a0", " ") for text in numbers]


BRIGHTEST = """e => {
    const { values } = e.map(), at = values.indexOf(values.reduce((a, b) => Math.max(a, b)));
    const canvas = e.shadowRoot.querySelector("canvas[data-control=map]"), cell = canvas.width / 7;
    const [y, x] = [Math.floor(at / 7), at % 7].map((place) => (place + 0.15) * cell);
    return [...canvas.getContext("2d").getImageData(x, y, 1, 1).data];
}"""


def test_one_scale_for_all_layers_and_heads_or_each_its_own(saved, visit):
    page = visit(saved[1].as_uri())
    maps = capture_attention(saved[0].model, saved[0].images[:1])
    most = max(float(maps.on_grid(layer, "cls")[0].max()) for layer in range(6))
    element(page, "e => e.set({layer: 0})")
    own, small = scale(page), page.locator("[data-many='0'] canvas").evaluate("c => c.toDataURL()")
    assert element(page, BRIGHTEST)[:3] == [254, 232, 56]
    page.get_by_label("Same scale").check()
    shared = scale(page)
    assert own != shared and shared[1:] == [f"{100 * share:.1f} %" for share in (most / 2, most)]
    colour = element(page, BRIGHTEST)
    assert colour[0] < 150  # no longer bright
    assert page.locator("[data-many='0'] canvas").evaluate("c => c.toDataURL()") != small
    for where in {"layer": 5}, {"head": 3}, {"layer": 2, "query": [3, 3]}, {"query": "cls"}:
        element(page, "(e, where) => e.set(where)", where)
        assert (scale(page) == shared) == ("query" not in where or where["query"] == "cls")
    page.get_by_role("button", name="Relevance").click()
    shared = scale(page)
    page.locator(".bar").nth(3).click()
    assert scale(page) == shared and element(page, "e => e.state.same_scale")
    page.get_by_label("Same scale").uncheck()
    assert scale(page) != shared


def test_a_scale_has_numbers_and_a_unit(saved, visit):
    page = visit(saved[1].as_uri())
    assert scale(page)[0] == "0.0 %" and all(number.endswith(" %") for number in scale(page))
    assert text(page, "unit") == "Share of attention; uniform: 2.0 %"
    page.get_by_role("button", name="Rollout").click()
    assert text(page, "unit").startswith("Share") and scale(page)[2].endswith(" %")
    page.get_by_role("button", name="Relevance").click()
    assert text(page, "unit") == "Attention × gradient of the logit"
    assert 0 < float(scale(page)[1]) < float(scale(page)[2])


def test_a_class_that_is_pressed_is_explained_or_nothing_happens(visit, saved, digits, tmp_path):
    page = visit(saved[1].as_uri())
    page.locator(".bar").nth(3).click()
    assert "Relevance for 3" in text(page)
    assert element(page, "e => [e.state.method, e.state.target]") == ["relevance", 3]
    explorer = AttentionExplorer(
        saved[0].model, digits.images[:1], methods=["attention", "rollout"]
    )
    page = visit(explorer.save(tmp_path / "page.html").as_uri())
    before, words = element(page, "e => e.state"), text(page)
    page.locator(".bar").nth(3).click()
    assert (element(page, "e => e.state"), text(page)) == (before, words)
    assert page.locator(".bar").first.evaluate("e => [e.tagName, e.tabIndex]") == ["DIV", -1]


def test_a_head_that_is_off_looks_off_and_all_layers_are_counted(visit, saved, digits, tmp_path):
    explorer = AttentionExplorer(saved[0].model, digits.images[:1])
    explorer.off, explorer.head = [(5, 1), (2, 0), (0, 3)], 1
    page = visit(explorer.save(tmp_path / "page.html").as_uri())
    canvas = "canvas[data-control=map]"
    assert float(style(page, canvas, "opacity")) < 0.4
    assert text(page, "head-off") == "Head 1 is off" and "switched off" in text(page)
    assert text(page, "off") == "3 heads off (1 here)"
    element(page, "e => e.set({head: null})")
    assert "mean of all heads (1 of them off)" in text(page)
    assert float(style(page, canvas, "opacity")) == 1
    assert not page.locator("[data-control=head-off]").is_visible()


def test_switches_of_heads_are_large_and_all_on_is_offered_where_one_is_off(visit, digits, model):
    page = visit("about:blank", viewport=PHONE, has_touch=True)
    give_kernel(page, AttentionExplorer(model, digits.images[:1]))
    switch, all_on = (
        page.locator("[data-switch='2']"),
        page.get_by_role("button", name="All heads on"),
    )
    switch.wait_for()
    assert switch.inner_text() == "Switch off" and not all_on.is_visible()
    assert box(page, "[data-switch='2']")["height"] >= 24
    assert box(page, "[data-switch='2']")["width"] >= 60
    assert float(style(page, "[data-switch='2']", "fontSize")[:-2]) >= 14
    assert switch.evaluate("e => e.scrollWidth <= e.clientWidth")
    switch.tap()
    page.get_by_role("button", name="Switch head 2 of layer 5 on").wait_for()
    assert page.locator("[data-many='2']").inner_text().endswith("off")
    all_on.tap()
    page.get_by_role("button", name="Switch head 2 of layer 5 off").wait_for()
    assert not all_on.is_visible()


PLACES = """e => [...e.shadowRoot.querySelectorAll(
    '.label, .controls, .between, .bars, .stack, canvas[data-control]')].map((node) => {
        const { top, height } = node.getBoundingClientRect();
        return [Math.round(top), Math.round(height)];
    }).concat([[0, Math.round(e.getBoundingClientRect().height)]])"""


@pytest.mark.parametrize("width", [1366, 700, 640, 360])
def test_nothing_moves_when_method_layer_or_heads_change(visit, digits, model, width):
    page = visit("about:blank", viewport={"width": width, "height": 768})
    give_kernel(page, AttentionExplorer(model, digits.images, digits.labels))
    page.locator("[data-switch='2']").wait_for()
    before = element(page, PLACES)
    for state in (
        *({"method": "rollout"}, {"method": "relevance"}, {"target": 3}, {"method": "attention"}),
        *({"head": 1}, {"layer": 0}, {"query": [6, 6]}, {"off": [[0, 1], [5, 3]]}, {"head": None}),
        *({"method": "relevance", "same_scale": True}, {"image": 2}, {"off": []}),
    ):
        element(page, "(e, state) => e.set(state)", state)
        page.wait_for_function("document.querySelector('vit-attention').map().values")
        assert element(page, PLACES) == before, state


@pytest.mark.parametrize("width, height", [(1366, 768), (640, 800)])
def test_paper_and_prediction_stand_side_by_side(visit, digits, model, tmp_path, width, height):
    explorer = AttentionExplorer(model, digits.images, digits.labels)
    page = visit(
        explorer.save(tmp_path / "p.html").as_uri(), viewport={"width": width, "height": height}
    )
    put_paper(page)
    paper, bars = box(page, "[data-control=paper]"), box(page, ".bars")
    assert bars["x"] >= paper["x"] + paper["width"] and abs(bars["y"] - paper["y"]) < 60
    assert max(each["y"] + each["height"] for each in (paper, bars)) <= height
    assert paper["width"] >= min(400, 0.55 * width) and paper["width"] == paper["height"]
    page.set_viewport_size(PHONE)
    paper, bars = box(page, "[data-control=paper]"), box(page, ".bars")
    assert bars["y"] > paper["y"] + paper["height"] and paper["width"] > 280
    assert box(page, "canvas[data-control=query]")["y"] > bars["y"]


def put_paper(page):
    "Put a pad into the place that the explorer has for it"
    page.evaluate(
        """async code => {
            await import("data:text/javascript;base64," + code);
            const pad = document.createElement("vit-pad");
            pad.slot = "paper";
            document.querySelector("vit-attention").append(pad);
        }""",
        widget_code("draw.js"),
    )
    page.locator(".paper").wait_for()


@pytest.mark.parametrize("first", ["draw.js", "attention.js"])
def test_the_paper_of_a_notebook_moves_into_its_explorer(visit, digits, model, first):
    explorer = AttentionExplorer(model, torch.zeros(1, 1, 28, 28, dtype=torch.uint8))
    page = visit("about:blank", viewport=LAPTOP)
    names = [first, *{"draw.js", "attention.js"} - {first}]
    codes = [widget_code(name) for name in names]
    page.evaluate(
        """async ([codes, values]) => {
            const box = document.createElement("div");
            document.body.append(box);
            for (const code of codes) { // one child of the box after the other, as ipywidgets does
                const { default: widget } = await import("data:text/javascript;base64," + code);
                const el = document.createElement("div"), on = () => {};
                const model = { get: (name) => values[name], set: on, on, off: on, send: on };
                await widget.render({ model: { ...model, save_changes: on }, el });
                box.append(el);
            }
        }""",
        [codes, explorer.get_state()],
    )
    page.locator(".paper").wait_for()
    assert page.locator("vit-attention > vit-pad[slot=paper]").count() == 1
    paper, words = box(page, "[data-control=paper]"), box(page, "[data-control=prediction]")
    assert words["x"] > paper["x"] + paper["width"] and words["y"] < paper["y"] + 30


@pytest.mark.parametrize("name", ["vit", "cnn"])
def test_a_fresh_pad_shows_a_grid_or_nothing(visit, name):
    empty = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    explorer = AttentionExplorer(create_model(name, seed=0).eval(), empty)
    page = visit("about:blank", viewport=LAPTOP)
    give_kernel(page, explorer)
    page.get_by_text("Nothing is drawn yet.").wait_for()
    assert page.locator("canvas[data-control=query]").is_visible() == (name == "vit")
    assert not page.get_by_role("button", name="All heads on").is_visible()
    if name == "cnn":
        assert box(page, "vit-attention")["height"] < 300
        put_paper(page)
        paper = box(page, "[data-control=paper]")
        assert box(page, "vit-attention")["height"] < paper["height"] + 300
    page.evaluate("document.querySelector('vit-attention').set({ off: [] })")
    assert text(page, "prediction") == "The prediction appears here."


@pytest.mark.parametrize("name", ["vit", "cnn"])
def test_a_pad_without_its_kernel_says_what_to_do(visit, tmp_path, name):
    pad = DigitPad(create_model(name, seed=0).eval())
    output = pad._repr_mimebundle_()[0]["text/html"]
    (tmp_path / "page.html").write_text(f"<!doctype html><meta charset=utf-8><body>{output}")
    page = visit((tmp_path / "page.html").as_uri())
    page.wait_for_function("document.querySelector('vit-attention').shadowRoot")
    assert text(page, "prediction") == (
        "The sheet needs Python: in a notebook, run this cell first (Shift + Enter)."
    )
    for part in ("vit-pad", ".stage", "input", "[data-query]", ".many", ".bar"):
        assert page.locator(part).filter(visible=True).count() == 0, part


def test_a_page_without_javascript_shows_a_picture_and_says_what_is_seen(visit, saved):
    page = visit(saved[1].as_uri(), java_script_enabled=False)
    picture = page.get_by_role("img")
    assert picture.bounding_box()["width"] > 200
    assert picture.get_attribute("alt").startswith("What vit attends to over the image 7, a row")
    (words,) = [each for each in page.locator("p").all() if each.is_visible()]
    assert words.inner_text().startswith(
        "What is seen: what vit attends to over the image 7, a row"
    )
    assert page.get_by_role("link", name="vit_mnist").get_attribute("href").startswith("https://")
    page = visit(saved[1].as_uri())
    assert page.locator("img").count() == 0 and page.locator("body > p").is_visible()
    assert "on the left the image in patches" in page.locator("body > p").inner_text()


def test_bars_and_scales_are_printed_and_seen_in_high_contrast(visit, saved):
    page = visit(saved[1].as_uri())
    page.get_by_role("button", name="Relevance").click()
    page.emulate_media(media="print")
    for part in ".fill", ".track", "[data-control=scale] i":
        assert style(page, part, "printColorAdjust") == "exact"
    page.emulate_media(media="screen", forced_colors="active")
    canvas = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert style(page, ".bar.said .fill", "backgroundColor") != canvas
    assert "gradient" in style(page, "[data-control=scale] i", "backgroundImage")
    assert style(page, ".track", "borderTopStyle") == "solid"
    chosen, other = "button[aria-pressed=true]", "button[aria-pressed=false]"
    for area in "[aria-label=Method]", ".bars", ".strip", ".many":
        outlines = [style(page, f"{area} {each}", "outlineStyle") for each in (chosen, other)]
        assert outlines == ["solid", "none"], area


def test_a_picture_that_may_not_be_saved_is_shown_instead(visit, saved, tmp_path):
    page_html = saved[1].read_text().replace("&", "&amp;").replace('"', "&quot;")
    for sandbox, said in (
        ("allow-scripts", "neither copy nor save"),
        (
            "allow-scripts allow-same-origin allow-downloads",
            "Saved as attention.png.",
        ),
    ):
        (tmp_path / "page.html").write_text(
            f'<!doctype html><iframe sandbox="{sandbox}" width=900 height=900 srcdoc="'
            f'{page_html}"></iframe>'
        )
        page = visit((tmp_path / "page.html").as_uri())
        frame = page.frame_locator("iframe")
        frame.locator("vit-attention").evaluate(
            "() => { if (navigator.clipboard) navigator.clipboard.write = () => Promise.reject(); }"
        )
        frame.get_by_role("button", name="Copy as PNG").click()
        frame.get_by_text(said).wait_for()
        shown = frame.locator(".copied img")
        assert shown.count() == ("neither" in said)
        if shown.count():
            assert shown.bounding_box()["width"] > 300 and "Layer 5" in shown.get_attribute("alt")


def test_the_grid_over_a_digit_is_seen_on_a_narrow_coarse_screen(visit, saved, tmp_path):
    page = visit(saved[1].as_uri(), viewport=PHONE, device_scale_factor=1)
    canvas = page.locator("canvas[data-control=query]")
    canvas.screenshot(path=tmp_path / "shot.png")
    pixels = torch.from_numpy(np.array(Image.open(tmp_path / "shot.png").convert("RGB"))).float()
    row = pixels[4]  # above the digit: paper and lines
    lines = row[:, 0] < 200
    starts = (lines[1:] & ~lines[:-1]).sum().item()
    assert starts >= 6 and row[:, 2].min() > 200  # blue on white


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_have_contrast(visit, saved, scheme):
    page = visit(saved[1].as_uri(), color_scheme=scheme)
    page.locator("[data-control=help]").click()
    for part in ".quiet", "figcaption", ".axes span", ".help dd", "[data-many] > span", ".label":
        ink, paper = (
            page.locator(part).first.evaluate(
                """(node, which) => {
                    const c = document.createElement("canvas").getContext("2d");
                    const { backgroundColor } = getComputedStyle(document.documentElement);
                    const { color } = getComputedStyle(node);
                    for (const colour of [backgroundColor, ...(which === "ink" ? [color] : [])])
                        (c.fillStyle = colour), c.fillRect(0, 0, 1, 1);
                    return [...c.getImageData(0, 0, 1, 1).data].slice(0, 3);
                }""",
                which,
            )
            for which in ("ink", "paper")
        )
        assert contrast(ink, paper) >= 4.5, (part, ink, paper)


def contrast(one, two):
    "WCAG's ratio of two colours, from 1 to 21"

    def luminance(colour):
        linear = [
            v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
            for v in (value / 255 for value in colour)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


# ---- a model of another make, photographs that are not square


@pytest.fixture(scope="module")
def photograph():
    "48 x 64 pixels, each patch of 8 x 8 in a colour of its own"
    colours = torch.randint(256, (3, 6, 8), dtype=torch.uint8, generator=make_generator(0, "test"))
    return colours.repeat_interleave(8, 1).repeat_interleave(8, 2)


def colours_at(page, name, cells):
    "What a canvas shows in the middle of some cells of the grid, 0 to 255"
    return torch.tensor(
        page.locator(f"canvas[data-control={name}]").evaluate(
            """(canvas, cells) => {
                const c = canvas.getContext("2d"), x = canvas.width / 8, y = canvas.height / 6;
                return cells.map(([row, column]) =>
                    [...c.getImageData((column + 0.5) * x, (row + 0.5) * y, 1, 1).data]);
            }""",
            cells,
        )
    )[:, :3]


def test_a_photograph_is_shown_in_its_colours_and_its_patches_are_hit(
    visit, photograph, rgb, tmp_path
):
    explorer = AttentionExplorer(rgb, photograph, [7])
    page = visit(explorer.save(tmp_path / "page.html").as_uri())
    for name in ("query", "map"):
        box = page.locator(f"canvas[data-control={name}]").bounding_box()
        assert box["width"] / box["height"] == pytest.approx(64 / 48, rel=0.02)
    cells = [[0, 0], [2, 7], [5, 3]]
    true = torch.stack([photograph[:, 8 * row, 8 * column] for row, column in cells])
    assert (colours_at(page, "query", cells) - true).abs().max() <= 2
    values = torch.tensor(element(page, "e => [...e.map().values]"))
    row, column = divmod(int(values.argmax()), 8)
    yellow, own = torch.tensor([254, 232, 56]), photograph[:, 8 * row, 8 * column]
    mixed = 0.6 * yellow + 0.4 * own  # the map's brightest colour, and the photograph below it
    assert (colours_at(page, "map", [[row, column]]) - mixed).abs().max() <= 12

    canvas = page.locator("canvas[data-control=query]")
    box = canvas.bounding_box()
    for row, column in [(4, 6), (0, 7), (5, 0)]:
        at = (column + 0.9) * box["width"] / 8, (row + 0.1) * box["height"] / 6
        canvas.click(position=dict(zip("xy", at)))
        page.mouse.move(0, 0)
        assert element(page, "e => e.state.query") == [row, column]
        read = torch.tensor(element(page, "e => [...e.read()]"))
        true = capture_attention(rgb, explorer.images).on_grid(1, (row, column))[0].mean(0)
        assert (read - true.flatten()).abs().max() < 1e-3
    canvas.focus()
    for key in ["ArrowUp"] * 6 + ["ArrowRight"] * 8:
        page.keyboard.press(key)
    assert element(page, "e => e.state.query") == [0, 7]
    assert page.locator(".bar").count() == 6 and "of 40 classes" in text(page, "prediction")


def test_a_small_page_says_what_it_left_out_and_a_kernel_brings_it(
    visit, photograph, rgb, tmp_path, monkeypatch
):
    monkeypatch.setattr(vit_mnist.element, "_patch_bytes", 1600)
    explorer = AttentionExplorer(rgb, photograph)
    page = visit(explorer.save(tmp_path / "page.html").as_uri())
    assert "over blocks of 2 x 2 patches" in text(page, "left-out")
    maps = capture_attention(rgb, explorer.images)
    read = "(e, where) => { const read = e.read(where); return read && [...read]; }"
    for query in "cls", "mean":
        true = maps.on_grid(1, query)[0, 2].flatten()
        found = torch.tensor(element(page, read, {"query": query, "head": 2}))
        assert (found - true).abs().max() < 1e-3
    element(page, "e => e.set({query: [3, 5], head: 2})")
    assert "mean of all heads: patch (3, 5)" in text(page)
    assert "Means over blocks of 2 × 2 patches" in text(page)
    assert page.locator("[data-control=head]").is_disabled()
    assert element(page, read, {}) is None  # not the mean under the name of a head
    block = [maps.on_grid(1, (row, column))[0].mean(0) for row in (2, 3) for column in (4, 5)]
    true = torch.nn.functional.avg_pool2d(torch.stack(block).mean(0)[None], 2)
    true = true.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten()
    found = torch.tensor(element(page, read, {"head": None}))
    assert (found - true).abs().max() < 1e-3

    element(page, "e => e.remove()")
    give_kernel(page, explorer)
    element(page, "e => e.set({query: [3, 5], head: 2})")
    page.wait_for_function("document.querySelector('vit-attention').read()")
    found = torch.tensor(element(page, read, {}))
    assert (found - maps.on_grid(1, (3, 5))[0, 2].flatten()).abs().max() < 1e-3
    assert "head 2: patch (3, 5)" in text(page) and page.locator("[data-many]").count() == 3
    explorer.method, explorer.target = "relevance", int(explorer.probs.argmin())
    shown = {"method": "relevance", "target": explorer.target}
    element(page, "(e, shown) => e.set(shown)", shown)
    page.wait_for_function("document.querySelector('vit-attention').map().values")
    found = torch.tensor(element(page, "e => [...e.map().values]"))
    assert torch.allclose(found, explorer.map.flatten(), rtol=1e-2, atol=1e-9)


def test_a_replaced_image_is_there_when_the_element_comes_back(visit, digits, model):
    explorer = AttentionExplorer(model, torch.zeros(1, 1, 28, 28, dtype=torch.uint8))
    state, sent = copy.deepcopy(explorer.get_state()), []  # the page has a copy of its own
    explorer.send = lambda content, buffers: sent.append(content)
    explorer.replace(0, digits.images[0], "drawing")
    page = visit("about:blank")
    shown = page.evaluate(
        """async ([code, values, message]) => {
            await import("data:text/javascript;base64," + code);
            const heard = {}, element = document.createElement("vit-attention"), on = () => {};
            vitWidgets.set("it", {
                get: (name) => values[name], set: on, off: on, send: on, save_changes: on,
                on: (name, f) => (heard[name] = f),
            });
            element.dataset.widget = "it";
            document.body.append(element);
            const picture = () => element.shadowRoot.querySelector("[data-control=query]");
            const before = picture().toDataURL();
            heard["msg:custom"](message, []);
            element.set({});
            const drawn = picture().toDataURL();
            element.remove();
            document.body.append(element);
            return [before, drawn, picture().toDataURL()];
        }""",
        [widget_code("attention.js"), state, {**sent[0], "result": None}],
    )
    assert shown[0] != shown[1] == shown[2]


def test_what_a_kernel_could_not_do_is_said_until_the_view_changes(visit, digits, model):
    page = visit("about:blank")
    give_kernel(page, AttentionExplorer(model, digits.images[:2]))
    page.locator(".bar").first.wait_for()
    element(page, "e => e.fail('nothing is drawn yet')")
    assert page.locator("[role=status]").inner_text() == "Nothing is drawn yet"
    assert "attends most to" in text(page)  # what is known stays
    element(page, "e => e.set({ layer: 1 })")
    assert not page.locator("[role=status]").is_visible()


def test_a_second_copy_of_the_code_changes_nothing_on_show(visit, saved):
    page = visit(saved[1].as_uri())
    give_kernel(page, saved[0])
    page.locator(".bar").first.wait_for()
    state = {"layer": 1, "query": [2, 2]}
    page.locator("vit-attention").first.evaluate("(e, state) => e.set(state)", state)
    before = page.locator("vit-attention").evaluate_all("all => all.map((e) => e.state)")
    page.add_script_tag(content=bundle("attention.js"), type="module")
    page.wait_for_function("document.scripts.length")
    after = page.locator("vit-attention").evaluate_all("all => all.map((e) => e.state)")
    assert after == before and page.locator("[data-switch]").count() == 4  # the kernel's is live


def test_when_a_kernel_ends_the_page_goes_on_without_it(visit, digits, model, tmp_path):
    pad, explorer = DigitPad(model), AttentionExplorer(model, digits.images[:1])
    outputs = [each._repr_mimebundle_()[0]["text/html"] for each in (pad, explorer)]
    (tmp_path / "page.html").write_text(
        f"<!doctype html><meta charset=utf-8><body>{''.join(outputs)}"
    )
    page = visit((tmp_path / "page.html").as_uri())
    names = ["draw.js", "attention.js", "attention.js"]
    ended = page.evaluate_handle(
        """async all => {
            const ends = [], on = () => {};
            for (const [code, values] of all) {
                const { default: widget } = await import("data:text/javascript;base64," + code);
                const get = (name) => values[name], rest = { set: on, on, off: on, send: on };
                ends.push(widget.initialize({ model: { get, ...rest, save_changes: on } }));
            }
            return ends;
        }""",
        [
            [widget_code(name), each.get_state()]
            for name, each in zip(names, (pad.paper, pad.explorer, explorer))
        ],
    )
    other, words = page.locator("vit-attention").nth(1), "The kernel computes"
    page.locator("[data-control=paper]").wait_for()
    other.get_by_text(words).wait_for()
    ended.evaluate("ends => ends.forEach((end) => end())")
    page.get_by_text("The sheet needs Python").wait_for()
    assert not page.locator("[data-control=paper]").is_visible()
    assert page.evaluate("vitWidgets.size") == 0 and other.get_by_text(words).count() == 0
    other.locator("[data-query=mean]").click()
    other.get_by_text("patch mean attends most to").wait_for()
