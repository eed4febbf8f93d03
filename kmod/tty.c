// SPDX-License-Identifier: GPL-2.0-only
/*
 * tty.c - a driver of three terminals (0600). What makes them terminals is the line
 * discipline's work; here is only what moves the bytes.
 *
 * /dev/ttyLAB0, ttyLAB1 are the two ends of a cable. What is written to one arrives
 *	at the other, if that is open; it is lost if not, as on a real one. A reader
 *	who is full holds the writer up. The modem lines are crossed: DTR is the other
 *	end's DSR and CD, RTS its CTS, which is obeyed with CRTSCTS. When DTR drops
 *	(by TIOCMBIC, or the last close with HUPCL) the other end hangs up, unless it
 *	has CLOCAL. A break arrives as one.
 * /dev/ttyLAB2 is a printer: each line that is written to it, without its newline, is
 *	one message in the store. What finds the store full waits.
 *
 * ttyLAB0 begins with the settings that every terminal has (canonical, with an
 * echo) and keeps what was set; the others begin raw each time that they are opened:
 * two ends that both echo would never be silent again.
 *
 * uapi/lab_tty.h has two requests of the driver's own, for all of them.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitops.h>
#include <linux/compat.h>
#include <linux/err.h>
#include <linux/kfifo.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/tty.h>
#include <linux/tty_driver.h>
#include <linux/tty_flip.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "store.h"
#include "lab_tty.h"

#define LAB_TTY_PRINTER 2
#define LAB_TTY_LINES 3
/* What may be on its way to a reader: some pages, so that a writer notices a slow one soon. */
#define LAB_TTY_ARRIVING 16384

struct lab_tty {
	struct tty_port port;
	struct lab_tty *peer;		/* the cable's other end; the printer has none */
	DECLARE_KFIFO(sent, u8, LAB_TTY_BUFFER);
	u32 speed;
	u32 bits;
	u32 set;
	struct delayed_work again;
	bool open;
	bool stopped;
	bool throttled;
	bool crtscts;
	bool dtr;
	bool rts;
};

static struct lab_tty lab_ttys[LAB_TTY_LINES];
static struct tty_driver *lab_tty_driver;
static DEFINE_SPINLOCK(lab_tty_lock);	/* all but the ports; also orders what arrives at a port */

/* --- from one end to the other ------------------------------------------------ */

static bool lab_tty_may_send(const struct lab_tty *lab)
{
	if (lab->stopped)
		return false;
	return !lab->crtscts || lab->peer->rts;
}

/* Move what can be moved; lock held. Whoever calls it wakes the writers afterwards. */
static void lab_tty_pump(struct lab_tty *lab)
{
	struct lab_tty *peer = lab->peer;
	unsigned int len, taken;
	u8 some[128];

	if (!peer->open) {
		if (lab_tty_may_send(lab))
			kfifo_reset(&lab->sent);
		return;
	}
	while (lab_tty_may_send(lab) && !peer->throttled) {
		len = kfifo_out_peek(&lab->sent, some, sizeof(some));
		if (!len)
			break;
		taken = tty_insert_flip_string(&peer->port, some, len);
		if (!taken) {
			/* Full until a work has emptied it, which tells nobody. */
			schedule_delayed_work(&lab->again, 1);
			break;
		}
		/* How many these are is known already. */
		taken = kfifo_out(&lab->sent, some, taken);
		tty_flip_buffer_push(&peer->port);
	}
}

/* Something changed that may let go of what waits. */
static void lab_tty_resume(struct lab_tty *lab)
{
	unsigned long flags;

	if (!lab->peer)
		return;
	spin_lock_irqsave(&lab_tty_lock, flags);
	lab_tty_pump(lab);
	spin_unlock_irqrestore(&lab_tty_lock, flags);
	tty_port_tty_wakeup(&lab->port);
}

static void lab_tty_again(struct work_struct *work)
{
	lab_tty_resume(container_of(to_delayed_work(work), struct lab_tty, again));
}

/* --- the printer ----------------------------------------------------------------- */

