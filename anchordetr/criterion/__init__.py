"""Hungarian matching and the set-prediction losses."""

from anchordetr.criterion.criterion import Losses, SetCriterion, build_criterion
from anchordetr.criterion.matcher import HungarianMatcher, Matches

__all__ = ["HungarianMatcher", "Losses", "Matches", "SetCriterion", "build_criterion"]
