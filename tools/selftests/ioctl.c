// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Each ioctl: sizes, flags, pointers, names, ranges, rights and states. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "device.h"
#include "mm.h"

#include "harness.h"

#define NOBODY		65534
#define LENGTH		(16 * UNIT)

/* Room for any of the structs and a tail the kernel does not know. */
union any {
	__u32 size;
	struct {
		__u32 size;
		__u32 flags;
	} head;
	struct xbzrle_info info;
	struct xbzrle_create create;
	struct xbzrle_register reg;
	struct xbzrle_unregister unregister;
	struct xbzrle_set_cache set_cache;
	struct xbzrle_sync sync;
	struct xbzrle_stats stats;
	struct xbzrle_mark_dirty mark_dirty;
	unsigned char room[512];
};

FIXTURE(ioctl)
{
	int fd;
	int rfd;
	uint32_t id;
	unsigned char *mem;
	unsigned char *anon;
	struct model *model;
	/* What REGISTER says to memory that nothing is wrong with. */
	int registered;
};

FIXTURE_SETUP(ioctl)
{
	unsigned int i;

	self->fd = dev_open();
	ASSERT_LE(0, self->fd);
	self->registered = dev_has_pte() ? 0 : -EOPNOTSUPP;
	ASSERT_EQ(0, dev_set_cache(self->fd, LENGTH));
	self->rfd = dev_create(self->fd, "ram", LENGTH, &self->id);
	ASSERT_LE(0, self->rfd);
	self->mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED,
			 self->rfd, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	self->anon = mm_anon(LENGTH);
	ASSERT_NE(NULL, self->anon);
	for (i = 0; i < LENGTH; i += UNIT) {
		self->mem[i] = i / UNIT + 1;
		self->anon[i] = i / UNIT + 1;
	}
	self->model = model_new();
	ASSERT_NE(NULL, self->model);
}

FIXTURE_TEARDOWN(ioctl)
{
	model_free(self->model);
	munmap(self->mem, LENGTH);
	close(self->rfd);
	close(self->fd);
}

struct command {
	const char *name;
	unsigned int cmd;
	size_t size;
	size_t reserved;
	bool has_reserved;
};

#define COMMAND(cmd, type) { #cmd, XBZRLE_IOC_##cmd, sizeof(struct type) }
#define COMMAND_RESERVED(cmd, type) \
	{ #cmd, XBZRLE_IOC_##cmd, sizeof(struct type), \
	  offsetof(struct type, reserved), true }

static const struct command commands[] = {
	COMMAND(GET_INFO, xbzrle_info),
	COMMAND(CREATE, xbzrle_create),
	COMMAND_RESERVED(REGISTER, xbzrle_register),
	COMMAND_RESERVED(MARK_DIRTY, xbzrle_mark_dirty),
	COMMAND_RESERVED(UNREGISTER, xbzrle_unregister),
	COMMAND(SET_CACHE, xbzrle_set_cache),
	COMMAND_RESERVED(SYNC, xbzrle_sync),
	COMMAND(GET_STATS, xbzrle_stats),
};

/* Arguments that work once in a fresh fixture. */
static void valid(struct _test_data_ioctl *self, const struct command *c,
		  union any *arg)
{
	static const char name[] = "new";

	memset(arg, 0, sizeof(*arg));
	arg->size = c->size;
	switch (c->cmd) {
	case XBZRLE_IOC_CREATE:
		arg->create.length = LENGTH;
		arg->create.name = (uintptr_t)name;
		arg->create.name_len = sizeof(name) - 1;
		break;
	case XBZRLE_IOC_REGISTER:
		arg->reg.addr = (uintptr_t)self->anon;
		arg->reg.length = LENGTH;
		arg->reg.name = (uintptr_t)name;
		arg->reg.name_len = sizeof(name) - 1;
		break;
	case XBZRLE_IOC_UNREGISTER:
		arg->unregister.region_id = self->id;
		break;
	case XBZRLE_IOC_SET_CACHE:
		arg->set_cache.bytes = LENGTH;
		break;
	case XBZRLE_IOC_MARK_DIRTY:
		arg->mark_dirty.region_id = self->id;
		arg->mark_dirty.nr_units = LENGTH / UNIT;
		arg->mark_dirty.bitmap = (uintptr_t)self->mem;
		break;
	default:
		break;
	}
}

/* What a valid() call returns. */
static int answer(const struct _test_data_ioctl *self, const struct command *c)
{
	return c->cmd == XBZRLE_IOC_REGISTER ? self->registered : 0;
}

/*
 * What a refused call must not change. A descriptor may be taken without a file
 * behind it: @next_fd tells.
 */
struct state {
	struct xbzrle_stats stats;
	int fds;
	int next_fd;
};

static int count_fds(void)
{
	int fd, n = 0;

	for (fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static struct state state_of(int fd)
{
	struct state s = { .fds = count_fds(), .next_fd = dup(fd) };

	close(s.next_fd);
	dev_stats(fd, &s.stats);
	return s;
}

TEST_F(ioctl, sizes)
{
	const struct state before = state_of(self->fd);
	union any arg;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		const struct command *c = &commands[i];

		TH_LOG("%s", c->name);
		valid(self, c, &arg);
		arg.size = c->size - 1;
		EXPECT_EQ(-EINVAL, dev_ioctl(self->fd, c->cmd, &arg));
		arg.size = 0;
		EXPECT_EQ(-EINVAL, dev_ioctl(self->fd, c->cmd, &arg));
		arg.size = c->size + 1;
		arg.room[c->size] = 1;
		EXPECT_EQ(-E2BIG, dev_ioctl(self->fd, c->cmd, &arg));
		arg.size = sizeof(arg);
		arg.room[c->size] = 0;
		arg.room[sizeof(arg) - 1] = 1;
		EXPECT_EQ(-E2BIG, dev_ioctl(self->fd, c->cmd, &arg));
		arg.size = UINT32_MAX;
		EXPECT_EQ(-E2BIG, dev_ioctl(self->fd, c->cmd, &arg));
	}
	const struct state after = state_of(self->fd);

	EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));
}

