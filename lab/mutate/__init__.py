# SPDX-License-Identifier: MIT
"""Mechanical mistakes in a module, one at a time, and which of them its scenarios notice."""
