"""Validated configuration of model, data, loss and training. Network modules do not depend on it; builders do."""

from anchordetr.config.model import ModelConfig
from anchordetr.config.renamed import RENAMED, upgrade
from anchordetr.config.schema import Config, differences, flatten, merged, parse_config
from anchordetr.config.text import parse_assignments, read_config_file, to_yaml
from anchordetr.config.training import DataConfig, LossConfig, TrainConfig

__all__ = [
    "RENAMED",
    "Config",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "TrainConfig",
    "differences",
    "flatten",
    "merged",
    "parse_assignments",
    "parse_config",
    "read_config_file",
    "to_yaml",
    "upgrade",
]
