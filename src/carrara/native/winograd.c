/* 3x3 convolution with a border of one, and the gradient of its weights, by Winograd's F(4x4, 3x3): a quarter of the multiplications.
 *
 * Pictures are (N, H, W, C), contiguous, float32 or bfloat16 (`half`). Inside, everything is float32 but the factors of the
 * matrix products, which are float32, or bfloat16 with float32 sums (`coarse`: twice as fast where the processor has it).
 * The points are 0, +-3/4, +-3/2 and infinity: with bfloat16 factors they lose half of what the usual 0, +-1, +-2 lose.
 *
 * Sources: Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, 2016, section 4; for the choice of points Barabasz et al.,
 * Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks, 2020.
 */
#include "direct.h"
#include "product.h"
#include "taps.h"

#define TILE 4
#define SPAN 6
#define PLACES 36
#define CACHE 400000 /* bytes that a block of tiles may fill */
#define APART 32     /* words between the rows of two points, so that they do not all fall into one set of the first cache */

static const float A = 0.75f, B = 1.5f, AA = 0.5625f, BB = 2.25f;

/* The one-dimensional transforms, from numbers s apart to numbers so apart: B^T and A^T of the paper, and the transpose of A^T. */
INLINE void enter(vec *o, int so, const vec *d, int s) {
    vec d1 = d[s], d2 = d[2 * s], d3 = d[3 * s], d4 = d[4 * s];
    vec even_a = d4 - BB * d2, odd_a = A * (d3 - BB * d1), even_b = d4 - AA * d2, odd_b = B * (d3 - AA * d1);
    vec first = AA * BB * d[0] - (AA + BB) * d2 + d4, last = AA * BB * d1 - (AA + BB) * d3 + d[5 * s];
    o[0] = first;
    o[so] = even_a + odd_a;
    o[2 * so] = even_a - odd_a;
    o[3 * so] = even_b + odd_b;
    o[4 * so] = even_b - odd_b;
    o[5 * so] = last;
}

INLINE void leave(vec *y, int so, const vec *m, int s) {
    vec even_a = m[s] + m[2 * s], odd_a = A * (m[s] - m[2 * s]), even_b = m[3 * s] + m[4 * s], odd_b = B * (m[3 * s] - m[4 * s]);
    y[0] = m[0] + even_a + even_b;
    y[so] = odd_a + odd_b;
    y[2 * so] = AA * even_a + BB * even_b;
    y[3 * so] = AA * odd_a + BB * odd_b + m[5 * s];
}

INLINE void leave_adjoint(vec *m, int so, const vec *y, int s) {
    vec even_a = y[0] + AA * y[2 * s], odd_a = A * (y[s] + AA * y[3 * s]);
    vec even_b = y[0] + BB * y[2 * s], odd_b = B * (y[s] + BB * y[3 * s]);
    m[0] = y[0];
    m[so] = even_a + odd_a;
    m[2 * so] = even_a - odd_a;
    m[3 * so] = even_b + odd_b;
    m[4 * so] = even_b - odd_b;
    m[5 * so] = y[3 * s];
}

/* G of the paper, what three taps come to at each point, and its transpose. */
#define ZERO_POINT (1 / 1.265625f)
#define A_POINT (-1 / 1.8984375f)
#define B_POINT (1 / 7.59375f)

INLINE void filter(vec *o, int so, const vec *taps, int s) {
    vec even_a = A_POINT * (taps[0] + AA * taps[2 * s]), odd_a = A_POINT * A * taps[s];
    vec even_b = B_POINT * (taps[0] + BB * taps[2 * s]), odd_b = B_POINT * B * taps[s];
    o[0] = ZERO_POINT * taps[0];
    o[so] = even_a + odd_a;
    o[2 * so] = even_a - odd_a;
    o[3 * so] = even_b + odd_b;
    o[4 * so] = even_b - odd_b;
    o[5 * so] = taps[2 * s];
}

