"""medrobust: adversarial robustness of medical AI, from raw data to published tables and figures.

The library computes; the Snakemake workflow around it says when. Importing this package
is cheap on purpose: torch, ART and plotting are imported by the functions that need them.

:func:`medrobust.evaluate` attacks a model of one's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medrobust.evaluation.own_model import evaluate

__version__ = "0.2.0"
__all__ = ["__version__", "evaluate"]


def __getattr__(name: str) -> Any:
    """Imports :func:`evaluate`, and with it pandas, when it is asked for."""
    if name == "evaluate":
        from medrobust.evaluation.own_model import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
