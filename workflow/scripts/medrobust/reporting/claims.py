"""What a paper's sentences claim, held against this run: holds, does not hold, cannot tell.

A :class:`Claim` quotes a sentence and says how it is tested. Its test is put together from
statements ("SCDCE lies above BNN"), each with two p-values: ``p_for``, how likely results as
clear would be if the statement were not true, and ``p_against``, the same if it were true.
:func:`all_of` and :func:`any_of` join statements:

* all of k statements are told to be true if each is (the largest ``p_for`` counts, the
  intersection-union test of Berger 1982, which needs no adjustment); that not all are true is
  told if the clearest statement against is clear among k (Bonferroni);
* any of k statements: the other way round.

A claim *holds* if it is told to be true at the level :data:`ALPHA`, it *does not hold* if it is
told to be untrue; everything between, and whatever was not run, "cannot tell". Stand-in data
are never judged. The same test is applied to the paper's own printed numbers where they are
all that is needed, because some sentences contradict the table that they speak of.

Nothing here is about one paper; each study declares its claims.
"""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import io
from medrobust.core.words import counted
from medrobust.evaluation import intervals, statistics
from medrobust.reporting import artefacts, webpage
from medrobust.reporting.comparison import Remark, no_remark

if TYPE_CHECKING:
    import pandas as pd

    from medrobust.reporting.artefacts import RunContext

HOLDS = "holds"
DOES_NOT_HOLD = "does not hold"
CANNOT_TELL = "cannot tell"
VERDICTS = (HOLDS, DOES_NOT_HOLD, CANNOT_TELL)
ALPHA = 0.05
#: The row that joins the verdicts of a claim's data sets.
OVERALL = "all of them"
#: The unweighted mean of a claim's other data sets, as a data set of its own.
COMBINED = "combined"
COLUMNS = (
    "claim",
    "where",
    "quote",
    "tested",
    "dataset",
    "verdict",
    "figures",
    "reason",
    "in_print",
    "n",
    "replicates",
    "scale",
    "protocol",
    "source",
)


@dataclass(frozen=True)
class Statement:
    """Something that is told to be true, told to be untrue, or open.

    Attributes:
        label: the statement in words, e.g. "SCDCE above BNN".
        p_for: in [0, 1]; small where results this clear are unlikely unless it is true.
        p_against: in [0, 1]; small where they are unlikely unless it is untrue.
        figures: the numbers behind it, in words.
        undecided: why there is no test of it, empty if there is one.
    """

    label: str
    p_for: float = 1.0
    p_against: float = 1.0
    figures: str = ""
    undecided: str = ""

    def leaves(self) -> list[Statement]:
        """Returns the statements that this one is made of: itself."""
        return [self]

    def deciding(self, *, against: bool) -> list[Statement]:
        """Returns the statements that tell this one to be true (or untrue): itself."""
        return [self]


@dataclass(frozen=True)
class _Joined(Statement):
    """A statement made of others."""

    parts: tuple[Statement, ...] = ()
    every: bool = True

    def leaves(self) -> list[Statement]:
        """Returns the single statements, each once."""
        return list(dict.fromkeys(leaf for part in self.parts for leaf in part.leaves()))

    def deciding(self, *, against: bool) -> list[Statement]:
        """Returns all parts' where all must tell, else those of the clearest part."""
        if self.every != against:
            parts: Iterable[Statement] = self.parts
        else:
            parts = [min(self.parts, key=lambda p: p.p_against if against else p.p_for)]
        found = (leaf for part in parts for leaf in part.deciding(against=against))
        return list(dict.fromkeys(found))


def all_of(statements: Iterable[Statement]) -> Statement:
    """Returns the statement that all of these (at least one) are true."""
    parts = tuple(statements)
    clearest = min(part.p_against for part in parts)
    return _Joined(
        label=" and ".join(part.label for part in parts),
        p_for=max(part.p_for for part in parts),
        p_against=min(1.0, len(parts) * clearest),
        parts=parts,
        every=True,
    )


