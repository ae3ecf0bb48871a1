"Configure JupyterLab for `make lab`: it opens the first lesson, and folds what is saved."

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from fold import fold  # noqa: E402


def save_folded(model, **kwargs):
    if model["type"] == "notebook":
        fold(model["content"])


c.LabApp.default_url = "/lab/tree/tutorials/first_steps.ipynb"  # noqa: F821
c.FileContentsManager.pre_save_hook = save_folded  # noqa: F821
