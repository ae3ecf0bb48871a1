"callbacks: averages and best epochs by hand, the first bad step by its number, files by process."

import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vit_mnist.callbacks import EMA, Callback, EarlyStopping, KeepBest, Run, Snapshots
from vit_mnist.callbacks import TerminateOnNaN, settings_callbacks
from vit_mnist.core import UserError
from vit_mnist.model import create_model, load_model
from vit_mnist.settings import Training


def one_weight(value=0.0):
    "Make a model of one weight"
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def processes(count, main=True):
    "Stand in for an accelerator"
    return SimpleNamespace(num_processes=count, is_main_process=main)


def tell(callbacks, run, events):
    "Call several methods of several callbacks"
    run.callbacks = callbacks
    for event in events.split():
        run.notify(event)


def test_the_average_follows_slowly_at_first_then_at_its_decay_and_is_the_result():
    run, ema, expected = Run(one_weight(), Training(), 12), EMA(0.5), 0.0
    tell([ema], run, "on_start")
    for run.step in range(1, 13):
        nn.init.constant_(run.model.weight, float(run.step))
        tell([ema], run, "on_step")
        kept = (1 + run.step) / (10 + run.step) if run.step < 8 else 0.5
        expected = kept * expected + (1 - kept) * run.step
        assert run.result.weight.item() == pytest.approx(expected)
    assert not run.ema.weight.requires_grad and run.model.weight.item() == 12
    other, resumed = Run(one_weight(), Training(), 12), EMA(0.5)
    tell([resumed], other, "on_start")
    resumed.load_state_dict(ema.state_dict())
    assert other.result.weight.item() == pytest.approx(expected)
    tell([ema], run, "on_trained")
    assert run.result is run.model and run.model.weight.item() == pytest.approx(expected)


def history(run, callbacks, accuracies):
    "Let epochs pass; the weight of each is its number"
    for epoch, accuracy in enumerate(accuracies):
        nn.init.constant_(run.result.weight, float(epoch))
        run.history.append({"valid_accuracy": accuracy})
        tell(callbacks, run, "on_epoch")
        yield run.stop


@pytest.mark.parametrize("averaged", [False, True])
def test_the_first_of_the_best_epochs_comes_back_after_a_resume_too(averaged):
    run, best = Run(one_weight(), Training(), 4), KeepBest()
    run.ema = one_weight() if averaged else None
    list(history(run, [best], [0.5, 0.7, 0.7, 0.6]))
    again = KeepBest()
    again.load_state_dict(best.state_dict())
    for callback in (best, again):
        nn.init.constant_(run.model.weight, 9.0)
        tell([callback], run, "on_trained")
        assert (run.chosen, run.model.weight.item()) == (1, 1.0)


@pytest.mark.parametrize("patience, stops", [(1, [0, 0, 1, 1, 1]), (2, [0, 0, 0, 1, 1])])
def test_a_tie_is_no_better_and_a_stop_stays(patience, stops):
    run = Run(one_weight(), Training(), 5)
    assert list(history(run, [EarlyStopping(patience)], [0.5, 0.7, 0.7, 0.6, 0.9])) == stops
    other = Run(one_weight(), Training(), 5, stop=True)
    assert list(history(other, [EarlyStopping(9)], [0.5])) == [True]


@pytest.mark.parametrize("event", ["on_step", "on_epoch"])
@pytest.mark.parametrize("bad", [dict(loss="nan"), dict(grad_norm="inf")])
def test_the_first_bad_step_is_named_when_it_is_safe_to_look(event, bad):
    run, watch = Run(one_weight(), Training(lr=0.5), 20, accelerator=processes(2)), TerminateOnNaN()
    for run.step in range(1, 10):  # of several processes: after every tenth step alone
        run.loss, run.grad_norm = torch.tensor(1.0), torch.tensor(2.0)
        for name, value in bad.items() if run.step in (7, 8) else ():
            setattr(run, name, torch.tensor(float(value)))
        tell([watch], run, "on_step")
    run.step = 10 if event == "on_step" else run.step
    with pytest.raises(
        UserError, match="at step 7: training has diverged; try a lower lr than 0.5"
    ):
        tell([watch], run, event)
    fine = TerminateOnNaN()
    run.loss = run.grad_norm = torch.tensor(1.0)
    tell([fine], run, "on_epoch on_step on_epoch on_epoch")
    assert fine.recent == []


