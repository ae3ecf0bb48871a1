"""Every field of `Training`, changed, changes the run as it must.

The trainer of this file is written by hand from the formulas: label smoothing, AdamW, the schedule,
clipping, the moving average. `fit` must end with its weights and its losses.
"""

import math
from dataclasses import dataclass, fields, replace

import pytest
import torch
from torch import nn
from vit_mnist.augment import Augment
from vit_mnist.callbacks import Callback
from vit_mnist.core import UserError, make_generator
from vit_mnist.data import load_data, normalise
from vit_mnist.loop import fit
from vit_mnist.model import create_model, load_model
from vit_mnist.settings import Settings, Training

DATA = load_data()
TRAIN, VALID = DATA.train.take(48), DATA.valid.take(40)
BASE = Training(epochs=2, batch_size=16, warmup=0.34, weight_decay=0.2, lr=3e-3, device="cpu")


def small_vit():
    arguments = dict(dim=16, depth=1, heads=2, dim_head=8, mlp_dim=16, patch_size=14)
    return create_model("vit", seed=0, **arguments)


# ---- the trainer by hand


def smoothed_loss(logits, labels, share):
    "The target is 1 - share on the label, and `share` spread evenly over all classes"
    logs = logits.float().log_softmax(1)
    on_label = logs.gather(1, labels[:, None])[:, 0]
    return -((1 - share) * on_label + share * logs.mean(1)).mean()


def rate(step, total, s):
    "Linear rise over the warm-up, then half a cosine or a line down to zero"
    rise = max(1, round(s.warmup * total))
    if step < rise:
        return (step + 1) / rise
    done = (step - rise) / max(1, total - rise)
    return 1 - done if s.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2


