"""Prints the text of a target that only tells (plan, preflight)."""

from pathlib import Path

print(snakemake.params.text)
Path(snakemake.log[0]).write_text(snakemake.params.text + "\n", encoding="utf-8")