INLINE void filter_adjoint(vec *taps, int so, const vec *d, int s) {
    vec even_a = A_POINT * (d[s] + d[2 * s]), even_b = B_POINT * (d[3 * s] + d[4 * s]);
    taps[0] = ZERO_POINT * d[0] + even_a + even_b;
    taps[so] = A_POINT * A * (d[s] - d[2 * s]) + B_POINT * B * (d[3 * s] - d[4 * s]);
    taps[2 * so] = AA * even_a + BB * even_b + d[5 * s];
}

typedef struct { int h, w, down, across, tiles; } Shape;

static Shape shaped(int n, int h, int w) {
    int down = (h + TILE - 1) / TILE, across = (w + TILE - 1) / TILE;
    return (Shape){h, w, down, across, n * down * across};
}

/* The place of tile t: image, and the row and column of its first output. */
#define PLACE(t) int image = (t) / (s.down * s.across), i0 = (t) / s.across % s.down * TILE, j0 = (t) % s.across * TILE
#define PIXEL(i, j, c) ((((size_t)image * s.h + (i)) * s.w + (j)) * (c) + k)

/* Channels k … of tile t of x, with a pixel of border, halfway to the 36 points: its columns; zeros beyond the last tile. */
INLINE void entered(vec *half_way, const void *x, int half, Shape s, int t, int c, int k) {
    PLACE(t);
#pragma GCC unroll 6
    for (int j = 0; j < SPAN; j++) {
        vec column[SPAN];
#pragma GCC unroll 6
        for (int i = 0; i < SPAN; i++) {
            int row = i0 + i - 1, at = j0 + j - 1;
            int inside = t < s.tiles && row >= 0 && row < s.h && at >= 0 && at < s.w;
            column[i] = inside ? load_some(x, PIXEL(row, at, c), half, c - k) : ZERO;
            if (j > 1) __builtin_prefetch((const char *)x + (PIXEL(row, at + TILE, c) << (2 - half))); /* the tile after this one's */
        }
        enter(half_way + j, SPAN, column, 1);
    }
}

/* The transpose of leaving: the gradient of tile t's 4x4 pixels halfway to the 36 points. Returns its sum over the pixels. */
INLINE vec left_adjoint(vec *half_way, const void *dy, int half, Shape s, int t, int c, int k) {
    PLACE(t);
    vec sum = ZERO;
#pragma GCC unroll 4
    for (int j = 0; j < TILE; j++) {
        vec column[TILE];
#pragma GCC unroll 4
        for (int i = 0; i < TILE; i++) {
            int inside = t < s.tiles && i0 + i < s.h && j0 + j < s.w;
            column[i] = inside ? load_some(dy, PIXEL(i0 + i, j0 + j, c), half, c - k) : ZERO;
            sum += column[i];
        }
        leave_adjoint(half_way + j, TILE, column, 1);
    }
    return sum;
}

/* The 4x4 pixels of tile t, channels k …, from the 36 points m (LANES of COLUMNS), `far` apart, with a bias and `more` where given. */
INLINE void left(void *y, int half, const float *m, size_t far, const float *bias, const void *more, Shape s, int t, int c, int k) {
    PLACE(t);
    vec half_way[TILE * SPAN], b = bias ? load_some(bias, k, 0, c - k) : ZERO;
    for (int j = 0; j < SPAN; j++) {
        vec column[SPAN];
        for (int i = 0; i < SPAN; i++) column[i] = load(m, (i * SPAN + j) * far, 0);
        leave(half_way + j, SPAN, column, 1);
    }
    for (int i = 0; i < TILE && i0 + i < s.h; i++) {
        vec row[TILE];
        leave(row, 1, half_way + i * SPAN, 1);
        for (int j = 0; j < TILE && j0 + j < s.w; j++) {
            size_t at = PIXEL(i0 + i, j0 + j, c);
            store_some(y, at, row[j] + b + (more ? load_some(more, at, half, c - k) : ZERO), half, c - k);
        }
    }
}

/* Words of a depth of c, and those that `carrara_pack` writes. */
static size_t words(int c, int coarse) { return (size_t)ROUND(c, LANES) >> coarse; }
static size_t plane(size_t deep) { return deep * COLUMNS + APART; }
size_t carrara_packed(int c, int k, int coarse) {
    return coarse == TILED ? direct_packed(c, k) : PLACES * plane(words(c, coarse)) * (ROUND(k, COLUMNS) / COLUMNS);
}

