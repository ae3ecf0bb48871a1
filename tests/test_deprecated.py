"Names, parameters and forms of the version before: each still works, and says what replaces it."

import re
from importlib import import_module
from inspect import getclosurevars
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import vit_mnist.all
from vit_mnist.attention import Attention
from vit_mnist.callbacks import Run
from vit_mnist.checkpoints import Checkpoints, Signals
from vit_mnist.data import load_data
from vit_mnist.evaluation import Evaluation
from vit_mnist.maps import capture_attention
from vit_mnist.methods import Attribution, Method
from vit_mnist.model import about, batch_logits
from vit_mnist.pictures import attention_distance, plot_attention, plot_layers, plot_query
from vit_mnist.prediction import Prediction
from vit_mnist.settings import Settings
from vit_mnist.training import ProgressBar
from vit_mnist.weights import load_pretrained

ROOT = Path(__file__).parent.parent
MOVED = {  # where a name was: where it is
    **{f"live.{name}": f"element.{name}" for name in ("bundle", "live_weights")},
    **{f"errors.{name}": f"core.{name}" for name in ("UserError", "check_name", "printable")},
    **{f"imports.{name}": f"core.{name}" for name in ("LazyPackage", "import_submodule")},
    **{f"data.{name}": f"core.{name}" for name in ("figure", "write_atomic", "write_json")},
    **{f"data.{name}": f"core.{name}" for name in ("save_picture", "sha256", "seed_generators")},
    "data.random_seed": "core.derive_seed",
    "data.generator": "core.make_generator",
    "data.own_numbers": "core.fork_rng",
    "zoo.rgb_vit": "zoo.rgb_vit_sizes",
    "zoo.vit": "zoo.vit_sizes",
    "zoo.nd": "zoo.nd_sizes",
    "adapters.Fit": "adapters.PadAndEnlarge",
    "adapters.chain": "adapters.sequential",
    "adapters.nd": "adapters.without_flex_attention",
    "model.pack": "model.safetensors_bytes",
    "callbacks.Averaging": "callbacks.EMA",
    "callbacks.Watch": "callbacks.TerminateOnNaN",
    "weights.ship": "weights.publish_weights",
    "maps.kept_attention": "maps.keep_among_tokens",
    "methods.Heat": "methods.Attribution",
    "methods.chain": "methods.is_chain",
    "methods.filling": "methods.fill_image",
    "methods.last_seen": "methods.pick_layer",
    "methods.layouts_of": "methods.find_layouts",
    "methods.seen": "methods.list_spatial",
    "perturbation.knock_out_heads": "perturbation.ablate_heads",
    "explanation.draw_heat": "explanation.draw_attribution",
    "faithfulness.area": "faithfulness.area_under_curve",
    "faithfulness.gone_after": "faithfulness.removed_pixels",
    "faithfulness.take_away": "faithfulness.remove_pixels",
    "faithfulness.scrambled": "faithfulness.randomised_model",
    "runs.is_shipped": "runs.is_pretrained",
    "element.HeadsOff": "perturbation.AblatedHeads",
    "element.DEFAULT": "element.DEFAULT_METHODS",
    "tuning.Report": "tuning.ReportToTrial",
}
REPLACED = {  # where a function was: what replaces it, a function of a model
    "model.get_layout": lambda model: about(model).declared,
    "model.patch_borders": lambda model: about(model).borders,
    "maps.model_name": lambda model: about(model).name,
    "maps.input_pad": lambda model: about(model).pad,
    "perturbation.patch_side": lambda model: about(model).patch_side(28),
}
OTHER = {"evaluation.split_logits"}  # has a test of its own


def find(path):
    "Return the thing at module.name"
    module, _, name = path.rpartition(".")
    return getattr(import_module(f"vit_mnist.{module}"), name)


@pytest.fixture(scope="module")
def model():
    return load_pretrained("explain")


@pytest.fixture(scope="module")
def split():
    return load_data().valid.take(4)


