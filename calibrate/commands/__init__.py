"""The commands that calibration adds to ``costmodel``."""
