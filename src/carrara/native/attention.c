/* softmax(q k^T / sqrt(D)) v for few tokens, forwards and backwards, one head of one image after the other, without a copy of q, k or v.
 *
 * q, k, v: (B, N, heads, D) inside of wider rows: `stride` numbers from a token to the next, D from a head to the next, float32 or
 * bfloat16 (`half`); bias: (3, heads, D), float32, added to them where given. o, do: as q, with stride heads D. The products are
 * as in winograd.c; softmax is float32.
 *
 * COLUMNS queries are taken at a time, one a lane, so that a softmax runs down the keys and its scores stay in the first cache.
 */
#include "activation.h"
#include "product.h"
#include <math.h>

/* n tokens, as keys rounded up to kp and as queries to np; width d, rounded up to dp. */
typedef struct { int n, d, kp, np, dp, half, coarse; } Head;
typedef struct { const void *x; size_t stride; const float *bias; } Rows; /* numbers (n, d), and what is added to each row, or NULL */

#define MANY 16 /* rows of products that are LANES wide; kp and np are multiples of it */
/* Words from a row of (n, dp) to the next, and words that hold its D numbers. */
#define APART (s.dp >> s.coarse)
#define DEEP ((s.d + s.coarse) >> s.coarse)

INLINE vec at(Rows r, Head s, int token, int k) {
    if (token >= s.n) return ZERO;
    vec number = load_some(r.x, token * r.stride + k, s.half, s.d - k);
    return r.bias ? number + load_some(r.bias, k, 0, s.d - k) : number;
}

/* x · by from token `first` on, as the left factor of a product over D: (count, dp) numbers. */
INLINE void rows(uint32_t *to, Rows x, float by, int first, int count, Head s) {
    for (int i = 0; i < count; i++)
        for (int k = 0; k < s.dp; k += LANES) store(to, (size_t)i * s.dp + k, k < s.d ? at(x, s, first + i, k) * by : ZERO, s.coarse);
}

/* The same of COLUMNS tokens as the right factor of a product over D: (DEEP, COLUMNS). */
INLINE void turned(uint32_t *to, uint32_t *room, Rows x, float by, int first, Head s) {
    rows(room, x, by, first, COLUMNS, s);
    for (int i = 0; i < COLUMNS; i++)
        for (int p = 0; p < DEEP; p++) to[p * COLUMNS + i] = room[i * APART + p];
}

/* x as the right factor of a product over the tokens: (dp / columns, count words, columns), tokens in pairs where coarse. */
INLINE void stacked(uint32_t *to, Rows x, int count, Head s) {
    const int columns = s.dp == LANES ? LANES : COLUMNS;
    for (int token = 0; token < count; token += 1 << s.coarse)
        for (int k = 0; k < s.dp; k += LANES) {
            vec first = k < s.d ? at(x, s, token, k) : ZERO, second = k < s.d && s.coarse ? at(x, s, token + 1, k) : ZERO;
            uvec u = s.coarse ? paired(first, second) : (uvec)first;
            memcpy(to + (((size_t)k / columns * count + token) >> s.coarse) * columns + k % columns, &u, sizeof u);
        }
}

/* c (kp, COLUMNS) = a b: keys by queries, the sum over D. */
INLINE void scored_by(float *c, const uint32_t *a, const uint32_t *b, const int coarse, Head s) {
    for (int i = 0; i < s.kp; i += CROSS)
        product(CROSS, 2, coarse, a + (size_t)i * APART, APART, 1, b, COLUMNS, c + i * COLUMNS, COLUMNS, DEEP, 0);
}

/* c (count, dp) = a b, the sum over `deep` words; a's rows ai apart and its depth ap. */
INLINE void mixed_by(float *c, const uint32_t *a, size_t ai, size_t ap, const uint32_t *b, int count, int deep, const int coarse, Head s) {
    if (s.dp == LANES)
        for (int i = 0; i < count; i += MANY) product(MANY, 1, coarse, a + i * ai, ai, ap, b, LANES, c + i * LANES, LANES, deep, 0);
    else
        for (int j = 0; j < s.dp; j += COLUMNS, b += (size_t)deep * COLUMNS)
            for (int i = 0; i < count; i += CROSS)
                product(CROSS, 2, coarse, a + i * ai, ai, ap, b, COLUMNS, c + (size_t)i * s.dp + j, s.dp, deep, 0);
}

/* The same as functions of their own, in which nothing else takes registers. */
ALONE void scored(float *c, const uint32_t *a, const uint32_t *b, Head s) {
    if (s.coarse) scored_by(c, a, b, 1, s);
    else scored_by(c, a, b, 0, s);
}

ALONE void mixed(float *c, const uint32_t *a, size_t ai, size_t ap, const uint32_t *b, int count, int deep, Head s) {
    if (s.coarse) mixed_by(c, a, ai, ap, b, count, deep, 1, s);
    else mixed_by(c, a, ai, ap, b, count, deep, 0, s);
}

