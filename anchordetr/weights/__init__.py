"""Saved models, published weights and conversion of other checkpoints."""