@pytest.mark.parametrize("step, readable", [(10, [True] * 4), (11, [True, True, False, False])])
def test_losses_are_read_at_once_where_that_waits_for_nobody(step, readable):
    gpu = SimpleNamespace(device=torch.device("cuda"))
    cases = [(None, torch.ones(())), (processes(1), torch.ones(()))]
    cases += [(processes(2), torch.ones(())), (processes(1), gpu)]
    runs = [Run(None, Training(), 20, step=step, loss=loss, accelerator=a) for a, loss in cases]
    assert [run.can_read for run in runs] == readable
    assert [Run(None, Training(), 1, accelerator=processes(2, main)).main for main in (1, 0)] == [
        1,
        0,
    ]


def test_snapshots_are_of_the_result_by_one_process_and_not_again_after_a_resume(tmp_path):
    model, average = (create_model("mlp", seed=seed, size="tiny") for seed in (0, 1))
    run = Run(model, Training(), 9, ema=average, folder=tmp_path, accelerator=processes(2, False))
    snapshots = Snapshots((0, 2, 4))
    tell([snapshots], run, "on_start on_ready")
    run.accelerator, run.step = processes(2), 2
    tell([snapshots], run, "on_start on_ready")
    assert list(tmp_path.iterdir()) == []
    for run.step in (3, 4, 5):
        tell([snapshots], run, "on_step")
    assert [file.name for file in tmp_path.rglob("*.*")] == ["step-000004.safetensors"]
    saved = load_model(tmp_path / "snapshots" / "step-000004.safetensors")
    assert torch.equal(saved.layers[1].weight, average.layers[1].weight)


def test_a_run_begins_with_nothing_done():
    run = Run(nn.Linear(1, 1), Training(), total_steps=3)
    assert (run.step, run.epoch, run.images, run.total_images, run.seconds) == (0, 0, 0, 0, 0)
    assert not run.stop and run.history == [] and run.metrics == {} and run.ema is None


def test_settings_decide_their_numbers_and_a_plain_callback_does_nothing():
    made = settings_callbacks(Training(ema=0.9, patience=3, snapshots=(1, 5)))
    assert (made[0].decay, made[1].patience, made[2].steps, len(made)) == (0.9, 3, {1, 5}, 4)
    run = Run(one_weight(), Training(), 1)
    tell([Callback()], run, "on_start on_ready on_step on_epoch on_trained on_end on_exit")
    assert Callback().state_dict() == {} and Callback().load_state_dict({}) is None


@pytest.mark.parametrize(
    "steps, late", [((0, 10, 47), None), ((0, 48), "48"), ((60, 30, 90), "60, 90")]
)
def test_snapshots_that_the_run_does_not_reach_are_named_before_it_begins(tmp_path, steps, late):
    run = Run(nn.Linear(1, 1), Training(), total_steps=47, folder=tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Snapshots(steps).on_start(run)
    said = [str(warning.message) for warning in caught]
    words = f"the run has 47 steps, so there will be no snapshot of {late}"
    assert said == ([words] if late else [])


def test_the_norm_of_gradients_is_computed_once_and_only_where_it_is_asked_for(monkeypatch):
    from torch.nn import utils

    asked, total = [], utils.get_total_norm
    monkeypatch.setattr(utils, "get_total_norm", lambda grads: asked.append(1) or total(grads))
    run, watch = Run(one_weight(), Training(), 20, accelerator=processes(1)), TerminateOnNaN()
    for parameter in run.model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    for run.step in range(1, 10):
        run.loss, run.grad_norm = torch.tensor(1.0), None
        tell([watch], run, "on_step")
    assert not asked
    assert run.grad_norm == run.grad_norm > 0 and len(asked) == 1
    run.step, run.grad_norm = 10, None
    parameter.grad.fill_(float("inf"))
    with pytest.raises(UserError, match="gradient norm inf at step 10"):
        tell([watch], run, "on_step")
