/* Round trips in C: what `linerate ping` and `linerate pong` are held against.
 *
 *   ping server KIND WAIT IF          answers every UDP frame to port 7007, until SIGTERM
 *   ping client KIND WAIT IF COUNT    one frame after the other; prints percentiles in ns
 *
 * KIND: afxdp, packet (TPACKET_V2 and sendto) or udp. WAIT: spin or block. Frames have 60 bytes
 * and carry a number that the answer must repeat. */
#define main afxdp_main
#include "afxdp.c"
#undef main

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>

enum { LENGTH = 60, NUMBER = 42, SLOT = 2048, PLACES = 512, WARM_UP = 1000, PORT = 7007 };

static bool blocks;
static int fd;
/* One frame to be sent, and where the last one that came lies. */
static uint8_t out[LENGTH];
static struct xsk xsk;
static uint8_t *ring;
static unsigned at, sent;
static uint8_t datagram[SLOT];

/* Waits until there may be something. */
static void wait_for_frames(void)
{
	struct pollfd wait = {fd, POLLIN, 0};

	if (blocks)
		poll(&wait, 1, 100);
}

static void open_packet(const char *name)
{
	struct tpacket_req want = {.tp_block_size = 4096, .tp_block_nr = PLACES / 2, .tp_frame_size = SLOT, .tp_frame_nr = PLACES};
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = if_nametoindex(name)};
	int version = TPACKET_V2, one = 1;

	fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) ||
	    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) ||
	    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one) ||
	    setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &want, sizeof want))
		fail("packet socket");
	ring = mmap(NULL, (size_t)PLACES * SLOT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (ring == MAP_FAILED)
		fail("mmap");
	if (bind(fd, (struct sockaddr *)&to, sizeof to))
		fail("bind");
}

static void open_udp(bool server)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(server ? PORT : 0)};
	struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(PORT)};

	fd = socket(AF_INET, SOCK_DGRAM, 0);
	inet_pton(AF_INET, "10.98.1.1", &there.sin_addr);
	if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof here))
		fail("UDP socket");
	if (!server && connect(fd, (struct sockaddr *)&there, sizeof there))
		fail("connect");
	if (blocks) {
		struct timeval limit = {.tv_usec = 100000};

		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	}
}

/* The kinds differ in how a frame comes and goes. `take` returns it, or NULL; it is there until
 * the next call. `give` sends. Both without waiting, but for UDP when it blocks. */
static struct sockaddr_in peer;
static bool held;