/* A sum of all words, each stirred with its place, by which it is seen whether weights have changed, or have changed places.
 * Source: the finaliser of SplitMix64, Steele et al., 2014. */
uint64_t carrara_bits(const uint32_t *words, size_t count, int threads) {
    uint64_t sum = 0;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(+ : sum)
    for (size_t i = 0; i < count; i++) {
        uint64_t z = words[i] + (i + 1) * UINT64_C(0x9E3779B97F4A7C15);
        z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
        sum += z ^ z >> 27;
    }
    return sum;
}

/* The same at the 36 points. */
INLINE void filtered(vec *d, const float *w, ptrdiff_t sk, ptrdiff_t si, ptrdiff_t sj, int filters) {
    vec taps[TAPS], half_way[3 * SPAN];
    tapped(taps, w, sk, si, sj, filters);
    for (int j = 0; j < 3; j++) filter(half_way + j, 3, taps + j, 3);
    for (int i = 0; i < SPAN; i++) filter(d + i * SPAN, 1, half_way + i * 3, 1);
}

/* Weights w(k, c, i, j), at any strides, at the points and laid out as the products read them: (K / COLUMNS, 36, C, COLUMNS), with gaps. */
void carrara_pack(const float *w, ptrdiff_t sk, ptrdiff_t sc, ptrdiff_t si, ptrdiff_t sj, uint32_t *packed, int c, int k, int coarse,
                  int threads) {
    if (coarse == TILED) {
        direct_pack(w, sk, sc, si, sj, packed, c, k, threads);
        return;
    }
    int panels = ROUND(k, COLUMNS) / COLUMNS, step = 1 << coarse;
    size_t deep = words(c, coarse);
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (int panel = 0; panel < panels; panel++)
        for (size_t p = 0; p < deep; p++)
            for (int part = 0; part < 2; part++) {
                vec d[2][PLACES];
                int k0 = panel * COLUMNS + part * LANES;
                for (int i = 0; i < step; i++) {
                    int ci = (int)p * step + i;
                    filtered(d[i], w + k0 * sk + ci * sc, sk, si, sj, ci < c ? k - k0 : 0);
                }
                for (int q = 0; q < PLACES; q++) {
                    uvec u = coarse ? paired(d[0][q], d[1][q]) : (uvec)d[0][q];
                    memcpy(packed + (panel * (size_t)PLACES + q) * plane(deep) + p * COLUMNS + part * LANES, &u, sizeof u);
                }
            }
}

/* The tiles that a thread carries through all stages at once, in ROWS, so that they stay in its cache. */
static int block_of(Shape s, size_t deep, int threads) {
    int share = ROUND((s.tiles + threads - 1) / threads, ROWS), most = (int)(CACHE / (4 * PLACES * (deep + COLUMNS))) / ROWS * ROWS;
    most = most < ROWS ? ROWS : most;
    int blocks = (share + most - 1) / most;
    return ROUND((share + blocks - 1) / blocks, ROWS);
}

INLINE void convolve_block(const void *x, const uint32_t *packed, const float *bias, const void *more, void *y, Shape s, int c, int k,
                           const int half, const int coarse, int first, int block, uint32_t *v) {
    size_t deep = words(c, coarse), far = block * deep + APART, away = (size_t)block * COLUMNS + APART;
    float *m = (float *)(v + PLACES * far);
    for (int t = 0; t < block; t++)
        for (int at = 0; at < c; at += LANES) {
            vec half_way[PLACES], d[SPAN];
            entered(half_way, x, half, s, first + t, c, at);
            for (int i = 0; i < SPAN; i++) {
                enter(d, 1, half_way + i * SPAN, 1);
                for (int j = 0; j < SPAN; j++) store(v + (i * SPAN + j) * far + t * deep, at, d[j], coarse);
            }
        }
    for (int k0 = 0; k0 < k; k0 += COLUMNS, packed += PLACES * plane(deep)) {
        for (int q = 0; q < PLACES; q++)
            for (int t = 0; t < block; t += ROWS)
                product(ROWS, 2, coarse, v + q * far + t * deep, deep, 1, packed + q * plane(deep), COLUMNS, m + q * away + t * COLUMNS,
                        COLUMNS, (int)deep, 0);
        for (int t = 0; t < block && first + t < s.tiles; t++)
            for (int part = 0; part < COLUMNS && k0 + part < k; part += LANES)
                left(y, half, m + t * COLUMNS + part, away, bias, more, s, first + t, k, k0 + part);
    }
}

