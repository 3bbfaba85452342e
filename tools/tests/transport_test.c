// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Transport frames against frames written by hand, whole and damaged. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../xbzrle/frame.h"
#include "../xbzrle/signals.h"
#include "wire_build.h"

static struct frame_link link_of(const struct build *build)
{
	struct frame_link link;
	int fd = memfd_create("frames", MFD_CLOEXEC);

	assert_int_equal(write(fd, build->bytes, build->length),
			 build->length);
	lseek(fd, 0, SEEK_SET);
	assert_int_equal(frame_link_init(&link, fd, fd, NULL), 0);
	return link;
}

static void end_link(struct frame_link *link)
{
	close(link->in);
	frame_link_release(link);
}

/* What the first frame that fails says. */
static int receive_all(const struct build *build, int *frames,
		       struct xbzrle_error *err)
{
	struct frame_link link = link_of(build);
	struct frame frame;
	int ret;

	for (*frames = 0; (ret = frame_receive(&link, &frame, err)) > 0;
	     (*frames)++)
		continue;
	end_link(&link);
	return ret;
}

static void three_frames(struct build *build)
{
	build_frame(build, FRAME_DATA, 0, "first", 5);
	build_frame(build, FRAME_DATA, 1, "", 0);
	build_frame(build, FRAME_ERROR, 2, "third", 5);
}

static void checksum_is_crc32c(void **state)
{
	(void)state;
	/* The check value that catalogues of CRCs give. */
	assert_int_equal(~build_crc32c("123456789", 9, 0xffffffff),
			 0xe3069283);
}

static void reads_what_is_documented(void **state)
{
	struct build build = {};
	struct xbzrle_error err;
	struct frame_link link;
	struct frame frame;

	(void)state;
	three_frames(&build);
	link = link_of(&build);
	assert_int_equal(frame_receive(&link, &frame, &err), 1);
	assert_int_equal(frame.type, FRAME_DATA);
	assert_int_equal(frame.length, 5);
	assert_string_equal(frame.payload, "first");
	assert_int_equal(frame_receive(&link, &frame, &err), 1);
	assert_int_equal(frame.length, 0);
	assert_int_equal(frame_receive(&link, &frame, &err), 1);
	assert_int_equal(frame.type, FRAME_ERROR);
	assert_string_equal(frame.payload, "third");
	assert_int_equal(frame_receive(&link, &frame, &err), 0);
	end_link(&link);
	build_free(&build);
}

static void writes_what_is_documented(void **state)
{
	static const struct frame_round round = {
		.round = 5, .position = 0x123456789a, .dirty_pages = 0x1234,
	};
	static const uint8_t digest[16] = { 1, [15] = 16 };
	struct build want = {}, none = {}, payload = {};
	uint8_t got[512];
	struct frame_link link;

	(void)state;
	build_bytes(&none, "", 0);
	link = link_of(&none);
	assert_int_equal(frame_send_hello(&link, &(struct frame_hello){
		.offered = 3, .required = 2 }, NULL), 0);
	assert_int_equal(frame_send_region(&link, &(struct frame_region){
		.address = 0x1000, .length = 0x2000, .pid = 77,
		.name = "heap" }, NULL), 0);
	assert_int_equal(frame_send_verdict(&link, true, "yes", NULL), 0);
	assert_int_equal(frame_send_round(&link, &round, NULL), 0);
	assert_int_equal(frame_send_ack(&link, &round, NULL), 0);
	assert_int_equal(frame_send_drop(&link, "heap", NULL), 0);
	assert_int_equal(frame_send_digest(&link, &(struct frame_digest){
		.length = 0x2000, .digest = { 1, [15] = 16 },
		.name = "heap" }, NULL), 0);
	assert_int_equal(frame_send_end(&link, 7, NULL), 0);
	assert_int_equal(frame_send_error(&link, "no", NULL), 0);

	build_be64(&payload, 3);
	build_be64(&payload, 2);
	build_be32(&payload, 4096);
	build_frame(&want, FRAME_HELLO, 0, payload.bytes, payload.length);
	payload.length = 0;
	build_be64(&payload, 0x1000);
	build_be64(&payload, 0x2000);
	build_be32(&payload, 77);
	build_bytes(&payload, "heap", 4);
	build_frame(&want, FRAME_REGION, 1, payload.bytes, payload.length);
	build_frame(&want, FRAME_VERDICT, 2, "\1yes", 4);
	payload.length = 0;
	build_be64(&payload, round.round);
	build_be64(&payload, round.position);
	build_be64(&payload, round.dirty_pages);
	build_frame(&want, FRAME_ROUND, 3, payload.bytes, payload.length);
	build_frame(&want, FRAME_ACK, 4, payload.bytes, payload.length);
	build_frame(&want, FRAME_DROP, 5, "heap", 4);
	payload.length = 0;
	build_be64(&payload, 0x2000);
	build_bytes(&payload, digest, sizeof(digest));
	build_bytes(&payload, "heap", 4);
	build_frame(&want, FRAME_DIGEST, 6, payload.bytes, payload.length);
	build_frame(&want, FRAME_END, 7, "\0\0\0\7", 4);
	build_frame(&want, FRAME_ERROR, 8, "no", 2);

	assert_int_equal(pread(link.out, got, sizeof(got), 0), want.length);
	assert_memory_equal(got, want.bytes, want.length);
	end_link(&link);
	build_free(&want);
	build_free(&payload);
}

