/* What the C loops share. They are what a careful C program would do over the vendor's library:
 * look at each status and length, hand each frame with its length and its time in ns to a
 * handler, count frames and bytes, and give buffers back in batches. The structs are mirrored in
 * src/twins.rs. */
#ifndef TWINS_H
#define TWINS_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

struct sink {
  uint64_t frames, bytes, words, times;
};

static inline void see(struct sink *sink, const uint8_t *frame, size_t len, uint64_t ns) {
  sink->frames++;
  sink->bytes += len;
  if (len >= 8) {
    uint64_t word;
    memcpy(&word, frame, 8);
    sink->words += word;
  }
  sink->times ^= ns;
}
#endif
