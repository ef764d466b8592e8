"""Policies on real engines: items, prompts, replies, a run that survives its death, and its check."""