static void unpacks_what_is_documented(void **state)
{
	static const uint8_t bytes[44] = {
		0, 0, 0, 0, 0x12, 0x34, 0x56, 0x78,
		0, 0, 0, 0x9a, 0, 0, 0, 1, 0, 0, 0x10, 0, 0, 0, 0, 2,
	};
	struct frame frame = { .payload = bytes };
	struct frame_digest digest;
	struct frame_region region;
	struct frame_hello hello;
	struct frame_round round;
	uint32_t count;

	(void)state;
	frame.length = 20;
	assert_int_equal(frame_get_hello(&frame, &hello, NULL), 0);
	assert_int_equal(hello.offered, 0x12345678);
	assert_int_equal(hello.required, 0x9a00000001);
	frame.length = 24;
	assert_int_equal(frame_get_round(&frame, &round, NULL), 0);
	assert_int_equal(round.round, 0x12345678);
	assert_int_equal(round.position, 0x9a00000001);
	assert_int_equal(round.dirty_pages, 0x100000000002);
	frame.length = 4;
	frame.payload = bytes + 4;
	assert_int_equal(frame_get_end(&frame, &count, NULL), 0);
	assert_int_equal(count, 0x12345678);

	frame.payload = (const uint8_t *)
		"\0\0\0\0\0\0\x20\0\0\0\0\0\0\0\x30\0\0\0\1\2heap";
	frame.length = 24;
	assert_int_equal(frame_get_region(&frame, &region, NULL), 0);
	assert_int_equal(region.address, 0x2000);
	assert_int_equal(region.length, 0x3000);
	assert_int_equal(region.pid, 0x102);
	assert_string_equal(region.name, "heap");
	frame.payload = (const uint8_t *)
		"\0\0\0\0\0\0\x20\0" "0123456789abcdef" "heap";
	frame.length = 28;
	assert_int_equal(frame_get_digest(&frame, &digest, NULL), 0);
	assert_int_equal(digest.length, 0x2000);
	assert_memory_equal(digest.digest, "0123456789abcdef", 16);
	assert_string_equal(digest.name, "heap");
}

static void refuses_every_flipped_bit(void **state)
{
	struct build build = {};
	struct xbzrle_error err;
	int frames, ret;
	size_t bit;

	(void)state;
	three_frames(&build);
	for (bit = 0; bit < build.length * 8; bit++) {
		build.bytes[bit / 8] ^= 1 << bit % 8;
		ret = receive_all(&build, &frames, &err);
		build.bytes[bit / 8] ^= 1 << bit % 8;
		assert_true(ret == -EBADMSG || ret == -EPIPE);
		assert_true(frames < 3);
	}
	build_free(&build);
}

