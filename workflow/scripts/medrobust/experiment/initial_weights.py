"""What becomes of the pretrained weights that models name: said before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medrobust.data.fetching.transfer import bare_url, megabytes
from medrobust.data.registry import STANDIN
from medrobust.data.weights import (
    GUIDE,
    RANDOM,
    Weights,
    at_hand,
    check_sha256,
    download_target,
    places,
)
from medrobust.experiment.config import Resolved

#: At hand; to be downloaded; neither; not wanted by the user; not for generated data.
Fate = Literal["found", "download", "absent", "off", "generated"]


@dataclass(frozen=True)
class NamedWeights:
    """Weights that models of one study name.

    Attributes:
        study: name of the study.
        name: of the weights.
        entry: what config/weights.yaml or ``own_weights`` states of them.
        models: names of the models that are to begin with them.
        fate: what becomes of them.
        places: where the file is looked for.
        target: the file that a download would write.
        path: the file at hand, None where there is none.
    """

    study: str
    name: str
    entry: Weights
    models: tuple[str, ...]
    fate: Fate
    places: tuple[Path, ...]
    target: Path
    path: Path | None

    @property
    def fetched(self) -> bool:
        """Whether models begin with them: else these begin at random."""
        return begins_with(self.fate)

    @property
    def download_bytes(self) -> int:
        """The bytes to download, about; 0 where nothing is, or where nobody states a size."""
        return self.entry.about_bytes if self.fate == "download" else 0

    @property
    def text(self) -> str:
        """What becomes of them, in words."""
        models, where = ", ".join(self.models), " or ".join(map(str, self.places))
        if self.path is not None and self.fate == "found":
            return f"found {self.path} ({megabytes(self.path.stat().st_size)}), for {models}"
        if self.entry.url is not None and self.fate == "download":
            amount = megabytes(self.download_bytes) if self.download_bytes else "of unknown size"
            there = f"from {bare_url(self.entry.url)} ({amount}) to {self.target}"
            return f"will be downloaded {there}, for {models}"
        why = {
            "absent": f"not at hand (looked for {where})",
            "off": "not used (initial_weights=random)",
            "generated": "not used by generated data",
        }[self.fate]
        return f"{why}, RANDOM INIT: {models}"

    @property
    def remedy(self) -> str:
        """What to do for weights that are not at hand or not wanted, else ""."""
        if self.fate == "off":
            return "`initial_weights: auto` begins with them"
        if self.fate != "absent":
            return ""
        return f"{self.entry.instructions or 'put the file there'}: {GUIDE}"

    def check(self, *, read: bool) -> str:
        """Looks at the file at hand and returns in words how far.

        Args:
            read: read all of it, for its checksum.

        Raises:
            InputError: it is a pickle, or, where it is read, not the file whose checksum is stated.
        """
        # Here, as the module imports NumPy, which the graph does without.
        from medrobust.models.engine.pretrained import refuse_pickle

        assert self.path is not None
        refuse_pickle(self.path)
        if self.entry.sha256 is None:
            return "no SHA-256 is stated"
        if not read:
            return "its SHA-256 is compared when the run fetches it"
        check_sha256(self.name, self.entry, self.path)
        return "its SHA-256 is the stated one"


def fate_of(resolved: Resolved, entry: Weights, raw_dirs: Sequence[Path]) -> Fate:
    """Returns what becomes of weights in a run.

    Args:
        resolved: the checked configuration.
        entry: the weights.
        raw_dirs: folders that may hold raw files; downloads go to the last.
    """
    if resolved.scale.data == STANDIN:
        return "generated"
    if resolved.config.initial_weights == RANDOM:
        return "off"
    if at_hand(entry, raw_dirs) is not None:
        return "found"
    return "absent" if entry.url is None else "download"


def begins_with(fate: Fate) -> bool:
    """Tells whether models begin with weights of this fate."""
    return fate in ("found", "download")


def weights_of_studies(resolved: Resolved, raw_dirs: Sequence[Path]) -> list[NamedWeights]:
    """Returns the weights that the models of the selected studies name, study by study.

    None where a run only redraws committed records: nothing is trained then.
    """
    if resolved.config.records_from is not None:
        return []
    found = []
    for study, named in resolved.named_weights.items():
        if study not in resolved.studies:
            continue  # left out: its data cannot be had
        for name in dict.fromkeys(named.values()):
            entry = resolved.weights[name]
            models = tuple(model for model, one in named.items() if one == name)
            fate, path = fate_of(resolved, entry, raw_dirs), at_hand(entry, raw_dirs)
            where, target = tuple(places(entry, raw_dirs)), download_target(entry, raw_dirs[-1])
            found.append(NamedWeights(study, name, entry, models, fate, where, target, path))
    return found
