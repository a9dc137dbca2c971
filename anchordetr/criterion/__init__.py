"""Hungarian matching and the set-prediction loss."""

from anchordetr.criterion.classification import FocalLoss, VarifocalLoss
from anchordetr.criterion.criterion import Losses, SetCriterion, build_criterion
from anchordetr.criterion.matcher import HungarianMatcher, Matches

__all__ = ["FocalLoss", "HungarianMatcher", "Losses", "Matches", "SetCriterion", "VarifocalLoss", "build_criterion"]
