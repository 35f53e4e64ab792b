/* Bursts of messages through a socket, copied in and out: for packet sockets and UDP sockets alike. */
#ifndef TWINS_BURSTS_H
#define TWINS_BURSTS_H

#include "program.h"

#include <sys/socket.h>

enum { FRAME = 2048, BURST = 64 };

static struct mmsghdr messages[BURST];
static struct iovec parts[BURST];
static uint8_t buffers[BURST][FRAME];

static void prepare(void)
{
	for (int i = 0; i < BURST; i++) {
		parts[i] = (struct iovec){buffers[i], FRAME};
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
}

static void receive_bursts(int fd)
{
	struct meter meter;
	struct sink sink = {0};

	prepare();
	meter_start(&meter);
	while (!stop) {
		uint64_t start = ticks();
		int n = recvmmsg(fd, messages, BURST, MSG_DONTWAIT, NULL);

		for (int i = 0; i < n; i++)
			see(&sink, buffers[i], messages[i].msg_len);
		meter_turn(&meter, start, n > 0 ? n : 0);
	}
	meter_report(&meter);
	sink_report(&sink);
}

/* `content` is copied into each message, but for its last bytes: `less` than the length of the frame. */
static void send_bursts(int fd, const uint8_t *content, const unsigned length[12], unsigned kinds, unsigned less)
{
	unsigned kind = 0;
	struct meter meter;

	prepare();
	meter_start(&meter);
	while (!stop) {
		uint64_t start = ticks();
		int n;

		for (int i = 0; i < BURST; i++) {
			parts[i].iov_len = length[kind] - less;
			memcpy(buffers[i], content, parts[i].iov_len);
			if (++kind == kinds)
				kind = 0;
		}
		n = sendmmsg(fd, messages, BURST, 0);
		meter_turn(&meter, start, n > 0 ? n : 0);
	}
	meter_report(&meter);
}

#endif
