"The report and runs side by side: every number is the evaluation's own, the page stands alone."

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image
from torch import nn

from vit_mnist import report as module
from vit_mnist.calibration import calibration_error
from vit_mnist.core import UserError
from vit_mnist.data import DataSet, Split, load_data
from vit_mnist.evaluation import Evaluation, evaluate
from vit_mnist.model import create_model, load_model, save_model
from vit_mnist.report import Comparison, compare_runs, holm, mcnemar, measure_speed
from vit_mnist.report import plot_comparison, report
from vit_mnist.robustness import spread
from vit_mnist.weights import load_pretrained

TEST = spread(load_data().test, 60)
HOSTILE = "<script>alert(1)</script>", "a & \"b\" 'c'", "\x1b[2J", "$x^{", "empty"


class Written(nn.Module):
    "Read the class that is written into the first pixel, and count what is read"

    def __init__(self):
        super().__init__()
        self.scale, self.seen = nn.Parameter(torch.tensor(5.0)), 0

    def forward(self, images):
        self.seen += len(images)
        pixels = images[:, 0, 0, 0] * 0.3081 + 0.1307  # 0 to 1 again
        places = torch.arange(5, device=images.device)
        return -self.scale * (255 * pixels[:, None] / 20 - places).abs()


@pytest.fixture(scope="module")
def split():
    "Return 23 images of four of five classes; what is written on two of them is not their class"
    labels = torch.arange(23) % 4
    images = torch.zeros(23, 1, 28, 28, dtype=torch.uint8)
    images[:, 0, 8:20, 12:15] = 200
    images[:, 0, 0, 0] = 20 * labels.to(torch.uint8)
    images[[3, 9], 0, 0, 0] = 0
    return Split(images, labels, HOSTILE)


@pytest.fixture(scope="module")
def made(split, tmp_path_factory):
    "Return a report, its file and the model, which has counted"
    model, path = Written(), tmp_path_factory.mktemp("report") / "page.html"
    return report(model, split, path, n=5, title="<i>title</i> & more"), path, model


def test_the_numbers_are_the_evaluations_and_no_image_is_counted_twice(made, split):
    facts = json.loads(made[1].with_suffix(".json").read_text())
    evaluation = evaluate(Written(), split)
    assert evaluation.correct == 21
    for key, value in json.loads(json.dumps(evaluation.metrics)).items():
        assert facts[key] == value, key
    assert facts["images"] == sum(map(sum, facts["confusion"])) == 23
    assert sum(row["images"] for row in facts["per_class"].values()) == 23
    assert [mistake["image"] for mistake in facts["mistakes"]] == evaluation.mistakes.tolist()
    assert {mistake["predicted"] for mistake in facts["mistakes"]} == {HOSTILE[0]}
    assert facts["robustness"]["images"] == 5 and facts["strangers"] is None
    assert facts["calibration"] == {"error": pytest.approx(calibration_error(evaluation))}
    assert [row["batch_size"] for row in facts["speed"]] == [1, 256]


def test_a_class_without_images_is_a_dash_and_null(made):
    facts = json.loads(made[1].with_suffix(".json").read_text())
    assert facts["per_class"]["empty"] == {
        **dict.fromkeys(["precision", "recall", "f1"]),
        "images": 0,
    }
    assert made[1].read_text().count("\u2013") == 3


class Reader(HTMLParser):
    "Collect tags, and check that each is closed"

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.wrong = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_page_stands_alone_and_names_are_escaped(made):
    text = made[1].read_text(encoding="utf-8")
    read = Reader(text)
    assert not read.open and not read.wrong
    tags = [tag for tag, _ in read.tags]
    assert not {"script", "link", "iframe", "object", "i"} & set(tags)
    assert "http" not in text and "url(" not in text and "\x1b" not in text
    for tag, attributes in read.tags:
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "img":
            assert attributes["src"].startswith("data:image/png;base64,") and attributes["alt"]
    assert "&lt;script&gt;alert(1)" in text and "&lt;i&gt;title&lt;/i&gt; &amp; more" in text
    assert tags.count("img") == 2 + 2  # the mistakes, reliability, and the curves
    assert tags.count("h1") == 1 and tags.count("h2") == len(module.SECTIONS)


def test_a_notebook_shows_the_same_below_its_own_headings(made):
    shown = Reader(made[0]._repr_html_())
    assert not shown.open and not shown.wrong
    assert [tag for tag, _ in shown.tags if tag in "h1 h2 h3".split()] == ["h3"]
    assert "<i>" not in made[0]._repr_html_() and "title" in repr(made[0])