static void refuses_every_cut(void **state)
{
	struct build build = {};
	struct xbzrle_error err;
	int frames, ret;
	size_t full;

	(void)state;
	three_frames(&build);
	full = build.length;
	for (build.length = 0; build.length < full; build.length++) {
		ret = receive_all(&build, &frames, &err);
		if (build.length == 0 || build.length == 25 ||
		    build.length == 45)
			assert_int_equal(ret, 0);
		else
			assert_int_equal(ret, -EPIPE);
		assert_int_equal(frames, (build.length >= 25) +
				 (build.length >= 45));
	}
	build_free(&build);
}

static void refuse(const struct build *build, const char *message)
{
	struct xbzrle_error err;
	int frames;

	assert_int_equal(receive_all(build, &frames, &err), -EBADMSG);
	if (!strstr(err.message, message))
		fail_msg("'%s' does not say '%s'", err.message, message);
}

static void refuses_another_order(void **state)
{
	struct build build = {};

	(void)state;
	build_frame(&build, FRAME_DATA, 0, "a", 1);
	build_frame(&build, FRAME_DATA, 2, "c", 1);
	refuse(&build, "frame 2 came where frame 1 was due");
	build.length = 0;
	build_frame(&build, FRAME_DATA, 0, "a", 1);
	build_frame(&build, FRAME_DATA, 0, "a", 1);
	refuse(&build, "frame 0 came where frame 1 was due");
	build_free(&build);
}

static void refuses_what_is_alien(void **state)
{
	struct build build = {};

	(void)state;
	build_bytes(&build, "GET / HTTP/1.1\r\nHost: example\r\n\r\n", 33);
	refuse(&build, "not a frame of xbzrle");
	build_free(&build);
}

static void refuses_another_version(void **state)
{
	struct build build = {};

	(void)state;
	build_frame(&build, FRAME_HELLO, 0, "", 0);
	build.bytes[4] = 2;
	refuse(&build,
	       "transport version 2, this is version 1: use the same version");
	build_free(&build);
}

static void refuses_too_much(void **state)
{
	struct build build = {};

	(void)state;
	build_frame(&build, FRAME_DATA, 0, "", 0);
	build.bytes[8] = 0xff;
	refuse(&build, "too many");
	build_free(&build);
}

static void refuses_reserved_bytes(void **state)
{
	struct build build = {};
	uint32_t crc;

	(void)state;
	build_frame(&build, FRAME_DATA, 0, "", 0);
	build.bytes[7] = 1;
	crc = ~build_crc32c(build.bytes, 16, 0xffffffff);
	build.length = 16;
	build_be32(&build, crc);
	refuse(&build, "reserved");
	build_free(&build);
}

/* Payloads that are too short, too long, or have no proper name. */
static void refuses_payloads(void **state)
{
	static const uint8_t zeros[512];
	struct frame frame = { .payload = zeros };
	struct frame_digest digest;
	struct frame_region region;
	struct frame_hello hello;
	struct frame_round round;
	const char *text;
	uint32_t count;
	bool agree;

	(void)state;
	for (frame.length = 0; frame.length < 400; frame.length++) {
		/* A unit of 0 bytes, and names of NULs. */
		assert_int_equal(frame_get_hello(&frame, &hello, NULL),
				 -EBADMSG);
		assert_int_equal(frame_get_region(&frame, &region, NULL),
				 -EBADMSG);
		assert_int_equal(frame_get_digest(&frame, &digest, NULL),
				 -EBADMSG);
		assert_int_equal(frame_get_drop(&frame, &text, NULL),
				 -EBADMSG);
		assert_int_equal(frame_get_round(&frame, &round, NULL),
				 frame.length == 24 ? 0 : -EBADMSG);
		assert_int_equal(frame_get_end(&frame, &count, NULL),
				 frame.length == 4 ? 0 : -EBADMSG);
		assert_int_equal(frame_get_verdict(&frame, &agree, &text,
						   NULL),
				 frame.length ? 0 : -EBADMSG);
	}
	frame.length = 1;
	frame.payload = (const uint8_t *)"\2";
	assert_int_equal(frame_get_verdict(&frame, &agree, &text, NULL),
			 -EBADMSG);
}

