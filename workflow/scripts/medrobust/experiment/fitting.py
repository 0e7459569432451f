"""Which models fit which data sets, said before any work starts.

A study's file names models once for all its data sets, and a data set of the user's own may be of
another form: shorter signals, smaller images, fewer values than a setting counts. What cannot be
is refused here, in the words in which training would refuse it after minutes. Numbers that are
larger than what a point holds are lowered on data sets that no paper has, and told of in the plan
and in captions; on those of a paper (``published_name``) they are refused, because a study that
re-runs one must not change in silence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from medrobust.attacks.contract import attack_of
from medrobust.core.errors import InputError
from medrobust.core.schema import Settings
from medrobust.data.registry import DatasetEntry
from medrobust.experiment.config import (
    Attack,
    Model,
    Resolved,
    Study,
    StudyDataset,
    attack_specs,
    attack_variants,
    model_specs,
    trained_on,
)
from medrobust.models.contract import architecture_of
from medrobust.training.contract import method_of


def check_fit(resolved: Resolved) -> None:
    """Refuses models and attacks that cannot be used on a data set of their study.

    Raises:
        InputError: points have a shape, or there are classes, that a model or attack is not for,
            or a number is larger than a data set of the paper allows; it says where and what to do.
    """
    for name, study in resolved.studies.items():
        file = resolved.files[name]
        for dataset, use in study.datasets.items():
            entry = resolved.registry[dataset]
            _check_forms(study, dataset, entry, file)
            if entry.form != "arrays":
                continue
            for model_name, model in trained_on(study, dataset).items():
                _check_model(model_name, model, dataset, use, entry, file)
            for attack_name in study.attacks:
                for attack in attack_variants(study, attack_name, dataset).values():
                    _check_attack(attack_name, attack, dataset, use, entry, file)


def _check_forms(study: Study, dataset: str, entry: DatasetEntry, file: str) -> None:
    """Refuses models and attacks of pixels on data of points, and those of points on volumes."""
    volumes = entry.form == "volumes"
    what = "volumes, whose pixels are" if volumes else "points, each of which is"
    for name, model in trained_on(study, dataset).items():
        if architecture_of(model.architecture["name"]).of_pixels != volumes:
            raise InputError(
                f"{dataset} has {what} classified, and the architecture "
                f"{model.architecture['name']!r} is not for that.",
                where=f"{file}, key models.{name}",
                remedy="choose another architecture and method, or other data sets (`datasets`).",
            )
        for attack_name, attack in study.attacks.items():
            aimed = attack.models is None or name in attack.models
            if aimed and attack_of(attack.name).of_pixels != volumes:
                raise InputError(
                    f"{dataset} has {what} classified, and the attack {attack.name!r} is not for "
                    "that.",
                    where=f"{file}, key attacks.{attack_name}",
                    remedy="choose another attack, or name the models that it is for (`models`).",
                )


def fitted(model: Model, entry: DatasetEntry) -> Model:
    """Returns a model with the settings that it has on a data set: none larger than that allows."""
    lowered = too_large(model, entry)
    if not lowered:
        return model
    method = {**model.method, **{key: most for key, (_, most) in lowered.items()}}
    return model.model_copy(update={"method": method})


def too_large(model: Model, entry: DatasetEntry) -> dict[str, tuple[int, int]]:
    """Returns the settings of a model's method that a data set is too small for.

    Returns:
        name of a setting -> (what is set, the largest value).
    """
    most = method_of(model.method["name"]).most
    if most is None or entry.form != "arrays":
        return {}
    _, spec = model_specs(model)
    return {
        key: (getattr(spec, key), limit)
        for key, limit in most(tuple(entry.shape)).items()
        if getattr(spec, key) is not None and getattr(spec, key) > limit
    }


def lowered_text(study: Study, registry: Mapping[str, DatasetEntry]) -> str:
    """Returns in words which settings are lower on some data sets than the study's file says."""
    return " ".join(_lowered(study, registry))


def _lowered(study: Study, registry: Mapping[str, DatasetEntry]) -> Iterator[str]:
    for dataset in study.datasets:
        entry = registry[dataset]
        by_change: dict[str, list[str]] = {}
        for model in trained_on(study, dataset).values():
            for key, (given, most) in too_large(model, entry).items():
                change = f"{key.replace('_', ' ')} {most} (the study's file: {given})"
                by_change.setdefault(change, []).append(model.label)
        if by_change:
            changes = "; ".join(f"{c} of {', '.join(names)}" for c, names in by_change.items())
            values = math.prod(entry.shape)
            yield f"On {dataset}, whose points have {values} values: {changes}."


def _check_model(
    name: str, model: Model, dataset: str, use: StudyDataset, entry: DatasetEntry, file: str
) -> None:
    place = f"{file}, key models.{name}"
    fits = architecture_of(model.architecture["name"]).fits
    if fits is not None:
        spec, _ = model_specs(model)
        try:
            fits(spec, tuple(entry.shape), len(entry.classes))
        except InputError as error:
            raise InputError(
                f"The model {name!r} cannot be trained on {dataset}. {error.what}",
                where=f"{place}; config/datasets.yaml, key datasets.{dataset}.shape",
                remedy=f"{error.remedy.rstrip('.')}; or leave it out on this data set: "
                f"`without: [{name}]` under datasets.{dataset} of the study.",
            ) from None
    if use.published_name is None:
        return
    for key, (given, most) in too_large(model, entry).items():
        raise InputError(
            f"{key} of the model {name!r} is {given}, but the points of {dataset} have only "
            f"{most} values.",
            where=f"{place}.method.{key}",
            remedy=f"ask for at most {most}. (It is lowered by itself only on data sets that are "
            "not the paper's.)",
        )


def _check_attack(
    name: str, attack: Attack, dataset: str, use: StudyDataset, entry: DatasetEntry, file: str
) -> None:
    for spec in attack_specs(attack):
        _check_settings(name, spec, dataset, use, entry, f"{file}, key attacks.{name}.options")


def _check_settings(
    name: str, spec: Settings, dataset: str, use: StudyDataset, entry: DatasetEntry, place: str
) -> None:
    target = getattr(spec, "target", None)
    # PGD aims at a class of each point's own, which it names in words.
    if isinstance(target, int) and target >= len(entry.classes):
        raise InputError(
            f"The attack {name!r} aims at class {target}, but {dataset} has the classes 0 to "
            f"{len(entry.classes) - 1}.",
            where=f"{place}.target",
            remedy=f"choose one of these, or leave {dataset} out.",
        )
    if use.published_name is not None or entry.input_range is None:
        return
    ends = zip(("clip_min", "clip_max"), entry.input_range, (1, -1), strict=True)
    for key, end, sign in ends:
        given = getattr(spec, key, None)
        if given is not None and sign * (given - end) > 0:
            raise InputError(
                f"The attack {name!r} keeps values within {key} {given:g}, but those of {dataset} "
                f"lie in {list(entry.input_range)}: points would lie outside the box.",
                where=f"{place}.{key}",
                remedy=f"set {key} to {end:g}, or to null: the range of the training points.",
            )
