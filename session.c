// SPDX-License-Identifier: GPL-2.0-only
#include <linux/file.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/user_namespace.h>

#include "compat/compat.h"
#include <xbzrle/race.h>
#include <xbzrle/session.h>
#include <xbzrle/simd.h>
#include <xbzrle/tracker_external.h>
#include <xbzrle/tracker_mapping.h>
#include <xbzrle/tracker_owned.h>
#include <xbzrle/tracker_pte.h>

/**
 * xbzrle_session_open() - make a session
 *
 * Context: may sleep.
 * Return: the session or an ERR_PTR: -ENOMEM.
 */
struct xbzrle_session *xbzrle_session_open(void)
{
	struct xbzrle_session *session;
	int ret;

	session = kvzalloc(sizeof(*session), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!session)
		return ERR_PTR(-ENOMEM);
	mutex_init(&session->lock);
	xa_init_flags(&session->regions, XA_FLAGS_ALLOC1 | XA_FLAGS_ACCOUNT);
	init_waitqueue_head(&session->watch.wait);
	INIT_LIST_HEAD(&session->dropped);
	session->next_id = 1;
	ret = xbzrle_stream_init(&session->stream, &session->lock,
				 &session->regions);
	if (ret) {
		kvfree(session);
		return ERR_PTR(ret);
	}
	xbzrle_reclaim_add(&session->reclaim, &session->stream.cache);
	return session;
}

/*
 * Remember the name of a region that goes, if the receiver knows it: another
 * region of that name would not be told what is zero there by now.
 */
static int retire_name(struct xbzrle_session *session,
		       const struct xbzrle_region *region)
{
	struct xbzrle_name *name;

	lockdep_assert_held(&session->lock);
	if (!region->announced)
		return 0;
	name = kmalloc(struct_size(name, name, region->name_len),
		       GFP_KERNEL_ACCOUNT);
	if (!name)
		return -ENOMEM;
	name->len = region->name_len;
	memcpy(name->name, region->name, region->name_len);
	list_add(&name->link, &session->dropped);
	return 0;
}

/* The next receiver knows nothing. */
static void free_names(struct xbzrle_session *session)
{
	struct xbzrle_name *name, *next;

	list_for_each_entry_safe(name, next, &session->dropped, link) {
		list_del(&name->link);
		kfree(name);
	}
}

/**
 * xbzrle_session_close() - end a session and everything it owns
 * @session: the session, no longer in use
 *
 * Context: may sleep.
 */
void xbzrle_session_close(struct xbzrle_session *session)
{
	struct xbzrle_region *region;
	unsigned long id;

	xbzrle_reclaim_remove(&session->reclaim);
	xa_for_each(&session->regions, id, region) {
		xbzrle_region_attach(region, NULL);
		region->ops->release(region);
	}
	xa_destroy(&session->regions);
	free_names(session);
	xbzrle_stream_destroy(&session->stream);
	xbzrle_memlock_set(&session->memlock, NULL, 0);
	kvfree(session);
}

/* Give the caller's struct its out members. */
static int respond(struct xbzrle_cmd *cmd)
{
	if (copy_to_user(cmd->arg, cmd->cmd,
			 min(cmd->arg_size, cmd->cmd_size)))
		return -EFAULT;
	return 0;
}

/* An error with out members: the call's own errno goes first. */
static int respond_error(struct xbzrle_cmd *cmd, int error)
{
	int ret = respond(cmd);

	return ret ?: error;
}

static int lock_session(struct xbzrle_session *session)
{
	return mutex_lock_interruptible(&session->lock) ? -ERESTARTSYS : 0;
}

/**
 * xbzrle_session_get_info() - XBZRLE_IOC_GET_INFO
 * @cmd: struct xbzrle_info
 *
 * Context: may sleep.
 * Return: 0, -EINVAL, -EFAULT.
 */