@pytest.mark.parametrize("old", MOVED)
def test_a_former_name_gives_the_same_thing(old):
    place, _, name = old.rpartition(".")
    if name in vars(import_module(f"vit_mnist.{place}")):  # the module itself imports it
        assert find(old) is find(MOVED[old])
        return
    with pytest.warns(DeprecationWarning, match=f"{old} is now vit_mnist.{MOVED[old]}$"):
        value = find(old)
    assert value is find(MOVED[old])


@pytest.mark.parametrize("old", REPLACED)
def test_a_replaced_function_gives_the_same_answer(old, model):
    name = old.rpartition(".")[2]
    with pytest.warns(DeprecationWarning, match=f"{old} is now vit_mnist.deprecated.{name}$"):
        function = find(old)
    assert function(model) == REPLACED[old](model)
    assert "about(model)." in function.__doc__


def test_split_logits(model, split):
    with pytest.warns(DeprecationWarning, match="split_logits"):
        split_logits = find("evaluation.split_logits")
    with pytest.warns(DeprecationWarning, match="size is now batch_size"):
        logits = split_logits(model, split, size=3)
    assert torch.allclose(logits, batch_logits(model, split.images), atol=1e-5)


def test_the_tables_name_all_that_modules_keep():
    kept = set()
    for path in (ROOT / "vit_mnist").glob("*.py"):
        module = import_module(f"vit_mnist.{path.stem}")
        former = vars(module).get("__getattr__")
        if former and path.stem != "all":
            kept |= {f"{path.stem}.{name}" for name in getclosurevars(former).nonlocals["places"]}
    assert kept == {*MOVED, *REPLACED, *OTHER}


@pytest.mark.parametrize("old", [*MOVED, *REPLACED, *OTHER])
def test_the_changelog_names_them(old):
    _, rest = (ROOT / "CHANGELOG.md").read_text().split("\n### The rooms in one order\n")
    section = rest.split("\n### ")[0]
    place, _, name = old.rpartition(".")
    if name in MOVED.get(old, "").split("."):  # moved with the module or with its kind
        name = f"vit_mnist.{place}"
    assert re.search(rf"`{re.escape(name)}[`(]", section), name


NAMES = [old.rpartition(".")[2] for old in MOVED]


@pytest.mark.parametrize(  # two modules had a `chain` and an `nd`, and `all` had neither
    "old", [old for old, name in zip(MOVED, NAMES) if NAMES.count(name) == 1]
)
def test_all_says_what_to_write(old):
    name = old.rpartition(".")[2]
    place, _, new = MOVED[old].rpartition(".")
    advice = f"vit_mnist.all.{name}: write from vit_mnist.{place} import {new}$"
    if name in vit_mnist.all.__all__:
        assert getattr(vit_mnist.all, name) is find(MOVED[old])
        return
    with pytest.warns(DeprecationWarning, match=advice) as caught:
        assert getattr(vit_mnist.all, name) is find(MOVED[old])
    assert len(caught) == 1


PROPERTIES = [  # class, name before, name
    (Run, "averaged", "ema"),
    (Run, "looks", "can_read"),
    (Signals, "asked", "received"),
    (Attention, "mix", "weights"),
    (Method, "specific", "class_specific"),
    (Evaluation, "said", "predicted"),
    (Evaluation, "right", "correct"),
    (Prediction, "digit", "name"),
]


@pytest.mark.parametrize("cls, old, new", PROPERTIES)
def test_a_former_property_reads_the_new_one(cls, old, new):
    with pytest.warns(DeprecationWarning, match=rf"\b{new}$"):
        value = getattr(cls, old).fget(SimpleNamespace(**{new: "its value"}))
    assert value == "its value"


@pytest.mark.parametrize(
    "cls, old, new",
    [(ProgressBar, "tell", "update_text"), (Checkpoints, "stop_if_asked", "stop_if_signalled")],
)
def test_a_former_method_calls_the_new_one(cls, old, new):
    called = []
    with pytest.warns(DeprecationWarning, match=rf"\b{new}$"):
        getattr(cls, old)(SimpleNamespace(**{new: called.append}), "run")
    assert called == ["run"]


