/* Filters of nine taps, as torch keeps them and as vectors of LANES of them. */
#ifndef CARRARA_TAPS_H
#define CARRARA_TAPS_H
#include "vec.h"

#define TAPS 9

/* Nine taps of LANES filters w(k …, c). Where they lie beside each other, forwards or backwards, they are read together. */
INLINE void tapped(vec *taps, const float *w, ptrdiff_t sk, ptrdiff_t si, ptrdiff_t sj, int filters) {
    int together = (sj == 1 || sj == -1) && si == 3 * sj, known = together ? (TAPS < LANES ? TAPS : LANES) : 0;
    vec rows[LANES];
    for (int lane = 0; together && lane < LANES; lane++)
        rows[lane] = lane < filters ? load_some(w + lane * sk - (sj < 0 ? TAPS - 1 : 0), 0, 0, TAPS) : ZERO;
    if (together) transpose(rows);
    for (int tap = 0; tap < TAPS; tap++) {
        int place = sj < 0 ? TAPS - 1 - tap : tap;
        taps[tap] = place < known ? rows[place] : ZERO;
        for (int lane = 0; place >= known && lane < LANES && lane < filters; lane++)
            taps[tap][lane] = w[lane * sk + tap / 3 * si + tap % 3 * sj];
    }
}

/* Nine taps of LANES filters to dw, where those lie `far` apart. */
INLINE void put_taps(float *dw, size_t far, const vec *taps, int filters) {
    vec rows[LANES];
    for (int tap = 0; tap < LANES; tap++) rows[tap] = tap < TAPS ? taps[tap] : ZERO;
    transpose(rows);
    for (int lane = 0; lane < LANES && lane < filters; lane++) {
        store_some(dw + lane * far, 0, rows[lane], 0, TAPS);
        for (int tap = LANES; tap < TAPS; tap++) dw[lane * far + tap] = taps[tap][lane];
    }
}
#endif
