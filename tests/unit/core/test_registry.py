"""The data registry: strictness, consistency, and the facts it states."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from medrobust.core.errors import InputError
from medrobust.core.yaml_files import read_yaml
from medrobust.data.registry import (
    default_registry_path,
    get_dataset,
    load_registry,
    read_checksums,
)

ENTRY = {
    "title": "Two classes",
    "adapter": "mitbih",
    "raw": "two",
    "classes": ["a", "b"],
    "shape": [4],
    "input_range": [0.0, 1.0],
    "counts": {"official": {"train": {"a": 3, "b": 2}}},
    "licence": "CC0",
    "citation": ["Nobody, 2000."],
    "sources": {
        "web": {
            "kind": "http",
            "base_url": "https://example.org/two/",
            "files": [{"name": "two.csv", "bytes": 10}],
        }
    },
}


def _write(tmp_path: Path, change=lambda entry: None) -> Path:
    entry = copy.deepcopy(ENTRY)
    change(entry)
    path = tmp_path / "config" / "datasets.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump({"datasets": {"two": entry}}, sort_keys=False))
    return path


def test_the_projects_registry_is_valid_and_consistent() -> None:
    registry = load_registry()
    assert {"mitbih", "mitbih_ns", "mitbih_patient", "ptbdb", "ptbdb_8020"} <= set(registry)
    for dataset in registry.values():
        assert dataset.options.get("classes", dataset.classes) == dataset.classes
        for source in dataset.sources.values():
            assert len({f.name for f in source.files}) == len(source.files)


def test_official_counts_agree_with_each_other_and_with_the_release() -> None:
    registry = load_registry()
    official = registry["mitbih"].counts.official
    paper = registry["mitbih"].counts.paper["signnet"]
    assert sum(official["train"].values()) == paper["train"]["all"] == 87554
    assert sum(official["test"].values()) == paper["test"]["all"] == 21892
    totals = registry["mitbih_patient"].counts.official["all"]
    assert totals == {c: official["train"][c] + official["test"][c] for c in totals}
    assert sum(totals.values()) == 109446
    narrow = registry["mitbih_ns"].counts.official
    assert narrow == {s: {c: official[s][c] for c in "NS"} for s in ("train", "test")}


def test_physionet_source_lists_every_file_of_the_48_records() -> None:
    files = load_registry()["mitbih"].sources["physionet"].files
    records = {f.name[:3] for f in files}
    assert len(files) == 144 and len(records) == 48
    assert {f.name for f in files} == {f"{r}.{s}" for r in records for s in ("atr", "dat", "hea")}
    assert all(f.sha256 for f in files)


def test_the_three_entries_share_raw_folder_and_adapter() -> None:
    registry = load_registry()
    entries = [registry[name] for name in ("mitbih", "mitbih_ns", "mitbih_patient")]
    assert {(e.raw, e.adapter) for e in entries} == {("mitbih", "mitbih")}
    assert list(registry["mitbih_patient"].sources) == ["physionet"]
    assert registry["mitbih"].account_free() == ["physionet"]


def test_the_ptb_entries_differ_in_their_division_only() -> None:
    registry = load_registry()
    one, other = registry["ptbdb"], registry["ptbdb_8020"]
    assert one.sources == other.sources and one.raw == other.raw == "ptbdb"
    assert one.account_free() == ["physionet"]
    totals = [
        {c: sum(split[c] for split in entry.counts.official.values()) for c in entry.classes}
        for entry in (one, other)
    ]
    assert totals == [{"normal": 4046, "abnormal": 10506}] * 2
    # The rows cut from the records are others: the counts of the release are not theirs.
    assert {name: source.same_rows for name, source in one.sources.items()} == {
        "kaggle": True,
        "physionet": False,
    }
    assert one.sources["physionet"].listing.count == 2 * 549


def test_the_kaggle_sources_share_one_archive_and_its_folders() -> None:
    registry = load_registry()
    kaggle = [registry[name].sources["kaggle"] for name in ("mitbih", "mitbih_ns", "ptbdb")]
    assert {source.slug for source in kaggle} == {"shayanfazeli/heartbeat"}
    assert all(source.archive == kaggle[0].archive and source.archive.kept for source in kaggle)
    for name in ("mitbih", "ptbdb"):
        assert registry[name].folders("kaggle") == ["mitbih", "ptbdb"]
        assert registry[name].folders("physionet") == [name]


def test_a_valid_entry_loads(tmp_path: Path) -> None:
    entry = load_registry(_write(tmp_path))["two"]
    assert (entry.name, entry.source("web").files[0].name) == ("two", "two.csv")
    assert entry.source("web").download_bytes == 10


def _set(*path, value):
    def change(entry):
        for key in path[:-1]:
            entry = entry[key]
        entry[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_set("licens", value="x"), ["two.licens", "Did you mean 'licence'"]),
        (_set("sources", "web", "file", value=[]), ["sources.web.file", "Did you mean 'files'"]),
        (
            _set("sources", "web", "kind", value="htp"),
            ["sources.web.kind", "'http'", "found 'htp'"],
        ),
        (_set("sources", "web", "files", 0, "sha255", value="0"), ["files.0.sha255", "sha256"]),
        (_set("sources", "web", "files", 0, "sha256", value="zz"), ["files.0.sha256"]),
        (_set("sources", "web", "files", 0, "name", value="../x"), ["files.0.name", "relative"]),
        (_set("sources", "web", "files", 0, "name", value="/etc/x"), ["files.0.name", "relative"]),
        (_set("sources", "web", "base_url", value="https://e.org/x"), ["end with a slash"]),
        (_set("sources", "web", "base_url", value="ftp://e.org/"), ["sources.web.base_url"]),
        (_set("sources", "web", "mirrors", value=["https://e.org/x"]), ["end with a slash"]),
        (
            _set(
                "sources",
                "web",
                value={
                    "kind": "http",
                    "mirrors": ["https://e.org/"],
                    "files": [{"name": "x", "url": "https://e.org/x"}],
                },
            ),
            ["mirrors stand beside base_url"],
        ),
        (_set("sources", "web", "files", value=[]), ["needs files"]),
        (_set("sources", "standin", value=ENTRY["sources"]["web"]), ["cannot be called"]),
        (_set("counts", "official", "train", "c", value=3), ["unknown class 'c'"]),
        (_set("counts", "official", "tran", value={"a": 3}), ["counts.official.tran"]),
        (_set("classes", value=["a", "a"]), ["same name"]),
        (_set("input_range", value=[1.0, 0.0]), ["low < high"]),
        (_set("shape", value=[0]), ["shape.0"]),
        (_set("name", value="other"), ["remove `name`"]),
        (
            _set("sources", "k", value={"kind": "kaggle", "files": [{"name": "x"}]}),
            ["slug", "archive", "terms"],
        ),
        (
            _set("sources", "m", value={"kind": "manual", "files": [{"name": "x"}]}),
            ["instructions"],
        ),
    ],
)
def test_mistakes_are_named_with_file_and_key(tmp_path: Path, change, expected) -> None:
    path = _write(tmp_path, change)
    with pytest.raises(InputError) as caught:
        load_registry(path)
    for text in [str(path), *expected]:
        assert text in str(caught.value)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path, lambda entry: entry.pop("licence"))
    with pytest.raises(InputError, match=r"two\.licence: this key is required"):
        load_registry(path)


def test_unknown_names_come_with_the_nearest(tmp_path: Path) -> None:
    registry = load_registry()
    with pytest.raises(InputError, match="Did you mean 'mitbih_ns'"):
        get_dataset(registry, "mitbih_sn")
    with pytest.raises(InputError, match="Did you mean 'physionet'"):
        registry["mitbih"].source("physinet")


def test_repeated_keys_broken_yaml_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\nb: {c: 1, c: 2}\n")
    with pytest.raises(InputError, match=r"'c' is given twice"):
        read_yaml(path)
    path.write_text("a: [1\n")
    with pytest.raises(InputError, match="not valid YAML"):
        read_yaml(path)
    path.write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(InputError, match="not valid YAML"):
        read_yaml(path)
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_yaml(path)
    with pytest.raises(InputError, match="does not exist"):
        load_registry(tmp_path / "none.yaml")
    path.write_text("")
    with pytest.raises(InputError, match="Expected keys"):
        load_registry(path)


def test_anchors_and_merges_are_allowed(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")
    assert read_yaml(path)["b"] == {"x": 1, "y": 3}


@pytest.mark.parametrize(
    "text", ["", "abc  x\n", "0" * 64 + "  ../x\n", ("0" * 64 + "  x\n") * 2, "0" * 64 + "\n"]
)
def test_wrong_checksum_lists_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.sha256"
    path.write_text(text)
    with pytest.raises(InputError):
        read_checksums(path)


def test_other_kinds_of_data_sets_fit_in(tmp_path: Path) -> None:
    """Archives with many images, a request form, and generated data need no new code."""

    def change(entry):
        entry["sources"] = {
            "web": {
                "kind": "http",
                "archive": {"name": "t.zip", "url": "https://e.org/t.zip", "md5": "0" * 32},
                "trees": [{"pattern": "tiles/*/*.png", "count": 5000}],
            },
            "form": {
                "kind": "manual",
                "instructions": "fill in the form",
                "trees": [{"pattern": "*/*.png", "count": 3}],
            },
            "made": {"kind": "generated"},
        }

    dataset = load_registry(_write(tmp_path, change))["two"]
    assert dataset.account_free() == ["web", "made"]
    assert dataset.source("web").download_bytes is None


def test_reading_the_registry_is_cheap() -> None:
    code = (
        "import sys; from medrobust.data.registry import load_registry; load_registry();"
        "from medrobust.data.fetching.fetch import choose_source;"
        "print([m for m in ('numpy','pandas','torch','requests','kaggle','kagglesdk')"
        " if m in sys.modules])"
    )
    scripts = default_registry_path().parents[1] / "workflow" / "scripts"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=scripts, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# What each entry must state, and where that cannot be stated.
NO_PAPER_COUNTS = {
    # Variants that the papers do not have, and two sets whose numbers ima does not give.
    "mitbih_ns", "mitbih_patient", "fashion_mnist", "svhn", "chest_xray_patient",
    "chest_xray_official", "chest_xray_unique", "covid_ct_unique", "kather_slide", "kather_8",
    "busi", "busi_unique", "busi_together", "busis", "bus_together",
    "busi_64", "busi_64_together",
}  # fmt: skip
COUNTED_WHEN_READ = {"chest_xray_unique", "covid_ct_unique", "busi_unique"}
NO_CHECKSUM = {"chest_xray", "sarscov2_ct", "busi", "busis"}
"""Raw folders of releases for which nobody publishes one: counts decide, hashes are recorded."""


def test_every_entry_is_complete() -> None:
    """Source, terms, size, checksum, counts of the release and of the papers, licence, citation."""
    registry = load_registry()
    issue = {
        "chest_xray", "kather", "mitbih", "mitbih_ns", "ptbdb", "busi", "busis", "bus", "covid_ct",
        "moons", "fashion_mnist", "svhn", "msd_heart", "msd_hippocampus", "msd_prostate",
    }  # fmt: skip
    assert issue <= set(registry)
    assert {name for name, e in registry.items() if not e.counts.paper} == NO_PAPER_COUNTS
    assert {name for name, e in registry.items() if not e.counts.official} == COUNTED_WHEN_READ
    for name, entry in registry.items():
        assert len(entry.licence) > 2 and entry.citation, name
        assert all(re.search(r"\b(19|20)\d\d\b", text) for text in entry.citation), name
        for source in entry.sources.values():
            if source.kind == "generated":
                continue
            assert source.terms, name
            if source.kind != "manual":
                assert source.download_bytes, name
            if source.kind == "physionet":
                assert source.version == "1.0.0"
            contents = [*source.files, *([source.archive] if source.archive else [])]
            known = source.listing or any(c.sha256 or c.md5 for c in contents)
            assert known or entry.raw in NO_CHECKSUM, name


def test_documentation_has_every_data_set() -> None:
    """Where to get it, what to put where, terms, citation."""
    docs = default_registry_path().parents[1] / "docs"
    text = (docs / "data.md").read_text(encoding="utf-8")
    details = "".join(path.read_text(encoding="utf-8") for path in docs.glob("data*.md"))
    for name, entry in load_registry().items():
        assert f"`{name}`" in details, name
        for citation in entry.citation:
            authors = citation.split()[0].rstrip(",")
            year = re.findall(r"\b(?:19|20)\d\d\b", citation)[0]
            cited = [line for line in details.split("\n- ") if line.startswith(authors)]
            assert any(year in line[:400] for line in cited), (name, citation)
        for source in entry.sources.values():
            if source.kind == "generated":
                continue
            for folder in source.folders or [entry.raw]:
                assert f"{folder}/" in text, (name, folder)
            if source.archive is not None and source.archive.delivered:
                assert any(n in details for n in [source.archive.name, *source.archive.other_names])
            place = source.slug or (source.terms or "").split("//")[1].strip("/")
            assert place in details, (name, place)