int xbzrle_session_get_info(struct xbzrle_cmd *cmd)
{
	struct xbzrle_info *info = cmd->cmd;

	if (info->flags)
		return -EINVAL;
	info->abi_version = XBZRLE_ABI_VERSION;
	info->unit_size = XBZRLE_UNIT_SIZE;
	info->features = XBZRLE_FEATURE_TRACKER_OWNED |
			 XBZRLE_FEATURE_CAPTURE_COPY |
			 XBZRLE_FEATURE_CAPTURE_PREIMAGE |
			 XBZRLE_FEATURE_POINT_IN_TIME;
	if (XBZRLE_HAVE_TRACKER_PTE)
		info->features |= XBZRLE_FEATURE_TRACKER_PTE;
	if (XBZRLE_HAVE_CAPTURE_FREEZE)
		info->features |= XBZRLE_FEATURE_CAPTURE_FREEZE;
	if (XBZRLE_HAVE_TRACKER_EXTERNAL)
		info->features |= XBZRLE_FEATURE_TRACKER_EXTERNAL;
	if (XBZRLE_HAVE_TRACKER_MAPPING)
		info->features |= XBZRLE_FEATURE_TRACKER_MAPPING;
	info->max_regions = XBZRLE_MAX_REGIONS;
	info->name_max = XBZRLE_NAME_MAX;
	info->max_region_length = XBZRLE_MAX_LENGTH;
	info->max_cache = XBZRLE_MAX_CACHE;
	strscpy_pad((char *)info->codec, xbzrle_simd_name(),
		    sizeof(info->codec));
	return respond(cmd);
}

static int copy_name(char *name, u64 uname, u32 len)
{
	if (!len || len > XBZRLE_NAME_MAX)
		return -EINVAL;
	if (copy_from_user(name, u64_to_user_ptr(uname), len))
		return -EFAULT;
	return memchr(name, 0, len) ? -EINVAL : 0;
}

static int check_length(u64 length)
{
	if (!length || !PAGE_ALIGNED(length))
		return -EINVAL;
	return length > XBZRLE_MAX_LENGTH ? -ENOSPC : 0;
}

static bool region_has_name(struct xbzrle_session *session, const char *name,
			    u32 len)
{
	XA_STATE(xas, &session->regions, 0);
	struct xbzrle_region *region;
	bool found = false;

	/* Not xa_for_each(), which finds its place anew for each of thousands. */
	rcu_read_lock();
	xas_for_each(&xas, region, ULONG_MAX) {
		if (xas_retry(&xas, region))
			continue;
		found = region->name_len == len &&
			!memcmp(region->name, name, len);
		if (found)
			break;
	}
	rcu_read_unlock();
	return found;
}

static bool name_taken(struct xbzrle_session *session, const char *name,
		       u32 len)
{
	struct xbzrle_name *dropped;

	lockdep_assert_held(&session->lock);
	if (region_has_name(session, name, len))
		return true;
	list_for_each_entry(dropped, &session->dropped, link)
		if (dropped->len == len && !memcmp(dropped->name, name, len))
			return true;
	return false;
}

/*
 * Find an id for a region of that name. It is empty until publish_region(),
 * which cannot fail, or xa_release().
 */
static int reserve_region(struct xbzrle_session *session, const char *name,
			  u32 name_len, u32 *id)
{
	int ret;

	lockdep_assert_held(&session->lock);
	if (session->stream.active || name_taken(session, name, name_len))
		return -EBUSY;
	if (session->nr_regions == XBZRLE_MAX_REGIONS)
		return -ENOSPC;
	ret = xa_alloc_cyclic(&session->regions, id, NULL,
			      XA_LIMIT(1, (1 << 20) - 2), &session->next_id,
			      GFP_KERNEL_ACCOUNT);
	return min(ret, 0);
}

static void publish_region(struct xbzrle_session *session, u32 id,
			   struct xbzrle_region *region)
{
	lockdep_assert_held(&session->lock);
	region->id = id;
	region->key = xbzrle_cache_reserve(&session->stream.cache,
					   region->nr_units);
	if (region->capture != XBZRLE_CAPTURE_COPY)
		xbzrle_region_attach(region, &session->stream.capture.keeper);
	xa_store(&session->regions, id, region, GFP_KERNEL_ACCOUNT);
	session->nr_regions++;
}