/* A line that is as long as the buffer is one without its newline. */
static unsigned int lab_tty_line(struct lab_tty *lab, u8 *line)
{
	unsigned long flags;
	unsigned int len, i;

	spin_lock_irqsave(&lab_tty_lock, flags);
	len = lab->stopped ? 0 : kfifo_out_peek(&lab->sent, line, LAB_TTY_BUFFER);
	spin_unlock_irqrestore(&lab_tty_lock, flags);

	for (i = 0; i < len; i++)
		if (line[i] == '\n')
			return i + 1;
	return len == LAB_TTY_BUFFER ? len : 0;
}

static void lab_tty_skip(struct lab_tty *lab, u8 *line, unsigned int len)
{
	unsigned long flags;

	spin_lock_irqsave(&lab_tty_lock, flags);
	/* Less when it was flushed meanwhile. */
	len = kfifo_out(&lab->sent, line, len);
	spin_unlock_irqrestore(&lab_tty_lock, flags);
}

static u8 printer_line[LAB_TTY_BUFFER];		/* the work's */

/* The store may sleep, and write() may not. */
static void lab_tty_print(struct work_struct *work)
{
	struct lab_tty *lab = &lab_ttys[LAB_TTY_PRINTER];
	unsigned int len, text;

	while ((len = lab_tty_line(lab, printer_line))) {
		text = printer_line[len - 1] == '\n' ? len - 1 : len;
		/* Full: lab_tty_store_changed() tries again. */
		if (lab_store_put(printer_line, text))
			break;
		lab_tty_skip(lab, printer_line, len);
	}
	tty_port_tty_wakeup(&lab->port);
}
static DECLARE_WORK(printer_work, lab_tty_print);

static int lab_tty_store_changed(struct notifier_block *nb, unsigned long event, void *data)
{
	if (event != LAB_STORE_PUT)
		schedule_work(&printer_work);
	return NOTIFY_OK;
}

static struct notifier_block lab_tty_store_nb = {
	.notifier_call = lab_tty_store_changed,
};

/* --- the port: first open, last close, the modem's lines ---------------------------- */

static int lab_tty_activate(struct tty_port *port, struct tty_struct *tty)
{
	struct lab_tty *lab = container_of(port, struct lab_tty, port);
	unsigned long flags;

	spin_lock_irqsave(&lab_tty_lock, flags);
	kfifo_reset(&lab->sent);
	lab->open = true;
	lab->stopped = false;
	lab->throttled = false;
	lab->set = 0;
	spin_unlock_irqrestore(&lab_tty_lock, flags);
	return 0;
}

static void lab_tty_shutdown(struct tty_port *port)
{
	struct lab_tty *lab = container_of(port, struct lab_tty, port);
	unsigned long flags;

	spin_lock_irqsave(&lab_tty_lock, flags);
	lab->open = false;
	lab->throttled = false;
	kfifo_reset(&lab->sent);
	spin_unlock_irqrestore(&lab_tty_lock, flags);
	/* Who wrote to the other end waits for nobody now. */
	if (lab->peer)
		lab_tty_resume(lab->peer);
}

static void lab_tty_modem(struct lab_tty *lab, bool dtr, bool rts)
{
	unsigned long flags;
	bool dropped;

	spin_lock_irqsave(&lab_tty_lock, flags);
	dropped = lab->dtr && !dtr;
	lab->dtr = dtr;
	lab->rts = rts;
	/* It is queued; the lock is held for lab_tty_close(). */
	if (lab->peer && dropped)
		tty_port_tty_hangup(&lab->peer->port, true);
	spin_unlock_irqrestore(&lab_tty_lock, flags);

	if (lab->peer)
		lab_tty_resume(lab->peer);
}

static void lab_tty_dtr_rts(struct tty_port *port, lab_tty_raise raise)
{
	lab_tty_modem(container_of(port, struct lab_tty, port), raise, raise);
}

static const struct tty_port_operations lab_tty_port_ops = {
	.activate	= lab_tty_activate,
	.shutdown	= lab_tty_shutdown,
	.dtr_rts	= lab_tty_dtr_rts,
};

/* --- the terminal ------------------------------------------------------------------- */

