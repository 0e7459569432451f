"""A user's own model as attacks want it: a callable, a torch module, a scikit-learn classifier.

Whatever it is, it is asked in blocks of one size, the last one padded: a matrix product may round a
row otherwise in a batch of another size. It gets a copy of the rows, so it may write to them. Every
answer is checked (:mod:`medrobust.models.engine.answers`).

* A **callable** gets float32 ``[block, *shape]`` and returns integer labels ``[block]`` or scores
  ``[block, classes]``, whose largest is the label (the first of equals).
* A **torch module** is called in evaluation mode and gives gradients through autograd.
* A **classifier** of scikit-learn gets float32 ``[block, d]`` and gives labels by ``predict``;
  ``predict_proba``, where there is one, gives scores. Its classes may be anything: label k is
  ``classes_[k]``.

Scores that are probabilities (in [0, 1], their sum 1) become logarithms where attacks ask for
logits. Differences of logarithms are those of the logits behind a softmax; probabilities
themselves are flat wherever the model is sure.
"""

from __future__ import annotations

import contextlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core.errors import InputError
from medrobust.models.engine.answers import checked_labels, checked_scores
from medrobust.models.gradients import InputGradients, Loss
from medrobust.runtime.devices import in_halves

if TYPE_CHECKING:
    import torch

#: Points that the first checks ask about alone.
_ALONE = 8
#: Answers may differ by so much of the largest score: rounding in half precision, no more.
_TOLERANCE = 1e-3
#: Stands for a number of classes that is not known.
_MANY = 2**31
#: Probabilities below are taken as this: the smallest normal float32.
_LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)


