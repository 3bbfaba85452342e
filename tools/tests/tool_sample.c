// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Plays a sender without a module: writes a transfer, or one with a fault in
 * it, to standard output or to a socket, where it prints what it is answered.
 * usage: tool_sample KIND [tcp PORT | unix PATH]
 *        tool_sample nonblock COMMAND...	whose standard input does not block
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <xxhash.h>

#include "wire_build.h"

#define UNIT		BUILD_UNIT
#define PAGES		16
#define SIZE		(PAGES * UNIT)

/* As docs/transport.md numbers them. */
enum { HELLO = 1, REGION, DATA, ROUND, ACK, DROP, DIGEST, END, VERDICT, ERROR };

static struct build out, payload, stream;
static uint32_t sequence;
static uint64_t position;
static uint8_t memory[SIZE];

static void frame(uint8_t type)
{
	build_frame(&out, type, sequence++, payload.bytes, payload.length);
	payload.length = 0;
}

static void hello(uint64_t features)
{
	build_be64(&payload, features);
	build_be64(&payload, features);
	build_be32(&payload, UNIT);
	frame(HELLO);
}

static void region(const char *name, uint64_t length)
{
	build_be64(&payload, 0x7f0000000000);
	build_be64(&payload, length);
	build_be32(&payload, 4242);
	build_bytes(&payload, name, strlen(name));
	frame(REGION);
}

/* What is in @stream, in pieces that split records. */
static void data(void)
{
	size_t at, piece;

	for (at = 0; at < stream.length; at += piece) {
		piece = stream.length - at < 1000 ? stream.length - at : 1000;
		build_bytes(&payload, stream.bytes + at, piece);
		frame(DATA);
	}
	position += stream.length;
	stream.length = 0;
}

static void round_end(uint64_t number)
{
	data();
	build_be64(&payload, number);
	build_be64(&payload, position);
	build_be64(&payload, PAGES);
	frame(ROUND);
}

static void digest(const char *name, size_t length, bool wrong)
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(memory, length));
	canonical.digest[3] ^= wrong;
	build_be64(&payload, length);
	build_bytes(&payload, canonical.digest, sizeof(canonical.digest));
	build_bytes(&payload, name, strlen(name));
	frame(DIGEST);
}

static void end(uint32_t digests)
{
	build_be32(&payload, digests);
	frame(END);
}

static void first_round(const char *name)
{
	int i;

	build_setup(&stream, SIZE);
	build_block(&stream, name, SIZE);
	build_eos(&stream);
	for (i = 0; i < PAGES; i++) {
		if (i % 4 == 3)
			continue;
		build_page(&stream, i ? NULL : name, i * UNIT, i + 1);
		memset(memory + i * UNIT, i + 1, UNIT);
	}
	build_eos(&stream);
}

static void second_round(const char *name)
{
	static const uint8_t delta[] = { 0x05, 0x01, 0x99 };

	build_delta(&stream, name, UNIT, delta, sizeof(delta));
	memory[UNIT + 5] = 0x99;
	build_zero(&stream, NULL, 2 * UNIT);
	memset(memory + 2 * UNIT, 0, UNIT);
	build_eos(&stream);
}

/* Names that differ, but only in what a file's name cannot have. */
static const char *alike(unsigned int number)
{
	static char name[17];
	int bit;

	for (bit = 0; bit < 16; bit++)
		name[bit] = number >> bit & 1 ? '/' : '_';
	return name;
}

/* Regions of one page that was never touched. */
static void many_regions(unsigned int count)
{
	unsigned int i;

	hello(2);
	build_setup(&stream, count * UNIT);
	for (i = 0; i < count; i++) {
		region(alike(i), UNIT);
		build_block(&stream, alike(i), UNIT);
	}
	build_eos(&stream);
	build_eos(&stream);
	round_end(1);
	for (i = 0; i < count; i++)
		digest(alike(i), UNIT, false);
	end(count);
}

/* A region of which there is little but its length: @pages, far from each other. */
static void huge_region(uint64_t length, unsigned int pages)
{
	unsigned int i;

	hello(2);
	region("huge", length);
	build_setup(&stream, length);
	build_block(&stream, "huge", length);
	build_eos(&stream);
	for (i = 0; i < pages; i++)
		build_zero(&stream, i ? NULL : "huge", i * (length / pages));
	build_eos(&stream);
	round_end(1);
	build_be64(&payload, length);
	build_bytes(&payload, memory, 16);
	build_bytes(&payload, "huge", 4);
	frame(DIGEST);
	end(1);
}