def any_of(statements: Iterable[Statement]) -> Statement:
    """Returns the statement that at least one of these (at least one) is true."""
    parts = tuple(statements)
    clearest = min(part.p_for for part in parts)
    return _Joined(
        label=" or ".join(f"({part.label})" for part in parts),
        p_for=min(1.0, len(parts) * clearest),
        p_against=max(part.p_against for part in parts),
        parts=parts,
        every=False,
    )


def verdict_of(statement: Statement, alpha: float = ALPHA) -> str:
    """Returns one of :data:`VERDICTS`."""
    if statement.p_for <= alpha:
        return HOLDS
    return DOES_NOT_HOLD if statement.p_against <= alpha else CANNOT_TELL


# --- single statements ------------------------------------------------------------------


def mean_above_zero(
    label: str,
    differences: np.ndarray,
    generator: np.random.Generator,
    *,
    decimals: int,
    alpha: float = ALPHA,
    least: float = 0.0,
) -> Statement:
    """Tests whether the mean of paired differences is above 0, or at least ``least``.

    It is told to be above (below) only if two say so: the signed-rank test, whose p is taken,
    and the bootstrap interval of the mean, which must not contain 0. The first does not trust a
    bootstrap of few points, the second is about the mean, which papers print.

    Args:
        label: the statement in words.
        differences: ``[n]``, NaN or infinite where either side is censored.
        generator: randomness of the bootstrap.
        decimals: to print the difference with.
        alpha: 1 - ``alpha`` is the interval's level.
        least: what the mean is held against in place of 0.
    """
    differences = np.asarray(differences, dtype=np.float64)
    censored = int((~np.isfinite(differences)).sum())
    if censored:
        of = f"{censored} of {differences.size} points have no adversarial example"
        return Statement(label, figures=f"{label}: undefined", undecided=of)
    mean = float(differences.mean())
    low, high = intervals.mean_interval(differences, generator=generator, level=1 - alpha)
    if low is None or high is None:  # the same at every point: the signed-rank test alone decides
        low = high = mean
    p, pairs = statistics.signed_rank_p(differences - least)
    shown = _with_interval(mean, low, high, decimals, alone=differences.size < 2)
    figures = f"{label}: difference {shown}, {p_text(p)}"
    if statistics.smallest_p(pairs) > alpha:
        few = f"{counted(pairs, 'differing point', 'differing points')} can never be significant"
        return Statement(label, figures=figures, undecided=few)
    return Statement(
        label,
        p_for=p if low > least else 1.0,
        p_against=p if high < least else 1.0,
        figures=figures,
    )


def _with_interval(estimate: float, low: float, high: float, decimals: int, *, alone: bool) -> str:
    """Returns an estimate with its interval, or ``alone``.

    One point has no spread, and a percentile bootstrap of too few for a test covers far less than
    it says.
    """
    if alone:
        return artefacts.with_interval(estimate, None, None, decimals)
    return artefacts.with_interval(estimate, float(low), float(high), decimals)


