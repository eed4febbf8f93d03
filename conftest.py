# SPDX-License-Identifier: MIT
"""Everything that pytest learns here comes from the lab's plugin."""

pytest_plugins = ["lab.plugin"]
