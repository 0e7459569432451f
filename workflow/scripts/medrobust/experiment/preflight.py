"""What a run still needs, said before it starts: data, weights, credentials, disk, packages.

Nothing is downloaded: files are looked for by name and size, packages by their metadata. Only if
asked for, files at hand are read and held against their checksums, and the servers are asked
whether they give what is missing; without that it takes a second. A run on stand-ins
(``scale: smoke``) needs nothing. What is looked at are studies, or data sets by themselves.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.core.machine import conda_found, snakemake_command
from medrobust.core.words import counted
from medrobust.data.fetching.at_hand import needs_each, wrong_files
from medrobust.data.fetching.fetch import (
    Located,
    addresses,
    choose_source,
    describe_copies,
    enforced,
    locate,
    unpacked_bytes,
)
from medrobust.data.fetching.kaggle_source import (
    HOW_TO_SIGN_IN,
    check_access,
    explain_kaggle,
    find_credential,
    no_credential,
    other_ways,
    unusable_credentials,
)
from medrobust.data.fetching.layouts import has_official_name
from medrobust.data.fetching.transfer import (
    TransferSettings,
    TransientError,
    ask_http,
    bare_url,
    free_bytes,
    megabytes,
)
from medrobust.data.fetching.unused import empty_files, unused_files
from medrobust.data.prepared.raw_files import AGAIN, differing
from medrobust.data.registry import OWN, STANDIN, Content, DatasetEntry, Source, get_dataset
from medrobust.data.try_out import raw_names, try_out
from medrobust.experiment.config import check_points
from medrobust.experiment.gpus import gpu_state
from medrobust.experiment.initial_weights import Fate, NamedWeights

PACKAGES = (
    "adversarial-robustness-toolbox",
    "matplotlib",
    "numba",
    "numpy",
    "packaging",
    "pandas",
    "pyarrow",
    "pydantic",
    "pyyaml",
    "safetensors",
    "scikit-learn",
    "scipy",
    "seaborn",
    "torch",
)
"""What every study needs, by distribution name."""

PACKAGES_OF_FORM = {"volumes": (("monai", "nnunetv2"), "requirements-segmentation.txt")}
"""What studies on data of a form need beside them, and the file that names it."""

PACKAGES_OF_SOURCE = {
    "kaggle": ("kaggle", "requests"),
    "physionet": ("requests", "wfdb"),
    "http": ("requests",),
}

Level = Literal["ready", "download", "note", "action"]


@dataclass(frozen=True)
class PreflightItem:
    """One line of the preflight: what there is, or what is still needed.

    ``level``: ready (nothing to do), download (the run will fetch it), note (worth knowing),
    action (the study cannot run until somebody acts). ``study`` is empty where it concerns
    every study. ``size`` is the download in bytes.
    """

    level: Level
    study: str
    subject: str
    text: str
    remedy: str = ""
    size: int = 0


def preflight(
    studies: Mapping[str, Sequence[tuple[str, str]]],
    *,
    registry: Mapping[str, DatasetEntry],
    raw_dirs: Sequence[str | Path],
    download_dir: str | Path,
    results_dir: str | Path,
    allow_subset: bool = False,
    conda: bool | None = None,
    check_network: bool = False,
    check_files: bool = False,
    manifests: Mapping[str, Path] | None = None,
    free: Callable[[Path], int] = free_bytes,
    settings: TransferSettings | None = None,
    points: Mapping[tuple[str, str], int] | None = None,
    seed: int = 0,
    weights: Sequence[NamedWeights] = (),
) -> list[PreflightItem]:
    """Looks at what the selected studies need.

    Args:
        studies: study (or data set by itself) -> its (data set, source setting) pairs; the
            setting is "auto", "standin" or the name of a source.
        registry: the data registry.
        raw_dirs: folders with files put there by hand.
        download_dir: where downloads go.
        results_dir: where results go.
        allow_subset: whether an incomplete release is accepted.
        conda: whether rules run in conda environments that Snakemake makes (a package
            missing here is then no obstacle); None: whether conda is found.
        check_network: also ask the servers for the first missing file, and Kaggle whether the
            credential works.
        check_files: also read the files at hand, and compare them with their checksums.
        manifests: data set -> the raw.json that an earlier ``fetch`` may have left: files at hand
            must still be those that it tells of (by size; with ``check_files`` by SHA-256).
        free: free bytes of a folder's file system.
        settings: timeouts of the network check.
        points: (study, data set) -> the points that it attacks; held against the test rows of data
            of the user's own, which are read with ``check_files``.
        seed: root seed, of the split of these.
        weights: that models of the studies name.
    """
    inspection = _Inspection(
        registry,
        raw_dirs,
        download_dir,
        allow_subset,
        check_network,
        check_files,
        manifests or {},
        settings,
        points or {},
        seed,
        conda_found() if conda is None else conda,
    )
    items = [item for study, pairs in studies.items() for item in inspection.study(study, pairs)]
    items += [item for named in weights for item in inspection.weights(named)]
    items += _unused_raw_dirs(raw_dirs, download_dir)
    if _only_standins(studies) and not inspection.downloads:
        return items
    items += _packages(inspection.kinds, inspection.conda)
    items += _disk(inspection, Path(download_dir), Path(results_dir), free)
    return items


def runnable(items: Sequence[PreflightItem], studies: Sequence[str]) -> list[str]:
    """Returns the studies that nothing stands in the way of."""
    blocked = {item.study for item in items if item.level == "action"}
    return [] if "" in blocked else [study for study in studies if study not in blocked]


def format_preflight(
    items: Sequence[PreflightItem],
    studies: Sequence[str],
    *,
    command: str | None = None,
    settings: str = "",
    smoke: str = " --config scale=smoke",
    targets: Mapping[str, tuple[str, str]] | None = None,
) -> str:
    """Returns the items as text, ending with the command that can be run now.

    Args:
        items: of :func:`preflight`.
        studies: what they are about: studies, or data sets by themselves.
        command: how Snakemake is called; None: with conda where it is found.
        settings: what stands behind the targets.
        smoke: the same where stand-ins take the place of data.
        targets: the target of a data set, and that of its stand-in; a study is its own.
    """
    command = command or snakemake_command()
    real, standin = ({name: pair[i] for name, pair in (targets or {}).items()} for i in (0, 1))
    can_run = runnable(items, studies)
    lines: list[str] = []
    for study in studies:
        lines.append(f"{study}: {'can run' if study in can_run else 'cannot run yet'}")
        lines += [line for item in items if item.study == study for line in _lines(item)]
    general = [line for item in items if item.study == "" for line in _lines(item)]
    if general:
        lines += ["in general:", *general]
    lines.append("")
    if can_run:
        now = " ".join(real.get(name, name) for name in can_run)
        lines += ["Run now:", f"  {command} {now}{settings}"]
    if len(can_run) < len(studies):
        waiting = [study for study in studies if study not in can_run]
        lines += [
            "To try the pipeline without any data (stand-ins, minutes):",
            f"  {command} {' '.join(standin.get(name, name) for name in waiting)}{smoke}",
        ]
    return "\n".join(lines) + "\n"


def format_missing(items: Sequence[PreflightItem]) -> list[str]:
    """Returns a line on each item that somebody has to act on."""
    return [
        f"NOT THERE: {item.study or 'all studies'}: {item.subject}: {item.text}"
        f"{'; what to do: ' + item.remedy if item.remedy else ''}"
        for item in items
        if item.level == "action"
    ]


_MARKS: dict[Level, str] = {"ready": "ok", "download": "get", "note": "note", "action": "TO DO"}


def _lines(item: PreflightItem) -> list[str]:
    lines = [f"  {_MARKS[item.level]:>5}  {item.subject}: {item.text}"]
    return lines + ([f"         what to do: {item.remedy}"] if item.remedy else [])


class _Inspection:
    """Looks at data sets once each, and remembers what will be downloaded and built."""

    def __init__(
        self,
        registry: Mapping[str, DatasetEntry],
        raw_dirs: Sequence[str | Path],
        download_dir: str | Path,
        allow_subset: bool,
        check_network: bool,
        check_files: bool,
        manifests: Mapping[str, Path],
        settings: TransferSettings | None,
        points: Mapping[tuple[str, str], int],
        seed: int,
        conda: bool,
    ) -> None:
        self.registry, self.conda = registry, conda
        self.folders = [*dict.fromkeys([*map(Path, raw_dirs), Path(download_dir)])]
        self.allow_subset, self.check_network = allow_subset, check_network
        self.check_files, self.manifests = check_files, manifests
        self.settings = settings or TransferSettings(connect_timeout=10.0, read_timeout=10.0)
        self.kinds: set[str] = set()
        self.downloads: dict[tuple[str, str], int] = {}
        self.arrays: dict[str, int] = {}
        self._answers: dict[str, str | InputError] = {}
        self._wrong: dict[tuple[str, ...], list[str]] = {}
        self._weights: dict[str, str | InputError] = {}
        self._own: dict[tuple[str, str], InputError | dict[str, dict[str, int]]] = {}
        self.points, self.seed = points, seed

    def study(self, study: str, pairs: Sequence[tuple[str, str]]) -> Iterator[PreflightItem]:
        for name, setting in dict.fromkeys(pairs):
            if setting == STANDIN:
                yield PreflightItem("ready", study, f"{name}@{STANDIN}", "generated, needs no data")
                continue
            try:
                yield from self._dataset(study, name, setting)
            except InputError as error:
                yield _action(study, name, error)
        if study not in self.registry:  # a data set by itself is only prepared
            yield from self._further_packages(study, [name for name, _ in pairs])

    def _further_packages(self, study: str, names: Sequence[str]) -> Iterator[PreflightItem]:
        """Tells of packages that not every study needs, where they are not installed."""
        forms = {self.registry[name].form for name in names if name in self.registry}
        for form in sorted(forms & set(PACKAGES_OF_FORM)):
            wanted, file = PACKAGES_OF_FORM[form]
            if missing := [name for name in wanted if not _installed(name)]:
                yield _not_installed(study, missing, self.conda, file)

    def weights(self, named: NamedWeights) -> Iterator[PreflightItem]:
        """Tells what becomes of weights that models of a study name, and looks at the file."""
        study, subject, text = named.study, f"weights {named.name}", named.text
        if named.fate == "found":
            looked = self._looked_at(named, lambda: named.check(read=self.check_files))
            if isinstance(looked, InputError):
                yield _action(study, subject, looked)
                return
            text += f"; {looked}"
        level, size = _LEVELS[named.fate], named.download_bytes
        yield PreflightItem(level, study, subject, text, named.remedy, size)
        if named.fate != "download":
            return
        self.kinds.add("http")
        self.downloads["weights", named.name] = size
        if self.check_network:
            answer = self._looked_at(named, lambda: _ask_for_weights(named, self.settings))
            if isinstance(answer, InputError):
                yield _action(study, subject, answer)
            else:
                yield PreflightItem("ready", study, subject, answer)

    def _looked_at(self, named: NamedWeights, look: Callable[[], str]) -> str | InputError:
        """Looks once at a file that models of several studies begin with."""
        if named.name not in self._weights:
            try:
                self._weights[named.name] = look()
            except InputError as error:
                self._weights[named.name] = error
        return self._weights[named.name]

    def _dataset(self, study: str, name: str, setting: str) -> Iterator[PreflightItem]:
        dataset = get_dataset(self.registry, name)
        chosen, reason = setting, "chosen in the configuration"
        if setting == "auto":
            chosen, reason = choose_source(dataset, self.folders, allow_subset=self.allow_subset)
        source = dataset.source(chosen)
        located = locate(dataset, chosen, self.folders)
        subject = f"{name}@{chosen}"
        self.kinds.add(source.kind)
        self.arrays[name] = _array_bytes(dataset)
        if source.kind == "generated":
            yield PreflightItem("ready", study, subject, "generated, needs no data")
        elif wrong := self._wrong_files(located):
            text = f"there are files, but not the right ones:{_listed(wrong)}"
            yield PreflightItem("action", study, subject, text, _REPLACE)
        elif replaced := self._replaced(name):
            yield PreflightItem("action", study, subject, _OTHER + _listed(replaced), AGAIN)
        elif located.complete:
            yield PreflightItem("ready", study, subject, _at_hand(located))
            yield from self._readable(study, subject, dataset, located)
        elif self.allow_subset and located.anything and needs_each(source):
            text = f"{_at_hand(located)}{_lacking(located)}; none of them can be done without"
            yield PreflightItem("action", study, subject, text, _NO_PART)
        elif self.allow_subset and located.anything:
            yield PreflightItem("note", study, subject, _at_hand(located) + _lacking(located))
        else:
            yield from self._to_fetch(study, subject, dataset, source, located, reason)
        if located.missing:
            yield from self._not_used(study, subject, dataset, located)
        elif self.check_files and source.kind != "generated":
            for text in empty_files(dataset, self.folders, list(self.registry.values())):
                yield PreflightItem("note", study, subject, text)
        if self._prepared(name) and (replaced := self._replaced(name, prepared=True)):
            text = f"the arrays in {self.manifests[name].parent} are made of other files than are "
            text += f"there now, and stay as they are:{_listed(replaced)}"
            yield PreflightItem("note", study, subject, text, AGAIN)
        if located.passed_over:
            yield PreflightItem("note", study, subject, describe_copies(located))
        if not source.same_rows:
            text = "its rows are made anew from the raw files, not those of the published release"
            others = [name for name, other in dataset.sources.items() if other.same_rows]
            remedy = f"for the release's own rows: source {' or '.join(others)}" if others else ""
            yield PreflightItem("note", study, subject, text, remedy)

    def _readable(
        self, study: str, subject: str, dataset: DatasetEntry, located: Located
    ) -> Iterator[PreflightItem]:
        """Reads data of the user's own as preparing will: nobody has read them before."""
        if OWN not in dataset.sources or located.source is not dataset.sources[OWN]:
            return
        if not self.check_files:
            return
        key = ("own", dataset.name)
        if key not in self._own:
            try:
                self._own[key] = try_out(dataset, raw_names(located), seed=self.seed)
            except InputError as error:
                self._own[key] = error
            except ModuleNotFoundError as error:
                text = f"cannot be read here without {error.name}; preparing will say what it finds"
                yield PreflightItem("note", study, subject, text)
                return
        result = self._own[key]
        try:
            if isinstance(result, InputError):
                raise result
            test = sum(result["test"].values())
            points = self.points.get((study, dataset.name))
            if points is not None:
                check_points(dataset.name, points, test, f"study {study}")
        except InputError as error:
            yield _action(study, subject, error)
            return
        parts = "; ".join(
            f"{split} {', '.join(f'{name} {n:,}' for name, n in counts.items())}"
            for split, counts in result.items()
            if split != "all"
        )
        yield PreflightItem("ready", study, subject, f"can be read: {parts}")

    def _not_used(
        self, study: str, subject: str, dataset: DatasetEntry, located: Located
    ) -> Iterator[PreflightItem]:
        """Tells what lies there and counts for nothing, where something is missing."""
        at_hand = bool(located.files or any(located.trees.values()))
        if at_hand and located.archive is None and not self.allow_subset:
            text = _at_hand(located) + _lacking(located)
            # Of a few named files, such as images and their labels, each is needed.
            whole = needs_each(located.source)
            remedy = _BESIDE if whole else "`allow_subset: true` uses a part"
            yield PreflightItem("note", study, subject, text, remedy)
        for text in unused_files(dataset, self.folders, list(self.registry.values())):
            yield PreflightItem("note", study, subject, text)
        if any(source.account == "kaggle" for source in dataset.sources.values()):
            for text in unusable_credentials():
                yield PreflightItem("note", study, "Kaggle", text, HOW_TO_SIGN_IN)

    def _to_fetch(
        self,
        study: str,
        subject: str,
        dataset: DatasetEntry,
        source: Source,
        located: Located,
        reason: str,
    ) -> Iterator[PreflightItem]:
        if source.kind == "manual":
            names = dataset.folders(subject.split("@")[1])
            places = " and ".join(str(self.folders[-1] / name) for name in names)
            text = f"must be put into {places} by you{_lacking(located)}"
            yield PreflightItem("action", study, subject, text, source.instructions or "")
            return
        if source.kind == "kaggle" and find_credential() is None:
            error = no_credential(other_ways(dataset, source, self._place(dataset, subject)))
            yield _action(study, dataset.name, error)
            return
        size = still_to_download(located)
        self.downloads[dataset.raw, subject.split("@")[1]] = size + unpacked_bytes(source)
        amount = megabytes(size) if size else "of unknown size"
        text = f"will be downloaded from {_address(source)} ({amount}); {reason}"
        yield PreflightItem("download", study, subject, text, size=size)
        if self.check_network:
            answer = self._answer(dataset, located, self._place(dataset, subject))
            if isinstance(answer, InputError):
                yield _action(study, subject, answer)
            else:
                yield PreflightItem("ready", study, subject, answer)

    def _place(self, dataset: DatasetEntry, subject: str) -> Path:
        """Returns the folder for files of ``<data set>@<source>`` that are put there by hand."""
        return self.folders[-1] / dataset.folders(subject.split("@")[1])[0]

    def _answer(self, dataset: DatasetEntry, located: Located, place: Path) -> str | InputError:
        key = _wanted_urls(located)[0]
        if key not in self._answers:
            try:
                self._answers[key] = f"{_ask(dataset, located, place, self.settings)} answers"
            except InputError as error:
                self._answers[key] = error
        return self._answers[key]

    def _prepared(self, name: str) -> bool:
        return name in self.manifests and (self.manifests[name].parent / "card.json").is_file()

    def _replaced(self, name: str, *, prepared: bool = False) -> list[str]:
        """Returns how raw files differ from what is, or (not ``prepared``) would be, read."""
        manifest = self.manifests.get(name)
        if manifest is None or not manifest.is_file() or self._prepared(name) != prepared:
            return []
        key = ("recorded", str(manifest))
        if key not in self._wrong:
            records = io.read_json(manifest)["files"]
            self._wrong[key] = differing(records, read=self.check_files, processes=2)
        return self._wrong[key]

    def _wrong_files(self, located: Located) -> list[str]:
        """Looks once at files that several data sets share."""
        paths = [*located.files.values(), *(p for tree in located.trees.values() for p in tree)]
        key = (str(located.archive), *sorted(map(str, paths)))
        if key not in self._wrong:
            self._wrong[key] = wrong_files(
                located, read=self.check_files, allow_subset=self.allow_subset
            )
        return self._wrong[key]


