"""Which manifold fits the data: candidates are trained, judged on held-out rows, and chosen among.

``select`` is the whole of it; ``judging`` trains and judges one candidate, ``floor`` what it has to
beat. The rule is ``metrics.choose``.
"""

from manifold_ae.run.selection.select import candidates_of, next_step, select, table

__all__ = ["candidates_of", "next_step", "select", "table"]
