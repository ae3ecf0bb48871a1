"Configure JupyterLab for `make lab`: it opens the first lesson."

c.LabApp.default_url = "/lab/tree/tutorials/first_steps.ipynb"  # noqa: F821
