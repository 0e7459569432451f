"""Preflight of data sets by themselves: each reason why one cannot be had, told apart."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from medrobust.core.machine import snakemake_command
from medrobust.data.fetching.transfer import TransferSettings
from medrobust.data.registry import DatasetEntry, load_registry
from medrobust.experiment.preflight import PreflightItem, format_preflight, preflight, runnable

from tests.unit.experiment.test_preflight import TOKEN, no_credentials
from tests.unit.image_releases import busi, busis, covid_ct, kather, write_files, write_zip
from tests.unit.servers import Behaviour, KaggleBehaviour, file_server, kaggle_server

__all__ = ["no_credentials"]

REGISTRY = load_registry()
QUICK = TransferSettings(connect_timeout=5.0, read_timeout=1.0)


def look(tmp_path: Path, *names: str, setting: str = "auto", **options) -> list[PreflightItem]:
    """Findings on data sets by themselves; raw files lie in ``mine`` and ``raw``."""
    options = {"check_network": True, "check_files": True, "settings": QUICK} | options
    options.setdefault("registry", REGISTRY)
    return preflight(
        {name: [(name, setting)] for name in names},
        raw_dirs=[tmp_path / "mine"],
        download_dir=tmp_path / "raw",
        results_dir=tmp_path / "results",
        **options,
    )


def actions(findings: list[PreflightItem], name: str) -> str:
    """What stands in the way of a data set, as it is printed."""
    kept = [f for f in findings if f.study == name and f.level == "action"]
    return format_preflight(kept, [name]).split("Run now")[0] if kept else ""


def quick(tmp_path: Path, *names: str, **options) -> list[PreflightItem]:
    return look(tmp_path, *names, check_network=False, check_files=False, **options)


def test_every_data_set_is_ready_downloadable_or_told_what_to_do(tmp_path: Path) -> None:
    """Nothing is there, nobody is signed in."""
    findings = quick(tmp_path, *REGISTRY)
    can = set(runnable(findings, list(REGISTRY)))
    for name, entry in REGISTRY.items():
        kinds = {source.kind for source in entry.sources.values()}
        levels = [f.level for f in findings if f.study == name]
        if kinds <= {"kaggle"}:
            assert "no Kaggle credential" in actions(findings, name)
            assert "settings/api" in actions(findings, name)
        elif kinds <= {"manual"}:
            assert "must be put into" in actions(findings, name)
            assert str(tmp_path / "raw") in actions(findings, name)
            assert "cvprip" in actions(findings, name)
        elif kinds == {"generated"}:
            assert levels == ["ready"] and name in can
        else:
            assert "download" in levels and name in can
    assert {"busis", "bus", "covid_ct"}.isdisjoint(can) and {"kather", "msd_heart", "moons"} <= can
    assert not (tmp_path / "raw").exists()


def test_targets_are_files_of_the_data_sets(tmp_path: Path) -> None:
    findings = quick(tmp_path, "moons", "covid_ct")
    targets = {"moons": ("a/moons", "b/moons"), "covid_ct": ("a/ct", "b/ct")}
    text = format_preflight(findings, ["moons", "covid_ct"], targets=targets, settings=" --x")
    assert "moons: can run" in text and "covid_ct: cannot run yet" in text
    assert f"{snakemake_command()} a/moons --x\n" in text
    assert f"{snakemake_command()} b/ct --config scale=smoke\n" in text


# ------------------------------------------------------------------ servers


def at(entry: DatasetEntry, url: str, **archive: object) -> dict[str, DatasetEntry]:
    """The registry with the official source of a data set at another address."""
    source = entry.sources["official"]
    changes: dict[str, object] = {"base_url": url, "mirrors": []}
    if source.archive is not None:
        changes["archive"] = source.archive.model_copy(update=archive)
    local = source.model_copy(update=changes)
    return {entry.name: entry.model_copy(update={"sources": {"official": local}})}


@pytest.mark.parametrize(
    ("statuses", "says"),
    [
        ([403], "refuses access (403)"),
        ([401], "asks for a login (401)"),
        ([404], "does not have this file (404)"),
        ([429], "cannot be reached now: it answered 429"),
        ([503], "cannot be reached now: it answered 503"),
        ([], "bytes, not 258,098,431"),
    ],
)
def test_a_server_like_zenodo(tmp_path: Path, statuses: list[int], says: str) -> None:
    entry = REGISTRY["kather"]
    path = "/" + entry.sources["official"].archive.name
    behaviour = Behaviour({path: b"a page in place of the archive"}, statuses={path: statuses})
    with file_server(behaviour) as url:
        findings = look(tmp_path, "kather", registry=at(entry, url))
    assert says in actions(findings, "kather")
    assert [(method, asked) for method, asked, _ in behaviour.requests] == [("GET", path)]


@pytest.mark.parametrize("honour_range", [True, False])
def test_a_server_that_gives_the_archive(tmp_path: Path, honour_range: bool) -> None:
    """One byte is asked for; a server that sends all of it is hung up on."""
    entry = REGISTRY["msd_heart"]
    path = "/" + entry.sources["official"].archive.name
    behaviour = Behaviour({path: b"x" * 1000}, honour_range=honour_range)
    with file_server(behaviour) as url:
        findings = look(tmp_path, "msd_heart", registry=at(entry, url))
        assert actions(findings, "msd_heart") == ""
        assert any(f.text == f"{url}Task02_Heart.tar answers" for f in findings)
        wrong = look(tmp_path, "msd_heart", registry=at(entry, url, bytes=999))
    assert "has 1,000 bytes, not 999" in actions(wrong, "msd_heart")


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    entry = REGISTRY["svhn"]
    behaviour = Behaviour({"/train_32x32.mat": b"x"}, delay=2.0)
    with file_server(behaviour) as url:
        settings = TransferSettings(connect_timeout=5.0, read_timeout=0.2)
        findings = look(tmp_path, "svhn", registry=at(entry, url), settings=settings)
    assert "did not answer in time" in actions(findings, "svhn")
    findings = look(tmp_path, "svhn", registry=at(entry, url))
    assert "cannot be reached now: the server refused the connection" in actions(findings, "svhn")


@pytest.fixture
def at_kaggle(monkeypatch):
    environments = pytest.importorskip("kagglesdk.kaggle_env")
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")

    def point_to(url: str) -> None:
        monkeypatch.setitem(environments._env_to_endpoint, environments.KaggleEnv.TEST, url)

    return point_to


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, ""),
        ((401, "no"), "does not accept the credential from KAGGLE_API_TOKEN (401)"),
        ((403, "terms"), "its terms are not accepted"),
        ((404, "gone"), "no such data set"),
        ((429, "slow down"), "Kaggle answered 429"),
    ],
)
def test_kaggle_tells_credential_terms_and_limits_apart(
    tmp_path: Path, at_kaggle, answer: tuple[int, str] | None, says: str
) -> None:
    owner, name = REGISTRY["covid_ct"].sources["kaggle"].slug.split("/")
    behaviour = KaggleBehaviour(
        owner=owner, name=name, token=TOKEN, answers=[answer] if answer else []
    )
    with kaggle_server(behaviour) as url:
        at_kaggle(url)
        findings = look(tmp_path, "covid_ct", "covid_ct_unique")
    text = actions(findings, "covid_ct")
    assert says in text and (says == "") == (text == "")
    # Asked once for both, and the page to accept terms at is named.
    assert len(behaviour.requests) == 1
    if answer and answer[0] == 403:
        assert "kaggle.com/datasets/plameneduardo/sarscov2-ctscan-dataset, accept" in text
    assert TOKEN not in format_preflight(findings, ["covid_ct"])


def test_kaggle_out_of_reach(tmp_path: Path, at_kaggle) -> None:
    with kaggle_server(KaggleBehaviour()) as url:
        pass
    at_kaggle(url)
    assert "could not be reached" in actions(look(tmp_path, "covid_ct"), "covid_ct")


# ------------------------------------------------------------------ the disk


def test_the_room_is_that_of_the_archive_and_of_what_is_in_it(tmp_path: Path, monkeypatch) -> None:
    """Variants share the download; the X-rays' archive is twice as large as its files."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    names = ("chest_xray", "chest_xray_official")
    arrays = 4 * 3 * 96 * 96 * (3166 + 5856)
    needed = 2_500_000_000 + 1_240_000_000 + arrays
    for free, can in ((needed - 1, []), (needed, list(names))):
        findings = quick(tmp_path, *names, free=lambda _, free=free: free)
        assert runnable(findings, names) == can
    (download, _) = [f for f in findings if f.level == "download"]
    assert "2,500.0 MB" in download.text


