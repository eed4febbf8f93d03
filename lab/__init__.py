# SPDX-License-Identifier: MIT
"""chanlab: a test lab for the border between user space and the Linux kernel."""

__version__ = "0.1.0"