static void lab_tty_settings(struct lab_tty *lab, struct tty_struct *tty)
{
	unsigned long flags;

	spin_lock_irqsave(&lab_tty_lock, flags);
	lab->speed = tty_termios_baud_rate(&tty->termios);
	switch (tty->termios.c_cflag & CSIZE) {
	case CS5:
		lab->bits = 5;
		break;
	case CS6:
		lab->bits = 6;
		break;
	case CS7:
		lab->bits = 7;
		break;
	default:
		lab->bits = 8;
		break;
	}
	lab->crtscts = lab->peer && (tty->termios.c_cflag & CRTSCTS);
	lab->set++;
	spin_unlock_irqrestore(&lab_tty_lock, flags);
}

static int lab_tty_install(struct tty_driver *driver, struct tty_struct *tty)
{
	struct lab_tty *lab = &lab_ttys[tty->index];
	int ret = tty_standard_install(driver, tty);

	if (ret)
		return ret;
	tty->driver_data = lab;
	if (tty->index) {
		tty->termios.c_iflag = 0;
		tty->termios.c_oflag = 0;
		tty->termios.c_lflag = 0;
		tty->termios.c_cc[VMIN] = 1;
		tty->termios.c_cc[VTIME] = 0;
	}
	lab_tty_settings(lab, tty);
	return 0;
}

static int lab_tty_open(struct tty_struct *tty, struct file *file)
{
	struct lab_tty *lab = tty->driver_data;

	return tty_port_open(&lab->port, tty, file);
}

static void lab_tty_close(struct tty_struct *tty, struct file *file)
{
	struct lab_tty *lab = tty->driver_data;
	unsigned long flags;

	tty_port_close(&lab->port, tty, file);
	/*
	 * The port has no terminal now. But the other end may have taken it just before,
	 * to hang it up: whoever closes flushes that work next, and once more would be
	 * too late, for the terminal goes and its work with it.
	 */
	spin_lock_irqsave(&lab_tty_lock, flags);
	spin_unlock_irqrestore(&lab_tty_lock, flags);
}

static void lab_tty_hangup(struct tty_struct *tty)
{
	struct lab_tty *lab = tty->driver_data;

	tty_port_hangup(&lab->port);
}

/* Takes what fits; the line discipline comes again with the rest when it is woken. */
static lab_tty_written lab_tty_write(struct tty_struct *tty, const u8 *buf, lab_tty_count count)
{
	struct lab_tty *lab = tty->driver_data;
	lab_tty_count done = 0, some;
	unsigned long flags;

	spin_lock_irqsave(&lab_tty_lock, flags);
	do {
		some = kfifo_in(&lab->sent, buf + done, count - done);
		done += some;
		if (lab->peer)
			lab_tty_pump(lab);
	} while (some && done < count);
	spin_unlock_irqrestore(&lab_tty_lock, flags);

	if (!lab->peer)
		schedule_work(&printer_work);
	return done;
}

static lab_tty_room lab_tty_write_room(struct tty_struct *tty)
{
	struct lab_tty *lab = tty->driver_data;

	return kfifo_avail(&lab->sent);
}

static lab_tty_room lab_tty_chars_in_buffer(struct tty_struct *tty)
{
	struct lab_tty *lab = tty->driver_data;

	return kfifo_len(&lab->sent);
}

static void lab_tty_flush_buffer(struct tty_struct *tty)
{
	struct lab_tty *lab = tty->driver_data;
	unsigned long flags;

	spin_lock_irqsave(&lab_tty_lock, flags);
	kfifo_reset(&lab->sent);
	spin_unlock_irqrestore(&lab_tty_lock, flags);
	tty_wakeup(tty);
}

static void lab_tty_set_termios(struct tty_struct *tty, lab_tty_old_termios *old)
{
	struct lab_tty *lab = tty->driver_data;

	lab_tty_settings(lab, tty);
	lab_tty_resume(lab);
}

static void lab_tty_stop(struct tty_struct *tty)
{
	struct lab_tty *lab = tty->driver_data;

	WRITE_ONCE(lab->stopped, true);
}

static void lab_tty_start(struct tty_struct *tty)
{
	struct lab_tty *lab = tty->driver_data;

	WRITE_ONCE(lab->stopped, false);
	if (lab->peer)
		lab_tty_resume(lab);
	else
		schedule_work(&printer_work);
}

static void lab_tty_throttle(struct tty_struct *tty)
{
	struct lab_tty *lab = tty->driver_data;

	WRITE_ONCE(lab->throttled, true);
}

