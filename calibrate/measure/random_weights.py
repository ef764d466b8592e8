"""Fills a model with random weights at the speed of memory."""

from __future__ import annotations

import torch

__all__ = ["fill_weights"]

# A tile is repeated over every weight: drawing each number anew would take longer than the measurement.
_TILE_ELEMENTS = 1 << 16
_SCALE = 0.02


def fill_weights(module: torch.nn.Module, *, seed: int = 0) -> None:
    """Overwrite all parameters; matrices with small random numbers, vectors (norms, biases) with ones.

    Uninitialised memory may hold denormal numbers, which some devices multiply slowly.
    """
    generator = torch.Generator().manual_seed(seed)
    tile = torch.randn(_TILE_ELEMENTS, generator=generator) * _SCALE
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() < 2:
                parameter.fill_(1.0)
                continue
            flat = parameter.view(-1)
            local = tile.to(device=flat.device, dtype=flat.dtype)
            whole = flat.numel() // _TILE_ELEMENTS * _TILE_ELEMENTS
            flat[:whole].view(-1, _TILE_ELEMENTS).copy_(local.expand(whole // _TILE_ELEMENTS, -1))
            flat[whole:].copy_(local[: flat.numel() - whole])
