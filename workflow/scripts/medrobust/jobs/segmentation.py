"""Jobs on volumes: slices as nnU-Net plans them, networks that segment them, and the attack."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import io
from medrobust.core.contract import timing_kind
from medrobust.core.errors import InputError
from medrobust.core.grid import grid_variants
from medrobust.core.logs import Progress, logger
from medrobust.core.machine import hardware, versions
from medrobust.core.registry import parse_spec
from medrobust.core.seeds import derive_seed
from medrobust.models import failures
from medrobust.runtime.devices import choose_device, fix_threads, gpu_slot
from medrobust.runtime.journal import Checkpoint, Journal, mark_done, progress_key

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from medrobust.attacks.engine.pixel_network import PixelNetwork
    from medrobust.data.prepared.slices import SliceSet


def slice_volumes(*, data: str, slices: str, plans: str, compute_threads: int) -> None:
    """Plans and prepares volumes by nnU-Net (:mod:`medrobust.data.prepared.nnunet`).

    Args:
        data: folder of the data set.
        slices, plans: safetensors and JSON file to write, in it.
        compute_threads: cases that are looked at side by side.

    Raises:
        InputError: nnU-Net is not installed, or headers contradict themselves.
    """
    fix_threads(compute_threads)
    from medrobust.data.prepared.nnunet import plan_slices

    for file in (slices, plans):
        Path(file).unlink(missing_ok=True)
    plan_slices(data, compute_threads)


def train_pixels(
    *,
    data: str,
    out: str,
    card: str,
    timing: str,
    extras: str,
    model: Mapping[str, Any],
    names: Sequence[object],
    seed: int,
    device: str,
    compute_threads: int,
    code: str,
    progress_dir: str,
    training_points: int | None = None,
) -> None:
    """Trains one network that gives every pixel of a slice a class.

    A training whose loss or weights are not finite has failed. Its files are written, and say so.

    Args:
        data: folder of the data set, with its slices.
        out: safetensors file to write: the network's arrays by PyTorch's names.
        card: JSON file to write: settings, seed, history; ``failed``, where it has.
        timing: JSON file to write: seconds.
        extras: safetensors file to write: ``margin`` of all slices, float32 ``[1, n]``, where the
            method keeps them.
        model: ``architecture`` and ``method``, each with its name and settings.
        names: names of the piece of work, from which, with ``seed``, the network's seed derives.
        seed: root seed.
        device: "auto", "cpu" or "cuda".
        compute_threads: threads of the numerical libraries.
        code: hash of the code, part of the progress key.
        progress_dir: folder of checkpoints.
        training_points: train on so many cases only, drawn at random; every model and replicate of
            a data set gets the same. None: on all.

    Raises:
        InputError: nnU-Net is not installed, or no test slice contains every class.
    """
    fix_threads(compute_threads)
    from medrobust.data.prepared.nnunet import PACKAGES, require_nnunet
    from medrobust.data.prepared.slices import load_slices
    from medrobust.jobs.shared import Stopwatch, journal_file, training_rows
    from medrobust.training.contract import method_of
    from medrobust.training.engine.slice_descent import SliceWork

    require_nnunet()
    watch = Stopwatch()
    architecture, method = (
        parse_spec(kind, model[kind], file="parameters of the job", prefix=kind)
        for kind in ("architecture", "method")
    )
    slices = load_slices(data)
    _with_all_classes(slices, data)  # before hours of training, not after
    slices = replace(slices, train=training_rows(slices.train, training_points, seed, names))
    own = derive_seed(seed, "train", *names, 0)
    kind = choose_device(device, uses_gpu=True)
    key = progress_key(
        {"model": dict(model), "seed": own, "threads": compute_threads}
        | {"device": kind, "versions": versions(*PACKAGES)}
        | {"training_cases": [slices.cases[row] for row in slices.train]},
        _sources(slices),
        code,
    )
    place = journal_file(progress_dir, "train", key).with_suffix(".checkpoint")
    with ExitStack() as stack:
        chosen = stack.enter_context(gpu_slot(kind))
        checkpoint = stack.enter_context(Checkpoint(place, key))
        work = SliceWork(slices, [0], [own], chosen, checkpoint)
        train = method_of(model["method"]["name"]).train
        trained = train(method, model["architecture"]["name"], architecture, work)
        failed = failures.failures_of([0], trained.parameters, trained.history)
        for happened in failed.values():
            logger.warning("training failed: %s", happened)
        io.write_tensors(out, trained.parameters, failures.metadata_of(failed))
        io.write_tensors(extras, trained.extras)
    facts = {
        **{kind: model[kind] for kind in ("architecture", "method")},
        "data": slices.card["name"],
        "cases": {name: len(getattr(slices, name)) for name in ("train", "val", "test")},
        "slices": len(slices.numbers(slices.train)),
        "seed": own,
        "history": trained.history[0],
        "device": kind,
        "versions": versions(*PACKAGES),
        "hardware": hardware(),
        "code": code,
        "parameters_sha256": io.sha256_of_file(out),
    }
    io.write_json(card, facts | ({"failed": failed[0]} if failed else {}))
    mark_done(place)
    batches = method.max_epochs * method.batches_per_epoch
    of_patches = timing_kind("train", model["method"]["name"], model["architecture"]["name"], 0)
    watch.write(timing, of_patches, batches)


def attack_pixels(
    *,
    data: str,
    network: str,
    trained: str,
    records: str,
    arrays: str,
    summary: str,
    timing: str,
    model: Mapping[str, Any],
    attack: Mapping[str, Any],
    names: Sequence[object],
    seed: int,
    device: str,
    compute_threads: int,
    code: str,
    progress_dir: str,
) -> None:
    """Attacks test slices that contain every class, at all noise levels together.

    A network whose training failed is not attacked: the files then hold no records and no arrays.
    Nor do they where its logits, or the noise against it, are not finite: it has failed too.

    Args:
        data: folder of the data set, with its slices.
        network: safetensors file of the trained network.
        trained: JSON file about it.
        records: parquet file to write, a row for each slice, noise level and class: ``case``,
            ``slice``, ``number``, ``class``, ``epsilon``, ``tp``, ``fp``, ``fn``, ``hd95``
            (millimetres, null without an outline), ``l2`` of the noise.
        arrays: safetensors file to write, of the first ``keep_arrays`` slices: ``number`` int64
            ``[n]``, ``image`` float32 ``[n, channels, h, w]``, ``target`` uint8 ``[n, h, w]``,
            ``noisy`` and ``labels`` with a second axis for the levels, ``epsilon`` float64.
        summary: JSON file to write: numbers of slices, of those attacked that lost a class where a
            patch was cut, what it is made from; ``failed``, where the training has.
        timing: JSON file to write: seconds.
        model: ``architecture`` of the network.
        attack: ``name``, settings and ``grid``; ``keep_arrays``; ``points``: of the slices so many,
            spread evenly over all (null: all).
        names: names of the piece of work, for the seeds of starts.
        seed: root seed.
        device: "auto", "cpu" or "cuda".
        compute_threads: threads of the numerical libraries.
        code: hash of the code, part of the journal's key.
        progress_dir: folder of journals.

    Raises:
        InputError: nnU-Net is not installed, or no test slice contains every class.
    """
    fix_threads(compute_threads)
    from medrobust.data.prepared.nnunet import PACKAGES, require_nnunet
    from medrobust.data.prepared.slices import load_slices
    from medrobust.jobs.shared import Stopwatch, journal_file

    require_nnunet()
    watch = Stopwatch()
    slices = load_slices(data)
    numbers = _chosen(_with_all_classes(slices, data), attack.get("points"))
    facts = {
        "n_test_slices": len(slices.numbers(slices.test)),
        "n_attacked": len(numbers),
        "made_from": _sources(slices) | {"network": io.sha256_of_file(network)},
    }
    work_kind = timing_kind("attack", attack["name"], model["architecture"]["name"], 0)
    kind = choose_device(device, uses_gpu=True)
    made_with = {"device": kind, "versions": versions(*PACKAGES), "hardware": hardware()}

    def fail(happened: str) -> None:
        logger.warning("training failed: %s; nothing is attacked", happened)
        io.write_tensors(arrays, {})
        watch.write(timing, work_kind, 0, **made_with)
        io.write_json(summary, {"failed": happened, **facts})
        io.write_table(records, _no_records())

    if failed := io.read_json(trained).get("failed"):
        fail(failed)
        return
    settings = {k: v for k, v in attack.items() if k not in ("grid", "keep_arrays", "points")}
    what = {"file": "parameters of the job", "prefix": "attack"}
    specs = [
        parse_spec("attack", settings | variant, **what)
        for variant in grid_variants(attack.get("grid", {}))
    ]
    key = progress_key(
        {"model": dict(model), "attack": dict(attack), "seed": seed}
        | {"names": [str(name) for name in names], "threads": compute_threads}
        | {"device": kind, "versions": versions(*PACKAGES)},
        facts["made_from"] | {"numbers": hashlib.sha256(numbers.tobytes()).hexdigest()},
        code,
    )
    place = journal_file(progress_dir, "attack", key).with_suffix(".journal")
    with gpu_slot(kind) as chosen, Journal(place, key) as journal:
        from medrobust.attacks.engine.pixel_network import NotFiniteError
        from medrobust.models import nnunet

        what = {"file": "parameters of the job", "prefix": "architecture"}
        spec = parse_spec("architecture", model["architecture"], **what)
        attacked = _Attacked(slices, _network(slices, spec, network, chosen), chosen)
        size = specs[0].batch_size or nnunet.planned(slices.plans)["batch_size"]
        done = journal.finished()
        progress = Progress("attacking slices", len(numbers), unit="slices")
        parts = []
        for first in range(0, len(numbers), size):
            own = numbers[first : first + size]
            name = f"slices {first}"
            if name not in done:
                keep = max(0, min(attack.get("keep_arrays", 0) - first, len(own)))
                try:
                    found = attacked.batch(own, specs, seed, names, keep)
                except NotFiniteError as error:
                    fail(f"{error} at test slices")
                    return
                journal.append(name, found)
                done[name] = found
            parts.append(done[name])
            progress.update(first + len(own))
        watch.write(timing, work_kind, len(numbers) * len(specs) * specs[0].num_steps, **made_with)
        kept = [part for part in parts if "number" in part]
        fixed = {"epsilon": np.array([spec.epsilon for spec in specs])}
        joined = {name: np.concatenate([part[name] for part in kept]) for name in KEPT if kept}
        io.write_tensors(arrays, joined | fixed if kept else {})
        lost = sum(int(part["lost"].sum()) for part in parts)
        io.write_json(summary, facts | {"n_lost_a_class": lost})
        io.write_table(records, _frame(slices, parts, specs))
    mark_done(place)


KEPT = ("number", "image", "target", "noisy", "labels")


def _sources(slices: SliceSet) -> dict[str, str]:
    """Returns hashes of what nnU-Net made of the volumes."""
    return {"slices": slices.sha256, "plans": io.sha256_of_json(slices.plans)}


def _with_all_classes(slices: SliceSet, data: str) -> np.ndarray:
    """Returns the numbers of test slices that contain every class.

    Raises:
        InputError: there are none.
    """
    numbers = slices.with_all_classes(slices.test)
    if not len(numbers):
        every = slices.numbers(slices.test)
        counts = {
            name: sum(bool((slices.mask(n) == k).any()) for n in every)
            for k, name in enumerate(slices.class_names[1:], start=1)
        }
        each = ", ".join(f"{name} in {count}" for name, count in counts.items())
        raise InputError(
            f"None of the {len(every)} test slices contains every class ({each}); only such slices "
            "are attacked.",
            where=data,
            remedy="give classes that lie in one slice one label, or leave out those that are not "
            "there (docs/data-msd.md).",
        )
    return numbers


def _chosen(numbers: np.ndarray, points: int | None) -> np.ndarray:
    """Returns so many of the slices, spread evenly over all; all, where there are no more."""
    if points is None or points >= len(numbers):
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, points).round().astype(np.int64)]


def _network(slices: SliceSet, spec: Any, file: str, device: str) -> PixelNetwork:
    from medrobust.attacks.engine.pixel_network import PixelNetwork
    from medrobust.models import nnunet

    module = nnunet.build(slices.plans, slices.channels, slices.n_classes, seed=0)
    module = nnunet.with_arrays(module, io.read_tensors(file)).to(device).eval()
    module.requires_grad_(False)
    shape = (slices.channels, *nnunet.patch_size(spec, slices.plans))
    return PixelNetwork(nnunet.fast(module), shape)


class _Attacked:
    """A network under attack, batch by batch."""

    def __init__(self, slices: SliceSet, network: PixelNetwork, device: str) -> None:
        self._slices, self._network, self._device = slices, network, device

    def batch(
        self,
        numbers: np.ndarray,
        specs: Sequence[Any],
        seed: int,
        names: Sequence[object],
        keep: int,
    ) -> dict[str, np.ndarray]:
        """Returns counts of one batch ``[levels, n, classes - 1]``, and arrays of its first.

        Raises:
            NotFiniteError: the network has failed.
        """
        import torch

        from medrobust.attacks import pixel_pgd
        from medrobust.data.prepared.patches import cut_patches
        from medrobust.evaluation.segmentation import counted
        from medrobust.models.engine.pixel_losses import at_resolutions

        size = self._network.shape[1:]
        images, targets = cut_patches(self._slices, numbers, size, derive_seed(seed, "patches"))
        x = torch.from_numpy(images).flatten(1).to(self._device)
        truth = torch.from_numpy(targets).to(self._device)
        shapes = [output.shape[2:] for output in self._network.logits(x[:1])]
        seeds = [
            [pixel_pgd.start_seed(seed, names, int(number), spec.epsilon) for number in numbers]
            for spec in specs
        ]
        noisy = self._noisy(x, at_resolutions(truth, shapes), specs, seeds)
        labels = np.stack([self._network.labels(level).cpu().numpy() for level in noisy])
        spacing = tuple(self._slices.plans["configurations"]["2d"]["spacing"])
        each = [counted(own, targets, self._slices.n_classes, spacing) for own in labels]
        found = {name: np.stack([one[name] for one in each]) for name in each[0]}
        found["l2"] = (noisy - x).norm(dim=2).cpu().numpy()
        found["lost"] = _lost_a_class(targets, self._slices.n_classes)
        if not keep:
            return found | {"attacked": numbers}
        shape = (len(specs), len(numbers), *self._network.shape)
        whole = {
            "number": numbers,
            "image": images,
            "target": targets.astype(np.uint8),
            "noisy": noisy.cpu().numpy().reshape(shape).swapaxes(0, 1),
            "labels": labels.astype(np.uint8).swapaxes(0, 1),
        }
        first = {name: np.ascontiguousarray(values[:keep]) for name, values in whole.items()}
        return found | {"attacked": numbers} | first

    def _noisy(
        self,
        x: torch.Tensor,
        targets: Sequence[torch.Tensor],
        specs: Sequence[Any],
        seeds: Sequence[Sequence[int]],
    ) -> torch.Tensor:
        """Returns noisy patches ``[levels, n, d]``, of so many levels at a time as memory holds."""
        import torch

        from medrobust.attacks import pixel_pgd
        from medrobust.models.nnunet import levels_at_once

        size = levels_at_once(len(x), self._network.shape[1:])
        parts = [
            pixel_pgd.attack(self._network, x, targets, specs[k : k + size], seeds[k : k + size])
            for k in range(0, len(specs), size)
        ]
        return torch.cat(parts)


def _lost_a_class(targets: np.ndarray, n_classes: int) -> np.ndarray:
    """Returns which patches ``[n, h, w]`` lack a class, bool ``[n]``: it lay outside of them."""
    there = [(targets == k).any(axis=(1, 2)) for k in range(1, n_classes)]
    return ~np.all(there, axis=0)


def _frame(
    slices: SliceSet, parts: Sequence[Mapping[str, np.ndarray]], specs: Sequence[Any]
) -> pd.DataFrame:
    """Returns the records of all batches, by slice, level and class."""
    import pandas as pd

    rows = []
    for part in parts:
        for place, number in enumerate(part["attacked"]):
            row, own = slices.place(number)
            for level, spec in enumerate(specs):
                for k in range(slices.n_classes - 1):
                    counts = {name: part[name][level, place, k] for name in COUNTS}
                    known = {"case": slices.cases[row], "slice": own, "number": int(number)}
                    known |= {"class": k + 1, "epsilon": float(spec.epsilon)}
                    rows.append(known | counts | {"l2": part["l2"][level, place]})
    return pd.DataFrame(rows) if rows else _no_records()


COUNTS = ("tp", "fp", "fn", "hd95")


def _no_records() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {name: [] for name in ("case", "slice", "number", "class", "epsilon", *COUNTS, "l2")}
    )
