/* Attention on packed codes, as pagewise.py has it, in one pass over the bytes.

   A key is read with tokens side by side in the lanes of a vector, since scores are sums over
   channels; a value with channels side by side, since outputs are sums over tokens. Either way
   codes become levels by a permutation of a table in registers; those of a trellis, of which the
   last STATE_BITS bits of a ring name a level, by a gather. ROWS queries share what is unpacked. A
   few newest tokens may follow the codes as they are.

   Work is cut by lengths alone, never by the number of threads, so results do not depend on it. */

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "lanes.h"

#define STRIDE 64 /* slots whose mean keys are those of the first slots, turned at once */
#define CHUNK 512 /* tokens of one item of work, whose scores stay in a core's cache */
#define WIDE 2    /* vectors whose sums are held at once, for every row */
#define TAIL 2    /* bytes that hold what of a ring goes before its first code */
#define STATE_MASK ((1u << STATE_BITS) - 1)

typedef struct {
    const uint8_t *codes;   /* (B, H, slots, ROW_BYTES) */
    const float *scales;    /* (B, H, slots) */
    const float *levels;    /* (16,): those of the codebook, repeated; or (2^STATE_BITS,) */
    const float *rotation;  /* (D, D), or NULL: of queries to the keys' basis, back from values' */
    const float *mean;      /* (B, H, D), or NULL */
    int64_t code_batch, code_head, scale_batch, scale_head; /* strides */
} Side;

typedef struct {
    Side keys, values;
    const float *queries;   /* (B, H, R, D), R = G T rows of a KV head */
    const float *cos, *sin; /* (slots, D) */
    const float *newest_keys, *newest_values; /* (B, H, W, D), after the slots */
    const uint8_t *visible; /* a mask (B, T, slots + W), or NULL */
    const float *added;     /* a mask (B, T, slots + W), or NULL; without either it is causal */
    float *output;          /* (B, H, R, D) */
    int64_t mask_batch, mask_query; /* strides */
    int64_t batch, heads, rows, length, slots, newest, threads; /* B, H, R, T, slots, W */
    float scaling;
    OpenMP *openmp;
} Call;

typedef struct {
    const Call *call;
    int64_t chunks; /* of a head */
    float *scaled, *rotated; /* queries */
    float *means;            /* (B, H, D, STRIDE), turned to the first slots */
    float *parts, *maxima, *sums; /* (B, H, chunks, R): outputs (D,) and divisors, over e^maximum */
    float *near;                  /* (B, H, room): weights of the newest tokens */
    int64_t room;                 /* W, to whole vectors */
} Job;

static void times(const float *x, const float *matrix, float *y) { /* y = x matrix */
    if (!matrix) {
        memcpy(y, x, HEAD_DIM * sizeof *y);
        return;
    }
    float sum[HEAD_DIM] = {0};
    for (int i = 0; i < HEAD_DIM; i++)
        for (int d = 0; d < HEAD_DIM; d++) sum[d] += x[i] * matrix[i * HEAD_DIM + d];
    memcpy(y, sum, sizeof sum);
}

static void prepare(const void *data, int64_t head) {
    const Job *job = data;
    const Call *call = job->call;
    for (int64_t row = head * call->rows; row < (head + 1) * call->rows; row++) {
        float *scaled = job->scaled + row * HEAD_DIM;
        for (int d = 0; d < HEAD_DIM; d++)
            scaled[d] = call->queries[row * HEAD_DIM + d] * call->scaling;
        times(scaled, call->keys.rotation, job->rotated + row * HEAD_DIM);
    }
    if (!call->keys.mean) return;
    const float *mean = call->keys.mean + head * HEAD_DIM;
    float *means = job->means + head * HEAD_DIM * STRIDE;
    memset(means, 0, HEAD_DIM * STRIDE * sizeof *means);
    for (int n = 0; n < STRIDE && n < call->slots; n++)
        for (int d = 0; d < HEAD_DIM; d++) {
            float pair = d < HEAD_DIM / 2 ? -mean[d + HEAD_DIM / 2] : mean[d - HEAD_DIM / 2];
            means[d * STRIDE + n] =
                mean[d] * call->cos[n * HEAD_DIM + d] + pair * call->sin[n * HEAD_DIM + d];
        }
}

