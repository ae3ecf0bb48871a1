"Builds vit_mnist from settings.ini, the only place where its name and requirements stand."

import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(root / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]
pythons = [f"3.{minor}" for minor in range(int(cfg["min_python"].split(".")[1]), 14)]

address = f"{cfg['git_url']}/blob/{cfg['branch']}/"


def with_whole_addresses(text):
    "Return the README as it is read elsewhere: pictures and links with their whole address"
    pictures = re.compile(r"(!\[[^]]*\]\()(?!https?:)([^)]*)")
    text = pictures.sub(rf"\g<1>{address.replace('/blob/', '/raw/')}\g<2>", text)
    return re.sub(r"(?<=\]\()(?!https?:|#)([^)]*)", rf"{address}\g<1>", text)


setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=with_whole_addresses((root / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    project_urls={"Documentation": cfg["doc_host"] + cfg["doc_baseurl"]},
    keywords=cfg["keywords"].split(),
    license="Apache-2.0 AND CC-BY-SA-3.0",
    license_files=["LICENSE", "vit_mnist/mnist/LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",
        *(f"Programming Language :: Python :: {python}" for python in pythons),
    ],
    python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=["vit_mnist", "vit_mnist.*"]),
    package_data={"vit_mnist": ["py.typed", "mnist/*", "pretrained/*", "static/*"]},
    install_requires=cfg["requirements"].split(),
    extras_require={
        extra: cfg[f"{extra}_requirements"].split()
        for extra in ("dev", "explain", "tune", "export", "serve", "drift", "postgres", "pipeline")
    },
    entry_points={
        "console_scripts": [line.strip() for line in cfg["console_scripts"].splitlines()],
        # where nbdev looks up the page and the line of a name
        "nbdev": [f"{cfg['lib_name']} = {cfg['lib_path']}._modidx:d"],
    },
    zip_safe=False,
)
