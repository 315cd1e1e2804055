/* softmax(q k^T / sqrt(D)) v for few tokens, forwards and backwards, one head of one image after the other, without a copy of q, k or v.
 *
 * q, k, v: (B, N, heads, D) inside of wider rows: `stride` numbers from a token to the next, D from a head to the next, float32 or
 * bfloat16 (`half`); bias: (3, heads, D), float32, added to them where given. o, do: as q, with stride heads D. The products are as in winograd.c; softmax is float32.
 */
#include "activation.h"
#include "product.h"
#include <math.h>

typedef struct { int n, d, np, dp, half, coarse; } Head; /* tokens, width; both rounded up to COLUMNS */
typedef struct { const void *x; size_t stride; const float *bias; } Rows; /* numbers (n, d), and what is added to each row, or NULL */

/* Words from a row of (np, dp) to the next, and words that hold its D numbers. */
#define APART (s.dp >> s.coarse)
#define DEEP ((s.d + s.coarse) >> s.coarse)

INLINE vec at(Rows r, Head s, int token, int k) {
    if (token >= s.n) return ZERO;
    vec number = load_some(r.x, token * r.stride + k, s.half, s.d - k);
    return r.bias ? number + load_some(r.bias, k, 0, s.d - k) : number;
}

/* x · by as the left factor of a product over D: (np, dp) numbers. */
INLINE void rows(uint32_t *to, Rows x, float by, Head s) {
    for (int token = 0; token < s.np; token++)
        for (int k = 0; k < s.dp; k += LANES) store(to, (size_t)token * s.dp + k, k < s.d ? at(x, s, token, k) * by : ZERO, s.coarse);
}

/* Rows (np, dp) as the right factor of a product over D: (DEEP, np). */
INLINE void turned(uint32_t *to, const uint32_t *from, Head s) {
    for (int first = 0; first < DEEP; first += LANES) /* a cache line of each row at a time */
        for (int token = 0; token < s.np; token++)
            for (int p = first; p < first + LANES && p < DEEP; p++) to[(size_t)p * s.np + token] = from[(size_t)token * APART + p];
}

/* x as the right factor of a product over the tokens: (np words, dp), tokens in pairs where coarse. */
INLINE void stacked(uint32_t *to, Rows x, Head s) {
    for (int token = 0; token < s.np; token += 1 << s.coarse)
        for (int k = 0; k < s.dp; k += LANES) {
            vec first = k < s.d ? at(x, s, token, k) : ZERO, second = k < s.d && s.coarse ? at(x, s, token + 1, k) : ZERO;
            uvec u = s.coarse ? paired(first, second) : (uvec)first;
            memcpy(to + (size_t)(token >> s.coarse) * s.dp + k, &u, sizeof u);
        }
}

/* Weights (np, np), float32, as the left factor of a product over their columns, or of one over their rows, in pairs where coarse. */
INLINE void by_columns(uint32_t *to, const float *w, Head s) {
    for (size_t i = 0; i < (size_t)s.np * s.np; i += LANES) store(to, i, load(w, i, 0), s.coarse);
}

INLINE void by_rows(uint32_t *to, const float *w, Head s) {
    for (int i = 0; i < s.np; i += 1 << s.coarse)
        for (int j = 0; j < s.np; j += LANES) {
            vec first = load(w, (size_t)i * s.np + j, 0);
            uvec u = s.coarse ? paired(first, load(w, (size_t)(i + 1) * s.np + j, 0)) : (uvec)first;
            memcpy(to + (size_t)(i >> s.coarse) * s.np + j, &u, sizeof u);
        }
}

/* c (np, columns) = a b, the sum over `deep` words; a's rows ai apart and its depth ap. */
INLINE void multiplied(float *c, const uint32_t *a, size_t ai, size_t ap, const uint32_t *b, int columns, int deep, Head s) {
    for (int j = 0; j < columns; j += COLUMNS)
        for (int i = 0; i < s.np; i += CROSS)
            product(CROSS, s.coarse, a + i * ai, ai, ap, b + j, columns, c + (size_t)i * columns + j, columns, deep, 0);
}

/* Scores (np, np) -> e^(score - the row's largest) as the left factor of a product over the tokens, 0 beyond the n of them;
 * sums (n): of each row; log_sum (n): the logarithm of what softmax divides by. */
