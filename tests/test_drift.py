"Drift: no alarm on clean digits, an alarm on each kind of change, and the command's status."

from dataclasses import replace

import numpy as np
import pytest
import torch

from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.drift import describe_images, find_drift, read_window, reference_for
from vit_mnist.robustness import corrupt, turned
from vit_mnist.runs import open_model
from vit_mnist.trust import make_strangers
from vit_mnist.watch import RequestLog, describe_requests, model_id

LEVEL, SIZE = 0.01, 200


@pytest.fixture(scope="module")
def fast():
    return open_model("fast")


@pytest.fixture(scope="module")
def reference():
    return reference_for("fast", n=3000)[0]


@pytest.fixture(scope="module")
def digits():
    "Return test digits in random order: the second half of the file is by other people"
    order = torch.randperm(10_000, generator=torch.Generator().manual_seed(0))
    return load_data("mnist").test.images[order]


def test_clean_digits_give_no_alarm(fast, reference, digits):
    asked = describe_images(fast, digits[: 20 * SIZE])
    windows = [asked[i * SIZE : (i + 1) * SIZE] for i in range(20)]
    assert sum(find_drift(window, reference, LEVEL).alarm for window in windows) <= 1


def fashion(n):
    "Return articles of clothing where the data set is on this machine"
    try:
        return load_data("fashionmnist").test.images[:n]
    except UserError as error:
        pytest.skip(f"no Fashion-MNIST here: {error}")


CHANGES = {
    "turned": lambda images: turned(images, 25),
    "turned back": lambda images: turned(images, -25),
    "noise": lambda images: corrupt(images, "impulse_noise", 1, seed=0),
    "shot noise": lambda images: corrupt(images, "shot_noise", 3, seed=0),
    "inverted": lambda images: 255 - images,
    "moved": lambda images: images.roll(2, 3),
    "letters": lambda images: make_strangers("letters", len(images)),
    "textures": lambda images: make_strangers("textures", len(images)),
    "one class": lambda images: images[:1].expand_as(images),
    "fashion": lambda images: fashion(len(images)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_gives_an_alarm(fast, reference, digits, change):
    changed = CHANGES[change](digits[-SIZE:])
    assert find_drift(describe_images(fast, changed), reference, LEVEL).alarm


def test_the_token_alone_tells_strangers(fast, reference, digits):
    window = describe_images(fast, make_strangers("letters", SIZE))
    same = describe_images(fast, digits[-SIZE:])
    hidden = replace(same, tokens=window.tokens)
    assert find_drift(hidden, reference, LEVEL).drifted == ["token"]


@pytest.fixture
def log(tmp_path, reference):
    "Return a log: 60 requests to fast that are like the reference, 70 to another model"
    log = RequestLog(tmp_path / "requests.db")
    order = np.random.default_rng(1).permutation(len(reference))
    log.add(reference[order[:60]])
    log.add(replace(reference[order[:70]], model=np.full(70, "another")))
    return log


def test_other_models_are_left_out(log):
    window, left_out = read_window(log, model_id("fast"))
    assert (len(window), left_out, set(window.model)) == (60, 70, {model_id("fast")})


def test_the_status_tells_a_scheduler(log, script, tmp_path, fast, digits):
    words = "vit_mnist_drift", "requests.db", "--against", "fast"
    done = script(*words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no drift" in done.stdout and "70 requests to other models left out" in done.stdout
    log.add(describe_images(fast, 255 - digits[:60], model_id("fast")))
    done = script(*words, "--last", "60", "--report", "page.html", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "drift: " in done.stdout and (tmp_path / "page.json").exists()
    page = (tmp_path / "page.html").read_text()
    assert "<title>Drift</title>" in page and 'src="data:image/png' in page
    assert "http:" not in page and "https:" not in page


@pytest.mark.parametrize(
    "words, message",
    {
        "requests.db": "--against RUN",
        "requests.db --against nothing": "no run nothing",
        "none.db --against fast": "No such file",
        "text.txt --against fast": "not a database",
        "requests.db --against explain": "130 went to other models",
        "requests.db --against fast --last 3": "at least 50 requests, not 3",
        "requests.db --against fast --since soon": "can't read since 'soon'",
        "requests.db --against fast --since 2100-01-01": "no requests in requests.db since",
        "requests.db --against fast --level 1": "level must be from 0.001 to 0.2",
        "requests.db --against fast --report page.pdf": "must end in .html",
        "mysql://me:sesame@host/x --against fast": "not mysql://...",
        "postgresql://me:sesame@127.0.0.1:9/x --against fast": "postgresql://127.0.0.1/x",
    }.items(),
)
def test_a_mistake_is_one_line_and_status_2(log, script, tmp_path, words, message):
    (tmp_path / "text.txt").write_text("no database at all, but some words " * 9)
    done = script("vit_mnist_drift", *words.split(), cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and message in done.stderr
    assert "sesame" not in done.stderr


def test_an_empty_log_is_said_to_be_empty(tmp_path):
    with pytest.raises(UserError, match="no requests in"):
        read_window(RequestLog(tmp_path / "requests.db"), "m")


def test_classes_that_are_rare_do_not_count_one_by_one():
    images, rng = np.zeros((600, 28, 28), np.uint8), np.random.default_rng(0)
    one = np.eye(62)[rng.integers(0, 62, 600)]
    classes = [chr(65 + i) for i in range(62)]
    asked = describe_requests(images, one, "m", classes)
    assert not find_drift(asked[:60], asked[60:], 0.05).alarm
