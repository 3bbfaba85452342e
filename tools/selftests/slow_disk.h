/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * A disk that answers when it is told to. Until then the kernel holds the page
 * that a direct read goes to, and writes there in the end without a fault.
 */
#ifndef SLOW_DISK_H
#define SLOW_DISK_H

#include <pthread.h>
#include <stdint.h>

/**
 * struct slow_disk - a network block device with its server
 * @device: it
 * @server: our end of its connection
 * @reader: a descriptor of it for direct reads
 * @serving: thread that does NBD_DO_IT
 * @answering: thread at @server
 * @reading: thread of the read
 * @to: where the read goes
 * @got: what the read returned
 * @handle: names the read that has no answer yet
 * @held: there is one
 * @lock: of @held
 * @arrived: tells of @held
 */
struct slow_disk {
	int device;
	int server;
	int reader;
	pthread_t serving;
	pthread_t answering;
	pthread_t reading;
	void *to;
	long got;
	char handle[8];
	int held;
	pthread_mutex_t lock;
	pthread_cond_t arrived;
};

int slow_disk_open(struct slow_disk *d);
int slow_disk_read(struct slow_disk *d, void *to);
int slow_disk_answer(struct slow_disk *d, uint8_t byte);
void slow_disk_close(struct slow_disk *d);

#endif /* SLOW_DISK_H */
