/* verbs: an extended completion queue read field by field, requests posted in lists. */
#include "twins.h"

struct sge {
  uint64_t addr;
  uint32_t length, lkey;
};

struct recv_wr {
  uint64_t wr_id;
  struct recv_wr *next;
  struct sge *sg_list;
  int num_sge;
};

struct send_wr {
  uint64_t wr_id;
  struct send_wr *next;
  struct sge *sg_list;
  int num_sge;
  unsigned opcode, send_flags;
  uint32_t imm_data;
  uint64_t rest[11];
};
_Static_assert(sizeof(struct send_wr) == 128, "as in verbs.h");

enum { BURST = 64, SLOTS = 512 };
enum { SEND = 2, SIGNALED = 2, INLINE = 8, CSUM_OK = 4 };

struct verbs_receive {
  struct sink sink;
  void *cq, *qp;
  const uint64_t *wr_id;
  const uint32_t *status;
  int (*start_poll)(void *cq, uint32_t *attr);
  int (*next_poll)(void *cq);
  void (*end_poll)(void *cq);
  uint32_t (*read_byte_len)(void *cq);
  unsigned (*read_wc_flags)(void *cq);
  uint64_t (*read_wallclock)(void *cq);
  uint32_t (*read_flow_tag)(void *cq);
  int (*post_recv)(void *qp, struct recv_wr *wr, struct recv_wr **bad);
  uint8_t *base;
  uint32_t frame_bytes, headroom, lkey;
  struct recv_wr requests[BURST];
  struct sge pieces[BURST];
  uint64_t marks;
  uint64_t frames, bytes;
};

size_t twin_verbs_receive(struct verbs_receive *t, size_t max) {
  size_t n = 0;
  while (n < max) {
    uint32_t attr = 0;
    if (t->start_poll(t->cq, &attr) != 0)
      return n;
    uint32_t got = 0;
    do {
      uint64_t id = *(const volatile uint64_t *)t->wr_id;
      if (unlikely(*(const volatile uint32_t *)t->status != 0))
        continue;
      uint32_t len = t->read_byte_len(t->cq);
      unsigned flags = t->read_wc_flags(t->cq);
      uint64_t ns = t->read_wallclock(t->cq);
      uint32_t tag = t->read_flow_tag(t->cq);
      if (unlikely(len > t->frame_bytes - t->headroom))
        continue;
      uint8_t *frame = t->base + id * t->frame_bytes + t->headroom;
      t->marks += tag + (flags & CSUM_OK);
      t->frames++;
      t->bytes += len;
      see(&t->sink, frame, len, ns);
      t->pieces[got] = (struct sge){
          .addr = (uint64_t)frame, .length = t->frame_bytes - t->headroom, .lkey = t->lkey};
      t->requests[got] = (struct recv_wr){
          .wr_id = id, .next = &t->requests[got + 1], .sg_list = &t->pieces[got], .num_sge = 1};
      got++;
    } while (got < BURST && t->next_poll(t->cq) == 0);
    t->end_poll(t->cq);
    if (got > 0) {
      struct recv_wr *bad;
      t->requests[got - 1].next = NULL;
      if (t->post_recv(t->qp, t->requests, &bad) != 0)
        return n;
    }
    n += got;
  }
  return n;
}

struct verbs_send {
  void *cq, *qp;
  const uint64_t *wr_id;
  const uint32_t *status;
  int (*start_poll)(void *cq, uint32_t *attr);
  int (*next_poll)(void *cq);
  void (*end_poll)(void *cq);
  int (*post_send)(void *qp, struct send_wr *wr, struct send_wr **bad);
  uint8_t *base;
  uint32_t frame_bytes, headroom, lkey, inline_bytes;
  uint64_t head, tail;
  struct send_wr requests[BURST];
  struct sge pieces[BURST];
  uint32_t n_free;
  uint32_t free[SLOTS], in_flight[SLOTS];
  uint64_t frames, bytes;
};

static inline void reap(struct verbs_send *t) {
  uint32_t attr = 0;
  if (t->start_poll(t->cq, &attr) != 0)
    return;
  do {
    uint64_t last = *(const volatile uint64_t *)t->wr_id;
    if (unlikely(*(const volatile uint32_t *)t->status != 0 || last < t->head || last >= t->tail))
      continue;
    for (; t->head <= last; t->head++)
      t->free[t->n_free++] = t->in_flight[t->head % SLOTS];
  } while (t->next_poll(t->cq) == 0);
  t->end_poll(t->cq);
}

size_t twin_verbs_send(struct verbs_send *t, const uint8_t *frame, size_t len, size_t count) {
  reap(t);
  size_t n;
  for (n = 0; n < count && n < BURST; n++) {
    if (unlikely(len == 0 || len > t->frame_bytes - t->headroom || t->n_free == 0))
      break;
    uint32_t id = t->free[--t->n_free];
    uint8_t *to = t->base + (size_t)id * t->frame_bytes + t->headroom;
    memcpy(to, frame, len);
    t->pieces[n] = (struct sge){.addr = (uint64_t)to, .length = (uint32_t)len, .lkey = t->lkey};
    struct send_wr *wr = &t->requests[n];
    wr->wr_id = t->tail;
    wr->next = wr + 1;
    wr->sg_list = &t->pieces[n];
    wr->num_sge = 1;
    wr->opcode = SEND;
    wr->send_flags = (len <= t->inline_bytes ? INLINE : 0) | (t->tail % 32 == 31 ? SIGNALED : 0);
    t->in_flight[t->tail++ % SLOTS] = id;
    t->frames++;
    t->bytes += len;
  }
  if (n > 0) {
    struct send_wr *bad;
    t->requests[n - 1].next = NULL;
    t->requests[n - 1].send_flags |= SIGNALED;
    if (t->post_send(t->qp, t->requests, &bad) != 0)
      return 0;
  }
  return n;
}
