"Weights & Biases: what an offline run writes and where, and that no connection is tried."

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HANGS

from vit_mnist.settings import Settings
from vit_mnist.tracking import _records, read_tracked

# Runs the installed command in a process where every socket that leads out of the machine is
# refused and written down. Killed at step 17 if told so; Unix sockets are how wandb talks to its
# own process.
DRIVER = """
import glob, os, signal, socket, sys, time
log, last = sys.argv[1], int(sys.argv[2])
def write(line):
    with open(log, "a") as file:
        file.write(f"{line}\\n")
def refuse(name):
    original = getattr(socket.socket, name)
    def method(self, address, *rest):
        if self.family == socket.AF_UNIX:
            return original(self, address, *rest)
        write(address)
        raise ConnectionRefusedError(111, "refused")
    setattr(socket.socket, name, method)
for name in ("connect", "connect_ex"):
    refuse(name)
def getaddrinfo(host, *rest, **more):
    write(host)
    raise socket.gaierror(-2, "refused")
socket.getaddrinfo = getaddrinfo
from vit_mnist import loop
step = loop.train_step
def counted(run, *args, **kwargs):
    while run.step == last and not glob.glob(f"{run.folder}/wandb/offline-run-*/*.wandb"):
        time.sleep(.01)
    if run.step == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(run, *args, **kwargs)
loop.train_step = counted
if "WANDB_API_KEY" in os.environ:
    import wandb
    init = wandb.init
    def told(*args, **kwargs):
        print("waits", kwargs["settings"].init_timeout, "seconds")
        return init(*args, **kwargs)
    wandb.init = told
from vit_mnist.cli import vit_mnist_train
sys.argv = ["vit_mnist_train", *sys.argv[3:]]
vit_mnist_train()
"""
SMALL = [
    *("--model-args", '{"depth": 1, "dim": 32, "mlp_dim": 64}'),
    *"--limit 640 --valid-size 500 --batch-size 64 --epochs 3 --device cpu".split(),
]


