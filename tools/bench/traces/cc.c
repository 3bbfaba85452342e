/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * Work for a compiler: each time that it is included with another number as N,
 * it has the same functions under other names.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef N
#define N		0
#endif
#define PASTE(name, n)	name##_##n
#define NUMBERED(name, n)	PASTE(name, n)
#define NAME(name)	NUMBERED(name, N)

struct NAME(node) {
	struct NAME(node) *left, *right;
	uint32_t key, priority;
	char text[24];
};

uint32_t NAME(hash)(const char *text)
{
	uint32_t sum = 2166136261u;

	for (; *text; text++)
		sum = (sum ^ (unsigned char)*text) * 16777619u;
	return sum;
}

struct NAME(node) *NAME(insert)(struct NAME(node) *root,
				struct NAME(node) *new)
{
	struct NAME(node) *side;

	if (!root)
		return new;
	if (new->key < root->key) {
		side = NAME(insert)(root->left, new);
		root->left = side;
		if (side->priority <= root->priority)
			return root;
		root->left = side->right;
		side->right = root;
		return side;
	}
	side = NAME(insert)(root->right, new);
	root->right = side;
	if (side->priority <= root->priority)
		return root;
	root->right = side->left;
	side->left = root;
	return side;
}

size_t NAME(fill)(struct NAME(node) *nodes, size_t nr, char *words)
{
	struct NAME(node) *root = NULL;
	char *word, *rest = NULL;
	size_t used = 0;

	for (word = strtok_r(words, " \t\n", &rest); word && used < nr;
	     word = strtok_r(NULL, " \t\n", &rest)) {
		struct NAME(node) *new = &nodes[used++];

		memset(new, 0, sizeof(*new));
		strncpy(new->text, word, sizeof(new->text) - 1);
		new->key = NAME(hash)(new->text);
		new->priority = new->key * 2654435761u;
		root = NAME(insert)(root, new);
	}
	return used;
}

void NAME(sort)(int32_t *values, size_t nr)
{
	size_t low = 0, high = nr;
	int32_t pivot, value;

	while (nr > 1) {
		pivot = values[nr / 2];
		for (low = 0, high = nr - 1;; low++, high--) {
			while (values[low] < pivot)
				low++;
			while (values[high] > pivot)
				high--;
			if (low >= high)
				break;
			value = values[low];
			values[low] = values[high];
			values[high] = value;
		}
		NAME(sort)(values, low);
		values += low;
		nr -= low;
	}
}

void NAME(multiply)(double *to, const double *a, const double *b, size_t nr)
{
	size_t i, j, k;

	for (i = 0; i < nr; i++)
		for (j = 0; j < nr; j++) {
			double sum = 0;

			for (k = 0; k < nr; k++)
				sum += a[i * nr + k] * b[k * nr + j];
			to[i * nr + j] = sum;
		}
}

#undef NAME
#undef NUMBERED
#undef PASTE
