/* ef_vi: an event loop over posted buffers (EF10) and one over packet references (efct), and
 * sending by DMA and by CTPIO. The operations are those of the VI's own table. */
#include "twins.h"
#include <sys/uio.h>

/* The loops whose names end in `_same` have linerate's duties as well: a completion must name the
 * buffer that is next, times are checked, brought to UTC and judged, a lost queue is not used. */

typedef union {
  uint64_t u64[2];
  uint32_t u32[4];
  uint16_t u16[8];
} event;

struct precisetime {
  int64_t tv_sec;
  uint32_t tv_nsec;
  uint16_t tv_nsec_frac, tv_flags;
};

enum { RX = 0, TX = 1 };
enum { SOP = 1, CONT = 2 };

struct efvi_receive {
  struct sink sink;
  void *vi;
  int (*eventq_poll)(void *vi, event *events, int n);
  int (*receive_init)(void *vi, uint64_t addr, int id);
  void (*receive_push)(void *vi);
  int (*get_timestamp)(void *vi, const void *frame, struct precisetime *time);
  const void *(*packet_get)(void *vi, uint32_t id);
  void (*packet_release)(void *vi, uint32_t id);
  uint8_t *base;
  const uint64_t *dma;
  uint32_t rx_ref; /* the event type, which moved in 9.2 */
  uint32_t frame_bytes, dma_offset, prefix, buffer_bytes;
  uint32_t pending; /* buffers to post again */
  uint32_t ids[512];
  uint64_t frames, bytes;
  /* For the loops with the same duties as linerate's. */
  int64_t ahead_s;
  uint64_t end_s, malformed;
  uint32_t ring, head, tail, posted, sync; /* `ids` in the order of posting */
};

static inline uint64_t ns_of(int rc, const struct precisetime *time) {
  return likely(rc == 0) ? (uint64_t)time->tv_sec * 1000000000 + time->tv_nsec : ~0ull;
}

static inline uint64_t dma_address(const uint64_t *table, size_t offset) {
  return table[offset >> 12] | (offset & 0xfff);
}

size_t twin_efvi_ring_receive(struct efvi_receive *t, size_t max) {
  event events[64];
  size_t n = 0;
  while (n < max) {
    int got = t->eventq_poll(t->vi, events, 64);
    if (got <= 0)
      return n;
    for (int i = 0; i < got; i++) {
      const event *e = &events[i];
      if (unlikely(e->u16[0] != RX || (e->u16[5] & (SOP | CONT)) != SOP))
        continue;
      uint32_t id = e->u32[1], len = e->u16[4];
      if (unlikely(len < t->prefix || len > t->buffer_bytes))
        continue;
      uint8_t *area = t->base + (size_t)id * t->frame_bytes + t->dma_offset;
      struct precisetime time;
      int rc = t->get_timestamp(t->vi, area, &time);
      len -= t->prefix;
      t->frames++;
      t->bytes += len;
      see(&t->sink, area + t->prefix, len, ns_of(rc, &time));
      t->ids[t->pending++] = id;
      n++;
    }
    if (t->pending >= 16) {
      uint32_t full = t->pending & ~7u;
      for (uint32_t i = 0; i < full; i++) {
        uint32_t id = t->ids[--t->pending];
        size_t at = (size_t)id * t->frame_bytes + t->dma_offset;
        t->receive_init(t->vi, dma_address(t->dma, at), (int)id);
      }
      t->receive_push(t->vi);
    }
  }
  return n;
}

size_t twin_efvi_shared_receive(struct efvi_receive *t, size_t max) {
  event events[64];
  size_t n = 0;
  while (n < max) {
    int got = t->eventq_poll(t->vi, events, 64);
    if (got <= 0)
      return n;
    for (int i = 0; i < got; i++) {
      const event *e = &events[i];
      if (unlikely(e->u16[0] != t->rx_ref))
        continue;
      uint32_t id = e->u32[1], len = e->u16[1];
      const uint8_t *frame = t->packet_get(t->vi, id);
      if (unlikely(len > 2048 || !frame))
        continue;
      struct precisetime time;
      int rc = t->get_timestamp(t->vi, frame, &time);
      t->frames++;
      t->bytes += len;
      see(&t->sink, frame, len, ns_of(rc, &time));
      t->packet_release(t->vi, id);
      n++;
    }
  }
  return n;
}

struct efvi_send {
  void *vi;
  int (*eventq_poll)(void *vi, event *events, int n);
  int (*transmit_init)(void *vi, uint64_t addr, int len, int id);
  void (*transmit_push)(void *vi);
  int (*transmit_unbundle)(void *vi, const event *event, int *ids);
  void (*transmitv_ctpio)(void *vi, size_t len, const struct iovec *iov, int n, unsigned threshold);
  int (*transmit_ctpio_fallback)(void *vi, uint64_t addr, size_t len, int id);
  const uint32_t *added, *removed, *ct_added, *ct_removed;
  uint8_t *base;
  const uint64_t *dma;
  uint32_t mask, fifo_bytes, frame_bytes, headroom, threshold;
  uint32_t n_free;
  uint32_t free[512];
  uint64_t frames, bytes, completed;
  /* For the loops with the same duties as linerate's. */
  uint64_t head, tail, unknown;
  uint32_t lost, by_ctpio;
  uint64_t paths[2];
  uint32_t flying[512]; /* in the order of sending */
};

