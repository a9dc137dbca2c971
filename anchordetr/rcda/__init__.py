"""Row-column decoupled attention (RCDA), usable in any model; needs torch and nothing else."""

from anchordetr.rcda.functional import BACKENDS, explain, rcda
from anchordetr.rcda.module import RowColumnAttention

__all__ = ["BACKENDS", "RowColumnAttention", "explain", "rcda"]
