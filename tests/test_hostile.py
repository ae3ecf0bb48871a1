"""Malformed images and hostile models, through the installed commands and beside good ones.

A line each, no traceback, no hang, no control character, bounded memory; good ones are answered.
"""

import json
import sys

import hostile
import pytest
from vit_mnist.model import create_model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")

# some 0.3 GB are in use when a command starts; PyTorch and Pillow raise where the limit is reached
LIMITED = """
import resource, sys
from importlib.metadata import entry_points
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 700_000_000,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (900, 900))  # seconds
sys.argv = sys.argv[1:]
(entry,) = entry_points(group="console_scripts", name=sys.argv[0])
sys.exit(entry.load()())
"""


@pytest.fixture(scope="module")
def tensors():
    "Return the weights of a small model, with answers that differ, by name"
    model = create_model("vit", seed=0, **hostile.ARGS)
    return {name: value.numpy() for name, value in model.state_dict().items()}


@pytest.fixture(scope="module")
def limited(script):
    "Return a function that runs an installed script within limits and checks what it printed"

    def run(*words, cwd):
        streams = {"encoding": "utf-8", "errors": "surrogateescape"}
        done = script("python", "-c", LIMITED, *words, cwd=cwd, **streams)
        assert done.returncode in (0, 1, 2), (words, done.returncode, done.stderr[-2000:])
        for line in (done.stdout + done.stderr).split("\n"):
            assert line.isprintable(), (words, line)
        for line in done.stderr.splitlines():
            assert line.startswith(f"{words[0]}: ") and len(line) < 1100, (words, line)
        return done

    return run


def is_none(word):
    raise AssertionError(f"{word} is no JSON")


def check_images(folder, limited, n, seed, together):
    "Let a model predict malformed images, many in a call, with a good one among them"
    made = list(hostile.images(n, seed))
    for name, content in made:
        (folder / name).write_bytes(content)
    hostile.stroke().save(folder / "good.png")
    answered = 0
    for start in range(0, n, together):
        names = [name for name, _ in made[start : start + together]]
        names.insert(len(names) // 2, "good.png")
        done = limited("vit_mnist_predict", "fast", "--json", *names, cwd=folder)
        answers = [json.loads(line, parse_constant=is_none) for line in done.stdout.splitlines()]
        refused = done.stderr.splitlines()
        assert "good.png" in [answer["file"] for answer in answers]
        assert len(answers) + len(refused) == len(names) and done.returncode == bool(refused)
        assert not [line for line in refused if "memory" in line]
        answered += len(answers)
    assert n // 20 < answered < n // 2  # most are malformed indeed
    assert {path.name for path in folder.iterdir()} == {"good.png", *(name for name, _ in made)}


COMMANDS = [
    ("vit_mnist_predict", "RUN", "good.png"),
    ("vit_mnist_predict", "RUN", "good.png", "--json"),
    ("vit_mnist_explain", "RUN", "good.png", "--out", "out.png"),
    ("vit_mnist_evaluate", "RUN", "--limit", "20", "--out", "out.png"),
    ("vit_mnist_attention", "RUN", "good.png", "--out", "out.png"),
    ("vit_mnist_explain", "RUN", "good.png", "--out", "out.png", "--method", "occlusion"),
]


def check_models(folder, limited, n, seed, tensors):
    "Let the commands open hostile models, and good ones in between"
    hostile.stroke().save(folder / "good.png")
    whole = hostile.laid_out(tensors, hostile.SPEC)
    kinds, refused = list(hostile.models(n, seed, tensors)), 0
    for i, (name, content) in enumerate(kinds):
        (name, content), good = (
            (("good", whole), True) if i % 25 == 24 else ((name, content), False)
        )
        path = folder / name
        content(path) if callable(content) else path.write_bytes(content)
        words = COMMANDS[i % len(COMMANDS)]
        done = limited(*(name if word == "RUN" else word for word in words), cwd=folder)
        if done.returncode:
            assert not good and not done.stdout and len(done.stderr.splitlines()) == 1, done
            assert done.returncode == (1 if done.stderr.count("good.png: the model's") else 2)
            refused += 1
        for line in done.stdout.splitlines() if "--json" in words else ():
            json.loads(line, parse_constant=is_none)
        made = folder / "out.png"
        assert made.exists() == (not done.returncode and "out.png" in words), (name, words, done)
        remove(made)
        remove(path)
    assert refused > n // 2


def remove(path):
    "Remove a file or a folder of files"
    if path.is_dir() and not path.is_symlink():
        for inside in path.iterdir():
            remove(inside)
        path.rmdir()
    elif path.is_symlink() or path.exists():
        path.unlink()


def test_a_sample_of_malformed_images(tmp_path, limited):
    check_images(tmp_path, limited, 60, seed=0, together=30)


def test_a_sample_of_hostile_models(tmp_path, limited, tensors):
    check_models(tmp_path, limited, 30, seed=0, tensors=tensors)


@pytest.mark.slow
def test_a_thousand_malformed_images(tmp_path, limited):
    check_images(tmp_path, limited, 1050, seed=1, together=105)


@pytest.mark.slow
def test_three_hundred_hostile_models(tmp_path, limited, tensors):
    check_models(tmp_path, limited, 315, seed=1, tensors=tensors)