CONTRAST = """() => [...document.querySelectorAll("p, th, td, h1, h2, figcaption")].map(e => {
    let paper = [0, 0, 0, 0];
    const over = (top, low) => top.map((c, i) => i < 3 ? c * top[3] + low[i] * (1 - top[3]) : 1);
    const read = text => [...text.match(/[\\d.]+/g).map(Number), 1].slice(0, 4);
    let chain = [];
    for (let at = e; at; at = at.parentElement) chain.unshift(at);
    for (const at of chain) paper = over(read(getComputedStyle(at).backgroundColor), paper);
    const light = c => c.slice(0, 3).map(v => v / 255)
        .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
    const pair = [light(read(getComputedStyle(e).color)), light(paper)].sort((a, b) => b - a);
    return (pair[0] + .05) / (pair[1] + .05);
})"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_360_pixels_and_can_be_read_in_either_scheme_and_on_paper(made, visit, scheme):
    page = visit(made[1].as_uri(), viewport={"width": 360, "height": 700}, color_scheme=scheme)
    for media, width in ("screen", 360), ("print", 720):  # a sheet of A4 has some 720
        page.set_viewport_size({"width": width, "height": 700})
        page.emulate_media(media=media, color_scheme=scheme if media == "screen" else "light")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert min(page.evaluate(CONTRAST)) > 4.5
    pictures = page.locator("img")
    assert pictures.count() == 4
    loaded = "images => images.every(i => i.complete && i.naturalWidth > 100)"
    assert pictures.evaluate_all(loaded)


def test_a_data_set_is_measured_on_its_test_images_and_files_are_replaced(split, tmp_path):
    data = DataSet("mine <b>", split.take(4), split.take(5), split, 0.1307, 0.3081)
    path = tmp_path / "new" / "page.html"
    for n in (2, 3):
        made = report(Written(), data, path, n=n)
    assert (made.facts["images"], made.facts["data"]) == (23, "mine <b>")
    told = made.facts["calibration"]
    assert told["temperature"] > 0 and 0 <= told["error_with_temperature"] < 1
    assert json.loads(path.with_suffix(".json").read_text())["robustness"]["images"] == 3
    assert sorted(each.name for each in path.parent.iterdir()) == ["page.html", "page.json"]


def test_no_temperature_is_fitted_on_images_that_the_model_has_learnt_from(split):
    data, evaluation = load_data(), evaluate(Written(), split)

    def valid(model):
        return module._valid_images(module.Subject(model, data, evaluation, 1, 0))

    assert valid(load_pretrained("fast")) is None  # it has learnt from all training images
    assert (
        valid(create_model("vit", seed=0, depth=1)) is data.valid
    )  # what is in memory is one's own
    assert module._valid_images(module.Subject(Written(), None, evaluation, 1, 0)) is None


def test_a_run_has_unseen_images_as_far_as_its_settings_say(split, tmp_path):
    model = create_model("vit", seed=0, depth=1, dim=16, heads=2, mlp_dim=16, patch_size=14)
    save_model(model, tmp_path / "model.safetensors")
    data = DataSet("mine", split, split.take(9), split, 0.1307, 0.3081)
    for kept, seen in (8, True), (9, False), (20, False):
        settings = {"settings": {"valid_size": kept}}
        (tmp_path / "config.json").write_text(json.dumps(settings))
        measured = Evaluation(split, torch.zeros(23, 5), 0.0)
        subject = module.Subject(load_model(tmp_path), data, measured, 1, 0)
        assert (module._valid_images(subject) is None) == seen


def test_a_perfect_model_has_no_mistakes_to_show(split):
    keep = torch.tensor([i for i in range(23) if i not in (3, 9)])
    right = replace(split, images=split.images[keep], labels=split.labels[keep])
    made = report(Written(), right, n=2)
    assert made.facts["mistakes"] == [] and "There are none." in made.page


@pytest.mark.parametrize(
    "path, words",
    [
        ("page.pdf", "must end in .html"),
        ("folder.html", "is a folder"),
        ("file/page.html", "can't write"),
    ],
)
def test_a_file_that_cannot_be_is_one_line(split, tmp_path, path, words):
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=words):
        report(Written(), split, tmp_path / path, n=1)
    assert (tmp_path / "file").read_text() == "kept"


def test_speed_is_measured_with_what_there_is():
    model = Written().train()
    (row,) = measure_speed(model, TEST.images[:3], [4], repeats=2)
    assert model.seen == 4 * 5 and model.training  # three to warm up, two that count
    assert row["images_per_second"] == pytest.approx(4000 / row["milliseconds"])


# ---- side by side


def test_mcnemar_is_the_binomial_test_of_the_images_that_one_alone_gets_right():
    first = torch.tensor([1, 1, 1, 1, 1, 1, 0, 1, 0], dtype=torch.bool)
    second = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 0], dtype=torch.bool)
    assert mcnemar(first, second) == (6, 1, pytest.approx(2 * (1 + 7) / 2**7))
    assert mcnemar(second, first) == (1, 6, pytest.approx(2 * (1 + 7) / 2**7))
    assert mcnemar(first, first) == (0, 0, 1.0)


@pytest.mark.parametrize(
    "given, wanted",
    [
        ([0.01, 0.02, 0.03, 0.04], [0.04, 0.06, 0.06, 0.06]),  # never below one before
        ([0.04, 0.001, 0.5], [0.08, 0.003, 0.5]),
        ([0.6, 0.9], [1, 1]),
        ([0.3], [0.3]),
    ],
)
def test_holms_correction_by_hand(given, wanted):
    assert holm(given) == pytest.approx(wanted)


def shares(split, wrong):
    "Evaluate a model that gets some images wrong"
    labels = split.labels.clone()
    labels[wrong] = (labels[wrong] + 1) % 10
    return Evaluation(split, nn.functional.one_hot(labels, 10).float(), 0.1)


def test_pairs_and_pictures_hold_what_was_counted():
    both = Comparison({"a": shares(TEST, [0, 1]), "$b$": shares(TEST, list(range(1, 12)))}, {})
    (pair,) = both.pairs.itertuples()
    assert (pair.a, pair.b, pair.only_a, pair.only_b) == ("a", "$b$", 10, 1)
    assert pair.p == pair.p_holm == pytest.approx(2 * 12 / 2**11)
    assert both.table.accuracy.tolist() == [58 / 60, 49 / 60]
    assert both.table.calibration_error.tolist() == pytest.approx([2 / 60, 11 / 60])
    left, right = plot_comparison(both).axes
    assert [text.get_text() for text in right.texts] == ["10 : 1\np 0.012"]
    assert [label.get_text() for label in left.get_yticklabels()] == ["a", r"\$b\$"]
    assert "p_holm" in repr(both) and "McNemar" in both._repr_html_()


def test_runs_presets_and_models_are_compared_on_the_same_images(tmp_path):
    mine = create_model("vit", seed=0, depth=1, dim=16, heads=2, mlp_dim=16, patch_size=14)
    save_model(mine, tmp_path / "run" / "model.safetensors")
    compared = compare_runs("fast", tmp_path / "run", mine, data=TEST)
    names = ["fast", str(tmp_path / "run"), "vit"]
    assert list(compared.evaluations) == names and len(compared.pairs) == 3
    assert {len(each.split) for each in compared.evaluations.values()} == {60}
    last = compared.pairs.iloc[-1]
    assert (last.only_a, last.only_b, last.p) == (0, 0, 1)  # the same weights
    changed = compare_runs(mine, mine, data=TEST, robustness=True, n=3)
    assert list(changed.evaluations) == ["vit", "vit'"]
    assert {"corruption", "attack", "turned"} <= set(changed.table.columns)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    "Return a folder of runs that cannot be compared"
    folder = tmp_path_factory.mktemp("runs")
    mine = create_model("vit", seed=0, depth=1, dim=16, heads=2, mlp_dim=16, patch_size=14)
    save_model(mine, folder / "good.safetensors")
    whole = (folder / "good.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-50])
    (folder / "text.safetensors").write_text("no model")
    (folder / "unfinished").mkdir()
    (folder / "unfinished" / "config.json").write_text("{}")
    mine.spec = replace(mine.spec, classes=tuple("abcdefghij"), data="letters")
    save_model(mine, folder / "foreign.safetensors")
    other = create_model("vit", seed=0, num_classes=4, depth=1, dim=16, heads=2, mlp_dim=16)
    save_model(other, folder / "four.safetensors")
    return folder


@pytest.mark.parametrize(
    "names, words",
    [
        (["good.safetensors"], "at least two"),
        (["good.safetensors", "good.safetensors"], "named twice"),
        (["good.safetensors", "missing"], "no run .*missing"),
        (["good.safetensors", "cut.safetensors"], "damaged"),
        (["good.safetensors", "text.safetensors"], "damaged or not a safetensors file"),
        (["good.safetensors", "unfinished"], "not finished"),
        (["good.safetensors", "foreign.safetensors"], "was trained on letters"),
        (["good.safetensors", "four.safetensors"], "trained on"),
    ],
)
def test_a_run_that_does_not_fit_is_one_line(damaged, names, words):
    with pytest.raises(UserError, match=words) as caught:
        compare_runs(*(damaged / name for name in names), data=TEST)
    assert "\n" not in str(caught.value)


def test_models_alone_need_images():
    with pytest.raises(UserError, match="give data="):
        compare_runs(Written(), Written())


# ---- the command


def test_the_command_writes_the_page_where_it_is_told_or_beside_the_rest(tmp_path, script):
    words = "vit_mnist_evaluate", "fast", "--limit", "20"
    done = script(*words, "--out", "new", "--report", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    names = "confusion.png metrics.json mistakes.png report.html report.json".split()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == names
    assert "the report is new/report.html" in done.stdout
    facts = json.loads((tmp_path / "new" / "report.json").read_text())
    measured = json.loads((tmp_path / "new" / "metrics.json").read_text())
    assert {key: facts[key] for key in measured} == measured and facts["images"] == 20
    assert facts["title"] == "Report on fast" and "temperature" not in facts["calibration"]
    letters = facts["strangers"]["letters"]
    assert letters["images"] == 100 and all(0.5 < area <= 1 for area in letters["auroc"].values())


def test_without_a_report_nothing_more_is_imported(tmp_path, real_script):
    code = """import sys
