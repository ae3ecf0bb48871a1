"Configure JupyterLab for `make lab`: it opens the first lesson, and does not ask about news."

c.LabApp.default_url = "/lab/tree/tutorials/first_steps.ipynb"  # noqa: F821
news = "@jupyterlab/apputils-extension:announcements"
c.ServerApp.tornado_settings = {"page_config_data": {"disabledExtensions": {news: True}}}  # noqa: F821
