/* The small matrix product that all the time goes to, of a tile that stays in registers. */
#ifndef CARRARA_PRODUCT_H
#define CARRARA_PRODUCT_H
#include "vec.h"

#define COLUMNS (2 * LANES)
#ifdef __AVX512F__
#define ROWS 12 /* the most that fit beside two vectors of b */
#else
#define ROWS 6
#endif
#define CROSS 8 /* rows, where their number must divide COLUMNS */
#define MOST 16
#define TILED 2 /* of `coarse`: factors in bfloat16 as with 1, and products by matrix tiles */

/* c (rows, wide LANES) = or += sum over depth of a(i, p) b(p, :). A factor is a word: a float32, or a pair of bfloat16. */
INLINE void product(const int rows, const int wide, const int coarse, const uint32_t *a, size_t ai, size_t ap, const uint32_t *b, size_t bp, float *c,
                    size_t ci, int depth, const int add) {
    vec sum[MOST][2];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < wide; j++) sum[i][j] = add ? load(c, i * ci + j * LANES, 0) : ZERO;
    for (int p = 0; p < depth; p++) {
        vec b0 = load(b + p * bp, 0, 0), b1 = wide > 1 ? load(b + p * bp, LANES, 0) : b0;
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            uint32_t word = a[i * ai + p * ap];
#ifdef __AVX512BF16__
            if (coarse) {
                __m512bh each = (__m512bh)_mm512_set1_epi32((int)word);
                sum[i][0] = (vec)_mm512_dpbf16_ps((__m512)sum[i][0], each, (__m512bh)b0);
                if (wide > 1) sum[i][1] = (vec)_mm512_dpbf16_ps((__m512)sum[i][1], each, (__m512bh)b1);
                continue;
            }
#endif
            vec each = (vec)((uvec){0} + word);
            sum[i][0] += each * b0;
            if (wide > 1) sum[i][1] += each * b1;
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < wide; j++) store(c, i * ci + j * LANES, sum[i][j], 0);
}
#endif