def between(
    label: str,
    estimate: float,
    draws: np.ndarray,
    low: float,
    high: float,
    *,
    n: int,
    decimals: int,
    unit: str = "",
    alpha: float = ALPHA,
) -> Statement:
    """Tests by its bootstrap draws whether a quantity lies in [low, high].

    The p-values are the percentile bootstrap's: twice the share of draws on the wrong side of a
    bound (of the worse bound for it; of the better for being outside), never below 2 / draws.

    Args:
        label: the statement in words.
        estimate: the quantity.
        draws: ``[resamples]`` bootstrap draws of it; not NaN.
        low, high: the bounds; an infinite one is no bound.
        n: points behind it; too few for a signed-rank test are too few here.
        decimals: to print it with.
        unit: printed behind the numbers.
        alpha: level, of the interval printed too.
    """
    draws = np.asarray(draws, dtype=np.float64)
    method = "linear" if np.isfinite(draws).all() else "inverted_cdf"
    ends = np.quantile(draws, (alpha / 2, 1 - alpha / 2), method=method)
    few = statistics.smallest_p(n) > alpha
    figures = f"{label}: {_with_interval(estimate, *ends, decimals, alone=few)}{unit}"
    if few:
        return Statement(
            label,
            figures=figures,
            undecided=f"{counted(n, 'point is', 'points are')} too few for a test",
        )

    def chance(wrong: np.ndarray) -> float:
        return min(1.0, 2 * (int(wrong.sum()) + 1) / (draws.size + 1))

    below = 0.0 if np.isneginf(low) else chance(draws < low)
    above = 0.0 if np.isposinf(high) else chance(draws > high)
    not_below = 1.0 if np.isneginf(low) else chance(draws >= low)
    not_above = 1.0 if np.isposinf(high) else chance(draws <= high)
    return Statement(
        label,
        p_for=max(below, above),
        p_against=min(not_below, not_above),
        figures=figures,
    )


def draws_above_zero(
    label: str,
    estimate: float,
    draws: np.ndarray,
    *,
    n: int,
    decimals: int,
    alpha: float = ALPHA,
) -> Statement:
    """Tests by its bootstrap draws whether a difference is above 0.

    As :func:`between` without an upper bound, but 0 itself counts for neither side: two models
    that are both at 0 in every draw are not told apart.

    Args:
        label, estimate, draws, n, decimals, alpha: as for :func:`between`.
    """
    draws = np.asarray(draws, dtype=np.float64)
    low, high = np.quantile(draws, (alpha / 2, 1 - alpha / 2))
    few = statistics.smallest_p(n) > alpha
    figures = f"{label}: {_with_interval(estimate, low, high, decimals, alone=few)}"
    if few:
        return Statement(
            label,
            figures=figures,
            undecided=f"{counted(n, 'point is', 'points are')} too few for a test",
        )

    def chance(wrong: np.ndarray) -> float:
        return min(1.0, 2 * (int(wrong.sum()) + 1) / (draws.size + 1))

    return Statement(label, p_for=chance(draws <= 0), p_against=chance(draws >= 0), figures=figures)


def against_rivals(
    label: str,
    first: tuple[float, np.ndarray],
    rivals: Sequence[tuple[float, np.ndarray]],
    low: float = 0.0,
    high: float = np.inf,
    *,
    n: int,
    decimals: int,
) -> Statement:
    """Tests whether a quantity minus the largest of its rivals lies in [low, high].

    Without rivals, the quantity itself. With rivals, low 0 and no bound above, a difference of 0
    is not above 0 (:func:`draws_above_zero`).

    Args:
        label: the statement in words.
        first: estimate and bootstrap draws ``[resamples]`` of the quantity.
        rivals: the same of each rival; draws are independent of each other.
        low, high: the bounds; an infinite one is no bound.
        n: points behind it.
        decimals: to print the difference with.
    """
    estimate, draws = first
    if not rivals:
        return between(label, estimate, draws, low, high, n=n, decimals=decimals)
    estimate = estimate - max(value for value, _ in rivals)
    draws = draws - np.max([one for _, one in rivals], axis=0)
    if low == 0 and np.isposinf(high):
        return draws_above_zero(label, estimate, draws, n=n, decimals=decimals)
    return between(label, estimate, draws, low, high, n=n, decimals=decimals)


def printed_against_rivals(
    label: str,
    first: float,
    rivals: Sequence[float],
    rounding: float,
    low: float = 0.0,
    high: float = np.inf,
) -> Statement:
    """Returns what :func:`against_rivals` asks, of printed numbers.

    Args:
        label, low, high: as there.
        first, rivals: the printed numbers.
        rounding: half of the last printed digit.
    """
    slack = rounding * (2 if rivals else 1)
    value = first - max(rivals, default=0.0)
    return printed_between(label, value - slack, value + slack, low, high)