static inline void reap(struct efvi_send *t) {
  event events[16];
  int got;
  do {
    got = t->eventq_poll(t->vi, events, 16);
    for (int i = 0; i < got; i++) {
      int ids[64];
      if (unlikely(events[i].u16[0] != TX))
        continue;
      int n = t->transmit_unbundle(t->vi, &events[i], ids);
      for (int j = 0; j < n; j++)
        t->free[t->n_free++] = (uint32_t)ids[j];
      t->completed += (uint64_t)n;
    }
  } while (got == 16);
}

static inline int has_room(const struct efvi_send *t) {
  return t->mask - (*t->added - *t->removed) > 0 && t->n_free > 0;
}

size_t twin_efvi_ring_send(struct efvi_send *t, const uint8_t *frame, size_t len, size_t count) {
  reap(t);
  size_t n;
  for (n = 0; n < count; n++) {
    if (unlikely(len == 0 || len > t->frame_bytes - t->headroom))
      return n;
    if (unlikely(!has_room(t))) {
      reap(t);
      if (!has_room(t))
        return n;
    }
    uint32_t id = t->free[--t->n_free];
    size_t at = (size_t)id * t->frame_bytes + t->headroom;
    memcpy(t->base + at, frame, len);
    if (t->transmit_init(t->vi, dma_address(t->dma, at), (int)len, (int)id) < 0)
      return n;
    t->frames++;
    t->bytes += len;
  }
  t->transmit_push(t->vi);
  return n;
}

size_t twin_efvi_shared_send(struct efvi_send *t, const uint8_t *frame, size_t len, size_t count) {
  reap(t);
  size_t n;
  for (n = 0; n < count; n++) {
    if (unlikely(len == 0 || len > t->frame_bytes - t->headroom))
      return n;
    uint32_t used = *t->ct_added - *t->ct_removed;
    if (unlikely(!has_room(t) || used > t->fifo_bytes || t->fifo_bytes - used < len)) {
      reap(t);
      if (!has_room(t))
        return n;
    }
    uint32_t id = t->free[--t->n_free];
    size_t at = (size_t)id * t->frame_bytes + t->headroom;
    memcpy(t->base + at, frame, len);
    struct iovec iov = {.iov_base = t->base + at, .iov_len = len};
    t->transmitv_ctpio(t->vi, len, &iov, 1, t->threshold);
    if (t->transmit_ctpio_fallback(t->vi, dma_address(t->dma, at), len, (int)id) < 0)
      return n;
    t->frames++;
    t->bytes += len;
  }
  return n;
}

struct meta {
  uint64_t ns;
  uint32_t wire_len, flags, mark;
};

/* 0: no time, or none that can be. */
static inline int utc_of(struct efvi_receive *t, int rc, const struct precisetime *time,
                         struct meta *meta) {
  uint64_t sec = (uint64_t)time->tv_sec - (uint64_t)t->ahead_s;
  if (unlikely(rc != 0 || sec >= t->end_s || time->tv_nsec >= 1000000000))
    return 0;
  meta->ns = sec * 1000000000 + time->tv_nsec;
  meta->flags = time->tv_flags & 2 ? 1 : 5;
  t->sync = time->tv_flags;
  return 1;
}

size_t twin_efvi_ring_receive_same(struct efvi_receive *t, size_t max) {
  event events[64];
  size_t n = 0;
  while (n < max) {
    int got = t->eventq_poll(t->vi, events, 64);
    if (got <= 0)
      return n;
    for (int i = 0; i < got; i++) {
      const event *e = &events[i];
      if (unlikely(e->u16[0] != RX || (e->u16[5] & (SOP | CONT)) != SOP))
        continue;
      uint32_t id = e->u32[1], len = e->u16[4];
      if (unlikely(t->posted == 0 || t->ids[t->head] != id)) {
        t->malformed++;
        continue;
      }
      t->posted--;
      if (unlikely(++t->head == t->ring))
        t->head = 0;
      if (unlikely(len < t->prefix || len > t->buffer_bytes)) {
        t->malformed++;
        continue;
      }
      uint8_t *area = t->base + (size_t)id * t->frame_bytes + t->dma_offset;
      struct precisetime time;
      struct meta meta = {.ns = ~0ull, .wire_len = len - t->prefix};
      int rc = t->get_timestamp(t->vi, area, &time);
      utc_of(t, rc, &time, &meta);
      len -= t->prefix;
      t->frames++;
      t->bytes += len;
      see(&t->sink, area + t->prefix, len, meta.ns);
      n++;
    }
    if (t->ring - t->posted >= 16) {
      uint32_t full = (t->ring - t->posted) & ~7u;
      for (uint32_t i = 0; i < full; i++) {
        uint32_t id = t->ids[t->tail];
        size_t at = (size_t)id * t->frame_bytes + t->dma_offset;
        if (t->receive_init(t->vi, dma_address(t->dma, at), (int)id) < 0)
          break;
        if (unlikely(++t->tail == t->ring))
          t->tail = 0;
        t->posted++;
      }
      t->receive_push(t->vi);
    }
  }
  return n;
}

