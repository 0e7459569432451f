"""Trained members as pretrained weights that other models, here or elsewhere, can begin with."""

from __future__ import annotations

from pathlib import Path

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.core.registry import parse_spec
from medrobust.models.contract import architecture_of
from medrobust.models.engine.pretrained import torchvision_layout


def export_weights(members: str, member: int, file: str) -> str:
    """Writes one member by the names of torchvision's layout, as safetensors.

    Args:
        members: file of trained members; its card (``.json``) lies beside it.
        member: number of the member.
        file: to write; it must not be there.

    Returns:
        What was written, with its SHA-256.

    Raises:
        InputError: the members are not there, their architecture reads no pretrained weights, the
            training failed, or ``file`` is there.
    """
    if not Path(members).is_file():
        raise InputError(
            "These members are not trained yet.", where=members, remedy="train the model first."
        )
    if Path(file).exists():
        raise InputError("This file is there.", where=file, remedy="give another name.")
    card = io.read_json(str(Path(members).with_suffix(".json")))
    name, known = card["architecture"]["name"], card["members"]
    if architecture_of(name).read_weights is None:
        raise InputError(f"The architecture {name!r} reads no pretrained weights.", where=members)
    place = [one["member"] for one in known].index(member)
    if reason := known[place].get("failed"):
        raise InputError(f"The training of member {member} failed: {reason}.", where=members)
    spec = parse_spec("architecture", card["architecture"], file=members, prefix="architecture")
    arrays = {key: value[place] for key, value in io.read_tensors(members).items()}
    io.write_tensors(file, torchvision_layout(spec, arrays))
    return f"{file}: member {member} of {members}, sha256 {io.sha256_of_file(file)}"
