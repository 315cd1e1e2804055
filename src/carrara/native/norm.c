/* GroupNorm and LayerNorm with a scale and a shift for each image, and SiLU where asked, each in one operation, forwards and backwards.
 *
 * Pictures are (N, P, C), contiguous, P pixels or tokens, float32 or bfloat16 (`half`); everything inside is float32. scale, shift:
 * (N, C), or (C) where their stride is 0.
 */
#include "activation.h"
#include <math.h>

#define WIDE 4 /* vectors of channels at once: a whole cache line or two of each pixel */

/* step(wide) for `wide` vectors of channels at a time, from channel k on: WIDE of them while there are as many, then one by one. */
#define OVER_CHANNELS(step)                                             \
    {                                                                   \
        int k = 0;                                                      \
        for (; k + WIDE * LANES <= c; k += WIDE * LANES) step(WIDE);    \
        for (; k < c; k += LANES) step(1);                              \
    }
#define EACH for (int i = 0; i < wide; i++)
#define LEFT (c - k - i * LANES)
#define AT (k + i * LANES)

/* The mean (C) of each channel over the pixels, and the sum (C) of squares about it. */
INLINE void moments(const void *x, size_t base, int pixels, int c, const int half, float *mean, float *square, int k, const int wide) {
    vec origin[WIDE], sum[WIDE], squares[WIDE]; /* The first pixel as the origin: nothing cancels. */
    EACH origin[i] = load_some(x, base + AT, half, LEFT), sum[i] = squares[i] = ZERO;
    for (int p = 1; p < pixels; p++) EACH {
        vec e = load_some(x, base + (size_t)p * c + AT, half, LEFT) - origin[i];
        sum[i] += e;
        squares[i] += e * e;
    }
    EACH {
        store_some(mean, AT, origin[i] + sum[i] / (float)pixels, 0, LEFT);
        store_some(square, AT, squares[i] - sum[i] * sum[i] / (float)pixels, 0, LEFT);
    }
}

/* mean, square (C) of channels -> mean and 1 / std of each group, for each of its channels. */
static void grouped(float *mean, float *square, int c, int groups, int pixels, float eps) {
    int width = c / groups;
    for (int g = 0; g < groups; g++) {
        float *m = mean + g * width, *s = square + g * width, middle = 0, sum = 0;
        for (int k = 0; k < width; k++) middle += m[k] / (float)width;
        for (int k = 0; k < width; k++) sum += s[k] + (float)pixels * (m[k] - middle) * (m[k] - middle);
        for (int k = 0; k < width; k++) m[k] = middle, s[k] = 1 / sqrtf(fmaxf(sum, 0) / ((float)pixels * (float)width) + eps);
    }
}

/* Sums over channels -> the mean over each group's pixels and channels, for each of its channels. */
static void averaged(float *sums, int c, int groups, int pixels) {
    int width = c / groups;
    for (int g = 0; g < groups; g++) {
        float sum = 0;
        for (int k = g * width; k < (g + 1) * width; k++) sum += sums[k];
        for (int k = g * width; k < (g + 1) * width; k++) sums[k] = sum / ((float)pixels * (float)width);
    }
}

/* y = act(x * gain + add). */
INLINE void scaled(const void *x, size_t base, int pixels, int c, const int half, const float *gain, const float *add, void *y,
                   const int act, int k, const int wide) {
    vec g[WIDE], b[WIDE];
    EACH g[i] = load_some(gain, AT, 0, LEFT), b[i] = load_some(add, AT, 0, LEFT);
    for (int p = 0; p < pixels; p++) EACH {
        size_t at = base + (size_t)p * c + AT;
        vec z = load_some(x, at, half, LEFT) * g[i] + b[i];
        store_some(y, at, act ? z * sigmoid(z, half) : z, half, LEFT);
    }
}

INLINE void norm_image(const void *x, size_t base, const float *scale, const float *shift, void *y, float *mean, float *rstd, float *room,
                       int pixels, int c, int groups, float eps, const int act, const int half) {
    float *gain = room, *add = room + c;
#define STEP(wide) moments(x, base, pixels, c, half, mean, rstd, k, wide)
    OVER_CHANNELS(STEP)
#undef STEP
    grouped(mean, rstd, c, groups, pixels, eps);
    for (int k = 0; k < c; k++) gain[k] = scale[k] * rstd[k], add[k] = shift[k] - mean[k] * gain[k];
#define STEP(wide) scaled(x, base, pixels, c, half, gain, add, y, act, k, wide)
    OVER_CHANNELS(STEP)
#undef STEP
}