static int create_locked(struct xbzrle_cmd *cmd, const char *name)
{
	struct xbzrle_session *session = cmd->session;
	struct xbzrle_create *create = cmd->cmd;
	struct xbzrle_region *region;
	struct file *file;
	int ret;

	ret = reserve_region(session, name, create->name_len,
			     &create->region_id);
	if (ret)
		return ret;
	create->fd = get_unused_fd_flags(O_CLOEXEC);
	if (create->fd < 0) {
		ret = create->fd;
		goto release_id;
	}
	if (create->capture == XBZRLE_CAPTURE_AUTO)
		create->capture = XBZRLE_CAPTURE_PREIMAGE;
	file = xbzrle_owned_create(name, create->name_len, create->length,
				   create->capture, &region);
	if (IS_ERR(file)) {
		ret = PTR_ERR(file);
		goto put_fd;
	}
	ret = respond(cmd);
	if (ret)
		goto put_file;

	/* One reference for the file table, one for the session. */
	get_file(file);
	publish_region(session, create->region_id, region);
	fd_install(create->fd, file);
	return 0;

put_file:
	fput(file);
put_fd:
	put_unused_fd(create->fd);
release_id:
	xa_release(&session->regions, create->region_id);
	return ret;
}

/**
 * xbzrle_session_create() - XBZRLE_IOC_CREATE
 * @cmd: struct xbzrle_create
 *
 * Context: may sleep.
 * Return: 0, -EINVAL, -EFAULT, -ENOSPC over a limit, -EBUSY when a round is
 * being read or the name is taken, -EMFILE, -ENFILE, -ENOMEM, -ERESTARTSYS.
 */
int xbzrle_session_create(struct xbzrle_cmd *cmd)
{
	struct xbzrle_create *create = cmd->cmd;
	char name[XBZRLE_NAME_MAX];
	int ret;

	if (create->flags || create->capture > XBZRLE_CAPTURE_PREIMAGE)
		return -EINVAL;
	ret = check_length(create->length);
	if (ret)
		return ret;
	ret = copy_name(name, create->name, create->name_len);
	if (ret)
		return ret;

	ret = lock_session(cmd->session);
	if (ret)
		return ret;
	ret = create_locked(cmd, name);
	mutex_unlock(&cmd->session->lock);
	return ret;
}

/* ptrace_may_access() is not exported: ask for what it would need. */
static int check_access(struct task_struct *task, struct mm_struct *mm)
{
	struct user_namespace *user_ns = xbzrle_get_mm_user_ns(task, mm);
	bool capable;

	if (!user_ns)
		return -ESRCH;
	capable = ns_capable(user_ns, CAP_SYS_PTRACE);
	put_user_ns(user_ns);
	return capable ? 0 : -EPERM;
}

/* The mm of a process, with a user reference, if the caller may track it. */
static struct mm_struct *get_target_mm(pid_t nr)
{
	struct task_struct *task;
	struct mm_struct *mm;
	struct pid *pid;
	int ret = 0;

	if (!nr) {
		mmget(current->mm);
		return current->mm;
	}
	pid = find_get_pid(nr);
	task = get_pid_task(pid, PIDTYPE_PID);
	put_pid(pid);
	if (!task)
		return ERR_PTR(-ESRCH);
	mm = get_task_mm(task);
	if (!mm)
		ret = -ESRCH;
	else if (mm != current->mm)
		ret = check_access(task, mm);
	put_task_struct(task);
	if (ret && mm)
		mmput(mm);
	return ret ? ERR_PTR(ret) : mm;
}

/*
 * AUTO is the tracker that sees by itself, which the external one does not.
 * None of them sees a write begin, as pre-images need it, and only the pte
 * tracker can freeze.
 */
