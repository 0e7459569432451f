"""Training methods, one module each.

A method module exposes ``Spec`` (its settings), ``ARCHITECTURES`` (the architectures it can
train) and ``train(spec, architecture, work)``; see :class:`medrobust.training.work.Work`.
"""
