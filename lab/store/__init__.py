# SPDX-License-Identifier: MIT
"""What is kept on disk and shared between processes."""