static struct xbzrle_region *make_region(const struct xbzrle_register *reg,
					 struct xbzrle_range *range,
					 const char *name)
{
	bool freeze = reg->capture == XBZRLE_CAPTURE_FREEZE;
	u32 tracker = reg->tracker;
	int shared;

	if (tracker == XBZRLE_TRACKER_AUTO) {
		shared = xbzrle_existing_shared(range);
		if (shared < 0)
			return ERR_PTR(shared);
		if (shared)
			tracker = XBZRLE_TRACKER_MAPPING;
	}
	if (reg->capture == XBZRLE_CAPTURE_PREIMAGE ||
	    (freeze && (!XBZRLE_HAVE_CAPTURE_FREEZE ||
			tracker == XBZRLE_TRACKER_EXTERNAL ||
			tracker == XBZRLE_TRACKER_MAPPING))) {
		range->error_addr = range->addr;
		return ERR_PTR(-EOPNOTSUPP);
	}
	if (tracker == XBZRLE_TRACKER_EXTERNAL)
		return xbzrle_external_register(range, name, reg->name_len);
	if (tracker == XBZRLE_TRACKER_MAPPING)
		return xbzrle_mapping_register(range, name, reg->name_len);
	return xbzrle_pte_register(range, tracker == XBZRLE_TRACKER_PTE, freeze,
				   name, reg->name_len);
}

static int register_locked(struct xbzrle_cmd *cmd, struct mm_struct *mm,
			   const char *name)
{
	struct xbzrle_session *session = cmd->session;
	struct xbzrle_register *reg = cmd->cmd;
	struct xbzrle_range range = {
		.mm = mm,
		.addr = reg->addr,
		.length = reg->length,
		.watch = &session->watch,
	};
	struct xbzrle_region *region;
	int ret;

	ret = reserve_region(session, name, reg->name_len, &reg->region_id);
	if (ret)
		return ret;
	region = make_region(reg, &range, name);
	if (IS_ERR(region)) {
		ret = PTR_ERR(region);
		goto release_id;
	}
	reg->tracker = region->ops->tracker;
	reg->capture = region->capture;
	ret = respond(cmd);
	if (ret)
		goto release_region;
	publish_region(session, reg->region_id, region);
	return 0;

release_region:
	region->ops->release(region);
release_id:
	xa_release(&session->regions, reg->region_id);
	if (ret == -EFAULT || ret == -EOPNOTSUPP) {
		reg->region_id = 0;
		reg->error_addr = range.error_addr;
		ret = respond_error(cmd, ret);
	}
	return ret;
}

/**
 * xbzrle_session_register() - XBZRLE_IOC_REGISTER
 * @cmd: struct xbzrle_register
 *
 * Context: may sleep.
 * Return: 0, -EINVAL, -EFAULT, -EOPNOTSUPP for memory no tracker is right for,
 * -ENOSPC over a limit, -EBUSY when a round is being read, the name is taken,
 * or the memory is registered already, -ESRCH, -EPERM, -ENOMEM, also over the
 * caller's limit of locked memory, -EINTR, -ERESTARTSYS.
 */
int xbzrle_session_register(struct xbzrle_cmd *cmd)
{
	struct xbzrle_register *reg = cmd->cmd;
	char name[XBZRLE_NAME_MAX];
	struct mm_struct *mm;
	int ret;

	if (reg->flags || reg->reserved || reg->pid < 0 ||
	    reg->capture > XBZRLE_CAPTURE_FREEZE ||
	    reg->tracker > XBZRLE_TRACKER_MAPPING ||
	    reg->tracker == XBZRLE_TRACKER_OWNED)
		return -EINVAL;
	if (!PAGE_ALIGNED(reg->addr))
		return -EINVAL;
	ret = check_length(reg->length);
	if (ret)
		return ret;
	if (reg->addr + reg->length < reg->addr ||
	    reg->addr + reg->length > TASK_SIZE_MAX)
		return -EINVAL;
	ret = copy_name(name, reg->name, reg->name_len);
	if (ret)
		return ret;

	mm = get_target_mm(reg->pid);
	if (IS_ERR(mm))
		return PTR_ERR(mm);
	ret = lock_session(cmd->session);
	if (ret)
		goto put_mm;
	ret = register_locked(cmd, mm, name);
	mutex_unlock(&cmd->session->lock);
put_mm:
	mmput(mm);
	return ret;
}

