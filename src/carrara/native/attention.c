/* softmax(q k^T / sqrt(D)) v for few tokens, forwards and backwards, one head of one image after the other, without a copy of q, k or v.
 *
 * q, k, v: (B, N, heads, D) inside of wider rows: `stride` numbers from a token to the next, D from a head to the next, float32 or
 * bfloat16 (`half`); bias: (3, heads, D), float32, added to them where given. o, do: as q, with stride heads D. The products are
 * as in winograd.c; softmax is float32.
 *
 * turn: (N, 2, D), float32, or NULL: each token's q and k, with their bias, are turned by it where they are read, their numbers in pairs:
 * (a, b) -> (a cos - b sin, b cos + a sin); first the cosines (c, c), then the sines (-s, s) of each pair. The gradients are turned back.
 * prefix: query i sees keys 0 ... max(prefix, i + 1) - 1; N: all. What no query of a block sees is not computed.
 *
 * COLUMNS queries are taken at a time, one a lane, so that a softmax runs down the keys and its scores stay in the first cache.
 */
#include "activation.h"
#include "tiles.h"
#include <math.h>

#define MANY 16 /* rows of products that are LANES wide; kp and np are multiples of it */

/* n tokens, as keys rounded up to kp and as queries to np; width d, rounded up to dp; `prefix` keys are seen by all. Tiled: coarse, by
 * matrix tiles, and all of these are multiples of SQUARE. */
typedef struct { int n, d, kp, np, dp, prefix, half, coarse, tiled; } Head;
/* Numbers (n, d), what is added to each row, or NULL, and what they are turned by, or NULL. */
typedef struct { const void *x; size_t stride; const float *bias, *turn; } Rows;

/* Words from a row of (n, dp) to the next, and words that hold its D numbers. */
#define APART (s.dp >> s.coarse)
#define DEEP (s.tiled ? APART : (s.d + s.coarse) >> s.coarse)

/* LANES numbers of a token from the k-th on, in pairs, turned by its angles (way 1) or back (-1). */
INLINE vec turned_by(vec v, const float *turn, int token, int k, float way, Head s) {
    const float *angles = turn + 2 * (size_t)token * s.d;
    ivec order;
#pragma GCC unroll 16
    for (int lane = 0; lane < LANES; lane++) order[lane] = lane ^ 1;
    return v * load_some(angles, k, 0, s.d - k) + __builtin_shuffle(v, order) * load_some(angles, s.d + k, 0, s.d - k) * way;
}

INLINE vec at(Rows r, Head s, int token, int k) {
    if (token >= s.n) return ZERO;
    vec number = load_some(r.x, token * r.stride + k, s.half, s.d - k);
    if (r.bias) number += load_some(r.bias, k, 0, s.d - k);
    return r.turn ? turned_by(number, r.turn, token, k, 1, s) : number;
}

/* Gradients (count, dp) of turned rows from token `first` on -> those of the rows. */
INLINE void turn_back(float *c, Rows r, int first, int count, Head s) {
    if (!r.turn) return;
    for (int i = 0; i < count; i++)
        for (int k = 0; k < s.d; k += LANES) store(c, (size_t)i * s.dp + k, turned_by(load(c, (size_t)i * s.dp + k, 0), r.turn, first + i, k, -1, s), 0);
}

/* Keys, rounded up, of which queries from `first` on see any; keys that all of them see; the first query, rounded down, that sees `key`. */
INLINE int reach(int first, Head s) {
    int most = s.prefix > first + COLUMNS ? s.prefix : first + COLUMNS;
    return most < s.n ? ROUND(most, s.tiled ? SQUARE : MANY) : s.kp;
}
INLINE int sure(int first, Head s) { return s.prefix > first ? s.prefix : first + 1; }
INLINE int early(int key, Head s) { return key < s.prefix ? 0 : key / COLUMNS * COLUMNS; }

/* v where the queries from `first` on see a key that is not seen by all, 0 where not. */
INLINE vec where_seen(vec v, int key, int first) {
    ivec query;
#pragma GCC unroll 16
    for (int lane = 0; lane < LANES; lane++) query[lane] = lane;
    return (vec)((query + first >= key) & (ivec)v);
}

