/* The rings of an AF_XDP socket, and what a C program does with a burst. Before this comes what
 * shows a frame: `see(sink, frame, len)`. */
#ifndef TWINS_RINGS_H
#define TWINS_RINGS_H

#include <linux/if_xdp.h>
#include <stddef.h>
#include <stdint.h>

enum { FRAME = 2048, FRAMES = 8192, SLOTS = 4096, BURST = 64 };

/* A ring as one side of it sees it: `mine` is the index that this side moves, `theirs` the last
 * seen value of the other. */
struct ring {
	uint32_t *producer, *consumer, *flags;
	void *slots;
	uint32_t mine, theirs;
};

struct xsk {
	int fd;
	uint8_t *memory;
	struct ring rx, tx, fill, completion;
};

static inline uint32_t load_acquire(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static inline void store_release(uint32_t *p, uint32_t value)
{
	__atomic_store_n(p, value, __ATOMIC_RELEASE);
}

/* Filled slots that a consumer may read. The other side's index is only looked at when those that
 * were seen before are used up. */
static inline uint32_t filled(struct ring *r, uint32_t max)
{
	uint32_t n = r->theirs - r->mine;

	if (n == 0) {
		r->theirs = load_acquire(r->producer);
		n = r->theirs - r->mine;
	}
	return n < max ? n : max;
}

static inline struct xdp_desc *desc(struct ring *r, uint32_t at)
{
	return &((struct xdp_desc *)r->slots)[at & (SLOTS - 1)];
}

static inline uint64_t *address(struct ring *r, uint32_t at)
{
	return &((uint64_t *)r->slots)[at & (SLOTS - 1)];
}

/* Lends the first frames to the kernel. */
static inline void lend(struct xsk *x)
{
	for (uint32_t i = 0; i < SLOTS; i++)
		*address(&x->fill, i) = (uint64_t)i * FRAME;
	x->fill.mine = SLOTS;
	store_release(x->fill.producer, x->fill.mine);
}

/* Shows the next `n` frames and gives them back. */
static inline void show(struct xsk *x, uint32_t n, struct sink *sink)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct xdp_desc *d = desc(&x->rx, x->rx.mine + i);

		see(sink, x->memory + d->addr, d->len);
		*address(&x->fill, x->fill.mine + i) = d->addr & ~(uint64_t)(FRAME - 1);
	}
	x->rx.mine += n;
	x->fill.mine += n;
	store_release(x->rx.consumer, x->rx.mine);
	store_release(x->fill.producer, x->fill.mine);
}

/* Takes sent frames back. Returns how many are free now. */
static inline uint32_t reap(struct xsk *x, uint64_t *spare, uint32_t spares)
{
	uint32_t done = filled(&x->completion, SLOTS);

	for (uint32_t i = 0; i < done; i++)
		spare[spares++] = *address(&x->completion, x->completion.mine + i);
	x->completion.mine += done;
	store_release(x->completion.consumer, x->completion.mine);
	return spares;
}

#endif
