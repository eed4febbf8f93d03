# SPDX-License-Identifier: MIT
"""What is read of a module's section .modinfo."""

import pytest

from lab.kernels.modinfo import licence


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (b"\x7fELF\xc3license=GPL v2\0author=me\0", "GPL v2"),
        (b"\0author=me\0license=Dual BSD/GPL\0", "Dual BSD/GPL"),
        (b"\0sublicense=none\0", ""),
        (b"\0author=me\0", ""),
    ],
)
def test_the_licence_that_a_module_names(image: bytes, said: str) -> None:
    assert licence(image) == said