TEST_F(ioctl, zero_tail_is_accepted)
{
	union any arg;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		const struct command *c = &commands[i];
		struct _test_data_ioctl fresh = *self;
		int fd = dev_open(), rfd;

		/* A session of its own for each, as they change it. */
		rfd = dev_create(fd, "ram", LENGTH, &fresh.id);
		ASSERT_LE(0, rfd);
		valid(&fresh, c, &arg);
		arg.size = sizeof(arg);
		TH_LOG("%s", c->name);
		EXPECT_EQ(answer(self, c), dev_ioctl(fd, c->cmd, &arg));
		close(rfd);
		close(fd);
	}
}

TEST_F(ioctl, no_tail_behind_a_page)
{
	unsigned char *page = mmap(NULL, 3 * UNIT, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	__u32 *size = (__u32 *)page;

	ASSERT_NE(MAP_FAILED, page);
	*size = UNIT;
	EXPECT_EQ(0, dev_ioctl(self->fd, XBZRLE_IOC_GET_STATS, page));
	*size = UNIT + 1;
	EXPECT_EQ(-E2BIG, dev_ioctl(self->fd, XBZRLE_IOC_GET_STATS, page));
	munmap(page, 3 * UNIT);
}

TEST_F(ioctl, tail_is_left_alone)
{
	union any arg;
	unsigned int i;

	/* What the caller's struct does not have must not be written. */
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		const struct command *c = &commands[i];
		size_t j;

		valid(self, c, &arg);
		memset(arg.room + c->size, 0xa5, sizeof(arg) - c->size);
		dev_ioctl(self->fd, c->cmd, &arg);
		for (j = c->size; j < sizeof(arg); j++)
			ASSERT_EQ(0xa5, arg.room[j]);
	}
}

TEST_F(ioctl, flags_and_reserved)
{
	const struct state before = state_of(self->fd);
	union any arg;
	unsigned int i, bit;

	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		const struct command *c = &commands[i];
		__u32 known = c->cmd == XBZRLE_IOC_SYNC ?
			      XBZRLE_SYNC_FINAL | XBZRLE_SYNC_FULL |
			      XBZRLE_SYNC_POINT_IN_TIME : 0;

		TH_LOG("%s", c->name);
		for (bit = 0; bit < 32; bit++) {
			if (known & 1U << bit)
				continue;
			valid(self, c, &arg);
			arg.head.flags = 1U << bit;
			EXPECT_EQ(-EINVAL, dev_ioctl(self->fd, c->cmd, &arg));
		}
		if (!c->has_reserved)
			continue;
		valid(self, c, &arg);
		arg.room[c->reserved] = 1;
		EXPECT_EQ(-EINVAL, dev_ioctl(self->fd, c->cmd, &arg));
	}
	const struct state after = state_of(self->fd);

	EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));
}

TEST_F(ioctl, bad_pointers)
{
	const struct state before = state_of(self->fd);
	unsigned char *page = mmap(NULL, 2 * UNIT, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	union any arg;
	unsigned int i;

	ASSERT_NE(MAP_FAILED, page);
	ASSERT_EQ(0, mprotect(page + UNIT, UNIT, PROT_NONE));
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		const struct command *c = &commands[i];
		void *cut = page + UNIT - c->size + 4;

		TH_LOG("%s", c->name);
		EXPECT_EQ(-EFAULT, dev_ioctl(self->fd, c->cmd, NULL));
		EXPECT_EQ(-EFAULT, dev_ioctl(self->fd, c->cmd, page + UNIT));
		/* The size can be read, the rest cannot. */
		valid(self, c, &arg);
		memcpy(cut, &arg, c->size - 4);
		EXPECT_EQ(-EFAULT, dev_ioctl(self->fd, c->cmd, cut));
	}
	const struct state after = state_of(self->fd);

	EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));
}

/* The answer cannot be written: what was made must be gone again. */
TEST_F(ioctl, answer_into_read_only_memory)
{
	union any *arg = mmap(NULL, UNIT, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const struct state before = state_of(self->fd);
	static const struct command made[] = {
		COMMAND(CREATE, xbzrle_create),
		COMMAND(REGISTER, xbzrle_register),
	};
	unsigned int i;
	int ret;

	ASSERT_NE(MAP_FAILED, arg);
	for (i = 0; i < ARRAY_SIZE(made); i++) {
		valid(self, &made[i], arg);
		ASSERT_EQ(0, mprotect(arg, UNIT, PROT_READ));
		EXPECT_EQ(-EFAULT, dev_ioctl(self->fd, made[i].cmd, arg));
		ASSERT_EQ(0, mprotect(arg, UNIT, PROT_READ | PROT_WRITE));
		const struct state after = state_of(self->fd);

		EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));
		/* The name and the range are free. */
		ret = dev_ioctl(self->fd, made[i].cmd, arg);
		EXPECT_EQ(answer(self, &made[i]), ret);
		if (ret)
			continue;
		ASSERT_EQ(0, dev_unregister(self->fd, i ? arg->reg.region_id :
					    arg->create.region_id));
		if (!i)
			close(arg->create.fd);
	}
}

static int create_named(int fd, const void *name, size_t name_len,
			uint64_t length, __u32 *id)
{
	struct xbzrle_create arg = {
		.size = sizeof(arg),
		.length = length,
		.name = (uintptr_t)name,
		.name_len = name_len,
	};
	int ret = dev_ioctl(fd, XBZRLE_IOC_CREATE, &arg);

	if (!ret)
		close(arg.fd);
	if (id)
		*id = arg.region_id;
	return ret;
}

