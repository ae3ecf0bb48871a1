"The installed scripts used wrongly: one line, status 2, nothing changed."

import os
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points

import pytest
from vit_mnist import cli  # it also registers how names are escaped
from vit_mnist.core import sha256
from vit_mnist.model import create_model, save_model

MISTAKES = {  # what is typed: what the line must hold
    "vit_mnist_train --out new --model vti": "did you mean 'vit'?",
    "vit_mnist_train --out new --data mnits": "did you mean 'mnist'?",
    "vit_mnist_train --out new --device tpu": "no device 'tpu' here; there is:",
    'vit_mnist_train --out new --model-args {"patch_size":5}': "divisible by the patch size",
    "vit_mnist_train --out new --preset fsat": "did you mean 'fast'?",
    "vit_mnist_train --out new --preset fast --epochs 9": "preset 'fast' has epochs 4, not 9",
    "vit_mnist_train --resume empty": "empty",
    "vit_mnist_train --out new --model cnn --optimizer muon": "this model has none; use adamw",
    'vit_mnist_train --out new --model-args {"seed":1}': (
        "model_args holds the model's own settings, and seed is not one of them"
    ),
    'vit_mnist_train --out new --model-args {"num_classes":11}': "mnist has 10 classes, not 11",
    'vit_mnist_train --out new --model-args {"dropout":1}': (
        "dropout must be at least 0 and below 1, not 1"
    ),
    "vit_mnist_train --out new --model-args depth=2": "--model-args takes JSON like",
    "vit_mnist_train --out new --epochs -1": "epochs must be from 1 to 10,000, not -1",
    "vit_mnist_train --out new --batch-size 1000000": "batch_size must be from 1 to 60,000",
    "vit_mnist_train --out new --lr nan": "lr must be from",
    "vit_mnist_train --out new --lr fast": "invalid float value: 'fast'",
    "vit_mnist_train --out new --shift 1e9": "shift must be from 0 to 28",
    "vit_mnist_train --out new --modle vit": "unknown option '--modle'; did you mean '--model'?",
    "vit_mnist_train vit": "unexpected 'vit'; see vit_mnist_train --help",
    "vit_mnist_train --out run": "run exists already; name a new folder",
    "vit_mnist_train --out locked/new": "name a folder you can write to",
    "vit_mnist_train --out new --from nothing": "no run nothing; name a run folder",
    "vit_mnist_train --out new --from empty": "empty",
    "vit_mnist_train --resume run --from fast": "can't read run/config.json",
    "vit_mnist_train --out new --from fast --model vit": "of another model, cct, not vit",
    'vit_mnist_train --out new --from explain --model-args {"depth":2}': "leave out model_args",
    "vit_mnist_train --out new --freeze": "give start (--from), too",
    "vit_mnist_train --out new --fron fast": "did you mean '--from'?",
    "vit_mnist_train --out new --data folder:nowhere": "no folder ",
    "vit_mnist_train --out new --data folder:run": "no folders in ",
    "vit_mnist_train --out new --data cvs:train.csv": "unknown kind of files 'cvs'; did you mean",
    "vit_mnist_data --data csv:nowhere.csv": "can't read ",
    "vit_mnist_evaluate run --data npz:truncated.safetensors": "is damaged or not an npz file",
    "vit_mnist_tune --data folder:empty": "no folders in ",
    "vit_mnist_predict run digit.png other.png --csv out.csv": "--csv takes one CSV file of pixels",
    "vit_mnist_predict run none.csv --csv out.csv": "can't read none.csv",
    "vit_mnist_predict run truncated.safetensors --csv out.csv": "columns; it must have",
    "vit_mnist_predict run none.csv --csv locked/out.csv": "can't write into locked",
    "vit_mnist_data --data kmnits": "did you mean 'kmnist'?",
    "vit_mnist_evaluate nothing": (
        "no run nothing; name a run folder, its model.safetensors or one of best, explain, fast"
    ),
    "vit_mnist_evaluate empty": "no model.safetensors in empty: it is not a run folder",
    "vit_mnist_evaluate run --split tset": "unknown split 'tset'; did you mean 'test'?",
    "vit_mnist_evaluate run --split valid": "nothing says which images run was trained on",
    "vit_mnist_evaluate fast --split valid --out new": "there are no images in this split",
    "vit_mnist_evaluate fast --calibrate --out new": "the weights of the package stay as they are",
    "vit_mnist_evaluate run --trust": "nothing says which images run was trained on",
    "vit_mnist_evaluate run --limit -1": "limit must be 0 for all images",
    "vit_mnist_evaluate run --out empty": "empty exists already; name a new folder",
    "vit_mnist_evaluate locked --limit 9": "name a folder you can write to",
    "vit_mnist_evaluate run --report page.pdf": "page.pdf must end in .html",
    "vit_mnist_evaluate run --report locked/page.html": "can't write into locked",
    "vit_mnist_predict run": "required: images",
    "vit_mnist_predict run digit.png --jsn": "did you mean '--json'?",
    "vit_mnist_attention run digit.png --out maps.gif": "maps.gif must end in .png, .svg or .pdf",
    "vit_mnist_attention run missing.png": "missing.png: no such file",
    "vit_mnist_explain run digit.png --method relevanse": "did you mean 'relevance'?",
    "vit_mnist_explain run missing.png": "missing.png: no such file",
    "vit_mnist_tune --trials 0": "trials must be 1 or more, not 0",
    "vit_mnist_tune --study study.db": "write sqlite:///FILE",
    "vit_mnist_tune --out truncated.safetensors": "can't write into truncated.safetensors",
    "vit_mnist_tune --model vti": "did you mean 'vit'?",
    "vit_mnist_tune --settings missing.json": "can't read missing.json",
    "vit_mnist_export": "required: run",
    "vit_mnist_export nothing": "no run nothing; name a run folder",
    "vit_mnist_export run --out model.pt": "model.pt must end in .onnx",
    "vit_mnist_export run --out locked/model.onnx": "can't write into locked",
    "vit_mnist_export empty": "no model.safetensors in empty: it is not a run folder",
    "vit_mnist_export truncated.safetensors": "is damaged or not a safetensors file",
    "vit_mnist_export run --quantize": "did you mean '--quantise'?",
    "vit_mnist_predict truncated.safetensors digit.png": (
        "truncated.safetensors is damaged or not a safetensors file"
    ),
    "vit_mnist_predict other.safetensors digit.png": (
        "other.safetensors holds the weights of another architecture"
    ),
}


