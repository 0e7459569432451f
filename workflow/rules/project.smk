# Where this workflow itself lies: library, resources, envs, default settings. Results, logs, raw data
# and the user's config/ lie in the working folder, which can be another one: this may be a module of
# another workflow, or be called with `--directory`.
import os
import sys
import tarfile
import tempfile
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.sourcecache import LocalSourceFile


def repository_of(place):
    # Of `github(...)`, `gitlab(...)`: Snakemake's own bare clone; of `git+file://`: that repository.
    import git

    if hasattr(place, "hosted_repo"):
        return place.hosted_repo.repo
    if hasattr(place, "repo_path"):
        return git.Repo(place.repo_path)
    raise WorkflowError(
        f"medrobust is more than its Snakefile, and cannot be read from {place}.\n"
        "  what to do: give the module a local path, or github(...), gitlab(...)."
    )


def project_folder():
    place = workflow.current_basedir
    if isinstance(place, LocalSourceFile):
        return Path(os.path.abspath(place.get_path_or_uri(secret_free=True))).parents[1]
    # Snakemake fetches single files from a repository; a library is many.
    commit = repository_of(place).commit(place.ref)
    folder = Path(".snakemake/medrobust").absolute() / commit.hexsha
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as parts:
            archive, content = Path(parts, "archive.tar"), Path(parts, "content")
            with archive.open("wb") as stream:
                commit.repo.archive(stream, commit.hexsha)
            with tarfile.open(archive) as files:
                files.extractall(content, filter="data")
            try:
                content.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another process was faster
                    raise
    return folder


ROOT = project_folder()
# The one script, by its full path: it finds the library beside itself.
RUN_JOB = str(ROOT / "workflow/scripts/run_job.py")
# The user's settings, else the workflow's own, which are the defaults.
SETTINGS = "config/config.yaml"
if not Path(SETTINGS).is_file():
    SETTINGS = str(ROOT / SETTINGS)
sys.path.insert(0, str(ROOT / "workflow/scripts"))
