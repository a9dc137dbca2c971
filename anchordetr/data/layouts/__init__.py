"""Data layouts: reading and validation of annotations in the formats that users have."""