class OwnModel(ABC):
    """What the kinds of a user's model have in common.

    Args:
        input_shape: shape of one point.
        n_classes: number of classes; None: as many as there are scores, for labels not known.
        block: rows that the model is handed at a time.

    Attributes:
        classes: what label k is called; None: k itself.
        has_logits, has_gradients: what attacks may ask for.
        probabilities: whether scores are probabilities.
        logits_asked: whether an attack has asked for logits.
    """

    fixed_shape = True
    classes: tuple[Any, ...] | None = None

    def __init__(self, input_shape: tuple[int, ...], n_classes: int | None, block: int) -> None:
        self.input_shape, self.gradient_block = tuple(input_shape), block
        self._n_classes = n_classes
        self.has_logits = self.has_gradients = self.probabilities = False
        self.logits_asked = False

    @property
    def n_classes(self) -> int:
        """Number of classes; a very large number where it is not known."""
        return self._n_classes or _MANY

    def labels_of(self, y: np.ndarray) -> np.ndarray:
        """Returns labels as the user gives them as classes 0, 1, ..."""
        return y

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Returns the label of each row of float32 ``[n, *input_shape]``, int64 ``[n]``.

        Raises:
            InputError: the model's answer is not one.
        """
        return np.concatenate([self._labels(rows)[:size] for rows, size in self._blocks(x)])

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Returns scores, of probabilities the logarithms, float32 ``[n, classes]``.

        Raises:
            InputError: the model's answer is not one.
        """
        self.logits_asked, scores = True, self.scores(x)
        return np.log(np.maximum(scores, _LEAST_PROBABILITY)) if self.probabilities else scores

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Returns scores as the model gives them, float32 ``[n, classes]``."""
        return np.concatenate([self._scores(rows)[:size] for rows, size in self._blocks(x)])

    def _labels(self, rows: np.ndarray) -> np.ndarray:
        return self._scores(rows).argmax(axis=1)

    @abstractmethod
    def _scores(self, rows: np.ndarray) -> np.ndarray:
        """Returns the checked scores of one whole block."""

    def _blocks(self, x: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        """Yields copies of blocks, padded by their last row, and how many of their rows count."""
        for first in range(0, len(x), self.gradient_block):
            part = x[first : first + self.gradient_block]
            rows = np.empty((self.gradient_block, *self.input_shape), dtype=np.float32)
            rows[: len(part)], rows[len(part) :] = part, part[-1]
            yield rows, len(part)

    def _scores_are_known(self, sample: np.ndarray) -> None:
        """Notes what the scores of a sample tell: number of classes, whether probabilities."""
        self.has_logits = True
        scores = self.scores(sample)
        self._n_classes = scores.shape[1]
        shares = ((scores >= 0) & (scores <= 1)).all()
        self.probabilities = bool(shares and np.allclose(scores.sum(axis=1), 1, atol=1e-3))


class _Function(OwnModel):
    """A callable that gives labels or scores; the first answer tells which."""

    def __init__(
        self, model: Callable[[np.ndarray], Any], sample: np.ndarray, n: int | None, block: int
    ) -> None:
        super().__init__(sample.shape[1:], n, block)
        self._model = model
        rows, _ = next(self._blocks(sample))
        if self._ask(rows).ndim == 2:
            self._scores_are_known(sample)

    def _labels(self, rows: np.ndarray) -> np.ndarray:
        if self.has_logits:
            return super()._labels(rows)
        return checked_labels(self._ask(rows), len(rows), self._n_classes)

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        return checked_scores(self._ask(rows), len(rows), self._n_classes)

    def _ask(self, rows: np.ndarray) -> np.ndarray:
        with _told_what_was_asked(rows):
            answer = self._model(rows)
        if hasattr(answer, "detach"):
            answer = answer.detach().cpu()
        return np.asarray(answer)


class _Classifier(OwnModel):
    """A fitted classifier of scikit-learn."""

    def __init__(self, model: Any, sample: np.ndarray, n: int | None, block: int) -> None:
        found = np.asarray(model.classes_)
        if found.ndim != 1 or len(found) < 2:
            raise InputError(
                "This classifier has no single list of at least two classes.",
                where="classes_",
                remedy="give a callable that returns the labels of one output.",
            )
        values = int(np.prod(sample.shape[1:]))
        if (wanted := getattr(model, "n_features_in_", values)) != values:
            raise InputError(f"This classifier takes {wanted} values, the points have {values}.")
        _check_number(n, len(found))
        super().__init__(sample.shape[1:], len(found), block)
        self._model, self._found = model, found
        if not np.array_equal(found, np.arange(len(found))):
            self.classes = tuple(found.tolist())
        self.has_logits = hasattr(model, "predict_proba")
        if self.has_logits:
            self._scores_are_known(sample)

    def labels_of(self, y: np.ndarray) -> np.ndarray:
        """Returns the places of labels in ``classes_``.

        Raises:
            InputError: a label is not one of them.
        """
        known = np.isin(y, self._found)
        if not known.all():
            raise InputError(
                f"{int((~known).sum())} labels are none of the classifier's classes "
                f"{self._found.tolist()}, such as {np.asarray(y)[~known][0]!r}.",
                where="y",
            )
        order = np.argsort(self._found)
        return order[np.searchsorted(self._found, y, sorter=order)]

    def _labels(self, rows: np.ndarray) -> np.ndarray:
        answer = np.asarray(self._ask("predict", rows))
        if answer.shape != (len(rows),):
            return checked_labels(answer, len(rows), self._n_classes)
        return self.labels_of(answer)

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        return checked_scores(self._ask("predict_proba", rows), len(rows), self._n_classes)

    def _ask(self, method: str, rows: np.ndarray) -> np.ndarray:
        flat = rows.reshape(len(rows), -1)
        with _told_what_was_asked(flat):
            return getattr(self._model, method)(flat)


class _Module(OwnModel):
    """A torch module in evaluation mode, on the device and in the type of its parameters."""

    def __init__(
        self, module: torch.nn.Module, sample: np.ndarray, n: int | None, block: int
    ) -> None:
        import itertools

        super().__init__(sample.shape[1:], n, block)
        self._module = module
        tensors = itertools.chain(module.parameters(), module.buffers())
        floating = [tensor for tensor in tensors if tensor.is_floating_point()][:1]
        device = str(floating[0].device) if floating else "cpu"
        self._type = floating[0].dtype if floating else None
        self._passes = InputGradients(
            self._logits_of_rows, input_shape=self.input_shape, device=device, block=block
        )
        self._scores_are_known(sample)
        rows, _ = next(self._blocks(sample))
        self.has_gradients = self._reaches_its_input(rows, device)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Returns scores, of probabilities the logarithms, float32 ``[n, classes]``."""
        self.logits_asked = True
        return self.scores(x)  # logarithms are taken in the pass, where gradients go through them

    def loss_gradients(
        self, x: np.ndarray, y: np.ndarray, loss: Loss
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns logits and each row's gradient of its own loss.

        See :meth:`medrobust.models.gradients.InputGradients.loss_gradients`.

        Raises:
            InputError: a gradient is NaN or infinite: the attack would stand still.
        """
        self.logits_asked = True
        logits, gradients = self._passes.loss_gradients(x, y, loss)
        flat = gradients.reshape(len(x), -1)
        broken = np.isfinite(logits).all(axis=1) & ~np.isfinite(flat).all(axis=1)
        # Places of an attack that hold no run are 0: not the user's points.
        broken &= x.reshape(len(x), -1).any(axis=1)
        if broken.any():
            raise InputError(
                f"The gradients of {int(broken.sum())} of {len(x)} rows are NaN or infinite: an "
                "attack along them would stand still, and the model look robust.",
                remedy="attack it by its scores (spsa) or by its labels (hopskipjump), or see in "
                "the model where a root, a logarithm or a division meets 0.",
            )
        return logits, gradients

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        return checked_scores(self._passes.logits(rows), len(rows), self._n_classes)

    @in_halves(1, recorded=True)
    def _logits_of_rows(self, flat: torch.Tensor) -> torch.Tensor:
        import torch

        rows = flat.reshape(-1, *self.input_shape)
        with _told_what_was_asked(rows):
            scores = self._module(rows if self._type is None else rows.to(self._type))
        if not isinstance(scores, torch.Tensor) or scores.ndim != 2:
            shape = getattr(scores, "shape", None)
            what = f"a {type(scores).__name__}" if shape is None else f"shape {tuple(shape)}"
            raise InputError(
                f"The module returns {what} for {len(rows)} rows; expected a tensor of scores, "
                "[rows, classes].",
                remedy="wrap it in a module whose forward returns that; a single score s of class "
                "1 is the two scores [-s, s].",
            )
        scores = scores.float()
        return scores.clamp_min(_LEAST_PROBABILITY).log() if self.probabilities else scores

    def _reaches_its_input(self, rows: np.ndarray, device: str) -> bool:
        """Tells whether autograd leads from the scores back to the input."""
        import torch

        leaf = torch.from_numpy(rows.reshape(len(rows), -1)).to(device).requires_grad_()
        with torch.enable_grad():
            total = self._logits_of_rows(leaf).sum()
        if not total.requires_grad:
            return False
        return torch.autograd.grad(total, leaf, allow_unused=True)[0] is not None


@contextlib.contextmanager
def own_model(
    model: Any, sample: np.ndarray, *, n_classes: int | None = None, block: int
) -> Iterator[Any]:
    """Yields a user's model as attacks want it; a torch module is in evaluation mode meanwhile.

    A model that has ``predict``, ``n_classes`` and ``input_shape``, such as
    :class:`medrobust.models.ensembles.Ensemble`, is one already.

    Args:
        model: a callable, a torch module or a fitted classifier of scikit-learn.
        sample: float32 ``[k, *shape]``, finite points that the model is asked about first.
        n_classes: number of classes, for a callable that gives labels.
        block: rows that the model is handed at a time.

    Raises:
        InputError: the model is none of these; its answers have a wrong shape, type or value;
            they are the same for all points; they differ when it is asked again, or with the rows
            beside a row.
    """
    if all(hasattr(model, name) for name in ("predict", "n_classes", "input_shape")):
        _check_number(n_classes, model.n_classes)
        yield model
        return
    torch = sys.modules.get("torch")
    is_module = torch is not None and isinstance(model, torch.nn.Module)
    with _evaluation_mode(model) if is_module else contextlib.nullcontext():
        kind = _Module if is_module else _kind_of(model)
        adapted = kind(model, sample, n_classes, block)
        _check_behaviour(adapted, sample, block)
        yield adapted


def _kind_of(model: Any) -> Callable[..., OwnModel]:
    if hasattr(model, "predict") and hasattr(model, "classes_"):
        return _Classifier
    if hasattr(model, "predict") and hasattr(model, "get_params"):
        raise InputError(
            f"This {type(model).__name__} is not a fitted classifier: it has no `classes_`.",
            remedy="fit it first, or give a callable that returns labels or scores.",
        )
    if callable(model):
        return _Function
    raise InputError(
        f"A {type(model).__name__} is no model that can be asked.",
        remedy="give a callable that takes float32 [n, *shape] and returns labels [n] or scores "
        "[n, classes], a torch.nn.Module, or a fitted classifier of scikit-learn.",
    )


@contextlib.contextmanager
def _evaluation_mode(module: torch.nn.Module) -> Iterator[None]:
    import torch

    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.inference_mode(False):  # where the caller is in it, there are no gradients
            yield
    finally:
        for part, training in modes:
            part.training = training


@contextlib.contextmanager
def _told_what_was_asked(rows: Any) -> Iterator[None]:
    """Adds to an error in the user's model what the model was handed."""
    try:
        yield
    except Exception as error:
        error.add_note(
            f"(raised by the model, which medrobust handed {type(rows).__name__} {rows.dtype} of "
            f"shape {tuple(rows.shape)})"
        )
        raise


def _check_number(given: int | None, found: int) -> None:
    if given is not None and given != found:
        raise InputError(
            f"The model has {found} classes, but {given} are given.", where="n_classes"
        )


def _check_behaviour(model: OwnModel, sample: np.ndarray, block: int) -> None:
    """Refuses a model whose answer to a row is not a function of that row alone."""
    answers = model.scores if model.has_logits else model.predict
    first = answers(sample)
    scale = _TOLERANCE * float(np.abs(first).max()) if model.has_logits else 0.0
    if model.has_logits and len(first) > 1 and (first == first[0]).all():
        raise InputError(
            f"The model gives the same scores for {len(first)} different points: it does not look "
            "at them, so there is nothing to attack."
        )
    if (np.abs(answers(sample) - first) > scale).any():
        raise InputError(
            "The model answers differently when it is asked about the same points again; an "
            "attack would take chance for its own success.",
            remedy="put the network into evaluation mode, or give the torch module itself; what is "
            "random on purpose needs one seed at every call.",
        )
    for i in range(min(_ALONE, len(sample))):
        alone = answers(np.repeat(sample[i : i + 1], block, axis=0))[0]
        if (np.abs(alone - first[i]) > scale).any():
            raise InputError(
                "The model's answer to a point depends on the other rows of the batch; an attack "
                "asks about many points at once and would mix them up.",
                remedy="put the network into evaluation mode, or give the torch module itself; "
                "scale each point by itself or by constants of the training data.",
            )