def printed_between(
    label: str, lowest: float, highest: float, low: float, high: float
) -> Statement:
    """Returns whether a quantity known from print to be in [lowest, highest] is in [low, high].

    Rounding leaves a printed number a range; where it covers both answers, it cannot tell.
    """
    # A billionth of slack: the ends of the rounding range are not exact in binary.
    slack = 1e-9 * max(1.0, abs(lowest), abs(highest))
    inside = low - slack <= lowest and highest <= high + slack
    outside = highest < low + slack or lowest > high - slack
    return Statement(label, p_for=0.0 if inside else 1.0, p_against=0.0 if outside else 1.0)


def exact(label: str, true: bool, figures: str) -> Statement:
    """Returns a statement that follows, or does not, without any sampling."""
    return Statement(
        label, p_for=0.0 if true else 1.0, p_against=1.0 if true else 0.0, figures=figures
    )


def open_statement(label: str, why: str) -> Statement:
    """Returns a statement that nothing here can test."""
    return Statement(label, undecided=why)


def p_text(p: float) -> str:
    """Returns a p-value as text: "p = 0.031", "p < 0.0001"."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.4f}" if p < 1e-2 else f"p = {p:.3f}"


# --- claims -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """What a claim's test found on one data set.

    Attributes:
        statement: what was tested.
        n: points behind it, None where there are none.
        replicates: trainings behind it, None where there are none.
        notes: what a reader must know beside the verdict.
        folds: over which it was tested; the spread of several has in it what a training changes.
    """

    statement: Statement
    n: int | None = None
    replicates: int | None = None
    notes: tuple[str, ...] = ()
    folds: int = 1


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper that this project holds against results.

    Attributes:
        name: of its own, small letters and underscores.
        quote: the exact words of the paper, as few as carry the claim.
        where: the place in the paper.
        tested: what is tested, and what was chosen where the words leave it open.
        judge: (results of the study, data set) -> what was found. Called for data sets that
            are part of the run, and for "" where ``datasets`` is empty.
        datasets: those that the sentence speaks of, as printed; :data:`COMBINED` stands for
            the mean of the others. Empty: the claim needs no data.
        printed: (data set) -> the same test of the printed numbers; None if the paper prints
            none that could tell, on this data set or at all.
        combines: data sets whose mean :data:`COMBINED` is, where the sentence speaks of it alone.
        of_paper: whether it is a paper's, whose amounts a smaller scale falls short of.
    """

    name: str
    quote: str
    where: str
    tested: str
    judge: Callable[[Any, str], Finding]
    datasets: tuple[str, ...] = ()
    printed: Callable[[str], Statement | None] | None = None
    combines: tuple[str, ...] = ()
    of_paper: bool = True


def judge_claims(
    claims: Sequence[Claim],
    results: Any,
    sources: Mapping[str, str],
    context: RunContext,
    remark: Remark = no_remark,
) -> pd.DataFrame:
    """Returns one row per claim and data set, and one that joins them, as :data:`COLUMNS`.

    Args:
        claims: of the study.
        results: handed to each claim's ``judge``.
        sources: data set (as printed) to source, of the data sets that were run.
        context: the run.
        remark: what a reader must know of the data.
    """
    import pandas as pd

    rows = []
    for claim in claims:
        own = [_row(claim, name, results, sources, context, remark) for name in claim.datasets]
        if not claim.datasets:
            own = [_row(claim, "", results, sources, context, remark)]
        rows += own
        if len(own) > 1:
            rows.append(_overall(claim, own, context))
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for name in ("n", "replicates"):
        frame[name] = frame[name].astype("float64").astype("Int64")
    return frame


