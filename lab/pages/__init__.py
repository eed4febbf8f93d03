# SPDX-License-Identifier: MIT
"""What is generated for people to read."""