static void lab_tty_unthrottle(struct tty_struct *tty)
{
	struct lab_tty *lab = tty->driver_data;

	WRITE_ONCE(lab->throttled, false);
	if (lab->peer)
		lab_tty_resume(lab->peer);
}

static int lab_tty_break_ctl(struct tty_struct *tty, int state)
{
	struct lab_tty *lab = tty->driver_data;
	unsigned long flags;

	/* It is noticed when it begins. */
	if (!lab->peer || !state)
		return 0;
	spin_lock_irqsave(&lab_tty_lock, flags);
	if (lab->peer->open && tty_insert_flip_char(&lab->peer->port, 0, TTY_BREAK))
		tty_flip_buffer_push(&lab->peer->port);
	spin_unlock_irqrestore(&lab_tty_lock, flags);
	return 0;
}

static int lab_tty_tiocmget(struct tty_struct *tty)
{
	struct lab_tty *lab = tty->driver_data;
	unsigned long flags;
	int lines = 0;

	spin_lock_irqsave(&lab_tty_lock, flags);
	if (lab->dtr)
		lines |= TIOCM_DTR;
	if (lab->rts)
		lines |= TIOCM_RTS;
	if (lab->peer && lab->peer->dtr)
		lines |= TIOCM_DSR | TIOCM_CAR;
	if (lab->peer && lab->peer->rts)
		lines |= TIOCM_CTS;
	spin_unlock_irqrestore(&lab_tty_lock, flags);
	return lines;
}

static int lab_tty_tiocmset(struct tty_struct *tty, unsigned int set, unsigned int clear)
{
	struct lab_tty *lab = tty->driver_data;
	bool dtr = READ_ONCE(lab->dtr), rts = READ_ONCE(lab->rts);

	if (set & TIOCM_DTR)
		dtr = true;
	if (set & TIOCM_RTS)
		rts = true;
	if (clear & TIOCM_DTR)
		dtr = false;
	if (clear & TIOCM_RTS)
		rts = false;
	lab_tty_modem(lab, dtr, rts);
	return 0;
}

static int lab_tty_status(struct lab_tty *lab, void __user *argp)
{
	struct lab_tty_status status;
	unsigned long flags;

	spin_lock_irqsave(&lab_tty_lock, flags);
	status.speed = lab->speed;
	status.bits = lab->bits;
	status.set = lab->set;
	status.waiting = kfifo_len(&lab->sent);
	status.stopped = lab->stopped;
	status.throttled = lab->throttled;
	spin_unlock_irqrestore(&lab_tty_lock, flags);

	return copy_to_user(argp, &status, sizeof(status)) ? -EFAULT : 0;
}

static int lab_tty_feed(struct lab_tty *lab)
{
	struct lab_message *message = lab_store_take();
	unsigned long flags;
	int ret = -ENOSPC;

	if (!message)
		return -EAGAIN;

	spin_lock_irqsave(&lab_tty_lock, flags);
	if (tty_buffer_request_room(&lab->port, message->len) >= message->len)
		ret = tty_insert_flip_string(&lab->port, message->data, message->len);
	tty_flip_buffer_push(&lab->port);
	spin_unlock_irqrestore(&lab_tty_lock, flags);

	if (ret < 0)
		lab_store_give_back(message);
	else
		lab_message_free(message);
	return ret;
}

static int lab_tty_ioctl(struct tty_struct *tty, unsigned int cmd, unsigned long arg)
{
	struct lab_tty *lab = tty->driver_data;

	switch (cmd) {
	case LAB_TTY_IOC_STATUS:
		return lab_tty_status(lab, (void __user *)arg);
	case LAB_TTY_IOC_FEED:
		return lab_tty_feed(lab);
	default:
		/* Not -ENOTTY: the line discipline is asked next. */
		return -ENOIOCTLCMD;
	}
}

#ifdef CONFIG_COMPAT
static long lab_tty_compat_ioctl(struct tty_struct *tty, unsigned int cmd, unsigned long arg)
{
	return lab_tty_ioctl(tty, cmd, (unsigned long)compat_ptr(arg));
}
#endif

