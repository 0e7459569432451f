"""Training methods, one module each.

A method module exposes ``Spec`` (its settings), ``ARCHITECTURES`` (the architectures it can
train) and ``train(spec, architecture, architecture_spec, work) -> Trained``; ``work`` is
described in :mod:`medrobust.training.work`.
"""
