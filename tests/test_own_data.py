"own_data: files of one's own become a data set, and what is no data is told in one line."

import json
import shutil
import warnings
import zipfile
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image

import vit_mnist.all
from vit_mnist import own_data
from vit_mnist.callbacks import Callback
from vit_mnist.checkpoints import Stopped, list_checkpoints, read_checkpoint
from vit_mnist.core import UserError, sha256
from vit_mnist.data import load_data, pixel_stats
from vit_mnist.digits import prepare_digit, read_digit
from vit_mnist.model import about, create_model, head_parameters, load_model, save_model
from vit_mnist.own_data import read_pixels
from vit_mnist.presets import find_weights
from vit_mnist.runs import open_data, open_model
from vit_mnist.settings import Settings
from vit_mnist.training import train

MNIST = load_data().valid
TINY = dict(patch_size=14, dim=16, depth=1, heads=2, dim_head=8, mlp_dim=16)
SMALL = dict(epochs=2, batch_size=16, device="cpu")


def write_pages(folder, images, labels, names="0123456789"):
    "Write digits as dark ink on light pages of different sizes, a folder for each class"
    for i, (image, label) in enumerate(zip(images, labels.tolist())):
        (folder / names[label]).mkdir(parents=True, exist_ok=True)
        side = 30 + i % 40
        page = Image.new("RGB", (2 * side, 2 * side), ("white", "khaki", "lightblue")[i % 3])
        mask = Image.fromarray(image[0].numpy()).resize((side, side))
        page.paste(Image.new("RGB", mask.size, "navy"), (i % side, side // 2), mask)
        page.save(folder / names[label] / f"{i:04d}.{('png', 'jpg')[i % 2]}")
    return folder


def write_csv(path, images, labels=None, header=None):
    rows = images.flatten(1).tolist()
    names = header or [
        *(["label"] if labels is not None else []),
        *(f"pixel{i}" for i in range(784)),
    ]
    if labels is not None:
        rows = [[label, *row] for label, row in zip(labels.tolist(), rows)]
    path.write_text("\n".join(",".join(map(str, row)) for row in [names, *rows]) + "\n")
    return path


def write_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    "120 digits of three classes: 2, 5 and 10"
    index = torch.cat([(MNIST.labels == digit).nonzero()[:40, 0] for digit in (2, 5, 1)])
    labels = torch.arange(3).repeat_interleave(40)
    return write_pages(
        tmp_path_factory.mktemp("own") / "pages", MNIST.images[index], labels, ["2", "5", "10"]
    )


def multiset(*splits):
    "The images and classes of splits, whatever their order"
    return sorted(
        (split.classes[label], sha256(image.numpy().tobytes()))
        for split in splits
        for image, label in zip(split.images, split.labels.tolist())
    )


# ---- folders


def test_a_folder_for_each_class_is_a_data_set_with_its_own_classes_and_normalisation(pages):
    data = load_data(f"folder:{pages}")
    assert data.classes == ("2", "5", "10") and data.name == "folder:pages"
    assert [len(split) for split in (data.train, data.valid, data.test)] == [72, 24, 24]
    assert (data.mean, data.std) == pixel_stats(data.train.images)
    for split, each in ((data.train, 24), (data.valid, 8), (data.test, 8)):
        assert split.labels.bincount().tolist() == [each] * 3
    files = [(name, read_digit(file)) for name in data.classes for file in (pages / name).iterdir()]
    expected = sorted((name, sha256(image.numpy().tobytes())) for name, image in files)
    assert multiset(data.train, data.valid, data.test) == expected
    assert vit_mnist.all.load_data is load_data


def test_the_seed_alone_decides_the_split_wherever_the_folder_lies(pages, tmp_path):
    moved = shutil.copytree(pages, tmp_path / "elsewhere")
    first, again = load_data(f"folder:{pages}", seed=3), load_data(f"folder:{moved}", seed=3)
    for name in ("train", "valid", "test"):
        assert torch.equal(getattr(first, name).images, getattr(again, name).images)
        assert torch.equal(getattr(first, name).labels, getattr(again, name).labels)
    assert multiset(first.test) != multiset(load_data(f"folder:{pages}", seed=4).test)
    assert len(first.train.labels[:12].unique()) == 3  # `limit` takes some of each class


@pytest.mark.parametrize("valid_size, sizes", [(0, [96, 0, 24]), (7, [89, 7, 24])])
def test_validation_images_are_as_many_as_wanted_up_to_a_fifth(pages, valid_size, sizes):
    data = load_data(f"folder:{pages}", valid_size)
    assert [len(split) for split in (data.train, data.valid, data.test)] == sizes


def test_parts_are_taken_where_they_are_there(tmp_path):
    for name, start in (("train", 0), ("val", 100), ("testing", 160)):
        write_pages(tmp_path / name, *MNIST[start : start + 60])
    (tmp_path / ".git").mkdir()
    data = load_data(f"folder:{tmp_path}", valid_size=0)
    assert [len(split) for split in (data.train, data.valid, data.test)] == [60, 60, 60]
    shutil.rmtree(tmp_path / "val")
    data = load_data(f"folder:{tmp_path}")
    assert [len(split) for split in (data.train, data.valid, data.test)] == [48, 12, 60]
    (tmp_path / "more").mkdir()
    with pytest.raises(UserError, match="'more' is no part of that"):
        load_data(f"folder:{tmp_path}")


def test_files_that_cannot_be_read_are_counted_in_one_line_and_left_out(pages, tmp_path):
    folder = shutil.copytree(pages, tmp_path / "pages")
    (folder / "2" / "a\x1b[2J.png").write_bytes(b"no image")
    (folder / "5" / "b.jpg").write_bytes(b"")
    (folder / "5" / "notes.txt").write_text("not an image at all")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load_data(f"folder:{folder}")
    assert sum(map(len, (data.train, data.valid, data.test))) == 120
    (line,) = [str(each.message) for each in caught]
    assert line.startswith("2 of 122 images") and "a\\x1b[2J.png: not a" in line
    assert line.isprintable()


def test_names_of_classes_are_made_printable(pages, tmp_path):
    folder = shutil.copytree(pages, tmp_path / "pages")
    (folder / "2").rename(folder / "t\x1b[2J\nwo")
    data = load_data(f"folder:{folder}")
    assert "t\\x1b[2J\\nwo" in data.classes
    assert about(vit_mnist.all.create_model("vit", size="tiny")).classes  # and a model takes them:
    assert vit_mnist.model.model_for(data, "mlp", seed=0).spec.classes == data.classes


def test_mistakes_in_folders_are_one_line(pages, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "flat").mkdir()
    shutil.copy(next((pages / "2").iterdir()), tmp_path / "flat")
    shutil.copytree(pages / "2", tmp_path / "one" / "2")
    shutil.copytree(pages / "2", tmp_path / "hollow" / "2")
    (tmp_path / "hollow" / "3").mkdir()
    shutil.copytree(pages / "2", tmp_path / "broken" / "2")
    (tmp_path / "broken" / "3").mkdir()
    (tmp_path / "broken" / "3" / "x.png").write_bytes(b"no image")
    for part, names in (("train", "25"), ("test", ["2", "10"])):
        for name in names:
            shutil.copytree(pages / name, tmp_path / "strange" / part / name)
    for name, words in {
        "folder:none": "no folder ",
        "folder:file": "file is a file; name one that holds a folder",
        "folder:flat": "put the images of each class into one of its own",
        "folder:one": "has one class only, '2'",
        "folder:hollow": "no image files for the class '3'",
        "folder:broken": "no image of the class '3'",
        "folder:strange": "no training image has the class '10' of test",
        "folder:": "names no files; write folder:PATH",
        "foldr:one": "did you mean 'folder'?",
    }.items():
        kind, _, path = name.partition(":")
        with pytest.raises(UserError) as told:
            load_data(f"{kind}:{tmp_path / path}" if path else name)
        assert words in str(told.value) and str(told.value).isprintable()


def test_more_files_than_a_data_set_may_have_are_refused_before_one_is_read(pages, monkeypatch):
    monkeypatch.setattr(own_data, "MAX_IMAGES", 100)
    monkeypatch.setattr(own_data, "read_digit", None)
    with pytest.raises(UserError, match="more than 100 images"):
        load_data(f"folder:{pages}")


# ---- CSV


def test_kaggles_file_is_read_pixel_by_pixel(tmp_path):
    path = write_csv(tmp_path / "train.csv", *MNIST[:200])
    data = load_data(f"csv:{path}", valid_size=10)
    assert data.classes == tuple("0123456789") and data.name == "csv:train.csv"
    assert [len(split) for split in (data.train, data.valid, data.test)] == [150, 10, 40]
    whole = replace(MNIST.take(200), classes=data.classes)
    assert multiset(data.train, data.valid, data.test) == multiset(whole)
    few = MNIST.labels < 2
    path = write_csv(tmp_path / "two.csv", MNIST.images[few][:40], 7 * MNIST.labels[few][:40])
    assert load_data(f"csv:{path}").classes == ("0", "7")


def test_lines_are_read_in_pieces_and_endings_and_quotes_do_not_matter(tmp_path, monkeypatch):
    monkeypatch.setattr(own_data, "_ROWS", 7)
    path = write_csv(tmp_path / "train.csv", *MNIST[:20])
    text = path.read_text()
    for form in (
        text,
        text.replace("\n", "\r\n"),
        "\ufeff" + text,
        text.replace("label", '"label"'),
    ):
        path.write_text(form, newline="")
        images, labels = read_pixels(path)
        assert torch.equal(images, MNIST.images[:20]) and labels == MNIST.labels[:20].tolist()
    lines = text.splitlines()
    path.write_text("\n".join([*lines[:16], "x" + lines[16][1:]]))
    with pytest.raises(UserError, match="line 17, column 1: 'x' is no whole number"):
        read_pixels(path)


def test_a_folder_of_csv_files_gives_its_parts_and_kaggles_test_has_no_labels(tmp_path):
    write_csv(tmp_path / "train.csv", *MNIST[:100])
    write_csv(tmp_path / "test.csv", MNIST.images[100:130])
    sizes = lambda data: [len(split) for split in (data.train, data.valid, data.test)]  # noqa: E731
    assert sizes(load_data(f"csv:{tmp_path}")) == [60, 20, 20]
    write_csv(tmp_path / "test.csv", *MNIST[100:130])
    data = load_data(f"csv:{tmp_path}")
    assert sizes(data) == [80, 20, 30] and torch.equal(data.test.images, MNIST.images[100:130])
    write_csv(tmp_path / "val.csv", *MNIST[130:137])
    (tmp_path / "train.csv").rename(tmp_path / "training.csv")
    assert sizes(load_data(f"csv:{tmp_path}")) == [100, 7, 30]
    write_csv(tmp_path / "valid.csv", MNIST.images[:5])
    with pytest.raises(UserError, match="valid.csv has no column named label"):
        load_data(f"csv:{tmp_path}")


def test_mistakes_in_csv_files_name_the_line(tmp_path):
    path = write_csv(tmp_path / "train.csv", *MNIST[:30])
    header, first, *others = path.read_text().splitlines()
    cells = first.split(",")
    pixel = lambda value: ",".join([*cells[:100], value, *cells[101:]])  # noqa: E731
    for lines, words in {
        ("",): "has 1 columns",
        (header,): "has no images",
        (first, *others): "the first line must name the columns",
        (header.rpartition(",")[0], first): "has 784 columns",
        (header, first, first + ",0"): "line 3: 786 columns, before 785",
        (header, first.rpartition(",")[0]): "line 2: 784 columns, not 785",
        (header, first, pixel("256")): "line 3: a pixel must be from 0 to 255, not 256",
        (header, first, pixel("-1")): "line 3: a pixel must be from 0 to 255, not -1",
        (header, first, pixel("nan")): "line 3, column 101: 'nan' is no whole number",
        (header, first, pixel("")): "line 3, column 101: '' is no whole number",
        (header, first, pixel("0.5")): "'0.5' is no whole number",
        (header, first, pixel("\x1b[2J")): "is no whole number",
        (header, first, pixel("9" * 9000)): "is no whole number",
        (header, first, "10" + first[1:]): "line 3: a label must be from 0 to 9, not 10",
        (header, first, "-1" + first[1:]): "line 3: a label must be from 0 to 9, not -1",
        (header, first, "seven" + first[1:]): "line 3, column 1: 'seven' is no whole number",
    }.items():
        path.write_text("\n".join(lines))
        with pytest.raises(UserError) as told:
            load_data(f"csv:{path}")
        assert words in str(told.value) and str(told.value).isprintable()
    with pytest.raises(UserError, match="can't read .*none.csv \\(No such file"):
        load_data(f"csv:{tmp_path / 'none.csv'}")
    path.write_text("\n".join([header, *[first] * 30]))
    with pytest.raises(UserError, match="one class only"):
        load_data(f"csv:{path}")


def test_a_file_that_is_too_large_is_refused_unread(tmp_path, monkeypatch):
    path = write_csv(tmp_path / "train.csv", *MNIST[:30])
    monkeypatch.setattr(own_data, "MAX_FILE", path.stat().st_size - 1)
    with pytest.raises(UserError, match="has more than 0 MB"):
        load_data(f"csv:{path}")
    monkeypatch.undo()
    monkeypatch.setattr(own_data, "MAX_IMAGES", 29)
    with pytest.raises(UserError, match="has more than 29 images"):
        load_data(f"csv:{path}")


# ---- npz


def test_kerass_file_is_read_with_its_parts(tmp_path):
    x, y = MNIST.images[:90].numpy(), MNIST.labels[:90].numpy()
    keras = dict(x_train=x[:60, 0], y_train=y[:60], x_test=x[60:, 0], y_test=y[60:])
    data = load_data(f"npz:{write_npz(tmp_path / 'mnist.npz', **keras)}", valid_size=10)
    assert [len(split) for split in (data.train, data.valid, data.test)] == [50, 10, 30]
    assert torch.equal(data.test.images, MNIST.images[60:90])
    assert multiset(data.train, data.valid) == multiset(
        replace(MNIST.take(60), classes=data.classes)
    )
    for form in (
        x.transpose(0, 2, 3, 1),
        x[:, 0].astype(float),
        x[:, 0] / 255.0,
        np.asfortranarray(x[:, 0]),
    ):
        path = write_npz(tmp_path / "form.npz", x_train=form, y_train=y.astype(np.uint8)[:, None])
        data = load_data(f"npz:{path}")
        assert multiset(data.train, data.valid, data.test) == multiset(
            replace(MNIST.take(90), classes=data.classes)
        )


def test_pictures_of_another_size_and_in_colours_are_prepared(tmp_path):
    x = np.kron(255 - MNIST.images[:30, 0].numpy(), np.ones((1, 3, 3), np.uint8))
    x = np.stack([x, x, np.full_like(x, 255)], 3)  # blue paper
    x[4] = 7  # one without ink
    path = write_npz(tmp_path / "own.npz", x_train=x, y_train=MNIST.labels[:30].numpy() % 2)
    with pytest.warns(UserWarning, match="1 of 30 images .* the first: no ink found"):
        data = load_data(f"npz:{path}")
    prepared = torch.stack([prepare_digit(x[i]) for i in range(30) if i != 4])
    expected = sorted(sha256(image.numpy().tobytes()) for image in prepared)
    found = multiset(data.train, data.valid, data.test)
    assert sorted(digest for _, digest in found) == expected


def test_objects_are_never_unpickled_and_large_claims_are_refused_before_reading(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    x = MNIST.images[:30, 0].numpy()
    path = write_npz(tmp_path / "a.npz", x_train=x, y_train=np.array([Bomb()] * 30, dtype=object))
    with pytest.raises(UserError, match="y_train in .* must hold numbers, not Python objects"):
        load_data(f"npz:{path}")
    assert not (tmp_path / "exploded").exists()
    for shape in ((own_data.MAX_IMAGES + 1, 28, 28), (1000, 4000, 4000), (2**40, 2**40)):
        with zipfile.ZipFile(path, "w") as archive, archive.open("x_train.npy", "w") as file:
            header = np.lib.format.header_data_from_array_1_0(x) | {"shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
        with pytest.raises(UserError, match="x_train in .*it is too large"):
            load_data(f"npz:{path}")


@pytest.mark.parametrize("header", ["{'descr': '<f4', 'shape': (", "{1: 2, 'a': 3}", "((("])
def test_an_array_whose_header_is_no_header_is_one_line(header, tmp_path):
    text = f"{header}\n".encode()
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name in "x_train", "y_train":
            content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
            archive.writestr(f"{name}.npy", content)
    with pytest.raises(UserError, match="can't read x_train"):
        load_data(f"npz:{tmp_path / 'a.npz'}")


def test_mistakes_in_npz_files_are_one_line(tmp_path):
    x, y = MNIST.images[:30, 0].numpy(), MNIST.labels[:30].numpy()
    for arrays, words in [
        (dict(x_train=x), "needs both x_train and y_train"),
        (dict(images=x, labels=y), "needs x_train and y_train"),
        (dict(x_train=x, y_train=y[:9]), "30 x_train and 9 y_train"),
        (dict(x_train=x.reshape(30, 784), y_train=y), "must be [n, 28, 28], not [30, 784]"),
        (dict(x_train=x[:, None], y_train=y), "must be [n, 28, 28], not [30, 1, 28, 28]"),
        (dict(x_train=x * 2.0, y_train=y), "must be from 0 to 255"),
        (dict(x_train=x - 1.0, y_train=y), "must be from 0 to 255, not from -1.0"),
        (dict(x_train=np.where(x > 9, np.nan, 0), y_train=y), "not from nan to nan"),
        (dict(x_train=x, y_train=y + 1), "must be digits, 0 to 9, and one is 10"),
        (dict(x_train=x, y_train=y - 1), "must be digits, 0 to 9, and one is -1"),
        (dict(x_train=x, y_train=y + 0.5), "must be digits"),
        (dict(x_train=x, y_train=np.full(30, np.nan)), "must be digits, 0 to 9, and one is nan"),
        (dict(x_train=x, y_train=np.eye(10)[y]), "must have the shape [n], not [30, 10]"),
        (dict(x_train=x, y_train=y.astype(str)), "must hold numbers"),
        (dict(x_train=x[:0], y_train=y[:0]), "it is empty"),
        (dict(x_train=x, y_train=y * 0), "one class only, '0'"),
        (dict(x_train=x * 0, y_train=y), "all pixels are the same"),
    ]:
        with pytest.raises(UserError) as told:
            load_data(f"npz:{write_npz(tmp_path / 'a.npz', **arrays)}")
        assert words in str(told.value) and str(told.value).isprintable()
    whole = write_npz(tmp_path / "a.npz", x_train=x, y_train=y).read_bytes()
    for content in (
        b"",
        b"\x80\x04N.",
        whole[: len(whole) // 2],
        whole.replace(b"NUMPY", b"NUNPY"),
    ):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(UserError) as told:
            load_data(f"npz:{tmp_path / 'a.npz'}")
        assert "a.npz" in str(told.value) and str(told.value).isprintable()


# ---- a run on them


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    "The weights of a small model of MNIST's ten classes"
    path = tmp_path_factory.mktemp("source") / "source.safetensors"
    save_model(create_model("vit", seed=9, **TINY), path)
    return path


@pytest.fixture(scope="module")
def tuned(pages, source, tmp_path_factory):
    "A run on the pages that starts from these weights, seed 1"
    folder = tmp_path_factory.mktemp("tuned") / "run"
    settings = Settings(data=f"folder:{pages}", start=str(source), seed=1, snapshots=(0,), **SMALL)
    return train(settings, folder, progress=False, pictures={})


def test_a_run_finds_its_data_again_from_any_folder(pages, source, tmp_path, monkeypatch):
    monkeypatch.chdir(pages.parent)
    settings = Settings(data="folder:pages", model="mlp", model_args={"size": "tiny"}, **SMALL)
    run = train(settings, tmp_path / "run", progress=False, pictures={})
    monkeypatch.chdir(tmp_path)
    config = json.loads((run.folder / "config.json").read_text())["settings"]
    assert config["data"] == f"folder:{pages}" and Settings(**config) == settings
    data = open_data("run")
    assert torch.equal(data.test.images, load_data(f"folder:{pages}").test.images)
    model = open_model("run")
    assert about(model).classes == ("2", "5", "10") and about(model).data == "folder:pages"
    assert (about(model).mean, about(model).std) == (data.mean, data.std)


def test_moved_files_are_one_line_and_are_split_by_the_runs_seed(pages, tuned, tmp_path):
    folder = shutil.copytree(tuned.folder, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    config["settings"]["data"] = f"folder:{tmp_path / 'gone'}"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="no folder .*gone; .* have moved, say where .* --data"):
        open_data(folder)
    moved = open_data(folder, f"folder:{pages}")
    assert multiset(moved.test) == multiset(load_data(f"folder:{pages}", seed=1).test)
    assert multiset(moved.test) == multiset(open_data(tuned.folder).test)
    other = load_data(f"folder:{pages}", valid_size=0)
    assert multiset(open_data("fast", f"folder:{pages}").test) == multiset(other.test)


def test_other_classes_get_a_new_head_drawn_from_the_seed_and_all_else_is_loaded(tuned, source):
    start, first = (
        load_model(source),
        load_model(tuned.folder / "snapshots/step-000000.safetensors"),
    )
    first = first.state_dict()
    head = head_parameters(start)
    assert head == ["mlp_head.weight", "mlp_head.bias"]
    for name, tensor in start.state_dict().items():
        assert name in head or torch.equal(first[name], tensor), name
    expected = create_model("vit", seed=1, **TINY, num_classes=3).state_dict()
    assert all(torch.equal(first[name], expected[name]) for name in head)
    config = json.loads((tuned.folder / "config.json").read_text())
    assert config["weights"] == {"file": str(source), "sha256": sha256(source.read_bytes())}
    assert config["settings"]["start"] == str(source)
    assert about(tuned.model).args["depth"] == TINY["depth"]


def test_the_same_classes_keep_the_head_and_other_names_do_not(source, tmp_path):
    for names, kept in ("0123456789", True), ("abcdefghij", False):
        folder = write_pages(tmp_path / names, *MNIST[:60], names)
        settings = Settings(data=f"folder:{folder}", start=str(source), lr=1e-8, **SMALL)
        run = train(settings, tmp_path / f"run-{names}", progress=False, pictures={})
        same = (run.model.mlp_head.weight - load_model(source).mlp_head.weight).abs().max() < 1e-4
        assert same == kept


class Stop(Callback):
    "End the run after a step, as Ctrl-C does"

    def __init__(self, step):
        self.after = step

    def on_step(self, run):
        if run.step == self.after:
            import signal

            signal.raise_signal(signal.SIGINT)


def frozen_settings(pages, source):
    rest = dict(ema=0.9, clip_norm=0.1, keep_best=True, **SMALL)
    return Settings(data=f"folder:{pages}", start=str(source), freeze=True, **rest)


def test_a_frozen_body_stays_bit_for_bit_and_the_run_resumes_without_its_source(pages, tmp_path):
    source = tmp_path / "source.safetensors"  # with batch norm and dropout, in and before the head
    save_model(create_model("cnn", seed=2, size="tiny"), source)
    start, settings = load_model(source), frozen_settings(pages, source)
    words = dict(progress=False, pictures={})
    whole = train(settings, tmp_path / "whole", **words)
    head = head_parameters(whole.model)
    for name, tensor in start.state_dict().items():
        assert name in head or torch.equal(whole.model.state_dict()[name], tensor), name
    optimizer = {name.split(".", 1)[1].rpartition(".")[0] for name in optimizer_state(whole)}
    assert optimizer == set(head)
    assert all(each.requires_grad for each in whole.model.parameters())
    with pytest.raises(Stopped):
        train(settings, tmp_path / "run", [Stop(7)], **words)
    source.unlink()
    resumed = train(resume=tmp_path / "run", **words)
    for one, other in zip(*(run.model.state_dict().values() for run in (whole, resumed))):
        assert torch.equal(one, other)
    assert about(resumed.model).classes == ("2", "5", "10")


def optimizer_state(run):
    return read_checkpoint(list_checkpoints(run.folder / "checkpoints")[-1])[1]["optimizer"]


def test_what_names_no_weights_or_other_ones_is_one_line(pages, source, tmp_path):
    data = f"folder:{pages}"
    for settings, words in [
        (dict(freeze=True), "give start .--from., too"),
        (dict(freeze=True, start=str(source), optimizer="muon"), "which muon does not train"),
        (dict(start="fats"), "no run fats"),
        (dict(start=str(source), model="cait"), "are of another model, vit, not cait"),
        (dict(start=str(source), model_args={"depth": 2}), "leave out model_args"),
        (dict(start=str(source), model_args={"num_classes": 10}), "has 3 classes, not 10"),
    ]:
        with pytest.raises(UserError, match=words):
            train(Settings(data=data, **settings, **SMALL), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_run_starts_from_another_on_its_files_only_if_it_divides_them_alike(
    pages, tuned, tmp_path
):
    again = Settings(data=f"folder:{pages}", start=str(tuned.folder), **SMALL)
    for changed in (dict(seed=2), dict(seed=1, valid_size=7)):
        with pytest.raises(UserError, match="divided another way; take its own: seed 1, valid"):
            train(replace(again, **changed), tmp_path / "none", progress=False)
    assert not (tmp_path / "none").exists()
    train(replace(again, seed=1), tmp_path / "run", progress=False, pictures={})


def test_settings_of_the_model_that_fit_the_weights_may_be_given(pages, source, tmp_path):
    settings = Settings(
        data=f"folder:{pages}", start=str(source), model_args={"dropout": 0.2}, **SMALL
    )
    run = train(settings, tmp_path / "run", progress=False, pictures={})
    assert about(run.model).args["dropout"] == 0.2 and about(run.model).args["dim"] == 16


def test_weights_of_the_package_start_a_run(pages, tmp_path):
    settings = Settings(data=f"folder:{pages}", start="fast", limit=16, **SMALL)
    run = train(settings, tmp_path / "run", progress=False, pictures={})
    config = json.loads((run.folder / "config.json").read_text())
    digest = sha256(find_weights("fast").read_bytes())
    assert config["weights"] == {"file": "fast", "sha256": digest}
    assert (config["settings"]["model"], config["settings"]["start"]) == ("cct", "fast")
    assert "num_classes" not in config["settings"]["model_args"]


def test_a_run_from_before_these_settings_resumes(tmp_path):
    settings = Settings(limit=48, valid_size=40, model_args=TINY, **SMALL)
    words = dict(progress=False, pictures={})
    whole = train(settings, tmp_path / "whole", **words)
    with pytest.raises(Stopped):
        train(settings, tmp_path / "run", [Stop(4)], **words)
    for path in (tmp_path / "run").rglob("*.json"):
        content = json.loads(path.read_text())
        for name in ("start", "freeze"):
            content.get("settings", {}).pop(name, None)
        path.write_text(json.dumps(content))
    for checkpoint in list_checkpoints(tmp_path / "run" / "checkpoints"):
        manifest = json.loads((checkpoint / "manifest.json").read_text())
        manifest["state.json"] = sha256((checkpoint / "state.json").read_bytes())
        (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    resumed = train(resume=tmp_path / "run", **words)
    for one, other in zip(*(run.model.state_dict().values() for run in (whole, resumed))):
        assert torch.equal(one, other)
    assert "start" not in json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    assert asdict(settings)["start"] == ""