# ------------------------------------------------------------------ files at hand


def fashion(tmp_path: Path, **contents: bytes) -> str:
    """What is said of the four files, all of the right size unless told otherwise."""
    for file in REGISTRY["fashion_mnist"].sources["official"].files:
        path = tmp_path / "mine/fashion_mnist" / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = contents.get(file.name.split("-")[0] + file.name.split("-")[1])
        with open(path, "wb") as out:
            out.write(content or b"")
            if content is None:
                out.truncate(file.bytes)
    return actions(look(tmp_path, "fashion_mnist", check_network=False), "fashion_mnist")


def test_files_of_another_size_or_content(tmp_path: Path) -> None:
    said = fashion(tmp_path, t10klabels=b"short")
    assert "t10k-labels-idx1-ubyte.gz: bytes: expected 5148, found 5" in said
    assert "move them away" in said
    # Sizes are enough for a quick look; the others' content is wrong too.
    (found,) = [f for f in quick(tmp_path, "fashion_mnist") if f.level == "action"]
    assert found.text.count("\n") == 1 and "has 5 bytes, not 5,148" in found.text
    assert said.count("md5: expected") == 3


def test_an_empty_file_counts_as_missing_and_that_is_said(tmp_path: Path) -> None:
    fashion(tmp_path, t10klabels=b"")
    findings = quick(tmp_path, "fashion_mnist")
    (note,) = [f for f in findings if f.level == "note" and "0 bytes" in f.text]
    assert "t10k-labels-idx1-ubyte.gz is not used: it is empty (0 bytes)" in note.text
    (download,) = [f for f in findings if f.level == "download"]
    assert download.size == 5148


