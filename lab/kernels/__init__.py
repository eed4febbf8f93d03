# SPDX-License-Identifier: MIT
"""Where kernels come from: the archive, roots and toolchains; building modules."""
