/* 3x3 convolution with a border of one, and the gradient of its weights, by matrix tiles: nine products, one for each tap.
 *
 * A product by tiles costs so little that Winograd's transforms would cost more than they save, see docs/speed.md. Pictures are
 * (N, H, W, C), contiguous, bfloat16; the factors are those numbers themselves, and the weights' rounded to bfloat16.
 *
 * Pictures are laid out one after another as lines of pixels, one more zero after each line and one more line of zeros after each picture:
 * they are the borders. Then what a tap multiplies is the whole field, moved by one number of pixels.
 */
#include "direct.h"
#include "taps.h"
#include "tiles.h"

#define FIELD 800000 /* bytes of a block of pixels, which is to stay in a core's second cache */

/* Pictures, and the field of a block: its lines, the pixels from one to the next, those before the first (as many as a tap goes back)
 * and those that are multiplied, rounded up. */
typedef struct { int n, h, w, lines, line, lead, size; } Field;

static Field fielded(int n, int h, int w, int lines) { return (Field){n, h, w, lines, w + 1, w + 2, ROUND(lines * (w + 1), SQUARE)}; }
static int across(Field f) { return ROUND(f.size + 2 * f.lead, SQUARE); }
static size_t deepened(int c) { return ROUND(c, SQUARE); }

/* Lines of a block: as many as `bytes` hold with `wide` channels, and no more than make `threads` equal parts. */
static Field block_of(int n, int h, int w, size_t wide, size_t bytes, int threads) {
    int all = n * (h + 1), share = (all + threads - 1) / threads, most = (int)(bytes / (2 * wide * (w + 1)));
    most = most < 1 ? 1 : most;
    int blocks = (share + most - 1) / most;
    return fielded(n, h, w, (share + blocks - 1) / blocks);
}

/* The number of each pixel of the field whose first line is `first`, from `lead` before that on; -1: border. */
static void located(int *pixel, Field f, int first) {
    int line = first - 2, column = f.w, count = across(f);
    for (int i = 0; i < count; i++) {
        int image = line < 0 ? 0 : line / (f.h + 1), row = line - image * (f.h + 1);
        for (; i < count && column < f.line; column++, i++)
            pixel[i] = line >= 0 && image < f.n && row < f.h && column < f.w ? (image * f.h + row) * f.w + column : -1;
        i--;
        column = 0;
        line++;
    }
}

/* Numbers k … of a pixel, zeros where there is none. */
INLINE hvec numbers(const uint16_t *x, int pixel, int c, int k) {
    if (pixel < 0 || k >= c) return (hvec){0};
#ifdef MASKS
    return (hvec)_mm256_maskz_loadu_epi16(MASK(c - k < LANES ? c - k : LANES), x + (size_t)pixel * c + k);
#else
    return narrowed(load_some(x, (size_t)pixel * c + k, 1, c - k));
#endif
}

INLINE uvec both(hvec a, hvec b) { return __builtin_convertvector(a, uvec) | __builtin_convertvector(b, uvec) << 16; }

size_t direct_packed(int c, int k) { return TAPS * deepened(c) / 2 * ROUND(k, COLUMNS); }

/* Weights w(k, c, i, j), at any strides, as the products read them: (K / COLUMNS, 9, C / 2, COLUMNS) pairs. */
void direct_pack(const float *w, ptrdiff_t sk, ptrdiff_t sc, ptrdiff_t si, ptrdiff_t sj, uint32_t *packed, int c, int k, int threads) {
    int panels = ROUND(k, COLUMNS) / COLUMNS, deep = (int)deepened(c) / 2;
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (int panel = 0; panel < panels; panel++)
        for (int p = 0; p < deep; p++)
            for (int part = 0; part < 2; part++) {
                vec taps[2][TAPS];
                int k0 = panel * COLUMNS + part * LANES;
                for (int i = 0; i < 2; i++) {
                    int ci = 2 * p + i;
                    tapped(taps[i], w + k0 * sk + ci * sc, sk, si, sj, ci < c ? k - k0 : 0);
                }
                for (int tap = 0; tap < TAPS; tap++) {
                    uvec u = paired(taps[0][tap], taps[1][tap]);
                    memcpy(packed + ((size_t)(panel * TAPS + tap) * deep + p) * COLUMNS + part * LANES, &u, sizeof u);
                }
            }
}

