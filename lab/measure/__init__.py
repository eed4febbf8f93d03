# SPDX-License-Identifier: MIT
"""What scenarios and round trips cost."""
