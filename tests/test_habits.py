"What keeps the code in order: the lock, the hooks, types, the plan, the citation, the badge."

import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import cover  # noqa: E402
import readme  # noqa: E402

PARSER = ConfigParser(delimiters=["="])
PARSER.read(ROOT / "settings.ini", encoding="utf-8")
SETTINGS = PARSER["DEFAULT"]


def locked():
    "The locked versions of each package, with the marker of each"
    found = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            pin = Requirement(line)
            (exact,) = pin.specifier
            assert exact.operator == "==", line
            found.setdefault(canonicalize_name(pin.name), []).append((exact.version, pin.marker))
    return found


def unmet(asked, lock):
    "Say which requirements the lock does not satisfy"
    for requirement in map(Requirement, asked.split()):
        pins = lock.get(canonicalize_name(requirement.name), [])
        if not pins or not all(version in requirement.specifier for version, _ in pins):
            yield str(requirement)


def test_the_lock_satisfies_what_is_asked_for():
    asked = f"{SETTINGS['requirements']} {SETTINGS['dev_requirements']}"
    assert not list(unmet(asked, locked())), "run `make lock`"


def test_a_requirement_that_is_not_locked_is_noticed():
    lock = {"numpy": [("2.0", None)]}
    assert not list(unmet("numpy numpy>=2", lock))
    assert list(unmet("numpy>=2.1", lock)) == ["numpy>=2.1"]
    assert list(unmet("scipy", lock)) == ["scipy"]


def test_the_lock_serves_every_python_and_names_no_place():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"://|file:|@|--(extra-)?index|--find-links", text)
    pythons = [f"3.{minor}" for minor in range(int(SETTINGS["min_python"].split(".")[1]), 14)]
    lock = locked()
    for name in ("torch", "torchvision", "numpy", "scipy"):
        assert all(not Version(version).local for version, _ in lock[name])
        for python in pythons:
            here = {"python_full_version": f"{python}.9", "python_version": python}
            fits = [
                v for v, marker in lock[name] if not marker or Marker(str(marker)).evaluate(here)
            ]
            assert len(fits) == 1, (name, python)


def test_torchvision_was_made_for_the_torch_beside_it():
    torch, vision = (Version(locked()[name][0][0]) for name in ("torch", "torchvision"))
    assert torch.minor + 14 == vision.minor  # 2.9 and 0.24, ...


def test_hooks_run_what_is_installed_here():
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    (repo,) = yaml.safe_load(text)["repos"]
    assert repo["repo"] == "local"  # needs no network
    hooks = {hook["id"]: hook for hook in repo["hooks"]}
    assert set(hooks) == {"nbdev-clean", "nbdev-export", "ruff-check", "ruff-format"}
    for hook in hooks.values():
        program = hook["entry"].split()[0]
        assert hook["language"] == "system"
        assert Path(sys.executable).with_name(Path(program).name).exists(), program


def test_ruff_finds_real_faults_in_exported_modules_and_leaves_their_layout(tmp_path):
    package = tmp_path / "vit_mnist"
    package.mkdir()
    fault = package / "fault.py"
    fault.write_text("def f(x = []):\n    return undefined\n")
    ruff = [Path(sys.executable).with_name("ruff")]
    options = ["--config", ROOT / "pyproject.toml"]
    words = [*ruff, "check", *options, "--output-format", "concise", "vit_mnist"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and {"B006", "F821"} <= set(done.stdout.split())
    words = [*ruff, "format", "--check", *options, "vit_mnist"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


USER = """
from pathlib import Path
from vit_mnist.all import Settings, load_data, load_model, train
from vit_mnist.export import export_onnx
data = load_data("mnist", root="folder")
reveal_type(data)
reveal_type(data.test)
reveal_type(load_model("model.safetensors"))
reveal_type(train(Settings(epochs=1), "run", resume=None))
export_onnx(load_model(Path("model.safetensors")), "model.onnx")
Settings(epochs="many")
"""
NO_DATA = shutil.ignore_patterns("mnist", "pretrained", "__pycache__")
SEEN = ["data.DataSet", "data.Split", "modules.module.Module", "callbacks.Run"]


def checked(folder):
    "Return what mypy says of a file that uses the package where it is installed"
    (folder / "user.py").write_text(USER)
    venv.create(folder / "venv", symlinks=True)
    site = next((folder / "venv" / "lib").glob("*/site-packages"))
    shutil.copytree(ROOT / "vit_mnist", site / "vit_mnist", ignore=NO_DATA)
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    python = folder / "venv" / "bin" / "python"
    words = [
        sys.executable,
        "-m",
        "mypy",
        "--python-executable",
        python,
        "--config-file=",
        "user.py",
    ]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_a_user_of_the_package_gets_types(tmp_path):
    said = checked(tmp_path)
    for name in SEEN:
        assert re.search(rf'Revealed type is "[\w.]*\b{re.escape(name)}"', said), said
    faults = [line for line in said.splitlines() if ": error:" in line]
    assert len(faults) == 1 and "user.py:11" in faults[0], said  # epochs="many"


def test_the_plan_shows_the_imports_as_they_are():
    rooms = {title: mods for title, mods in readme.rooms().items() if title != "Helpers"}
    home = {module: title for title, modules in rooms.items() for module in modules}
    shown = readme.without_detours(readme.room_imports())

    def reached(title):
        return {title}.union(*(reached(to) for to in shown[title]))

    for module, title in home.items():
        text = (ROOT / "vit_mnist" / f"{module}.py").read_text(encoding="utf-8")
        for name in re.findall(r"^\s*from (?:vit_mnist)?\.(\w+) import", text, re.MULTILINE):
            assert name not in home or home[name] in reached(title), f"{module} imports {name}"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"```mermaid\n{readme.mermaid_plan()}\n```" in text, "run `make readme`"
    picture = (ROOT / readme.PLAN).read_text(encoding="utf-8")
    assert picture == readme.draw_plan() and all(f">{title}</text>" in picture for title in rooms)


def test_an_import_that_follows_from_others_has_no_arrow():
    graph = {"c": set(), "b": {"c"}, "a": {"b", "c"}}
    assert readme.without_detours(graph) == {"c": [], "b": ["c"], "a": ["b"]}


def test_the_citation_names_this_version_and_the_data():
    cite = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cite["cff-version"] == "1.2.0" and cite["type"] == "software"
    assert cite["version"] == SETTINGS["version"] and cite["license"] == "Apache-2.0"
    assert cite["repository-code"] == SETTINGS["git_url"] and cite["authors"] and cite["message"]
    assert any("MNIST" in reference.get("notes", "") for reference in cite["references"])


def test_the_badge_and_the_summary_say_how_many_lines_run(tmp_path, monkeypatch):
    monkeypatch.setattr(cover, "BADGE", tmp_path / "badge.svg")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    cover.publish(91.26)
    assert "coverage: 91.3 %" in cover.BADGE.read_text()
    assert "**91.3 %**" in (tmp_path / "summary").read_text()


def test_the_badge_is_there_and_is_the_tools():
    path = ROOT / "nbs" / "images" / "coverage.svg"
    words = re.search("<title>coverage: (.*)</title>", path.read_text(encoding="utf-8"))[1]
    assert re.fullmatch(r"\d+\.\d %|not measured", words)
    assert path.read_text(encoding="utf-8") == cover.badge(words)
    assert "nbs/images/coverage.svg" in (ROOT / "README.md").read_text(encoding="utf-8")
