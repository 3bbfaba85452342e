// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* What tcp:, unix:, file:, exec:, fd: and - mean at either end. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "array.h"
#include "command.h"
#include "directory.h"
#include "endpoint.h"
#include "signals.h"

/* A peer that answers nothing for so long is gone. */
#define PEER_TIMEOUT_MS		30000
/* Seconds of silence until it is asked, and between two questions. */
#define KEEPALIVE_IDLE		10
#define KEEPALIVE_INTERVAL	5

typedef int (*open_fn)(struct endpoint *end, const char *where, bool sending,
		       struct xbzrle_error *err);

/* Both directions over one socket. */
static void use_socket(struct endpoint *end, int fd)
{
	end->in = fd;
	end->out = fd;
}

/* Waits for the one peer; the listening socket is closed. */
static int accept_one(struct endpoint *end, int listener,
		      struct xbzrle_error *err)
{
	int fd, ret = 0;

	do {
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		ret = signals_check(err);
	} while (fd < 0 && !ret && errno == EINTR);

	if (!ret && fd < 0)
		ret = xbzrle_fail(err, errno, 0, "cannot accept: %s",
				  strerror(errno));
	if (ret && fd >= 0)
		close(fd);
	if (!ret)
		use_socket(end, fd);
	close(listener);
	return ret;
}

/* Splits HOST:PORT, where an IPv6 HOST stands in brackets. */
static int split_host(const char *where, char **host, char **port,
		      struct xbzrle_error *err)
{
	const char *colon = strrchr(where, ':');
	size_t length = colon ? colon - where : 0;

	/* The library would cut what is no port to one that is. */
	if (!colon || !colon[1] || strtoull(colon + 1, NULL, 10) > UINT16_MAX)
		goto usage;
	if (length >= 2 && where[0] == '[' && where[length - 1] == ']') {
		where++;
		length -= 2;
	} else if (memchr(where, ':', length)) {
		goto usage;
	}

	*host = strndup(where, length);
	*port = strdup(colon + 1);
	if (*host && *port)
		return 0;
	free(*host);
	free(*port);
	return xbzrle_fail(err, ENOMEM, 0, "no memory");

usage:
	return xbzrle_fail(err, COMMAND_MISUSED, 0,
			   "'tcp:%s' is not tcp:HOST:PORT (an IPv6 HOST stands in brackets)",
			   where);
}

static void tune_tcp(int fd)
{
	const unsigned int timeout = PEER_TIMEOUT_MS;
	const int on = 1, idle = KEEPALIVE_IDLE, interval = KEEPALIVE_INTERVAL;

	/* While nothing is sent, the timeout is of unanswered probes. */
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout,
		   sizeof(timeout));
}

static void tell_listening(int fd)
{
	char host[NI_MAXHOST], port[NI_MAXSERV];
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	if (getsockname(fd, (struct sockaddr *)&address, &length) ||
	    getnameinfo((struct sockaddr *)&address, length, host,
			sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV))
		return;
	fprintf(stderr, strchr(host, ':') ?
		"xbzrle: listening on tcp:[%s]:%s\n" :
		"xbzrle: listening on tcp:%s:%s\n", host, port);
}

static int try_address(const struct addrinfo *at, bool sending)
{
	const int on = 1;
	int fd;

	fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC,
		    at->ai_protocol);
	if (fd < 0)
		return -1;
	if (sending) {
		if (!connect(fd, at->ai_addr, at->ai_addrlen))
			return fd;
	} else {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		if (!bind(fd, at->ai_addr, at->ai_addrlen) && !listen(fd, 1))
			return fd;
	}
	close(fd);
	return -1;
}

static int open_tcp(struct endpoint *end, const char *where, bool sending,
		    struct xbzrle_error *err)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *found, *at;
	char *host = NULL, *port = NULL;
	int fd = -1, ret;

	ret = split_host(where, &host, &port, err);
	if (ret)
		return ret;

	ret = getaddrinfo(*host ? host : "127.0.0.1", port, &hints, &found);
	if (ret) {
		ret = xbzrle_fail(err, EIO, 0, "tcp:%s: %s", where,
				  gai_strerror(ret));
		goto free_names;
	}
	for (at = found; at && fd < 0; at = at->ai_next)
		fd = try_address(at, sending);
	if (fd < 0) {
		ret = xbzrle_fail(err, errno, 0, "cannot %s tcp:%s: %s",
				  sending ? "connect to" : "listen on", where,
				  strerror(errno));
		goto free_found;
	}

	if (sending) {
		use_socket(end, fd);
	} else {
		tell_listening(fd);
		ret = accept_one(end, fd, err);
	}
	if (!ret)
		tune_tcp(end->in);

free_found:
	freeaddrinfo(found);
free_names:
	free(host);
	free(port);
	return ret;
}