/* Of slots `start` + n, n < STRIDE: (R(-start) q) · (R(n) mean). */
static void score_means(const Call *call, const float *queries, const float *means, int64_t start,
                        float scores[ROWS][STRIDE]) {
    const float *cos = call->cos + start * HEAD_DIM, *sin = call->sin + start * HEAD_DIM;
    const int half = HEAD_DIM / 2;
    float turned[ROWS][HEAD_DIM];
    for (int r = 0; r < ROWS; r++)
        for (int d = 0; d < half; d++) {
            float left = queries[r * HEAD_DIM + d], right = queries[r * HEAD_DIM + d + half];
            turned[r][d] = left * cos[d] + right * sin[d];
            turned[r][d + half] = right * cos[d + half] - left * sin[d + half];
        }
    for (int n = 0; n < STRIDE; n += WIDE * LANES) {
        f32 sum[ROWS][WIDE] = {0};
        for (int d = 0; d < HEAD_DIM; d++)
            for (int r = 0; r < ROWS; r++)
                for (int v = 0; v < WIDE; v++)
                    sum[r][v] += turned[r][d] * load(means + d * STRIDE + n + v * LANES);
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < WIDE; v++) store(&scores[r][n + v * LANES], sum[r][v]);
    }
}

/* Adds s (H q) · c for `tokens` <= STRIDE keys. */
static void score_codes(const float *levels, const float *queries, const uint8_t *codes,
                        const float *scales, int tokens, float scores[ROWS][STRIDE]) {
    uint32_t words[GROUPS][STRIDE];
    float scale[STRIDE] = {0};
    memcpy(scale, scales, tokens * sizeof *scale);
    for (int group = 0; group < GROUPS; group += 2) { /* codes past a group's eight do no harm */
        int end = ROW_BYTES - 8, byte = group * BITS < end ? group * BITS : end;
        int bit = 8 * (group * BITS - byte);
        for (int n = 0; n < tokens; n++) {
            uint64_t pair;
            memcpy(&pair, codes + n * ROW_BYTES + byte, sizeof pair);
            words[group][n] = (uint32_t)(pair >> bit);
            words[group + 1][n] = (uint32_t)(pair >> (bit + 8 * BITS));
        }
        for (int n = tokens; n < STRIDE; n++) words[group][n] = words[group + 1][n] = 0;
    }
    for (int n = 0; n < STRIDE; n += WIDE * LANES) {
        f32 sum[ROWS][WIDE] = {0};
#if STATE_BITS
        u32 state[WIDE]; /* the ring's last, before the first */
        memcpy(state, &words[GROUPS - 1][n], sizeof state);
        for (int v = 0; v < WIDE; v++)
            state[v] = state[v] >> (8 * BITS - STATE_BITS) & STATE_MASK;
#endif
        for (int group = 0; group < GROUPS; group++) {
            u32 w[WIDE];
            memcpy(w, &words[group][n], sizeof w);
#pragma GCC unroll 1
            for (int d = group * 8; d < group * 8 + 8; d++) {
                f32 level[WIDE];
                for (int v = 0; v < WIDE; v++) {
#if STATE_BITS
                    u32 code = w[v] & ((1 << BITS) - 1);
                    state[v] = state[v] >> BITS | code << (STATE_BITS - BITS);
                    level[v] = gather(levels, state[v]);
#else
                    level[v] = look_up(levels, w[v]);
#endif
                    w[v] >>= BITS;
                }
                for (int r = 0; r < ROWS; r++)
                    for (int v = 0; v < WIDE; v++)
                        sum[r][v] += queries[r * HEAD_DIM + d] * level[v];
            }
        }
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < WIDE; v++) {
                float *to = &scores[r][n + v * LANES];
                store(to, load(to) + sum[r][v] * load(scale + n + v * LANES));
            }
    }
}

static void hide(const Call *call, int64_t batch, int64_t row, int64_t start, int tokens,
                 float *scores) {
    int64_t query = row % call->length;
    int64_t at = batch * call->mask_batch + query * call->mask_query + start;
    if (call->visible) {
        for (int n = 0; n < tokens; n++) scores[n] = call->visible[at + n] ? scores[n] : -FLT_MAX;
    } else if (call->added) {
        for (int n = 0; n < tokens; n++) scores[n] += call->added[at + n];
    } else {
        int64_t seen = call->slots + call->newest - call->length + query + 1 - start;
        for (int64_t n = seen < 0 ? 0 : seen; n < tokens; n++) scores[n] = -FLT_MAX;
    }
}

/* Scores (CHUNK,) to e^(score - maximum): returns their sum. Up to a whole vector past `tokens`
   becomes zero. */