def _row(
    claim: Claim,
    dataset: str,
    results: Any,
    sources: Mapping[str, str],
    context: RunContext,
    remark: Remark,
) -> dict[str, Any]:
    row = _blank(claim, dataset, context)
    in_print = None if claim.printed is None else claim.printed(dataset)
    if in_print is not None:
        row["in_print"] = verdict_of(in_print)
    needed = [name for name in (*claim.datasets, *claim.combines) if name != COMBINED]
    needed = [dataset] if dataset in needed else needed if dataset == COMBINED else []
    missing = [name for name in needed if name not in sources]
    if missing:
        absent = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'}"
        reasons = [f"{absent} not part of this run", _failed(context, missing)]
        return row | {"verdict": CANNOT_TELL, "reason": "; ".join(filter(None, reasons))}
    source = "+".join(dict.fromkeys(sources[name] for name in needed))
    finding = claim.judge(results, dataset)
    verdict = verdict_of(finding.statement)
    reasons = [_reason(finding.statement, verdict), *finding.notes]
    if artefacts.is_synthetic(source):
        verdict, reasons = CANNOT_TELL, ["stand-in data, evidence of nothing"]
    elif needed:
        reasons += [*_limits(finding, dataset, source, remark), _less(claim, context)]
    if verdict == CANNOT_TELL:
        reasons.append(_failed(context, needed))
    return row | {
        "verdict": verdict,
        "figures": "; ".join(s.figures for s in finding.statement.leaves() if s.figures),
        "reason": "; ".join(reason for reason in reasons if reason),
        "n": finding.n,
        "replicates": finding.replicates,
        "source": source,
    }


def _failed(context: RunContext, datasets: Sequence[str]) -> str:
    """Returns which models have no results on data sets because their training failed."""
    models = dict.fromkeys(one.model for one in context.failed if one.dataset in datasets)
    return f"{artefacts.TRAINING_FAILED}: {', '.join(models)}" if models else ""


def _blank(claim: Claim, dataset: str, context: RunContext) -> dict[str, Any]:
    return {
        "claim": claim.name,
        "where": claim.where,
        "quote": claim.quote,
        "tested": claim.tested,
        "dataset": dataset,
        "verdict": CANNOT_TELL,
        "figures": "",
        "reason": "",
        "in_print": "",
        "n": None,
        "replicates": None,
        "scale": context.scale,
        "protocol": context.protocol,
        "source": "",
    }


def _reason(statement: Statement, verdict: str) -> str:
    """Returns which statements decided, or which are open."""
    if statement.undecided:
        return statement.undecided
    if verdict == HOLDS:
        told = statement.deciding(against=False)
        if len(told) == 1 or told[0].p_for == 0:
            return ""
        least = max(told, key=lambda one: one.p_for)
        return f"least clear: {least.label} ({p_text(least.p_for)})"
    if verdict == DOES_NOT_HOLD:
        against = statement.deciding(against=True)
        return "" if against == [statement] else f"not so: {_listed(against)}"
    still = [one for one in statement.deciding(against=False) if one.p_for > ALPHA]
    contrary = [one for one in still if one.p_against <= ALPHA]
    open_ones = [one for one in still if one not in contrary]
    parts = [f"open: {_listed(open_ones)}"] if open_ones else []
    if contrary:
        parts.append(f"against it, but not clear among so many: {_listed(contrary)}")
    return "; ".join(parts)


def _listed(statements: Sequence[Statement]) -> str:
    """Returns labels, those without a test with the reason why."""
    return ", ".join(
        f"{one.label} ({one.undecided})" if one.undecided else one.label for one in statements
    )


def _limits(finding: Finding, dataset: str, source: str, remark: Remark) -> list[str]:
    limits = []
    if finding.replicates == 1 and finding.folds == 1:
        limits.append("one training of each model: what another would change is not in the test")
    if "subset" in source.split("+"):
        limits.append("the data are a subset of the release")
    limits.append(remark(dataset, source))
    return limits


