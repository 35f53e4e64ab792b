// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Steers frames: the flows asked for go to AF_XDP sockets or are dropped, everything else goes
// on to the kernel as if this program were not there.
//
// The headers are read once, into one key with every field that a rule can ask for. Rules that
// ask for the same fields have the same *shape*. For each shape in use, the key is masked down to
// the shape's fields and looked up in one hash map: the cost grows with the number of shapes (at
// most 16, usually 1 or 2), not with the number of rules. Where the first rule takes every frame,
// nothing is read at all.
//
// What a frame matches is defined by FlowSpec::matches in linerate-common. A test runs both on
// the same frames; change them together.
//
// Rebuild the object beside this file with build.sh. The layouts below are mirrored in
// src/steer/layout.rs.

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAX_QUEUES 256
#define MAX_PORTS 64
#define MAX_RULES 4096
#define MAX_SHAPES 16
#define MAX_VLAN_TAGS 4
#define MAX_IPV6_EXTENSIONS 5

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17

// Which fields a frame has, and which a shape needs.
#define HAS_VLAN (1 << 0)
#define HAS_ETHERTYPE (1 << 1)
#define HAS_IP (1 << 2)
#define HAS_PORTS (1 << 3)

// Every field that a rule can select by. 7 words so that masking is 7 ANDs. Ports, VLAN id and
// ethertype are in host order, addresses as in the frame; an IPv4 address fills the first 4 bytes.
struct flow_key {
	__u8 port;  // of the process: which linerate port the rule belongs to
	__u8 shape; // keeps rules apart whose masked fields happen to be equal
	__u8 proto;
	__u8 zero;
	__u16 vlan;
	__u16 ethertype;
	__u8 mac[6];
	__u16 dport;
	__u16 sport;
	__u16 pad[3];
	__u64 dst[2];
	__u64 src[2];
};

#define KEY_WORDS (sizeof(struct flow_key) / 8)

union key {
	struct flow_key field;
	__u64 word[KEY_WORDS];
};

struct shape {
	__u64 mask[KEY_WORDS];
	__u64 id;         // word 0 of the key: the port's number and the shape's
	__u64 first_rank; // the lowest rank of its rules: no need to look when a lower one is found
	__u64 needs;      // HAS_*
};

// The shapes in use by one port, by ascending first_rank. Replaced as a whole, never changed.
struct plan {
	__u64 count;
	struct shape shapes[MAX_SHAPES];
};

#define ACTION_DELIVER 0
#define ACTION_DROP 1

struct rule {
	__u64 rank; // the lowest rank of all rules that match wins
	__u32 slot; // in hits
	__u16 action;
	__u16 pad;
	__u32 mark; // the rule's id as the program sees it
	__u32 pad2;
};

struct hit {
	__u64 frames;
	__u64 bytes;
};

// In front of a delivered frame, when asked for. The cookie is a random number that tells this
// from whatever else may lie there.
struct frame_meta {
	__u64 cookie;
	__u64 ts_ns;
	__u32 mark;
	__u32 has_ts;
};

// A map's definition in the form that needs no BTF: the loader reads it from this section.
struct map_def {
	__u32 type;
	__u32 key_size;
	__u32 value_size;
	__u32 max_entries;
	__u32 flags;
};

// The sockets, by receive queue.
struct map_def SEC("maps") xsks = {
	.type = BPF_MAP_TYPE_XSKMAP,
	.key_size = 4,
	.value_size = 4,
	.max_entries = MAX_QUEUES,
};

// Which port has a receive queue, and what becomes of its frames where that needs no looking: one
// word, so that it changes at once.
#define QUEUE_PORT 0xff           // the port's number, 0 for none
#define QUEUE_ALL (1 << 8)        // the first rule of the port takes every frame, and this is it:
#define QUEUE_DROPS (1 << 9)      // it drops them
#define QUEUE_SLOT(w) ((w) >> 16 & 0xffff)
#define QUEUE_MARK(w) ((w) >> 32)
struct map_def SEC("maps") queue_port = {
	.type = BPF_MAP_TYPE_ARRAY,
	.key_size = 4,
	.value_size = 8,
	.max_entries = MAX_QUEUES,
};

// The plan of each port: maps of one entry, so that a new plan takes the old one's place at once.
struct map_def SEC("maps") plans = {
	.type = BPF_MAP_TYPE_ARRAY_OF_MAPS,
	.key_size = 4,
	.value_size = 4,
	.max_entries = MAX_PORTS,
};

// Not preallocated: an element that is replaced or deleted stays intact until no program reads it.
struct map_def SEC("maps") rules = {
	.type = BPF_MAP_TYPE_HASH,
	.key_size = sizeof(struct flow_key),
	.value_size = sizeof(struct rule),
	.max_entries = MAX_RULES,
	.flags = BPF_F_NO_PREALLOC,
};

// What each rule has caught, by slot.
struct map_def SEC("maps") hits = {
	.type = BPF_MAP_TYPE_PERCPU_ARRAY,
	.key_size = 4,
	.value_size = sizeof(struct hit),
	.max_entries = MAX_RULES,
};

