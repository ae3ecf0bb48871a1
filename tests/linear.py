"A model so simple that its derivatives, and what it loses with a pixel, are known."

import torch
from torch import nn

WEIGHTS = torch.randn(2, 28, 28, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(1))


class Linear(nn.Module):
    "Answer with two weighted sums of the pixels"

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(WEIGHTS.clone())

    def forward(self, images):
        return torch.einsum("nchw,khw->nk", images, self.weights)