/* What was held beyond the budget is charged until it is gone. */
static void settle_charge(struct xbzrle_session *session)
{
	struct xbzrle_memlock *memlock = &session->memlock;
	struct xbzrle_cache *cache = &session->stream.cache;
	unsigned long pages = max(cache->capacity, READ_ONCE(cache->held));

	lockdep_assert_held(&session->lock);
	if (memlock->pages > pages)
		xbzrle_memlock_set(memlock, memlock->mm, pages);
}

/**
 * xbzrle_session_unregister() - XBZRLE_IOC_UNREGISTER
 * @cmd: struct xbzrle_unregister
 *
 * Context: may sleep.
 * Return: 0, -EINVAL, -ENOMEM, -ERESTARTSYS.
 */
int xbzrle_session_unregister(struct xbzrle_cmd *cmd)
{
	struct xbzrle_session *session = cmd->session;
	struct xbzrle_unregister *unreg = cmd->cmd;
	struct xbzrle_region *region;
	int ret;

	if (unreg->flags || unreg->reserved)
		return -EINVAL;
	ret = lock_session(session);
	if (ret)
		return ret;
	region = xa_load(&session->regions, unreg->region_id);
	ret = region ? retire_name(session, region) : -EINVAL;
	if (!ret) {
		xa_erase(&session->regions, unreg->region_id);
		session->nr_regions--;
		xbzrle_region_attach(region, NULL);
		xbzrle_stream_forget(&session->stream, region);
		region->ops->release(region);
		settle_charge(session);
	}
	mutex_unlock(&session->lock);
	return ret;
}

/**
 * xbzrle_session_set_cache() - XBZRLE_IOC_SET_CACHE
 * @cmd: struct xbzrle_set_cache
 *
 * Context: may sleep.
 * Return: 0, -EINVAL, -ENOSPC over the limit, -ENOMEM over the caller's,
 * -ERESTARTSYS.
 */
int xbzrle_session_set_cache(struct xbzrle_cmd *cmd)
{
	struct xbzrle_session *session = cmd->session;
	struct xbzrle_set_cache *set = cmd->cmd;
	struct xbzrle_cache *cache = &session->stream.cache;
	unsigned long pages;
	int ret;

	if (set->flags)
		return -EINVAL;
	if (set->bytes > XBZRLE_MAX_CACHE)
		return -ENOSPC;
	ret = lock_session(session);
	if (ret)
		return ret;
	pages = set->bytes >> PAGE_SHIFT;
	/* What is held stays, and may come to be all of the old budget. */
	if (session->stream.moment || READ_ONCE(cache->held))
		pages = max3(pages, (unsigned long)cache->capacity,
			     (unsigned long)READ_ONCE(cache->held));
	ret = xbzrle_memlock_set(&session->memlock, current->mm, pages);
	if (!ret) {
		xbzrle_cache_resize(cache, set->bytes);
		settle_charge(session);
	}
	mutex_unlock(&session->lock);
	return ret;
}

static int harvest_all(struct xbzrle_session *session, bool full, bool moment)
{
	struct xbzrle_region *region;
	unsigned long id;
	int ret;

	lockdep_assert_held(&session->lock);
	xa_for_each(&session->regions, id, region) {
		region->all_due = full || !region->announced;
		region->moment = moment;
		ret = xbzrle_region_harvest(region);
		xbzrle_race_window();
		if (!ret && moment)
			ret = xbzrle_region_begin_moment(region, full);
		if (ret)
			return ret;
	}
	return 0;
}

/* Name a region that has ended, if there is one, and return its errno. */
static int find_ended(struct xbzrle_session *session, struct xbzrle_sync *sync)
{
	struct xbzrle_region *region;
	unsigned long id;
	int ret;

	lockdep_assert_held(&session->lock);
	xa_for_each(&session->regions, id, region) {
		ret = region->ops->check(region, &sync->error_addr);
		if (ret) {
			sync->error_region = region->id;
			return ret;
		}
	}
	return 0;
}