INLINE void softened(uint32_t *to, float *w, float *sums, float *log_sum, Head s) {
    for (int i = 0; i < s.n; i++) {
        float *row = w + (size_t)i * s.np, most = row[0];
        for (int j = s.n; j < s.np; j++) row[j] = -1e30f; /* finite, so that nothing is infinity less infinity */
        vec top = load(row, 0, 0), sum = ZERO;
        for (int j = LANES; j < s.np; j += LANES) {
            vec each = load(row, j, 0);
            top = chosen(each > top, each, top);
        }
        for (int lane = 0; lane < LANES; lane++) most = fmaxf(most, top[lane]);
        for (int j = 0; j < s.np; j += LANES) {
            vec e = power(load(row, j, 0) - most, s.coarse);
            store(to, (size_t)i * s.np + j, e, s.coarse);
            sum += e;
        }
        sums[i] = total(sum);
        log_sum[i] = most + logf(sums[i]);
    }
    for (size_t i = (size_t)s.n * s.np; i < (size_t)s.np * s.np; i += LANES) store(to, i, ZERO, s.coarse);
}

/* The numbers (n, d) of c (np, dp), times `by` and divided by each row's `over` where given, into rows `stride` apart. */
INLINE void put(void *to, size_t stride, const float *c, float by, const float *over, Head s) {
    for (int i = 0; i < s.n; i++) {
        float factor = over ? by / over[i] : by;
        for (int k = 0; k < s.d; k += LANES) store_some(to, i * stride + k, load(c, (size_t)i * s.dp + k, 0) * factor, s.half, s.d - k);
    }
}

/* Adds the sum of the rows of c (np, dp), times `by`, to `sums` (d). */
INLINE void add_rows(float *sums, const float *c, float by, Head s) {
    for (int k = 0; k < s.d; k += LANES) {
        vec sum = ZERO;
        for (int i = 0; i < s.n; i++) sum += load(c, (size_t)i * s.dp + k, 0);
        store_some(sums, k, load_some(sums, k, 0, s.d - k) + sum * by, 0, s.d - k);
    }
}

static Head headed(int n, int d, int half, int coarse) { return (Head){n, d, ROUND(n, COLUMNS), ROUND(d, COLUMNS), half, coarse}; }

#define SIDE ((size_t)s.np * s.dp)
#define SQUARE ((size_t)s.np * s.np)
#define NUMBERS(p, i) ((const void *)((const char *)(p) + ((size_t)(i) << (2 - half))))
#define ROWS_OF(p, which) ((Rows){NUMBERS(p, IN), stride, bias ? bias + ((size_t)(which) * heads + i % heads) * d : NULL})

/* A thread's part of the heads of all images, `i`; where each one's numbers begin, in q, k and v and in o; `head` for what they are. */
#define HEADS_OF(part) for (long i = (long)b * heads * (part) / threads; i < (long)b * heads * ((part) + 1) / threads; i++)
#define IN ((size_t)(i / heads) * n * stride + i % heads * d)
#define OUT (((size_t)(i / heads) * n * heads + i % heads) * d)
#define BY_KIND(head) if (coarse) head(1, 1); else if (half) head(1, 0); else head(0, 0);

/* Words that a thread works in. */
static size_t room_of(Head s, int back) { return 4 * SIDE + (back ? 3 : 2) * SQUARE + s.np; }

INLINE void attend_head(Rows q, Rows k, Rows v, void *o, size_t out, float *log_sum, uint32_t *room, Head s) {
    const float by = 1 / sqrtf((float)s.d);
    uint32_t *left = room, *right = left + SIDE, *kept = right + SIDE;
    float *weights = (float *)(kept + SIDE), *made = weights + SQUARE;
    rows(left, k, 1, s);
    turned(right, left, s);
    rows(left, q, by, s);
    multiplied(weights, left, APART, 1, right, s.np, DEEP, s);
    uint32_t *shares = (uint32_t *)(made + SIDE);
    float *sums = (float *)(shares + SQUARE);
    softened(shares, weights, sums, log_sum, s);
    stacked(kept, v, s);
    multiplied(made, shares, s.np >> s.coarse, 1, kept, s.dp, s.np >> s.coarse, s);
    put(o, out, made, 1, sums, s);
}

/* o = softmax(q k^T / sqrt(D)) v; log_sum: (B, heads, N), for the way back. Returns 0, or 1 where there is no memory. */
int carrara_attend(const void *q, const void *k, const void *v, int stride, const float *bias, void *o, float *log_sum, int b, int heads, int n, int d,
                   int half, int coarse, int threads) {
    Head s = headed(n, d, half, coarse);
    size_t each = ROUND(room_of(s, 0), 16);
    uint32_t *rooms = aligned_alloc(64, 4 * each * threads);
    if (!rooms) return 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; part++)
        HEADS_OF(part) {
#define HEAD(half, coarse) attend_head(ROWS_OF(q, 0), ROWS_OF(k, 1), ROWS_OF(v, 2), (void *)NUMBERS(o, OUT), (size_t)heads * d, \
                                       log_sum + i * n, rooms + each * part, (Head){n, d, s.np, s.dp, half, coarse})
            BY_KIND(HEAD)
