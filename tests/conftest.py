# SPDX-License-Identifier: MIT
"""What holds for all tests of the harness."""

from hypothesis import settings

# How long an example takes says how busy the host is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
