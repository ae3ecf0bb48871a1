"All: what a star brings, what any other name brings with a warning, and what there is not."

import inspect
import sys
import warnings

import pytest

import vit_mnist.all
from vit_mnist.core import check_name
from vit_mnist.tuning import SeededTPE


def test_a_star_brings_functions_and_classes_of_the_modules_themselves():
    brought = {}
    exec("from vit_mnist.all import *", brought)
    del brought["__builtins__"]
    assert set(brought) == set(vit_mnist.all.__all__)
    for name, value in brought.items():
        assert not name.startswith("_") and not inspect.ismodule(value), name
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__module__.startswith("vit_mnist."), name
            assert value is getattr(sys.modules[value.__module__], name), name


@pytest.mark.parametrize("name, value", [("check_name", check_name), ("SeededTPE", SeededTPE)])
def test_another_name_comes_with_a_warning_at_the_line_that_used_it(name, value):
    assert name not in vit_mnist.all.__all__
    place = f"from {value.__module__} import {name}"
    with pytest.warns(DeprecationWarning, match=f"vit_mnist.all.{name}: write {place}$") as caught:
        assert getattr(vit_mnist.all, name) is value
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("name", ["create_modle", "_guess", "__path__", "vit_mnist_train"])
def test_a_name_that_is_not_public_is_an_error_without_a_warning(name):
    with warnings.catch_warnings(record=True) as caught:
        with pytest.raises(AttributeError, match=f"no attribute '{name}'$"):
            getattr(vit_mnist.all, name)
        with pytest.raises(ImportError, match=f"cannot import name '{name}'"):
            exec(f"from vit_mnist.all import {name}")
    assert caught == []


def test_a_star_imports_little_that_takes_long_beside_torch(real_script):
    heavy = "torchvision matplotlib sklearn scipy pandas captum wandb timm".split()
    code = f"from vit_mnist.all import *; import sys; print(set({heavy}) & sys.modules.keys())"
    done = real_script("python", "-c", code, check=True)
    assert done.stdout == "set()\n"
