"Configure JupyterLab for `make lab`: it opens the first lesson, and folds what is saved."

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from fold import fold_saved

c.LabApp.default_url = "/lab/tree/tutorials/first_steps.ipynb"  # noqa: F821
c.FileContentsManager.pre_save_hook = fold_saved  # noqa: F821
