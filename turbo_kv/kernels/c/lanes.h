/* What the kernels of a CPU share: vectors as wide as the machine's, codes, tables, threads.

   Written in C with the vector types that GCC and Clang know; only a table look-up differs between
   machines. Compiled for one shape at a time: BITS of a code and HEAD_DIM, a multiple of 16, are
   macros. Knows neither attention nor quantizer. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#elif defined(__AVX2__)
#include <immintrin.h>
#define LANES 8
#elif defined(__aarch64__)
#include <arm_neon.h>
#define LANES 4
#else
#define LANES 4
#endif

#define GROUPS (HEAD_DIM / 8)    /* of eight codes, which fill BITS bytes */
#define ROW_BYTES (GROUPS * BITS)

typedef float f32 __attribute__((vector_size(4 * LANES)));
typedef int32_t i32 __attribute__((vector_size(4 * LANES)));
typedef uint32_t u32 __attribute__((vector_size(4 * LANES)));

static inline f32 load(const float *from) {
    f32 x;
    memcpy(&x, from, sizeof x);
    return x;
}

static inline void store(float *to, f32 x) { memcpy(to, &x, sizeof x); }

/* Entries `index` of a table of any size. */
static inline f32 gather(const float *table, u32 index) {
#if defined(__AVX512F__)
    return (f32)_mm512_i32gather_ps((__m512i)index, table, 4);
#elif defined(__AVX2__)
    return (f32)_mm256_i32gather_ps(table, (__m256i)index, 4);
#else
    f32 found;
    for (int lane = 0; lane < LANES; lane++) found[lane] = table[index[lane]];
    return found;
#endif
}

/* Entries `index` mod 16 of a table; with fewer levels than 16 they repeat. */
static inline f32 look_up(const float table[16], u32 index) {
#if defined(__AVX512F__)
    return (f32)_mm512_permutexvar_ps((__m512i)index, (__m512)load(table));
#elif defined(__AVX2__)
    f32 found = (f32)_mm256_permutevar8x32_ps((__m256)load(table), (__m256i)index);
#if BITS == 4
    f32 upper = (f32)_mm256_permutevar8x32_ps((__m256)load(table + 8), (__m256i)index);
    found = (f32)_mm256_blendv_ps((__m256)found, (__m256)upper, (__m256)(index << 28));
#endif
    return found;
#elif defined(__aarch64__)
    uint8x16x4_t bytes = vld1q_u8_x4((const uint8_t *)table);
    return (f32)vqtbl4q_u8(bytes, (uint8x16_t)((index & 15) * 0x04040404u + 0x03020100u));
#else
    return gather(table, index & 15);
#endif
}

/* The four bytes from each of LANES places on. */
static inline u32 words_at(const uint8_t *bytes, u32 place) {
#if defined(__AVX512F__)
    return (u32)_mm512_i32gather_epi32((__m512i)place, bytes, 1);
#elif defined(__AVX2__)
    return (u32)_mm256_i32gather_epi32((const int *)bytes, (__m256i)place, 1);
#else
    u32 found;
    for (int lane = 0; lane < LANES; lane++) {
        uint32_t w;
        memcpy(&w, bytes + place[lane], sizeof w);
        found[lane] = w;
    }
    return found;
#endif
}

/* Where to read the four bytes that hold a group's codes, never past the row, and how far up. */
static inline int first_byte(int group) {
    return group * BITS + 4 > ROW_BYTES ? ROW_BYTES - 4 : group * BITS;
}

static inline int first_bit(int group) { return 8 * (group * BITS - first_byte(group)); }

static inline uint32_t word(const uint8_t *at) {
    uint32_t w;
    memcpy(&w, at, sizeof w);
    return w;
}

static inline f32 exp_negative(f32 x) { /* e^x for x <= 0, as zero below e^-87 */
    f32 n = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* rounded to whole powers of two */
    f32 r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
    f32 y = r * 1.9875691e-4f + 1.3981999e-3f;
    y = y * r + 8.3334519e-3f;
    y = y * r + 4.1665795e-2f;
    y = y * r + 1.6666665e-1f;
    y = y * r + 0.5f;
    y = (y * (r * r) + r) + 1.0f;
    i32 power = (__builtin_convertvector(n, i32) + 127) << 23;
    return (f32)((i32)(y * (f32)power) & (x > -87.0f));
}

/* Do `item` for 0 to count - 1 on `threads` threads: those of OpenMP, which PyTorch keeps waiting,
   if `openmp` is its GOMP_parallel, else new ones. */

typedef void Item(const void *job, int64_t index);
typedef void OpenMP(void (*run)(void *), void *data, unsigned threads, unsigned flags);

typedef struct {
    Item *item;
    const void *job;
    int64_t count;
    atomic_llong next;
} Queue;

static void drain(void *data) {
    Queue *queue = data;
    for (int64_t i; (i = atomic_fetch_add(&queue->next, 1)) < queue->count;)
        queue->item(queue->job, i);
}

static void *drain_thread(void *data) {
    drain(data);
    return NULL;
}

static void each(Item *item, const void *job, int64_t count, int64_t threads, OpenMP *openmp) {
    Queue queue = {item, job, count, 0};
    if (threads > count) threads = count;
    if (threads > 1 && openmp) {
        openmp(drain, &queue, (unsigned)threads, 0);
        return;
    }
    pthread_t helpers[threads > 1 ? threads - 1 : 1];
    int started = 0;
    while (started < threads - 1 && !pthread_create(&helpers[started], NULL, drain_thread, &queue))
        started++;
    drain(&queue);
    while (started > 0) pthread_join(helpers[--started], NULL);
}
