"""In what amounts a run differs from the paper, in words for captions.

A study's file holds the paper's amounts; a scale lowers numbers of it, and overrides change
anything. What differs then is told by key: ``max epochs 4 to 10 (the paper: 60 to 100)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: What a reader must know of models that were trained less than published: 60 epochs of signnet's
#: MLP in place of its stop make it look twice as robust (docs/evidence/signnet).
TRAINED_OTHERWISE = (
    "A model trained by other amounts may be easier or harder to fool: an order of models is that "
    "of these trainings."
)

#: How work is divided and what is shown decides nothing that a number means.
#: What networks begin with is told by :func:`medrobust.experiment.captions.random_init`.
NOT_AMOUNTS = frozenset(
    {"points_per_job", "members_per_job", "artefacts", "keep_arrays", "initial_weights"}
)

#: Keys of what a run may choose among; that it leaves some out shows in its tables.
CHOSEN = frozenset({"datasets", "models", "attacks"})

#: Keys of an attack's options on parts of a study, told with the name of the part.
OF_PARTS = {"for_datasets": "datasets", "for_models": "models"}


def differences(
    study: Mapping[str, Any], paper: Mapping[str, Any], whose: str = "the paper"
) -> str:
    """Returns in words in what a study's settings differ from those of its file, "" if in nothing.

    Args:
        study: its settings as nested dicts (``model_dump``), with the data sets, models and attacks
            that run.
        paper: the same as the study's file has them; what only it has is not part of the run.
        whose: what the file's amounts are.
    """
    by_key: dict[str, tuple[list[Any], list[Any]]] = {}
    for key, own, printed in (*_changed(study, paper), *_changed_of_parts(study, paper)):
        own_values, printed_values = by_key.setdefault(key, ([], []))
        own_values.append(own)
        printed_values.append(printed)
    return ", ".join(
        f"{key.replace('_', ' ')} {_span(key, own)} ({whose}: {_span(key, printed)})"
        for key, (own, printed) in by_key.items()
    )


def trained_otherwise(study: Mapping[str, Any], paper: Mapping[str, Any]) -> bool:
    """Tells whether models are trained by other amounts; arguments as for :func:`differences`."""
    models = (settings["models"] for settings in (study, paper))
    own, printed = ({name: one["method"] for name, one in each.items()} for each in models)
    return any(_changed(own, printed, names=True))


def _changed(
    own: Mapping[str, Any], printed: Mapping[str, Any], *, names: bool = False
) -> Iterator[tuple[str, Any, Any]]:
    """Yields key and both values of what differs; ``names``: keys are names that a run chooses."""
    for key, value in own.items():
        other = printed.get(key)
        if key in NOT_AMOUNTS or value == other or (names and key not in printed):
            continue
        if key in OF_PARTS:
            continue  # told by the part's name
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            yield from _changed(value, other, names=key in CHOSEN)
        elif key not in CHOSEN:
            yield key, value, other


def _changed_of_parts(
    study: Mapping[str, Any], paper: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Yields what attacks do otherwise on single data sets or models, as :func:`_changed` does."""
    for name, attack in study["attacks"].items():
        printed = paper["attacks"].get(name)
        for key, kind in OF_PARTS.items() if printed is not None else ():
            for part in {**attack.get(key, {}), **printed.get(key, {})}:
                if part not in study[kind]:
                    continue  # not part of the run
                of = study[kind][part]
                label = of.get("label") or of.get("published_name") or part
                of_part = (_options(one, key, part) for one in (attack, printed))
                usual = (_options(one) for one in (attack, printed))
                told = list(_changed(*usual))
                for option, *values in _changed(*of_part):
                    if (option, *values) not in told:
                        yield f"{option} of {label}", *values


def _options(attack: Mapping[str, Any], key: str = "", part: str = "") -> dict[str, Any]:
    """Returns the options of an attack, with those of a part of the study; defaults are not in."""
    return {**attack.get("options", {}), **attack.get(key, {}).get(part, {})}


def _span(key: str, values: list[Any]) -> str:
    """Returns the values in words: the range of numbers, else each."""
    numbers = [value for value in values if _is_number(value)]
    words = [_word(key, value) for value in values if not _is_number(value)]
    parts = []
    if numbers:
        low, high = min(numbers), max(numbers)
        parts.append(f"{low:,g}" if low == high else f"{low:,g} to {high:,g}")
    return " or ".join([*parts, *dict.fromkeys(words)])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _word(key: str, value: Any) -> str:
    if value is None:
        # Points and folds that are not bounded are all there are; other settings are off.
        return "all" if "points" in key or key == "folds" else "none"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return str(value)
