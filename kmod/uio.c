// SPDX-License-Identifier: GPL-2.0-only
/*
 * uio.c - a driver in user space for QEMU's edu device, a PCI device that computes
 * factorials and raises interrupts. What is here is the part that must be in the
 * kernel; /dev/uioN (0600) is the uio core's:
 *
 *   mmap   at offset 0 the device's registers, at offset PAGE_SIZE a page of this
 *          driver's. uapi/lab_uio.h says what is where.
 *   read   4 bytes: waits for an interrupt, tells how many there were altogether.
 *   write  4 bytes: 1 lets interrupts through, 0 holds them back, EINVAL for others.
 *
 * The device's interrupt is one of the old kind, a level: it goes on until the device
 * is told that it was seen, and only user space knows how to do that. So the handler
 * holds it back in the device's command register, and user space lets it through
 * again when it has acknowledged it. What comes meanwhile is not lost: it is raised
 * still when the next is let through.
 *
 * The module's parameter `device` tells which PCI device is bound.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/gfp.h>
#include <linux/interrupt.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/uio_driver.h>

#include "lab_uio.h"

static char device[32];
module_param_string(device, device, sizeof(device), 0444);
MODULE_PARM_DESC(device, "the PCI device that is bound; for reading alone");

struct lab_uio {
	struct uio_info info;
	struct pci_dev *pdev;
	struct lab_uio_mailbox *mailbox;	/* a page, which user space may have mapped */
	spinlock_t lock;			/* of the command register and the mailbox */
};

static irqreturn_t lab_uio_handler(int irq, struct uio_info *info)
{
	struct lab_uio *lab = info->priv;

	/* The line may be shared: the device's own status tells whose interrupt it is. */
	if (!pci_check_and_mask_intx(lab->pdev))
		return IRQ_NONE;

	spin_lock(&lab->lock);
	lab->mailbox->interrupts++;
	spin_unlock(&lab->lock);
	return IRQ_HANDLED;
}

static int lab_uio_irqcontrol(struct uio_info *info, s32 on)
{
	struct lab_uio *lab = info->priv;
	unsigned long flags;

	if (on != 0 && on != 1)
		return -EINVAL;

	spin_lock_irqsave(&lab->lock, flags);
	lab->mailbox->controls++;
	pci_intx(lab->pdev, on);
	spin_unlock_irqrestore(&lab->lock, flags);
	return 0;
}

static void lab_uio_describe(struct lab_uio *lab)
{
	struct uio_info *info = &lab->info;

	info->name = "lab_uio";
	info->version = "1";
	info->priv = lab;
	info->irq = lab->pdev->irq;
	info->irq_flags = IRQF_SHARED;
	info->handler = lab_uio_handler;
	info->irqcontrol = lab_uio_irqcontrol;

	info->mem[0].name = "registers";
	info->mem[0].addr = pci_resource_start(lab->pdev, 0);
	info->mem[0].size = pci_resource_len(lab->pdev, 0);
	info->mem[0].memtype = UIO_MEM_PHYS;

	info->mem[1].name = "mailbox";
	info->mem[1].addr = (uintptr_t)lab->mailbox;
	info->mem[1].size = PAGE_SIZE;
	info->mem[1].memtype = UIO_MEM_LOGICAL;
}

static int lab_uio_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct lab_uio *lab;
	int ret;

	lab = kzalloc(sizeof(*lab), GFP_KERNEL);
	if (!lab)
		return -ENOMEM;
	spin_lock_init(&lab->lock);
	lab->pdev = pdev;

	ret = -ENOMEM;
	lab->mailbox = (void *)get_zeroed_page(GFP_KERNEL);
	if (!lab->mailbox)
		goto out_free;

	ret = pci_enable_device(pdev);
	if (ret)
		goto out_page;
	ret = pci_request_regions(pdev, "lab_uio");
	if (ret)
		goto out_disable;
	ret = -ENODEV;
	if (!pdev->irq || !pci_intx_mask_supported(pdev))
		goto out_release;

	/* What it may be raising already has to wait until somebody handles it. */
	pci_intx(pdev, 0);
	lab_uio_describe(lab);
	ret = uio_register_device(&pdev->dev, &lab->info);
	if (ret)
		goto out_release;
	pci_set_drvdata(pdev, lab);
	strscpy(device, pci_name(pdev), sizeof(device));
	pci_intx(pdev, 1);
	return 0;

out_release:
	pci_release_regions(pdev);
out_disable:
	pci_disable_device(pdev);
out_page:
	free_page((unsigned long)lab->mailbox);
out_free:
	kfree(lab);
	return ret;
}

static void lab_uio_remove(struct pci_dev *pdev)
{
	struct lab_uio *lab = pci_get_drvdata(pdev);

	/* Open files stay and are dead from here on; nobody is in the handler any more. */
	uio_unregister_device(&lab->info);
	device[0] = '\0';
	pci_intx(pdev, 0);
	pci_release_regions(pdev);
	pci_disable_device(pdev);
	/* Who has mapped the page keeps it. */
	free_page((unsigned long)lab->mailbox);
	kfree(lab);
}

static const struct pci_device_id lab_uio_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};
MODULE_DEVICE_TABLE(pci, lab_uio_ids);

static struct pci_driver lab_uio_driver = {
	.name		= "lab_uio",
	.id_table	= lab_uio_ids,
	.probe		= lab_uio_probe,
	.remove		= lab_uio_remove,
};
module_pci_driver(lab_uio_driver);

MODULE_DESCRIPTION("chanlab: a driver in user space");
MODULE_LICENSE("GPL");
