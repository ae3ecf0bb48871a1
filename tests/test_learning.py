"learning: pictures of attention during training change nothing, and all of them are there."

from types import SimpleNamespace

import pytest
import torch

from vit_mnist.callbacks import Callback
from vit_mnist.checkpoints import Checkpoints, Resume
from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.learning import AttentionPictures
from vit_mnist.loop import fit
from vit_mnist.model import create_model
from vit_mnist.settings import Settings
from vit_mnist.tracking import Tracker, read_tracked

SETTINGS = Settings(epochs=2, batch_size=32, device="cpu", valid_size=0, ema=0.5)


class Stop(Callback):
    "End a run as an error does"

    def on_step(self, run):
        if run.step == 4:
            raise UserError("stopped here")


def learn(folder, *callbacks, model="vit"):
    train = load_data().train.take(96)
    dropout = {"dropout": 0.1} if model == "vit" else {}
    made = create_model(model, seed=0, size="tiny", **dropout)
    return fit(made, train, None, SETTINGS, callbacks, folder)


def pictures(folder):
    return {path.name: path.read_bytes() for path in (folder / "attention").iterdir()}


def attention(steps=None):
    return AttentionPictures(load_data().test.images[:2], steps)


def test_weights_are_equal_bit_for_bit_and_random_numbers_go_on(tmp_path):
    drawn, plain = learn(tmp_path, attention(range(7))), learn(tmp_path)
    assert len(pictures(tmp_path)) == 7 and len({*pictures(tmp_path).values()}) == 7
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, drawn.model.state_dict()[name]), name
    made = create_model("ats_vit", seed=0, size="tiny")  # draws random numbers when it answers
    before = torch.get_rng_state()
    try:
        attention().check(made)
    except UserError:
        pass  # it chooses its tokens
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_that_is_resumed_has_the_same_pictures(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    learn(whole, attention({0, 2, 5}))
    kept = Checkpoints(settings=SETTINGS)
    with pytest.raises(UserError, match="stopped here"):
        learn(broken, kept.signals, Resume(SETTINGS), attention({0, 2, 5}), kept, Stop())
    assert sorted(pictures(broken)) == ["step-000000.png", "step-000002.png"]
    (broken / "attention" / "step-000000.png").unlink()  # it is not drawn again
    again = Checkpoints(settings=SETTINGS)
    learn(broken, again.signals, Resume(SETTINGS), attention({0, 2, 5}), again)
    there = pictures(broken)
    assert "step-000000.png" not in there
    assert there == {name: pictures(whole)[name] for name in there} and "step-000005.png" in there


def test_the_average_is_drawn_by_the_first_process_alone(tmp_path):
    model, average = (create_model("vit", seed=seed, size="tiny") for seed in (0, 1))
    seen = []
    for result, main in (model, True), (average, True), (average, False):
        folder = tmp_path / f"{len(seen)}"
        state = dict(model=model, result=result, main=main, folder=folder, step=0, callbacks=[])
        callback = attention()
        callback.on_start(SimpleNamespace(**state))
        callback.on_ready(SimpleNamespace(**state))
        seen.append(folder.exists() and pictures(folder)["step-000000.png"])
    assert seen[0] and seen[1] and seen[0] != seen[1] and seen[2] is False


@pytest.mark.parametrize("model, words", [("mlp", "no attention seen in mlp")])
def test_a_model_without_attention_is_refused_in_a_line_before_it_learns(tmp_path, model, words):
    with pytest.raises(UserError, match=words) as error:
        learn(tmp_path, attention(), model=model)
    assert "\n" not in str(error.value) and not list(tmp_path.rglob("*.png"))


def test_the_command_refuses_before_there_is_a_folder(tmp_path, script):
    words = "--model mlp --attention --device cpu --tracking disabled --limit 64".split()
    done = script("vit_mnist_train", *words, "--out", tmp_path / "run")
    assert done.returncode == 2 and "no attention seen in mlp" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "run").exists()


def test_pictures_are_shown_in_weights_and_biases(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    learn(tmp_path, attention({0, 3}), Tracker())
    tracked = read_tracked(tmp_path)
    rows = tracked["history"]
    shown = [step for step, row in rows.items() if any("attention" in key for key in row)]
    assert shown == [0, 3] and "loss" in rows[3]
    assert len([file for file in tracked["files"] if "attention" in file]) == 2