def test_an_empty_image_among_others(tmp_path: Path) -> None:
    write_files(tmp_path / "mine/sarscov2_ct", covid_ct() | {"COVID/Covid (99).png": b""})
    findings = quick(tmp_path, "covid_ct", allow_subset=True)
    assert "Covid (99).png: it is empty" in actions(findings, "covid_ct")


def dropped(tmp_path: Path, name: str, file: str, content: bytes, **options) -> str:
    folder = tmp_path / "mine" / REGISTRY[name].raw
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(content)
    before = sorted((tmp_path / "mine").rglob("*"))
    said = actions(look(tmp_path, name, check_network=False, **options), name)
    assert sorted((tmp_path / "mine").rglob("*")) == before
    return said


def test_archives_that_are_not_the_right_ones(tmp_path: Path) -> None:
    tiles = write_zip(tmp_path / "t.zip", kather(2)).read_bytes()
    slices = write_zip(tmp_path / "s.zip", covid_ct()).read_bytes()
    official = "Kather_texture_2016_image_tiles_5000.zip"
    assert "a web page" in dropped(tmp_path, "kather", official, b"<html>sign in</html>")
    assert "damaged" in dropped(tmp_path, "kather", official, tiles[:-30])
    # All that browsers get from Kaggle is called archive.zip.
    assert "none of the files" in dropped(tmp_path, "busi", "archive.zip", slices)
    assert "it lacks" in dropped(tmp_path, "kather", official, tiles)
    assert "06_MUCOSA/*.tif (2 of 625)" in dropped(tmp_path, "kather", official, tiles)
    assert dropped(tmp_path, "kather", official, tiles, allow_subset=True) == ""


def test_an_archive_with_all_names_is_held_against_its_checksum(tmp_path: Path) -> None:
    content = kather(2)
    entry = REGISTRY["kather"]
    source = entry.sources["official"]
    counted = {folder.split("/")[0] for folder in content}
    trees = [t.model_copy(update={"count": 2}) for t in source.trees if t.pattern[:-6] in counted]
    made = write_zip(tmp_path / "t.zip", content).read_bytes()
    for sha256, right in (("0" * 64, False), (hashlib.sha256(made).hexdigest(), True)):
        archive = source.archive.model_copy(update={"bytes": len(made), "sha256": sha256})
        local = source.model_copy(update={"archive": archive, "trees": trees})
        registry = {"kather": entry.model_copy(update={"sources": {"official": local}})}
        said = dropped(tmp_path, "kather", archive.name, made, registry=registry)
        assert ("sha256: expected 000" in said) == (not right) == bool(said)


def test_one_archive_is_not_both_releases_of_ultrasound(tmp_path: Path) -> None:
    """BUSI is there as a zip, BUSIS is not: what is still to be done is BUSIS."""
    made = write_zip(tmp_path / "b.zip", busi(437, 210)).read_bytes()
    said = dropped(tmp_path, "bus", "Dataset_BUSI.zip", made)
    assert "benign/*.* (0 of 306)" in said and "cvprip" in said
    assert f"{tmp_path}/raw/busi and {tmp_path}/raw/busis" in said
    write_files(tmp_path / "mine/busis", busis(306, 256))
    assert dropped(tmp_path, "bus", "Dataset_BUSI.zip", made) == ""


def test_several_copies_are_told(tmp_path: Path) -> None:
    write_files(tmp_path / "mine/busi/one", busi(3, 3))
    write_files(tmp_path / "mine/busi/two", busi(5, 5))
    (note,) = [f for f in quick(tmp_path, "busi", allow_subset=True) if "one copy" in f.text]
    assert note.level == "note" and "mine/busi/two is read" in note.text