/* y = act((x - mean) / std * scale + shift), mean and std over each group of an image. mean, rstd: (N, C), for the way back.
 * Returns 0, or 1 where there is no memory. */
int carrara_group_norm(const void *x, const float *scale, const float *shift, int stride, void *y, float *mean, float *rstd, int n,
                       int pixels, int c, int groups, float eps, int act, int half, int threads) {
    float *rooms = malloc(8 * (size_t)c * n);
    if (!rooms) return 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int image = 0; image < n; image++) {
        size_t row = (size_t)image * c, from = (size_t)image * stride;
#define IMAGE(act, half) norm_image(x, row * pixels, scale + from, shift + from, y, mean + row, rstd + row, rooms + 2 * row, pixels, c, groups, eps, act, half)
        if (half) act ? IMAGE(1, 1) : IMAGE(0, 1);
        else act ? IMAGE(1, 0) : IMAGE(0, 0);
#undef IMAGE
    }
    free(rooms);
    return 0;
}

/* What a channel's pixels are, as the way back needs them. */
typedef struct { const void *x, *dy; size_t base; const float *scale, *shift, *mean, *rstd; int pixels, c; } Image;

/* d (P, C), the gradient before act; its sums with the normalised x, and alone: dscale, dshift. */
INLINE void unscaled(Image im, const int act, const int half, float *d, float *dscale, float *dshift, int k, const int wide) {
    const int c = im.c;
    vec mu[WIDE], r[WIDE], g[WIDE], b[WIDE], ds[WIDE], db[WIDE];
    EACH {
        mu[i] = load_some(im.mean, AT, 0, LEFT), r[i] = load_some(im.rstd, AT, 0, LEFT), ds[i] = db[i] = ZERO;
        g[i] = load_some(im.scale, AT, 0, LEFT), b[i] = load_some(im.shift, AT, 0, LEFT);
    }
    for (int p = 0; p < im.pixels; p++) EACH {
        size_t at = (size_t)p * c + AT;
        vec unit = (load_some(im.x, im.base + at, half, LEFT) - mu[i]) * r[i], slope = load_some(im.dy, im.base + at, half, LEFT);
        if (act) {
            vec z = unit * g[i] + b[i], on = sigmoid(z, half);
            slope *= on * (1.0f + z * (1.0f - on));
        }
        store_some(d, at, slope, 0, LEFT);
        ds[i] += slope * unit;
        db[i] += slope;
    }
    EACH store_some(dscale, AT, ds[i], 0, LEFT), store_some(dshift, AT, db[i], 0, LEFT);
}

/* dx = (scale d - centre - slope (x - mean) / std) / std. */
INLINE void uncentred(Image im, const int half, const float *d, const float *centre, const float *slope, void *dx, int k, const int wide) {
    const int c = im.c;
    vec mu[WIDE], r[WIDE], g[WIDE], m[WIDE], s[WIDE];
    EACH {
        mu[i] = load_some(im.mean, AT, 0, LEFT), r[i] = load_some(im.rstd, AT, 0, LEFT), g[i] = load_some(im.scale, AT, 0, LEFT);
        m[i] = load_some(centre, AT, 0, LEFT), s[i] = load_some(slope, AT, 0, LEFT);
    }
    for (int p = 0; p < im.pixels; p++) EACH {
        size_t at = (size_t)p * c + AT;
        vec unit = (load_some(im.x, im.base + at, half, LEFT) - mu[i]) * r[i];
        store_some(dx, im.base + at, r[i] * (g[i] * load_some(d, at, 0, LEFT) - m[i] - unit * s[i]), half, LEFT);
    }
}

INLINE void norm_image_adjoint(Image im, void *dx, float *dscale, float *dshift, float *room, int groups, const int act, const int half) {
    const int c = im.c;
    float *centre = room, *slope = room + c, *d = room + 2 * c;
#define STEP(wide) unscaled(im, act, half, d, dscale, dshift, k, wide)
    OVER_CHANNELS(STEP)
#undef STEP
    for (int k = 0; k < c; k++) centre[k] = im.scale[k] * dshift[k], slope[k] = im.scale[k] * dscale[k];
    averaged(centre, c, groups, im.pixels);
    averaged(slope, c, groups, im.pixels);
#define STEP(wide) uncentred(im, half, d, centre, slope, dx, k, wide)
    OVER_CHANNELS(STEP)
#undef STEP
}

