"""Prints what a run made and where: `python workflow/scripts/show_results.py [scale]`."""

import json
import sys
from pathlib import Path


def main(scale: str = "") -> None:
    """Lists the artefacts of all runs whose name starts with ``scale``."""
    print("\nMade:")
    for run in sorted(Path("results").glob(f"{scale}*-*/")):
        for study in sorted(path for path in run.iterdir() if path.is_dir()):
            for folder, kind in (
                ("tables", "*.html"),
                ("figures", "*.png"),
                ("comparison", "*.html"),
            ):
                for file in sorted((study / folder).glob(kind)):
                    print(f"  {file}")
    for card in sorted(Path("results/data").glob("*/card.json")):
        facts = json.loads(card.read_text(encoding="utf-8"))
        mark = "  (SYNTHETIC stand-in, evidence of nothing)" if facts.get("synthetic") else ""
        page = card.with_suffix(".html")
        # A data set of which one figure was asked for has no page.
        print(f"  {page if page.exists() else card.with_suffix('.md')}{mark}")
    if Path("report.html").exists():
        print("  report.html  <- open this in a browser")
    print("\nReal data next: snakemake --cores 2 --config scale=laptop")


if __name__ == "__main__":
    main(*sys.argv[1:2])