size_t twin_efvi_shared_receive_same(struct efvi_receive *t, size_t max) {
  event events[64];
  size_t n = 0;
  while (n < max) {
    int got = t->eventq_poll(t->vi, events, 64);
    if (got <= 0)
      return n;
    for (int i = 0; i < got; i++) {
      const event *e = &events[i];
      if (unlikely(e->u16[0] != t->rx_ref))
        continue;
      uint32_t id = e->u32[1], len = e->u16[1];
      const uint8_t *frame = len > 2048 ? NULL : t->packet_get(t->vi, id);
      if (unlikely(!frame)) {
        t->malformed++;
        t->packet_release(t->vi, id);
        continue;
      }
      struct precisetime time;
      struct meta meta = {.ns = ~0ull, .wire_len = len, .mark = e->u32[2] >> 8 & 0xffff};
      int rc = t->get_timestamp(t->vi, frame, &time);
      utc_of(t, rc, &time, &meta);
      t->frames++;
      t->bytes += len;
      see(&t->sink, frame, len, meta.ns);
      t->packet_release(t->vi, id);
      n++;
    }
  }
  return n;
}

static inline void reap_same(struct efvi_send *t) {
  event events[16];
  int got;
  do {
    got = t->eventq_poll(t->vi, events, 16);
    for (int i = 0; i < got; i++) {
      int ids[64];
      if (unlikely(events[i].u16[0] != TX))
        continue;
      int n = t->transmit_unbundle(t->vi, &events[i], ids);
      uint64_t done = 0;
      for (int j = 0; j < n; j++) {
        uint32_t id = (uint32_t)ids[j];
        if (unlikely(t->head == t->tail || t->flying[t->head % 512] != id || t->n_free == 512)) {
          t->unknown++;
          continue;
        }
        t->head++;
        t->free[t->n_free++] = id;
        done++;
      }
      t->completed += done;
      t->paths[t->by_ctpio && events[i].u32[0] >> 24 & 1] += done;
    }
  } while (got == 16);
}

static inline int has_room_same(const struct efvi_send *t) {
  return !t->lost && t->tail - t->head < t->mask && t->n_free > 0;
}

size_t twin_efvi_ring_send_same(struct efvi_send *t, const uint8_t *frame, size_t len,
                                size_t count) {
  reap_same(t);
  size_t n;
  for (n = 0; n < count; n++) {
    if (unlikely(len == 0 || len > t->frame_bytes - t->headroom))
      return n;
    if (unlikely(!has_room_same(t))) {
      reap_same(t);
      if (!has_room_same(t))
        return n;
    }
    uint32_t id = t->free[--t->n_free];
    size_t at = (size_t)id * t->frame_bytes + t->headroom;
    memcpy(t->base + at, frame, len);
    if (t->transmit_init(t->vi, dma_address(t->dma, at), (int)len, (int)id) < 0)
      return n;
    t->flying[t->tail++ % 512] = id;
    t->frames++;
    t->bytes += len;
  }
  t->transmit_push(t->vi);
  return n;
}

size_t twin_efvi_shared_send_same(struct efvi_send *t, const uint8_t *frame, size_t len,
                                  size_t count) {
  reap_same(t);
  size_t n;
  for (n = 0; n < count; n++) {
    if (unlikely(len == 0 || len > t->frame_bytes - t->headroom))
      return n;
    uint32_t used = *t->ct_added - *t->ct_removed;
    if (unlikely(!has_room_same(t) || !has_room(t) || used > t->fifo_bytes ||
                 t->fifo_bytes - used < len)) {
      reap_same(t);
      if (!has_room_same(t) || !has_room(t))
        return n;
    }
    uint32_t id = t->free[--t->n_free];
    size_t at = (size_t)id * t->frame_bytes + t->headroom;
    memcpy(t->base + at, frame, len);
    struct iovec iov = {.iov_base = t->base + at, .iov_len = len};
    t->transmitv_ctpio(t->vi, len, &iov, 1, t->threshold);
    if (t->transmit_ctpio_fallback(t->vi, dma_address(t->dma, at), len, (int)id) < 0)
      return n;
    t->flying[t->tail++ % 512] = id;
    t->frames++;
    t->bytes += len;
  }
  return n;
}
