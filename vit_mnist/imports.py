"""The former place of names that are in `vit_mnist.core` now; it goes with the next version."""

from .core import moved

__all__ = ["LazyPackage", "import_submodule"]
__getattr__ = moved(__name__, **{name: f"vit_mnist.core.{name}" for name in __all__})
