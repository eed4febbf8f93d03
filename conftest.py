# SPDX-License-Identifier: MIT
"""What pytest learns of the lab where it is not installed; where it is, this registers nothing twice."""

pytest_plugins = ["lab.plugin", "lab.plugin.fixtures"]