/* A sender whose peer has said why it ends gets to know it. */
static void tells_the_peers_reason(void **state)
{
	struct frame_link sender, receiver;
	struct xbzrle_error err;
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	frame_link_init(&sender, fds[0], fds[0], NULL);
	frame_link_init(&receiver, fds[1], fds[1], NULL);
	assert_int_equal(frame_check_peer(&sender, &err), 0);
	assert_int_equal(frame_send_error(&receiver, "disk full", NULL), 0);
	close(fds[1]);
	assert_int_equal(frame_send(&sender, FRAME_DATA, 9, &err),
			 -EREMOTEIO);
	assert_non_null(strstr(err.message, "disk full"));
	assert_int_equal(frame_check_peer(&sender, &err), -EPIPE);
	end_link(&sender);
	frame_link_release(&receiver);
}

/* An event loop's socket: neither end may block in a call. */
static void takes_fds_that_do_not_block(void **state)
{
	enum { FRAMES = 8 };
	struct frame_link link;
	struct xbzrle_error err;
	struct frame frame;
	int fds[2], status, i;
	pid_t pid;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0,
				    fds), 0);
	pid = fork();
	if (!pid) {
		status = frame_link_init(&link, fds[1], fds[1], &err);
		/* The other end has nothing to read at first. */
		usleep(100000);
		for (i = 0; !status && i < FRAMES; i++) {
			memset(frame_room(&link), i, FRAME_PAYLOAD_MAX);
			status = frame_send(&link, FRAME_DATA,
					    FRAME_PAYLOAD_MAX, &err);
		}
		_exit(!!status);
	}
	close(fds[1]);
	assert_int_equal(frame_link_init(&link, fds[0], fds[0], &err), 0);
	for (i = 0; i < FRAMES; i++) {
		assert_int_equal(frame_receive(&link, &frame, &err), 1);
		assert_int_equal(frame.length, FRAME_PAYLOAD_MAX);
		assert_int_equal(frame.payload[FRAME_PAYLOAD_MAX - 1], i);
		/* Which holds up the one who sends. */
		usleep(10000);
	}
	assert_int_equal(frame_receive(&link, &frame, &err), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	end_link(&link);
}

/* Another process that holds one end of a socket pair, and the link at the other. */
static pid_t begin_peer(struct frame_link *link, int *fd)
{
	int fds[2];
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	*fd = fds[!!pid];
	close(fds[!pid]);
	if (pid)
		assert_int_equal(frame_link_init(link, *fd, *fd, NULL), 0);
	return pid;
}

static void end_peer(struct frame_link *link, pid_t pid)
{
	end_link(link);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void a_frame_has_its_time(void **state)
{
	static const uint8_t zeros[24];
	struct build build = {};
	struct xbzrle_error err;
	struct frame_link link;
	struct frame frame;
	size_t i;
	pid_t pid;
	int fd;

	(void)state;
	build_frame(&build, FRAME_ACK, 0, zeros, sizeof(zeros));
	pid = begin_peer(&link, &fd);
	if (!pid) {
		for (i = 0; i < build.length; i++) {
			usleep(100000);
			if (write(fd, build.bytes + i, 1) != 1)
				break;
		}
		_exit(0);
	}
	link.patience = 1;
	assert_int_equal(frame_expect(&link, FRAME_ACK, &frame, &err),
			 -ETIMEDOUT);
	assert_non_null(strstr(err.message, "not moved for 1 s"));
	signals_peer_moved();
	end_peer(&link, pid);
	build_free(&build);
}

/* What cannot be an answer is not waited for. */
static void refuses_what_is_not_due(void **state)
{
	static const struct {
		enum frame_type type;
		uint8_t mib;
		const char *message;
	} cases[] = {
		{ FRAME_DATA, 1, "type 3 came where type 5 was due" },
		{ FRAME_ACK, 1, "1048576 bytes are too many for a frame" },
		{ FRAME_ERROR, 1, "1048576 bytes are too many for a frame" },
	};
	struct xbzrle_error err;
	struct frame_link link;
	struct frame frame;
	size_t i;
	int fds[2];

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct build build = {};

		build_frame(&build, cases[i].type, 0, "", 0);
		build.bytes[9] = cases[i].mib << 4;
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
		assert_int_equal(write(fds[1], build.bytes, build.length),
				 build.length);
		frame_link_init(&link, fds[0], fds[0], NULL);
		link.patience = 1;
		assert_int_equal(frame_expect(&link, FRAME_ACK, &frame, &err),
				 -EBADMSG);
		if (!strstr(err.message, cases[i].message))
			fail_msg("'%s'", err.message);
		close(fds[1]);
		end_link(&link);
		build_free(&build);
	}
}

