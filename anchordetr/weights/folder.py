"""Names of the files of a model folder; imports no torch."""

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
UNUSED_FILE = "unused_classes.safetensors"
