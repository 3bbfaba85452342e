// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Clients of kvserver that each know what the answers must be, before, during
 * and after handovers. Prints TAP.
 * usage: kvcheck PATH
 */
#include <err.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "kv.h"

#define CLIENTS		8
#define KEYS		(KV_KEYS / CLIENTS)
#define HANDOVERS	3
/* A successor that takes longer has lost us. */
#define PATIENCE	30

struct client {
	pthread_t thread;
	int socket;
	uint64_t first_key;
	uint64_t answers, wrong;
	uint64_t model[KEYS];
};

static atomic_bool done;

static int open_socket(const char *path)
{
	const struct timeval patience = { .tv_sec = PATIENCE };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		err(1, "connect");
	return fd;
}

static int ask(int fd, enum kv_op op, uint64_t key, uint64_t value,
	       uint64_t *answer)
{
	const struct kv_request request = { op, key, value };

	if (send(fd, &request, sizeof(request), MSG_NOSIGNAL) !=
	    sizeof(request))
		return -1;
	return recv(fd, answer, sizeof(*answer), 0) == sizeof(*answer) ? 0 : -1;
}

static void *talk(void *argument)
{
	struct client *client = argument;
	unsigned int seed = client->first_key;
	uint64_t at, answer;
	enum kv_op op;

	while (!done) {
		/* A few keys are hot, as they are in life. */
		at = rand_r(&seed) % (rand_r(&seed) % 4 ? 500 : KEYS);
		op = rand_r(&seed) % 2 ? KV_SET : KV_GET;
		if (op == KV_SET)
			client->model[at] = rand_r(&seed);
		if (ask(client->socket, op, client->first_key + at,
			client->model[at], &answer)) {
			client->wrong++;
			break;
		}
		client->answers++;
		client->wrong += answer != client->model[at];
	}
	/* Not only what was asked for at random has arrived. */
	for (at = 0; at < KEYS && !client->wrong; at++) {
		if (client->model[at])
			client->wrong += ask(client->socket, KV_GET,
					     client->first_key + at, 0,
					     &answer) ||
				answer != client->model[at];
	}
	return NULL;
}

int main(int argc, char **argv)
{
	static struct client clients[CLIENTS];
	uint64_t before, after, answers = 0, wrong = 0;
	int i, control;

	setlinebuf(stdout);
	if (argc != 2)
		errx(2, "usage: kvcheck PATH");
	control = open_socket(argv[1]);
	for (i = 0; i < CLIENTS; i++) {
		clients[i].socket = open_socket(argv[1]);
		clients[i].first_key = (uint64_t)i * KEYS;
		if (pthread_create(&clients[i].thread, NULL, talk, &clients[i]))
			errx(1, "no thread");
	}

	for (i = 1; i <= HANDOVERS; i++) {
		sleep(1);
		after = 0;
		if (ask(control, KV_HANDOVER, 0, 0, &before) == 0) {
			/* The old server may still serve during its rounds. */
			do {
				usleep(10000);
			} while (!ask(control, KV_PID, 0, 0, &after) &&
				 after == before);
		}
		printf("%sok %d - another process serves after handover %d\n",
		       after && after != before ? "" : "not ", i, i);
	}
	sleep(1);
	done = true;
	for (i = 0; i < CLIENTS; i++) {
		pthread_join(clients[i].thread, NULL);
		answers += clients[i].answers;
		wrong += clients[i].wrong;
	}
	printf("# %llu answers to %d clients\n", (unsigned long long)answers,
	       CLIENTS);
	printf("%sok %d - no answer is lost or wrong\n",
	       !wrong && answers ? "" : "not ", HANDOVERS + 1);
	printf("1..%d\n", HANDOVERS + 1);
	/* The last server is no child of whoever started the first. */
	if (!ask(control, KV_PID, 0, 0, &after))
		kill(after, SIGTERM);
	return wrong || !answers;
}
