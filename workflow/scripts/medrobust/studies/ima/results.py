"""What the tables, figures and claims of ima read: tallies, margins, and the printed numbers.

Accuracy is the plain share of test points, each counted once, also where classes differ in size
(the tile counts of a tally are of no use here). Everything that is estimated goes through
:class:`ImaResults`, so that a number and its interval are the same wherever they are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation import intervals, statistics
from medrobust.evaluation.tally import ATTACK, CLEAN, Tally
from medrobust.reporting import artefacts
from medrobust.reporting.comparison import read_published
from medrobust.reporting.levels import LevelResults, points_text, read_tallies
from medrobust.reporting.request import Entry, Request
from medrobust.reporting.rows import (
    attack_in_words,
    attack_settings,
    correct_count,
    dataset_sources,
    level_text,
    ordered_models,
    printed_values,
    replicates_by_model,
)

if TYPE_CHECKING:
    import pandas as pd

STUDY = "ima"
MOONS, FASHION, SVHN, COVID = "Moons", "Fashion-MNIST", "SVHN", "COVID19-CT"
DATASETS = (MOONS, FASHION, SVHN, COVID)
LINF, L2 = "Linf", "L2"
NORM_NAMES = {LINF: "L∞", L2: "L2"}
#: What the published numbers call the attack: the worse of two runs, one for each loss.
PRINTED_ATTACK = "100-PGD(CE+Margin)"
METRIC = "accuracy"
#: Level of the published numbers that is no test accuracy: clean, on the validation points.
VALIDATION_LEVEL = "0(val)"
#: Points in words, and the keys of ``clean.json`` for their number and the accuracy on them.
TEST = ("test points", "n_test", "ensemble_accuracy")
VALIDATION = ("validation points", "n_val", "validation_accuracy")
#: Epochs of training in print (text and technical appendix).
PRINTED_EPOCHS = {MOONS: 30, FASHION: 60, SVHN: 60, COVID: 100}
#: A model trained in L2 is named so in a run; tables of one norm leave the mark out.
L2_MARK = "L2:"
#: Settings of IMA that the tables of beta and of the largest margin share with the main ones.
SAME_AS_IMA = ("beta=0.5", "emax=60dEps")


@dataclass(frozen=True)
class PrintedTable:
    """One of the paper's tables on classification.

    Attributes:
        number: of the table, as in the published numbers.
        dataset: as printed.
        norm: "Linf" or "L2".
        attack: name in the study.
        subject: what its rows are, in words.
    """

    number: str
    dataset: str
    norm: str
    attack: str
    subject: str = "training methods"

    @property
    def main(self) -> bool:
        """Whether its rows are the training methods, not settings of IMA."""
        return self.number.isdigit()

    def model(self, method: str) -> str:
        """Returns the model of a run that a printed row is of ("IMA" in L2: "L2:IMA")."""
        name = "IMA" if method in SAME_AS_IMA else method
        return name if self.norm == LINF or name == "ce" else f"{L2_MARK}{name}"


_BETA, _EMAX = "weights beta of the noisy points", "largest margins"
TABLES = (
    PrintedTable("8", MOONS, LINF, "pgd_moons"),
    PrintedTable("9", FASHION, LINF, "pgd_fashion"),
    PrintedTable("10", FASHION, L2, "pgd_fashion_l2"),
    PrintedTable("11", SVHN, LINF, "pgd_svhn"),
    PrintedTable("12", SVHN, L2, "pgd_svhn_l2"),
    PrintedTable("13", COVID, LINF, "pgd_covid"),
    PrintedTable("B1", FASHION, L2, "pgd_fashion_l2", _BETA),
    PrintedTable("B2", FASHION, LINF, "pgd_fashion", _BETA),
    PrintedTable("C4", FASHION, L2, "pgd_fashion_l2", _EMAX),
    PrintedTable("C5", FASHION, LINF, "pgd_fashion", _EMAX),
    PrintedTable("C6", SVHN, L2, "pgd_svhn_l2", _EMAX),
    PrintedTable("C7", SVHN, LINF, "pgd_svhn", _EMAX),
)
MAIN_TABLES = tuple(table for table in TABLES if table.main)
PGD_ATTACKS = tuple(table.attack for table in MAIN_TABLES)
#: Uniform noise in the study: name to data set.
NOISE_ATTACKS = {"noise_covid": COVID, "noise_moons": MOONS, "noise_fashion": FASHION}
#: Name in the study to the name in print.
ATTACK_NAMES = dict.fromkeys(PGD_ATTACKS, PRINTED_ATTACK) | dict.fromkeys(
    NOISE_ATTACKS, "uniform noise"
)


def table_of(number: str) -> PrintedTable:
    """Returns the table with a number."""
    return next(table for table in TABLES if table.number == number)


def main_table(dataset: str, norm: str) -> PrintedTable:
    """Returns the table of the training methods on a data set."""
    return next(t for t in MAIN_TABLES if (t.dataset, t.norm) == (dataset, norm))


def method_of(model: str) -> str:
    """Returns a model's method as printed ("L2:adv1" as "adv1")."""
    return model.removeprefix(L2_MARK)