static int open_unix(struct endpoint *end, const char *where, bool sending,
		     struct xbzrle_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	mode_t mask;
	int fd, ret;

	if (!*where || strlen(where) >= sizeof(address.sun_path))
		return xbzrle_fail(err, COMMAND_MISUSED, 0,
				   "a socket path has 1 to %zu characters",
				   sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, where);

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return xbzrle_fail(err, errno, 0, "cannot make a socket: %s",
				   strerror(errno));

	if (sending) {
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
			goto close_fd;
		use_socket(end, fd);
		return 0;
	}

	/* What comes through it is somebody's memory: for the owner only. */
	mask = umask(0077);
	ret = bind(fd, (struct sockaddr *)&address, sizeof(address));
	umask(mask);
	if (ret || listen(fd, 1))
		goto close_fd;
	fprintf(stderr, "xbzrle: listening on unix:%s\n", where);
	ret = accept_one(end, fd, err);
	unlink(where);
	return ret;

close_fd:
	ret = xbzrle_fail(err, errno, 0, "cannot %s unix:%s: %s%s",
			  sending ? "connect to" : "listen on", where,
			  strerror(errno), errno == EADDRINUSE ?
			  "; if nobody listens there any more, remove it" : "");
	close(fd);
	return ret;
}

static void forget_names(struct endpoint *end)
{
	free(end->path);
	free(end->unfinished);
	end->path = NULL;
	end->unfinished = NULL;
}

/* A file is new, its owner's alone, and beside @where until all is in it. */
static int open_new_file(struct endpoint *end, const char *where,
			 struct xbzrle_error *err)
{
	struct stat status;
	int ret;

	/* Who has put a link there wants to keep it. */
	end->path = realpath(where, NULL);
	if (!end->path && errno == ENOENT) {
		if (!lstat(where, &status) && S_ISLNK(status.st_mode))
			return xbzrle_fail(err, ENOENT, 0,
					   "%s is a link to what is not there",
					   where);
		end->path = strdup(where);
	}
	if (!end->path)
		return xbzrle_fail(err, errno, 0, "cannot open %s: %s", where,
				   strerror(errno));
	if (asprintf(&end->unfinished, "%s.new", end->path) < 0) {
		end->unfinished = NULL;
		forget_names(end);
		return xbzrle_fail(err, ENOMEM, 0, "no memory");
	}
	end->out = open(end->unfinished,
			O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (end->out >= 0)
		return 0;
	ret = xbzrle_fail(err, errno, 0, "cannot make %s: %s%s",
			  end->unfinished, strerror(errno), errno == EEXIST ?
			  "; if nobody writes it any more, remove it" : "");
	forget_names(end);
	return ret;
}

static int open_file(struct endpoint *end, const char *where, bool sending,
		     struct xbzrle_error *err)
{
	struct stat status;
	int fd;

	if (!*where)
		return xbzrle_fail(err, COMMAND_MISUSED, 0,
				   "'file:' is not file:PATH");
	if (sending && (stat(where, &status) ? errno == ENOENT :
			S_ISREG(status.st_mode)))
		return open_new_file(end, where, err);
	fd = open(where, (sending ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
	if (fd < 0)
		return xbzrle_fail(err, errno, 0, "cannot open %s: %s", where,
				   strerror(errno));
	if (sending)
		end->out = fd;
	else
		end->in = fd;
	return 0;
}

/* All is in it, or else it goes and what was there before stays. */
static int close_file(struct endpoint *end, int ret, struct xbzrle_error *err)
{
	bool wanted = !ret && err;

	if (wanted && rename(end->unfinished, end->path))
		ret = -errno;
	if (ret || !wanted)
		unlink(end->unfinished);
	else
		ret = directory_sync_of(end->path);
	if (wanted && ret)
		xbzrle_fail(err, -ret, 0, "cannot write %s: %s", end->path,
			    strerror(-ret));
	forget_names(end);
	return ret;
}

static int open_exec(struct endpoint *end, const char *where, bool sending,
		     struct xbzrle_error *err)
{
	int fds[2], mine = sending ? 1 : 0;
	pid_t child;

	if (pipe2(fds, O_CLOEXEC))
		return xbzrle_fail(err, errno, 0, "cannot make a pipe: %s",
				   strerror(errno));
	child = fork();
	if (child < 0) {
		close(fds[0]);
		close(fds[1]);
		return xbzrle_fail(err, errno, 0, "cannot fork: %s",
				   strerror(errno));
	}
	if (!child) {
		signal(SIGPIPE, SIG_DFL);
		dup2(fds[1 - mine], sending ? STDIN_FILENO : STDOUT_FILENO);
		execl("/bin/sh", "sh", "-c", where, NULL);
		_exit(127);
	}

	close(fds[1 - mine]);
	if (sending)
		end->out = fds[mine];
	else
		end->in = fds[mine];
	end->child = child;
	return 0;
}

static bool is_socket(int fd)
{
	struct stat status;

	return !fstat(fd, &status) && S_ISSOCK(status.st_mode);
}

static int open_fd(struct endpoint *end, const char *where, bool sending,
		   struct xbzrle_error *err)
{
	char *rest;
	long fd = strtol(where, &rest, 10);

	if (*rest || rest == where || fd < 0 || fd > INT32_MAX)
		return xbzrle_fail(err, COMMAND_MISUSED, 0,
				   "'fd:%s' is not fd:NUMBER", where);
	if (fcntl(fd, F_GETFD) < 0)
		return xbzrle_fail(err, errno, 0, "fd:%ld: %s", fd,
				   strerror(errno));
	if (is_socket(fd))
		use_socket(end, fd);
	else if (sending)
		end->out = fd;
	else
		end->in = fd;
	return 0;
}

static int open_stdio(struct endpoint *end, const char *where, bool sending,
		      struct xbzrle_error *err)
{
	(void)where;
	if (sending && isatty(STDOUT_FILENO))
		return xbzrle_fail(err, COMMAND_MISUSED, 0,
				   "will not write the stream to a terminal");
	if (sending)
		end->out = STDOUT_FILENO;
	else
		end->in = STDIN_FILENO;
	return 0;
}

static const struct kind {
	const char *prefix;
	open_fn open;
} kinds[] = {
	{ "tcp:", open_tcp },
	{ "unix:", open_unix },
	{ "file:", open_file },
	{ "exec:", open_exec },
	{ "fd:", open_fd },
};

static open_fn find_kind(const char **spec)
{
	size_t i, length;

	if (!strcmp(*spec, "-"))
		return open_stdio;
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		length = strlen(kinds[i].prefix);
		if (!strncmp(*spec, kinds[i].prefix, length)) {
			*spec += length;
			return kinds[i].open;
		}
	}
	return NULL;
}

/**
 * endpoint_known() - does this say where?
 * @spec: the user's word
 *
 * Return: whether it begins as one of the kinds does.
 */
bool endpoint_known(const char *spec)
{
	return find_kind(&spec);
}

static int open_end(struct endpoint *end, const char *spec, bool sending,
		    struct xbzrle_error *err)
{
	const char *where = spec;
	open_fn open = find_kind(&where);