/* Row `key` of numbers of COLUMNS queries, and the next, as a right factor's pair or a row of its own. */
INLINE void keep_pair(uint32_t *to, int key, int part, vec first, vec second, Head s) {
    uvec u = s.coarse ? paired(first, second) : (uvec)first;
    memcpy(to + (key >> s.coarse) * COLUMNS + part, &u, sizeof u);
}

/* Scores (kp, COLUMNS) -> e^(score - the query's largest) over them, keys in pairs where coarse, 0 beyond the n of them;
 * sums: of each query; log_sum: the logarithm of what softmax divides by. */
INLINE void softened(float *w, float *sums, float *log_sum, Head s) {
    vec top[2], sum[2] = {ZERO, ZERO};
    for (int part = 0; part < 2; part++) top[part] = load(w, part * LANES, 0);
    for (int key = 1; key < s.n; key++)
        for (int part = 0; part < 2; part++) top[part] = larger(top[part], load(w, key * COLUMNS + part * LANES, 0));
    for (int key = 0; key < s.kp; key += 1 << s.coarse)
        for (int part = 0; part < 2; part++) {
            vec e[2] = {ZERO, ZERO};
            for (int i = 0; i <= s.coarse; i++)
                if (key + i < s.n) e[i] = power(load(w, (key + i) * COLUMNS + part * LANES, 0) - top[part], s.coarse);
            keep_pair((uint32_t *)w, key, part * LANES, e[0], e[1], s);
            sum[part] += e[0] + e[1];
        }
    for (int part = 0; part < 2; part++) {
        store(sums, part * LANES, sum[part], 0);
        store(log_sum, part * LANES, top[part] + logarithm(sum[part]), 0);
    }
}

/* Numbers (count, d) of c (count, dp), times `by` and divided by each row's `over` where given, into rows `stride` apart. */
INLINE void put(void *to, size_t stride, const float *c, float by, const float *over, int count, Head s) {
    for (int i = 0; i < count; i++) {
        float factor = over ? by / over[i] : by;
        for (int k = 0; k < s.d; k += LANES) store_some(to, i * stride + k, load(c, (size_t)i * s.dp + k, 0) * factor, s.half, s.d - k);
    }
}

/* Adds the sum of the rows of c (count, dp), times `by`, to `sums` (d). */
INLINE void add_rows(float *sums, const float *c, float by, int count, Head s) {
    for (int k = 0; k < s.d; k += LANES) {
        vec sum = ZERO;
        for (int i = 0; i < count; i++) sum += load(c, (size_t)i * s.dp + k, 0);
        store_some(sums, k, load_some(sums, k, 0, s.d - k) + sum * by, 0, s.d - k);
    }
}

static Head headed(int n, int d, int half, int coarse) {
    return (Head){n, d, ROUND(n, MANY), ROUND(n, COLUMNS), d > LANES ? ROUND(d, COLUMNS) : LANES, half, coarse};
}

/* Words of all tokens' numbers, of those of COLUMNS queries, and of those queries by all keys. */
#define SIDE ((size_t)s.np * s.dp)
#define STRIP ((size_t)COLUMNS * s.dp)
#define SCORES ((size_t)s.kp * COLUMNS)
#define NUMBERS(p, i) ((const void *)((const char *)(p) + ((size_t)(i) << (2 - half))))
#define ROWS_OF(p, which) ((Rows){NUMBERS(p, IN), stride, bias ? bias + ((size_t)(which) * heads + i % heads) * d : NULL})

/* A thread's part of the heads of all images, `i`; where each one's numbers begin, in q, k and v and in o; `head` for what they are. */
#define HEADS_OF(part) for (long i = (long)b * heads * (part) / threads; i < (long)b * heads * ((part) + 1) / threads; i++)
#define IN ((size_t)(i / heads) * n * stride + i % heads * d)
#define OUT (((size_t)(i / heads) * n * heads + i % heads) * d)
#define BY_KIND(head) if (coarse) head(1, 1); else if (half) head(1, 0); else head(0, 0);
#define FROM(p, first) ((void *)((char *)(p) + ((size_t)(first) << (2 - s.half))))
/* The queries of a block that begins at `first`. */
#define COUNT(first) ((s.n - (first)) < COLUMNS ? s.n - (first) : COLUMNS)

/* Words that a thread works in. */
static size_t room_of(Head s, int back) {
    return back ? 6 * SIDE + 2 * (size_t)s.kp * s.np + 2 * STRIP + 2 * SCORES : 2 * SIDE + 3 * STRIP + SCORES;
}

