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


@pytest.mark.parametrize("name", set(FILES) - {"containers"})  # its images choose for themselves
def test_torch_comes_without_cuda_and_is_kept(name):
    workflow, _ = read(name)
    assert workflow["env"]["UV_TORCH_BACKEND"] == "cpu"
    kept = [step["with"]["path"] for step in steps(workflow) if "cache" in step.get("uses", "")]
    folder = workflow["env"].get("UV_CACHE_DIR") or workflow["env"]["CI_UV_CACHE"]
    (key,) = [step["with"]["key"] for step in steps(workflow) if "cache" in step.get("uses", "")]
    assert key.endswith("-${{ github.run_id }}")  # a key that is there already is not saved again
    assert kept == [".uv-cache"] and folder.endswith("/.uv-cache")


def test_ci_keeps_what_it_downloads_only_where_it_is_told_to():
    text = (ROOT / ".ci" / "run").read_text()
    assert 'UV_CACHE_DIR="${CI_UV_CACHE:-$scratch/uv}"' in text


@pytest.mark.parametrize("name", ["test", "docs", "containers"])
def test_a_change_runs_once(name):
    workflow, starts = read(name)
    assert starts["push"]["branches"] == ["main"] and "pull_request" in starts
    assert "pull_request" in workflow["concurrency"]["cancel-in-progress"]


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