# --- the printed numbers ----------------------------------------------------------------


@dataclass(frozen=True)
class PrintedNumbers:
    """The paper's numbers on classification.

    Attributes:
        frame: as :func:`medrobust.reporting.comparison.read_published` reads them.
    """

    frame: pd.DataFrame
    _values: dict[tuple[str, str, str], float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Fills the table of values."""
        self._values.update(printed_values(self.frame, "table", "method", "epsilon"))

    def _of(self, table: PrintedTable) -> pd.DataFrame:
        return self.frame[self.frame["table"] == table.number]

    def methods(self, table: PrintedTable) -> list[str]:
        """Returns the rows of a table."""
        return list(dict.fromkeys(self._of(table)["method"]))

    def levels(self, table: PrintedTable) -> list[float]:
        """Returns the noise levels of a table, ascending from 0."""
        texts = dict.fromkeys(self._of(table)["epsilon"])
        return sorted(float(text) for text in texts if text != VALIDATION_LEVEL)

    def has_validation(self, table: PrintedTable) -> bool:
        """Tells whether a table prints accuracies of validation points too."""
        return VALIDATION_LEVEL in set(self._of(table)["epsilon"])

    def decimals(self, table: PrintedTable) -> int:
        """Returns how many decimals a table has."""
        return int(self._of(table)["decimals"].max())

    def value(self, table: PrintedTable, method: str, level: str) -> float | None:
        """Returns a number, None if it is not printed."""
        return self._values.get((table.number, method, level))

    def models(self, dataset: str) -> list[str]:
        """Returns the models of a data set that any table prints, those of main tables first."""
        found = [
            table.model(method)
            for table in TABLES
            if table.dataset == dataset
            for method in self.methods(table)
        ]
        return list(dict.fromkeys(found))


def read_printed(path: str) -> PrintedNumbers:
    """Returns the printed numbers.

    Raises:
        InputError: the file is wrong.
    """
    return PrintedNumbers(read_published(path, STUDY))


# --- results ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Margins:
    """Margins of the training points of one model.

    Attributes:
        margin: float64 ``[n]``, of all its members.
        label: int64 ``[n]``.
        replicate: number of the training.
    """

    margin: np.ndarray
    label: np.ndarray
    replicate: int


@dataclass(frozen=True)
class Sizes:
    """Numbers of points of a data set.

    Attributes:
        trained: that models were trained on.
        training: of the training split.
        test: of the test split.
    """

    trained: int
    training: int
    test: int


@dataclass(frozen=True)
class ImaResults(LevelResults):
    """Tallies and margins of a run and what follows from them.

    Attributes:
        margins: (data set, model) to the margins of its replicates.
        validation: (data set, model) to correct and all clean validation points of its replicates.
        replicates: (data set, model) to the numbers of its replicates, in the order of the tallies.
        clean: (data set, model) to correct and all test points without attack, of its replicates,
            whatever points were attacked.
        training: data set to how much of it models were trained on and how long, in words.
        sizes: of each data set.
    """

    margins: Mapping[tuple[str, str], Sequence[Margins]]
    validation: Mapping[tuple[str, str], Sequence[tuple[int, int]]]
    replicates: Mapping[tuple[str, str], Sequence[int]]
    clean: Mapping[tuple[str, str], Sequence[tuple[int, int]]]
    training: Mapping[str, str]
    sizes: Mapping[str, Sizes]
    _draws: dict[tuple[Any, ...], np.ndarray] = field(default_factory=dict, repr=False)
    _counts: dict[tuple[str, str, str], list[dict]] = field(default_factory=dict, repr=False)
    _estimates: dict[tuple[Any, ...], statistics.Estimate] = field(default_factory=dict, repr=False)

    def level_counts(
        self, dataset: str, model: str, attack: str, epsilon: float, reading: str = ATTACK
    ) -> list[LevelCount]:
        """Returns what each replicate's tally counts at a level, none if it was not run."""
        key = (dataset, model, attack)
        if key not in self._counts:
            self._counts[key] = [count_levels(tally) for tally in self.of(*key)]
        wanted = (CLEAN if epsilon == 0 else reading, level_text(epsilon))
        found = [counts.get(wanted) for counts in self._counts[key]]
        return [] if None in found else found

    def counts(
        self, dataset: str, model: str, attack: str, epsilon: float, reading: str = ATTACK
    ) -> list[tuple[float, int]]:
        """Returns correct and all points of each replicate, none if the level was not run."""
        found = self.level_counts(dataset, model, attack, epsilon, reading)
        return [(one.right, one.points) for one in found]

    def shares(
        self, dataset: str, model: str, attack: str, epsilon: float, reading: str = ATTACK
    ) -> list[float]:
        """Returns the accuracy of each replicate, none if the level was not run."""
        return [right / n for right, n in self.counts(dataset, model, attack, epsilon, reading)]

    def estimate(
        self, dataset: str, model: str, attack: str, epsilon: float, reading: str = ATTACK
    ) -> statistics.Estimate | None:
        """Returns an accuracy with its interval, None if it was not run."""
        counts = self.counts(dataset, model, attack, epsilon, reading)
        if not counts:
            return None
        key = (dataset, model, attack, level_text(epsilon), reading)
        if key not in self._estimates:
            right = [one for one, _ in counts]
            self._estimates[key] = statistics.accuracy_estimate(right, counts[0][1])
        return self._estimates[key]

    def validation_estimate(self, dataset: str, model: str) -> statistics.Estimate | None:
        """Returns the accuracy on clean validation points, None if it was not counted."""
        counts = self.validation.get((dataset, model), ())
        if not counts:
            return None
        right = [one for one, _ in counts]
        return statistics.accuracy_estimate(right, counts[0][1])

    def draws(
        self, dataset: str, model: str, attack: str, epsilon: float, reading: str = ATTACK
    ) -> np.ndarray | None:
        """Returns draws of an accuracy, float64 ``[resamples]``; None if it was not run."""
        counts = self.counts(dataset, model, attack, epsilon, reading)
        if not counts:
            return None
        key = (dataset, model, attack, level_text(epsilon), reading)
        if key not in self._draws:
            self._draws[key] = intervals.share_draws(counts, self.random("draws", *key))
        return self._draws[key]

    def with_margins(self, dataset: str, model: str) -> ImaResults:
        """Returns these results, of one model only the trainings whose margins are known.

        Margins are kept of some trainings, tallies of all; what is compared is of the same ones.
        """
        kept = {one.replicate for one in self.margins.get((dataset, model), ())}
        numbers = self.replicates.get((dataset, model), ())
        if kept == set(numbers):
            return self
        chosen = [place for place, number in enumerate(numbers) if number in kept]
        tallies = dict(self.tallies)
        for key, found in self.tallies.items():
            if key[:2] == (dataset, model):
                tallies[key] = [found[place] for place in chosen]
        fresh = {"_draws": {}, "_counts": {}, "_estimates": {}}
        return replace(self, tallies=tallies, **fresh)


@dataclass(frozen=True)
class LevelCount:
    """What a tally counts at one level in one reading, every point with weight 1.

    Where several predictions of each point are counted, ``right`` and ``flipped`` are means over
    them, the other sums are over all.

    Attributes:
        points: test points.
        runs: predictions counted of each point.
        right: points that are classified correctly.
        flipped: points that are wrong, but right without attack.
        attacked: points that were right without attack.
        non_monotone: points fooled at a smaller level but not at this one.
        gradient_evaluations: spent.
    """

    points: int
    runs: int
    right: float
    flipped: float
    attacked: int
    non_monotone: int
    gradient_evaluations: int


def count_levels(tally: Tally) -> dict[tuple[str, str], LevelCount]:
    """Returns (reading, level as text) to what a tally counts there; readings of 0 are clean."""
    sums = ("attacked", "non_monotone", "gradient_evaluations")
    found = {}
    for (reading, epsilon), rows in tally.frame.groupby(["reading", "epsilon"], sort=False):
        runs = int(rows["runs"].iloc[0])
        points = rows["points"].to_numpy()
        right = (rows["label"] == rows["prediction"]).to_numpy()
        found[reading, level_text(epsilon)] = LevelCount(
            points=int(points.sum()) // runs,
            runs=runs,
            right=int(points[right].sum()) / runs,
            flipped=int(rows["attacked"].to_numpy()[~right].sum()) / runs,
            **{name: int(rows[name].sum()) for name in sums},
        )
    return found


def read_results(request: Request, attacks: Iterable[str] | None = None) -> ImaResults:
    """Reads the tallies and margins of a request.

    Args:
        request: with the results of models.
        attacks: those to read; by default all.

    Raises:
        InputError: a file is missing or wrong, two entries are the same, or the tallies of an
            attack are of different points.
    """
    wanted = None if attacks is None else set(attacks)
    printed = read_printed(request.published)
    groups = replicates_by_model(request.entries)
    tallies, files = read_tallies(groups, wanted)
    margins: dict[tuple[str, str], list[Margins]] = {}
    validation: dict[tuple[str, str], list[tuple[int, int]]] = {}
    clean: dict[tuple[str, str], list[tuple[int, int]]] = {}
    sizes: dict[str, Sizes] = {}
    for (dataset, model), replicates in groups.items():
        for entry in replicates:
            if entry.margins:
                margins.setdefault((dataset, model), []).append(read_margins(entry))
                files.append(entry.margins)
            if entry.summary:
                files.append(entry.summary)
                summary = io.read_json(entry.summary)
                sizes.setdefault(dataset, _sizes(entry, summary))
                for counts, split in ((clean, TEST), (validation, VALIDATION)):
                    if counted := _counted(summary, split, entry.summary):
                        counts.setdefault((dataset, model), []).append(counted)
    sources = dataset_sources(request.entries, DATASETS)
    names = dict.fromkeys((*DATASETS, *sources))
    return ImaResults(
        study=STUDY,
        tallies=tallies,
        margins=margins,
        validation=validation,
        clean=clean,
        sources=sources,
        models={d: ordered_models(groups, d, printed.models(d)) for d in names},
        replicates={key: [entry.replicate for entry in found] for key, found in groups.items()},
        training=_training(request.entries, sizes),
        sizes=sizes,
        seed=request.context.seed,
        files=files,
    )


def read_margins(entry: Entry) -> Margins:
    """Reads the margins of a model's training points, members one after the other.

    Raises:
        InputError: the file is missing or is no file of margins.
    """
    tensors = io.read_tensors(entry.margins)
    margin, label = tensors.get("margin"), tensors.get("label")
    if margin is None or label is None or margin.ndim != 2 or label.shape != margin.shape[1:]:
        raise InputError(
            "This is not a file of margins: it needs `margin` [members, points] and `label` "
            "[points].",
            where=entry.margins,
            remedy="delete it and run the same command.",
        )
    values = margin.astype(np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        raise InputError("A margin is negative or not a number.", where=entry.margins)
    return Margins(values.ravel(), np.tile(label, len(margin)), entry.replicate)


def _counted(
    summary: Mapping[str, Any], split: tuple[str, str, str], where: str
) -> tuple[int, int] | None:
    """Returns correct and all points of a split, None where none were counted."""
    points, number, accuracy = split
    n, share = summary.get(number), summary.get(accuracy)
    return (correct_count(share, n, points, where), n) if n and share is not None else None


def _sizes(entry: Entry, summary: Mapping[str, Any]) -> Sizes:
    there = int(summary["n_train"])
    return Sizes(min(entry.training_points or there, there), there, int(summary["n_test"]))


def _training(entries: Sequence[Entry], sizes: Mapping[str, Sizes]) -> dict[str, str]:
    """Returns of each data set how many points models were trained on, and how long, in words."""
    found = {}
    for dataset in dict.fromkeys(entry.dataset for entry in entries):
        mine = [entry for entry in entries if entry.dataset == dataset]
        where = _points_trained_on(mine[0].training_points, sizes.get(dataset))
        epochs = sorted({entry.epochs for entry in mine if entry.epochs})
        if epochs:
            printed = PRINTED_EPOCHS.get(dataset)
            paper = f" (the paper: {printed})" if printed and epochs != [printed] else ""
            span = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
            where += f", {span} epochs{paper}"
        found[dataset] = f"trained on {where}"
    return found


def _points_trained_on(drawn: int | None, size: Sizes | None) -> str:
    if size is None:
        return f"at most {drawn:,} training points" if drawn else "all training points"
    of = f"{size.trained:,} of" if size.trained < size.training else "all"
    return f"{of} {size.training:,} training points"


def shown_sources(results: ImaResults, datasets: Iterable[str]) -> dict[str, str]:
    """Returns the sources of these data sets, of those that were run."""
    return {name: results.sources[name] for name in datasets if name in results.sources}


def remark(dataset: str, source: str) -> str:
    """Returns what a reader must know of the data behind a number, "" if nothing."""
    if source == "generated":
        return "points drawn anew, by the same rule as the paper's"
    if dataset == COVID and source != "standin":
        return "the division into training and test images was drawn anew: the paper's is not known"
    return ""


# --- words ------------------------------------------------------------------------------


def sample_text(results: ImaResults, tables: Iterable[PrintedTable]) -> str:
    """Returns which points the attacks of these tables were made on, in words."""
    parts: dict[str, dict[str, None]] = {}
    for table in tables:
        found = results.attacked(table.attack, table.dataset)
        trained = results.training.get(table.dataset)
        text = points_text(found[0]) if found else "not run"
        if found and trained:
            text += f", {trained}"
        shown = text if found else f"{text} in {NORM_NAMES[table.norm]}"
        parts.setdefault(table.dataset, {})[shown] = None
    if len(parts) == 1:
        return "; ".join(next(iter(parts.values())))
    return "; ".join(f"{dataset}: {', '.join(texts)}" for dataset, texts in parts.items())


def attack_text(request: Request, attack: str) -> str:
    """Returns an attack of the study and its budget in words."""
    return attack_in_words(request, attack, ATTACK_NAMES)


def budget_text(request: Request, attacks: Sequence[str]) -> str:
    """Returns several attacks in words: what they have in common once, then the levels of each."""
    known = {name: request.attacks[name] for name in attacks if name in request.attacks}
    if len({facts["name"] for facts in known.values()}) != 1:
        return "; ".join(dict.fromkeys(attack_text(request, name) for name in attacks))
    settings = {name: attack_settings(facts) for name, facts in known.items()}
    first = next(iter(settings.values()))
    common = {
        key: value
        for key, value in first.items()
        if all(one.get(key) == value for one in settings.values())
    }
    engine = next(iter(known.values()))["name"]
    parts = []
    for name, facts in known.items():
        own = {key: value for key, value in settings[name].items() if key not in common}
        others = artefacts.others_in_words(own.pop(artefacts.OTHERS, {}))
        words = [f"{key.replace('_', ' ')} {artefacts.count(value)}" for key, value in own.items()]
        levels = (facts.get("grid") or {}).get("epsilon", ())
        words.append(f"ε {' '.join(f'{level:g}' for level in levels)}")
        parts.append(f"{name}: {', '.join(words)}{others}")
    text = artefacts.describe_attack(engine, common)
    losses = _losses(known)
    shared_part = f"{text}, the worse of the losses {losses}" if losses else text
    return f"{shared_part}; {'; '.join(parts)}"


def _losses(known: Mapping[str, Mapping[str, Any]]) -> str:
    found = {loss for facts in known.values() for loss in (facts.get("grid") or {}).get("loss", ())}
    return " and ".join(sorted(loss.replace("_", " ") for loss in found))


def model_in(table: PrintedTable, results: ImaResults, dataset: str, method: str) -> str:
    """Returns the model of a run that stands in a row of a table."""
    model = table.model(method)
    return model if model in results.models[dataset] else method


#: The methods in the order of the legends and of the decision regions; others follow.
ORDER = ("IMA", "MMA", "TRADES", "DDN", "adv", "rand", "ce")


def in_order(methods: Iterable[str]) -> list[str]:
    """Returns methods (or models) in the order of :data:`ORDER`, "adv0.1" and such by radius."""

    def key(model: str) -> tuple[int, float, str]:
        method = method_of(model)
        for place, name in enumerate(ORDER):
            rest = method.removeprefix(name)
            if method.startswith(name) and (not rest or rest.replace(".", "").isdigit()):
                return place, float(rest or 0), model
        return len(ORDER), 0.0, model

    return sorted(methods, key=key)
