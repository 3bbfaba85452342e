/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * libxbzrle: sessions on /dev/xbzrle, the stream's records, and a receiver.
 * libxbzrle(3) describes each function.
 *
 * Calls that can fail take a struct xbzrle_error, which may be NULL, and
 * return 0 (or what they say) on success and a negative errno on failure, or
 * NULL where they return a pointer; the message then stands in the struct.
 * There is no global state: objects may be used from different threads, one
 * thread at a time per object.
 */
#ifndef _LIBXBZRLE_H
#define _LIBXBZRLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/xbzrle.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* Where xbzrle_open() looks for the device. */
#define XBZRLE_DEVICE		"/dev/xbzrle"
/* Most regions that one stream may name. */
#define XBZRLE_STREAM_REGIONS	65536

/**
 * struct xbzrle_error - what went wrong
 * @code: errno value, positive; 0 if nothing failed
 * @region: xbzrle_sync(): the id of the region that ended; else 0
 * @position: stream calls: byte position in the stream; session calls: the
 *	address that was refused, or 0
 * @message: one line for people, without a newline
 */
struct xbzrle_error {
	int code;
	uint32_t region;
	uint64_t position;
	char message[248];
};

__attribute__((format(printf, 4, 5)))
int xbzrle_fail(struct xbzrle_error *err, int code, uint64_t position,
		const char *format, ...);

/*
 * Sessions
 */

struct xbzrle_session;

/**
 * struct xbzrle_region - a region of a session
 * @id: names the region to the session
 * @fd: region fd of owned memory, -1 for registered memory
 * @addr: where it is mapped in its process; NULL if owned memory is not yet
 * @length: bytes
 */
struct xbzrle_region {
	uint32_t id;
	int fd;
	void *addr;
	uint64_t length;
};

/* Map the new region read-write at an address that the kernel picks. */
#define XBZRLE_CREATE_MAP	(1U << 0)

struct xbzrle_session *xbzrle_open(struct xbzrle_error *err);
struct xbzrle_session *xbzrle_open_fd(int fd, struct xbzrle_error *err);
void xbzrle_close(struct xbzrle_session *session);
int xbzrle_session_fd(const struct xbzrle_session *session);

int xbzrle_info(struct xbzrle_session *session, struct xbzrle_info *info,
		struct xbzrle_error *err);
int xbzrle_create(struct xbzrle_session *session, const char *name,
		  uint64_t length, unsigned int flags,
		  struct xbzrle_region *region, struct xbzrle_error *err);
int xbzrle_register(struct xbzrle_session *session, const char *name,
		    pid_t pid, uint64_t addr, uint64_t length,
		    enum xbzrle_tracker tracker, struct xbzrle_region *region,
		    struct xbzrle_error *err);
int xbzrle_adopt(struct xbzrle_session *session, const char *name, void *addr,
		 size_t length, struct xbzrle_region *region,
		 struct xbzrle_error *err);
int xbzrle_unregister(struct xbzrle_session *session, uint32_t region_id,
		      struct xbzrle_error *err);
int xbzrle_set_cache(struct xbzrle_session *session, uint64_t bytes,
		     struct xbzrle_error *err);
int xbzrle_sync(struct xbzrle_session *session, unsigned int flags,
		struct xbzrle_sync *sync, struct xbzrle_error *err);
int xbzrle_mark_dirty(struct xbzrle_session *session, uint32_t region_id,
		      uint64_t first_unit, uint64_t nr_units,
		      const void *bitmap, struct xbzrle_error *err);
int xbzrle_stats(struct xbzrle_session *session, struct xbzrle_stats *stats,
		 struct xbzrle_error *err);
ssize_t xbzrle_read(struct xbzrle_session *session, void *buf, size_t length,
		    struct xbzrle_error *err);

/*
 * Records of a stream
 */

/**
 * enum xbzrle_record_kind - what a record is
 * @XBZRLE_RECORD_SETUP: a setup section begins; @length is its total bytes
 * @XBZRLE_RECORD_BLOCK: the setup names a region of @length bytes
 * @XBZRLE_RECORD_SETUP_END: the setup section is complete
 * @XBZRLE_RECORD_ZERO: the page at @offset is zero
 * @XBZRLE_RECORD_PAGE: the page at @offset whole; @data has a unit
 * @XBZRLE_RECORD_DELTA: the page at @offset as a delta of @length bytes
 * @XBZRLE_RECORD_EOS: the round is complete
 */
enum xbzrle_record_kind {
	XBZRLE_RECORD_SETUP,
	XBZRLE_RECORD_BLOCK,
	XBZRLE_RECORD_SETUP_END,
	XBZRLE_RECORD_ZERO,
	XBZRLE_RECORD_PAGE,
	XBZRLE_RECORD_DELTA,
	XBZRLE_RECORD_EOS,
};

/**
 * struct xbzrle_record - one item of the stream
 * @kind: enum xbzrle_record_kind
 * @region: number of the region in this stream, from 0 in order of first
 *	appearance; never given to another region
 * @fresh: BLOCK only: the region was not present before this setup
 * @name: the region's name, NUL-terminated; lives as long as the parser
 * @offset: byte offset in the region
 * @length: see @kind
 * @data: bytes of PAGE and DELTA, valid until the next call to the parser
 * @position: byte position of the record's first byte in the stream
 * @size: bytes that the record takes in the stream
 */
struct xbzrle_record {
	enum xbzrle_record_kind kind;
	uint32_t region;
	bool fresh;
	const char *name;
	uint64_t offset;
	uint64_t length;
	const void *data;
	uint64_t position;
	uint32_t size;
};

struct xbzrle_wire;

struct xbzrle_wire *xbzrle_wire_new(struct xbzrle_error *err);
void xbzrle_wire_free(struct xbzrle_wire *wire);
void xbzrle_wire_feed(struct xbzrle_wire *wire, const void *data,
		      size_t length);
int xbzrle_wire_next(struct xbzrle_wire *wire, struct xbzrle_record *record,
		     struct xbzrle_error *err);
int xbzrle_wire_end(const struct xbzrle_wire *wire, struct xbzrle_error *err);
uint64_t xbzrle_wire_position(const struct xbzrle_wire *wire);
bool xbzrle_wire_present(const struct xbzrle_wire *wire, uint32_t region);

/*
 * Applying a stream
 */

struct xbzrle_image;

struct xbzrle_image *xbzrle_image_new(int spool_dir, struct xbzrle_error *err);
void xbzrle_image_limit(struct xbzrle_image *image, uint64_t bytes);
void xbzrle_image_free(struct xbzrle_image *image);
int xbzrle_image_add_memory(struct xbzrle_image *image, uint32_t region,
			    void *addr, uint64_t length,
			    struct xbzrle_error *err);
int xbzrle_image_add_file(struct xbzrle_image *image, uint32_t region, int fd,
			  uint64_t length, struct xbzrle_error *err);
void xbzrle_image_drop(struct xbzrle_image *image, uint32_t region);
int xbzrle_image_apply(struct xbzrle_image *image,
		       const struct xbzrle_record *record,
		       struct xbzrle_error *err);
int xbzrle_image_abort(struct xbzrle_image *image, struct xbzrle_error *err);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif /* _LIBXBZRLE_H */
