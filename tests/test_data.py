"Data across processes and modules: unpacking at once, locked folders, a data set of one's own."

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from vit_mnist.core import UserError, make_generator, sha256
from vit_mnist.data import DATASETS, Split, add_data, batches, cache_root, class_means, displayed
from vit_mnist.data import load_data, mnist_hashes, normalise, plot_class_balance, plot_patches
from vit_mnist.evaluation import evaluate
from vit_mnist.runs import open_data, open_model
from vit_mnist.settings import Settings
from vit_mnist.tracking import wandb_mode
from vit_mnist.training import train

UNPACK = "from vit_mnist.data import unpack_mnist; import sys; unpack_mnist(sys.argv[1])"


def test_two_processes_unpack_at_once(tmp_path, script):
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(script, "python", "-c", UNPACK, tmp_path) for _ in range(2)]
    assert [done.result().returncode for done in both] == [0, 0]
    unpacked = (tmp_path / "MNIST" / "raw").iterdir()
    assert {path.name: sha256(path.read_bytes()) for path in unpacked} == mnist_hashes()


def test_read_only_folder_is_one_line(tmp_path, script, unprivileged):
    tmp_path.chmod(0o555)
    try:
        done = script("python", "-c", UNPACK, tmp_path, before=unprivileged)
    finally:
        tmp_path.chmod(0o755)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode and "UserError: can't keep MNIST in" in last and "VIT_MNIST_HOME" in last
    assert list(tmp_path.iterdir()) == []


def test_read_only_folder_that_is_complete_serves(tmp_path, script, unprivileged):
    script("python", "-c", UNPACK, tmp_path, check=True)
    raw = tmp_path / "MNIST" / "raw"
    raw.chmod(0o555)
    try:
        script("python", "-c", UNPACK, tmp_path, before=unprivileged, check=True)
    finally:
        raw.chmod(0o755)


def bars(root):
    "Make 400 training and 100 test images of a bar, lying, standing, or both"
    images, labels = torch.zeros(500, 1, 28, 28, dtype=torch.uint8), torch.arange(500) % 3
    for i, (image, label) in enumerate(zip(images[:, 0], labels.tolist())):
        place = slice(3 + 5 * i % 23, 6 + 5 * i % 23)
        if label != 1:
            image[place] = 255
        if label != 0:
            image[:, place] = 255
    classes = "lying", "standing", "both"
    return Split(images[:400], labels[:400], classes), Split(images[400:], labels[400:], classes)


@pytest.fixture
def own_data():
    "Add a data set of one's own; take it away afterwards"
    add_data("bars", bars)
    yield "bars"
    del DATASETS["bars"]


def test_own_data_is_trained_on_and_opened_by_name(tmp_path, own_data):
    settings = Settings(model="cnn", data=own_data, valid_size=100, epochs=3, batch_size=20)
    run = train(settings, out=tmp_path / "run")
    assert run.metrics["test_accuracy"] > 0.9, run.metrics
    model, data = open_model(tmp_path / "run"), open_data(tmp_path / "run")
    assert (data.name, data.classes) == ("bars", ("lying", "standing", "both"))
    assert evaluate(model, data.test).accuracy == run.metrics["test_accuracy"]


def test_a_split_moves_as_a_whole():
    moved = load_data().test.take(3).to("meta")
    assert (moved.images.device.type, moved.labels.device.type) == ("meta", "meta")


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_refused(tmp_path, label):
    def load(folder):
        train, test = bars(folder)
        return replace(train, labels=torch.full_like(train.labels, label)), test

    add_data("wrong", load)
    try:
        with pytest.raises(UserError, match=f"labels must be from 0 to 2.*{label}"):
            load_data("wrong", root=tmp_path)
    finally:
        del DATASETS["wrong"]


def test_bars_of_three_splits_stand_beside_each_other_around_their_class(own_data):
    (axis,) = plot_class_balance(load_data(own_data, valid_size=100)).axes
    assert axis.get_title() == "bars: class balance"
    assert [text.get_text() for text in axis.get_xticklabels()] == ["lying", "standing", "both"]
    train, valid, test = ([bar.get_center()[0] for bar in bars] for bars in axis.containers)
    assert valid == pytest.approx([0, 1, 2])
    assert train == pytest.approx([-0.28, 0.72, 1.72]) and test == pytest.approx([0.28, 1.28, 2.28])
    assert [bar.get_height() for bar in axis.containers[0]] == pytest.approx(
        [33.4, 33.3, 33.3], abs=0.1
    )
    named = [text.get_text().split()[0] for text in axis.get_legend().get_texts()]
    assert named == ["train", "valid", "test"]


