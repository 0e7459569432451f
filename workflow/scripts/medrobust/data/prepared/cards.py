"""The card of a prepared data set: card.json for programs, card.md for people.

The picture beside it, preview.png, is drawn by :mod:`medrobust.data.prepared.previews`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medrobust.core.words import counted, in_singular
from medrobust.data.prepared.audit import AuditFinding, class_counts
from medrobust.data.prepared.splits import SPLIT_TITLES
from medrobust.data.prepared.store import Prepared

if TYPE_CHECKING:
    from medrobust.data.prepared.volumes import VolumeSet

_FILES_SHOWN = 12


def build_card(
    name: str,
    data: Prepared,
    *,
    source: str,
    origin: str,
    facts: Mapping[str, Any],
    findings: Sequence[AuditFinding],
    options: Mapping[str, Any],
    manifest: Mapping[str, Any] | None,
    seed: int,
) -> dict[str, Any]:
    """Returns the data card as plain JSON values.

    Args:
        name: registered name of the data set.
        data: the arrays and splits.
        source: label of the data: "kaggle", "physionet", ..., "subset" or "standin".
        origin: the source that was read (differs from ``source`` for a subset).
        facts: of the registry: ``title``, ``citation``, ``licence``, ``version``, ``official``
            and ``paper`` counts; all optional.
        findings: of the audit.
        options: adapter options used.
        manifest: of the fetched files, None for a stand-in.
        seed: root seed.
    """
    counts = [class_counts(data.y, data.class_names, fold) for fold in data.folds]
    return {
        "shape": list(data.x.shape),
        "dtype": str(data.x.dtype),
        "input_range": [float(value) for value in data.input_range],
        "value_range": [float(data.x.min()), float(data.x.max())],
    } | common_facts(
        name,
        data,
        counts,
        source=source,
        origin=origin,
        facts=facts,
        findings=findings,
        options=options,
        manifest=manifest,
        seed=seed,
    )


def common_facts(
    name: str,
    data: Prepared | VolumeSet,
    counts: Sequence[Mapping[str, Mapping[str, int]]],
    *,
    source: str,
    origin: str,
    facts: Mapping[str, Any],
    findings: Sequence[AuditFinding],
    options: Mapping[str, Any],
    manifest: Mapping[str, Any] | None,
    seed: int,
) -> dict[str, Any]:
    """Returns what the cards of arrays and of volumes have in common.

    Args:
        name: registered name of the data set.
        data: what the adapter made.
        counts: per fold, split -> class -> number found.
        source, origin, facts, findings, options, manifest, seed: see :func:`build_card`.
    """
    real = not data.synthetic
    manifest = manifest or {}
    return {
        "name": name,
        "title": str(facts.get("title", name)),
        "source": source,
        "origin": origin,
        "synthetic": data.synthetic,
        "complete": data.complete,
        "class_names": list(data.class_names),
        "counts": {
            "found": {f"fold{number}": numbers for number, numbers in enumerate(counts)},
            "official": facts.get("official", {}),
            "paper": facts.get("paper", {}),
        },
        "version": (manifest.get("version") or facts.get("version")) if real else None,
        "files": [
            {
                key: file[key]
                for key in ("name", "bytes", "sha256", "origin", "check")
                if key in file
            }
            for file in manifest.get("files", [])
        ],
        "archives": [
            {key: archive[key] for key in ("name", "bytes", "sha256", "check")}
            for archive in manifest.get("archives", [])
        ],
        "warnings": list(manifest.get("warnings", [])),
        "licence": facts.get("licence") if real else "generated; no licence of others applies",
        "citation": _as_list(facts.get("citation", [])) if real else [],
        "notes": [in_singular(note) for note in data.notes],
        "audit": [finding.as_json() for finding in findings],
        "options": dict(options),
        "seed": seed,
    }


def _as_list(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def card_markdown(card: Mapping[str, Any]) -> str:
    """Returns a card as Markdown."""
    title = ("SYNTHETIC stand-in: " if card["synthetic"] else "") + card["title"]
    lines = [f"# {title}", ""]
    if card["synthetic"]:
        lines += ["**Generated data. Shows that the workflow runs; evidence of nothing.**", ""]
    if not card["complete"]:
        lines += ["**SUBSET of the release: numbers do not compare with published ones.**", ""]
    lines += [
        "![examples](preview.png)",
        "",
        f"- Name: `{card['name']}`, source: `{card['source']}`"
        + (f" (read from `{card['origin']}`)" if card["origin"] != card["source"] else "")
        + (f", version {card['version']}" if card["version"] else ""),
        _content(card),
        f"- Seed: {card['seed']}; options: "
        + (", ".join(f"{key} = {value}" for key, value in card["options"].items()) or "none"),
        f"- Licence: {card['licence']}",
        "",
        "## Counts",
        "",
        *_count_table(card),
        "",
    ]
    lines += _section("How it was made", card["notes"])
    findings = [f"{_level(f['level'])}{f['text']}" for f in card["audit"]]
    # Patterns of file names hold asterisks, which Markdown would take for emphasis.
    warnings = ["**Warning.** " + w.replace("*", r"\*") + "." for w in card["warnings"]]
    lines += _section("Findings", [*findings, *warnings])
    lines += _section("Please cite", card["citation"])
    lines += _file_table(card["files"], card.get("archives", []))
    return "\n".join(lines)


def _content(card: Mapping[str, Any]) -> str:
    if "channels" in card:
        return (
            f"- Volumes: {card['cases']:,} cases in `{card['nnunet_folder']}`, channels "
            f"{', '.join(card['channels'])}; counts are cases whose mask has the class"
        )
    low, high = card["input_range"]
    shape = " x ".join(f"{n:,}" for n in card["shape"])
    return f"- Array: {shape}, {card['dtype']}, range [{low:g}, {high:g}]"


def _file_table(
    files: Sequence[Mapping[str, Any]], archives: Sequence[Mapping[str, Any]]
) -> list[str]:
    if not files:
        return []
    total = (
        f"{counted(len(files), 'file', 'files')}, {sum(file['bytes'] for file in files):,} bytes"
    )
    if len(files) > _FILES_SHOWN:
        unpacked = [
            f"Unpacked from {a['name']}: {a['bytes']:,} bytes, SHA-256 `{a['sha256']}` "
            f"({a['check']})."
            for a in archives
        ]
        text = f"{total}; their SHA-256 are in card.json."
        return ["## Raw files", "", " ".join([text, *unpacked]), ""]
    rows = [f"| {file['name']} | {file['bytes']:,} | `{file['sha256']}` |" for file in files]
    return ["## Raw files", "", "| file | bytes | SHA-256 |", "|---|---:|---|", *rows, ""]


def _level(level: str) -> str:
    return "" if level == "info" else f"**{level.capitalize()}.** "


def _section(title: str, entries: Sequence[str]) -> list[str]:
    if not entries:
        return []
    return [f"## {title}", "", *(f"- {entry}" for entry in entries), ""]


def _count_table(card: Mapping[str, Any]) -> list[str]:
    """Returns the three kinds of counts: found, official release, papers."""
    classes = [*card["class_names"], "all"]
    lines = [
        f"| counts | split | {' | '.join(classes)} |",
        f"|---|---|{'---:|' * len(classes)}",
    ]
    kinds: list[tuple[str, Mapping[str, Mapping[str, int]]]] = [
        (f"found, {fold}" if len(card["counts"]["found"]) > 1 else "found", counts)
        for fold, counts in card["counts"]["found"].items()
    ]
    if not card["synthetic"]:
        # Data without files are generated: there is no release.
        release = "official release" if card["files"] else "stated"
        kinds.append((release, card["counts"]["official"]))
        kinds += [(f"paper ({study})", c) for study, c in card["counts"]["paper"].items()]
    for kind, splits in kinds:
        for split, counts in splits.items():
            total = counts.get("all", sum(counts.values()))
            cells = [f"{counts[c]:,}" if c in counts else "" for c in card["class_names"]]
            lines.append(f"| {kind} | {SPLIT_TITLES[split]} | {' | '.join(cells)} | {total:,} |")
    return lines