// Filled in by the loader before the kernel sees the program, which then removes what is unused.
const volatile __u64 meta_cookie = 0; // 0: no frame_meta
const volatile __u64 want_hw_ts = 0;
const volatile __u64 knows_xdp_buff = 0; // the kernel's is laid out as here, and may be read

// Resolved by the loader against the running kernel, or replaced by "r0 = -EOPNOTSUPP".
extern int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *ctx, __u64 *timestamp) __ksym;
extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym;

// What the kernel keeps about a frame, as far as it is read here.
struct kernel_xdp_buff {
	__u64 data;
	__u64 data_end;
	__u64 other[4];
	__u32 frame_sz;
	__u32 flags;
};
#define XDP_FLAGS_HAS_FRAGS 1

static __always_inline __u16 be16(const void *p)
{
	const __u8 *b = p;
	return (__u16)b[0] << 8 | b[1];
}

static __always_inline int is_tag(__u16 ethertype)
{
	return ethertype == 0x8100 || ethertype == 0x88a8 || ethertype == 0x9100;
}

static __always_inline void copy_address(__u64 *to, const void *from)
{
	const __u16 *half = from; // addresses are 2-byte aligned in a frame
	__u16 *out = (__u16 *)to;
#pragma unroll
	for (int i = 0; i < 8; i++)
		out[i] = half[i];
}

static __always_inline __u64 read_ports(struct flow_key *key, const void *p, const void *end)
{
	if (p + 4 > end)
		return 0;
	key->sport = be16(p);
	key->dport = be16(p + 2);
	return HAS_PORTS;
}

// The same at a distance that is not known before: options and extension headers lie between. A
// pointer moved by such a distance takes one more right (CAP_PERFMON), and the helper does not.
static __always_inline __u64 load_ports(struct xdp_md *ctx, struct flow_key *key, __u32 at)
{
	__u8 ports[4];
	if (bpf_xdp_load_bytes(ctx, at, ports, sizeof(ports)))
		return 0;
	key->sport = be16(ports);
	key->dport = be16(ports + 2);
	return HAS_PORTS;
}

// `at` is the distance of `ip` from the frame's first byte.
static __always_inline __u64 read_ipv4(struct xdp_md *ctx, struct flow_key *key, const void *ip,
				       const void *end, __u32 at)
{
	if (ip + 20 > end)
		return 0;
	const __u8 *b = ip;
	if (b[0] < 0x45 || b[0] > 0x4f)
		return 0;
	const __u16 *half = ip;
	__u16 *src = (__u16 *)key->src, *dst = (__u16 *)key->dst;
	src[0] = half[6];
	src[1] = half[7];
	dst[0] = half[8];
	dst[1] = half[9];
	key->proto = b[9];
	int later_fragment = be16(ip + 6) & 0x1fff;
	if (later_fragment || (key->proto != IPPROTO_UDP && key->proto != IPPROTO_TCP))
		return HAS_IP;
	if (b[0] == 0x45)
		return HAS_IP | read_ports(key, ip + 20, end);
	return HAS_IP | load_ports(ctx, key, at + (b[0] & 0x0f) * 4);
}

static __always_inline __u64 read_ipv6(struct xdp_md *ctx, struct flow_key *key, const void *ip,
				       const void *end, __u32 at)
{
	if (ip + 40 > end)
		return 0;
	const __u8 *b = ip;
	if (b[0] >> 4 != 6)
		return 0;
	copy_address(key->src, ip + 8);
	copy_address(key->dst, ip + 24);
	key->proto = b[6];
	if (key->proto == IPPROTO_UDP || key->proto == IPPROTO_TCP)
		return HAS_IP | read_ports(key, ip + 40, end);

	__u8 proto = b[6];
	at += 40;
	for (int i = 0; i < MAX_IPV6_EXTENSIONS; i++) {
		__u8 ext[8];
		if (proto == 0 || proto == 43 || proto == 60) {
			if (bpf_xdp_load_bytes(ctx, at, ext, 2))
				break;
			proto = ext[0];
			at += (ext[1] + 1) * 8;
		} else if (proto == 44) {
			if (bpf_xdp_load_bytes(ctx, at, ext, 8))
				break;
			proto = ext[0];
			at += 8;
			if (be16(ext + 2) & ~7) {
				key->proto = proto;
				return HAS_IP; // a later fragment
			}
		} else {
			break;
		}
	}
	key->proto = proto;
	if (proto != IPPROTO_UDP && proto != IPPROTO_TCP)
		return HAS_IP;
	return HAS_IP | load_ports(ctx, key, at);
}