#undef HEAD
        }
    free(rooms);
    return 0;
}

INLINE void attend_head_adjoint(Rows q, Rows k, Rows v, Rows o, Rows slope, const float *log_sum, void *dq, void *dk, void *dv, float *db,
                                size_t apart, uint32_t *room, Head s) {
    const float by = 1 / sqrtf((float)s.d);
    const int tall = s.np >> s.coarse;
    uint32_t *left = room, *right = left + SIDE, *stack = right + SIDE, *factor = stack + SIDE;
    float *made = (float *)(factor + SQUARE), *weights = made + SIDE, *changes = weights + SQUARE;
    rows(left, k, 1, s);
    turned(right, left, s);
    rows(left, q, by, s);
    multiplied(weights, left, APART, 1, right, s.np, DEEP, s);
    rows(left, v, 1, s);
    turned(right, left, s);
    rows(left, slope, 1, s);
    multiplied(changes, left, APART, 1, right, s.np, DEEP, s);
    for (int i = 0; i < s.np; i++) {
        vec sum = ZERO;
        for (int c = 0; c < s.d; c += LANES) sum += at(o, s, i, c) * at(slope, s, i, c);
        float *w = weights + (size_t)i * s.np, *dw = changes + (size_t)i * s.np, inner = total(sum);
        for (int j = 0; j < s.np; j += LANES) {
            vec p = i < s.n ? power(load(w, j, 0) - log_sum[i], s.coarse) : ZERO;
            for (int lane = s.n - j; lane < LANES; lane++) if (lane >= 0) p[lane] = 0;
            store(w, j, p, 0);
            store(dw, j, p * (load(dw, j, 0) - inner), 0);
        }
    }
    by_rows(factor, weights, s);
    stacked(stack, slope, s);
    multiplied(made, factor, 1, s.np, stack, s.dp, tall, s);
    put(dv, v.stride, made, 1, NULL, s);
    add_rows(db + 2 * apart, made, 1, s);
    by_rows(factor, changes, s);
    stacked(stack, q, s);
    multiplied(made, factor, 1, s.np, stack, s.dp, tall, s);
    put(dk, k.stride, made, by, NULL, s);
    add_rows(db + apart, made, by, s);
    by_columns(factor, changes, s);
    stacked(stack, k, s);
    multiplied(made, factor, tall, 1, stack, s.dp, tall, s);
    put(dq, q.stride, made, by, NULL, s);
    add_rows(db, made, by, s);
}

/* slope, the gradient of o -> dq, dk, dv, laid out as q, k, v are, and db (3, heads, D), their sum over all tokens.
 * Returns 0, or 1 where there is no memory. */
int carrara_attend_adjoint(const void *q, const void *k, const void *v, int stride, const float *bias, const void *o, const void *slope,
                           const float *log_sum, void *dq, void *dk, void *dv, float *db, int b, int heads, int n, int d, int half,
                           int coarse, int threads) {
    Head s = headed(n, d, half, coarse);
    size_t each = ROUND(room_of(s, 1), 16), wide = (size_t)heads * d;
    uint32_t *rooms = aligned_alloc(64, 4 * each * threads);
    float *sums = calloc(3 * wide * threads, 4);
    if (!rooms || !sums) { free(rooms); free(sums); return 1; }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; part++)
        HEADS_OF(part) {
#define FLAT(p) ((Rows){NUMBERS(p, OUT), wide, NULL})
#define HEAD(half, coarse) attend_head_adjoint(ROWS_OF(q, 0), ROWS_OF(k, 1), ROWS_OF(v, 2), FLAT(o), FLAT(slope), log_sum + i * n, \
                                               (void *)NUMBERS(dq, IN), (void *)NUMBERS(dk, IN), (void *)NUMBERS(dv, IN), \
                                               sums + 3 * wide * part + i % heads * d, wide, rooms + each * part, \
                                               (Head){n, d, s.np, s.dp, half, coarse})
            BY_KIND(HEAD)
#undef HEAD
        }
    added_up(db, sums, (int)(3 * wide), threads);
    free(rooms);
    free(sums);
    return 0;
}