/* dy -> dx (N, P, C), and dscale, dshift (N, C). Returns 0, or 1 where there is no memory. */
int carrara_group_norm_adjoint(const void *x, const void *dy, const float *scale, const float *shift, int stride, const float *mean,
                               const float *rstd, void *dx, float *dscale, float *dshift, int n, int pixels, int c, int groups, int act,
                               int half, int threads) {
    size_t each = (size_t)(pixels + 2) * c;
    float *rooms = malloc(4 * each * threads);
    if (!rooms) return 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; part++)
        for (int image = (int)((long)n * part / threads); image < (long)n * (part + 1) / threads; image++) {
            size_t row = (size_t)image * c, from = (size_t)image * stride;
            float *room = rooms + each * part;
            Image im = {x, dy, row * pixels, scale + from, shift + from, mean + row, rstd + row, pixels, c};
#define IMAGE(act, half) norm_image_adjoint(im, dx, dscale + row, dshift + row, room, groups, act, half)
            if (half) act ? IMAGE(1, 1) : IMAGE(0, 1);
            else act ? IMAGE(1, 0) : IMAGE(0, 0);
#undef IMAGE
        }
    free(rooms);
    return 0;
}

/* y = (x - mean) / std * scale + shift, mean and std over the channels of each token; not centred: the mean is taken for 0, as RMS norm does.
 * mean, rstd: (N, P), for the way back. */
void carrara_layer_norm(const void *x, const float *scale, const float *shift, int stride, void *y, float *mean, float *rstd, int n,
                        int tokens, int c, float eps, int centred, int half, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int token = 0; token < n * tokens; token++) {
        size_t base = (size_t)token * c;
        const float *g = scale + (size_t)(token / tokens) * stride, *b = shift + (size_t)(token / tokens) * stride;
        vec sum = ZERO, squares = ZERO;
        for (int k = 0; k < c && centred; k += LANES) sum += load_some(x, base + k, half, c - k);
        float mu = total(sum) / (float)c;
        for (int k = 0; k < c; k += LANES) {
            vec e = load_some(x, base + k, half, c - k) - mu;
            if (c - k < LANES) for (int lane = c - k; lane < LANES; lane++) e[lane] = 0;
            squares += e * e;
        }
        float r = 1 / sqrtf(total(squares) / (float)c + eps);
        mean[token] = mu, rstd[token] = r;
        for (int k = 0; k < c; k += LANES) {
            vec unit = (load_some(x, base + k, half, c - k) - mu) * r;
            store_some(y, base + k, unit * load_some(g, k, 0, c - k) + load_some(b, k, 0, c - k), half, c - k);
        }
    }
}

/* dy -> dx (N, P, C), and dscale, dshift (N, C). */
void carrara_layer_norm_adjoint(const void *x, const void *dy, const float *scale, int stride, const float *mean, const float *rstd,
                                void *dx, float *dscale, float *dshift, int n, int tokens, int c, int centred, int half, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int image = 0; image < n; image++) {
        const float *g = scale + (size_t)image * stride;
        float *ds = dscale + (size_t)image * c, *db = dshift + (size_t)image * c;
        memset(ds, 0, 4 * (size_t)c);
        memset(db, 0, 4 * (size_t)c);
        for (int token = image * tokens; token < (image + 1) * tokens; token++) {
            size_t base = (size_t)token * c;
            vec sum = ZERO, with = ZERO;
            for (int k = 0; k < c; k += LANES) {
                int some = c - k;
                vec unit = (load_some(x, base + k, half, some) - mean[token]) * rstd[token], d = load_some(dy, base + k, half, some);
                vec inner = d * load_some(g, k, 0, some);
                sum += inner;
                with += inner * unit;
                store_some(ds, k, load_some(ds, k, 0, some) + d * unit, 0, some);
                store_some(db, k, load_some(db, k, 0, some) + d, 0, some);
            }
            float centre = centred ? total(sum) / (float)c : 0, slope = total(with) / (float)c;
            for (int k = 0; k < c; k += LANES) {
                int some = c - k;
                vec unit = (load_some(x, base + k, half, some) - mean[token]) * rstd[token];
                vec inner = load_some(dy, base + k, half, some) * load_some(g, k, 0, some);
                store_some(dx, base + k, rstd[token] * (inner - centre - unit * slope), half, some);
            }
        }
    }
}
