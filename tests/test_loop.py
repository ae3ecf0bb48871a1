"loop: events in their order, means over images, seeds that decide all, and an end after errors."

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vit_mnist.callbacks import Callback, Run
from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.loop import OneProcess, _with_test, describe_processes, find_processes, fit
from vit_mnist.loop import loss_and_accuracy, pick_device, train_step
from vit_mnist.model import count_flops, count_parameters, create_model
from vit_mnist.optimizers import make_optimizers
from vit_mnist.settings import Training

DATA = load_data()
TRAIN, VALID = DATA.train.take(20), DATA.valid.take(10)
PLAIN = dict(rotate=0.0, scale=0.0, shear=0.0, shift=0.0, label_smoothing=0.0)
BASE = Training(epochs=2, batch_size=16, device="cpu")


class Log(Callback):
    "Keep the names of moments; do something at one of them"

    def __init__(self, name="", log=None, at="", act=None):
        self.log = [] if log is None else log
        for event in (name for name in vars(Callback) if name.startswith("on_")):
            self.listen(name, event, act if event == at else None)

    def listen(self, name, event, act):
        def note(run):
            self.log.append(name + event.removeprefix("on_"))
            if act:
                act(run)

        setattr(self, event, note)


def network(seed=0):
    return create_model("cnn", seed=seed, size="tiny")


def test_moments_come_in_their_order_and_every_image_is_counted():
    log = Log()
    run = fit(network(), TRAIN, VALID, BASE, [log])
    epochs = "step step epoch " * 2
    assert " ".join(log.log) == f"start ready {epochs}trained end exit"
    assert (run.step, run.epoch, run.images) == (4, 2, 40)
    assert (run.total_steps, run.total_images) == (4, 40)
    assert [(row["epoch"], row["step"]) for row in run.history] == [(1, 2), (2, 4)]


@pytest.mark.parametrize("moment", ["on_start", "on_step", "on_epoch", "on_end"])
def test_an_error_ends_the_run_but_every_callback_says_good_bye_last_one_first(moment):
    log = []

    def fail(run):
        raise UserError("enough")

    callbacks = [Log("a ", log), Log("b ", log, moment, fail), Log("c ", log)]
    with pytest.raises(UserError, match="enough"):
        fit(network(), TRAIN, VALID, BASE, callbacks)
    assert log[-3:] == ["c exit", "b exit", "a exit"] and log.count("a exit") == 1


def test_a_callback_may_end_the_run_after_the_epoch():
    log = Log(at="on_step", act=lambda run: setattr(run, "stop", True))
    run = fit(network(), TRAIN, None, BASE, [log], folder="somewhere")
    assert log.log.count("step") == 2 and len(run.history) == 1
    assert run.folder == Path("somewhere")
    assert "valid_loss" not in run.metrics and run.metrics["epoch"] == 1


def test_the_training_loss_is_the_mean_over_images_though_the_last_batch_is_smaller():
    model = create_model("vit", seed=0, size="tiny")
    still = replace(BASE, epochs=1, lr=1e-8, **PLAIN)
    run = fit(model, DATA.train, None, replace(still, limit=20))
    loss, _ = loss_and_accuracy(model, TRAIN)
    assert run.history[0]["train_loss"] == pytest.approx(loss, abs=1e-4)
    assert run.model is model and run.metrics["parameters"] == count_parameters(model)
    assert run.metrics["flops"] == count_flops(model)
    assert run.metrics["train_seconds"] == round(run.seconds, 2)
    assert run.metrics["images_per_second"] == pytest.approx(20 / run.seconds, abs=0.51)


def test_the_seed_decides_dropout_and_order_and_leaves_other_random_numbers_alone():
    weights = []
    for outside, seed in ((1, 0), (2, 0), (1, 3)):
        torch.manual_seed(outside)
        state = torch.get_rng_state()
        run = fit(network(), TRAIN, VALID, replace(BASE, seed=seed, **PLAIN))
        assert torch.equal(torch.get_rng_state(), state)
        weights.append(run.model.classifier[0].weight)
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


class Shares(nn.Module):
    "Give class 0 the share .7 and class 1 the rest, whatever the image"

    def forward(self, images):
        return torch.tensor([[0.7, 0.3]]).log().expand(len(images), 2)


def test_loss_and_accuracy_by_hand_and_the_model_stays_in_its_mode():
    model = Shares().train()
    split = replace(VALID, labels=torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 1, 1]))
    log = -torch.tensor([0.7, 0.3]).log()
    for batch_size in (500, 4):
        loss, accuracy = loss_and_accuracy(model, split, batch_size)
        assert loss == pytest.approx((0.3 * log[0] + 0.7 * log[1]).item())
        assert accuracy == 0.3 and model.training


def test_a_model_trains_in_training_mode_with_its_channels_last_however_it_came():
    modes = []

    class Watch(Callback):
        def on_step(self, run):
            modes.append(run.model.training)

    model = fit(network().eval(), TRAIN, VALID, BASE, [Watch()]).model
    assert modes == [True] * 4 and not model.training
    kernels = [tensor for tensor in model.parameters() if tensor.ndim == 4]
    last = torch.channels_last
    assert kernels and all(kernel.is_contiguous(memory_format=last) for kernel in kernels)


