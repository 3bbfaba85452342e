// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * kvserver PATH: a key-value server that is replaced while its clients go on
 * talking. Its table is an owned region. Asked to hand over, it starts a
 * successor, which inherits the sockets, and streams the table to it in rounds
 * while it serves. During the last round nobody is answered; requests queue up
 * in the sockets until the successor takes over.
 */
#include <err.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <xbzrle.h>

#include "kv.h"

#define MAX_SOCKETS	200
#define FEW_PAGES	100	/* so few may be sent while everybody waits */
#define MANY_ROUNDS	20
#define PEER_FD		3	/* where the successor is connected */

static uint64_t *table;
static struct xbzrle_session *session;
static struct xbzrle_error error = { .message = "the other end is gone" };
static struct pollfd sockets[MAX_SOCKETS];	/* the first one listens */
static int socket_count;
static bool listening = true, handover_asked;
static char buffer[1 << 16];

#define check(well) ((well) ? (void)0 : errx(1, "%s", error.message))

static uint64_t answer(const struct kv_request *request)
{
	if (request->op == KV_SET)
		table[request->key % KV_KEYS] = request->value;
	if (request->op == KV_HANDOVER)
		handover_asked = true;
	return request->op >= KV_PID ? (uint64_t)getpid() : table[request->key % KV_KEYS];
}

static void serve(int timeout)
{
	struct kv_request request;
	uint64_t value;
	int i;

	for (i = 0; i < socket_count; i++)
		sockets[i].events = i || listening ? POLLIN : 0;
	if (poll(sockets, socket_count, timeout) <= 0)
		return;
	for (i = socket_count - 1; i > 0; i--) {
		if (!sockets[i].revents)
			continue;
		if (recv(sockets[i].fd, &request, sizeof(request), 0) > 0) {
			value = answer(&request);
			send(sockets[i].fd, &value, sizeof(value), 0);
		} else {
			close(sockets[i].fd);
			sockets[i] = sockets[--socket_count];
		}
	}
	if (sockets[0].revents && socket_count < MAX_SOCKETS)
		sockets[socket_count++].fd = accept(sockets[0].fd, NULL, NULL);
}

static uint64_t send_round(int peer, unsigned int flags)
{
	struct xbzrle_sync sync;
	ssize_t got;

	check(!xbzrle_sync(session, flags, &sync, &error));
	while ((got = xbzrle_read(session, buffer, sizeof(buffer), &error)) > 0) {
		check(send(peer, buffer, got, MSG_NOSIGNAL) == got);
		if (!flags)
			serve(0);
	}
	check(!got);
	return sync.dirty_pages;
}

static void hand_over(void)
{
	int peers[2], round;

	check(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, peers));
	if (!fork()) {
		dup2(peers[1], PEER_FD);
		execl("/proc/self/exe", "kvserver", NULL);
		_exit(1);
	}
	close(peers[1]);
	send(peers[0], sockets, socket_count * sizeof(*sockets), MSG_NOSIGNAL);
	listening = false;	/* who connects now waits for the successor */
	for (round = 0; round < MANY_ROUNDS; round++)
		if (send_round(peers[0], 0) < FEW_PAGES)
			break;
	send_round(peers[0], XBZRLE_SYNC_FINAL);
	send(peers[0], "", 1, MSG_NOSIGNAL);	/* no record is so short */
	exit(0);
}

static void succeed(void)
{
	struct xbzrle_image *image = xbzrle_image_new(-1, &error);
	struct xbzrle_wire *wire = xbzrle_wire_new(&error);
	struct xbzrle_record record;
	ssize_t got;

	check(image && wire);
	socket_count = recv(PEER_FD, sockets, sizeof(sockets), 0) /
		(ssize_t)sizeof(*sockets);
	while ((got = recv(PEER_FD, buffer, sizeof(buffer), 0)) > 1) {
		xbzrle_wire_feed(wire, buffer, got);
		while ((got = xbzrle_wire_next(wire, &record, &error)) > 0) {
			if (record.kind == XBZRLE_RECORD_BLOCK && record.fresh)
				check(!xbzrle_image_add_memory(image, record.region, table,
							       record.length, &error));
			check(!xbzrle_image_apply(image, &record, &error));
		}
		check(!got);
	}
	check(got == 1);
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct xbzrle_region region;

	session = xbzrle_open(&error);
	check(session && !xbzrle_create(session, "table", KV_KEYS * sizeof(*table),
					XBZRLE_CREATE_MAP, &region, &error));
	/* Without bases every page would go whole, however little of it changed. */
	check(!xbzrle_set_cache(session, KV_KEYS * sizeof(*table) / 2, &error));
	table = region.addr;
	if (argc == 2) {
		strncpy(address.sun_path, argv[1], sizeof(address.sun_path) - 1);
		sockets[socket_count++].fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
		check(!bind(sockets[0].fd, (void *)&address, sizeof(address)) &&
		      !listen(sockets[0].fd, 64));
	} else {
		succeed();
	}
	while (!handover_asked)
		serve(-1);
	hand_over();
}
