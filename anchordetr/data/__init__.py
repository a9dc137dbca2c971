"""Data sets: reading, validation, augmentation and batches."""
