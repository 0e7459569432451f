"""The rules `fetch` and `prepare` from an empty folder: real files from a local HTTP server."""

from __future__ import annotations

import functools
import http.server
import json
import threading

import pytest

from tests.workflow.conftest import Project

pytestmark = [pytest.mark.real, pytest.mark.workflow]

# Of this data set alone: the study's others would come from their own servers.
CARD = "results/data/mitbih@physionet/card.md"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without writing a line per request."""

    def log_message(self, *arguments):
        pass


@pytest.fixture
def mirror(real_data):
    """The address of a server that holds the PhysioNet records."""
    if not (real_data / "mitbih/100.dat").is_file():
        pytest.skip("MEDROBUST_REAL_DATA has no mitbih records")
    handler = functools.partial(Quiet, directory=str(real_data / "mitbih"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_an_empty_folder_becomes_verified_arrays(root, tmp_path, mirror):
    project = Project(root, tmp_path)
    project.edit("config/datasets.yaml", "https://physionet.org/files/mitdb/1.0.0/", mirror)
    settings = ["--config", "scale=laptop", "sources={mitbih: physionet}"]
    project.snakemake(CARD, *settings)
    folder = project.folder / "results/data/mitbih@physionet"
    manifest = json.loads((folder / "raw.json").read_text())
    assert len(manifest["files"]) == 144 and manifest["complete"]
    assert {file["check"] for file in manifest["files"]} == {"matches the publisher's checksum"}
    card = json.loads((folder / "card.json").read_text())
    assert card["counts"]["found"]["fold0"]["train"]["N"] == 72471
    assert card["counts"]["official"] and not card["synthetic"]
    # A second call finds everything in place.
    assert "Nothing to be done" in project.snakemake("-n", CARD, *settings)


def test_a_damaged_download_stops_with_its_name_and_prepares_nothing(root, tmp_path, mirror):
    project = Project(root, tmp_path)
    project.edit("config/datasets.yaml", "https://physionet.org/files/mitdb/1.0.0/", mirror)
    sums = project.folder / "resources/checksums/mitdb-1.0.0.sha256"
    lines = sums.read_text().splitlines()
    changed = [("0" * 64 + line[64:]) if line.endswith(" 100.dat") else line for line in lines]
    assert changed != lines
    sums.write_text("\n".join(changed) + "\n")
    settings = ["--config", "scale=laptop", "sources={mitbih: physionet}"]
    output = project.snakemake(CARD, *settings, fails=True)
    assert "100.dat" in output and "Traceback" not in output
    assert not (project.folder / "results/data/mitbih@physionet/x.npy").exists()
    assert not (project.folder / "resources/raw/mitbih/100.dat").exists()
