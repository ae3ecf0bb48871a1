"What GitHub runs: pinned, bounded in time, once a change, without CUDA; releases may run again."

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
FILES = {path.stem: path for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}
# the oldest majors that run on Node 24, or on none; `release/v1` is a branch that its makers move
MAJORS = {
    "actions/checkout": 5,
    "actions/setup-python": 6,
    "actions/cache": 5,
    "actions/upload-artifact": 6,
    "actions/download-artifact": 7,
    "actions/upload-pages-artifact": 5,
    "actions/deploy-pages": 5,
    "quarto-dev/quarto-actions/setup": 2,
    "pypa/gh-action-pypi-publish": 1,
}


def read(name):
    "Return a workflow and what starts it, which YAML takes for the word `true`"
    workflow = yaml.safe_load(FILES[name].read_text(encoding="utf-8"))
    return workflow, workflow.pop(True)


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_the_workflows_are_those_that_are_tested_here():
    assert set(FILES) == {"containers", "docs", "release", "test", "zoo"}


@pytest.mark.parametrize("name", FILES)
def test_actions_run_on_a_node_that_is_still_there(name):
    for step in steps(read(name)[0]):
        if "uses" in step:
            action, version = step["uses"].split("@")
            major = int(re.search(r"v(\d+)", version)[1])
            assert major >= MAJORS[action], f"{action}@{version}"


@pytest.mark.parametrize("name", FILES)
def test_every_job_has_a_limit_and_no_more_rights_than_it_needs(name):
    workflow, _ = read(name)
    assert workflow["permissions"] == {"contents": "read"}
    assert "group" in workflow["concurrency"]
    for job in workflow["jobs"].values():
        assert 10 <= job["timeout-minutes"] <= 120


@pytest.mark.parametrize("name", sorted(set(FILES) - {"containers"}))  # whose images choose
def test_torch_comes_without_cuda_and_is_kept(name):
    workflow, _ = read(name)
    assert workflow["env"]["UV_TORCH_BACKEND"] == "cpu"
    kept = [step["with"] for step in steps(workflow) if "cache" in step.get("uses", "")]
    assert kept and {options["path"] for options in kept} == {".uv-cache"}
    for options in kept:  # a key that is there already is not saved again
        assert options["key"].endswith("-${{ github.run_id }}")
        assert "hashFiles('requirements.lock')" in options["key"]
    folders = {workflow["env"].get(name) for name in ("UV_CACHE_DIR", "CI_UV_CACHE")} - {None}
    assert folders and all(folder.endswith("/.uv-cache") for folder in folders)


def test_ci_keeps_what_it_downloads_only_where_it_is_told_to():
    text = (ROOT / ".ci" / "run").read_text()
    assert 'UV_CACHE_DIR="${CI_UV_CACHE:-$scratch/uv}"' in text


@pytest.mark.parametrize("name", ["test", "docs", "containers"])
def test_a_change_runs_once(name):
    workflow, starts = read(name)
    assert starts["push"]["branches"] == ["main"] and "pull_request" in starts
    assert "pull_request" in workflow["concurrency"]["cancel-in-progress"]


@pytest.mark.parametrize("name", FILES)
def test_a_pull_request_meets_no_secret_and_may_write_nothing(name):
    workflow, starts = read(name)
    assert "pull_request_target" not in starts and "secrets." not in FILES[name].read_text()
    for job in workflow["jobs"].values():
        writes = "write" in job.get("permissions", {}).values()
        assert not ("pull_request" in starts and writes) or "!= 'pull_request'" in job["if"]
    for step in steps(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"] == {"persist-credentials": False}


@pytest.mark.parametrize("name", FILES)
def test_no_shell_line_holds_what_others_write(name):
    for step in steps(read(name)[0]):  # a title of a pull request, say, would be run
        assert "${{" not in step.get("run", ""), step["run"]


def test_every_system_and_the_newest_versions_are_tried():
    job = read("test")[0]["jobs"]["test"]
    tried = job["strategy"]["matrix"]["include"]
    assert {entry["os"].split("-")[0] for entry in tried} == {"ubuntu", "macos", "windows"}
    assert {entry["python"] for entry in tried} == {"3.11", "3.12", "3.13"}
    assert [entry for entry in tried if entry.get("newest") == "1"]
    (run,) = [step for step in job["steps"] if step.get("run", "").startswith(".ci/run")]
    assert run["env"] == {"NEWEST": "${{ matrix.newest }}"}
    assert "matrix.newest" in job["continue-on-error"]


def test_what_runs_on_windows_is_there_and_needs_no_make():
    lines = [s["run"] for s in steps(read("test")[0]) if "== 'Windows'" in s.get("if", "")]
    words = " ".join(lines).split()
    files = [word for word in words if word.startswith("tests/")]
    assert files and all((ROOT / file).exists() for file in files)
    assert "make" not in words and "--constraints" in words


def test_types_hooks_and_coverage_are_run():
    lines = " ".join(s.get("run", "") for s in read("test")[0]["jobs"]["habits"]["steps"])
    assert "make types" in lines and "make coverage" in lines
    assert "pre-commit run --all-files" in lines


def test_dependabot_watches_actions_images_and_packages():
    text = (ROOT / ".github" / "dependabot.yml").read_text(encoding="utf-8")
    updates = yaml.safe_load(text)["updates"]
    assert {entry["package-ecosystem"] for entry in updates} == {"github-actions", "docker", "pip"}
    assert all(entry["schedule"]["interval"] == "weekly" for entry in updates)


def test_quarto_is_pinned():
    (setup,) = [step for step in steps(read("docs")[0]) if "quarto" in step.get("uses", "")]
    assert re.fullmatch(r"\d+\.\d+\.\d+", setup["with"]["version"])


def test_the_site_is_published_from_main_only():
    publish = read("docs")[0]["jobs"]["publish"]
    assert "github.repository == 'vit-mnist/vit-mnist'" in publish["if"]  # and no fork
    assert "refs/heads/main" in publish["if"] and "pull_request" in publish["if"]
    assert "**GitHub Actions**" in (ROOT / "CONTRIBUTING.md").read_text()


def test_a_release_may_run_again():
    workflow, starts = read("release")
    assert starts == {"push": {"tags": ["v*"]}}
    (release,) = [step["run"] for step in steps(workflow) if "gh release" in step.get("run", "")]
    (build,) = [step["run"] for step in steps(workflow) if "-m build" in step.get("run", "")]
    assert "SOURCE_DATE_EPOCH=" in build  # or a second run makes other files of the same version
    assert "gh release view" in release and "--clobber" in release
    jobs = workflow["jobs"]
    assert jobs["github"]["needs"] == "build" and jobs["pypi"]["needs"] == "github"


def test_a_release_goes_to_pypi_without_a_password():
    job = read("release")[0]["jobs"]["pypi"]
    assert job["if"] == "github.repository == 'vit-mnist/vit-mnist'"
    assert job["permissions"] == {"id-token": "write"} and job["environment"] == "pypi"
    (publish,) = [step for step in job["steps"] if "pypi-publish" in step["uses"]]
    assert publish["with"] == {"skip-existing": True}
    assert "secrets." not in FILES["release"].read_text()


def test_the_readme_installs_what_is_there_before_and_after_a_release():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert 'pip install "vit_mnist @ git+https://github.com/vit-mnist/vit-mnist"' in text
    assert not re.search(r"pip install (vit_mnist|vit-mnist)\b", text)
