"""What Snakemake asks of ``conda``, answered by py-rattler: solver and linker of pixi.

Channels are folders below the variable CONDA_CHANNEL_ALIAS, which conda itself obeys too. Run as
``conda`` by a script beside the folder of activation (:func:`install`).
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

#: The oldest conda that takes `nodefaults` for a channel, as this does.
VERSION = "26.7.1"


def install(folder: Path) -> Path:
    """Makes a conda installation of nothing but this stand-in; returns its folder of commands."""
    commands = folder / "bin"
    commands.mkdir(parents=True)
    conda = commands / "conda"
    conda.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{Path(__file__).resolve()}" "$@"\n')
    conda.chmod(conda.stat().st_mode | stat.S_IXUSR)
    # What Snakemake sources before a job.
    lines = ['export CONDA_PREFIX="$1"', 'export PATH="$1/bin:$PATH"', ""]
    (commands / "activate").write_text("\n".join(lines))
    return commands


async def solve(file: Path) -> list[Any]:
    """Returns the packages that an environment file asks for, from its channels alone."""
    import rattler
    import yaml

    environment = yaml.safe_load(file.read_text(encoding="utf-8"))
    channels = [f"{os.environ['CONDA_CHANNEL_ALIAS']}/{name}" for name in environment["channels"]]
    for channel in channels:
        if not Path(channel.removeprefix("file://")).is_dir():
            raise FileNotFoundError(f"UnavailableInvalidChannel: {channel}")
    return await rattler.solve(
        [rattler.Channel(channel) for channel in channels],
        environment["dependencies"],
        gateway=rattler.Gateway(cache_dir=_cache() / "index"),
        virtual_packages=rattler.VirtualPackage.detect(),
        channel_priority=rattler.ChannelPriority.Strict,
    )


async def create(file: Path, prefix: Path) -> None:
    """Makes the environment of ``file`` in ``prefix``."""
    import rattler

    records = await solve(file)
    cache = _cache() / "packages"
    await rattler.install(records, prefix, cache_dir=cache, show_progress=False)


def _cache() -> Path:
    # On the same disk as the environments, so that files are linked and not copied.
    return Path(os.environ["CONDA_PKGS_DIRS"])


def _value(option: str) -> Path:
    return Path(sys.argv[sys.argv.index(option) + 1])


def main() -> None:
    """Answers one call of ``conda``."""
    asked = sys.argv[1:]
    if asked == ["--version"]:
        print(f"conda {VERSION}")
    elif asked == ["info", "--json"]:
        import rattler

        home, platform = os.environ["CONDA_ROOT"], str(rattler.Subdir.current())
        print(json.dumps({"conda_prefix": home, "platform": platform}))
    elif asked == ["config", "--get", "channel_priority", "--json"]:
        print(json.dumps({"get": {"channel_priority": "strict"}}))
    elif asked[:1] == ["clean"]:
        pass  # the cache goes with the tests' folder
    elif asked[:2] == ["env", "create"]:
        asyncio.run(create(_value("--file"), _value("--prefix")))
    else:
        sys.exit(f"this stand-in for conda does not know: {' '.join(asked)}")


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
    sys.stdout.flush()
    # The runtime of rattler now and then dies while the interpreter ends.
    os._exit(0)
