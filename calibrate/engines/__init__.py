"""Engines that can be run and timed here."""