#: How weights are told of, by what becomes of them.
_LEVELS: dict[Fate, Level] = {
    "found": "ready",
    "download": "download",
    "absent": "note",
    "off": "note",
    "generated": "ready",
}

_OTHER = "there are other files than those that were looked for before, recorded in raw.json:"
_NO_PART = (
    "put the missing files beside it, or set `allow_subset: false`: what is missing is then "
    "downloaded, or asked for"
)
_REPLACE = "replace them, or move them away: what is missing is then downloaded, or asked for"


def _listed(texts: Sequence[str]) -> str:
    first = [f"\n           {text}" for text in texts[:5]]
    return "".join(first) + (f"\n           and {len(texts) - 5} more" if len(texts) > 5 else "")


def _action(study: str, subject: str, error: InputError) -> PreflightItem:
    where = f" [{error.where}]" if error.where else ""
    return PreflightItem("action", study, subject, error.what + where, error.remedy)


def _at_hand(located: Located) -> str:
    paths = [*located.files.values(), *(p for tree in located.trees.values() for p in tree)]
    if located.missing and located.archive is not None:
        return f"found {located.archive} (it will be unpacked)"
    folders = sorted({path.parent.as_posix() for path in paths})
    more = f" and {counted(len(folders) - 1, 'more folder', 'more folders')}" if folders[1:] else ""
    return f"found {counted(len(paths), 'file', 'files')} in {folders[0]}{more}{_renamed(located)}"


