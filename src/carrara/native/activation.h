/* e^z and what is made of it, and sums. */
#ifndef CARRARA_ACTIVATION_H
#define CARRARA_ACTIVATION_H
#include "vec.h"

/* a where the mask is set, b elsewhere. */
INLINE vec chosen(ivec mask, vec a, vec b) { return (vec)((mask & (ivec)a) | (~mask & (ivec)b)); }

INLINE vec larger(vec a, vec b) {
#ifdef __AVX512F__
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#else
    return chosen(a > b, a, b);
#endif
}

/* p 2^whole, for whole numbers. */
INLINE vec scaled_by_power(vec p, vec whole) {
#ifdef __AVX512F__
    return (vec)_mm512_scalef_ps((__m512)p, (__m512)whole);
#else
    whole = chosen(whole < -126.0f, ZERO - 126.0f, whole);
    return p * (vec)((__builtin_convertvector(chosen(whole > 127.0f, ZERO + 127.0f, whole), ivec) + 127) << 23);
#endif
}

/* e^z to 2 units in the last place: 2^n of the whole part, a polynomial of the rest. 0 and infinity where it is too small or large. */
INLINE vec exponential(vec z) {
    z = chosen(z < -104.0f, ZERO - 104.0f, chosen(z > 89.0f, ZERO + 89.0f, z));
    vec whole = z * 1.44269504f + 12582912.0f - 12582912.0f;
    vec r = z - whole * 0.693359375f + whole * 2.12194440e-4f;
    vec p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return scaled_by_power(p, whole);
}

/* 1 / v, for v >= 1, infinity included. */
INLINE vec reciprocal(vec v) {
#ifdef __AVX512F__
    vec guess = (vec)_mm512_rcp14_ps((__m512)v);
    vec better = guess * (2.0f - v * guess);
    return chosen(v < 3e38f, better, guess);
#else
    return 1.0f / v;
#endif
}

/* e^z; rough: to 2e-4 of itself, a tenth of what bfloat16 rounds away. */
INLINE vec power(vec z, const int rough) {
#ifdef __AVX512F__
    if (rough) {
        vec t = z * 1.44269504f, whole = (vec)_mm512_roundscale_ps((__m512)t, _MM_FROUND_TO_NEAREST_INT), f = t - whole;
        return scaled_by_power(((0.0558f * f + 0.24022f) * f + 0.69315f) * f + 1.0f, whole);
    }
#endif
    return exponential(z);
}

/* ln v, for v >= 1e-30: a guess from the bits, and Halley's step twice. */
INLINE vec logarithm(vec v) {
    vec guess = __builtin_convertvector((ivec)v - (127 << 23), vec) * (0.69314718f / 8388608.0f);
    for (int step = 0; step < 2; step++) {
        vec e = exponential(guess);
        guess += 2.0f * (v - e) / (v + e);
    }
    return guess;
}

/* 1 / (1 + e^-z), as rough. */
INLINE vec sigmoid(vec z, const int rough) {
#ifdef __AVX512F__
    if (rough) return (vec)_mm512_rcp14_ps((__m512)(1.0f + power(-z, 1)));
#endif
    return reciprocal(1.0f + exponential(-z));
}

static float total(vec v) {
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += v[lane];
    return sum;
}

/* sums (threads, c) -> their sum over the threads, in their order. */
static inline void added_up(float *to, const float *sums, int c, int threads) {
    memset(to, 0, 4 * (size_t)c);
    for (int part = 0; part < threads; part++)
        for (int k = 0; k < c; k++) to[k] += sums[(size_t)part * c + k];
}
#endif