/* SQUARE pixels, channels k … of y, from their sums (SQUARE, COLUMNS), with bias and more where given. */
INLINE void put_pixels(uint16_t *y, const float *sums, const float *bias, const uint16_t *more, const int *pixel, int count, int c, int k) {
    for (int part = 0; part < COLUMNS && k + part < c; part += LANES) {
        int at = k + part;
        vec b = bias ? load_some(bias, at, 0, c - at) : ZERO;
        for (int i = 0; i < count; i++) {
            if (pixel[i] < 0) continue;
            size_t to = (size_t)pixel[i] * c + at;
            store_some(y, to, load(sums, i * COLUMNS + part, 0) + b + (more ? load_some(more, to, 1, c - at) : ZERO), 1, c - at);
        }
    }
}

ALONE void convolve_block(const uint16_t *x, const uint32_t *packed, const float *bias, const uint16_t *more, uint16_t *y, Field f, int c, int k,
                          int first, int *pixel, uint16_t *field) {
    const size_t deep = deepened(c), panel = TAPS * deep / 2 * COLUMNS;
    const int count = across(f), made = f.lines * f.line;
    float sums[SQUARE * COLUMNS] __attribute__((aligned(64)));
    located(pixel, f, first);
    for (int i = 0; i < count; i++)
        for (size_t at = 0; at < deep; at += LANES) {
            hvec h = numbers(x, pixel[i], c, (int)at);
            memcpy(field + i * deep + at, &h, sizeof h);
        }
    for (int k0 = 0; k0 < k; k0 += COLUMNS)
        for (int m = 0; m < f.size; m += SQUARE) {
            const uint32_t *b = packed + k0 / COLUMNS * panel;
            tiles_zero();
            for (int tap = 0; tap < TAPS; tap++, b += deep / 2 * COLUMNS)
                tiles_add(field + (size_t)(m + tap / 3 * f.line + tap % 3) * deep, deep, b, (int)deep / SQUARE);
            tiles_put(sums, COLUMNS);
            put_pixels(y, sums, bias, more, pixel + f.lead + m, made - m < SQUARE ? made - m : SQUARE, k, k0);
        }
}

/* As carrara_convolve. */
int direct_convolve(const void *x, const uint32_t *packed, const float *bias, const void *more, void *y, int n, int h, int w, int c, int k,
                    int threads) {
    const Field f = block_of(n, h, w, deepened(c), FIELD, threads);
    int failed = 0;
#pragma omp parallel num_threads(threads)
    {
        Tiles before = tiles_mine();
        uint16_t *field = aligned_alloc(64, ROUND((2 * deepened(c) + 4) * across(f), 64));
        int *pixel = (int *)(field + deepened(c) * across(f));
#pragma omp for schedule(static)
        for (int first = 0; first < n * (h + 1); first += f.lines) {
            if (!field) failed = 1;
            else convolve_block(x, packed, bias, more, y, f, c, k, first, pixel, field);
        }
        free(field);
        tiles_back(before);
    }
    return failed;
}

/* The pixels of the field as rows, a channel each, `pitch` long: where the lines turn, numbers are taken in squares. */
INLINE void turned(uint16_t *to, size_t pitch, const uint16_t *x, const int *pixel, int count, int c) {
    for (int i = 0; i < count; i += 2 * LANES)
        for (size_t at = 0; at < deepened(c); at += LANES) {
            vec rows[LANES];
            for (int lane = 0; lane < LANES; lane++)
                rows[lane] = (vec)both(numbers(x, pixel[i + 2 * lane], c, (int)at), numbers(x, pixel[i + 2 * lane + 1], c, (int)at));
            transpose(rows);
            for (int lane = 0; lane < LANES; lane++) memcpy(to + (at + lane) * pitch + i, &rows[lane], sizeof(vec));
        }
}