/* x · by from token `first` on, as the left factor of a product over D: (count, dp) numbers. */
INLINE void rows(uint32_t *to, Rows x, float by, int first, int count, Head s) {
    for (int i = 0; i < count; i++)
        for (int k = 0; k < s.dp; k += LANES) store(to, (size_t)i * s.dp + k, k < s.d ? at(x, s, first + i, k) * by : ZERO, s.coarse);
}

/* The same of COLUMNS tokens as the right factor of a product over D: (DEEP, COLUMNS). */
INLINE void turned(uint32_t *to, uint32_t *room, Rows x, float by, int first, Head s) {
    rows(room, x, by, first, COLUMNS, s);
    if (s.tiled) {
        for (int i = 0; i < COLUMNS; i += LANES)
            for (int p = 0; p < DEEP; p += LANES) transpose_words(to + p * COLUMNS + i, COLUMNS, room + i * APART + p, APART);
        return;
    }
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

/* The same as the left factor: (dp, count) tokens. */
INLINE void standing(uint32_t *to, Rows x, int count, Head s) {
    for (int token = 0; token < count; token += 2 * LANES)
        for (int k = 0; k < s.dp; k += LANES) {
            vec pairs[LANES];
            for (int i = 0; i < LANES; i++)
                pairs[i] = k < s.d ? (vec)paired(at(x, s, token + 2 * i, k), at(x, s, token + 2 * i + 1, k)) : ZERO;
            transpose(pairs);
            for (int i = 0; i < LANES; i++) store(to + ((size_t)(k + i) * count + token) / 2, 0, pairs[i], 0);
        }
}

/* c (keys, COLUMNS) = a b: keys by queries, the sum over D. */
INLINE void scored_by(float *c, const uint32_t *a, const uint32_t *b, int keys, const int coarse, Head s) {
    for (int i = 0; i < keys; i += CROSS)
        product(CROSS, 2, coarse, a + (size_t)i * APART, APART, 1, b, COLUMNS, c + i * COLUMNS, COLUMNS, DEEP, 0);
}

/* The sum over `deep` words from the `from`-th on: a's rows ai apart and its depth ap, b's columns `tall` words high. */
typedef struct { size_t ai, ap; int tall, deep, late; } Sum;

/* c (count, dp) = a b; late: a's rows are keys, and the sum over queries begins with the first that sees a row. */
INLINE void mixed_by(float *c, const uint32_t *a, const uint32_t *b, int count, Sum m, const int coarse, Head s) {
    const int rows = s.dp == LANES ? MANY : CROSS, wide = s.dp == LANES ? 1 : 2;
    for (int j = 0; j < s.dp; j += COLUMNS, b += (size_t)m.tall * COLUMNS)
        for (int i = 0; i < count; i += rows) {
            int from = m.late ? early(i, s) >> s.coarse : 0;
            const uint32_t *left = a + i * m.ai + from * m.ap, *right = b + (size_t)from * wide * LANES;
            float *to = c + (size_t)i * s.dp + j;
            if (wide == 1) product(MANY, 1, coarse, left, m.ai, m.ap, right, LANES, to, LANES, m.deep - from, 0);
            else product(CROSS, 2, coarse, left, m.ai, m.ap, right, COLUMNS, to, s.dp, m.deep - from, 0);
        }
}

INLINE void mixed_tiled(float *c, const uint32_t *a, const uint32_t *b, int count, Sum m, Head s) {
    for (int j = 0; j < s.dp; j += SQUARE, b += (size_t)m.tall * SQUARE)
        for (int i = 0; i < count; i += SQUARE) {
            int from = m.late ? early(i, s) / 2 : 0;
            tiles_product(c + (size_t)i * s.dp + j, s.dp, (const uint16_t *)(a + i * m.ai + from), 2 * m.ai, b + (size_t)from * SQUARE, (m.deep - from) / 16);
        }
}

/* The same as functions of their own, in which nothing else takes registers. */
ALONE void scored(float *c, const uint32_t *a, const uint32_t *b, int keys, Head s) {
    if (s.tiled)
        for (int i = 0; i < keys; i += SQUARE) tiles_product(c + i * COLUMNS, COLUMNS, (const uint16_t *)(a + (size_t)i * APART), s.dp, b, s.dp / SQUARE);
    else if (s.coarse) scored_by(c, a, b, keys, 1, s);
    else scored_by(c, a, b, keys, 0, s);
}

ALONE void mixed(float *c, const uint32_t *a, const uint32_t *b, int count, Sum m, Head s) {
    if (s.tiled) mixed_tiled(c, a, b, count, m, s);
    else if (s.coarse) mixed_by(c, a, b, count, m, 1, s);
    else mixed_by(c, a, b, count, m, 0, s);
}

/* c (COLUMNS, dp) = a b: a (keys, COLUMNS) numbers of queries, keys in pairs where coarse; b `stacked`, or `standing` where tiled, which
 * then is the left factor, since a is a right one as it is. */
ALONE void crossed(float *c, const uint32_t *a, const uint32_t *b, int keys, uint32_t *room, Head s) {
    if (!s.tiled) {
        mixed(c, a, b, COLUMNS, (Sum){1, COLUMNS, s.kp >> s.coarse, keys >> s.coarse, 0}, s);
        return;
    }
    for (int k = 0; k < s.dp; k += SQUARE) tiles_product((float *)room + k * COLUMNS, COLUMNS, (const uint16_t *)b + (size_t)k * s.kp, s.kp, a, keys / SQUARE);
    for (int k = 0; k < s.dp; k += LANES)
        for (int i = 0; i < COLUMNS; i += LANES) transpose_words((uint32_t *)c + i * s.dp + k, s.dp, room + k * COLUMNS + i, COLUMNS);
}

/* Row `key` of numbers of COLUMNS queries, and the next, as a right factor's pair or a row of its own. */
INLINE void keep_pair(uint32_t *to, int key, int part, vec first, vec second, Head s) {
    uvec u = s.coarse ? paired(first, second) : (uvec)first;
    memcpy(to + (key >> s.coarse) * COLUMNS + part, &u, sizeof u);
}

/* Scores (keys, COLUMNS) of queries from `first` on -> e^(score - the query's largest) over them, keys in pairs where coarse, 0 where
 * a key is not seen or beyond the n of them; sums: of each query; log_sum: the logarithm of what softmax divides by. */
INLINE void softened(float *w, float *sums, float *log_sum, int first, int keys, Head s) {
    const int all = sure(first, s), some = keys < s.n ? keys : s.n;
    vec top[2], sum[2] = {ZERO, ZERO};
    for (int part = 0; part < 2; part++) top[part] = load(w, part * LANES, 0);
    for (int key = 1; key < all; key++)
        for (int part = 0; part < 2; part++) top[part] = larger(top[part], load(w, key * COLUMNS + part * LANES, 0));
    for (int key = all; key < some; key++)
        for (int part = 0; part < 2; part++) {
            vec score = load(w, key * COLUMNS + part * LANES, 0), seen = where_seen(ZERO + 1.0f, key, first + part * LANES);
            top[part] = larger(top[part], chosen(seen > 0.0f, score, top[part]));
        }
    for (int key = 0; key < keys; key += 1 << s.coarse)
        for (int part = 0; part < 2; part++) {
            vec e[2] = {ZERO, ZERO};
            for (int i = 0; i <= s.coarse; i++)
                if (key + i < some) {
                    e[i] = power(load(w, (key + i) * COLUMNS + part * LANES, 0) - top[part], s.coarse);
                    if (key + i >= all) e[i] = where_seen(e[i], key + i, first + part * LANES);
                }
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

static Head headed(int n, int d, int prefix, int half, int coarse) {
    const int tiled = coarse == TILED, wide = tiled || d > LANES;
    return (Head){n, d, ROUND(n, tiled ? SQUARE : MANY), ROUND(n, COLUMNS), ROUND(d, wide ? COLUMNS : LANES), prefix < n ? prefix : n, half, coarse > 0, tiled};
}

/* Words of all tokens' numbers, of those of COLUMNS queries, and of those queries by all keys. */
#define SIDE ((size_t)s.np * s.dp)
#define STRIP ((size_t)COLUMNS * s.dp)
#define SCORES ((size_t)s.kp * COLUMNS)
#define NUMBERS(p, i) ((const void *)((const char *)(p) + ((size_t)(i) << (2 - half))))
#define ROWS_OF(p, which, turn) ((Rows){NUMBERS(p, IN), stride, bias ? bias + ((size_t)(which) * heads + i % heads) * d : NULL, turn})

/* A thread's part of the heads of all images, `i`; where each one's numbers begin, in q, k and v and in o; `head` for what they are. */
#define HEADS_OF(part) for (long i = (long)b * heads * (part) / threads; i < (long)b * heads * ((part) + 1) / threads; i++)
#define IN ((size_t)(i / heads) * n * stride + i % heads * d)
#define OUT (((size_t)(i / heads) * n * heads + i % heads) * d)
#define BY_KIND(head) if (s.tiled) head(1, 1, 1); else if (coarse) head(1, 1, 0); else if (half) head(1, 0, 0); else head(0, 0, 0);
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
    if (s.tiled) standing(values, v, s.kp, s);
    else stacked(values, v, s.kp, s);
    for (int first = 0; first < s.n; first += COLUMNS) {
        float sums[COLUMNS], logs[COLUMNS];
        const int seen = reach(first, s);
        turned(queries, between, q, by, first, s);
        scored(weights, keys, queries, seen, s);
        softened(weights, sums, logs, first, seen, s);
        crossed(made, (uint32_t *)weights, values, seen, between, s);
        put(FROM(o, first * out), out, made, 1, sums, COUNT(first), s);
        memcpy(log_sum + first, logs, 4 * COUNT(first));
    }
}

/* o = softmax(q k^T / sqrt(D)) v; log_sum: (B, heads, N), for the way back. Returns 0, or 1 where there is no memory. */
int carrara_attend(const void *q, const void *k, const void *v, int stride, const float *bias, const float *turn, int prefix, void *o, float *log_sum,
                   int b, int heads, int n, int d, int half, int coarse, int threads) {
    Head s = headed(n, d, prefix, half, coarse);
    size_t each = ROUND(room_of(s, 0), 16);
    uint32_t *rooms = aligned_alloc(64, 4 * each * threads);
    if (!rooms) return 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; part++) {
        Tiles before = {0};
        if (s.tiled) before = tiles_mine();
        HEADS_OF(part) {
#define HEAD(half, coarse, tiled) attend_head(ROWS_OF(q, 0, turn), ROWS_OF(k, 1, turn), ROWS_OF(v, 2, NULL), (void *)NUMBERS(o, OUT), (size_t)heads * d, \
                                       log_sum + i * n, rooms + each * part, (Head){n, d, s.kp, s.np, s.dp, s.prefix, half, coarse, tiled})
            BY_KIND(HEAD)
#undef HEAD
        }
        if (s.tiled) tiles_back(before);
    }
    free(rooms);
    return 0;
}