static float soften(float *scores, int tokens, float *maximum) {
    for (int n = tokens; n % LANES; n++) scores[n] = -INFINITY;
    f32 most = load(scores), total = {0};
    for (int n = LANES; n < tokens; n += LANES) {
        f32 x = load(scores + n);
        i32 more = x > most;
        most = (f32)(((i32)x & more) | ((i32)most & ~more));
    }
    *maximum = most[0];
    for (int lane = 1; lane < LANES; lane++) *maximum = fmaxf(*maximum, most[lane]);
    for (int n = 0; n < tokens; n += LANES) {
        f32 weight = exp_negative(load(scores + n) - *maximum);
        total += weight;
        store(scores + n, weight);
    }
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += total[lane];
    return sum;
}

/* Sums of values by weights: (ROWS, D), still rotated. */
static void mix(const float *levels, const uint8_t *codes, int tokens, float weights[ROWS][CHUNK],
                float *output) {
    enum { SPAN = LANES == 16 && HEAD_DIM % 32 == 0 ? 32 : 16, VECTORS = SPAN / LANES };
    for (int start = 0; start < HEAD_DIM; start += SPAN) {
#if STATE_BITS
        u32 shift[VECTORS], place[VECTORS];
#else
        u32 shift[VECTORS], even[VECTORS];
#endif
        for (int v = 0; v < VECTORS; v++)
            for (int lane = 0; lane < LANES; lane++) {
                int d = start + v * LANES + lane;
#if STATE_BITS
                int bit = 8 * TAIL + (d + 1) * BITS - STATE_BITS;
                place[v][lane] = bit / 8;
                shift[v][lane] = bit % 8;
#else
                shift[v][lane] = first_bit(d / 8) + d % 8 * BITS;
                even[v][lane] = d / 8 % 2 ? 0 : ~0u;
#endif
            }
        f32 sum[ROWS][VECTORS] = {0};
        for (int n = 0; n < tokens; n++) {
            const uint8_t *row = codes + n * ROW_BYTES;
            f32 level[VECTORS];
#if STATE_BITS
            uint8_t ring[TAIL + ROW_BYTES + 3] = {0}; /* its end before it */
            memcpy(ring, row + ROW_BYTES - TAIL, TAIL);
            memcpy(ring + TAIL, row, ROW_BYTES);
            for (int v = 0; v < VECTORS; v++)
                level[v] = gather(levels, words_at(ring, place[v]) >> shift[v] & STATE_MASK);
#else
            for (int v = 0; v < VECTORS; v++) {
                int group = (start + v * LANES) / 16 * 2;
                uint32_t a = word(row + first_byte(group)), b = word(row + first_byte(group + 1));
                level[v] = look_up(levels, ((a & even[v]) | (b & ~even[v])) >> shift[v]);
            }
#endif
            for (int r = 0; r < ROWS; r++)
                for (int v = 0; v < VECTORS; v++) sum[r][v] += weights[r][n] * level[v];
        }
        for (int r = 0; r < ROWS; r++)
            memcpy(output + r * HEAD_DIM + start, sum[r], sizeof sum[r]);
    }
}

static void attend_chunk(const void *data, int64_t index) {
    const Job *job = data;
    const Call *call = job->call;
    const Side *keys = &call->keys, *values = &call->values;
    int64_t head = index / job->chunks, chunk = index % job->chunks, start = chunk * CHUNK;
    int64_t batch = head / call->heads, own = head % call->heads;
    int tokens = call->slots - start < CHUNK ? (int)(call->slots - start) : CHUNK;
    const uint8_t *key_codes = keys->codes + batch * keys->code_batch + own * keys->code_head;
    const float *key_scales = keys->scales + batch * keys->scale_batch + own * keys->scale_head;
    const uint8_t *value_codes =
        values->codes + batch * values->code_batch + own * values->code_head;
    const float *value_scales =
        values->scales + batch * values->scale_batch + own * values->scale_head;
    for (int64_t row = 0; row < call->rows; row += ROWS) {
        int64_t place = (head * call->rows + row) * HEAD_DIM;
        int64_t part = (head * job->chunks + chunk) * call->rows + row;
        float weights[ROWS][CHUNK], scores[ROWS][STRIDE] = {0};
        for (int n = 0; n < tokens; n += STRIDE) {
            int here = tokens - n < STRIDE ? tokens - n : STRIDE;
            if (keys->mean)
                score_means(call, job->scaled + place, job->means + head * HEAD_DIM * STRIDE,
                            start + n, scores);
            else
                memset(scores, 0, sizeof scores);
            score_codes(keys->levels, job->rotated + place, key_codes + (start + n) * ROW_BYTES,
                        key_scales + start + n, here, scores);
            for (int r = 0; r < ROWS; r++) memcpy(&weights[r][n], scores[r], sizeof scores[r]);
        }
        for (int r = 0; r < ROWS; r++) {
            hide(call, batch, row + r, start, tokens, weights[r]);
            job->sums[part + r] = soften(weights[r], tokens, &job->maxima[part + r]);
            for (int n = 0; n < tokens; n++) weights[r][n] *= value_scales[start + n];
        }
        mix(values->levels, value_codes + start * ROW_BYTES, tokens, weights,
            job->parts + part * HEAD_DIM);
    }
}