def _renamed(located: Located) -> str:
    """Returns which files stand for others by name: packed, unpacked, or of another suffix."""
    names = [
        f"{path.name} as {name}"
        for name, path in located.files.items()
        if not has_official_name(path, name)
    ]
    for tree in located.source.trees:
        other = [p for p in located.trees[tree.pattern] if not p.match(tree.pattern)]
        names += [f"{len(other):,} like {other[0].name} as {tree.pattern}"] if other else []
    return f" ({', '.join(names)})" if names else ""


_BESIDE = "put the missing files beside it, or they are downloaded"


def _lacking(located: Located) -> str:
    first = ", ".join(located.missing[:3])
    more = f" and {len(located.missing) - 3} more" if len(located.missing) > 3 else ""
    return f"; missing: {first}{more}" if located.missing else ""


def _address(source: Source) -> str:
    """Returns the address of a source, for people."""
    if source.kind == "kaggle":
        return f"https://www.kaggle.com/datasets/{source.slug}"
    urls = [source.archive.url if source.archive else None, *(file.url for file in source.files)]
    return bare_url((source.base_urls or [url for url in urls if url])[0])


def _wanted(located: Located) -> Content:
    """Returns what is downloaded first: the archive, or the first missing file."""
    source = located.source
    if source.archive is not None and source.archive.delivered:
        return source.archive
    return next(file for file in source.files if file.name in located.missing)