/* Weights and their changes, of COLUMNS queries from `first` on, from scores w and from what the weights' slopes are, dw: natural in
 * `weights` and `changes`, (kp, np) with queries in pairs where coarse, and in place of w the changes with the keys in pairs. */
INLINE void slopes(uint32_t *weights, uint32_t *changes, float *w, const float *dw, const float *log_sum, const float *inner, int first,
                   int keys, Head s) {
    const int all = sure(first, s);
    for (int part = 0; part < COLUMNS; part += LANES) {
        vec less = load(log_sum, part, 0), mean = load(inner, part, 0);
        for (int key = 0; key < keys; key += 1 << s.coarse) {
            vec d[2] = {ZERO, ZERO};
            for (int i = 0; i <= s.coarse; i++) {
                int row = (key + i) * COLUMNS + part;
                size_t to = (size_t)(key + i) * s.np + first + part;
                vec p = key + i < s.n ? power(load(w, row, 0) - less, s.coarse) : ZERO;
                if (key + i >= all) p = where_seen(p, key + i, first + part);
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
    const Sum over_queries = {tall, 1, tall, tall, 1};
    uint32_t *keys = room, *values = keys + SIDE, *stack = values + SIDE, *stacked_q = stack + SIDE, *stacked_slope = stacked_q + SIDE;
    uint32_t *weights = stacked_slope + SIDE, *changes = weights + (size_t)s.kp * s.np;
    uint32_t *queries = changes + (size_t)s.kp * s.np, *between = queries + STRIP;
    float *scores = (float *)(between + STRIP), *dw = scores + SCORES, *made = dw + SCORES;
    rows(keys, k, 1, 0, s.kp, s);
    rows(values, v, 1, 0, s.kp, s);
    if (s.tiled) standing(stack, k, s.kp, s);
    else stacked(stack, k, s.kp, s);
    stacked(stacked_q, q, s.np, s);
    stacked(stacked_slope, slope, s.np, s);
    for (int first = 0; first < s.n; first += COLUMNS) {
        float inner[COLUMNS], logs[COLUMNS];
        const int seen = reach(first, s);
        turned(queries, between, q, by, first, s);
        scored(scores, keys, queries, seen, s);
        turned(queries, between, slope, 1, first, s);
        scored(dw, values, queries, seen, s);
        inner_of(inner, logs, o, slope, log_sum, first, s);
        slopes(weights, changes, scores, dw, logs, inner, first, seen, s);
        crossed(made, (uint32_t *)scores, stack, seen, between, s);
        turn_back(made, q, first, COUNT(first), s);
        put(FROM(dq, first * q.stride), q.stride, made, by, NULL, COUNT(first), s);
        add_rows(db, made, by, COUNT(first), s);
    }
    mixed(made, weights, stacked_slope, s.kp, over_queries, s);
    put(dv, v.stride, made, 1, NULL, s.n, s);
    add_rows(db + 2 * apart, made, 1, s.n, s);
    mixed(made, changes, stacked_q, s.kp, over_queries, s);
    turn_back(made, k, 0, s.n, s);
    put(dk, k.stride, made, by, NULL, s.n, s);
    add_rows(db + apart, made, by, s.n, s);
}

/* slope, the gradient of o -> dq, dk, dv, laid out as q, k, v are, and db (3, heads, D), their sum over all tokens.
 * Returns 0, or 1 where there is no memory. */
int carrara_attend_adjoint(const void *q, const void *k, const void *v, int stride, const float *bias, const float *turn, int prefix,
                           const void *o, const void *slope, const float *log_sum, void *dq, void *dk, void *dv, float *db, int b,
                           int heads, int n, int d, int half, int coarse, int threads) {
    Head s = headed(n, d, prefix, half, coarse);
    size_t each = ROUND(room_of(s, 1), 16), wide = (size_t)heads * d;
    uint32_t *rooms = aligned_alloc(64, 4 * each * threads);
    float *sums = calloc(3 * wide * threads, 4);
    if (!rooms || !sums) { free(rooms); free(sums); return 1; }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; part++) {
        Tiles before = {0};
        if (s.tiled) before = tiles_mine();
        HEADS_OF(part) {
#define FLAT(p) ((Rows){NUMBERS(p, OUT), wide, NULL, NULL})
#define HEAD(half, coarse, tiled) attend_head_adjoint(ROWS_OF(q, 0, turn), ROWS_OF(k, 1, turn), ROWS_OF(v, 2, NULL), FLAT(o), FLAT(slope), log_sum + i * n, \
                                               (void *)NUMBERS(dq, IN), (void *)NUMBERS(dk, IN), (void *)NUMBERS(dv, IN), \
                                               sums + 3 * wide * part + i % heads * d, wide, rooms + each * part, \
                                               (Head){n, d, s.kp, s.np, s.dp, s.prefix, half, coarse, tiled})
            BY_KIND(HEAD)
#undef HEAD
        }
        if (s.tiled) tiles_back(before);
    }
    added_up(db, sums, (int)(3 * wide), threads);
    free(rooms);
    free(sums);
    return 0;
}
