# SPDX-License-Identifier: MIT
"""Packets as bytes and as YAML says them: netlink messages, control messages."""