def _less(claim: Claim, context: RunContext) -> str:
    """Returns that a paper's amounts were not run, "" if they were or there are none."""
    if not claim.of_paper or context.scale == "paper":
        return ""
    return f"scale {context.scale}, not the published amounts"


def _overall(claim: Claim, rows: Sequence[Mapping[str, Any]], context: RunContext) -> dict:
    def joined(column: str) -> str:
        found = [row[column] for row in rows]
        if DOES_NOT_HOLD in found:
            return DOES_NOT_HOLD
        return found[0] if len(set(found)) == 1 else CANNOT_TELL

    reasons = [*(f"{row['dataset']}: {row['verdict']}" for row in rows), _less(claim, context)]
    return _blank(claim, OVERALL, context) | {
        "verdict": joined("verdict"),
        "reason": "; ".join(filter(None, reasons)),
        "in_print": joined("in_print"),
        "source": "+".join(dict.fromkeys(row["source"] for row in rows if row["source"])),
    }


# --- files ------------------------------------------------------------------------------

_EXPLANATION = (
    f"A claim holds, or does not hold, if its test says so at the level {ALPHA:g}; what the "
    "results do not settle, and what was not run, cannot be told. Each claim is tested on its "
    "own. In print: what the same test says of the paper's own printed numbers."
)


def build_claims(
    claims: Sequence[Claim],
    results: Any,
    out_stem: str | os.PathLike[str],
    context: RunContext,
    sources: Mapping[str, str],
    *,
    budget: str,
    inputs: Sequence[str | os.PathLike[str]],
    remark: Remark = no_remark,
    method: str = "",
) -> list[Path]:
    """Writes ``<out_stem>.csv``, ``.html``, ``.md`` and ``.provenance.json``.

    Args:
        claims, results, sources, context, remark: as for :func:`judge_claims`.
        out_stem: path without suffix.
        budget: the attack and its budget in words.
        inputs: files behind the results.
        method: what a reader must know of all tests of this study, in sentences.

    Returns:
        The files written.

    Raises:
        InputError: a source is unknown, or an input does not exist.
    """
    artefacts.check_sources(sources)
    frame = judge_claims(claims, results, sources, context, remark)
    stem = Path(out_stem)
    files = [stem.parent / f"{stem.name}{suffix}" for suffix in (".csv", ".html", ".md")]
    n = f"{len(claims)} claims"
    explained = f"{_EXPLANATION} {method}"
    stated = artefacts.full_caption(explained, context, sources, n, budget)
    title = f"What {context.study} claims, and what this run says"
    io.write_table(files[0], frame)
    said = "the paper says" if all(claim.of_paper for claim in claims) else "the study says"
    io.write_text(files[1], _render_html(frame, title, stated, sources, said))
    io.write_text(files[2], _render_markdown(frame, title, stated, sources))
    provenance = artefacts.write_provenance(
        stem,
        files,
        title=title,
        caption=stated,
        context=context,
        sources=sources,
        n=n,
        budget=budget,
        inputs=inputs,
    )
    return [*files, provenance]


def _shown(row: Mapping[str, Any]) -> dict[str, str]:
    """Returns a row as it is printed below its claim."""
    return {
        "data set": row["dataset"] or "–",
        "n": f"{int(row['n']):,}" if row["n"] == row["n"] and row["n"] else "–",
        "verdict": row["verdict"],
        "in print": row["in_print"] or "–",
        "reason": row["reason"] or "–",
        "figures": row["figures"] or "–",
    }


def _by_claim(frame: pd.DataFrame) -> list[list[dict[str, Any]]]:
    plain = frame.astype(object).where(frame.notna(), None)
    return [part.to_dict("records") for _, part in plain.groupby("claim", sort=False)]


