# SPDX-License-Identifier: MIT
"""What is read of a module's section .modinfo."""

import pytest

from lab.kernels.modinfo import depends, licence, parameters, unknown_parameter


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


def test_the_modules_that_it_uses() -> None:
    assert depends(b"\0depends=virtio-ring,configfs\0") == ("virtio_ring", "configfs")
    assert depends(b"\0depends=\0name=x\0") == ()
    assert depends(b"\0softdepends=x\0") == ()


IMAGE = b"\0parmtype=depth:uint\0parm=depth:how deep\0xx\0__param_str_by_callback\0__param_str_depth\0"


def test_parameters() -> None:
    assert parameters(IMAGE) == {"depth", "by_callback", "dyndbg", "async_probe"}
    assert unknown_parameter(IMAGE, ["depth", "by-callback", "dyndbg"]) is None
    assert unknown_parameter(IMAGE, ["depth", "dept"]) == "has no parameter 'dept'; did you mean 'depth'?"
    assert unknown_parameter(b"", ["x"]) == "has no parameter 'x'"
