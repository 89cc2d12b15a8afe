"""What tests of all packages may ask for."""

from __future__ import annotations

from tests.faultrows import fault_recorder, fault_row, pytest_addoption

__all__ = ["fault_recorder", "fault_row", "pytest_addoption"]
