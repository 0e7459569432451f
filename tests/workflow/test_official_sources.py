"""From an official source to verified arrays, through the workflow and the real client libraries.

Each server on localhost holds a release with the official names and numbers of files; pictures and
volumes are small. Only addresses and checksums of the registry are changed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from tests.unit import image_releases, msd_files
from tests.unit.servers import Behaviour, KaggleBehaviour, file_server, kaggle_server
from tests.workflow import zenodo
from tests.workflow.conftest import Project
from tests.workflow.zenodo import change, zipped

pytestmark = pytest.mark.workflow

TOKEN = "KGAT_workflow-secret"
BLOCK = 1 << 15


def result(project: Project, folder: str) -> tuple[dict, dict, Path]:
    """Returns the manifest, the card and the folder of a prepared data set."""
    path = project.folder / "results/data" / folder
    raw, card = (json.loads((path / name).read_text()) for name in ("raw.json", "card.json"))
    return raw, card, path


# ------------------------------------------------------------------ Zenodo


@pytest.fixture(scope="module")
def tiles() -> bytes:
    return zenodo.all_tiles()


def test_tiles_from_zenodo(make_project, tiles):
    """A rate limit, then a cut connection, then the rest; all three variants of one download."""
    project, path = make_project(), f"/{zenodo.KATHER}.zip"
    behaviour = Behaviour({path: tiles}, statuses={path: [429]}, cuts={path: [20 * BLOCK]})
    targets = [f"results/data/{name}@official/card.json" for name in ("kather", "kather_slide")]
    with file_server(behaviour) as url:
        zenodo.at_zenodo(project, url, tiles)
        project.snakemake(*targets)
    assert [headers.get("Range") for headers in behaviour.headers_of(path)] == [
        None,
        None,
        f"bytes={20 * BLOCK}-",
    ]
    raw, card, folder = result(project, "kather@official")
    assert raw["complete"] and len(raw["files"]) == 5000 and not raw["warnings"]
    # The variant that came second found the files.
    archives = [*raw["archives"], *result(project, "kather_slide@official")[0]["archives"]]
    assert [a["check"] for a in archives] == ["matches the publisher's checksum"]
    assert card["counts"]["found"]["fold0"]["test"] == {"mucosa": 125, "adipose": 125}
    x, y = np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy")
    assert x.shape == (1250, 3, 96, 96) and np.bincount(y).tolist() == [625, 625]
    # Blue told the kind of tissue.
    assert (x[y == 0, 2] == 120).all() and (x[y == 1, 2] == 140).all()
    assert "Nothing to be done" in project.snakemake("-n", *targets)


@pytest.mark.parametrize(
    ("statuses", "sha256", "says"),
    [
        ([403], None, "refuses access (403)"),
        ([401], None, "asks for a login (401)"),
        ([], "f" * 64, "sha256: expected ffff"),
    ],
)
def test_refusals_by_zenodo_and_wrong_content(make_project, tiles, statuses, sha256, says):
    """The mirror has nothing (404); both reasons are told, and nothing is prepared."""
    project, path = make_project(), f"/{zenodo.KATHER}.zip"
    with file_server(Behaviour({path: tiles}, statuses={path: statuses * 9})) as url:
        zenodo.at_zenodo(project, url, tiles, sha256)
        said = project.snakemake("results/data/kather@official/card.json", fails=True)
    assert says in said and "does not have this file (404)" in said and "Traceback" not in said
    assert not list(project.folder.rglob("*.tif")) and not list(project.folder.rglob("*.zip"))
    assert not (project.folder / "results/data/kather@official/x.npy").exists()


# ------------------------------------------------------------------ Decathlon


def test_volumes_from_the_decathlon(make_project):
    """Refused by the first address, given by the second; laid out for nnU-Net."""
    project, path = make_project(), "/Task02_Heart.tar"
    files = msd_files.task("Task02_Heart", "la", ["MRI"], ["background", "left atrium"], 20)
    archive = msd_files.tar(files)
    target = "results/data/msd_heart@official/card.json"
    first = Behaviour({path: archive}, statuses={path: [403] * 9})
    second = Behaviour({path: archive}, cuts={path: [BLOCK]})
    with file_server(first) as one, file_server(second) as two:
        change(
            project,
            ("https://msd-for-monai.s3-us-west-2.amazonaws.com/", one),
            ("https://msd-for-monai-eu.s3.eu-west-2.amazonaws.com/", two),
        )
        said = project.snakemake(target, fails=True)
        assert "md5: expected 06ee59366e1e5124267b774dbd654057" in said and "(403)" in said
        assert not list(project.folder.rglob("*.nii.gz"))
        md5 = hashlib.md5(archive).hexdigest()
        change(project, ("06ee59366e1e5124267b774dbd654057", md5))
        project.snakemake(target)
    raw, card, folder = result(project, "msd_heart@official")
    assert raw["complete"] and card["complete"] and card["source"] == "official"
    assert card["counts"]["found"]["fold0"]["train"]["background"] == 16
    layout = folder / "nnUNet_raw/Dataset002_Heart"
    images = sorted(p.name for p in (layout / "imagesTr").iterdir())
    assert images == [f"la_{n:03d}_0000.nii.gz" for n in range(20)]
    for n in range(20):
        copy = (layout / f"labelsTr/la_{n:03d}.nii.gz").read_bytes()
        assert copy == files[f"Task02_Heart/labelsTr/la_{n:03d}.nii.gz"]
    described = json.loads((layout / "dataset.json").read_text())
    assert described["numTraining"] == 20 and described["channel_names"] == {"0": "MRI"}


# ------------------------------------------------------------------ Kaggle


@pytest.fixture
def at_kaggle(tmp_path, monkeypatch):
    """Points the Kaggle client of all Python processes to a local server."""
    pytest.importorskip("kagglesdk")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(
        "import os\n"
        "import kagglesdk.kaggle_env as e\n"
        "e._env_to_endpoint[e.KaggleEnv.TEST] = os.environ['KAGGLE_TEST_ENDPOINT']\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)

    def point_to(url: str) -> None:
        monkeypatch.setenv("KAGGLE_TEST_ENDPOINT", url)

    return point_to


def test_ultrasound_from_kaggle(make_project, at_kaggle, monkeypatch):
    """Nobody signed in, a wrong token, terms to accept, a cut connection; then five folds."""
    project = make_project()
    archive = zipped(image_releases.busi(437, 210), "Dataset_BUSI_with_GT")
    behaviour = KaggleBehaviour(
        archive=archive,
        owner="aryashah2k",
        name="breast-ultrasound-images-dataset",
        token=TOKEN,
        cuts={"/storage/heartbeat.zip": [9 * BLOCK]},
    )
    target = "results/data/busi@kaggle/card.json"
    settings = ["--config", "sources={busi: kaggle}"]
    with kaggle_server(behaviour) as url:
        at_kaggle(url)
        said = project.snakemake(target, *settings, fails=True)
        assert "no Kaggle credential was found" in said and "resources/raw/busi" in said
        monkeypatch.setenv("KAGGLE_API_TOKEN", "another")
        said = project.snakemake(target, *settings, fails=True)
        assert "does not accept the credential from KAGGLE_API_TOKEN (401)" in said
        monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
        behaviour.answers += [(403, "terms")] * 2
        said = project.snakemake(target, *settings, fails=True)
        assert "its terms are not accepted" in said and "Traceback" not in said
        # Preflight says the same before anything is run.
        behaviour.answers[:] = [
            (403, "terms")
        ] * 3  # of the study's data, heartbeats and X-rays, and of this
        only = ["studies=[signnet]", "also_prepare=[busi]"]
        said = project.snakemake("preflight", *settings, *only, fails=True)
        assert "busi: cannot run yet" in said and "its terms are not accepted" in said
        project.snakemake(target, *settings)
    storage = behaviour.headers_of("/storage/heartbeat.zip")
    assert storage[-1]["Range"] == f"bytes={9 * BLOCK}-"
    raw, card, folder = result(project, "busi@kaggle")
    assert len(raw["files"]) == 647 and raw["complete"] and len(raw["archives"]) == 1
    assert raw["archives"][0]["sha256"] == hashlib.sha256(archive).hexdigest()
    x, y = np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy")
    assert x.shape == (647, 3, 224, 224) and np.bincount(y).tolist() == [437, 210]
    assert sorted(card["counts"]["found"]) == [f"fold{n}" for n in range(5)]
    assert TOKEN not in (folder / "raw.json").read_text() + (folder / "card.json").read_text()
    logs = "".join(p.read_text() for p in (project.folder / "results/data/logs").glob("*.log"))
    assert TOKEN not in logs and "sig-secret" not in logs
