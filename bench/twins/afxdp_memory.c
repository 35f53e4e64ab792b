/* AF_XDP over rings in memory whose kernel is played, so that what a frame costs can be counted:
 * the loops of afxdp.c, and one that has linerate's duties as well. */
#include "twins.h"

/* Frames have no time here. */
#define see(sink, frame, len) see(sink, frame, len, ~0ull)
#include "rings.h"

struct afxdp_receive {
  struct sink sink;
  struct xsk xsk;
  /* For the loop with the same duties as linerate's. */
  const uint64_t *lent; /* one bit a frame */
  uint64_t frames, bytes, malformed;
};

size_t twin_afxdp_receive(struct afxdp_receive *t, size_t max) {
  size_t n = 0;
  while (n < max) {
    uint32_t got = filled(&t->xsk.rx, BURST);
    if (got == 0) {
      if (__atomic_load_n(t->xsk.fill.flags, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP)
        return n;
      continue;
    }
    show(&t->xsk, got, &t->sink);
    n += got;
  }
  return n;
}

/* Each descriptor must name a frame that the kernel was lent, and bytes inside of it. */
size_t twin_afxdp_receive_same(struct afxdp_receive *t, size_t max) {
  struct xsk *x = &t->xsk;
  size_t n = 0;
  while (n < max) {
    uint32_t got = filled(&x->rx, BURST), written = 0;
    for (uint32_t i = 0; i < got; i++) {
      const struct xdp_desc d = *desc(&x->rx, x->rx.mine + i);
      uint64_t id = d.addr / FRAME, offset = d.addr % FRAME;
      if (unlikely(id >= FRAMES || !(t->lent[id / 64] >> id % 64 & 1) || d.options ||
                   offset + d.len > FRAME)) {
        t->malformed++;
        continue;
      }
      t->frames++;
      t->bytes += d.len;
      see(&t->sink, x->memory + d.addr, d.len);
      *address(&x->fill, x->fill.mine + written++) = id * FRAME;
    }
    x->rx.mine += got;
    x->fill.mine += written;
    store_release(x->rx.consumer, x->rx.mine);
    store_release(x->fill.producer, x->fill.mine);
    n += got;
  }
  return n;
}

struct afxdp_send {
  struct xsk xsk;
  uint32_t spares;
  uint64_t spare[SLOTS];
};

size_t twin_afxdp_send(struct afxdp_send *t, const uint8_t *frame, size_t len, size_t count) {
  struct xsk *x = &t->xsk;
  uint32_t n = 0;
  t->spares = reap(x, t->spare, t->spares);
  for (; n < count && t->spares; n++) {
    struct xdp_desc *d = desc(&x->tx, x->tx.mine + n);
    d->addr = t->spare[--t->spares];
    d->len = len;
    d->options = 0;
    memcpy(x->memory + d->addr, frame, d->len);
  }
  x->tx.mine += n;
  store_release(x->tx.producer, x->tx.mine);
  if (__atomic_load_n(x->tx.flags, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP)
    return 0;
  return n;
}