def test_the_final_test_is_shared_by_the_processes():
    assert OneProcess(torch.device("meta")).device.type == "meta"
    split = replace(VALID, labels=torch.zeros(10, dtype=torch.int64))  # all of which are right
    half = {"process_index": 0, "num_processes": 2, "device": "cpu", "reduce": lambda sums: sums}
    run = SimpleNamespace(model=Shares(), accelerator=SimpleNamespace(**half))
    assert _with_test(run, split, {"more": 1})["test_accuracy"] == 0.5


@pytest.mark.parametrize("parts", [3, 5, 99])
def test_uneven_parts_of_a_batch_add_up_to_the_batch(parts):
    accelerator, _ = find_processes("cpu")
    runs = []
    for accumulate in (1, parts):
        model, settings = create_model("vit", seed=0, size="tiny"), Training(accumulate=accumulate)
        run = Run(model, settings, 1, optimizers=make_optimizers(model, settings))
        run.accelerator = accelerator
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)  # of an earlier step: forgotten
        train_step(run, model, *TRAIN[:7], weight=2.0)
        runs.append((run.loss.item(), run.grad_norm.item()))
    assert runs[0] == pytest.approx(runs[1], rel=1e-4)
    assert runs[0][0] > 4  # twice the mean loss, as the weight says


def test_devices_are_found_and_described(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device() == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="^no device 'mps' here; there is: cpu$"):
        pick_device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device().type == "cuda" and pick_device("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A1")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    one, two = (SimpleNamespace(num_processes=n) for n in (1, 2))
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert describe_processes(one, cpu) == "1 process on cpu, 3 threads"
    assert describe_processes(two, cpu) == "2 processes on cpu, 3 threads each"
    assert describe_processes(two, cuda) == "2 processes on A1"


def test_the_form_before_takes_its_arguments_by_place_and_tests(tmp_path):
    log, data = Log(), replace(DATA, train=TRAIN, valid=VALID, test=DATA.test.take(10))
    with pytest.warns(DeprecationWarning, match="fit.model, train, valid"):
        run = fit(network(), data, BASE, [log], tmp_path)
    assert (run.settings, run.folder) == (BASE, tmp_path) and log in run.callbacks
    assert run.metrics["test_accuracy"] == loss_and_accuracy(run.model, data.test)[1]


# models and processes that are not as expected


class Own(nn.Module):
    "Add up a linear layer and a parameter with five dimensions; one layer is idle"

    def __init__(self, outputs=10):
        super().__init__()
        self.linear, self.idle = nn.Linear(784, outputs), nn.Linear(9, 9)
        self.bias = nn.Parameter(torch.zeros(1, 1, 1, 1, outputs))

    def forward(self, images):
        return self.linear(images.flatten(1)) + self.bias.flatten()


def test_the_model_is_in_evaluation_mode_after_a_run_and_after_an_error():
    assert not fit(network(), TRAIN, VALID, BASE).model.training

    def fail(run):
        raise UserError("enough")

    model = network()
    with pytest.raises(UserError, match="enough"):
        fit(model, TRAIN, VALID, BASE, [Log(at="on_step", act=fail)])
    assert not model.training


@pytest.mark.parametrize("before", [False, True])
def test_an_error_at_an_exit_hides_no_other_and_stops_no_other_exit(before):
    def fail(run):
        raise UserError("early" if before else "never")

    def fail_late(run):
        raise ValueError("late")

    log = []
    callbacks = [Log("a ", log), Log("b ", log, "on_exit", fail_late)]
    callbacks += [Log("c ", log, "on_step" if before else "", fail)]
    with pytest.raises(UserError if before else ValueError, match="early" if before else "late"):
        if before:
            with pytest.warns(UserWarning, match="ValueError: late"):
                fit(network(), TRAIN, VALID, BASE, callbacks)
        else:
            fit(network(), TRAIN, VALID, BASE, callbacks)
    assert log[-3:] == ["c exit", "b exit", "a exit"]


MODELS = {
    "the model has 5 outputs, and labels go from 0 to 9": lambda: Own(5),
    "nothing can learn": lambda: Own().requires_grad_(False),
    "bias of the model is of torch.float64.*float": lambda: Own().double(),
    "takes part in the model's logits": lambda: nn.Sequential(Own(), Detached()),
    "for one image, \\[1, 1, 28, 10\\]": lambda: nn.Linear(28, 10),
    "for one image, tuple": lambda: nn.Sequential(Own(), Twice()),
    "the model fails on one image .RuntimeError": lambda: nn.Linear(27, 10),
}


class Detached(nn.Module):
    def forward(self, logits):
        return logits.detach()


class Twice(nn.Module):
    def forward(self, logits):
        return logits, logits