/* y (N, H, W, K) = x (N, H, W, C) convolved with packed weights + bias (K) + more (N, H, W, K), the last two where given.
 * Returns 0, or 1 where there is no memory. */
int carrara_convolve(const void *x, const uint32_t *packed, const float *bias, const void *more, void *y, int n, int h, int w, int c,
                     int k, int half, int coarse, int threads) {
    if (coarse == TILED) return direct_convolve(x, packed, bias, more, y, n, h, w, c, k, threads);
    Shape s = shaped(n, h, w);
    size_t deep = words(c, coarse);
    int block = block_of(s, deep, threads), failed = 0;
#pragma omp parallel num_threads(threads)
    {
        uint32_t *v = aligned_alloc(64, ROUND(4 * PLACES * ((deep + COLUMNS) * block + 2 * APART), 64));
#pragma omp for schedule(static)
        for (int first = 0; first < s.tiles; first += block) {
            if (!v) failed = 1;
            else if (coarse && half) convolve_block(x, packed, bias, more, y, s, c, k, 1, 1, first, block, v);
            else if (coarse) convolve_block(x, packed, bias, more, y, s, c, k, 0, 1, first, block, v);
            else if (half) convolve_block(x, packed, bias, more, y, s, c, k, 1, 0, first, block, v);
            else convolve_block(x, packed, bias, more, y, s, c, k, 0, 0, first, block, v);
        }
        free(v);
    }
    return failed;
}

/* Row i of the points of a tile, d[0], or of two where coarse, into panels: the place of channels `at` … is `to`, a point is `far` from
 * the next. */
INLINE void panelled(uint32_t *to, vec d[2][SPAN], size_t far, int i, const int coarse) {
    for (int j = 0; j < SPAN; j++) {
        uvec u = coarse ? paired(d[0][j], d[1][j]) : (uvec)d[0][j];
        memcpy(to + (i * SPAN + j) * far, &u, sizeof u);
    }
}

/* Adds a block of tiles to `sums`, or begins them: (36, c, k) of the weights, with gaps, and (k) of the bias, both widths rounded up. */
INLINE void weigh_block(const void *x, const void *dy, float *sums, Shape s, int c, int k, const int half, const int coarse, int first,
                        int block, int begun, uint32_t *v) {
    const size_t wide_v = ROUND(c, LANES), wide_m = ROUND(k, COLUMNS), deep = block >> coarse;
    const size_t far_v = deep * wide_v + APART, far_m = deep * wide_m + APART;
    uint32_t *m = v + PLACES * far_v;
    const size_t far_sums = wide_v * wide_m + APART;
    float *bias = sums + PLACES * far_sums;
    vec half_way[2][PLACES], d[2][SPAN];
    for (size_t row = 0; row < deep; row++) {
        int t = first + (int)(row << coarse);
        for (int at = 0; at < c; at += LANES) {
            for (int i = 0; i <= coarse; i++) entered(half_way[i], x, half, s, t + i, c, at);
            for (int i = 0; i < SPAN; i++) {
                for (int each = 0; each <= coarse; each++) enter(d[each], 1, half_way[each] + i * SPAN, 1);
                panelled(v + (at / LANES * deep + row) * LANES, d, far_v, i, coarse);
            }
        }
        for (int at = 0; at < (int)wide_m; at += LANES) {
            vec sum = begun || row ? load(bias, at, 0) : ZERO;
            for (int i = 0; i <= coarse; i++) sum += left_adjoint(half_way[i], dy, half, s, at < k ? t + i : s.tiles, k, at);
            store(bias, at, sum, 0);
            for (int i = 0; i < SPAN; i++) {
                for (int each = 0; each <= coarse; each++) leave_adjoint(d[each], 1, half_way[each] + i * TILE, 1);
                panelled(m + (at / COLUMNS * deep + row) * COLUMNS + at % COLUMNS, d, far_m, i, coarse);
            }
        }
    }
    for (int q = 0; q < PLACES; q++)
        for (size_t kk = 0; kk < wide_m; kk += COLUMNS)
            for (size_t ci = 0; ci < wide_v; ci += CROSS)
                product(CROSS, 2, coarse, v + q * far_v + ci / LANES * LANES * deep + ci % LANES, 1, LANES, m + q * far_m + kk * deep, COLUMNS,
                        sums + q * far_sums + ci * wide_m + kk, wide_m, (int)deep, begun);
}

