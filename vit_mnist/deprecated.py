"""Functions that others have replaced; they go with the next version."""

# Written by hand, not exported from a notebook. The old names in the modules where they stood
# lead here, with a `DeprecationWarning`.

from torch import Tensor, nn

from .core import renamed_parameters
from .data import Split
from .model import about, batch_logits

__all__ = ["get_layout", "patch_borders", "model_name", "input_pad", "patch_side", "split_logits"]


def get_layout(model: nn.Module) -> tuple | None:
    "Return the layout of each attention, None where nothing is declared: `about(model).declared`"
    return about(model).declared


def patch_borders(model: nn.Module) -> list:
    "List where the borders between patches lie, in pixels: `about(model).borders`"
    return about(model).borders


def model_name(model: nn.Module) -> str:
    "Return the name of a model, or of its class: `about(model).name`"
    return about(model).name


def input_pad(model: nn.Module) -> int:
    "Return the pixels that a model adds on each side of an image: `about(model).pad`"
    return about(model).pad


def patch_side(model: nn.Module, side: int = 28) -> int:
    "Return the side of a model's own patches, in pixels: `about(model).patch_side(side)`"
    return about(model).patch_side(side)


@renamed_parameters(size="batch_size")
def split_logits(model: nn.Module, split: Split, batch_size: int = 500) -> Tensor:
    "Return the logits of a split's images on the CPU: `batch_logits(model, split.images)`"
    return batch_logits(model, split.images, batch_size).float().cpu()