def _wanted_urls(located: Located) -> list[str]:
    """Returns where it can be had: at the source's address and at its mirrors."""
    source = located.source
    if source.kind == "kaggle":
        return [_address(source)]
    return addresses(_wanted(located), source.base_urls)


def still_to_download(located: Located) -> int:
    """Returns the bytes left to download, as far as the registry knows them (0 if not)."""
    source = located.source
    total = source.download_bytes or 0
    if source.archive is not None and source.archive.delivered:
        return source.archive.bytes or source.archive.about_bytes or total
    names = set(located.missing)
    missing = [file for file in source.files if file.name in names]
    sizes = [file.bytes for file in missing]
    if None not in sizes:
        return sum(size or 0 for size in sizes)
    return total * len(missing) // max(len(source.files), 1)


def _array_bytes(dataset: DatasetEntry) -> int:
    """Returns the size of the arrays built from a data set (at most 4 bytes per number)."""
    official = dataset.counts.official
    parts = [official["all"]] if "all" in official else official.values()
    examples = sum(sum(split.values()) for split in parts)
    return 4 * examples * math.prod(dataset.shape)


def _only_standins(studies: Mapping[str, Sequence[tuple[str, str]]]) -> bool:
    return all(setting == STANDIN for pairs in studies.values() for _, setting in pairs)