	*end = (struct endpoint){ .in = -1, .out = -1 };
	if (!open)
		return xbzrle_fail(err, COMMAND_MISUSED, 0, "'%s' is not %s",
				   spec, ENDPOINT_HELP);
	return open(end, where, sending, err);
}

/**
 * endpoint_open_send() - open a destination
 * @end: filled in; has @in where the other end can answer
 * @spec: the user's word
 * @err: set on failure
 *
 * Return: 0, -COMMAND_MISUSED if @spec is not understood, or a negative errno.
 */
int endpoint_open_send(struct endpoint *end, const char *spec,
		       struct xbzrle_error *err)
{
	return open_end(end, spec, true, err);
}

/**
 * endpoint_open_recv() - open a source; tcp: and unix: wait for one peer
 * @end: filled in; has @out where the other end can be answered
 * @spec: the user's word
 * @err: set on failure
 *
 * Return: 0, -COMMAND_MISUSED if @spec is not understood, or a negative errno.
 */
int endpoint_open_recv(struct endpoint *end, const char *spec,
		       struct xbzrle_error *err)
{
	return open_end(end, spec, false, err);
}

/**
 * endpoint_close() - close an endpoint
 * @end: endpoint
 * @err: set on failure; NULL if the transfer has failed, which no file is made of
 *
 * Return: 0; a negative errno if the last bytes could not be written or the
 * command of exec: failed.
 */
int endpoint_close(struct endpoint *end, struct xbzrle_error *err)
{
	int ret = 0, status;

	if (end->in >= 0 && end->in != end->out)
		close(end->in);
	/* The process may be killed next. What cannot be synced is no file. */
	if (end->out >= 0 && fsync(end->out) && errno != EINVAL &&
	    errno != EROFS && errno != ENOTSUP)
		ret = xbzrle_fail(err, errno, 0, "cannot write: %s",
				  strerror(errno));
	if (end->out >= 0 && close(end->out))
		ret = xbzrle_fail(err, errno, 0, "cannot write: %s",
				  strerror(errno));
	end->in = -1;
	end->out = -1;
	if (end->path)
		ret = close_file(end, ret, err);
	if (!end->child)
		return ret;

	while (waitpid(end->child, &status, 0) < 0) {
		if (errno != EINTR)
			return xbzrle_fail(err, errno, 0,
					   "cannot wait for the command: %s",
					   strerror(errno));
		ret = signals_check(err);
		if (ret)
			return ret;
	}
	end->child = 0;
	if (WIFSIGNALED(status))
		return xbzrle_fail(err, EIO, 0, "the command died of %s",
				   strsignal(WTERMSIG(status)));
	if (WEXITSTATUS(status))
		return xbzrle_fail(err, EIO, 0,
				   "the command ended with status %d",
				   WEXITSTATUS(status));
	return ret;
}
