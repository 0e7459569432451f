"""Names of targets: which there are, and what to say of one that there is not.

Snakemake takes a name that it does not know for a file and says "No rule to produce fig2". The rule
`no_such_target` takes such names instead, and says which name is near, or how to select what makes
it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator

from medrobust.core.errors import InputError, nearest
from medrobust.core.schema import unknown_name
from medrobust.experiment.catalogue import artefacts_of
from medrobust.experiment.config import TARGETS, Config, study_names
from medrobust.experiment.graph import Graph
from medrobust.experiment.sources import changed_settings

Rename = Callable[[str], str]


def title(study: str, name: str) -> str:
    """Returns what a list of targets says of an artefact: label, what it shows, its short name."""
    artefact = artefacts_of(study)[name]
    short = artefact.alias if artefact.alias != f"{study}_{name}" else ""
    return f"{artefact.label}: {artefact.what}" + (f"; short: {short}" if short else "")


def unknown_target(
    target: str, graph: Graph, *, renamed: Rename = str, alone: bool = True
) -> InputError:
    """Returns what to say of a target that no rule makes.

    Args:
        target: the name that was asked for.
        graph: of the configuration.
        renamed: gives the name that a rule has where this is a module of another workflow
            (``use rule * from medrobust as medrobust_*``).
        alone: no other workflow has settings of its own here.
    """
    return _Names(graph, renamed, alone).explain(target)


def meant_for_us(graph: Graph, *, renamed: Rename = str, alone: bool = True) -> str:
    """Returns a pattern of the targets that :func:`unknown_target` is to explain.

    Files (with a folder or a suffix) are left to Snakemake. Where another workflow has targets of
    its own, only names match that are certainly meant for this one.

    Args:
        graph, renamed, alone: as for :func:`unknown_target`.
    """
    if alone:
        return r"\w+=.*|[^/.]+"
    known = _Names(graph, renamed, alone)
    exact = {name for study in known.studies for pair in known.of(study) for name in pair}
    numbered = [
        re.escape(renamed(f"{study}_")) + r"(?:fig|figure|tab|table)[a-z]?\d+"
        for study in known.studies
    ]
    return "|".join([*map(re.escape, sorted(exact)), *numbered])


class _Names:
    """What can be asked for, under the configuration and under others."""

    def __init__(self, graph: Graph, renamed: Rename, alone: bool) -> None:
        self.graph, self.renamed, self.alone = graph, renamed, alone
        resolved = graph.resolved
        known = [*resolved.studies, *study_names(resolved.root, resolved.here)]
        self.studies = list(dict.fromkeys(known))

    def explain(self, target: str) -> InputError:
        """Returns what to say of a target that no rule makes."""
        for study in self.studies:
            for name, known in self.of(study):
                if target.lower() in (name.lower(), known.lower()):
                    return self._there_elsewhere(target, study, name)
        for study in self.studies:
            if target.startswith(self.renamed(f"{study}_")):
                return self._not_of(target, study)
        return self._anything(target)

    def of(self, study: str) -> Iterator[tuple[str, str]]:
        """Yields the names of a study and its artefacts: what to ask for, and the rule's own."""
        yield self.renamed(study), self.renamed(study)
        for name, artefact in artefacts_of(study).items():
            own = f"{study}_{name}"
            yield self.renamed(artefact.alias or own), self.renamed(own)

    def _made(self, study: str) -> list[str]:
        artefacts = artefacts_of(study)
        return [
            self.renamed(artefacts[name].alias or f"{study}_{name}")
            for name in self.graph.study(study).artefacts
        ]

    def _there_elsewhere(self, target: str, study: str, name: str) -> InputError:
        if study in self.graph.resolved.studies:
            return self._not_of(target, study, name)
        if study in self.graph.skipped:
            return InputError(
                f"{target!r} is not made: the data of {study} cannot be had, and it is left out.",
                where="config/config.yaml, key on_missing_data: skip",
                remedy="see what is missing: snakemake --cores 1 preflight",
            )
        return InputError(
            f"{target!r} is made by the study {study}, which is not selected.",
            where=f"config/config.yaml, key studies: {', '.join(self.graph.resolved.studies)}",
            remedy=self._selecting(study, name),
        )

    def _selecting(self, study: str, name: str) -> str:
        if not self.alone:
            return f"add {study} to `studies` in the configuration of the module."
        config = self.graph.resolved.config
        if config.records_from is not None:
            return f"give the records of {study} as records_from, or none."
        settings = changed_settings(config.model_copy(update={"studies": [study]}))
        return f"select it: snakemake --cores 2 {name}{settings}"

    def _not_of(self, target: str, study: str, exact: str = "") -> InputError:
        if study not in self.graph.resolved.studies:
            return unknown_name(
                "target",
                target,
                [name for name, _ in self.of(study)],
                where=f"study {study}, which is not selected either",
            )
        made = self._made(study)
        if exact and exact in made:  # but for small and capital letters
            return InputError(f"Unknown target {target!r}. Did you mean {exact!r}?")
        if exact:
            return InputError(
                f"{target!r} is not among what the study {study} makes.",
                where=f"{self.graph.resolved.files[study]}, key artefacts",
                remedy=f"add it there. The study makes: {', '.join(made)}.",
            )
        return unknown_name("target", target, made, where=f"study {study}")

    def _anything(self, target: str) -> InputError:
        if match := re.match(r"(\w+)=", target):
            key = match.group(1)
            known = key if key in Config.model_fields else nearest(key, Config.model_fields)
            return InputError(
                f"{target!r} is no target" + (", but a setting." if known == key else "."),
                where="command line",
                remedy=f"settings stand behind --config, after all targets: --config {target}"
                + ("" if known in (key, None) else f". Did you mean {known!r}?"),
            )
        if target in self.graph.registry:
            return InputError(
                f"{target!r} is a data set, not a target.",
                where="command line",
                remedy="prepare it: snakemake --cores 2 data --config "
                f"also_prepare={target}; the target `data` has those of the selected studies.",
            )
        every = [name for study in self.studies for pair in self.of(study) for name in pair]
        ends = [name for name in dict.fromkeys(every) if name.endswith(f"_{target}")]
        if ends:
            return InputError(
                f"Unknown target {target!r}: names begin with the study.",
                where="command line",
                remedy=f"ask for {' or '.join(ends)}.",
            )
        close = difflib.get_close_matches(target, {*every, *TARGETS}, n=3, cutoff=0.6)
        return InputError(
            f"Unknown target {target!r}."
            + (f" Did you mean {' or '.join(map(repr, close))}?" if close else ""),
            where="command line",
            remedy=f"targets: {', '.join([*sorted(TARGETS), *self.graph.resolved.studies])}, and "
            "each table and figure; `snakemake --list-target-rules` shows all, with titles.",
        )
