"""Architectures, one module each.

An architecture module exposes ``Spec`` (its settings), ``SCORES`` ("logits" or "probabilities",
what its members give), ``USES_GPU``, ``concatenate(parts)`` (the members of several training
jobs as one ensemble) and ``member_scores(spec, parameters, shape, n_classes, device)``, which
returns the function that evaluates all members on a block of points at once.
"""
