/* Viterbi's search of trellis.py and the way back, in the same whole numbers.

   Vectors lie side by side in the lanes. A state is `code * OLDER + rest`; its predecessors remain
   as `rest`, and the WAYS states of which the same remains follow each other. */

#include "lanes.h"

#define STATES (1 << STATE_BITS)
#define WAYS (1 << BITS)
#define OLDER (STATES / WAYS)
#define BLOCK 16 /* vectors of one item of work */

typedef uint8_t bytes __attribute__((vector_size(LANES)));

typedef struct {
    const int32_t *x;                /* (steps, count): coordinates in fixed point */
    const int32_t *slopes, *squares; /* (STATES,) */
    const int32_t *before;           /* (OLDER, count): the least costs so far */
    int32_t *cost;                   /* (STATES, count): of every state at the last step */
    uint8_t *came_from;              /* (blocks, steps, OLDER, BLOCK): low bytes of least costs */
    const int64_t *last;             /* (count,): where a path ends */
    int64_t *states;                 /* (steps, count): of the path */
    int64_t steps, count, threads;
    OpenMP *openmp;
} Call;

static i32 some(const int32_t *from, int count) {
    i32 x = {0};
    memcpy(&x, from, count * sizeof *from);
    return x;
}

/* The least costs one coordinate on; `kept`: where every state's goes too, or NULL. */
static inline void advance(const Call *call, i32 x, const i32 *before, i32 *least,
                           uint8_t *came_from, int32_t *kept, int count) {
    for (int rest = 0; rest < OLDER; rest++) {
        i32 best = {0};
        for (int way = 0; way < WAYS; way++) {
            int state = rest * WAYS + way;
            i32 cost = before[state % OLDER] + call->slopes[state] * x + call->squares[state];
            if (kept) memcpy(kept + state * call->count, &cost, count * sizeof *kept);
            i32 less = way ? cost < best : ~(i32){0};
            best = (cost & less) | (best & ~less);
        }
        bytes low = __builtin_convertvector(best & 255, bytes);
        memcpy(came_from + rest * BLOCK, &low, sizeof low);
        least[rest] = best & -WAYS;
    }
}

static void search_block(const void *data, int64_t block) {
    const Call *call = data;
    i32 costs[2][OLDER];
    for (int lane = 0; lane < BLOCK; lane += LANES) {
        int64_t first = block * BLOCK + lane, left = call->count - first;
        if (left <= 0) return;
        int count = left < LANES ? (int)left : LANES;
        uint8_t *came_from = call->came_from + block * call->steps * OLDER * BLOCK + lane;
        for (int rest = 0; rest < OLDER; rest++)
            costs[0][rest] = some(call->before + rest * call->count + first, count);
        for (int64_t step = 0; step < call->steps; step++, came_from += OLDER * BLOCK) {
            i32 x = some(call->x + step * call->count + first, count);
            i32 *before = costs[step % 2], *least = costs[1 - step % 2];
            if (step < call->steps - 1)
                advance(call, x, before, least, came_from, NULL, count);
            else
                advance(call, x, before, least, came_from, call->cost + first, count);
        }
    }
}

static void trace_block(const void *data, int64_t block) {
    const Call *call = data;
    int64_t first = block * BLOCK, left = call->count - first, state[BLOCK];
    int count = left < BLOCK ? (int)left : BLOCK;
    memcpy(state, call->last + first, count * sizeof *state);
    for (int64_t step = call->steps - 1;; step--) {
        memcpy(call->states + step * call->count + first, state, count * sizeof *state);
        if (!step) return;
        const uint8_t *low =
            call->came_from + (block * call->steps + step - 1) * OLDER * BLOCK;
        for (int lane = 0; lane < count; lane++) {
            int64_t rest = state[lane] % OLDER;
            state[lane] = rest * WAYS + (low[rest * BLOCK + lane] & (WAYS - 1));
        }
    }
}

void search(const Call *call) {
    each(search_block, call, (call->count + BLOCK - 1) / BLOCK, call->threads, call->openmp);
}

void trace(const Call *call) {
    each(trace_block, call, (call->count + BLOCK - 1) / BLOCK, call->threads, call->openmp);
}
