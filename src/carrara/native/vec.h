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
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES)));
typedef uint16_t hvec __attribute__((vector_size(2 * LANES)));
#define ZERO ((vec){0})

/* bfloat16 is the upper half of a float32, rounded to the nearest, to even where two are near. */
INLINE vec widened(hvec h) { return (vec)(__builtin_convertvector(h, uvec) << 16); }

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

/* The first n of LANES numbers, and zeros. */
INLINE vec load_some(const void *p, size_t i, int half, int n) {
    if (n >= LANES) return load(p, i, half);
    vec room = ZERO;
    memcpy(&room, (const char *)p + (i << (2 - half)), (size_t)n << (2 - half));
    return load(&room, 0, half);
}

INLINE void store_some(void *p, size_t i, vec v, int half, int n) {
    if (n >= LANES) {
        store(p, i, v, half);
        return;
    }
    vec room = ZERO;
    store(&room, 0, v, half);
    memcpy((char *)p + (i << (2 - half)), &room, (size_t)n << (2 - half));
}

/* Two vectors as LANES pairs of bfloat16, the first of each pair from a. */
INLINE uvec paired(vec a, vec b) {
    return __builtin_convertvector(narrowed(a), uvec) | __builtin_convertvector(narrowed(b), uvec) << 16;
}
#endif