/* SYNC that can do everything but answer. */
static int sync_unanswered(int fd, __u32 flags)
{
	struct xbzrle_sync *arg = mmap(NULL, UNIT, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ret;

	if (arg == MAP_FAILED)
		return -ENOMEM;
	arg->size = sizeof(*arg);
	arg->flags = flags;
	mprotect(arg, UNIT, PROT_READ);
	ret = dev_ioctl(fd, XBZRLE_IOC_SYNC, arg);
	munmap(arg, UNIT);
	return ret;
}

/* What a SYNC has found before it failed waits for the next one. */
TEST_F(ioctl, sync_into_read_only_memory)
{
	struct xbzrle_sync out;
	struct xbzrle_stats s;

	EXPECT_EQ(-EFAULT, sync_unanswered(self->fd, 0));
	ASSERT_EQ(0, dev_stats(self->fd, &s));
	EXPECT_EQ(0, s.rounds);
	EXPECT_EQ(0, s.round_left);
	EXPECT_EQ(0, s.pending_pages);
	EXPECT_EQ(0, dev_poll(self->fd));

	ASSERT_EQ(0, dev_sync(self->fd, 0, &out));
	EXPECT_EQ(1, out.round);
	EXPECT_EQ(LENGTH / UNIT, out.dirty_pages);
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	EXPECT_EQ(-1, model_diff(self->model, "ram", self->mem, 0, LENGTH));
}

/* The receiver has heard nothing of it: names stay free, and bases good. */
TEST_F(ioctl, failed_sync_tells_the_receiver_nothing)
{
	struct state before, after;
	uint32_t id;

	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	before = state_of(self->fd);
	EXPECT_EQ(-EFAULT, sync_unanswered(self->fd, XBZRLE_SYNC_FULL));
	after = state_of(self->fd);
	EXPECT_EQ(before.stats.cache_used, after.stats.cache_used);

	EXPECT_EQ(0, create_named(self->fd, "other", 5, LENGTH, &id));
	EXPECT_EQ(-EFAULT, sync_unanswered(self->fd, 0));
	EXPECT_EQ(0, dev_unregister(self->fd, id));
	EXPECT_EQ(0, create_named(self->fd, "other", 5, 2 * LENGTH, &id));
	self->mem[0]++;
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(1, self->model->round.xbzrle);
	EXPECT_EQ(0, self->model->round.page);
	EXPECT_EQ(-1, model_diff(self->model, "ram", self->mem, 0, LENGTH));
}

TEST_F(ioctl, unknown_command)
{
	union any arg = { .size = sizeof(arg) };

	EXPECT_EQ(-ENOTTY, dev_ioctl(self->fd, _IO(XBZRLE_IOC_TYPE, 0x08),
				     &arg));
	EXPECT_EQ(-ENOTTY, dev_ioctl(self->fd, _IO(XBZRLE_IOC_TYPE, 0xff),
				     &arg));
	EXPECT_EQ(-ENOTTY, dev_ioctl(self->fd, _IO(0xbf, 0x00), &arg));
	EXPECT_EQ(-ENOTTY, dev_ioctl(self->fd, 0, &arg));
}

#ifdef __x86_64__
/* The 32-bit system call of a 64-bit process reaches compat_ioctl. */
static int compat_ioctl(int fd, unsigned int cmd, void *arg)
{
	int ret;

	asm volatile("int $0x80"
		     : "=a" (ret)
		     : "a" (54), "b" (fd), "c" (cmd), "d" (arg)
		     : "memory", "r8", "r9", "r10", "r11");
	return ret;
}

TEST_F(ioctl, compat)
{
	struct xbzrle_info info;
	union any *arg;
	unsigned int i;

	arg = mmap(NULL, UNIT, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	ASSERT_NE(MAP_FAILED, arg);
	ASSERT_EQ(0, dev_info(self->fd, &info));
	arg->size = sizeof(info);
	ASSERT_EQ(0, compat_ioctl(self->fd, XBZRLE_IOC_GET_INFO, arg));
	EXPECT_EQ(0, memcmp(arg, &info, sizeof(info)));

	/* What is left for SYNC. */
	ASSERT_LE(0, dev_create(self->fd, "other", LENGTH, NULL));
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		TH_LOG("%s", commands[i].name);
		/* One region each: CREATE and REGISTER want the same name. */
		valid(self, &commands[i], arg);
		EXPECT_EQ(answer(self, &commands[i]),
			  compat_ioctl(self->fd, commands[i].cmd, arg));
		if (commands[i].cmd == XBZRLE_IOC_CREATE)
			EXPECT_EQ(0, dev_unregister(self->fd,
						    arg->create.region_id));
	}
}
#endif

/* Has the machine a feature, by the name that the kernel has for it? */
static bool __attribute__((unused)) cpu_has(const char *name)
{
	FILE *file = fopen("/proc/cpuinfo", "r");
	char line[8192], *word;
	bool has = false;

	while (file && !has && fgets(line, sizeof(line), file))
		for (word = strtok(line, " \t\n"); word && !has;
		     word = strtok(NULL, " \t\n"))
			has = !strcmp(word, name);
	if (file)
		fclose(file);
	return has;
}

static const char *best_codec(void)
{
#if defined(__x86_64__)
	return cpu_has("avx512bw") ? "avx512bw" :
	       cpu_has("avx2") ? "avx2" : "sse2";
#elif defined(__aarch64__)
	return cpu_has("asimd") ? "neon" : "scalar";
#else
	return "scalar";
#endif
}

/*
 * A build that has lost a tracker would pass the tests of a kernel without it,
 * so who boots the kernel says in TRACKERS what it must have.
 */
TEST_F(ioctl, info)
{
	const char *trackers = getenv("TRACKERS");
	__u64 features = XBZRLE_FEATURE_CAPTURE_COPY |
			 XBZRLE_FEATURE_CAPTURE_PREIMAGE |
			 XBZRLE_FEATURE_POINT_IN_TIME;
	struct xbzrle_info info;

	ASSERT_NE(NULL, trackers);
	if (strstr(trackers, "owned"))
		features |= XBZRLE_FEATURE_TRACKER_OWNED;
	if (strstr(trackers, "pte"))
		features |= XBZRLE_FEATURE_TRACKER_PTE;
	if (strstr(trackers, "freeze"))
		features |= XBZRLE_FEATURE_CAPTURE_FREEZE;
	if (strstr(trackers, "external"))
		features |= XBZRLE_FEATURE_TRACKER_EXTERNAL;
	if (strstr(trackers, "mapping"))
		features |= XBZRLE_FEATURE_TRACKER_MAPPING;
	ASSERT_EQ(0, dev_info(self->fd, &info));
	EXPECT_EQ(sizeof(info), info.size);
	EXPECT_EQ(XBZRLE_ABI_VERSION, info.abi_version);
	EXPECT_EQ(XBZRLE_UNIT_SIZE, info.unit_size);
	EXPECT_EQ(XBZRLE_NAME_MAX, info.name_max);
	EXPECT_EQ(features, info.features);
	EXPECT_LE(1, info.max_regions);
	EXPECT_LE(64ULL << 30, info.max_region_length);
	EXPECT_LE(1ULL << 30, info.max_cache);
	EXPECT_STREQ(best_codec(), (const char *)info.codec);
}

TEST_F(ioctl, stats)
{
	struct xbzrle_stats s;

	ASSERT_EQ(0, dev_stats(self->fd, &s));
	EXPECT_EQ(0, s.rounds);
	EXPECT_EQ(0, s.stream_bytes);
	EXPECT_EQ(0, s.round_left);
	EXPECT_EQ(LENGTH, s.cache_bytes);
	EXPECT_EQ(0, s.cache_used);

	ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
	ASSERT_EQ(0, dev_stats(self->fd, &s));
	EXPECT_EQ(1, s.rounds);
	EXPECT_EQ(1, s.round_left);
	EXPECT_EQ(LENGTH / UNIT, s.dirty_pages);
	EXPECT_EQ(LENGTH / UNIT, s.pending_pages);

	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 4096));
	ASSERT_EQ(0, dev_stats(self->fd, &s));
	EXPECT_EQ(0, s.round_left);
	EXPECT_EQ(0, s.pending_pages);
	EXPECT_EQ(LENGTH / UNIT, s.normal_pages);
	EXPECT_EQ(LENGTH / UNIT, s.still_pages);
	EXPECT_EQ(0, s.cache_used);
	EXPECT_EQ(self->model->all.bytes, s.stream_bytes);
}

