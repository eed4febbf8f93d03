# SPDX-License-Identifier: MIT
"""A running machine: argv, template, clone, agent, console, QMP, splats."""
