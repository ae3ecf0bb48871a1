"Several processes against one: the same losses and weights; one voice; an end when one fails."

import json

import pytest
import torch
from safetensors.torch import load_file

# The same run in however many processes torchrun starts: 50 steps with augmentation,
# the last batch of an epoch uneven
WORKER = """
import sys
from pathlib import Path
from vit_mnist.callbacks import Callback
from vit_mnist.settings import Settings
from vit_mnist.training import train
class Losses(Callback):
    def on_start(self, run):
        self.seen = []
    def on_step(self, run):
        self.seen.append(run.loss.item())
        if sys.argv[2] == "fail" and run.step == 3 and not run.main:
            raise ValueError("this worker fails")
    def on_end(self, run):
        if run.main:
            (run.folder / "losses").write_text(" ".join(map(repr, self.seen)))
settings = Settings(model_args={"depth": 2}, limit=25 * 64 - 31, batch_size=64, epochs=2,
    valid_size=2000, accumulate=int(sys.argv[3]), ema=.9, device="cpu")
if __name__ == "__main__":
    train(settings, Path(sys.argv[1]), [Losses()])
"""


@pytest.fixture
def torchrun(script, forked):
    "Run words in several processes, as torchrun starts them; or in one, without it"

    def run(processes, *words):
        if processes == 1:
            return script(*words)
        start = ["torchrun", "--standalone", f"--nproc_per_node={processes}", "--no-python"]
        return script(*start, *forked(*words))

    return run


@pytest.fixture
def launch(tmp_path, torchrun):
    "Run `WORKER` in some processes"
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)

    def launch(processes, name="run", fail="no", accumulate=1):
        return torchrun(processes, "python", worker, tmp_path / name, fail, accumulate)

    return launch


def results(folder):
    losses = torch.tensor(
        [float(loss) for loss in (folder / "losses").read_text().split()], dtype=torch.float64
    )
    return (
        losses,
        load_file(folder / "model.safetensors"),
        json.loads((folder / "metrics.json").read_text()),
    )


def test_two_processes_do_what_one_does(tmp_path, launch):
    one, two = launch(1, "one"), launch(2, "two", accumulate=3)
    for done in (one, two):
        assert done.returncode == 0, done.stderr
    assert "1 process on cpu, 1 thread;" in one.stdout
    assert (
        two.stdout.count("2 processes on cpu, 1 thread each;") == 1
    )  # the main process speaks, and only it
    (losses, weights, metrics), (losses2, weights2, metrics2) = (
        results(tmp_path / name) for name in ("one", "two")
    )
    assert len(losses) == 50 and (losses - losses2).abs().max() < 1e-5
    assert max((weights[key] - weights2[key]).abs().max() for key in weights) < 1e-4
    assert weights.keys() == weights2.keys()  # no prefix of a wrapper
    for key in ("test_accuracy", "valid_accuracy"):  # every image counts once
        size = 10_000 if key.startswith("test") else 2_000
        assert (
            abs(metrics2[key] * size - round(metrics2[key] * size)) < 1e-6
            and abs(metrics[key] - metrics2[key]) * size < 1.5
        )
    assert abs(metrics["test_loss"] - metrics2["test_loss"]) < 1e-4
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == sorted(
        path.name for path in (tmp_path / "one").iterdir()
    )


def test_a_failing_worker_ends_the_run_with_its_message(tmp_path, launch):
    done = launch(2, fail="fail")
    assert done.returncode != 0 and "ValueError: this worker fails" in done.stderr
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_processes_do_not_wait_for_gradients_that_a_model_never_has(tmp_path, torchrun):
    model = "--model", "look_vit", "--model-args", '{"size": "tiny"}'
    brief = "--limit 512 --epochs 1 --valid-size 0 --device cpu --tracking disabled".split()
    done = torchrun(2, "vit_mnist_train", *model, *brief, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy") == 1  # the main process speaks


EVALUATE = """
from dataclasses import replace
from vit_mnist.data import load_data
from vit_mnist.loop import find_processes, loss_and_accuracy
from vit_mnist.model import create_model
accelerator, _ = find_processes("cpu")
model, test = create_model("cnn", seed=0), load_data().test
for n in (10_000, 3, 1):
    loss, accuracy = loss_and_accuracy(model, test.take(n), accelerator=accelerator)
    # one write, or two processes share a line
    print(f"RESULT {n} {loss!r} {accuracy!r}\\n", end="", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_evaluation_is_exact_whatever_the_number_of_processes(torchrun, processes):
    results = []
    for count in (1, processes):
        done = torchrun(count, "python", "-c", EVALUATE)
        assert done.returncode == 0, done.stderr
        results.append({line for line in done.stdout.splitlines() if line.startswith("RESULT")})
    alone, together = [
        {line.split()[1]: tuple(map(float, line.split()[2:])) for line in lines}
        for lines in results
    ]
    assert len(results[1]) == 3  # all processes agree
    for n, (loss, accuracy) in alone.items():
        assert together[n] == pytest.approx((loss, accuracy), rel=1e-6)


OWN = """
import torch
from vit_mnist.data import load_data
from vit_mnist.loop import fit
from vit_mnist.settings import Training
class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.idle = torch.nn.Linear(784, 10), torch.nn.Linear(10, 10)
    def forward(self, images):
        return self.used(images.flatten(1))
torch.manual_seed(0)
data = load_data()
settings = Training(epochs=1, batch_size=64, accumulate=2, device="cpu")
run = fit(Own(), data.train.take(256), data.valid.take(100), settings)
if run.main:
    print("RESULT", run.metrics["valid_loss"])
"""


def test_a_model_of_ones_own_with_an_idle_layer_is_trained_by_two_processes(torchrun):
    losses = []
    for processes in (1, 2):
        done = torchrun(processes, "python", "-c", OWN)
        assert done.returncode == 0, done.stderr
        losses.append(float(done.stdout.split("RESULT ")[1].split()[0]))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