def _summary(frame: pd.DataFrame) -> str:
    """Returns how many claims have each verdict, as one sentence."""
    last = frame.groupby("claim", sort=False)["verdict"].last()
    counts = ", ".join(f"{name}: {int((last == name).sum())}" for name in VERDICTS)
    return f"{len(last)} claims. {counts}."


def _render_markdown(
    frame: pd.DataFrame, title: str, stated: str, sources: Mapping[str, str]
) -> str:
    import pandas as pd

    lines = [f"# {artefacts.markdown_escape(title)}", ""]
    if artefacts.is_synthetic(sources):
        lines += [f"**{artefacts.SYNTHETIC_NOTE}**", ""]
    lines += [_summary(frame), ""]
    for rows in _by_claim(frame):
        first = rows[0]
        lines += [
            f"## “{artefacts.markdown_escape(first['quote'])}”",
            "",
            f"{artefacts.markdown_escape(first['where'])}. Tested: "
            f"{artefacts.markdown_escape(first['tested'])}",
            "",
            artefacts.markdown_table(pd.DataFrame([_shown(row) for row in rows])),
            "",
        ]
    return "\n".join([*lines, artefacts.markdown_escape(stated)]) + "\n"


# As in the comparison: blue, orange and yellow are told apart by colour-blind readers.
CLASSES = {HOLDS: "within", DOES_NOT_HOLD: "outside", CANNOT_TELL: "cannot", "–": "notrun"}


def _render_html(
    frame: pd.DataFrame, title: str, stated: str, sources: Mapping[str, str], said: str
) -> str:
    by_claim = _by_claim(frame)
    sections = "\n".join(_html_claim(number, rows) for number, rows in enumerate(by_claim))
    overview = _html_overview([rows[-1] for rows in by_claim], said)
    banner = artefacts.SYNTHETIC_NOTE if artefacts.is_synthetic(sources) else ""
    body = f"<p>{html.escape(stated)}</p>\n<p><b>{_summary(frame)}</b></p>\n{overview}\n{sections}"
    return webpage.page(title, body, banner=banner)


def _html_overview(last: Sequence[Mapping[str, Any]], said: str) -> str:
    rows = []
    for number, row in enumerate(last):
        shown = _shown(row)
        verdicts = "".join(
            f'<td class="{CLASSES[shown[name]]}">{html.escape(shown[name])}</td>'
            for name in ("verdict", "in print")
        )
        rows.append(
            f'<tr><th scope="row"><a href="#claim{number}">“{html.escape(row["quote"])}”</a></th>'
            f"<td>{html.escape(row['where'])}</td>{verdicts}</tr>"
        )
    body = "\n".join(rows)
    return (
        f'<div class="scroll"><table class="sortable">\n<thead><tr><th scope="col">{said}'
        '</th><th scope="col">where</th><th scope="col">verdict</th><th scope="col">in print</th>'
        f"</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _html_claim(number: int, rows: Sequence[Mapping[str, Any]]) -> str:
    first = rows[0]
    shown = [_shown(row) for row in rows]
    head = "".join(f'<th scope="col">{name}</th>' for name in shown[0])
    body = "\n".join(_html_row(cells) for cells in shown)
    return (
        f'<h2 id="claim{number}">“{html.escape(first["quote"])}”</h2>\n'
        f"<p>{html.escape(first['where'])}. Tested: {html.escape(first['tested'])}</p>\n"
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _html_row(cells: Mapping[str, str]) -> str:
    parts = []
    for name, text in cells.items():
        text = html.escape(text)
        if name == "data set":
            parts.append(f'<th scope="row">{text}</th>')
        elif name in ("verdict", "in print"):
            parts.append(f'<td class="{CLASSES[cells[name]]}">{text}</td>')
        elif name == "figures":
            parts.append(f"<td>{text.replace('; ', '<br>')}</td>")
        else:
            parts.append(f"<td>{text}</td>")
    return f"<tr>{''.join(parts)}</tr>"