class AdamW:
    "Loshchilov and Hutter, 2019; vectors are not decayed"

    def __init__(self, parameters):
        self.state = [(p, torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
        self.t = 0

    def step(self, lr, s):
        self.t += 1
        for p, m, v in self.state:
            if p.ndim >= 2:
                p.mul_(1 - lr * s.weight_decay)
            m.mul_(s.beta1).add_(p.grad * (1 - s.beta1))
            v.mul_(s.beta2).add_(p.grad**2 * (1 - s.beta2))
            corrected = v / (1 - s.beta2**self.t)
            p.sub_(lr * (m / (1 - s.beta1**self.t)) / (corrected.sqrt() + 1e-8))


@dataclass
class Result:
    weights: dict  # name: tensor, of the result
    losses: list  # of the epochs: mean over images, with label smoothing


def train_by_hand(s):
    "Trains as the settings say; whole batches, one process"
    model, train = small_vit(), TRAIN.take(s.limit or len(TRAIN))
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    inner = [
        m.weight
        for name, m in model.named_modules()
        if "transformer" in name and isinstance(m, nn.Linear)
    ]
    matrices = inner if s.optimizer == "muon" else []
    others = [p for p in model.parameters() if all(p is not m for m in matrices)]
    muon = torch.optim.Muon(matrices, weight_decay=s.weight_decay) if matrices else None
    adamw, losses, step = AdamW(others), [], 0
    per_epoch = math.ceil(len(train) / s.batch_size)
    for epoch in range(s.epochs):
        order = torch.randperm(len(train), generator=make_generator(s.seed, "order", epoch))
        sum_of_losses = 0.0
        for part in order.split(s.batch_size):
            images, labels = train[part]
            strengths = {field.name: getattr(s, field.name) for field in fields(Augment)}
            images = Augment(**strengths)(images, make_generator(s.seed, "augment", step))
            with torch.autocast("cpu", torch.bfloat16, enabled=s.precision == "bf16"):
                logits = model(normalise(images))
            loss = smoothed_loss(logits, labels, s.label_smoothing)
            model.zero_grad()
            loss.backward()
            norm = sum((p.grad**2).sum() for p in model.parameters()).sqrt()
            factor = rate(step, s.epochs * per_epoch, s)
            with torch.no_grad():
                if s.clip_norm and norm > s.clip_norm:
                    for p in model.parameters():
                        p.grad.mul_(s.clip_norm / norm)
                adamw.step(s.lr * factor, s)
                if muon:
                    muon.param_groups[0]["lr"] = s.muon_lr * factor
                    muon.step()
                step += 1
                decay = min(s.ema, (1 + step) / (10 + step))
                for name, p in model.named_parameters():
                    average[name] = decay * average[name] + (1 - decay) * p
            sum_of_losses += loss.item() * len(labels)
        losses.append(sum_of_losses / len(train))
    weights = average if s.ema else dict(model.named_parameters())
    return Result({name: p.detach() for name, p in weights.items()}, losses)


# ---- each field


CHANGES = {
    "limit": 32,
    "epochs": 3,
    "batch_size": 24,
    "optimizer": "muon",
    "lr": 1e-3,
    "beta1": 0.5,
    "beta2": 0.7,
    "weight_decay": 0.0,
    "schedule": "linear",
    "warmup": 0.9,
    "label_smoothing": 0.5,
    "clip_norm": 0.3,
    "ema": 0.15,
    "rotate": 60.0,
    "scale": 0.9,
    "shear": 0.9,
    "shift": 6.0,
    "elastic": 3.0,
    "precision": "bf16",
    "seed": 7,
}
MUON = {"muon_lr": 0.3}  # changes a run only beside optimizer="muon"
SAME = {"accumulate": 4}  # parts of a batch, which add up to the same
OTHERWISE = {
    "patience",
    "keep_best",
    "compile",
    "snapshots",
    "device",
    "freeze",
}  # tests of their own
OF_THE_JOB = {"model", "model_args", "data", "valid_size", "start"}  # test_own_data, test_cli


def test_no_field_is_forgotten():
    names = {field.name for field in fields(Training)}
    assert {*CHANGES, *MUON, *SAME, *OTHERWISE} == names
    assert OF_THE_JOB == {field.name for field in fields(Settings)} - names


def distance(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.fixture(scope="module")
def base():
    return train_by_hand(BASE).weights


def fitted(settings, **kwargs):
    run = fit(small_vit(), TRAIN, VALID, settings, **kwargs)
    return run, {name: p.detach() for name, p in run.model.named_parameters()}


def same_as_by_hand(settings):
    "fit's weights and losses are those of the trainer by hand; returns the weights"
    run, weights = fitted(settings)
    hand = train_by_hand(settings)
    tolerance = 2e-3 if settings.precision == "bf16" else 2e-5
    assert distance(weights, hand.weights) < tolerance
    assert [row["train_loss"] for row in run.history] == pytest.approx(hand.losses, abs=tolerance)
    return weights


def test_the_base(base):
    assert distance(same_as_by_hand(BASE), base) < 2e-5


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_field_changes_the_run_as_the_formula_says(name, base):
    weights = same_as_by_hand(replace(BASE, **{name: CHANGES[name]}))
    assert distance(weights, base) > 1e-4


def test_muons_learning_rate():
    slow, fast = (replace(BASE, optimizer="muon", **rate) for rate in ({}, MUON))
    assert distance(same_as_by_hand(slow), same_as_by_hand(fast)) > 1e-3


def test_parts_of_a_batch_add_up_to_the_batch(base):
    assert distance(fitted(replace(BASE, **SAME))[1], base) < 2e-5


def test_a_batch_goes_through_the_model_in_parts():
    sizes, model = set(), small_vit()
    model.register_forward_pre_hook(lambda model, args: sizes.add(len(args[0])))
    fit(model, TRAIN, None, replace(BASE, **SAME))
    assert max(sizes) == BASE.batch_size // SAME["accumulate"]


def test_a_large_norm_is_clipped_and_a_small_one_is_not(base):
    assert distance(fitted(replace(BASE, clip_norm=1e6))[1], base) < 2e-5


HEAD = "mlp_head.weight", "mlp_head.bias"


def head_by_hand(s):
    "Trains the last layer alone, on what the untrained body makes of each batch"
    model, body = small_vit(), small_vit().eval()
    body.mlp_head, losses = nn.Identity(), []
    adamw, step = AdamW(model.mlp_head.parameters()), 0
    total = s.epochs * math.ceil(len(TRAIN) / s.batch_size)
    for epoch in range(s.epochs):
        order = torch.randperm(len(TRAIN), generator=make_generator(s.seed, "order", epoch))
        for part in order.split(s.batch_size):
            images, labels = TRAIN[part]
            strengths = {field.name: getattr(s, field.name) for field in fields(Augment)}
            images = Augment(**strengths)(images, make_generator(s.seed, "augment", step))
            with torch.no_grad():
                seen = body(normalise(images))
            loss = smoothed_loss(model.mlp_head(seen), labels, s.label_smoothing)
            model.zero_grad()
            loss.backward()
            norm = sum((p.grad**2).sum() for p in model.mlp_head.parameters()).sqrt()
            with torch.no_grad():
                for p in model.mlp_head.parameters():
                    p.grad.mul_(min(1, s.clip_norm / norm))  # the head's own norm
                adamw.step(s.lr * rate(step, total, s), s)
            step += 1
            losses.append(loss.item() * len(labels))
    return {name: p.detach() for name, p in model.named_parameters()}, losses


def test_a_frozen_body_leaves_the_head_to_learn_alone():
    settings = replace(BASE, freeze=True, clip_norm=0.3)
    (run, weights), (hand, losses) = fitted(settings), head_by_hand(settings)
    assert distance({name: weights[name] for name in HEAD}, hand) < 2e-5
    start = dict(small_vit().named_parameters())
    assert [name for name in weights if not torch.equal(weights[name], start[name])] == list(HEAD)
    assert sum(row["train_loss"] for row in run.history) == pytest.approx(
        sum(losses) / 48, abs=2e-5
    )
    own = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    with pytest.raises(UserError, match="of your own, freeze what is to stay by requires_grad_"):
        fit(own, TRAIN, VALID, settings)


# ---- what the validation images decide


class Watching(Callback):
    "Keeps the weights after each step and each epoch"

    def on_start(self, run):
        self.steps, self.epochs = {}, []

    def kept(self, run):
        return {name: p.detach().clone() for name, p in run.model.named_parameters()}

    def on_ready(self, run):
        self.steps[0] = self.kept(run)

    def on_step(self, run):
        self.steps[run.step] = self.kept(run)

    def on_epoch(self, run):
        self.epochs.append(self.kept(run))


def test_keep_best_returns_to_the_best_epoch():
    watch = Watching()
    settings = replace(BASE, epochs=6, lr=0.1, schedule="linear", seed=1)
    run, weights = fitted(replace(settings, keep_best=True), callbacks=[watch])
    accuracies = [row["valid_accuracy"] for row in run.history]
    best = accuracies.index(max(accuracies))
    assert best < len(accuracies) - 1, "the last epoch must not be the best, or this tests nothing"
    assert distance(weights, watch.epochs[best]) == 0
    assert run.metrics["epoch"] == best + 1
    watch = Watching()
    _, weights = fitted(settings, callbacks=[watch])
    assert distance(weights, watch.epochs[-1]) == 0


@pytest.mark.parametrize("patience, epochs", [(0, 5), (1, 2), (3, 4)])
def test_patience_ends_a_run_that_gets_no_better(patience, epochs):
    still = replace(BASE, epochs=5, lr=1e-8, patience=patience)
    assert len(fitted(still)[0].history) == epochs


def test_what_is_measured_on_validation_images():
    run, _ = fitted(replace(BASE, ema=0.5))
    with torch.no_grad():
        logits = run.model.eval()(normalise(VALID.images))
    loss = nn.functional.cross_entropy(logits, VALID.labels).item()
    assert run.history[-1]["valid_loss"] == pytest.approx(loss, abs=1e-5)
    correct = (logits.argmax(1) == VALID.labels).float().mean().item()
    assert run.history[-1]["valid_accuracy"] == pytest.approx(correct)


# ---- files, devices, compilers


def test_snapshots_hold_the_weights_of_their_steps(tmp_path):
    watch = Watching()
    fitted(replace(BASE, snapshots=(0, 2, 6)), callbacks=[watch], folder=tmp_path)
    files = sorted((tmp_path / "snapshots").iterdir())
    assert [file.name for file in files] == [f"step-{i:06d}.safetensors" for i in (0, 2, 6)]
    for file, step in zip(files, (0, 2, 6)):
        assert distance(dict(load_model(file).named_parameters()), watch.steps[step]) == 0


def test_the_device_is_the_one_asked_for():
    assert next(fitted(BASE)[0].model.parameters()).device.type == "cpu"
    for name in ("cuda", "mps"):
        if not getattr(torch, name).is_available():
            with pytest.raises(UserError, match=f"no device '{name}' here"):
                fitted(replace(BASE, device=name))


def test_compile_hands_the_model_to_the_compiler(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    run, _ = fitted(replace(BASE, compile=True))
    assert compiled[-1] is run.model  # after a trial whether there is a compiler
    fitted(BASE)
    assert len(compiled) == 2
