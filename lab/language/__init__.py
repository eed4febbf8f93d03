# SPDX-License-Identifier: MIT
"""What a scenario file may say: values, expressions, steps, and what is wanted of their results."""
