/* AF_XDP in C on the bare system calls: what linerate-afxdp's loops are held against.
 *
 *   afxdp receive IF native|generic
 *   afxdp send IF BYTES|imix
 *   afxdp forward IN OUT
 *
 * One queue, copy mode, need-wakeup, one burst of at most 64 frames a turn. */
#include "program.h"
#include "rings.h"

#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif

static void map_ring(int fd, struct ring *r, const struct xdp_ring_offset *at, uint64_t page, size_t slot)
{
	uint8_t *m = mmap(NULL, at->desc + SLOTS * slot, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, page);

	if (m == MAP_FAILED)
		fail("mmap of a ring");
	r->producer = (uint32_t *)(m + at->producer);
	r->consumer = (uint32_t *)(m + at->consumer);
	r->flags = (uint32_t *)(m + at->flags);
	r->slots = m + at->desc;
}

static int bpf(int command, union bpf_attr *attr)
{
	int rc = syscall(SYS_bpf, command, attr, sizeof *attr);

	if (rc < 0)
		fail("bpf");
	return rc;
}

/* Redirects what queue 0 receives to the socket. */
static void attach(int fd, unsigned ifindex, bool generic)
{
	union bpf_attr a = {0};
	uint32_t key = 0, value = fd;
	int map, program;

	a.map_type = BPF_MAP_TYPE_XSKMAP;
	a.key_size = a.value_size = 4;
	a.max_entries = 1;
	map = bpf(BPF_MAP_CREATE, &a);
	memset(&a, 0, sizeof a);
	a.map_fd = map;
	a.key = (uintptr_t)&key;
	a.value = (uintptr_t)&value;
	bpf(BPF_MAP_UPDATE_ELEM, &a);

	struct bpf_insn code[] = {
		{.code = BPF_LDX | BPF_W | BPF_MEM, .dst_reg = 2, .src_reg = 1, .off = offsetof(struct xdp_md, rx_queue_index)},
		{.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = map},
		{0},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = XDP_PASS},
		{.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map},
		{.code = BPF_JMP | BPF_EXIT},
	};
	memset(&a, 0, sizeof a);
	a.prog_type = BPF_PROG_TYPE_XDP;
	a.expected_attach_type = BPF_XDP;
	a.insns = (uintptr_t)code;
	a.insn_cnt = sizeof code / sizeof *code;
	a.license = (uintptr_t) "GPL";
	program = bpf(BPF_PROG_LOAD, &a);
	memset(&a, 0, sizeof a);
	a.link_create.prog_fd = program;
	a.link_create.target_ifindex = ifindex;
	a.link_create.attach_type = BPF_XDP;
	a.link_create.flags = generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE;
	bpf(BPF_LINK_CREATE, &a);
}

static uint8_t *memory_for(size_t bytes)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
	uint8_t *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_HUGETLB, -1, 0);

	if (m == MAP_FAILED)
		m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (m == MAP_FAILED)
		fail("mmap");
	return m;
}

/* `from`: the socket whose memory to use as well, or NULL. */
static void open_xsk(struct xsk *x, const char *name, const struct xsk *from)
{
	struct sockaddr_xdp to = {.sxdp_family = AF_XDP, .sxdp_ifindex = if_nametoindex(name)};
	struct xdp_mmap_offsets at;
	socklen_t size = sizeof at;
	uint32_t slots = SLOTS;

	memset(x, 0, sizeof *x);
	x->fd = socket(AF_XDP, SOCK_RAW, 0);
	if (x->fd < 0)
		fail("socket");
	if (from) {
		x->memory = from->memory;
		to.sxdp_flags = XDP_SHARED_UMEM;
		to.sxdp_shared_umem_fd = from->fd;
	} else {
		x->memory = memory_for((size_t)FRAMES * FRAME);
		struct xdp_umem_reg reg = {.addr = (uintptr_t)x->memory, .len = (uint64_t)FRAMES * FRAME, .chunk_size = FRAME};
		if (setsockopt(x->fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof reg))
			fail("XDP_UMEM_REG");
		to.sxdp_flags = XDP_COPY | XDP_USE_NEED_WAKEUP;
	}
	if (setsockopt(x->fd, SOL_XDP, XDP_UMEM_FILL_RING, &slots, sizeof slots) ||
	    setsockopt(x->fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, &slots, sizeof slots) ||
	    setsockopt(x->fd, SOL_XDP, XDP_RX_RING, &slots, sizeof slots) ||
	    setsockopt(x->fd, SOL_XDP, XDP_TX_RING, &slots, sizeof slots))
		fail("rings");
	if (getsockopt(x->fd, SOL_XDP, XDP_MMAP_OFFSETS, &at, &size))
		fail("XDP_MMAP_OFFSETS");
	map_ring(x->fd, &x->rx, &at.rx, XDP_PGOFF_RX_RING, sizeof(struct xdp_desc));
	map_ring(x->fd, &x->tx, &at.tx, XDP_PGOFF_TX_RING, sizeof(struct xdp_desc));
	map_ring(x->fd, &x->fill, &at.fr, XDP_UMEM_PGOFF_FILL_RING, sizeof(uint64_t));
	map_ring(x->fd, &x->completion, &at.cr, XDP_UMEM_PGOFF_COMPLETION_RING, sizeof(uint64_t));
	/* The socket of a program that has just ended may not be gone yet. */
	for (int i = 0; bind(x->fd, (struct sockaddr *)&to, sizeof to); i++) {
		if (errno != EBUSY || i == 100)
			fail("bind");
		usleep(20000);
	}
}

