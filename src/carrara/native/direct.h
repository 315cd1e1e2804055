/* What winograd.c leaves to matrix tiles, where `coarse` is TILED; each as the function there that is called so. */
#ifndef CARRARA_DIRECT_H
#define CARRARA_DIRECT_H
#include <stddef.h>
#include <stdint.h>

size_t direct_packed(int c, int k);
void direct_pack(const float *w, ptrdiff_t sk, ptrdiff_t sc, ptrdiff_t si, ptrdiff_t sj, uint32_t *packed, int c, int k, int threads);
int direct_convolve(const void *x, const uint32_t *packed, const float *bias, const void *more, void *y, int n, int h, int w, int c, int k,
                    int threads);
int direct_weights(const void *x, const void *dy, float *dw, float *db, int n, int h, int w, int c, int k, int threads);
#endif