/* Weights of the newest tokens over e^maximum; returns their sum. */
static float weigh_newest(const Job *job, int64_t head, int64_t row, float *maximum) {
    const Call *call = job->call;
    const float *query = job->scaled + (head * call->rows + row) * HEAD_DIM;
    float *weights = job->near + head * job->room;
    for (int64_t n = 0; n < call->newest; n++) {
        const float *key = call->newest_keys + (head * call->newest + n) * HEAD_DIM;
        f32 sum = {0};
        for (int d = 0; d < HEAD_DIM; d += LANES) sum += load(query + d) * load(key + d);
        weights[n] = 0;
        for (int lane = 0; lane < LANES; lane++) weights[n] += sum[lane];
    }
    hide(call, head / call->heads, row, call->slots, call->newest, weights);
    return soften(weights, call->newest, maximum);
}

/* The chunks of a head as one: un-rotated, with the mean; and the newest tokens beside them. */
static void combine(const void *data, int64_t head) {
    const Job *job = data;
    const Call *call = job->call;
    for (int64_t row = 0; row < call->rows; row++) {
        int64_t first = head * job->chunks * call->rows + row;
        int64_t stop = first + job->chunks * call->rows;
        float maximum = -FLT_MAX, total = 0, mixed[HEAD_DIM] = {0};
        float near_maximum = -FLT_MAX, near_total = 0;
        if (call->newest) near_total = weigh_newest(job, head, row, &near_maximum);
        maximum = near_maximum;
        for (int64_t part = first; part < stop; part += call->rows)
            maximum = fmaxf(maximum, job->maxima[part]);
        for (int64_t part = first; part < stop; part += call->rows) {
            float share = expf(job->maxima[part] - maximum);
            total += share * job->sums[part];
            for (int d = 0; d < HEAD_DIM; d++) mixed[d] += share * job->parts[part * HEAD_DIM + d];
        }
        float near_share = expf(near_maximum - maximum), all = total + near_share * near_total;
        for (int d = 0; d < HEAD_DIM; d++) mixed[d] /= all;
        float *output = call->output + (head * call->rows + row) * HEAD_DIM;
        times(mixed, call->values.rotation, output);
        if (call->values.mean)
            for (int d = 0; d < HEAD_DIM; d++)
                output[d] += total / all * call->values.mean[head * HEAD_DIM + d];
        for (int64_t n = 0; n < call->newest; n++) {
            const float *value = call->newest_values + (head * call->newest + n) * HEAD_DIM;
            float weight = job->near[head * job->room + n] * near_share / all;
            for (int d = 0; d < HEAD_DIM; d++) output[d] += weight * value[d];
        }
    }
}

/* Returns 0, or 1 where memory is short. R must be a multiple of ROWS, slots + W at least 1. */
int attend(const Call *call) {
    int64_t heads = call->batch * call->heads, rows = heads * call->rows;
    Job job = {.call = call, .chunks = (call->slots + CHUNK - 1) / CHUNK};
    job.room = (call->newest + LANES - 1) / LANES * LANES;
    int64_t parts = rows * job.chunks;
    int64_t floats = (2 * rows + heads * STRIDE + parts) * HEAD_DIM + 2 * parts + heads * job.room;
    float *room = malloc(floats * sizeof *room);
    if (!room) return 1;
    job.scaled = room;
    job.rotated = job.scaled + rows * HEAD_DIM;
    job.means = job.rotated + rows * HEAD_DIM;
    job.parts = job.means + heads * STRIDE * HEAD_DIM;
    job.maxima = job.parts + parts * HEAD_DIM;
    job.sums = job.maxima + parts;
    job.near = job.sums + parts;
    each(prepare, &job, heads, call->threads, call->openmp);
    each(attend_chunk, &job, heads * job.chunks, call->threads, call->openmp);
    each(combine, &job, heads, call->threads, call->openmp);
    free(room);
    return 0;
}
