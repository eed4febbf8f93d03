# SPDX-License-Identifier: MIT
"""Debian's archive: its signed lists, its packages, and the kernels among them."""
