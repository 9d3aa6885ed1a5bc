"""What is asked of trained runs beside their figures of merit; training knows none of it.

``questions`` asks, for ``manifold-ae evaluate``; ``topology``, ``calibration`` and ``scores`` have
the answers.
"""
