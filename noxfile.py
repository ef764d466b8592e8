"""The core on every supported Python that this machine has: ``nox`` (versions that are missing are skipped)."""

from __future__ import annotations

import nox

nox.options.error_on_missing_interpreters = False

# What a prediction needs, without the heavy libraries, which don't come for every Python at once.
CORE_TESTS = (
    "tests/test_predict.py",
    "tests/test_profiles.py",
    "tests/test_families.py",
    "tests/test_program.py",
    "tests/test_breakeven.py",
    "tests/test_memory.py",
    "tests/test_policy_plans.py",
    "tests/test_golden.py",
)


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def core(session: nox.Session) -> None:
    """Install the wheel with its own dependencies only, and run the core tests against it."""
    session.install(".", "pytest", "hypothesis")
    session.run("pytest", "-p", "no:cacheprovider", "--import-mode=append", *CORE_TESTS)
