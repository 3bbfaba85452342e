// SPDX-License-Identifier: GPL-2.0-only
/* The device node and the way from a system call to the session. No logic. */
#include <linux/fs.h>
#include <linux/ioctl.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/splice.h>
#include <linux/uaccess.h>

#include "compat/compat.h"
#include <uapi/linux/xbzrle.h>
#include <xbzrle/reclaim.h>
#include <xbzrle/session.h>
#include <xbzrle/simd.h>
#include <xbzrle/tracker_owned.h>
#include <xbzrle/tracker_pte.h>

#define CREATE_TRACE_POINTS
#include "xbzrle_trace.h"

union xbzrle_any {
	struct xbzrle_info info;
	struct xbzrle_create create;
	struct xbzrle_register reg;
	struct xbzrle_unregister unregister;
	struct xbzrle_set_cache set_cache;
	struct xbzrle_sync sync;
	struct xbzrle_stats stats;
	struct xbzrle_mark_dirty mark_dirty;
};

/**
 * struct xbzrle_ioctl - one entry of the ioctl table
 * @execute: does it
 * @size: of the struct as this kernel knows it
 * @min_size: of the struct in ABI version 1
 */
struct xbzrle_ioctl {
	int (*execute)(struct xbzrle_cmd *cmd);
	u32 size;
	u32 min_size;
};

#define IOCTL_OP(nr, fn, type, last)					\
	[_IOC_NR(nr)] = {						\
		.execute = fn,						\
		.size = sizeof(type),					\
		.min_size = offsetofend(type, last),			\
	}

static const struct xbzrle_ioctl xbzrle_ioctls[] = {
	IOCTL_OP(XBZRLE_IOC_GET_INFO, xbzrle_session_get_info,
		 struct xbzrle_info, codec),
	IOCTL_OP(XBZRLE_IOC_CREATE, xbzrle_session_create,
		 struct xbzrle_create, capture),
	IOCTL_OP(XBZRLE_IOC_REGISTER, xbzrle_session_register,
		 struct xbzrle_register, error_addr),
	IOCTL_OP(XBZRLE_IOC_UNREGISTER, xbzrle_session_unregister,
		 struct xbzrle_unregister, reserved),
	IOCTL_OP(XBZRLE_IOC_SET_CACHE, xbzrle_session_set_cache,
		 struct xbzrle_set_cache, bytes),
	IOCTL_OP(XBZRLE_IOC_SYNC, xbzrle_session_sync,
		 struct xbzrle_sync, reserved),
	IOCTL_OP(XBZRLE_IOC_GET_STATS, xbzrle_session_get_stats,
		 struct xbzrle_stats, torn_rounds),
	IOCTL_OP(XBZRLE_IOC_MARK_DIRTY, xbzrle_session_mark_dirty,
		 struct xbzrle_mark_dirty, bitmap),
};

static long xbzrle_ioctl(struct file *file, unsigned int nr, unsigned long arg)
{
	const struct xbzrle_ioctl *op;
	union xbzrle_any any;
	struct xbzrle_cmd cmd = {
		.session = file->private_data,
		.arg = (void __user *)arg,
		.cmd = &any,
	};
	int ret;

	/* The size is in the struct; one in the number is another ioctl. */
	if (_IOC_NR(nr) >= ARRAY_SIZE(xbzrle_ioctls) ||
	    nr != _IO(XBZRLE_IOC_TYPE, _IOC_NR(nr)))
		return -ENOTTY;
	op = &xbzrle_ioctls[_IOC_NR(nr)];
	if (get_user(cmd.arg_size, (u32 __user *)cmd.arg))
		return -EFAULT;
	if (cmd.arg_size < op->min_size)
		return -EINVAL;
	/* No struct will ever be that long; gigabytes of zeros take a while. */
	if (cmd.arg_size > PAGE_SIZE)
		return -E2BIG;
	ret = copy_struct_from_user(&any, op->size, cmd.arg, cmd.arg_size);
	if (ret)
		return ret;
	cmd.cmd_size = op->size;
	return op->execute(&cmd);
}

static int xbzrle_open(struct inode *inode, struct file *file)
{
	struct xbzrle_session *session = xbzrle_session_open();

	if (IS_ERR(session))
		return PTR_ERR(session);
	file->private_data = session;
	file->f_mode |= FMODE_NOWAIT;
	return stream_open(inode, file);
}

static int xbzrle_release(struct inode *inode, struct file *file)
{
	xbzrle_session_close(file->private_data);
	return 0;
}

static ssize_t xbzrle_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	/*
	 * With FMODE_NOWAIT io_uring reads at once. Told EAGAIN it would wait for
	 * poll(), which tells neither of a session that is free nor of a round's
	 * end.
	 */
	bool nonblock = is_sync_kiocb(iocb) &&
			(iocb->ki_filp->f_flags & O_NONBLOCK ||
			 iocb->ki_flags & IOCB_NOWAIT);

	return xbzrle_session_read(iocb->ki_filp->private_data, to, nonblock);
}

static ssize_t xbzrle_splice_read(struct file *file, loff_t *ppos,
				  struct pipe_inode_info *pipe, size_t len,
				  unsigned int flags)
{
	ssize_t ret = copy_splice_read(file, ppos, pipe, len, flags);

	/* It turns EFAULT into that, though its own pages do not fault. */
	if (ret == -EAGAIN)
		ret = xbzrle_session_why_not(file->private_data,
					     file->f_flags & O_NONBLOCK);
	return ret;
}

static __poll_t xbzrle_poll(struct file *file, poll_table *wait)
{
	return xbzrle_session_poll(file->private_data, file, wait);
}

static void xbzrle_show_fdinfo(struct seq_file *m, struct file *file)
{
	xbzrle_session_show(file->private_data, m);
}

static const struct file_operations xbzrle_fops = {
	.owner		= THIS_MODULE,
	.open		= xbzrle_open,
	.release	= xbzrle_release,
	.read_iter	= xbzrle_read_iter,
	.splice_read	= xbzrle_splice_read,
	.poll		= xbzrle_poll,
	.unlocked_ioctl	= xbzrle_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.show_fdinfo	= xbzrle_show_fdinfo,
	.llseek		= noop_llseek,
};

static struct miscdevice xbzrle_device = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "xbzrle",
	.fops	= &xbzrle_fops,
	.mode	= 0600,
};

static int __init xbzrle_init(void)
{
	int ret;

	xbzrle_simd_init();
	ret = xbzrle_owned_init();
	if (ret)
		return ret;
	ret = xbzrle_reclaim_init();
	if (ret)
		goto exit_owned;
	ret = misc_register(&xbzrle_device);
	if (ret)
		goto exit_reclaim;
	return 0;

exit_reclaim:
	xbzrle_reclaim_exit();
exit_owned:
	xbzrle_owned_exit();
	return ret;
}
module_init(xbzrle_init);

static void __exit xbzrle_exit(void)
{
	misc_deregister(&xbzrle_device);
	xbzrle_reclaim_exit();
	xbzrle_pte_exit();
	xbzrle_owned_exit();
}
module_exit(xbzrle_exit);

MODULE_DESCRIPTION("Dirty-page tracking and delta streaming of user memory");
MODULE_AUTHOR("The xbzrle developers");
MODULE_LICENSE("GPL");
