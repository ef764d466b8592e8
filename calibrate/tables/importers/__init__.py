"""Importers of kernel tables that others measured: one file a source, all giving rows in seconds."""

from __future__ import annotations

from calibrate.tables.importers.aiconfigurator import Imported, gpu_folders, import_tables

__all__ = ["Imported", "gpu_folders", "import_tables"]