static bool setup_is_due(struct xbzrle_session *session)
{
	struct xbzrle_region *region;
	unsigned long id;

	lockdep_assert_held(&session->lock);
	xa_for_each(&session->regions, id, region)
		if (!region->announced)
			return true;
	return false;
}

static int sync_locked(struct xbzrle_cmd *cmd)
{
	struct xbzrle_session *session = cmd->session;
	struct xbzrle_stream *stream = &session->stream;
	struct xbzrle_sync *sync = cmd->cmd;
	bool full = sync->flags & XBZRLE_SYNC_FULL;
	bool moment = sync->flags & XBZRLE_SYNC_POINT_IN_TIME;
	int ret;

	lockdep_assert_held(&session->lock);
	sync->error_addr = 0;
	sync->error_region = 0;
	/* Also while a round is read: read() cannot say which region it was. */
	ret = find_ended(session, sync);
	if (ret)
		return respond_error(cmd, ret);
	if (stream->active || (session->finished && !full))
		return -EBUSY;
	if (!session->nr_regions)
		return -EINVAL;

	ret = harvest_all(session, full, moment);
	xbzrle_race_window();
	if (!ret && moment)
		ret = xbzrle_stream_hold_moment(stream);
	if (ret) {
		xbzrle_stream_end_moment(stream);
		/* What ended a region, if one has, goes with its id. */
		ret = find_ended(session, sync) ?: ret;
		return respond_error(cmd, ret);
	}
	if (full || setup_is_due(session)) {
		ret = xbzrle_stream_prepare_setup(stream);
		if (ret) {
			xbzrle_stream_end_moment(stream);
			return ret;
		}
	}

	xbzrle_stream_estimate(stream, full, sync);
	sync->round = session->round + 1;
	/*
	 * Should this be the end of it, what was harvested stays pending for
	 * the next SYNC. Nobody sees that, and nothing else has changed.
	 */
	ret = respond(cmd);
	if (ret) {
		xbzrle_stream_end_moment(stream);
		xbzrle_stream_drop_setup(stream);
		return ret;
	}
	if (full)
		free_names(session);
	session->round++;
	session->finished = sync->flags & XBZRLE_SYNC_FINAL;
	xbzrle_stream_start(stream, full, session->finished, moment);
	return 0;
}

/**
 * xbzrle_session_sync() - XBZRLE_IOC_SYNC
 * @cmd: struct xbzrle_sync
 *
 * Context: may sleep.
 * Return: 0, -EINVAL without a region, -EBUSY when a round is being read or a
 * FINAL one was, -EFAULT, -EINTR, -ERESTARTSYS, -ENOMEM, for a POINT_IN_TIME
 * round -ENOSPC when the copies exceed the budget and -EIO for a page that cannot
 * be read, or the reason a region ended: -EFAULT, -EOPNOTSUPP, -ESRCH.
 */
int xbzrle_session_sync(struct xbzrle_cmd *cmd)
{
	struct xbzrle_session *session = cmd->session;
	struct xbzrle_sync *sync = cmd->cmd;
	int ret;

	if (sync->flags & ~(XBZRLE_SYNC_FINAL | XBZRLE_SYNC_FULL |
			    XBZRLE_SYNC_POINT_IN_TIME) ||
	    sync->reserved)
		return -EINVAL;
	ret = lock_session(session);
	if (ret)
		return ret;
	ret = sync_locked(cmd);
	settle_charge(session);
	mutex_unlock(&session->lock);
	if (!ret)
		wake_up_interruptible(&session->watch.wait);
	return ret;
}

/*
 * Somebody who is not seen by the tracker wrote there. A pre-image that was
 * kept since may have been later than that, and none is right for a round of a
 * moment any more.
 */