// Reads what the frame has into `key`, which is zero before. A frame that ends too early has
// less: it is never an error.
static __always_inline __u64 read_headers(struct xdp_md *ctx, struct flow_key *key,
					  const void *data, const void *end)
{
	__builtin_memcpy(key->mac, data, 6);
	const void *type = data + 12;
	__u16 ethertype = be16(type);
	__u64 has = 0;
	__u32 at = 14;
	for (int i = 0; i < MAX_VLAN_TAGS && is_tag(ethertype); i++) {
		if (type + 4 > end)
			return has;
		if (i == 0) {
			key->vlan = be16(type + 2) & 0x0fff;
			has |= HAS_VLAN;
		}
		type += 4;
		at += 4;
		if (type + 2 > end)
			return has;
		ethertype = be16(type);
	}
	if (is_tag(ethertype))
		return has;
	key->ethertype = ethertype;
	has |= HAS_ETHERTYPE;
	if (ethertype == ETHERTYPE_IPV4)
		has |= read_ipv4(ctx, key, type + 2, end, at);
	else if (ethertype == ETHERTYPE_IPV6)
		has |= read_ipv6(ctx, key, type + 2, end, at);
	return has;
}

static __always_inline struct rule *find_rule(const struct plan *plan, const union key *frame,
					      __u64 has)
{
	struct rule *best = 0;
	// Unrolled, so that every shape is at a constant distance: the verifier lets a loader without
	// CAP_PERFMON move a pointer by no other.
#pragma unroll
	for (__u32 i = 0; i < MAX_SHAPES; i++) {
		const struct shape *shape = &plan->shapes[i];
		if (i >= plan->count || (best && best->rank < shape->first_rank))
			break;
		if ((has & shape->needs) != shape->needs)
			continue;
		union key key;
#pragma unroll
		for (__u32 w = 0; w < KEY_WORDS; w++)
			key.word[w] = frame->word[w] & shape->mask[w];
		key.word[0] |= shape->id;
		struct rule *rule = bpf_map_lookup_elem(&rules, &key);
		if (rule && (!best || rule->rank < best->rank))
			best = rule;
	}
	return best;
}

// Puts the rule's mark, and the card's receive time if there is one, in front of the frame. A
// driver without room for it leaves the frame as it is.
static __always_inline void write_meta(struct xdp_md *ctx, __u32 mark)
{
	__u64 ts_ns = 0;
	// Before the metadata moves: drivers find the stamp by where the frame begins.
	__u32 has_ts = want_hw_ts && bpf_xdp_metadata_rx_timestamp(ctx, &ts_ns) == 0;
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(struct frame_meta)))
		return;
	struct frame_meta *meta = (void *)(long)ctx->data_meta;
	if ((void *)(meta + 1) > (void *)(long)ctx->data)
		return;
	meta->cookie = meta_cookie;
	meta->ts_ns = ts_ns;
	meta->mark = mark;
	meta->has_ts = has_ts;
}

// Bytes of a frame, in all of its buffers.
//
// A call to a helper costs as much as all else here together where the processor must be kept from
// guessing where a function returns to (7 ns of 9 on an AMD EPYC), so the kernel's struct is read if
// that is possible: the cast is no call, the verifier makes a move of it. It takes one more right,
// CAP_PERFMON; without, the helper counts. Nor could `end - data` do without that right; and no
// pointer into the frame may live past the reading of its headers: the verifier would walk through
// all that follows once for every length that it has seen checked.
static __always_inline __u64 length(struct xdp_md *ctx)
{
	if (knows_xdp_buff) {
		const struct kernel_xdp_buff *buff = bpf_cast_to_kern_ctx(ctx);
		if (!(buff->flags & XDP_FLAGS_HAS_FRAGS))
			return buff->data_end - buff->data;
	}
	return bpf_xdp_get_buff_len(ctx); // before Linux 5.18 the loader makes this 0
}

SEC("xdp")
int linerate_xdp(struct xdp_md *ctx)
{
	const void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 queue = ctx->rx_queue_index, zero = 0;
	volatile __u64 *place = bpf_map_lookup_elem(&queue_port, &queue);
	if (!place || data + 14 > end)
		return XDP_PASS;
	__u64 word = *place;
	__u32 port_id = word & QUEUE_PORT, slot, mark;
	int drops;
	if (!port_id)
		return XDP_PASS;
	if (word & QUEUE_ALL) {
		// Nothing that the headers say could change it.
		slot = QUEUE_SLOT(word);
		mark = QUEUE_MARK(word);
		drops = !!(word & QUEUE_DROPS);
	} else {
		void *inner = bpf_map_lookup_elem(&plans, &port_id);
		if (!inner)
			return XDP_PASS;
		const struct plan *plan = bpf_map_lookup_elem(inner, &zero);
		if (!plan)
			return XDP_PASS;
		union key frame = {};
		__u64 has = read_headers(ctx, &frame.field, data, end);
		struct rule *rule = find_rule(plan, &frame, has);
		if (!rule)
			return XDP_PASS;
		slot = rule->slot;
		mark = rule->mark;
		drops = rule->action == ACTION_DROP;
	}

	__u64 len = length(ctx);
	struct hit *hit = bpf_map_lookup_elem(&hits, &slot);
	if (hit) {
		hit->frames++;
		hit->bytes += len;
	}
	if (drops)
		return XDP_DROP;
	if (meta_cookie)
		write_meta(ctx, mark);
	// Without a socket (it is just closing) the kernel gets the frame.
	return bpf_redirect_map(&xsks, queue, XDP_PASS);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