static uint8_t *take_afxdp(void)
{
	if (held) {
		uint64_t addr = desc(&xsk.rx, xsk.rx.mine)->addr & ~(uint64_t)(FRAME - 1);

		*address(&xsk.fill, xsk.fill.mine++) = addr;
		store_release(xsk.rx.consumer, ++xsk.rx.mine);
		store_release(xsk.fill.producer, xsk.fill.mine);
		held = false;
	}
	if (!filled(&xsk.rx, 1)) {
		if (__atomic_load_n(xsk.fill.flags, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP)
			recvfrom(fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
		return NULL;
	}
	held = true;
	return xsk.memory + desc(&xsk.rx, xsk.rx.mine)->addr;
}

static void give_afxdp(const uint8_t *frame)
{
	struct xdp_desc *d = desc(&xsk.tx, xsk.tx.mine);
	uint32_t done = filled(&xsk.completion, SLOTS);

	xsk.completion.mine += done;
	store_release(xsk.completion.consumer, xsk.completion.mine);
	d->addr = (uint64_t)(SLOTS + sent++ % SLOTS) * FRAME;
	d->len = LENGTH;
	d->options = 0;
	memcpy(xsk.memory + d->addr, frame, LENGTH);
	store_release(xsk.tx.producer, ++xsk.tx.mine);
	kick(&xsk);
}

static uint8_t *take_packet(void)
{
	struct tpacket2_hdr *h;

	if (held) {
		h = (void *)(ring + (size_t)at * SLOT);
		__atomic_store_n(&h->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		at = (at + 1) % PLACES;
		held = false;
	}
	h = (void *)(ring + (size_t)at * SLOT);
	if (!(__atomic_load_n(&h->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
		return NULL;
	held = true;
	return (uint8_t *)h + h->tp_mac;
}

static void give_packet(const uint8_t *frame)
{
	if (send(fd, frame, LENGTH, MSG_DONTWAIT) < 0 && errno != ENOBUFS && errno != EAGAIN)
		fail("send");
}

static uint8_t *take_udp(void)
{
	socklen_t size = sizeof peer;
	ssize_t n = recvfrom(fd, datagram + NUMBER, SLOT - NUMBER, blocks ? 0 : MSG_DONTWAIT, (struct sockaddr *)&peer, &size);

	datagram[36] = PORT >> 8;
	datagram[37] = PORT & 255;
	return n > 0 ? datagram : NULL;
}

static void answer_udp(const uint8_t *frame)
{
	sendto(fd, frame + NUMBER, LENGTH - NUMBER, 0, (struct sockaddr *)&peer, sizeof peer);
}

static void give_udp(const uint8_t *frame)
{
	send(fd, frame + NUMBER, LENGTH - NUMBER, 0);
}

typedef uint8_t *(*take_fn)(void);
typedef void (*give_fn)(const uint8_t *);

static void swap(uint8_t *a, uint8_t *b, unsigned n)
{
	while (n--) {
		uint8_t t = *a;

		*a++ = *b;
		*b++ = t;
	}
}

__attribute__((always_inline)) static inline void serve(take_fn take, give_fn give, bool sockets)
{
	while (!stop) {
		uint8_t *f = take();

		if (!f) {
			if (!sockets)
				wait_for_frames();
			continue;
		}
		if (f[36] != PORT >> 8 || f[37] != (PORT & 255))
			continue;
		swap(f, f + 6, 6);
		swap(f + 26, f + 30, 4);
		swap(f + 34, f + 36, 2);
		give(f);
	}
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

__attribute__((always_inline)) static inline void measure(take_fn take, give_fn give, bool sockets, unsigned count)
{
	uint32_t *ns = calloc(count + WARM_UP, sizeof *ns);
	unsigned lost = 0, kept = 0;

	if (!ns)
		fail("calloc");
	for (uint64_t i = 0; i < count + WARM_UP && !stop; i++) {
		uint64_t start = now_ns(), end;

		memcpy(out + NUMBER, &i, sizeof i);
		give(out);
		for (;;) {
			uint8_t *f = take();
			/* The answer is there when its number was seen: its cache line has to come, too. */
			bool answered = f && !memcmp(f + NUMBER, &i, sizeof i);

			end = now_ns();
			if (answered) {
				if (i >= WARM_UP)
					ns[kept++] = end - start;
				break;
			}
			if (end - start > 100000000) {
				lost++;
				break;
			}
			if (!f && !sockets)
				wait_for_frames();
		}
	}
	qsort(ns, kept, sizeof *ns, compare);
	printf("answered=%u lost=%u", kept, lost);
	if (kept)
		printf(" p50=%u p99=%u p999=%u", ns[kept / 2], ns[(uint64_t)kept * 99 / 100], ns[(uint64_t)kept * 999 / 1000]);
	printf("\n");
}

int main(int count, char **word)
{
	static const uint8_t va[6] = {2, 0, 0, 0, 0x10, 1}, vb[6] = {2, 0, 0, 0, 0x10, 2};
	struct meter meter;
	bool server;

	if (count < 5)
		return 2;
	server = !strcmp(word[1], "server");
	blocks = !strcmp(word[3], "block");
	/* From vb to va: as build_frame has it, the other way round. */
	build_frame(out, LENGTH, vb, va);
	swap(out + 26, out + 30, 4);
	out[36] = PORT >> 8;
	out[37] = PORT & 255;
	if (!strcmp(word[2], "afxdp")) {
		open_xsk(&xsk, word[4], NULL);
		lend(&xsk);
		attach(xsk.fd, if_nametoindex(word[4]), false);
		fd = xsk.fd;
	} else if (!strcmp(word[2], "packet")) {
		open_packet(word[4]);
	} else {
		open_udp(server);
	}
	meter_start(&meter);
	if (server && ring)
		serve(take_packet, give_packet, false);
	else if (server && xsk.memory)
		serve(take_afxdp, give_afxdp, false);
	else if (server)
		serve(take_udp, answer_udp, true);
	else if (ring)
		measure(take_packet, give_packet, false, atoi(word[5]));
	else if (xsk.memory)
		measure(take_afxdp, give_afxdp, false, atoi(word[5]));
	else
		measure(take_udp, give_udp, true, atoi(word[5]));
	return 0;
}
