/* Products by the processor's matrix tiles (Intel AMX), where it has them and the system grants them: blocks of 32 rows and 32 columns.
 *
 * Factors are words, pairs of bfloat16; sums are float32. What is smaller is filled up with zeros by those who lay the factors out.
 * A thread's tiles have a configuration, which is everybody's in that thread: ours stands between tiles_mine and tiles_back alone.
 */
#ifndef CARRARA_TILES_H
#define CARRARA_TILES_H
#include "product.h"

#define SQUARE 32 /* rows and columns of a block; numbers of depth, 16 words, that one step takes */

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AVX512BF16__)
#define HAS_TILES
#endif

/* Which form a configuration has, and each tile's bytes in a row and rows. */
typedef struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} __attribute__((aligned(64))) Tiles;

#ifdef HAS_TILES
/* The compiler is not told that tiles read memory and write it. */
#define SEEN __asm__ volatile("" ::: "memory")

/* Configures this thread's tiles; returns how they were. */
INLINE Tiles tiles_mine(void) {
    Tiles before, mine = {.palette = 1};
    for (int i = 0; i < 8; i++) mine.bytes[i] = 64, mine.rows[i] = 16;
    SEEN;
    _tile_storeconfig(&before);
    _tile_loadconfig(&mine);
    SEEN;
    return before;
}

INLINE void tiles_back(Tiles before) {
    SEEN;
    _tile_loadconfig(&before);
}

/* The block of sums is tiles 0 to 3. c: its rows are ci numbers apart. */
INLINE void tiles_zero(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

INLINE void tiles_get(const float *c, size_t ci) {
    SEEN;
    _tile_loadd(0, c, 4 * ci);
    _tile_loadd(1, c + 16, 4 * ci);
    _tile_loadd(2, c + 16 * ci, 4 * ci);
    _tile_loadd(3, c + 16 * ci + 16, 4 * ci);
}

INLINE void tiles_put(float *c, size_t ci) {
    _tile_stored(0, c, 4 * ci);
    _tile_stored(1, c + 16, 4 * ci);
    _tile_stored(2, c + 16 * ci, 4 * ci);
    _tile_stored(3, c + 16 * ci + 16, 4 * ci);
    SEEN;
}

/* Adds a b: rows of a, ai numbers apart, and b (16 steps, SQUARE) words, pairs of rows, as `product` has them. */
INLINE void tiles_add(const uint16_t *a, size_t ai, const uint32_t *b, int steps) {
    SEEN;
    for (int p = 0; p < steps; p++, a += SQUARE, b += 16 * SQUARE) {
        _tile_loadd(4, a, 2 * ai);
        _tile_loadd(6, b, 4 * SQUARE);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + 16, 4 * SQUARE);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + 16 * ai, 2 * ai);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}
#else /* Nobody asks, but it compiles. */
INLINE Tiles tiles_mine(void) { return (Tiles){0}; }
INLINE void tiles_back(Tiles before) { (void)before; }
INLINE void tiles_zero(void) {}
INLINE void tiles_get(const float *c, size_t ci) { (void)c, (void)ci; }
INLINE void tiles_put(float *c, size_t ci) { (void)c, (void)ci; }
INLINE void tiles_add(const uint16_t *a, size_t ai, const uint32_t *b, int steps) { (void)a, (void)ai, (void)b, (void)steps; }
#endif

/* c (SQUARE, SQUARE) = a b, each as above. */
INLINE void tiles_product(float *c, size_t ci, const uint16_t *a, size_t ai, const uint32_t *b, int steps) {
    tiles_zero();
    tiles_add(a, ai, b, steps);
    tiles_put(c, ci);
}
#endif
