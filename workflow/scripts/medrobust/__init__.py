"""medrobust: adversarial robustness of medical AI, from raw data to published tables and figures.

The library computes; the Snakemake workflow around it says when. Importing this package
is cheap on purpose: torch, ART and plotting are imported by the functions that need them.
"""

__version__ = "0.1.0"
