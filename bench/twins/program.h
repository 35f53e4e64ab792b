/* What the C loops have in common: when they end, and how they count their work. They say "ready",
 * run until SIGTERM, and print words of name=value, as our own loops do (src/meter.rs). */
#ifndef TWINS_PROGRAM_H
#define TWINS_PROGRAM_H

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stop;

static inline void on_signal(int number)
{
	(void)number;
	stop = 1;
}

__attribute__((noreturn)) static inline void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static inline uint64_t ticks(void)
{
#ifdef __x86_64__
	return __builtin_ia32_rdtsc();
#else
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
#endif
}

static inline uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* Turns are sorted by their ticks a frame, in halves of one. */
enum { METER_PLACES = 1 << 14 };

struct meter {
	uint64_t frames, turns, ticks, start_ns, start_ticks, costs[METER_PLACES];
};

static inline void meter_start(struct meter *m)
{
	struct sigaction action = {.sa_handler = on_signal};

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGALRM, &action, NULL);
	alarm(120);
	printf("ready\n");
	fflush(stdout);
	memset(m, 0, sizeof *m);
	m->start_ns = now_ns();
	m->start_ticks = ticks();
}

static inline void meter_turn(struct meter *m, uint64_t start, unsigned frames)
{
	if (frames) {
		uint64_t took = ticks() - start, halves = took * 2 / frames;

		m->costs[halves < METER_PLACES ? halves : METER_PLACES - 1] += frames;
		m->ticks += took;
		m->turns++;
		m->frames += frames;
	}
}

static inline void meter_report(const struct meter *m)
{
	double ns = (double)(now_ns() - m->start_ns) / (double)(ticks() - m->start_ticks), middle = 0;
	uint64_t below = 0;

	for (int i = 0; i < METER_PLACES; i++) {
		below += m->costs[i];
		if (below * 2 > m->frames) {
			middle = (i + 0.5) / 2 * ns;
			break;
		}
	}
	printf("frames=%llu turns=%llu frame_ns=%.2f mean_ns=%.2f\n", (unsigned long long)m->frames,
	       (unsigned long long)m->turns, middle, m->frames ? m->ticks * ns / m->frames : 0);
}

/* What a handler does with a frame, as in src/sink.rs. */
struct sink {
	uint64_t frames, bytes, words;
};

static inline void see(struct sink *s, const uint8_t *frame, uint32_t len)
{
	s->frames++;
	s->bytes += len;
	if (len >= 8) {
		uint64_t word;

		memcpy(&word, frame, 8);
		s->words += word;
	}
}

/* Keeps the sums from being optimised away. */
static inline void sink_report(const struct sink *s)
{
	printf("bytes=%llu words=%llu\n", (unsigned long long)s->bytes, (unsigned long long)s->words);
}


/* A UDP frame as src/frames.rs makes it, from `from` to another station. */
static inline void build_frame(uint8_t *f, unsigned len, const uint8_t from[6], const uint8_t to[6])
{
	static const uint8_t ip[20] = {0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 98, 1, 1, 10, 98, 1, 2};
	unsigned total = len - 14;
	uint32_t sum = 0;

	memset(f, 0, len);
	memcpy(f, to, 6);
	memcpy(f + 6, from, 6);
	f[12] = 8;
	memcpy(f + 14, ip, 20);
	f[16] = total >> 8;
	f[17] = total;
	for (int i = 14; i < 34; i += 2)
		sum += f[i] << 8 | f[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~((sum & 0xffff) + (sum >> 16));
	f[24] = sum >> 8;
	f[25] = sum;
	f[34] = 1234 >> 8;
	f[35] = 1234 & 255;
	f[36] = 9000 >> 8;
	f[37] = 9000 & 255;
	f[38] = (total - 20) >> 8;
	f[39] = total - 20;
}

/* Lengths of the frames that are sent one after another: one, or the mix of 7 : 4 : 1. */
static inline unsigned lengths(const char *word, unsigned length[12])
{
	if (!strcmp(word, "imix")) {
		for (int i = 0; i < 12; i++)
			length[i] = i < 7 ? 60 : i < 11 ? 590 : 1514;
		return 12;
	}
	length[0] = atoi(word);
	return 1;
}

#endif