static int register_named(int fd, const void *name, size_t name_len,
			  const void *addr)
{
	struct xbzrle_register arg = {
		.size = sizeof(arg),
		.addr = (uintptr_t)addr,
		.length = LENGTH,
		.name = (uintptr_t)name,
		.name_len = name_len,
	};

	return dev_ioctl(fd, XBZRLE_IOC_REGISTER, &arg);
}

TEST_F(ioctl, names)
{
	char name[257];
	char *edge = mmap(NULL, 2 * UNIT, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct {
		int ret;
		const void *name;
		size_t len;
	} bad[] = {
		{ -EINVAL, name, 0 },
		{ -EINVAL, name, 256 },
		{ -EINVAL, name, UINT32_MAX },
		{ -EINVAL, "with\0nul", 8 },
		{ -EINVAL, "at the end\0", 11 },
		{ -EFAULT, NULL, 4 },
		{ -EFAULT, edge + UNIT - 2, 4 },
		{ -EBUSY, "ram", 3 },
	};
	unsigned int i;

	ASSERT_NE(MAP_FAILED, edge);
	ASSERT_EQ(0, mprotect(edge + UNIT, UNIT, PROT_NONE));
	memset(edge, 'e', UNIT);
	memset(name, 'x', sizeof(name));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		TH_LOG("name %u", i);
		EXPECT_EQ(bad[i].ret, create_named(self->fd, bad[i].name,
						   bad[i].len, LENGTH, NULL));
		EXPECT_EQ(bad[i].ret, register_named(self->fd, bad[i].name,
						     bad[i].len, self->anon));
	}
	EXPECT_EQ(0, create_named(self->fd, name, 255, LENGTH, NULL));
	EXPECT_EQ(-EBUSY, create_named(self->fd, name, 255, LENGTH, NULL));
	EXPECT_EQ(0, create_named(self->fd, name, 254, LENGTH, NULL));
	EXPECT_EQ(0, create_named(self->fd, edge + UNIT - 2, 2, LENGTH, NULL));
	EXPECT_EQ(0, create_named(self->fd, "ra", 2, LENGTH, NULL));
	EXPECT_EQ(self->registered, register_named(self->fd, "r", 1,
						   self->anon));

	/* They arrive as they were given. */
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(self->registered ? 5 : 6, self->model->nr_regions);
	name[255] = 0;
	EXPECT_NE(NULL, model_find(self->model, name));
	name[254] = 0;
	EXPECT_NE(NULL, model_find(self->model, name));
	EXPECT_NE(NULL, model_find(self->model, "ee"));
	EXPECT_NE(NULL, model_find(self->model, "ra"));
	EXPECT_EQ(!self->registered, !!model_find(self->model, "r"));
}

TEST_F(ioctl, create_lengths)
{
	const struct state before = state_of(self->fd);
	struct xbzrle_info info;

	ASSERT_EQ(0, dev_info(self->fd, &info));
	EXPECT_EQ(-EINVAL, dev_create(self->fd, "a", 0, NULL));
	EXPECT_EQ(-EINVAL, dev_create(self->fd, "a", 1, NULL));
	EXPECT_EQ(-EINVAL, dev_create(self->fd, "a", UNIT + 512, NULL));
	EXPECT_EQ(-EINVAL, dev_create(self->fd, "a", UINT64_MAX, NULL));
	EXPECT_EQ(-ENOSPC, dev_create(self->fd, "a", -UNIT, NULL));
	EXPECT_EQ(-ENOSPC, dev_create(self->fd, "a",
				      info.max_region_length + UNIT, NULL));
	const struct state after = state_of(self->fd);

	EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));
}