def snapshot(folder):
    "List every file below a folder, with its hash; None for a folder"
    return {
        str(path.relative_to(folder)): None if path.is_dir() else sha256(path.read_bytes())
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def outcomes(request, tmp_path_factory, script, unprivileged):
    "Make each mistake that is to be tested; return the process and the files before and after"
    model = create_model("vit", seed=0)

    def attempt(words):
        folder = tmp_path_factory.mktemp("mistake")
        for name in "run", "locked":
            save_model(model, folder / name / "model.safetensors")
        whole = (folder / "run" / "model.safetensors").read_bytes()
        (folder / "empty").mkdir()
        (folder / "truncated.safetensors").write_bytes(whole[:-100])
        (folder / "other.safetensors").write_bytes(
            whole.replace(b'\\"depth\\": 6', b'\\"depth\\": 5')
        )
        (folder / "locked").chmod(0o555)
        before = snapshot(folder)
        done = script(*words.split(), before=unprivileged, cwd=folder)
        after = snapshot(folder)
        (folder / "locked").chmod(0o755)
        return done, before, after

    with ThreadPoolExecutor(2) as pool:
        asked = [item for item in request.session.items if "outcomes" in item.fixturenames]
        mistakes = [item.callspec.params["words"] for item in asked]
        return dict(zip(mistakes, pool.map(attempt, mistakes)))


@pytest.mark.parametrize("words, message", MISTAKES.items(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_status_2(outcomes, words, message):
    done, before, after = outcomes[words]
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and message in done.stderr
    assert done.stderr.startswith(words.split()[0] + ": ")
    assert before == after


COMMANDS = sorted(
    entry.name
    for entry in entry_points(group="console_scripts")
    if entry.value.startswith("vit_mnist.")
)
HEAVY = "torch", "matplotlib", "scipy", "pandas", "IPython"  # an answer need not wait for them
ASK = f"""import sys
from importlib.metadata import entry_points
sys.argv = sys.argv[1:]
(entry,) = entry_points(group="console_scripts", name=sys.argv[0])
try:
    entry.load()()
finally:
    print([name for name in {HEAVY} if name in sys.modules])"""


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_nothing_that_takes_long(real_script, name):
    done = real_script("python", "-c", ASK, name, "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"usage: {name}") and not done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


AT_ONCE = {  # mistakes that are known without torch: what the line must hold
    "vit_mnist_train --out new --model vti": "did you mean 'vit'?",
    "vit_mnist_train --out new --preset fsat": "did you mean 'fast'?",
    "vit_mnist_train --resume empty": "can't read empty/config.json",
    "vit_mnist_train --out new --epochs -1": "epochs must be from 1 to 10,000, not -1",
    "vit_mnist_train --out new --modle vit": "did you mean '--model'?",
    "vit_mnist_train --out empty": "empty exists already; name a new folder",
    "vit_mnist_evaluate nothing": "no run nothing; name a run folder",
    "vit_mnist_evaluate fast --split tset": "did you mean 'test'?",
    "vit_mnist_evaluate fast --out empty": "empty exists already; name a new folder",
    "vit_mnist_predict fast": "required: images",
    "vit_mnist_attention fast digit.png --out maps.gif": "must end in .png, .svg or .pdf",
    "vit_mnist_tune --model vti": "did you mean 'vit'?",
    "vit_mnist_train --out new --data mnits": "unknown data set 'mnits'; did you mean 'mnist'?",
    "vit_mnist_data --data kmnits": "did you mean 'kmnist'?",
    "vit_mnist_evaluate fast --data foldr:digits": "unknown kind of files 'foldr'; did you mean",
    "vit_mnist_tune --data Fashion-MNITS": "did you mean 'fashionmnist'?",
    "vit_mnist_explain fast digit.png --method relevanse": "did you mean 'relevance'?",
    "vit_mnist_tune --settings missing.json": "can't read missing.json",
    "vit_mnist_export nothing": "no run nothing; name a run folder",
    "vit_mnist_export fast --out model.pt": "model.pt must end in .onnx",
}


@pytest.mark.parametrize("words, message", AT_ONCE.items(), ids=AT_ONCE)
def test_a_mistake_that_is_known_at_once_is_told_at_once(real_script, tmp_path, words, message):
    (tmp_path / "empty").mkdir()
    done = real_script("python", "-c", ASK, *words.split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "[]\n")
    (line,) = done.stderr.splitlines()
    assert line.startswith(words.split()[0]) and message in line


def test_the_names_that_are_known_without_torch_are_all_there_are():
    from vit_mnist import data, explanation, own_data

    assert cli._DATA == tuple(entry.name for entry in data._family)
    assert cli._KINDS == tuple(own_data.SOURCES) and cli._METHODS == tuple(explanation.METHODS)


@pytest.mark.parametrize(
    "encoding, shown", [("utf-8", "Übung \\udcff"), ("ascii", "\\xdcbung \\udcff")]
)
def test_names_are_readable_where_the_locale_does_not_know_utf_8(encoding, shown):
    name = "Übung ".encode().decode("ascii", "surrogateescape") + "\udcff"  # as C's locale has it
    assert name.encode(encoding, "vit_mnist").decode(encoding) == shown


@pytest.mark.slow
def test_a_run_in_the_c_locale_tells_in_a_line_why_it_is_not_tracked(tmp_path, real_script):
    c = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "WANDB_MODE": "offline"}
    brief = "--limit 64 --epochs 1 --valid-size 100 --device cpu".split()
    words = "vit_mnist_train", *brief, "--out", "Übung"
    done = real_script(*words, cwd=tmp_path, env={**os.environ, **c})
    assert done.returncode == 0 and "\\xdcbung" in done.stdout
    told, epoch = sorted(done.stderr.splitlines(), reverse=True)
    assert epoch.startswith("epoch 1 of 1") and "\\xdcbung in the C locale: set LC_ALL=" in told