/* The transpose of packing: LANES filters' sums at the 36 points, added up over the parts, as nine taps. */
INLINE void unfiltered(vec *taps, const float *sums, size_t each, size_t far, int parts) {
    vec half_way[3 * SPAN];
    for (int j = 0; j < SPAN; j++) {
        vec d[SPAN];
        for (int i = 0; i < SPAN; i++) {
            d[i] = load(sums, (i * SPAN + j) * far, 0);
            for (int part = 1; part < parts; part++) d[i] += load(sums, each * part + (i * SPAN + j) * far, 0);
        }
        filter_adjoint(half_way + j, SPAN, d, 1);
    }
    for (int i = 0; i < 3; i++) filter_adjoint(taps + i * 3, 1, half_way + i * SPAN, 1);
}

/* The gradients of weights and bias: dw (K, C, 3, 3), db (K) from x (N, H, W, C), dy (N, H, W, K). Returns 0, or 1 without memory.
 * Each thread adds up its share of the tiles, the shares are added in their order: the same sum in every run with as many threads. */
int carrara_weights(const void *x, const void *dy, float *dw, float *db, int n, int h, int w, int c, int k, int half, int coarse,
                    int threads) {
    if (coarse == TILED) return direct_weights(x, dy, dw, db, n, h, w, c, k, threads);
    Shape s = shaped(n, h, w);
    size_t cp = ROUND(c, LANES), kp = ROUND(k, COLUMNS), far = cp * kp + APART, each = PLACES * far + kp;
    int most = 128, share = ROUND((s.tiles + threads - 1) / threads, 2), blocks = (share + most - 1) / most;
    int block = ROUND((share + blocks - 1) / blocks, 2);
    size_t room = ROUND(PLACES * (((cp + kp) * block >> coarse) + 2 * APART), 16);
    float *sums = malloc(4 * each * threads);
    uint32_t *rooms = aligned_alloc(64, 4 * room * threads);
    if (!sums || !rooms) { free(sums); free(rooms); return 1; }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; part++)
        for (int i = 0; i < blocks; i++) {
            int first = part * block * blocks + i * block;
            if (coarse && half) weigh_block(x, dy, sums + each * part, s, c, k, 1, 1, first, block, i, rooms + room * part);
            else if (coarse) weigh_block(x, dy, sums + each * part, s, c, k, 0, 1, first, block, i, rooms + room * part);
            else if (half) weigh_block(x, dy, sums + each * part, s, c, k, 1, 0, first, block, i, rooms + room * part);
            else weigh_block(x, dy, sums + each * part, s, c, k, 0, 0, first, block, i, rooms + room * part);
        }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int ci = 0; ci < c; ci++)
        for (int k0 = 0; k0 < k; k0 += LANES) {
            vec taps[TAPS];
            unfiltered(taps, sums + ci * kp + k0, each, far, threads);
            put_taps(dw + ((size_t)k0 * c + ci) * TAPS, (size_t)c * TAPS, taps, k - k0);
        }
    memset(db, 0, 4 * (size_t)k);
    for (int part = 0; part < threads; part++)
        for (int at = 0; at < k; at++) db[at] += sums[each * part + PLACES * far + at];
    free(sums);
    free(rooms);
    return 0;
}