@pytest.mark.parametrize("message", MODELS)
def test_a_model_of_ones_own_that_cant_be_trained_is_refused_in_a_line(message):
    log = Log()
    with pytest.raises(UserError, match=message) as error:
        fit(MODELS[message](), DATA.train.take(64), VALID, BASE, [log])
    assert log.log == [] and "\n" not in str(error.value)


def test_data_of_ones_own_that_dont_fit_are_refused_in_a_line():
    data = replace(DATA, train=TRAIN, valid=VALID, test=VALID.take(0))
    with pytest.warns(DeprecationWarning), pytest.raises(UserError, match="no test images"):
        fit(network(), data, BASE)
    for wrong in (
        replace(TRAIN, labels=TRAIN.labels[1:]),
        replace(TRAIN, labels=TRAIN.labels.float()),
    ):
        with pytest.raises(UserError, match="give each image one label"):
            fit(network(), wrong, VALID, BASE)
    with pytest.raises(UserError, match="no images to measure"):
        loss_and_accuracy(network(), VALID.take(0))


def test_a_model_of_ones_own_is_trained_whatever_its_parameters():
    run = fit(Own(), TRAIN, VALID, BASE)
    assert run.step == 4 and run.model.bias.abs().max() > 0


def test_compile_without_a_compiler_is_refused_before_the_run_begins(monkeypatch):
    def no_compiler(function):
        raise RuntimeError("No working C++ compiler found\nand more")

    log = Log()
    monkeypatch.setattr(torch, "compile", no_compiler)
    with pytest.raises(UserError, match="leave compile out .RuntimeError: No working") as error:
        fit(network(), TRAIN, VALID, replace(BASE, compile=True), [log])
    assert log.log == [] and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "variables, message",
    [
        ("WORLD_SIZE=2", "there is no RANK; start several processes with torchrun"),
        ("WORLD_SIZE=2 RANK=0 LOCAL_RANK=0 MASTER_ADDR=localhost", "there is no MASTER_PORT"),
        ("WORLD_SIZE=-1", "is no number of processes"),
        ("OMPI_COMM_WORLD_SIZE=4", "4 processes that train one by one"),
        ("SLURM_STEP_NUM_TASKS=4", "4 processes that train one by one"),
        ("ACCELERATE_MIXED_PRECISION=bf16", "set the run's own precision"),
        ("ACCELERATE_MIXED_PRECISION=fp8", "set the run's own precision"),
        ("ACCELERATE_USE_FSDP=true", "each process trains a whole model"),
        ("ACCELERATE_USE_DEEPSPEED=1", "each process trains a whole model"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4", "set accumulate"),
        ("ACCELERATE_DYNAMO_BACKEND=INDUCTOR", "set compile"),
    ],
)
def test_what_a_launcher_asks_for_and_a_run_can_not_do_is_refused(monkeypatch, variables, message):
    for variable in variables.split():
        monkeypatch.setenv(*variable.split("="))
    with pytest.raises(UserError, match=message):
        fit(network(), TRAIN, VALID, BASE)


@pytest.mark.parametrize(
    "variables",
    [
        "RANK=0",
        "WORLD_SIZE=1 RANK=0 LOCAL_RANK=0",
        "WORLD_SIZE= ACCELERATE_USE_CPU=true ACCELERATE_MIXED_PRECISION=no",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS=1 ACCELERATE_DYNAMO_BACKEND=NO",
    ],
)
def test_what_asks_for_nothing_else_is_one_process(monkeypatch, variables):
    for variable in variables.split():
        monkeypatch.setenv(*variable.split("="))
    accelerator, device = find_processes("cpu")
    assert (accelerator.num_processes, device.type) == (1, "cpu")


def test_the_precision_of_the_run_may_be_asked_for_and_slurms_tasks_are_not_obeyed(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    find_processes("cpu", "bf16")
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    with pytest.warns(UserWarning, match="SLURM_NTASKS=4 is not obeyed"):
        assert find_processes("cpu")[0].num_processes == 1


ACCELERATOR = """
import sys
from accelerate import Accelerator
from vit_mnist.data import load_data
from vit_mnist.loop import fit
from vit_mnist.model import create_model
from vit_mnist.settings import Training
if sys.argv[1] == "before":
    Accelerator(mixed_precision="bf16")
train = load_data().train.take(20)
model = create_model("cnn", seed=0, size="tiny")
run = fit(model, train, settings=Training(epochs=1, device="cpu"))
print(run.step, Accelerator(mixed_precision="bf16").mixed_precision)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_ones_own_accelerator_and_a_run_do_not_meet(script, when):
    done = script("python", "-c", ACCELERATOR, when)
    assert done.stdout.split() == ["1", "bf16"], done.stderr


def test_a_folder_may_be_text(tmp_path):
    settings = Training(epochs=1, batch_size=8, device="cpu", snapshots=(0,))
    model = create_model("vit", seed=0, size="tiny")
    run = fit(model, load_data().train.take(8), settings=settings, folder=str(tmp_path))
    assert run.folder == tmp_path and (tmp_path / "snapshots" / "step-000000.safetensors").exists()
