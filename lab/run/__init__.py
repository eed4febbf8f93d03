# SPDX-License-Identifier: MIT
"""What it takes to run a scenario, and what became of it."""
