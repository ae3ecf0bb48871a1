"Configure JupyterLab for `make lab`: it opens the first lesson, and asks no other host for news."

c.LabApp.default_url = "/lab/tree/tutorials/first_steps.ipynb"  # noqa: F821
c.LabApp.news_url = None  # noqa: F821
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"  # noqa: F821
