# SPDX-License-Identifier: MIT
"""Kernels that nobody has built yet: out of a tree of sources, or a release of kernel.org's."""