from vit_mnist.cli import vit_mnist_evaluate
vit_mnist_evaluate(run="fast", limit=20, out="new")
more = "report robustness calibration trust explanation element".split()
print([name for name in more if f"vit_mnist.{name}" in sys.modules])"""
    done = real_script("python", "-c", code, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_a_model_was_trained_on_is_no_stranger(split):
    letters = replace(split, classes=("a", "b", "c", "d", "e"))
    for shown, there in (split, True), (letters, False):
        subject = module.Subject(Written(), None, evaluate(Written(), shown), 5, 0)
        assert ("letters" in module._strangers_for(subject)) == there


def test_a_temperature_that_the_model_keeps_is_told_and_none_is_fitted_beside_it():
    model = create_model("vit", size="tiny", seed=0)
    model.spec = replace(model.spec, temperature=2.5)
    subject = module.Subject(model, None, evaluate(model, TEST), 5, 0)
    section = module._calibration(subject)
    assert "keeps a temperature of 2.50" in section.body
    assert section.facts["calibration"]["temperature"] == 2.5
    assert "error_with_temperature" not in section.facts["calibration"]


def test_images_that_are_measured_are_not_fitted_on(split):
    data = DataSet("own", split, split, TEST, 0.1, 0.3)
    subject = module.Subject(Written(), data, evaluate(Written(), split), 5, 0)
    assert module._valid_images(subject) is None
    other = module.Subject(Written(), data, evaluate(Written(), split.take(9)), 5, 0)
    assert module._valid_images(other) is split


def test_a_run_that_learnt_from_the_test_images_of_another_is_refused(tmp_path):
    for part in range(3):
        (tmp_path / "files" / str(part)).mkdir(parents=True)
        for i in range(10):
            page = Image.fromarray(255 - TEST.images[10 * part + i, 0].numpy())
            page.save(tmp_path / "files" / str(part) / f"{i}.png")
    names = []
    for seed in 0, 0, 1:
        folder = tmp_path / f"run-{len(names)}"
        folder.mkdir()
        model = create_model("vit", size="tiny", seed=seed, num_classes=3)
        model.spec = replace(model.spec, classes=("0", "1", "2"))
        save_model(model, folder / "model.safetensors")
        settings = {"data": f"folder:{tmp_path / 'files'}", "seed": seed, "valid_size": 5}
        (folder / "config.json").write_text(json.dumps({"settings": settings}))
        names.append(folder)
    assert len(compare_runs(*names[:2]).evaluations) == 2
    with pytest.raises(UserError, match="run-2 split its files by another seed"):
        compare_runs(*names)