static void receive(const char *name, bool generic)
{
	struct xsk x;
	struct meter meter;
	struct sink sink = {0};

	open_xsk(&x, name, NULL);
	lend(&x);
	attach(x.fd, if_nametoindex(name), generic);
	meter_start(&meter);
	while (!stop) {
		uint64_t start = ticks();
		uint32_t n = filled(&x.rx, BURST);

		if (n == 0) {
			if (__atomic_load_n(x.fill.flags, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP)
				recvfrom(x.fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
			continue;
		}
		show(&x, n, &sink);
		meter_turn(&meter, start, n);
	}
	meter_report(&meter);
	sink_report(&sink);
}

static void kick(struct xsk *x)
{
	if (__atomic_load_n(x->tx.flags, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP)
		sendto(x->fd, NULL, 0, MSG_DONTWAIT, NULL, 0);
}

/* Each frame is written in full before it is sent, as a program that has something to say does. */
static void transmit(const char *name, const char *bytes)
{
	static uint8_t frame[2048];
	static const uint8_t from[6] = {2, 0, 0, 0, 0x10, 1}, to[6] = {2, 0, 0, 0, 0x10, 2};
	unsigned length[12], kinds = lengths(bytes, length), kind = 0;
	static uint64_t spare[SLOTS];
	uint32_t spares = SLOTS;
	struct xsk x;
	struct meter meter;

	build_frame(frame, length[kinds - 1], from, to);
	open_xsk(&x, name, NULL);
	for (uint32_t i = 0; i < SLOTS; i++)
		spare[i] = (uint64_t)i * FRAME;
	meter_start(&meter);
	while (!stop) {
		uint64_t start = ticks();
		uint32_t n = 0;

		spares = reap(&x, spare, spares);
		for (; n < BURST && spares; n++) {
			struct xdp_desc *d = desc(&x.tx, x.tx.mine + n);

			d->addr = spare[--spares];
			d->len = length[kind];
			d->options = 0;
			memcpy(x.memory + d->addr, frame, d->len);
			if (++kind == kinds)
				kind = 0;
		}
		x.tx.mine += n;
		store_release(x.tx.producer, x.tx.mine);
		kick(&x);
		meter_turn(&meter, start, n);
	}
	meter_report(&meter);
}

/* Frames go on in the memory in which they came. */
static void forward(const char *in, const char *out)
{
	struct xsk a, b;
	struct meter meter;
	uint32_t lent = SLOTS;

	open_xsk(&a, in, NULL);
	open_xsk(&b, out, &a);
	lend(&a);
	attach(a.fd, if_nametoindex(in), false);
	meter_start(&meter);
	while (!stop) {
		uint64_t start = ticks();
		uint32_t done = filled(&b.completion, SLOTS), n = filled(&a.rx, BURST);

		for (uint32_t i = 0; i < done; i++)
			*address(&a.fill, a.fill.mine + i) = *address(&b.completion, b.completion.mine + i) & ~(uint64_t)(FRAME - 1);
		a.fill.mine += done;
		b.completion.mine += done;
		lent += done;
		if (done) {
			store_release(b.completion.consumer, b.completion.mine);
			store_release(a.fill.producer, a.fill.mine);
		}
		for (uint32_t i = 0; i < n; i++)
			*desc(&b.tx, b.tx.mine + i) = *desc(&a.rx, a.rx.mine + i);
		if (n) {
			a.rx.mine += n;
			b.tx.mine += n;
			lent -= n;
			store_release(a.rx.consumer, a.rx.mine);
			store_release(b.tx.producer, b.tx.mine);
		}
		if (n || lent < SLOTS)
			kick(&b);
		meter_turn(&meter, start, n);
	}
	meter_report(&meter);
}

int main(int count, char **word)
{
	if (count == 4 && !strcmp(word[1], "receive"))
		receive(word[2], !strcmp(word[3], "generic"));
	else if (count == 4 && !strcmp(word[1], "send"))
		transmit(word[2], word[3]);
	else if (count == 4 && !strcmp(word[1], "forward"))
		forward(word[2], word[3]);
	else
		return 2;
	return 0;
}
