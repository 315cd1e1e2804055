/* What comes after a matrix product, with the product's bias added on the way: SiLU, and the sum through a gate. A pass each.
 *
 * Numbers are float32 or bfloat16 (`half`), biases and gates float32; everything inside is float32.
 */
#include "activation.h"

/* Rows of `part` out of `threads`. */
#define ROWS_OF(part, rows) for (long row = (long)(rows) * (part) / threads; row < (long)(rows) * ((part) + 1) / threads; row++)

/* y = SiLU(x + bias), rows of c. */
void carrara_silu(const void *x, const float *bias, void *y, long rows, int c, int half, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long row = 0; row < rows; row++)
        for (int k = 0; k < c; k += LANES) {
            vec z = load_some(x, row * c + k, half, c - k) + load_some(bias, k, 0, c - k);
            store_some(y, row * c + k, z * sigmoid(z, half), half, c - k);
        }
}

/* dy -> dx, and db (c), its sum over the rows. Returns 0, or 1 where there is no memory. */
int carrara_silu_adjoint(const void *x, const float *bias, const void *dy, void *dx, float *db, long rows, int c, int half, int threads) {
    float *sums = calloc((size_t)threads * c, 4);
    if (!sums) return 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; part++)
        ROWS_OF(part, rows)
            for (int k = 0; k < c; k += LANES) {
                const int some = c - k;
                float *sum = sums + (size_t)part * c;
                vec z = load_some(x, row * c + k, half, some) + load_some(bias, k, 0, some), on = sigmoid(z, half);
                vec d = load_some(dy, row * c + k, half, some) * on * (1.0f + z * (1.0f - on));
                store_some(dx, row * c + k, d, half, some);
                store_some(sum, k, load_some(sum, k, 0, some) + d, 0, some);
            }
    added_up(db, sums, c, threads);
    free(sums);
    return 0;
}

/* The gate (N, C) of an image, and the bias (C): 1 and 0 where not given. */
INLINE vec gate_of(const float *gate, size_t at, int some) { return gate ? load_some(gate, at, 0, some) : ZERO + 1.0f; }
INLINE vec bias_of(const float *bias, int k, int some) { return bias ? load_some(bias, k, 0, some) : ZERO; }

/* y = x + gate (branch + bias), gate (N, C) for all P tokens of an image. */
void carrara_gated(const void *x, const float *gate, const void *branch, const float *bias, void *y, int n, int tokens, int c, int half,
                   int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int token = 0; token < n * tokens; token++)
        for (int k = 0; k < c; k += LANES) {
            size_t at = (size_t)token * c + k;
            vec g = gate_of(gate, (size_t)(token / tokens) * c + k, c - k), b = bias_of(bias, k, c - k);
            store_some(y, at, load_some(x, at, half, c - k) + g * (load_some(branch, at, half, c - k) + b), half, c - k);
        }
}

/* dy -> the gradients of gate (N, C), branch (N, P, C) and, for each image, of bias (N, C); that of x is dy itself. */
void carrara_gated_adjoint(const float *gate, const void *branch, const float *bias, const void *dy, float *dgate, void *dbranch, float *db,
                           int n, int tokens, int c, int half, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int image = 0; image < n; image++)
        for (int k = 0; k < c; k += LANES) {
            size_t row = (size_t)image * c + k;
            vec g = gate_of(gate, row, c - k), b = bias_of(bias, k, c - k), sum = ZERO, with = ZERO;
            for (int token = 0; token < tokens; token++) {
                size_t at = ((size_t)image * tokens + token) * c + k;
                vec d = load_some(dy, at, half, c - k);
                sum += d;
                with += d * (load_some(branch, at, half, c - k) + b);
                store_some(dbranch, at, d * g, half, c - k);
            }
            store_some(dgate, row, with, 0, c - k);
            store_some(db, row, sum * g, 0, c - k);
        }
}