def test_three_channels_are_drawn_as_colours_and_any_other_number_as_their_mean():
    pixels = torch.randint(256, [4, 5, 6], dtype=torch.uint8)
    assert torch.equal(displayed(pixels[:3]), pixels[:3].movedim(0, -1) / 255)
    for channels in (1, 2, 4):
        assert torch.equal(displayed(pixels[:channels]), pixels[:channels].float().mean(0))


def test_sets_of_the_family_are_downloaded_and_mnist_is_not():
    asked = {name: entry.options.get("download") for name, entry in DATASETS.items()}
    assert asked.pop("mnist") is False and set(asked.values()) == {True}


def test_patches_are_numbered_row_by_row_without_scales():
    image = load_data().test.images[0]
    axes = plot_patches(image, patch_size=14).axes
    assert [axis.texts[0].get_text() for axis in axes] == ["0", "1", "2", "3"]
    assert all(len(axis.get_xticks()) == 0 == len(axis.get_yticks()) for axis in axes)
    assert torch.equal(torch.as_tensor(axes[1].images[0].get_array()), image[0, :14, 14:])
    assert {axis.images[0].get_clim() for axis in axes} == {(0, image.max().item())}
    (rim,) = axes[0].texts[0].get_path_effects()  # red on white, whatever lies below
    assert (axes[0].texts[0].get_color(), rim._gc["foreground"]) == ("#b00020", "white")


def test_no_home_is_a_line(monkeypatch):
    def nobody(uid):
        raise KeyError(uid)

    pwd = pytest.importorskip("pwd")
    for name in ("HOME", "XDG_CACHE_HOME", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for home in ("", "~/digits"):
        monkeypatch.setenv("VIT_MNIST_HOME", home)
        with pytest.raises(UserError, match="no home folder .*; set VIT_MNIST_HOME"):
            cache_root()
    assert wandb_mode() in ("online", "offline", "disabled")


def test_pixels_are_normalised_by_the_numbers_that_models_of_digits_are_trained_with():
    black, white = normalise(torch.tensor([0, 255], dtype=torch.uint8)).tolist()
    assert (black, white) == pytest.approx(((0 - 0.1307) / 0.3081, (1 - 0.1307) / 0.3081), abs=1e-6)
    colours = normalise(torch.full((1, 2, 1, 1), 255, dtype=torch.uint8), (0.5, 0.25), (0.5, 0.75))
    assert colours.flatten().tolist() == pytest.approx([1, 1])


def test_without_a_seed_images_stay_as_they_are():
    split = load_data().test.take(5)
    parts = [images for images, _ in batches(split, 2, augment=lambda images, *_: images + 1)]
    assert torch.equal(torch.cat(parts), split.images)


def test_each_batch_draws_its_augmentation_by_its_number_in_the_whole_training():
    split, seen = load_data().test.take(10), []

    def augment(images, generator, share):
        seen.append(generator.initial_seed())
        return images[share]

    for epoch, start in ((0, 0), (1, 0), (1, 2)):  # four batches an epoch
        list(batches(split, 3, seed=5, epoch=epoch, augment=augment, start=start))
    steps = [*range(4), *range(4, 8), 6, 7]
    assert seen == [make_generator(5, "augment", step).initial_seed() for step in steps]


def test_mean_images_are_those_of_each_class_in_the_shape_of_an_image():
    means = class_means(bars(None)[0])
    assert means.shape == (3, 1, 28, 28)
    assert torch.allclose(means[2], bars(None)[0].images[2::3].float().mean(0))


@pytest.mark.parametrize("halves", [[1, 2, 3], {"train": 1, "test": 2}])
def test_a_loader_that_returns_no_two_halves_is_refused(tmp_path, halves):
    add_data("wrong", lambda folder: halves)
    try:
        with pytest.raises(UserError, match="must return \\(train, test\\), two Splits"):
            load_data("wrong", root=tmp_path)
    finally:
        del DATASETS["wrong"]


def test_a_split_says_what_it_is_and_a_patch_may_be_a_pixel():
    assert repr(load_data().test) == "Split of 10,000 images, 10 classes, on cpu"
    assert len(plot_patches(load_data().test.images[0, :, :3, :3], patch_size=1).axes) == 9