INLINE void attend_head(Rows q, Rows k, Rows v, void *o, size_t out, float *log_sum, uint32_t *room, Head s) {
    const float by = 1 / sqrtf((float)s.d);
    uint32_t *keys = room, *values = keys + SIDE, *queries = values + SIDE, *between = queries + STRIP;
    float *made = (float *)(between + STRIP), *weights = made + STRIP;
    rows(keys, k, 1, 0, s.kp, s);
    stacked(values, v, s.kp, s);
    for (int first = 0; first < s.n; first += COLUMNS) {
        float sums[COLUMNS], logs[COLUMNS];
        turned(queries, between, q, by, first, s);
        scored(weights, keys, queries, s);
        softened(weights, sums, logs, s);
        mixed(made, (uint32_t *)weights, 1, COLUMNS, values, COLUMNS, s.kp >> s.coarse, s);
        put(FROM(o, first * out), out, made, 1, sums, COUNT(first), s);
        memcpy(log_sum + first, logs, 4 * COUNT(first));
    }
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
                                       log_sum + i * n, rooms + each * part, (Head){n, d, s.kp, s.np, s.dp, half, coarse})
            BY_KIND(HEAD)
#undef HEAD
        }
    free(rooms);
    return 0;
}

/* Weights and their changes, of COLUMNS queries from `first` on, from scores w and from what the weights' slopes are, dw: natural in
 * `weights` and `changes`, (kp, np) with queries in pairs where coarse, and in place of w the changes with the keys in pairs. */
INLINE void slopes(uint32_t *weights, uint32_t *changes, float *w, const float *dw, const float *log_sum, const float *inner, int first,
                   Head s) {
    for (int part = 0; part < COLUMNS; part += LANES) {
        vec less = load(log_sum, part, 0), mean = load(inner, part, 0);
        for (int key = 0; key < s.kp; key += 1 << s.coarse) {
            vec d[2] = {ZERO, ZERO};
            for (int i = 0; i <= s.coarse; i++) {
                int row = (key + i) * COLUMNS + part;
                size_t to = (size_t)(key + i) * s.np + first + part;
                vec p = key + i < s.n ? power(load(w, row, 0) - less, s.coarse) : ZERO;
                d[i] = p * (load(dw, row, 0) - mean);
                store(weights, to, p, s.coarse);
                store(changes, to, d[i], s.coarse);
            }
            keep_pair((uint32_t *)w, key, part, d[0], d[1], s);
        }
    }
}

/* For COLUMNS queries: what softmax divided by, and the mean of their weights' slopes; nothing for those beyond the n of them. */
INLINE void inner_of(float *inner, float *logs, Rows o, Rows slope, const float *log_sum, int first, Head s) {
    for (int i = 0; i < COLUMNS; i++) {
        vec sum = ZERO;
        for (int k = 0; k < s.d; k += LANES) sum += at(o, s, first + i, k) * at(slope, s, first + i, k);
        inner[i] = total(sum);
        logs[i] = first + i < s.n ? log_sum[first + i] : 0;
    }
}

INLINE void attend_head_adjoint(Rows q, Rows k, Rows v, Rows o, Rows slope, const float *log_sum, void *dq, void *dk, void *dv, float *db,
                                size_t apart, uint32_t *room, Head s) {
    const float by = 1 / sqrtf((float)s.d);
    const int tall = s.np >> s.coarse;
    uint32_t *keys = room, *values = keys + SIDE, *stack = values + SIDE, *stacked_q = stack + SIDE, *stacked_slope = stacked_q + SIDE;
    uint32_t *weights = stacked_slope + SIDE, *changes = weights + (size_t)s.kp * s.np;
    uint32_t *queries = changes + (size_t)s.kp * s.np, *between = queries + STRIP;
    float *scores = (float *)(between + STRIP), *dw = scores + SCORES, *made = dw + SCORES;
    rows(keys, k, 1, 0, s.kp, s);
    rows(values, v, 1, 0, s.kp, s);
    stacked(stack, k, s.kp, s);
    stacked(stacked_q, q, s.np, s);
    stacked(stacked_slope, slope, s.np, s);
    for (int first = 0; first < s.n; first += COLUMNS) {
        float inner[COLUMNS], logs[COLUMNS];
        turned(queries, between, q, by, first, s);
        scored(scores, keys, queries, s);
        turned(queries, between, slope, 1, first, s);
        scored(dw, values, queries, s);
        inner_of(inner, logs, o, slope, log_sum, first, s);
        slopes(weights, changes, scores, dw, logs, inner, first, s);
        mixed(made, (uint32_t *)scores, 1, COLUMNS, stack, COLUMNS, s.kp >> s.coarse, s);
        put(FROM(dq, first * q.stride), q.stride, made, by, NULL, COUNT(first), s);
        add_rows(db, made, by, COUNT(first), s);
    }
    mixed(made, weights, tall, 1, stacked_slope, s.kp, tall, s);
    put(dv, v.stride, made, 1, NULL, s.n, s);
    add_rows(db + 2 * apart, made, 1, s.n, s);
    mixed(made, changes, tall, 1, stacked_q, s.kp, tall, s);
    put(dk, k.stride, made, by, NULL, s.n, s);
    add_rows(db + apart, made, by, s.n, s);
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
                                               (Head){n, d, s.kp, s.np, s.dp, half, coarse})
            BY_KIND(HEAD)
#undef HEAD
        }
    added_up(db, sums, (int)(3 * wide), threads);
    free(rooms);
    free(sums);
    return 0;
}
