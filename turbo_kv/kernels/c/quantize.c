/* TurboQuant's coding, as quantizer.py has it: rotate, compare, pack, and the length that is lost.

   Vectors lie side by side in the lanes, so that every step is the same for all and a vector's
   codes do not depend on its neighbours. The rotation is a fast Walsh-Hadamard transform, block by
   block where HEAD_DIM is no power of two. */

#include <math.h>

#include "lanes.h"

#define LEVELS (1 << BITS)
#define SMALLEST 1e-20f /* norm whose boundaries are still told apart; its scale is stored as 0 */
#define RUN 64 /* batches of LANES vectors in one item of work */

typedef struct {
    const float *vectors;    /* (N, D) */
    const float *signs;      /* (D,), ±1, or NULL: no rotation */
    const float *boundaries; /* (LEVELS - 1,), ascending, of a unit vector's coordinates */
    const float *levels;     /* (16,): those of the codebook, repeated */
    uint8_t *codes;          /* (N, ROW_BYTES) */
    float *scales;           /* (N,): norm over the norm of the levels */
    int64_t count, threads;
    OpenMP *openmp;
} Call;

static inline f32 root(f32 x) {
    for (int lane = 0; lane < LANES; lane++) x[lane] = sqrtf(x[lane]);
    return x;
}

static void hadamard(f32 *y, int size) {
    for (int half = 1; half < size; half *= 2)
        for (int start = 0; start < size; start += 2 * half)
            for (int i = start; i < start + half; i++) {
                f32 a = y[i], b = y[i + half];
                y[i] = a + b;
                y[i + half] = a - b;
            }
    float shrink = 1 / sqrtf((float)size);
    for (int i = 0; i < size; i++) y[i] *= shrink;
}

static void rotate(f32 y[HEAD_DIM], const float *signs) {
    for (int d = 0; d < HEAD_DIM; d++) y[d] *= signs[d];
    for (int start = 0, size = 1 << 30; size; size /= 2)
        if (HEAD_DIM & size) {
            hadamard(y + start, size);
            start += size;
        }
}

static void code(const Call *call, int64_t first) {
    int count = call->count - first < LANES ? (int)(call->count - first) : LANES;
    f32 y[HEAD_DIM];
    memset(y, 0, sizeof y);
    for (int lane = 0; lane < count; lane++)
        for (int d = 0; d < HEAD_DIM; d++)
            ((float *)&y[d])[lane] = call->vectors[(first + lane) * HEAD_DIM + d];
    if (call->signs) rotate(y, call->signs);

    f32 square = {0}, chosen = {0}, boundary[LEVELS - 1];
    for (int d = 0; d < HEAD_DIM; d++) square += y[d] * y[d];
    f32 norm = root(square), length = norm;
    for (int lane = 0; lane < LANES; lane++) length[lane] = fmaxf(norm[lane], SMALLEST);
    for (int k = 0; k < LEVELS - 1; k++) boundary[k] = call->boundaries[k] * length;
    uint32_t words[GROUPS][LANES];
    for (int group = 0; group < GROUPS; group++) {
        u32 word = {0};
        for (int c = 0; c < 8; c++) {
            i32 cell = {0};
            for (int k = 0; k < LEVELS - 1; k++) cell -= y[group * 8 + c] > boundary[k];
            f32 level = look_up(call->levels, (u32)cell);
            chosen += level * level;
            word |= (u32)cell << (BITS * c);
        }
        memcpy(words[group], &word, sizeof word);
    }
    f32 scale = norm / root(chosen);
    memcpy(call->scales + first, &scale, count * sizeof(float));
    for (int lane = 0; lane < count; lane++)
        for (int group = 0; group < GROUPS; group++)
            memcpy(call->codes + (first + lane) * ROW_BYTES + group * BITS, &words[group][lane], BITS);
}

static void code_run(const void *data, int64_t index) {
    const Call *call = data;
    for (int64_t batch = index * RUN; batch < (index + 1) * RUN; batch++)
        if (batch * LANES < call->count) code(call, batch * LANES);
}

void quantize(const Call *call) {
    int64_t items = (call->count + LANES * RUN - 1) / (LANES * RUN);
    each(code_run, call, items, call->threads, call->openmp);
}