MAPS = torch.arange(2 * 784.0).view(2, 28, 28)
ORDER = torch.arange(49).flip(0)[None]
HALF = MAPS[:, None] % 28 < 14


def pictures(model, split):
    return model, split.images[:2]


PARAMETERS = {  # function and name before: other arguments, the value, the name
    ("augment.shifting", "size"): (lambda *_: (torch.ones(2), torch.ones(2)), 14, "side"),
    ("augment.bending", "size"): (lambda *_: (torch.ones(1, 2, 3, 3),), 14, "side"),
    ("data.batches", "size"): (lambda model, split: (split,), 3, "batch_size"),
    ("loop.loss_and_accuracy", "size"): (lambda *both: both, 3, "batch_size"),
    ("evaluation.evaluate", "size"): (lambda *both: both, 3, "batch_size"),
    ("maps.stream_attention", "size"): (pictures, 1, "batch_size"),
    ("methods.to_pixels", "heat"): (lambda *_: (), Attribution(MAPS), "attribution"),
    ("faithfulness.patch_order", "heat"): (lambda *_: (), MAPS, "attribution"),
    ("faithfulness.patch_order", "size"): (lambda *_: (MAPS,), 7, "patch_size"),
    ("faithfulness.removed_pixels", "size"): (lambda *_: (ORDER, 9), 4, "patch_size"),
    ("faithfulness.noisy_linear", "gone"): (lambda *_: (MAPS[:, None] / 784,), HALF, "removed"),
    ("faithfulness.remove_pixels", "gone"): (
        lambda model, _: (model, MAPS[:, None]),
        HALF,
        "removed",
    ),
    ("faithfulness.deletion_curve", "heat"): (pictures, MAPS, "attribution"),
    ("faithfulness.insertion_curve", "heat"): (pictures, MAPS, "attribution"),
    ("faithfulness.area_between", "heat"): (pictures, MAPS, "attribution"),
    ("faithfulness.rank_correlation", "heat"): (lambda *_: (), MAPS, "attribution"),
}


def plain(result):
    "Turn a result into what == compares"
    if isinstance(result, torch.Tensor):
        return result.tolist()
    if isinstance(result, (int, float)):
        return result
    return list(map(plain, result)) if hasattr(result, "__iter__") else repr(result)


@pytest.mark.parametrize("function, old", PARAMETERS)
def test_a_former_parameter_means_the_new_one(function, old, model, split):
    others, value, new = PARAMETERS[function, old]
    function, arguments = find(function), others(model, split)
    more = {"other": MAPS.flip(1)} if function.__name__ == "rank_correlation" else {}
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
        before = plain(function(*arguments, **{old: value}, **more))
    assert before == plain(function(*arguments, **{new: value}, **more))


def test_check_same_takes_the_settings_asked_for():
    check_same = find("checkpoints.check_same")
    with pytest.warns(DeprecationWarning, match="asked is now wanted"):
        check_same(asked=Settings(), began=Settings())


def test_explanations_take_the_other_class_as_target(model, split):
    for name, images in ("plot_why", split.images[:1]), ("plot_explanations", split.images[0]):
        with pytest.warns(DeprecationWarning, match="target is now other"):
            fig = find(f"explanation.{name}")(model, images, target=8)
        assert any(axis.get_title().startswith("Why not 8") for axis in fig.axes), name


def test_pictures_of_attention_take_images_first(model, split):
    maps = capture_attention(model, split.images)
    for plot in plot_attention, plot_layers, plot_query:
        with pytest.warns(DeprecationWarning, match="takes the maps alone"):
            before = plot(split.images, maps)
        titles = [[axis.get_title() for axis in fig.axes] for fig in (before, plot(maps))]
        assert titles[0] == titles[1]
    with pytest.warns(DeprecationWarning, match="takes the maps alone"):
        before = attention_distance(maps, 28)
    assert plain(before) == plain(attention_distance(maps))
    with pytest.warns(DeprecationWarning, match='of="weights"'):
        assert torch.equal(maps.on_grid(of="mix"), maps.on_grid(of="weights"))
