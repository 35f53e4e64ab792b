/* Capturing in C: what `linerate capture` is held against.
 *
 *   capture ring IF FILE              TPACKET_V3 into a pcap file, by write(2)
 *   capture disk FILE SECONDS BYTES   no network: whole pieces to the disk, past the page cache */
#define main afpacket_main
#include "afpacket.c"
#undef main

#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>

enum { PIECE = 1 << 20, RING = 1 << 20, RINGS = 64 };

static uint8_t piece[PIECE + 4096];
static size_t filled;
static int file;

static void spill(void)
{
	for (size_t done = 0; done < filled;) {
		ssize_t n = write(file, piece + done, filled - done);

		if (n < 0)
			fail("write");
		done += n;
	}
	filled = 0;
}

static void put(const void *bytes, size_t len)
{
	memcpy(piece + filled, bytes, len);
	filled += len;
}

static unsigned take_block(struct tpacket_block_desc *block)
{
	unsigned n = block->hdr.bh1.num_pkts;
	struct tpacket3_hdr *frame = (void *)((uint8_t *)block + block->hdr.bh1.offset_to_first_pkt);

	for (unsigned i = 0; i < n; i++) {
		uint32_t head[4] = {frame->tp_sec, frame->tp_nsec, frame->tp_snaplen, frame->tp_len};

		put(head, sizeof head);
		put((uint8_t *)frame + frame->tp_mac, frame->tp_snaplen);
		if (filled >= PIECE)
			spill();
		frame = (void *)((uint8_t *)frame + frame->tp_next_offset);
	}
	return n;
}

static void capture(const char *name, const char *path)
{
	static const uint32_t head[6] = {0xa1b23c4d, 4 << 16 | 2, 0, 0, 65535, 1};
	struct tpacket_req3 ring = {.tp_block_size = RING, .tp_block_nr = RINGS, .tp_frame_size = FRAME,
				    .tp_frame_nr = RING / FRAME * RINGS, .tp_retire_blk_tov = 10};
	int fd = packet_socket();
	uint8_t *memory;
	unsigned at = 0, idle = 0;
	struct meter meter;

	file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (file < 0)
		fail("open");
	set(fd, PACKET_VERSION, TPACKET_V3, "PACKET_VERSION");
	set(fd, PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING");
	if (setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring))
		fail("PACKET_RX_RING");
	memory = mmap(NULL, (size_t)RING * RINGS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	put(head, sizeof head);
	bind_to(fd, name, ETH_P_ALL);
	meter_start(&meter);
	/* What came before the end is handed over within the timeout of a block. */
	while (!stop || idle < 3) {
		struct tpacket_block_desc *block = (void *)(memory + (size_t)at * RING);

		if (!(__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) {
			struct pollfd wait = {fd, POLLIN, 0};

			if (poll(&wait, 1, 20) == 0)
				idle++;
			continue;
		}
		idle = 0;
		meter.frames += take_block(block);
		__atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		at = (at + 1) % RINGS;
	}
	spill();
	printf("frames=%llu\n", (unsigned long long)meter.frames);
}

static void disk(const char *path, double seconds, size_t bytes)
{
	size_t at = 0;
	uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t start, ns;

	if (memory == MAP_FAILED)
		fail("mmap");
	madvise(memory, bytes, MADV_HUGEPAGE);
	for (size_t i = 0; i < bytes; i += 8)
		*(uint64_t *)(memory + i) = i * 0x9e3779b97f4a7c15;
	file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT, 0600);
	if (file < 0)
		fail("open");
	start = now_ns();
	do {
		if (pwrite(file, memory, bytes, at) != (ssize_t)bytes)
			fail("pwrite");
		at += bytes;
		ns = now_ns() - start;
	} while (ns < seconds * 1e9);
	printf("mb_s=%.1f\n", at * 1e3 / ns);
}

int main(int count, char **word)
{
	if (count == 4 && !strcmp(word[1], "ring"))
		capture(word[2], word[3]);
	else if (count == 5 && !strcmp(word[1], "disk"))
		disk(word[2], atof(word[3]), strtoul(word[4], NULL, 0));
	else
		return afpacket_main(0, NULL);
	return 0;
}
