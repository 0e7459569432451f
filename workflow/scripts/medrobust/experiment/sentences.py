"""Sentences in a study's file: what may be said, and that the study can tell.

Each names a model, an attack and a level by the keys of the study's file, and one test. How it is
made: :mod:`medrobust.reporting.generic_claims`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings, unknown_name

TESTS = ("more", "at_least", "at_most")


class Said(Settings):
    """A number of a model."""

    model: str = Field(description="the model that the sentence is about, by its key")
    attack: str | None = Field(
        default=None,
        description="the attack, by its key: accuracy under one with `select: test` and an "
        "epsilon, mean distance of one without epsilon; null: accuracy without attack",
    )
    epsilon: float | list[float] | None = Field(
        default=None,
        description="noise level of an attack with an epsilon; of several, the sentence is to be "
        "true at each",
    )

    @property
    def levels(self) -> list[float]:
        """The noise levels; none without attack, and of an attack without epsilon."""
        if self.epsilon is None:
            return []
        return self.epsilon if isinstance(self.epsilon, list) else [self.epsilon]


class More(Said):
    """The number of a model is above that of another, or of each of several."""

    than: str | list[str] = Field(description="the other models, by their keys")
    by: float = Field(
        default=0.0,
        description="by how much at least; below 0: no more than so much below (`by: -0.02`)",
    )

    @property
    def rivals(self) -> list[str]:
        """The other models."""
        return self.than if isinstance(self.than, list) else [self.than]

    @property
    def bound(self) -> float:
        """What the difference is held against."""
        return self.by


class Bound(Said):
    """The number of a model is at least, or at most, a value."""

    value: float = Field(description="the value")

    @property
    def rivals(self) -> list[str]:
        """The other models: none."""
        return []

    @property
    def bound(self) -> float:
        """What the number is held against."""
        return self.value


class Sentence(Settings):
    """A sentence, with one of `more`, `at_least` and `at_most` to test it by."""

    sentence: str = Field(min_length=1, description="its words, as they are printed")
    where: str = Field(default="the study's file", description="where it stands, such as a section")
    datasets: list[str] | None = Field(
        default=None,
        min_length=1,
        description="data sets on which it is tested; null: all of the study that its models are "
        "trained on",
    )
    more: More | None = Field(default=None, description="a model's number is above another's")
    at_least: Bound | None = Field(default=None, description="it is at least a value")
    at_most: Bound | None = Field(default=None, description="it is at most a value")

    @model_validator(mode="after")
    def _one_test(self) -> Sentence:
        named = [name for name in TESTS if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError(f"one of {', '.join(TESTS)} is to be named, found {len(named)}")
        return self

    @property
    def test(self) -> str:
        """Which of :data:`TESTS` it has."""
        return next(name for name in TESTS if getattr(self, name) is not None)

    @property
    def said(self) -> More | Bound:
        """What is tested."""
        return getattr(self, self.test)

    @property
    def models(self) -> list[str]:
        """The models that it is about, the first one first."""
        return [self.said.model, *self.said.rivals]


def facts_of(
    sentence: Sentence,
    trained: Mapping[str, Sequence[str]],
    dataset_names: Mapping[str, str],
    model_names: Mapping[str, str],
) -> dict[str, Any]:
    """Returns a sentence as :class:`medrobust.reporting.request.Request` has it.

    Args:
        sentence: checked.
        trained: data sets of the run, each with the models that are trained there.
        dataset_names, model_names: what each is called in results; one that the selection of a run
            left out keeps its key.
    """
    there = [model for model in sentence.models if model in model_names]
    usual = [name for name, models in trained.items() if set(there) <= set(models)]
    return {
        "sentence": sentence.sentence,
        "where": sentence.where,
        "datasets": [dataset_names.get(name, name) for name in sentence.datasets or usual],
        "test": sentence.test,
        "model": model_names.get(sentence.said.model, sentence.said.model),
        "than": [model_names.get(name, name) for name in sentence.said.rivals],
        "attack": sentence.said.attack,
        "levels": sentence.said.levels,
        "value": sentence.said.bound,
    }


# --- checks -----------------------------------------------------------------------------


def check_sentence(
    sentence: Sentence,
    trained: Mapping[str, Sequence[str]],
    models: Sequence[str],
    attacks: Mapping[str, Any],
    place: str,
) -> None:
    """Refuses a sentence that the study cannot tell anything of.

    Args:
        sentence: to check.
        trained: data sets of the study, each with the models that are trained there.
        models: of the study.
        attacks: of the study, :class:`medrobust.experiment.config.Attack`.
        place: file and key of the sentence.

    Raises:
        InputError: a model, attack, level or data set is unknown or not run, or a value cannot be.
    """
    test = f"{place}.{sentence.test}"
    _check_models(sentence, models, test)
    _check_datasets(sentence, trained, place)
    _check_attack(sentence, attacks, test)
    accuracy = sentence.said.attack is None or bool(sentence.said.levels)
    least = -1.0 if sentence.test == "more" else 0.0
    if accuracy and not least <= sentence.said.bound <= 1:
        key = "by" if sentence.test == "more" else "value"
        raise InputError(
            f"An accuracy is a share of points, and cannot be held against {sentence.said.bound}.",
            where=f"{test}.{key}",
            remedy=f"from {least:g} to 1.",
        )


def _check_models(sentence: Sentence, models: Sequence[str], test: str) -> None:
    for key, names in (("model", [sentence.said.model]), ("than", sentence.said.rivals)):
        for name in names:
            if name not in models:
                raise unknown_name("model", name, models, where=f"{test}.{key}")
    repeated = len(set(sentence.models)) < len(sentence.models)
    if repeated or (sentence.test == "more" and not sentence.said.rivals):
        raise InputError(
            "A model is to be compared with others, each once.",
            where=f"{test}.than",
            remedy="name one other model, or several.",
        )


def _check_datasets(sentence: Sentence, trained: Mapping[str, Sequence[str]], place: str) -> None:
    for dataset in sentence.datasets or ():
        if dataset not in trained:
            raise unknown_name("data set", dataset, list(trained), where=f"{place}.datasets")
        lacking = [name for name in sentence.models if name not in trained[dataset]]
        if lacking:
            raise InputError(
                f"The model {lacking[0]!r} is not trained on {dataset}.",
                where=f"{place}.datasets",
                remedy="name data sets that all models of the sentence are trained on.",
            )
    if not any(set(sentence.models) <= set(there) for there in trained.values()):
        raise InputError(
            f"No data set is one of all its models ({', '.join(sentence.models)}).",
            where=place,
            remedy="compare models that are trained on the same data.",
        )


def _check_attack(sentence: Sentence, attacks: Mapping[str, Any], test: str) -> None:
    said = sentence.said
    if said.attack is None:
        if said.epsilon is not None:
            raise InputError(
                "A noise level without an attack says nothing.",
                where=f"{test}.epsilon",
                remedy="name the attack, or leave epsilon out for accuracy without attack.",
            )
        return
    if said.attack not in attacks:
        raise unknown_name("attack", said.attack, attacks, where=f"{test}.attack")
    attack = attacks[said.attack]
    for name in sentence.models:
        if attack.models is not None and name not in attack.models:
            raise InputError(
                f"The attack {said.attack!r} is not made on the model {name!r}.",
                where=f"{test}.attack",
                remedy=f"models that it is made on: {', '.join(attack.models)}.",
            )
    if attack.has_radius:
        _check_levels(said, attack, test)
    elif said.epsilon is not None:
        raise InputError(
            f"The attack {said.attack!r} has no epsilon: it looks for the nearest adversarial "
            "example, and the sentence is about its distance.",
            where=f"{test}.epsilon",
            remedy="leave epsilon out.",
        )


def _check_levels(said: Said, attack: Any, test: str) -> None:
    """Refuses an attack within a ball that no tally counts, and levels that it does not have."""
    if not attack.tallied:
        raise InputError(
            f"Of the attack {said.attack!r} no accuracy is counted.",
            where=f"{test}.attack",
            remedy="name an attack with `select: test` and an epsilon, without `points`.",
        )
    known = sorted({0.0, *_levels_of(attack)})
    if not said.levels or len(set(said.levels)) < len(said.levels):
        raise InputError(
            f"At which noise levels of {said.attack!r} the sentence is true is to be said, each "
            "once.",
            where=f"{test}.epsilon",
            remedy=f"of {', '.join(f'{level:g}' for level in known)} one or several.",
        )
    for level in said.levels:
        if level not in known:
            raise unknown_name("noise level", level, known, where=f"{test}.epsilon")


def _levels_of(attack: Any) -> Iterator[float]:
    yield from map(float, attack.grid.get("epsilon", ()))
    if "epsilon" in attack.options:
        yield float(attack.options["epsilon"])
