/* AF_PACKET in C on the bare system calls: what linerate-afpacket's loops are held against.
 *
 *   afpacket receive IF ring|recvmmsg     TPACKET_V3 blocks, or copies by recvmmsg
 *   afpacket send IF BYTES|imix           sendmmsg past the queueing discipline
 *   afpacket forward IN OUT               recvmmsg and sendmmsg */
#include "bursts.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/mman.h>

enum { BLOCK = 128 << 10, BLOCKS = 256 };

static int packet_socket(void)
{
	int fd = socket(AF_PACKET, SOCK_RAW, 0);

	if (fd < 0)
		fail("socket");
	return fd;
}

static void bind_to(int fd, const char *name, int protocol)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = if_nametoindex(name)};

	if (bind(fd, (struct sockaddr *)&to, sizeof to))
		fail("bind");
}

static void set(int fd, int option, int value, const char *name)
{
	if (setsockopt(fd, SOL_PACKET, option, &value, sizeof value))
		fail(name);
}

static void receive_ring(const char *name)
{
	struct tpacket_req3 ring = {.tp_block_size = BLOCK, .tp_block_nr = BLOCKS, .tp_frame_size = FRAME,
				    .tp_frame_nr = BLOCK / FRAME * BLOCKS, .tp_retire_blk_tov = 1};
	int fd = packet_socket();
	struct meter meter;
	struct sink sink = {0};
	uint8_t *memory;
	unsigned at = 0;

	set(fd, PACKET_VERSION, TPACKET_V3, "PACKET_VERSION");
	set(fd, PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING");
	if (setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring))
		fail("PACKET_RX_RING");
	memory = mmap(NULL, (size_t)BLOCK * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	bind_to(fd, name, ETH_P_ALL);
	meter_start(&meter);
	while (!stop) {
		uint64_t start = ticks();
		struct tpacket_block_desc *block = (void *)(memory + (size_t)at * BLOCK);
		struct tpacket3_hdr *frame;
		uint32_t n;

		if (!(__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
			continue;
		n = block->hdr.bh1.num_pkts;
		frame = (void *)((uint8_t *)block + block->hdr.bh1.offset_to_first_pkt);
		for (uint32_t i = 0; i < n; i++) {
			see(&sink, (uint8_t *)frame + frame->tp_mac, frame->tp_snaplen);
			frame = (void *)((uint8_t *)frame + frame->tp_next_offset);
		}
		__atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		at = (at + 1) % BLOCKS;
		meter_turn(&meter, start, n);
	}
	meter_report(&meter);
	sink_report(&sink);
}

static void big_buffer(int fd)
{
	int bytes = 32 << 20;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
}

static void receive_copies(const char *name)
{
	int fd = packet_socket();

	set(fd, PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING");
	big_buffer(fd);
	bind_to(fd, name, ETH_P_ALL);
	receive_bursts(fd);
}

static int sender(const char *name)
{
	int fd = packet_socket();

	set(fd, PACKET_QDISC_BYPASS, 1, "PACKET_QDISC_BYPASS");
	bind_to(fd, name, 0);
	return fd;
}

static void transmit(const char *name, const char *bytes)
{
	static uint8_t frame[FRAME];
	static const uint8_t from[6] = {2, 0, 0, 0, 0x10, 1}, to[6] = {2, 0, 0, 0, 0x10, 2};
	unsigned length[12], kinds = lengths(bytes, length);

	build_frame(frame, length[kinds - 1], from, to);
	send_bursts(sender(name), frame, length, kinds, 0);
}

static void forward(const char *in, const char *out)
{
	int from = packet_socket(), to = sender(out);
	struct meter meter;

	set(from, PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING");
	big_buffer(from);
	bind_to(from, in, ETH_P_ALL);
	prepare();
	meter_start(&meter);
	while (!stop) {
		uint64_t start = ticks();
		int n;

		for (int i = 0; i < BURST; i++)
			parts[i].iov_len = FRAME;
		n = recvmmsg(from, messages, BURST, MSG_DONTWAIT, NULL);
		for (int i = 0; i < n; i++)
			parts[i].iov_len = messages[i].msg_len;
		if (n > 0)
			n = sendmmsg(to, messages, n, 0);
		meter_turn(&meter, start, n > 0 ? n : 0);
	}
	meter_report(&meter);
}

int main(int count, char **word)
{
	if (count == 4 && !strcmp(word[1], "receive") && !strcmp(word[3], "ring"))
		receive_ring(word[2]);
	else if (count == 4 && !strcmp(word[1], "receive"))
		receive_copies(word[2]);
	else if (count == 4 && !strcmp(word[1], "send"))
		transmit(word[2], word[3]);
	else if (count == 4 && !strcmp(word[1], "forward"))
		forward(word[2], word[3]);
	else
		return 2;
	return 0;
}