static void build_transfer(const char *kind, uint64_t features)
{
	char name[64] = "heap";

	if (!strcmp(kind, "evilname"))
		strcpy(name, "../../.etc/pass wd");
	if (!strcmp(kind, "latin"))
		strcpy(name, "he\xffp");
	if (!strcmp(kind, "steers"))
		strcpy(name, "he\xc2\x9b");
	if (!strcmp(kind, "features"))
		features |= 1ULL << 40;
	hello(features);
	if (!strcmp(kind, "alien")) {
		out.length = 0;
		build_bytes(&out, "SSH-2.0-OpenSSH_9.2p1 Debian\r\n", 30);
		return;
	}
	if (strcmp(kind, "unannounced"))
		region(name, SIZE);
	first_round(name);
	round_end(1);
	if (!strcmp(kind, "reordered")) {
		sequence++;
		second_round(name);
	} else if (!strcmp(kind, "malformed")) {
		build_be64(&stream, 0x800);
	} else {
		second_round(name);
	}
	if (!strcmp(kind, "halfround"))
		stream.length -= 8;
	if (!strcmp(kind, "wrongbyte"))
		position++;
	round_end(strcmp(kind, "wronground") ? 2 : 3);
	if (!strcmp(kind, "hangup"))
		return;
	if (!strcmp(kind, "dropped")) {
		build_bytes(&payload, name, strlen(name));
		frame(DROP);
		end(0);
		return;
	}
	if (strcmp(kind, "nodigest"))
		digest(name, SIZE, !strcmp(kind, "wrongdigest"));
	end(strcmp(kind, "nodigest") ? 1 : 0);
	if (!strcmp(kind, "beyond")) {
		second_round(name);
		round_end(3);
	}
	if (!strcmp(kind, "disliked")) {
		build_bytes(&payload, "no", 2);
		frame(ERROR);
	}
	if (!strcmp(kind, "flipped"))
		out.bytes[out.length / 2] ^= 0x10;
	if (!strcmp(kind, "truncated"))
		out.length -= out.length / 3;
}

static int connect_tcp(const char *port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(atoi(port)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	return connect(fd, (struct sockaddr *)&address, sizeof(address)) ?
		-1 : fd;
}

static int connect_unix(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) ?
		-1 : fd;
}

/* Prints what comes: "hello ack 1 ack 2 verdict yes: TEXT". */
static void print_answers(int fd)
{
	static const char *const names[] = {
		[HELLO] = "hello", [ACK] = "ack", [VERDICT] = "verdict",
		[ERROR] = "error",
	};
	uint8_t header[20], body[4096];
	uint32_t length;

	while (recv(fd, header, 20, MSG_WAITALL) == 20) {
		memcpy(&length, header + 8, 4);
		length = be32toh(length);
		if (length >= sizeof(body) ||
		    recv(fd, body, length, MSG_WAITALL) != (ssize_t)length)
			break;
		body[length] = '\0';
		printf("%s ", header[5] <= ERROR && names[header[5]] ?
		       names[header[5]] : "?");
		if (header[5] == ACK)
			printf("%d ", body[7]);
		if (header[5] == VERDICT)
			printf("%s: %s ", body[0] ? "yes" : "no", body + 1);
		if (header[5] == ERROR)
			printf("%s ", body);
	}
	putchar('\n');
}

static bool send_all(int fd)
{
	size_t done = 0;
	ssize_t sent;

	while (done < out.length) {
		sent = fd == STDOUT_FILENO ?
			write(fd, out.bytes + done, out.length - done) :
			send(fd, out.bytes + done, out.length - done,
			     MSG_NOSIGNAL);
		if (sent <= 0)
			return false;
		done += sent;
	}
	return true;
}

int main(int argc, char **argv)
{
	bool answers = argc == 4;
	int fd = STDOUT_FILENO;

	if (argc > 2 && !strcmp(argv[1], "nonblock")) {
		fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
		execvp(argv[2], argv + 2);
		return 2;
	}
	if (argc != 2 && argc != 4)
		return 2;
	if (answers)
		fd = strcmp(argv[2], "tcp") ? connect_unix(argv[3]) :
			connect_tcp(argv[3]);
	if (fd < 0) {
		perror("connect");
		return 1;
	}
	if (!strcmp(argv[1], "raw")) {
		first_round("heap");
		second_round("heap");
		build_bytes(&out, stream.bytes, stream.length);
	} else if (!strcmp(argv[1], "many")) {
		many_regions(100);
	} else if (!strcmp(argv[1], "huge")) {
		huge_region(1ULL << 42, 0);
	} else if (!strcmp(argv[1], "wide")) {
		huge_region(1ULL << 42, 1 << 13);
	} else {
		build_transfer(argv[1], answers ? 3 : 2);
	}
	if (!send_all(fd) && !answers)
		return 1;
	if (answers) {
		if (!strcmp(argv[1], "hangup"))
			return 0;
		print_answers(fd);
	}
	build_free(&out);
	build_free(&payload);
	build_free(&stream);
	return 0;
}
