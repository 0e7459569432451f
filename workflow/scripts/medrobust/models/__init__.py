"""Architectures, one module each.

An architecture module exposes ``Spec`` (its settings), ``SCORES`` ("logits" or "probabilities",
what its members give), ``USES_GPU``, ``concatenate(parts)`` (the members of several training
jobs as one ensemble) and ``member_scores(spec, parameters, shape, n_classes, device)``, which
returns the function that evaluates all members on a block of points at once.

For methods that descend a loss it has ``initial_parameters`` and ``forward``, and may have
``training_forward`` (where training differs from evaluation), ``UNTRAINED`` (names of arrays that
the optimizer leaves alone), ``after_step(parameters)`` (changes the tensors in place after each
step) and ``MEMBERS_APART = True`` (members are computed one after the other). Where ``SCORES`` is
"logits", gradient attacks differentiate ``forward``, unless ``HAS_GRADIENTS = False``, and go the
way back of :mod:`medrobust.models.engine.apart` where there is one member and its module has one;
``GRADIENT_BLOCK`` is then the number of rows of their passes, if that of
:mod:`medrobust.models.gradients` is too large for this architecture, and ``LABEL_BLOCK`` that of
evaluations, if that of :mod:`medrobust.models.ensembles` is. What ``composed_loss`` asks for is
in :mod:`medrobust.models.engine.apart`.
"""