TEST_F(ioctl, create_captures)
{
	struct xbzrle_create arg = {
		.size = sizeof(arg),
		.length = LENGTH,
		.name_len = 1,
	};
	static const struct { const char *name; __u32 in, out; } good[] = {
		{ "a", XBZRLE_CAPTURE_AUTO, XBZRLE_CAPTURE_PREIMAGE },
		{ "b", XBZRLE_CAPTURE_COPY, XBZRLE_CAPTURE_COPY },
		{ "c", XBZRLE_CAPTURE_PREIMAGE, XBZRLE_CAPTURE_PREIMAGE },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(good); i++) {
		arg.name = (uintptr_t)good[i].name;
		arg.capture = good[i].in;
		EXPECT_EQ(0, dev_ioctl(self->fd, XBZRLE_IOC_CREATE, &arg));
		EXPECT_EQ(good[i].out, arg.capture);
		close(arg.fd);
	}
	arg.name = (uintptr_t)"d";
	arg.capture = XBZRLE_CAPTURE_PREIMAGE + 1;
	EXPECT_EQ(-EINVAL, dev_ioctl(self->fd, XBZRLE_IOC_CREATE, &arg));
	arg.capture = UINT32_MAX;
	EXPECT_EQ(-EINVAL, dev_ioctl(self->fd, XBZRLE_IOC_CREATE, &arg));
}

TEST_F(ioctl, create_fd_is_close_on_exec)
{
	EXPECT_EQ(FD_CLOEXEC, fcntl(self->rfd, F_GETFD) & FD_CLOEXEC);
}

TEST_F(ioctl, register_ranges)
{
	const struct state before = state_of(self->fd);
	struct {
		int ret;
		uint64_t addr;
		uint64_t length;
	} bad[] = {
		{ -EINVAL, (uintptr_t)self->anon + 1, LENGTH },
		{ -EINVAL, (uintptr_t)self->anon + 512, LENGTH },
		{ -EINVAL, (uintptr_t)self->anon, 0 },
		{ -EINVAL, (uintptr_t)self->anon, LENGTH + 1 },
		{ -EINVAL, (uintptr_t)self->anon, UNIT / 2 },
		{ -ENOSPC, (uintptr_t)self->anon, -UNIT },
		{ -EINVAL, -UNIT, 2 * UNIT },
#ifdef __s390x__
		/* The kernel has an address space of its own. */
		{ -EFAULT, 1ULL << 63, UNIT },
#else
		{ -EINVAL, 1ULL << 63, UNIT },
#endif
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		TH_LOG("range %u", i);
		EXPECT_EQ(bad[i].ret, dev_register(self->fd, "a",
						   (void *)bad[i].addr,
						   bad[i].length, 0,
						   XBZRLE_TRACKER_AUTO, NULL));
	}
	const struct state after = state_of(self->fd);

	EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));
}

TEST_F(ioctl, register_choices)
{
	struct xbzrle_register out;
	struct xbzrle_register arg = {
		.size = sizeof(arg),
		.addr = (uintptr_t)self->anon,
		.length = LENGTH,
		.name = (uintptr_t)"a",
		.name_len = 1,
	};

	arg.tracker = XBZRLE_TRACKER_OWNED;
	EXPECT_EQ(-EINVAL, dev_ioctl(self->fd, XBZRLE_IOC_REGISTER, &arg));
	arg.tracker = XBZRLE_TRACKER_MAPPING + 1;
	EXPECT_EQ(-EINVAL, dev_ioctl(self->fd, XBZRLE_IOC_REGISTER, &arg));
	arg.tracker = UINT32_MAX;
	EXPECT_EQ(-EINVAL, dev_ioctl(self->fd, XBZRLE_IOC_REGISTER, &arg));
	arg.tracker = XBZRLE_TRACKER_AUTO;
	arg.capture = XBZRLE_CAPTURE_FREEZE + 1;
	EXPECT_EQ(-EINVAL, dev_ioctl(self->fd, XBZRLE_IOC_REGISTER, &arg));
	/* No tracker of memory that exists sees a write begin. */
	arg.capture = XBZRLE_CAPTURE_PREIMAGE;
	EXPECT_EQ(-EOPNOTSUPP, dev_ioctl(self->fd, XBZRLE_IOC_REGISTER, &arg));
	EXPECT_EQ(arg.addr, arg.error_addr);
	if (!strstr(getenv("TRACKERS"), "freeze")) {
		arg.capture = XBZRLE_CAPTURE_FREEZE;
		EXPECT_EQ(-EOPNOTSUPP,
			  dev_ioctl(self->fd, XBZRLE_IOC_REGISTER, &arg));
	}
	arg.capture = XBZRLE_CAPTURE_AUTO;
	arg.pid = -1;
	EXPECT_EQ(-EINVAL, dev_ioctl(self->fd, XBZRLE_IOC_REGISTER, &arg));
	arg.pid = INT32_MIN;
	EXPECT_EQ(-EINVAL, dev_ioctl(self->fd, XBZRLE_IOC_REGISTER, &arg));

	EXPECT_EQ(self->registered, dev_register(self->fd, "a", self->anon,
						 LENGTH, 0, XBZRLE_TRACKER_AUTO,
						 &out));
	if (self->registered)
		return;
	EXPECT_EQ(XBZRLE_TRACKER_PTE, out.tracker);
	EXPECT_EQ(XBZRLE_CAPTURE_COPY, out.capture);
	EXPECT_NE(self->id, out.region_id);
}

/*
 * REGISTER must refuse the range and name @where as the reason. Where no memory
 * can be registered, it is not looked at.
 */
static void expect_refused(struct __test_metadata *_metadata,
			   struct _test_data_ioctl *self, int error, void *addr,
			   size_t length, void *where)
{
	static const __u32 trackers[] = {
		XBZRLE_TRACKER_AUTO, XBZRLE_TRACKER_PTE,
	};
	struct xbzrle_register out;
	unsigned int i;

	if (self->registered) {
		error = self->registered;
		where = addr;
	}
	for (i = 0; i < ARRAY_SIZE(trackers); i++) {
		EXPECT_EQ(error, dev_register(self->fd, "a", addr, length, 0,
					      trackers[i], &out));
		EXPECT_EQ((uintptr_t)where, out.error_addr);
	}
}

TEST_F(ioctl, register_unmapped)
{
	ASSERT_EQ(0, munmap(self->anon + 5 * UNIT, UNIT));
	expect_refused(_metadata, self, -EFAULT, self->anon, LENGTH, self->anon + 5 * UNIT);
	ASSERT_EQ(0, munmap(self->anon, UNIT));
	expect_refused(_metadata, self, -EFAULT, self->anon, 2 * UNIT, self->anon);
	EXPECT_EQ(self->registered,
		  dev_register(self->fd, "a", self->anon + UNIT, 4 * UNIT, 0,
			       XBZRLE_TRACKER_AUTO, NULL));
}

