/* What a product's factors may be here. */
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#include "tiles.h"

/* Linux gives a process its tiles when it asks for them (arch_prctl, ARCH_REQ_XCOMP_PERM), or refuses. */
static int granted(void) {
#if defined(HAS_TILES) && defined(SYS_arch_prctl)
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
    return 0;
#endif
}

/* Whether bfloat16 factors pay here, 1, and whether matrix tiles multiply them, TILED. */
int carrara_coarse(void) {
#ifdef __AVX512BF16__
    return granted() ? TILED : 1;
#else
    return 0;
#endif
}
