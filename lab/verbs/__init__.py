# SPDX-License-Identifier: MIT
"""The system calls that a scenario can make, one family a file."""
