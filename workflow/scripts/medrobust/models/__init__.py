"""Architectures, one module each, and what joins their members into one classifier.

A module holds the functions of one architecture and ends with ``ARCHITECTURE``, an object of
:class:`medrobust.models.contract.Architecture`, which says what they are. Every architecture
evaluates all members on a block of points at once. For methods that descend a loss it also has
first values and ``forward``; for those that compute members one after the other, the functions of
one member (:mod:`medrobust.models.engine.apart`). Where members give logits, gradient attacks
differentiate ``forward``, and go the way back of one member where there is but one.
"""