def _unused_raw_dirs(
    raw_dirs: Sequence[str | Path], download_dir: str | Path
) -> Iterator[PreflightItem]:
    for raw_dir in raw_dirs:
        if Path(raw_dir) != Path(download_dir) and not Path(raw_dir).is_dir():
            remedy = "check `raw_dir` in config/config.yaml"
            yield PreflightItem("note", "", "raw_dir", f"{raw_dir} is not a folder", remedy)


def _packages(kinds: set[str], conda: bool) -> Iterator[PreflightItem]:
    wanted = {*PACKAGES, *(p for kind in kinds for p in PACKAGES_OF_SOURCE.get(kind, ()))}
    missing = sorted(name for name in wanted if not _installed(name))
    if not missing:
        yield PreflightItem("ready", "", "packages", f"all {len(wanted)} are installed")
    else:
        yield _not_installed("", missing, conda, "requirements.txt")


def _not_installed(study: str, missing: Sequence[str], conda: bool, file: str) -> PreflightItem:
    if conda:
        text = f"not installed here: {', '.join(missing)}; --use-conda installs them"
        return PreflightItem("note", study, "packages", text)
    text = f"not installed: {', '.join(missing)}"
    remedy = f"pip install -r {file} (or install conda and run with --use-conda)"
    return PreflightItem("action", study, "packages", text, remedy)


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _disk(
    inspection: _Inspection, download_dir: Path, results_dir: Path, free: Callable[[Path], int]
) -> Iterator[PreflightItem]:
    needs: dict[int, tuple[Path, int]] = {}
    parts = [
        (download_dir, sum(inspection.downloads.values())),
        (results_dir, sum(inspection.arrays.values())),
    ]
    for folder, needed in parts:
        device = _existing(folder).stat().st_dev
        first, before = needs.get(device, (folder, 0))
        needs[device] = (first, before + needed)
    for folder, needed in needs.values():
        available = free(folder)
        text = f"{megabytes(needed)} needed, {megabytes(available)} free in {folder}"
        if needed > available:
            remedy = "free some space, or move the folder to another disk and link to it"
            yield PreflightItem("action", "", "disk", text, remedy)
        else:
            yield PreflightItem("ready", "", "disk", text)