static int mark_region(struct xbzrle_session *session,
		       struct xbzrle_region *region,
		       const struct xbzrle_mark_dirty *mark)
{
	const void __user *bitmap = u64_to_user_ptr(mark->bitmap);
	unsigned long first = mark->first_unit, nr, start, end;
	DECLARE_BITMAP(bits, XBZRLE_MARK_CHUNK);
	u64 left = mark->nr_units;
	int ret;

	lockdep_assert_held(&session->lock);
	for (; left; left -= nr, first += nr, bitmap += nr / BITS_PER_BYTE) {
		nr = min_t(u64, left, XBZRLE_MARK_CHUNK);
		ret = xbzrle_region_mark(region, first, nr, bitmap, bits);
		if (ret)
			return ret;
		if (region->capture == XBZRLE_CAPTURE_PREIMAGE &&
		    !bitmap_empty(bits, nr)) {
			xbzrle_region_settle_writes(region);
			for_each_set_bitrange(start, end, bits, nr)
				xbzrle_stream_distrust(&session->stream, region,
						       first + start,
						       end - start);
		}
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/**
 * xbzrle_session_mark_dirty() - XBZRLE_IOC_MARK_DIRTY
 * @cmd: struct xbzrle_mark_dirty
 *
 * Context: may sleep.
 * Return: 0, -EINVAL, -ERESTARTSYS, or -EFAULT or -EINTR, with which a part of
 * the units may be marked.
 */
int xbzrle_session_mark_dirty(struct xbzrle_cmd *cmd)
{
	struct xbzrle_session *session = cmd->session;
	struct xbzrle_mark_dirty *mark = cmd->cmd;
	struct xbzrle_region *region;
	int ret;

	if (mark->flags || mark->reserved || !mark->nr_units)
		return -EINVAL;
	ret = lock_session(session);
	if (ret)
		return ret;
	region = xa_load(&session->regions, mark->region_id);
	if (!region || mark->first_unit >= region->nr_units ||
	    mark->nr_units > region->nr_units - mark->first_unit)
		ret = -EINVAL;
	else
		ret = mark_region(session, region, mark);
	mutex_unlock(&session->lock);
	return ret;
}

/* Between rounds there is nothing to look at, whatever is kept for the next. */
static unsigned long count_pending(struct xbzrle_session *session,
				   const struct xbzrle_region *region)
{
	lockdep_assert_held(&session->lock);
	return session->stream.active ? region->nr_pending : 0;
}

static void fill_stats(struct xbzrle_session *session,
		       struct xbzrle_stats *stats)
{
	struct xbzrle_stream *stream = &session->stream;
	struct xbzrle_region *region;
	unsigned long id;

	lockdep_assert_held(&session->lock);
	*stats = stream->stats;
	if (stats->bytes)
		stats->encoding_rate =
			div64_u64(stats->pages * XBZRLE_UNIT_SIZE * 1000,
				  stats->bytes);
	stats->cache_bytes = (u64)stream->cache.capacity << PAGE_SHIFT;
	stats->cache_used = ((u64)stream->cache.used + stream->cache.held) <<
			    PAGE_SHIFT;
	stats->cache_evicted = stream->cache.evicted;
	stats->cache_reclaimed = stream->cache.reclaimed;
	stats->cache_refused = stream->cache.refused;
	stats->preimages = atomic_long_read(&stream->capture.nr_preimages);
	stats->moments = stream->capture.nr_moments;
	stats->still_pages = stream->capture.nr_still;
	stats->copied_pages = stream->capture.nr_copied;
	stats->frozen_pages = stream->capture.nr_frozen;
	xa_for_each(&session->regions, id, region)
		stats->pending_pages += count_pending(session, region);
	stats->round_left = stream->active;
}

/**
 * xbzrle_session_get_stats() - XBZRLE_IOC_GET_STATS
 * @cmd: struct xbzrle_stats
 *
 * Context: may sleep.
 * Return: 0, -EINVAL, -EFAULT, -ERESTARTSYS.
 */
int xbzrle_session_get_stats(struct xbzrle_cmd *cmd)
{
	struct xbzrle_stats *stats = cmd->cmd;
	int ret;

	if (stats->flags)
		return -EINVAL;
	ret = lock_session(cmd->session);
	if (ret)
		return ret;
	fill_stats(cmd->session, stats);
	mutex_unlock(&cmd->session->lock);
	stats->size = cmd->arg_size;
	return respond(cmd);
}

static int lock_for_read(struct xbzrle_session *session, bool nonblock)
{
	if (!nonblock)
		return lock_session(session);
	return mutex_trylock(&session->lock) ? 0 : -EAGAIN;
}

/**
 * xbzrle_session_read() - read() on a session
 * @session: the session
 * @to: where the bytes go
 * @nonblock: do not wait for another thread that uses the session
 *
 * Context: may sleep.
 * Return: as xbzrle_stream_read(); -EAGAIN, -ERESTARTSYS.
 */
ssize_t xbzrle_session_read(struct xbzrle_session *session,
			    struct iov_iter *to, bool nonblock)
{
	ssize_t ret = lock_for_read(session, nonblock);

	if (ret)
		return ret;
	ret = xbzrle_stream_read(&session->stream, to);
	session->read_failed = ret < 0;
	settle_charge(session);
	mutex_unlock(&session->lock);
	return ret;
}

/**
 * xbzrle_session_why_not() - why could nothing be read?
 * @session: the session
 * @nonblock: do not wait for another thread that uses the session
 *
 * Context: may sleep.
 * Return: what a region ended with, -EAGAIN if none has, -ERESTARTSYS.
 */
ssize_t xbzrle_session_why_not(struct xbzrle_session *session, bool nonblock)
{
	struct xbzrle_sync ended;
	ssize_t ret = lock_for_read(session, nonblock);

	if (ret)
		return ret;
	/* Another region's end does not keep a read() from the others. */
	if (session->read_failed)
		ret = find_ended(session, &ended);
	mutex_unlock(&session->lock);
	return ret ?: -EAGAIN;
}

/**
 * xbzrle_session_poll() - poll() on a session
 * @session: the session
 * @file: its file
 * @wait: as given to poll()
 *
 * Context: may sleep; takes no lock.
 * Return: EPOLLIN while a round has bytes, EPOLLERR and EPOLLHUP when the
 * memory of a region is gone.
 */
__poll_t xbzrle_session_poll(struct xbzrle_session *session, struct file *file,
			     poll_table *wait)
{
	__poll_t mask = 0;

	poll_wait(file, &session->watch.wait, wait);
	if (READ_ONCE(session->stream.active))
		mask |= EPOLLIN | EPOLLRDNORM;
	if (atomic_read(&session->watch.gone))
		mask |= EPOLLERR | EPOLLHUP;
	return mask;
}

/**
 * xbzrle_session_show() - what /proc/PID/fdinfo tells of a session
 * @session: the session
 * @m: where to
 *
 * Context: may sleep.
 */
void xbzrle_session_show(struct xbzrle_session *session, struct seq_file *m)
{
	struct xbzrle_region *region;
	unsigned long id;

	/* A read() holds it while its buffer's fault is served, by whomever. */
	if (mutex_lock_interruptible(&session->lock))
		return;
	seq_printf(m, "round:\t%llu\n", session->round);
	seq_printf(m, "reading:\t%d\n", session->stream.active);
	seq_printf(m, "cache:\t%llu of %u pages\n",
		   (u64)session->stream.cache.used + session->stream.cache.held,
		   session->stream.cache.capacity);
	xa_for_each(&session->regions, id, region) {
		seq_printf(m, "region:\t%lu tracker %u pages %lu pending %lu name ",
			   id, region->ops->tracker, region->nr_units,
			   count_pending(session, region));
		seq_escape_mem(m, region->name, region->name_len,
			       ESCAPE_SPACE | ESCAPE_SPECIAL | ESCAPE_OCTAL |
			       ESCAPE_NAP | ESCAPE_APPEND, "\\");
		seq_putc(m, '\n');
	}
	mutex_unlock(&session->lock);
}