/* Pixels in pairs, as a right factor: (K / COLUMNS, count / 2, COLUMNS); adds their sum to bias (K, rounded up). */
INLINE void stacked(uint32_t *to, float *bias, const uint16_t *dy, const int *pixel, int made, int count, int k) {
    for (int at = 0; at < ROUND(k, COLUMNS); at += LANES) {
        vec sum = load(bias, at, 0);
        for (int i = 0; i < count; i += 2) {
            hvec a = numbers(dy, i < made ? pixel[i] : -1, k, at), b = numbers(dy, i + 1 < made ? pixel[i + 1] : -1, k, at);
            uvec u = both(a, b);
            sum += widened(a) + widened(b);
            memcpy(to + ((size_t)(at / COLUMNS) * count + i) / 2 * COLUMNS + at % COLUMNS, &u, sizeof u);
        }
        store(bias, at, sum, 0);
    }
}

/* Adds a block to `sums`, (9, C, K) of the weights, both rounded up, and to those of the bias after them; or begins them. */
ALONE void weigh_block(const uint16_t *x, const uint16_t *dy, float *sums, Field f, int c, int k, int first, int begun, int *pixel,
                       uint32_t *pairs, uint16_t *rows, size_t pitch) {
    const size_t cp = deepened(c), kp = ROUND(k, COLUMNS);
    float *bias = sums + TAPS * cp * kp;
    if (!begun) memset(bias, 0, 4 * kp);
    located(pixel, f, first);
    turned(rows, pitch, x, pixel, across(f), c);
    stacked(pairs, bias, dy, pixel + f.lead, f.lines * f.line, f.size, k);
    for (size_t k0 = 0; k0 < kp; k0 += COLUMNS)
        for (size_t ci = 0; ci < cp; ci += SQUARE)
            for (int tap = 0; tap < TAPS; tap++) {
                float *sum = sums + (tap * cp + ci) * kp + k0;
                if (begun) tiles_get(sum, kp);
                else tiles_zero();
                tiles_add(rows + ci * pitch + tap / 3 * f.line + tap % 3, pitch, pairs + k0 * f.size / 2, f.size / SQUARE);
                tiles_put(sum, kp);
            }
}

/* As carrara_weights. */
int direct_weights(const void *x, const void *dy, float *dw, float *db, int n, int h, int w, int c, int k, int threads) {
    const size_t cp = deepened(c), kp = ROUND(k, COLUMNS), each = TAPS * cp * kp + kp;
    const Field f = block_of(n, h, w, cp + kp, FIELD, threads);
    const size_t pitch = (across(f) / SQUARE | 1) * SQUARE; /* an odd number of the cache's lines, so that rows do not fall into one set */
    const size_t room = ROUND(2 * cp * pitch + 2 * kp * f.size + 4 * across(f), 64);
    const int share = (n * (h + 1) + threads - 1) / threads, blocks = (share + f.lines - 1) / f.lines;
    float *sums = aligned_alloc(64, ROUND(4 * each * threads, 64));
    char *rooms = aligned_alloc(64, room * threads);
    if (!sums || !rooms) { free(sums); free(rooms); return 1; }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; part++) {
        Tiles before = tiles_mine();
        uint32_t *pairs = (uint32_t *)(rooms + room * part);
        uint16_t *rows = (uint16_t *)(pairs + kp * f.size / 2);
        for (int i = 0; i < blocks; i++)
            weigh_block(x, dy, sums + each * part, f, c, k, (part * blocks + i) * f.lines, i, (int *)(rows + cp * pitch), pairs, rows, pitch);
        tiles_back(before);
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int ci = 0; ci < c; ci++)
        for (int k0 = 0; k0 < k; k0 += LANES) {
            vec taps[TAPS];
            for (int tap = 0; tap < TAPS; tap++) {
                taps[tap] = ZERO;
                for (int part = 0; part < threads; part++) taps[tap] += load(sums, each * part + (tap * cp + ci) * kp + k0, 0);
            }
            put_taps(dw + ((size_t)k0 * c + ci) * TAPS, (size_t)c * TAPS, taps, k - k0);
        }
    for (int at = 0; at < k; at++) db[at] = 0;
    for (int part = 0; part < threads; part++)
        for (int at = 0; at < k; at++) db[at] += sums[each * part + TAPS * cp * kp + at];
    free(sums);
    free(rooms);
    return 0;
}