def no_gpu(studies: Sequence[str]) -> list[PreflightItem]:
    """Returns what stands in the way of studies that are to compute on a GPU: none that works."""
    if not studies:
        return []
    state = gpu_state()
    if state == "usable":
        return [PreflightItem("ready", study, "device", "a GPU is there") for study in studies]
    if state == "unknown":
        text = "PyTorch is not installed here, so whether there is a usable GPU cannot be told"
        return [PreflightItem("note", study, "device", text) for study in studies]
    text = "the configuration asks for a CUDA device and PyTorch finds none"
    remedy = "set `device: cpu` (or auto), or install a CUDA build of PyTorch; for a cluster, look "
    remedy += "on a machine that has a GPU"
    return [PreflightItem("action", study, "device", text, remedy) for study in studies]


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _ask(dataset: DatasetEntry, located: Located, place: Path, settings: TransferSettings) -> str:
    """Asks the source's servers, one after the other, and returns the first that gives the file.

    Raises:
        InputError: none is there, or they refuse (the first one's error).
    """
    errors: list[InputError] = []
    source = located.source
    for url in _wanted_urls(located):
        address = bare_url(url)
        try:
            if source.kind == "kaggle":
                _ask_kaggle(source, other_ways(dataset, source, place), settings)
            else:
                ask_http(url, enforced(_wanted(located), source), settings)
            return address
        except TransientError as trouble:
            archive = f"{source.archive.name} or its files" if source.archive else "the files"
            remedy = f"check the network, or put {archive} into {place} yourself"
            what = f"The source cannot be reached now: {trouble.what}."
            errors.append(InputError(what, where=address, remedy=remedy))
        except InputError as refusal:
            errors.append(refusal)
    raise errors[0]


def _ask_for_weights(named: NamedWeights, settings: TransferSettings) -> str:
    """Asks the server for weights, and says that it answers.

    Raises:
        InputError: it does not, or refuses.
    """
    url = named.entry.url or ""
    try:
        ask_http(url, Content(sha256=named.entry.sha256), settings)
    except TransientError as trouble:
        raise InputError(
            f"The weights cannot be downloaded now: {trouble.what}.",
            where=bare_url(url),
            remedy=f"check the network, put the file to {named.target} yourself, or run with "
            "`initial_weights=random`",
        ) from trouble
    return f"{bare_url(url)} answers"


def _ask_kaggle(source: Source, otherwise: str, settings: TransferSettings) -> None:
    credential = find_credential()
    if credential is None:
        raise no_credential(otherwise)
    explain = explain_kaggle(_address(source), credential, otherwise)
    check_access(source.slug or "", credential, explain, settings)
