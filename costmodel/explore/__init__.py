"""The interactive page: ``costmodel explore``. Figures come from :mod:`costmodel.plots`, as those of the report do.

``state`` says what is shown, ``results`` computes it, ``views`` draw it; ``controls`` and ``layout`` build the page,
``callbacks`` connect them, ``app`` serves it.
"""

from __future__ import annotations