@pytest.fixture
def place(tmp_path):
    "An environment without a login, in which home, temporary folder and working folder are watched"
    for name in ("home", "tmp", "work"):
        (tmp_path / name).mkdir()
    keep = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("WANDB", "XDG", "NETRC"))
    }
    return tmp_path, {
        **keep,
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "tmp"),
        "MPLCONFIGDIR": str(tmp_path / "matplotlib"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"),
        "VIT_MNIST_HOME": os.environ.get("VIT_MNIST_HOME", str(tmp_path / "data")),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def command(place, script):
    "Run the command where every connection is refused and written down"
    folder, environment = place

    def run(*options, last=-1):
        words = ["python", "-c", DRIVER, folder / "connections", str(last), *map(str, options)]
        streams = {"stdin": subprocess.DEVNULL}
        return script(*words, cwd=folder / "work", env=environment, **streams)

    return run


def written_outside(place):
    return [path for name in ("home", "tmp", "work") for path in (place[0] / name).rglob("*")]


def test_an_offline_run_killed_and_resumed_holds_every_step_once_and_all_of_it_in_its_folder(
    place, command
):
    folder, run = place[0], place[0] / "run"
    killed = command(*SMALL, "--out", run, last=17)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (run / "metrics.json").exists()
    resumed = command("--resume", run)
    assert resumed.returncode == 0, resumed.stderr
    tracked = read_tracked(run)
    assert sorted(tracked["history"]) == list(range(1, 32)) and len(tracked["ids"]) == 1
    # one of the killed process, one of the other
    assert len(list(run.glob("wandb/offline-run-*/*.wandb"))) == 2
    rows = [tracked["history"][step] for step in range(1, 31)]
    assert all({"loss", "grad_norm", "lr", "images_per_second"} <= set(row) for row in rows)
    assert [step for step, row in tracked["history"].items() if "train_loss" in row] == [10, 20, 30]
    metrics = json.loads((run / "metrics.json").read_text())
    last = tracked["history"][31]
    assert last["test_accuracy"] == metrics["test_accuracy"]
    pictures = {path.stem for path in run.glob("*.png")}
    assert pictures <= {key.split("/")[0] for key in last}
    assert len(tracked["files"]) == len(pictures)
    assert tracked["config"]["batch_size"] == 64 and len(tracked["artifacts"]) == 1
    assert set(tracked["config"]) >= set(Settings.__dataclass_fields__)
    assert not written_outside(place)
    assert not (folder / "connections").exists()


# a network without a single way out
ROOT = hasattr(os, "geteuid") and not os.geteuid()
ALONE = ["unshare", "--net", *([] if ROOT else ["--map-root-user"])]
# packets this network had no route for, whichever process sent them
ATTEMPTS = """awk '/^Ip: [0-9]/ { print $13 }' /proc/net/snmp"""


@pytest.mark.skipif(
    subprocess.run([*ALONE, "true"], capture_output=True).returncode
    if shutil.which("unshare")
    else True,
    reason="needs unshare (util-linux, Linux)",
)
def test_no_process_of_an_offline_run_tries_a_connection(place):
    def attempts(words):
        done = subprocess.run(
            [*ALONE, "sh", "-c", f'"$@" >&2 && {ATTEMPTS}', "sh", *map(str, words)],
            cwd=place[0] / "work",
            env=place[1],
            capture_output=True,
            text=True,
            timeout=HANGS,
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    connect = "import socket; socket.socket().connect_ex(('192.0.2.1', 80))"
    assert attempts([sys.executable, "-c", connect]) == 1  # an attempt is seen
    train = Path(sys.executable).with_name("vit_mnist_train")
    assert attempts([train, *SMALL, "--out", place[0] / "run"]) == 0
    assert list((place[0] / "run").glob("wandb/offline-run-*/*.wandb"))


def test_disabled_leaves_no_folder_anywhere(place, command):
    done = command(*SMALL, "--out", place[0] / "run", "--tracking", "disabled")
    assert done.returncode == 0, done.stderr
    assert not list(place[0].rglob("*wandb*")) and not written_outside(place)


@pytest.mark.parametrize("server", ["absent", "silent"])
def test_logged_in_without_an_answer_goes_offline_with_a_line(place, command, server):
    folder, environment = place
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if server == "silent":
            listener.listen()  # and never says a word
        environment |= {
            "WANDB_API_KEY": "0" * 40,
            "WANDB_BASE_URL": f"http://127.0.0.1:{listener.getsockname()[1]}",
        }
        done = command(*SMALL, "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    waits = [line for line in done.stdout.splitlines() if line.startswith("waits ")]
    assert float(waits[0].split()[1]) <= 15  # wandb's own choice is 90
    assert len([line for line in done.stderr.splitlines() if "did not answer" in line]) == 1
    assert sorted(read_tracked(folder / "run")["history"]) == list(range(1, 32))
    assert not written_outside(place)


# beside a run of one's own; how a run ended

BESIDE = """
import json, os, sys, tempfile
from pathlib import Path
import numpy, wandb
from vit_mnist.callbacks import Callback
from vit_mnist.core import UserError
from vit_mnist.data import load_data
from vit_mnist.loop import fit
from vit_mnist.model import create_model
from vit_mnist.settings import Training
from vit_mnist.tracking import Tracker, read_tracked
class Fail(Callback):
    def on_step(self, run):
        raise UserError("diverged")
def track(name, *callbacks):
    train = load_data().train.take(96)
    settings = Training(epochs=1, batch_size=32, device="cpu")
    model = create_model("cnn", seed=0, size="tiny")
    fit(model, train, settings=settings, callbacks=[Tracker(), *callbacks], folder=Path(name))
environment, folder = dict(os.environ), tempfile.gettempdir()
mine = wandb.init(project="thesis", dir=".", settings=wandb.Settings(console="off"))
mine.log({"own": 1})
track("fine")
mine.log({"own": 2})
mine.finish()
try:
    track("failed", Fail())
except UserError:
    pass
names = os.environ.keys() | environment
changed = [name for name in names if os.environ.get(name) != environment.get(name)]
before = sorted(Path("failed").rglob("*"))
after = wandb.init(project="thesis", dir=".", settings=wandb.Settings(console="off"))
Path("data.bin").write_bytes(bytes(1000))
artifact = wandb.Artifact("data", "dataset")
artifact.add_file("data.bin")
after.log_artifact(artifact)
after.log({"image": wandb.Image(numpy.zeros((2, 2), "uint8"))})
after.finish()
assert sorted(Path("failed").rglob("*")) == before
print(json.dumps([len(read_tracked("fine")["history"]), changed, tempfile.gettempdir() == folder]))
"""


def test_a_run_of_ones_own_stays_open_and_how_a_run_ended_is_told(place, script):
    from wandb.proto.wandb_internal_pb2 import Record

    work, environment = place[0] / "work", {**place[1], "WANDB_MODE": "offline"}
    done = script("python", "-c", BESIDE, cwd=work, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [4, [], True]  # 3 steps and the metrics
    for name, code in {"fine": 0, "failed": 1}.items():
        (path,) = (work / name).glob("wandb/offline-run-*/*.wandb")
        records = map(Record.FromString, _records(path))
        assert [each.exit.exit_code for each in records if each.HasField("exit")] == [code]