static const struct tty_operations lab_tty_ops = {
	.install		= lab_tty_install,
	.open			= lab_tty_open,
	.close			= lab_tty_close,
	.hangup			= lab_tty_hangup,
	.write			= lab_tty_write,
	.write_room		= lab_tty_write_room,
	.chars_in_buffer	= lab_tty_chars_in_buffer,
	.flush_buffer		= lab_tty_flush_buffer,
	.set_termios		= lab_tty_set_termios,
	.stop			= lab_tty_stop,
	.start			= lab_tty_start,
	.throttle		= lab_tty_throttle,
	.unthrottle		= lab_tty_unthrottle,
	.break_ctl		= lab_tty_break_ctl,
	.tiocmget		= lab_tty_tiocmget,
	.tiocmset		= lab_tty_tiocmset,
	.ioctl			= lab_tty_ioctl,
#ifdef CONFIG_COMPAT
	.compat_ioctl		= lab_tty_compat_ioctl,
#endif
};

/* ------------------------------------------------------------------------------------ */

static void lab_tty_destroy_ports(void)
{
	int i;

	for (i = 0; i < LAB_TTY_LINES; i++) {
		cancel_delayed_work_sync(&lab_ttys[i].again);
		tty_port_destroy(&lab_ttys[i].port);
	}
}

static void lab_tty_unregister_devices(int count)
{
	while (count--)
		tty_port_unregister_device(&lab_ttys[count].port, lab_tty_driver, count);
}

static int __init lab_tty_init(void)
{
	struct device *dev;
	int ret, i;

	lab_tty_driver = tty_alloc_driver(LAB_TTY_LINES, TTY_DRIVER_DYNAMIC_DEV);
	if (IS_ERR(lab_tty_driver))
		return PTR_ERR(lab_tty_driver);
	lab_tty_driver->driver_name = "lab_tty";
	lab_tty_driver->name = "ttyLAB";
	lab_tty_driver->type = TTY_DRIVER_TYPE_SERIAL;
	lab_tty_driver->subtype = SERIAL_TYPE_NORMAL;
	lab_tty_driver->init_termios = tty_std_termios;
	tty_set_operations(lab_tty_driver, &lab_tty_ops);

	for (i = 0; i < LAB_TTY_LINES; i++) {
		tty_port_init(&lab_ttys[i].port);
		lab_ttys[i].port.ops = &lab_tty_port_ops;
		INIT_KFIFO(lab_ttys[i].sent);
		INIT_DELAYED_WORK(&lab_ttys[i].again, lab_tty_again);
	}
	lab_ttys[0].peer = &lab_ttys[1];
	lab_ttys[1].peer = &lab_ttys[0];
	for (i = 0; i < LAB_TTY_LINES; i++) {
		ret = tty_buffer_set_limit(&lab_ttys[i].port, LAB_TTY_ARRIVING);
		if (ret)
			goto err_ports;
	}

	ret = lab_store_notify_register(&lab_tty_store_nb);
	if (ret)
		goto err_ports;
	ret = tty_register_driver(lab_tty_driver);
	if (ret)
		goto err_notify;
	for (i = 0; i < LAB_TTY_LINES; i++) {
		dev = tty_port_register_device(&lab_ttys[i].port, lab_tty_driver, i, NULL);
		if (IS_ERR(dev)) {
			ret = PTR_ERR(dev);
			goto err_devices;
		}
	}
	return 0;

err_devices:
	lab_tty_unregister_devices(i);
	tty_unregister_driver(lab_tty_driver);
err_notify:
	lab_store_notify_unregister(&lab_tty_store_nb);
	cancel_work_sync(&printer_work);
err_ports:
	lab_tty_destroy_ports();
	tty_driver_kref_put(lab_tty_driver);
	return ret;
}

static void __exit lab_tty_exit(void)
{
	lab_tty_unregister_devices(LAB_TTY_LINES);
	tty_unregister_driver(lab_tty_driver);
	lab_store_notify_unregister(&lab_tty_store_nb);
	cancel_work_sync(&printer_work);
	tty_driver_kref_put(lab_tty_driver);
	lab_tty_destroy_ports();
}

module_init(lab_tty_init);
module_exit(lab_tty_exit);

MODULE_DESCRIPTION("chanlab: terminals");
MODULE_LICENSE("GPL");