/* A peer that goes on talking, faster than it can be read. */
static void signal_ends_draining(void **state)
{
	struct frame_link link;
	int fd, status, i;
	pid_t pid;

	(void)state;
	pid = fork();
	if (!pid) {
		fd = open("/dev/zero", O_RDWR);
		frame_link_init(&link, fd, fd, NULL);
		frame_drain(&link);
		_exit(0);
	}
	usleep(200000);
	kill(pid, SIGTERM);
	for (i = 0; i < 100 && !waitpid(pid, &status, WNOHANG); i++)
		usleep(100000);
	if (i == 100) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
	assert_true(WIFEXITED(status));
}

/* Does a signal come just before the clock is stopped? */
static bool signal_before_alarm;

/* In place of the C library's. */
unsigned int alarm(unsigned int seconds)
{
	const struct itimerval next = { .it_value.tv_sec = seconds };

	if (!seconds && signal_before_alarm)
		raise(SIGTERM);
	setitimer(ITIMER_REAL, &next, NULL);
	return 0;
}

static void no_signal_is_slept_through(void **state)
{
	struct itimerval left;
	int status;
	pid_t pid;

	(void)state;
	pid = fork();
	if (!pid) {
		signals_wait_for_peer(100);
		signal_before_alarm = true;
		signals_peer_moved();
		/* It has to wake a call that begins to block after this. */
		getitimer(ITIMER_REAL, &left);
		_exit(!left.it_value.tv_sec && !left.it_value.tv_usec);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* A file never blocks, so nothing else interrupts who reads it. */
static void signal_ends_reading_a_file(void **state)
{
	struct build build = {};
	struct frame_link link;
	char bytes[8];
	int status;
	pid_t pid;

	(void)state;
	three_frames(&build);
	link = link_of(&build);
	assert_int_equal(frame_read(&link, bytes, sizeof(bytes), NULL),
			 sizeof(bytes));
	pid = fork();
	if (!pid) {
		raise(SIGTERM);
		_exit(frame_read(&link, bytes, sizeof(bytes), NULL) != -EINTR);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	end_link(&link);
	build_free(&build);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checksum_is_crc32c),
		cmocka_unit_test(reads_what_is_documented),
		cmocka_unit_test(writes_what_is_documented),
		cmocka_unit_test(unpacks_what_is_documented),
		cmocka_unit_test(refuses_every_flipped_bit),
		cmocka_unit_test(refuses_every_cut),
		cmocka_unit_test(refuses_another_order),
		cmocka_unit_test(refuses_what_is_alien),
		cmocka_unit_test(refuses_another_version),
		cmocka_unit_test(refuses_too_much),
		cmocka_unit_test(refuses_reserved_bytes),
		cmocka_unit_test(refuses_payloads),
		cmocka_unit_test(tells_the_peers_reason),
		cmocka_unit_test(takes_fds_that_do_not_block),
		cmocka_unit_test(a_frame_has_its_time),
		cmocka_unit_test(refuses_what_is_not_due),
		cmocka_unit_test(signal_ends_draining),
		cmocka_unit_test(no_signal_is_slept_through),
		cmocka_unit_test(signal_ends_reading_a_file),
	};

	signals_catch();
	return cmocka_run_group_tests_name("transport", tests, NULL, NULL);
}