#if MM_HAVE_HUGE_PAGES
TEST_F(ioctl, register_hugetlb)
{
	unsigned char *p;

	if (mm_write_file("/proc/sys/vm/nr_hugepages", "1"))
		SKIP(return, "no hugetlb");
	p = mmap(NULL, HUGE_SIZE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (p == MAP_FAILED)
		SKIP(return, "no huge page to be had");
	p[0] = 1;
	expect_refused(_metadata, self, -EOPNOTSUPP, p, HUGE_SIZE, p);
	munmap(p, HUGE_SIZE);
	mm_write_file("/proc/sys/vm/nr_hugepages", "0");
}
#endif

/* The kernel's own time data is a PFN mapping in every process. */
TEST_F(ioctl, register_pfnmap)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long start, end;
	void *vvar = NULL;
	char line[512];

	ASSERT_NE(NULL, f);
	while (fgets(line, sizeof(line), f))
		if (strstr(line, "[vvar]") &&
		    sscanf(line, "%lx-%lx", &start, &end) == 2)
			vvar = (void *)start;
	fclose(f);
	if (!vvar)
		SKIP(return, "no vvar mapping");
	expect_refused(_metadata, self, -EOPNOTSUPP, vvar, UNIT, vvar);
}

TEST_F(ioctl, register_file_private)
{
	int file = open("/proc/self/exe", O_RDONLY);
	unsigned char *p;

	ASSERT_LE(0, file);
	p = mmap(NULL, UNIT, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	ASSERT_NE(MAP_FAILED, p);
	expect_refused(_metadata, self, -EOPNOTSUPP, p, UNIT, p);
	p[0] = 1;
	expect_refused(_metadata, self, -EOPNOTSUPP, p, UNIT, p);
}

/* The first mapping is fine and the second is not. */
TEST_F(ioctl, register_mixed)
{
	unsigned char *p;

	p = mmap(self->anon + 8 * UNIT, 8 * UNIT, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_FIXED, open("/proc/self/exe", O_RDONLY), 0);
	ASSERT_NE(MAP_FAILED, p);
	expect_refused(_metadata, self, -EOPNOTSUPP, self->anon, LENGTH, p);
}

TEST_F(ioctl, register_owned_memory)
{
	expect_refused(_metadata, self, -EOPNOTSUPP, self->mem, LENGTH, self->mem);
}

TEST_F(ioctl, register_dead_process)
{
	pid_t pid = fork();
	siginfo_t info;

	if (!pid)
		_exit(0);
	ASSERT_LT(0, pid);
	/* First as a zombie, then without a trace. */
	ASSERT_EQ(0, waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
	EXPECT_EQ(-ESRCH, dev_register(self->fd, "a", self->anon, LENGTH, pid,
				       XBZRLE_TRACKER_AUTO, NULL));
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	EXPECT_EQ(-ESRCH, dev_register(self->fd, "a", self->anon, LENGTH, pid,
				       XBZRLE_TRACKER_AUTO, NULL));
}

/*
 * Run @call in a child that is nobody and holds the inherited session.
 * Returns the positive errno, or 0.
 */
static int as_nobody(int (*call)(int fd, const void *arg), int fd,
		     const void *arg)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		if (setresgid(NOBODY, NOBODY, NOBODY) ||
		    setresuid(NOBODY, NOBODY, NOBODY))
			_exit(255);
		_exit(-call(fd, arg));
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static int register_parent(int fd, const void *arg)
{
	return dev_register(fd, "a", arg, LENGTH, getppid(),
			    XBZRLE_TRACKER_AUTO, NULL);
}

static int register_self(int fd, const void *arg)
{
	return dev_register(fd, "b", arg, LENGTH, 0, XBZRLE_TRACKER_AUTO,
			    NULL);
}

static int register_own_pid(int fd, const void *arg)
{
	return dev_register(fd, "c", arg, LENGTH, getpid(),
			    XBZRLE_TRACKER_AUTO, NULL);
}

static int open_device(int fd, const void *arg)
{
	(void)fd;
	(void)arg;
	return dev_open() < 0 ? -errno : 0;
}

struct other {
	pid_t pid;
	const void *addr;
};

static int register_other(int fd, const void *arg)
{
	const struct other *other = arg;

	return dev_register(fd, "d", other->addr, LENGTH, other->pid,
			    XBZRLE_TRACKER_AUTO, NULL);
}

/* Memory lives as long as somebody uses it, with all that is mapped there. */
TEST_F(ioctl, refusal_lets_go_of_the_process)
{
	struct other other = { .addr = self->anon };
	int shared = mm_shared_file(UNIT);

	ASSERT_LE(0, shared);
	other.pid = fork();
	if (!other.pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		mmap(NULL, UNIT, PROT_WRITE, MAP_SHARED, shared, 0);
		pause();
		_exit(0);
	}
	EXPECT_EQ(EPERM, as_nobody(register_other, self->fd, &other));
	EXPECT_EQ(0, kill(other.pid, SIGKILL));
	EXPECT_EQ(other.pid, waitpid(other.pid, NULL, 0));
	EXPECT_FALSE(mm_shared_file_mapped(shared));
}

TEST_F(ioctl, rights)
{
	struct stat st;

	ASSERT_EQ(0, stat(DEVICE, &st));
	EXPECT_EQ(0600, st.st_mode & 0777);
	EXPECT_EQ(EACCES, as_nobody(open_device, self->fd, NULL));
	EXPECT_EQ(EPERM, as_nobody(register_parent, self->fd, self->anon));
	EXPECT_EQ(-self->registered,
		  as_nobody(register_self, self->fd, self->anon));
	EXPECT_EQ(-self->registered,
		  as_nobody(register_own_pid, self->fd, self->anon));
}

/* Where hold_memory() has LENGTH bytes. */
#define HELD		((void *)(1UL << 38))

/* What a process of another user namespace becomes by exec. */
static int hold_memory(int ready)
{
	unsigned char *mem = mmap(HELD, LENGTH, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS |
				  MAP_FIXED_NOREPLACE, -1, 0);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (mem != HELD)
		return 1;
	mem[0] = 1;
	if (write(ready, "", 1) != 1)
		return 1;
	return pause();
}

/* The errno of registering a process in a namespace that begins here. */
static int register_in_namespace(int fd)
{
	struct other other = { .addr = HELD };
	int ready[2], ret;
	char text[16];

	if (unshare(CLONE_NEWUSER) || pipe(ready))
		return 255;
	snprintf(text, sizeof(text), "%d", ready[1]);
	other.pid = fork();
	if (!other.pid) {
		execl("/proc/self/exe", "ioctl", "--hold", text, NULL);
		_exit(1);
	}
	if (read(ready[0], text, 1) != 1)
		return 255;
	ret = register_other(fd, &other);
	kill(other.pid, SIGKILL);
	waitpid(other.pid, NULL, 0);
	return -ret;
}

/* Who is all-powerful in a user namespace is so over what runs there. */
TEST_F(ioctl, rights_in_a_user_namespace)
{
	int status;
	pid_t pid;

	pid = fork();
	if (!pid)
		_exit(register_in_namespace(self->fd));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(-self->registered, WEXITSTATUS(status));

	pid = fork();
	if (!pid)
		_exit(unshare(CLONE_NEWUSER) ? 255 :
		      -register_parent(self->fd, self->anon));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(EPERM, WEXITSTATUS(status));
}

/* What is wrong in a namespace of pids that begins with this process, or 0. */
static int register_by_inner_pid(pid_t outside)
{
	unsigned char *mem = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned char *content = malloc(LENGTH);
	struct model *m = model_new();
	int fd = dev_open();
	pid_t pid;

	if (fd < 0 || mem == MAP_FAILED || !content || !m || getpid() != 1)
		return 1;
	memset(mem, 0x5a, LENGTH);
	memcpy(content, mem, LENGTH);
	pid = fork();
	if (!pid)
		pause();
	/* What is there is the child's alone. */
	munmap(mem, LENGTH);
	if (outside <= pid ||
	    dev_register(fd, "outside", mem, LENGTH, outside,
			 XBZRLE_TRACKER_AUTO, NULL) != -ESRCH)
		return 2;
	if (dev_register(fd, "inside", mem, LENGTH, pid, XBZRLE_TRACKER_AUTO,
			 NULL))
		return 3;
	if (dev_round(fd, m, 0) ||
	    model_diff(m, "inside", content, 0, LENGTH) != -1)
		return 4;
	/* The child ends with its namespace. */
	return 0;
}

/* A pid is what the caller knows the process by. */
TEST_F(ioctl, pid_in_a_namespace)
{
	pid_t outside = getpid(), pid;
	int status;

	pid = fork();
	if (!pid) {
		if (unshare(CLONE_NEWPID))
			_exit(255);
		pid = fork();
		if (!pid)
			_exit(register_by_inner_pid(outside));
		waitpid(pid, &status, 0);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 254);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

TEST_F(ioctl, unregister)
{
	EXPECT_EQ(-EINVAL, dev_unregister(self->fd, self->id + 1));
	EXPECT_EQ(-EINVAL, dev_unregister(self->fd, UINT32_MAX));
	EXPECT_EQ(0, dev_unregister(self->fd, self->id));
	EXPECT_EQ(-EINVAL, dev_unregister(self->fd, self->id));
	/* The name is free, the memory lives on. */
	EXPECT_EQ(0, create_named(self->fd, "ram", 3, LENGTH, NULL));
	self->mem[0]++;
}

TEST_F(ioctl, unregister_in_a_round)
{
	ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
	EXPECT_EQ(0, dev_unregister(self->fd, self->id));
	EXPECT_EQ(0, dev_read_round(self->fd, self->model, 4096));
	EXPECT_TRUE(model_idle(self->model));
	EXPECT_EQ(0, self->model->all.page);
}

TEST_F(ioctl, sync_without_region)
{
	struct xbzrle_stats s;

	ASSERT_EQ(0, dev_unregister(self->fd, self->id));
	EXPECT_EQ(-EINVAL, dev_sync(self->fd, 0, NULL));
	EXPECT_EQ(-EINVAL, dev_sync(self->fd, XBZRLE_SYNC_FULL, NULL));
	ASSERT_EQ(0, dev_stats(self->fd, &s));
	EXPECT_EQ(0, s.rounds);
	EXPECT_EQ(0, dev_poll(self->fd));
}

TEST_F(ioctl, busy_in_a_round)
{
	unsigned char byte;
	uint32_t id;

	ASSERT_EQ(0, dev_sync(self->fd, 0, NULL));
	EXPECT_EQ(-EBUSY, dev_sync(self->fd, 0, NULL));
	EXPECT_EQ(-EBUSY, dev_sync(self->fd, XBZRLE_SYNC_FULL, NULL));
	EXPECT_EQ(-EBUSY, dev_create(self->fd, "a", LENGTH, &id));
	EXPECT_EQ(-EBUSY, dev_register(self->fd, "a", self->anon, LENGTH, 0,
				       XBZRLE_TRACKER_AUTO, NULL));
	EXPECT_EQ(0, dev_set_cache(self->fd, 2 * LENGTH));
	ASSERT_EQ(1, read(self->fd, &byte, 1));
	ASSERT_EQ(0, model_feed(self->model, &byte, 1));
	EXPECT_EQ(-EBUSY, dev_sync(self->fd, 0, NULL));
	/* The round is none the worse for it. */
	ASSERT_EQ(0, dev_read_round(self->fd, self->model, 4096));
	EXPECT_TRUE(model_idle(self->model));
	EXPECT_EQ(-1, model_diff(self->model, "ram", self->mem, 0, LENGTH));
	EXPECT_EQ(0, dev_sync(self->fd, 0, NULL));
}

TEST_F(ioctl, sync_numbers_rounds)
{
	struct xbzrle_sync s;
	unsigned int i;

	for (i = 1; i <= 3; i++) {
		ASSERT_EQ(0, dev_sync(self->fd, 0, &s));
		EXPECT_EQ(i, s.round);
		EXPECT_EQ(i == 1 ? LENGTH / UNIT : 0, s.dirty_pages);
		EXPECT_EQ(0, s.based_pages);
		ASSERT_EQ(0, dev_read_round(self->fd, self->model, 65536));
	}
}

/* The receiver keeps what it has under a name until it is told all anew. */
TEST_F(ioctl, dropped_name_is_free_after_a_full_round)
{
	struct model *fresh = model_new();
	uint32_t id;

	ASSERT_LE(0, dev_create(self->fd, "other", LENGTH, &id));
	/* No round has told the receiver of it yet. */
	ASSERT_EQ(0, dev_unregister(self->fd, id));
	ASSERT_LE(0, dev_create(self->fd, "other", LENGTH, &id));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	ASSERT_EQ(0, dev_unregister(self->fd, id));
	EXPECT_EQ(-EBUSY, dev_create(self->fd, "other", LENGTH, &id));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(-EBUSY, dev_create(self->fd, "other", LENGTH, &id));
	ASSERT_EQ(0, dev_round(self->fd, fresh, XBZRLE_SYNC_FULL));
	EXPECT_LE(0, dev_create(self->fd, "other", LENGTH, &id));
	model_free(fresh);
}

TEST_F(ioctl, final_round)
{
	struct xbzrle_stats s;
	struct model *fresh = model_new();

	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	self->mem[1]++;
	ASSERT_EQ(0, dev_round(self->fd, self->model, XBZRLE_SYNC_FINAL));
	EXPECT_EQ(-1, model_diff(self->model, "ram", self->mem, 0, LENGTH));
	ASSERT_EQ(0, dev_stats(self->fd, &s));
	EXPECT_EQ(0, s.cache_used);
	EXPECT_EQ(-EBUSY, dev_sync(self->fd, 0, NULL));
	EXPECT_EQ(-EBUSY, dev_sync(self->fd, XBZRLE_SYNC_FINAL, NULL));

	self->mem[2]++;
	ASSERT_EQ(0, dev_round(self->fd, fresh, XBZRLE_SYNC_FULL));
	EXPECT_EQ(1, fresh->setups);
	EXPECT_EQ(LENGTH / UNIT, fresh->round.page);
	EXPECT_EQ(-1, model_diff(fresh, "ram", self->mem, 0, LENGTH));
	/* And rounds go on from there. */
	self->mem[3]++;
	ASSERT_EQ(0, dev_round(self->fd, fresh, 0));
	EXPECT_EQ(1, fresh->round.xbzrle);
	EXPECT_EQ(-1, model_diff(fresh, "ram", self->mem, 0, LENGTH));
	model_free(fresh);
}

TEST_F(ioctl, too_many_regions)
{
	struct xbzrle_info info;
	char name[16];
	__u32 i, last = 0, nr;

	ASSERT_EQ(0, dev_info(self->fd, &info));
	/* Some hundreds tell a debug kernel as much, in a tenth of a minute. */
	nr = mm_debug_kernel() ? 400 : info.max_regions;
	for (i = 1; i < nr; i++) {
		snprintf(name, sizeof(name), "r%u", i);
		ASSERT_EQ(0, create_named(self->fd, name, strlen(name), UNIT,
					  &last));
	}
	if (nr == info.max_regions) {
		EXPECT_EQ(-ENOSPC, create_named(self->fd, "over", 4, UNIT,
						NULL));
		EXPECT_EQ(-ENOSPC, register_named(self->fd, "over", 4,
						  self->anon));
	}
	ASSERT_EQ(0, dev_unregister(self->fd, last));
	EXPECT_EQ(0, create_named(self->fd, "over", 4, UNIT, NULL));

	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(nr, self->model->nr_regions);
}

TEST_F(ioctl, cache_limits)
{
	struct xbzrle_info info;
	struct xbzrle_stats s;

	ASSERT_EQ(0, dev_info(self->fd, &info));
	EXPECT_EQ(-ENOSPC, dev_set_cache(self->fd, UINT64_MAX));
	EXPECT_EQ(-ENOSPC, dev_set_cache(self->fd,
					 info.max_cache + UNIT));
	ASSERT_EQ(0, dev_stats(self->fd, &s));
	EXPECT_EQ(LENGTH, s.cache_bytes);
	EXPECT_EQ(0, dev_set_cache(self->fd, info.max_cache));
	EXPECT_EQ(0, dev_set_cache(self->fd, 3 * UNIT + 17));
	ASSERT_EQ(0, dev_stats(self->fd, &s));
	EXPECT_EQ(3 * UNIT, s.cache_bytes);
}

/* A refused call between two rounds leaves the second as it would have been. */
TEST_F(ioctl, errors_leave_the_stream_alone)
{
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	self->mem[5 * UNIT + 7]++;
	EXPECT_EQ(-EINVAL, dev_sync(self->fd, 1U << 31, NULL));
	EXPECT_EQ(-EINVAL, dev_create(self->fd, "a", 1, NULL));
	EXPECT_EQ(-EBUSY, dev_create(self->fd, "ram", LENGTH, NULL));
	EXPECT_EQ(-EINVAL, dev_unregister(self->fd, self->id + 1));
	ASSERT_EQ(0, munmap(self->anon + UNIT, UNIT));
	EXPECT_EQ(self->registered ?: -EFAULT,
		  dev_register(self->fd, "a", self->anon, LENGTH, 0,
			       XBZRLE_TRACKER_AUTO, NULL));
	ASSERT_EQ(0, dev_round(self->fd, self->model, 0));
	EXPECT_EQ(1, self->model->setups);
	EXPECT_EQ(1, self->model->round.xbzrle);
	EXPECT_EQ(0, self->model->round.page);
	EXPECT_EQ(-1, model_diff(self->model, "ram", self->mem, 0, LENGTH));
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "--hold"))
		return hold_memory(atoi(argv[2]));
	return test_harness_run(argc, argv);
}
