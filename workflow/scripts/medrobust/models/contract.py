"""What an architecture states: the class of the object that each module here ends with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from medrobust.core.contract import NO_RESULT, Contract, Function
from medrobust.core.registry import entry_of, parse_spec

#: What members give: logits, probabilities, or votes (0 or 1 for each class).
Scores = Literal["logits", "probabilities", "votes"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Architecture(Contract):
    """A network, or another classifier, of which several members are evaluated as one.

    ``M`` members, ``n`` points of ``d`` values, ``c`` classes, ``o`` outputs (``c``, or one of two
    classes, the logit of class 1). ``spec`` is an instance of the settings class, ``parameters``
    the arrays of all members with a leading member axis, ``member`` those of one without it.
    Functions of tensors get and return torch tensors on one device.

    Attributes:
        scores: what ``member_scores`` gives.
        uses_gpu: whether it computes on a GPU where there is one.
        concatenate: ``(parts) -> parameters``: the members of several training jobs (a list of
            arrays by name) as one set of arrays.
        member_scores: ``(spec, parameters, shape, n_classes, device) -> function`` from points
            float32 ``[n, *shape]`` to scores float32 ``[M, n, c]``. A row depends on its point
            alone, in blocks of one size.
        label_block: points of an evaluation on a CPU, if those of :mod:`medrobust.models.blocks`
            are too many; blocks are always whole.
        bulk_block: points of an evaluation on a CPU in which many points of thousands of values are
            asked about: a product with a large first layer reads all its weights for each block.
        gpu_block: points of any pass on a GPU, if those of :mod:`medrobust.models.blocks` are too
            many.
        initial_parameters: ``(spec, shape, n_classes, seeds) -> parameters``, float32: the first
            values of members, each from its own seed. Raises an InputError for points of another
            form than the architecture takes.
        forward: ``(spec, parameters, x) -> outputs [M, n, o]`` of tensors, x ``[M, n, d]`` (each
            member its own points) or ``[n, d]`` (all members the same), as the model is evaluated.
        training_forward: the same in training, where that differs; x ``[M, n, d]``.
        after_step: ``(parameters)``: changes the tensors in place after each step.
        untrained: names of arrays that an optimizer leaves alone.
        members_apart: whether members are computed one after the other in training, by ``forward``,
            and, as the plan counts, in evaluation.
        momentum_epoch: one member's epoch of gradient descent, written out for the CPU; see
            :func:`medrobust.models.mlp.momentum_epoch`.
        logits: ``(spec, member, x [n, d]) -> logits [n, c]`` of one member.
        training_logits: ``(spec, member, moving, x [n, d]) -> logits [n, c]`` of one member in
            training, where that differs: with the batch's own statistics, which it adds in place to
            the tensors of ``moving``, the arrays of ``untrained``, which autograd does not watch.
            ``member`` need not have these.
        logits_and_pattern: the logits, and what ``pull_back`` needs of the pass.
        pull_back: ``(spec, member, pattern, slopes) -> slopes`` with respect to the points; see
            :mod:`medrobust.models.engine.apart`.
        backpropagate: ``(spec, member, x, pattern, slopes, gradients)``: writes the gradient with
            respect to weights and biases, without automatic differentiation.
        normalised_kernels: ``(spec) -> names`` of the layers whose kernels may be kept at length 1,
            and drawn anew when nothing moves them.
        read_weights: ``(path, spec, sha256=None) -> weights``: reads a safetensors file of weights
            that others trained; ``arrays`` of what it returns are float32 by our names, without a
            member axis, all but the output layer; ``layout`` says whose names the file has, and
            ``sha256`` which file it is. Raises an InputError for a file that does not fit.
        has_gradients: whether ``forward`` can be differentiated with respect to the points.
        gradient_block: rows of a gradient pass on a CPU, if those of
            :mod:`medrobust.models.blocks` are too many.
        fits: ``(spec, shape, n_classes)``: raises an InputError where points of a shape, or so many
            classes, are not for it, before any work. What is not given takes all. Training
            refuses the same in the same words, so it shapes no result.
        first_pooling: ``(spec) -> name`` of the network's first pooling, "max" or "drop_max"; None
            where a network of these settings has none. Shapes residual maps alone, whose job has
            the code of both functions in its hash by their places (``module:name``): they stand at
            the top of a module.
        pooled_features: ``(spec, member, x [n, d], pooling) -> maps [n, k, h, w]``: what the first
            pooling of one member hands on, with the pooling of this name in the place of its own,
            as the model is evaluated.
        channels_last: whether kernels of convolutions in two dimensions, arrays of four axes of a
            member, lie with input channels side by side on a CPU while gradients are taken: with
            many channels PyTorch then spares itself another order in every pass.
        build: ``(plans, channels, n_classes, seed) -> module`` of networks that give every pixel a
            class, which have none of the functions above: :mod:`medrobust.models.nnunet`.
        step_seconds: for the plan: seconds that a plain training step of one member takes for a
            point, on one core, by any method that has not measured its own.
        step_value_seconds: what each further value of a point adds to that, of points larger than
            a heartbeat of 187 values, on which it then is measured.
        member_bytes: for the plan: ``(spec, shape, n_classes) -> bytes`` of a trained member's
            arrays. Members of architectures without it are not counted.
    """

    scores: Scores
    uses_gpu: bool
    concatenate: Function | None = None
    member_scores: Function | None = None
    label_block: int | None = None
    gpu_block: int | None = None
    bulk_block: int | None = None

    initial_parameters: Function | None = None
    forward: Function | None = None
    training_forward: Function | None = None
    after_step: Function | None = None
    untrained: frozenset[str] = frozenset()
    members_apart: bool = False
    momentum_epoch: Function | None = None

    logits: Function | None = None
    training_logits: Function | None = None
    logits_and_pattern: Function | None = None
    pull_back: Function | None = None
    backpropagate: Function | None = None
    normalised_kernels: Function | None = None

    read_weights: Function | None = field(default=None, metadata=NO_RESULT)

    has_gradients: bool = True
    gradient_block: int | None = None
    channels_last: bool = False

    build: Function | None = None

    fits: Function | None = field(default=None, metadata=NO_RESULT)
    first_pooling: Function | None = field(default=None, metadata=NO_RESULT)
    pooled_features: Function | None = field(default=None, metadata=NO_RESULT)
    step_seconds: float | None = field(default=None, metadata=NO_RESULT)
    step_value_seconds: float | None = field(default=None, metadata=NO_RESULT)
    member_bytes: Function | None = field(default=None, metadata=NO_RESULT)

    def check(self) -> None:
        """Refuses functions without those that they belong to."""
        self.require(self.scores in get_args(Scores), f"scores must be one of {get_args(Scores)}")
        if self.build is not None:
            self._check_pixels()
            return
        self.require_functions("concatenate", "member_scores")
        self.require_functions("fits", "member_bytes", optional=True)
        stack = ("initial_parameters", "forward")
        one = ("logits", "logits_and_pattern", "pull_back")
        of_stack = ("training_forward", "after_step", "momentum_epoch")
        of_one = ("training_logits", "backpropagate", "normalised_kernels")
        self.require_functions(*stack, *of_stack, *one, *of_one, optional=True)
        self._require_together(*stack)
        self._require_together(*one)
        self._require_base("forward", *of_stack, "logits", "untrained", "members_apart")
        self._require_base("logits", *of_one)
        self._require_base("forward", "gradient_block", "channels_last")
        self._require_base("untrained", "training_logits")
        self.require(
            self.logits is None or self.training_forward is None or bool(self.training_logits),
            "training_forward and logits need training_logits: members trained one by one would "
            "else learn as they are evaluated",
        )
        self.require_functions("read_weights", optional=True)
        self._require_base("initial_parameters", "read_weights")
        pooling = ("first_pooling", "pooled_features")
        self.require_functions(*pooling, optional=True)
        self._require_together(*pooling)
        self.require(
            self.has_gradients or self.forward is not None,
            "has_gradients: False needs a forward that has none",
        )
        for name in ("label_block", "bulk_block", "gradient_block", "gpu_block"):
            rows = getattr(self, name)
            self.require(rows is None or rows >= 1, f"{name} must be at least 1")
        costs = {"": self.step_seconds, "per value": self.step_value_seconds}
        self.require_seconds({name: value for name, value in costs.items() if value is not None})
        self.require(
            self.step_value_seconds is None or self.step_seconds is not None,
            "step_value_seconds adds to step_seconds, which is not given",
        )

    @property
    def of_pixels(self) -> bool:
        """Whether it gives every pixel a class, not every point."""
        return self.build is not None

    def _check_pixels(self) -> None:
        """Refuses functions that answer rows, of a network that answers pixels."""
        self.require_functions("build")
        for name in ("concatenate", "member_scores", "initial_parameters", "forward", "logits"):
            self.require(getattr(self, name) is None, f"build leaves no place for {name}")

    def _require_together(self, *names: str) -> None:
        there = [name for name in names if getattr(self, name) is not None]
        absent = [name for name in names if name not in there]
        self.require(
            not there or not absent,
            f"{', '.join(names)} come together; without {' and '.join(absent)}, "
            f"{' and '.join(there)} cannot be used",
        )

    def _require_base(self, base: str, *names: str) -> None:
        """Refuses what can only be used beside a function that is not there."""
        for name in names:
            there = getattr(self, name)
            self.require(not there or bool(getattr(self, base)), f"{name} needs {base}")


def architecture_of(name: str) -> Architecture:
    """Returns what the registered architecture ``name`` states.

    Raises:
        InputError: there is none, or its module does not state it.
    """
    return entry_of("architecture", name, Architecture)


def first_pooling_of(architecture: Mapping[str, Any]) -> str | None:
    """Returns the name of the first pooling of a model's networks.

    Args:
        architecture: ``name`` and settings.

    Returns:
        "max" or "drop_max"; None where they have none, or their architecture does not say.

    Raises:
        InputError: there is no such architecture, or a setting is wrong.
    """
    first_pooling = architecture_of(architecture["name"]).first_pooling
    if first_pooling is None:
        return None
    what = {"file": "settings of the model", "prefix": "architecture"}
    return first_pooling(parse_spec("architecture", architecture, **what))
