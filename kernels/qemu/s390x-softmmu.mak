# SPDX-License-Identifier: MIT
# What the lab starts of it: s390-ccw-virtio.
CONFIG_S390_CCW_VIRTIO=y
CONFIG_VIRTIO_CCW=y
CONFIG_VIRTIO_SERIAL=y
CONFIG_VIRTIO_RNG=y
