/* ExaNIC: the receive ring and the transmit memory, as libexanic's headers lay them out. */
#include "twins.h"

#define CHUNKS 16384u
#define PAYLOAD 120u

struct chunk {
  uint8_t payload[PAYLOAD];
  uint64_t info; /* time 0..31, status 32..35, length 40..47, generation 56..63 */
};

struct exanic_receive {
  struct sink sink;
  const struct chunk *ring;
  const uint64_t *page;
  uint64_t hz;
  unsigned __int128 ns_per_tick;
  uint64_t second_ticks, second_ns;
  uint64_t before; /* metadata of the chunk before `position` */
  uint32_t position; /* generation and index */
  uint8_t *buffer;
  size_t buffer_bytes;
  uint64_t frames, bytes;
};

static uint64_t new_second(struct exanic_receive *t, uint64_t ticks) {
  uint64_t second = ticks / t->hz;
  t->second_ticks = second * t->hz;
  t->second_ns = second * 1000000000;
  return t->second_ns + (uint64_t)((ticks - t->second_ticks) * t->ns_per_tick >> 64);
}

static inline uint64_t utc_ns(struct exanic_receive *t, uint32_t stamp) {
  uint64_t now = __atomic_load_n(t->page, __ATOMIC_RELAXED);
  uint64_t ticks = now + (int64_t)(int32_t)(stamp - (uint32_t)now);
  uint64_t within = ticks - t->second_ticks;
  if (unlikely(within >= t->hz))
    return new_second(t, ticks);
  return t->second_ns + (uint64_t)(within * t->ns_per_tick >> 64);
}

size_t twin_exanic_receive(struct exanic_receive *t, size_t max) {
  size_t n = 0;
  while (n < max) {
    uint32_t start = t->position, at = start;
    size_t len = 0;
    for (;;) {
      const struct chunk *chunk = &t->ring[at % CHUNKS];
      uint64_t info = __atomic_load_n(&chunk->info, __ATOMIC_ACQUIRE);
      if ((uint8_t)(info >> 56) != (uint8_t)(at / CHUNKS))
        return n; /* nothing yet, or lapped: the caller looks */
      uint32_t part = (uint8_t)(info >> 40);
      if (part == 0) {
        if (unlikely(len + PAYLOAD > t->buffer_bytes))
          return n;
        memcpy(t->buffer + len, chunk->payload, PAYLOAD);
        len += PAYLOAD;
        at++;
        continue;
      }
      if (unlikely(part > PAYLOAD || len + part > t->buffer_bytes))
        return n;
      memcpy(t->buffer + len, chunk->payload, part);
      len += part;
      at++;
      /* Not overwritten meanwhile if the chunk before the frame is what it was. */
      __atomic_thread_fence(__ATOMIC_ACQUIRE);
      uint64_t before = __atomic_load_n(&t->ring[(start - 1) % CHUNKS].info, __ATOMIC_RELAXED);
      if (unlikely(before != t->before))
        return n;
      t->before = info;
      t->position = at;
      if (unlikely((info >> 32 & 0xf) != 0 || len <= 4))
        break;
      t->frames++;
      t->bytes += len - 4;
      see(&t->sink, t->buffer, len - 4, utc_ns(t, (uint32_t)info));
      n++;
      break;
    }
  }
  return n;
}

struct exanic_send {
  void *card;
  void (*write_register)(void *card, uint32_t index, uint32_t value);
  uint32_t command, offset;
  uint8_t *memory;
  uint32_t bytes;
  const uint16_t *feedback;
  uint16_t slot;
  uint8_t type_raw;
  uint32_t next;
  uint32_t sequence, done, queue;
  uint32_t starts[1024];
  uint64_t frames, sent_bytes;
};

struct header {
  uint16_t id, slot, length;
  uint8_t type, flags;
  uint16_t padding;
};

static int room(const struct exanic_send *t, uint32_t need, uint32_t *at) {
  if (t->sequence == t->done) {
    *at = 0;
    return 1;
  }
  if (t->sequence - t->done == t->queue)
    return 0;
  uint32_t oldest = t->starts[t->done % 1024];
  if (t->next > oldest) {
    if (t->next + need <= t->bytes) {
      *at = t->next;
      return 1;
    }
    *at = 0;
    return need <= oldest;
  }
  *at = t->next;
  return t->next + need <= oldest;
}

static void reap(struct exanic_send *t) {
  uint16_t fed_back = __atomic_load_n(t->feedback, __ATOMIC_ACQUIRE);
  uint16_t done = fed_back - (uint16_t)t->done;
  if (done <= t->sequence - t->done)
    t->done += done;
}

size_t twin_exanic_send(struct exanic_send *t, const uint8_t *frame, size_t len, size_t count) {
  reap(t);
  size_t n;
  for (n = 0; n < count; n++) {
    uint32_t need = (10 + (uint32_t)len + 63) & ~63u, at;
    if (unlikely(len == 0 || need > t->bytes))
      return n;
    if (unlikely(!room(t, need, &at))) {
      reap(t);
      if (!room(t, need, &at))
        return n;
    }
    struct header header = {
        .id = (uint16_t)(t->sequence + 1), .slot = t->slot, .length = (uint16_t)(len + 2),
        .type = t->type_raw};
    memcpy(t->memory + at, &header, sizeof header);
    memcpy(t->memory + at + 10, frame, len);
    __builtin_ia32_sfence();
    t->write_register(t->card, t->command, t->offset + at);
    t->starts[t->sequence++ % 1024] = at;
    t->next = at + need;
    t->frames++;
    t->sent_bytes += len;
  }
  return n;
}
