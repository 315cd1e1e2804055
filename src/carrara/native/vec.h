/* Vectors of float, numbers kept as float32 or bfloat16, and what both kernels need of them. */
#ifndef CARRARA_VEC_H
#define CARRARA_VEC_H
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#ifdef __AVX512F__
#define LANES 16
#else
#define LANES 8
#endif
#define ROUND(a, b) (((a) + (b) - 1) / (b) * (b))
#define ALONE static __attribute__((noinline))
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES)));
typedef uint16_t hvec __attribute__((vector_size(2 * LANES)));
typedef uint16_t hwide __attribute__((vector_size(4 * LANES)));
#define ZERO ((vec){0})

/* bfloat16 is the upper half of a float32, rounded to the nearest, to even where two are near. */
INLINE vec widened(hvec h) {
#ifdef __AVX512F__
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)h), 16); /* what gcc makes of the line below is halves, put together */
#else
    return (vec)(__builtin_convertvector(h, uvec) << 16);
#endif
}

INLINE hvec narrowed(vec v) {
#ifdef __AVX512BF16__
    return (hvec)_mm512_cvtneps_pbh((__m512)v);
#else
    uvec u = (uvec)v, odd = (u >> 16) & 1;
    return __builtin_convertvector((u + 0x7fff + odd) >> 16, hvec);
#endif
}

/* The same vectors anywhere in memory. */
typedef vec any_vec __attribute__((aligned(4), may_alias));
typedef hvec any_hvec __attribute__((aligned(2), may_alias));

/* LANES numbers at p[i]; half: they are bfloat16. */
INLINE vec load(const void *p, size_t i, int half) {
    if (half) return widened(*(const any_hvec *)((const uint16_t *)p + i));
    return *(const any_vec *)((const float *)p + i);
}

INLINE void store(void *p, size_t i, vec v, int half) {
    if (half) *(any_hvec *)((uint16_t *)p + i) = narrowed(v);
    else *(any_vec *)((float *)p + i) = v;
}

#if defined(__AVX512BW__) && defined(__AVX512VL__)
#define MASKS
#define MASK(n) ((__mmask16)((1u << ((n) > 0 ? (n) : 0)) - 1))
#endif

/* The first n of LANES numbers, and zeros. */
INLINE vec load_some(const void *p, size_t i, int half, int n) {
    if (n >= LANES) return load(p, i, half);
#ifdef MASKS
    if (half) return widened((hvec)_mm256_maskz_loadu_epi16(MASK(n), (const uint16_t *)p + i));
    return (vec)_mm512_maskz_loadu_ps(MASK(n), (const float *)p + i);
#endif
    vec room = ZERO;
    memcpy(&room, (const char *)p + (i << (2 - half)), (size_t)n << (2 - half));
    return load(&room, 0, half);
}

INLINE void store_some(void *p, size_t i, vec v, int half, int n) {
    if (n >= LANES) {
        store(p, i, v, half);
        return;
    }
#ifdef MASKS
    if (half) _mm256_mask_storeu_epi16((uint16_t *)p + i, MASK(n), (__m256i)narrowed(v));
    else _mm512_mask_storeu_ps((float *)p + i, MASK(n), (__m512)v);
    return;
#endif
    vec room = ZERO;
    store(&room, 0, v, half);
    memcpy((char *)p + (i << (2 - half)), &room, (size_t)n << (2 - half));
}

/* LANES vectors as the rows of a square, turned into its columns: in each step, squares of half the side change places. */
INLINE void transpose(vec *r) {
#pragma GCC unroll 4
    for (int side = 1; side < LANES; side *= 2) {
        ivec upper, lower;
        for (int lane = 0; lane < LANES; lane++) {
            upper[lane] = lane & side ? LANES + lane - side : lane;
            lower[lane] = lane & side ? LANES + lane : lane + side;
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            if (!(i & side)) {
                vec a = r[i], b = r[i + side];
                r[i] = __builtin_shuffle(a, b, upper);
                r[i + side] = __builtin_shuffle(a, b, lower);
            }
    }
}

/* The same of LANES rows of words in memory, `far` apart, and their columns, `so` apart. */
INLINE void transpose_words(uint32_t *to, size_t so, const uint32_t *from, size_t far) {
    vec rows[LANES];
    for (int i = 0; i < LANES; i++) rows[i] = load(from, i * far, 0);
    transpose(rows);
    for (int i = 0; i < LANES; i++) store(to, i * so, rows[i], 0);
}

/* Two vectors as LANES pairs of bfloat16, the first of each pair from a. */
INLINE uvec paired(vec a, vec b) {
#if defined(__AVX512BF16__) && defined(__AVX512BW__)
    const hwide order = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return (uvec)_mm512_permutexvar_epi16((__m512i)order, (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a));
#endif
    return __builtin_convertvector(narrowed(a), uvec) | __builtin_convertvector(narrowed(b), uvec) << 16;
}
#endif
