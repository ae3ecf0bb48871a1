"Configure JupyterLab for `make lab`: what is saved has widgets in static form, and folds."

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from clean_views import clean_views  # noqa: E402
from fold import fold  # noqa: E402


def save_static(model, **kwargs):
    if model["type"] == "notebook":
        fold(clean_views(model["content"]))


c.FileContentsManager.pre_save_hook = save_static  # noqa: F821
