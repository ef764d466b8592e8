"""Work that comes in whole waves of blocks over the multiprocessors (equation 44)."""

from __future__ import annotations

import numpy as np

from costmodel.laws.base import Parameter
from costmodel.ops import Num

__all__ = ["RAGGED", "waves"]

RAGGED = Parameter("wave_quantisation", "1", start=0.6, low=0.0, high=1.0, log=False, prior_sd=0.3)


def waves(blocks_per_multiprocessor: Num, quantisation: float) -> Num:
    """Waves that a grid takes, at least one (equation 44).

    Between its exact size (``quantisation`` 0) and the next whole number (1). Monotone, unlike an efficiency of the
    last wave.
    """
    whole = np.ceil(blocks_per_multiprocessor)
    return np.maximum((1.0 - quantisation) * blocks_per_multiprocessor + quantisation * whole, 1.0)
