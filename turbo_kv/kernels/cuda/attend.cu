// Decode attention on packed pages, one KV head's queries over a run of pages. Compiled for one
// shape: D, KEY_BITS, VALUE_BITS, whether levels take two bytes (KEY_LONG, VALUE_LONG), FAST pairs,
// the width of a QUERY's floats or 0 for bf16, CENTRED, PADDED, WARPS of a program and REGISTERS.
//
// A warp owns every WARPS-th page of its program's run, and its words go through two slots a side
// in shared memory, each lane's to where that lane reads them. Levels are bytes that `prmt` picks,
// and what they are multiplied by is whole numbers 256 a + b: queries, of 16 bits and one step for
// a program, and weights of tokens times scales, of 15 bits and one reference until they outgrow
// it, when sums so far are shifted. A warp begins with its newest page, since what came last tends
// to weigh most.
//
// What the mean adds to scores is smooth in the token for slow pairs of RoPE, so it is sampled once
// a page, and 16 samples tell its curve within a page in eight numbers; the FAST first pairs are
// turned from page to page, and the slowest four of them are part of that curve (mean_samples.py).
// The last program of a head to come weighs what all of them have written together. Knows no
// quantizer and no cache.

#include "lanes.cuh"

constexpr int PAGE = 64, THREADS = 32 * WARPS, QUERIES = 8, FIELDS = 4;
constexpr int CHUNKS = D / 64;  // of four operands of 16 channels
constexpr int OPERANDS = D / 16;
constexpr int KEY_BYTES = 8 * D * KEY_BITS, VALUE_BYTES = 8 * D * VALUE_BITS;  // of a page
constexpr int WORD_BYTES = KEY_BYTES > VALUE_BYTES ? KEY_BYTES : VALUE_BYTES;
constexpr int SLOT = WORD_BYTES + 2 * PAGE;  // words and scales of one side of a page
constexpr int RING = 4 * SLOT;  // of keys, then of values, two each
constexpr int PAIRS = D / 2;
constexpr int ROW = PAIRS + 4;  // words of z of a query, so that queries lie in different banks
constexpr int WIDE = D + 4;     // a row of D floats, likewise
constexpr int TURNS = FAST / 4;  // fast pairs of a lane: t, t + 4, ...
constexpr int FAST_STEPS = FAST / 8, SLOW_STEPS = (PAIRS - FAST) / 8;  // of the matrix unit
constexpr int BEFORE = 7, AFTER = 8;  // samples beside a page's own that it is interpolated from
constexpr int BLOCK = 16;             // samples that are made at once
constexpr float EMPTY = -1e30f, LOWEST = -1e20f, LEAST_UNIT = 1e-30f;
constexpr float RAISED = 12582912.f;  // 1.5 · 2^23: what is added to it counts in its lower bits
// 2^15: of what is added to it, bits 8 to 22 hold the whole part and those below them 256ths, which
// a weight's own product rounds by.
constexpr float LIFTED = 32768.f;
constexpr u32 ABOVE_15_BITS = ~0x477FFFFFu;  // that no number below 2^15 has, once LIFTED
// log2 of what the largest weight of a warp's first page is to be; half a bit more whenever pages
// double, as what their weights are rounded by adds up, and ONLY where no other page follows.
constexpr float AIM = 11.f, ONLY = 14.5f;
// Pages of a program from which on no warp expects less of its other pages than the second largest
// weight of all first ones: fewer outgrow their reference. The largest may be like no other.
constexpr int TOGETHER = 4 * WARPS;

struct Run { int begin, end; };  // of pages

struct Arguments {
  const void* queries;       // (kv_heads, groups, D) of each text, `query_stride` apart
  const char* keys;          // (heads, pages, KEY_BYTES)
  const u16* key_scales;     // (heads, pages, 64), fp16 as all u16
  const char* values;        // (heads, pages, VALUE_BYTES)
  const u16* value_scales;
  const int* length;
  const int* firsts;         // (batch)
  const u16* rotation;       // (D, D), of queries, rows in the order of channels in words
  const u16* unrotation;     // (D, D), of outputs, columns in that order
  const u16* key_mean;       // (heads, D)
  const u16* value_mean;
  const float2* step;        // (4, TURNS), what pairs turn by from one page of a warp to the next
  const uint4* mean_table;   // (FIELDS, FAST_STEPS, 32)
  const uint4* curve_table;  // (32)
  const uint4* sample_table; // (blocks, SLOW_STEPS, 2, 32)
  const float* cos;          // (tokens, D)
  const float* sin;
  const u32* levels;         // (·, 32 alike): tables of keys, of values, then `marks`
  u16* outputs;              // (heads, 8, splits, D), of each split, over a power of two
  float2* sums;              // (heads, 8, splits): log2 of all weights, and what outputs are over
  u32* arrived;              // (heads), zeros before and after
  void* attended;            // (heads, groups, D), what splits come to, or null to leave them apart
  float scaling;             // of queries
  float key_unit;            // of products with levels of keys
  float gain;                // of outputs
  int pages, groups, kv_heads, query_stride;
};

// A warp's rows of 512 bytes, from OFFSET bytes before `from` on.
template <int BYTES, int OFFSET> INLINE void copy_rows(u32 to, const void* from) {
  if constexpr (BYTES > 512) copy_rows<BYTES - 512, OFFSET>(to, from);
  copy16_once<BYTES - 512, BYTES - 512 - OFFSET>(to, from);
}

// Where in a page addresses of a copy are counted from: they reach 2 KB to either side.
template <int BYTES> constexpr int MIDDLE = BYTES / 1024 * 512;

// Words and scales of one side of a page, on their way to a slot. Lanes of a row copy its scales
// alike, so that no lane waits for another's; before a slot is filled again all have met.
template <int BYTES>
INLINE void fetch(u32 words_to, u32 scales_to, const char* middle, const char* scales) {
  copy_rows<BYTES, MIDDLE<BYTES>>(words_to, middle);
  copy16_once<0, 0>(scales_to, scales);
}

template <int BYTES> INLINE void prefetch(const void* from, int lane) {  // a warp's
#pragma unroll
  for (int i = 0; i < BYTES; i += 4096)
    if (i + lane * 128 < BYTES) prefetch((const char*)from + i + lane * 128);
}

INLINE u32 at(const uint4& x, int i) { return i == 0 ? x.x : i == 1 ? x.y : i == 2 ? x.z : x.w; }

// Codes of a field in the lower nibbles of a word for each of two rows, of the planes of their
// operand.
template <int BITS>
INLINE void nibbles(u32* rows, const uint4 (&planes)[BITS], int operand, int field) {
  const auto word = [&](int plane) { return at(planes[plane], operand); };
  u32 both;
  if (BITS == 2) {
    both = word(field / 2) >> 2 * (field % 2) & 0x33333333;
  } else if (BITS == 4 || field < 3) {
    both = word(field) & 0x77777777;
  } else {
    constexpr u32 tops = 0x88888888;
    const auto on_top = [](u32 x, u32 rest) { return (x & tops) | (rest >> 1 & ~tops); };
    both = on_top(word(2), on_top(word(1), word(0))) >> 1 & ~tops;
  }
  rows[0] = both;
  rows[1] = upper_half(both);
}

template <int BITS> constexpr int TABLE = BITS == 4 ? 4 : 2;  // words of bytes of levels

// Bytes of levels for four nibbles. With 4 bits a second table serves codes of 8 and more, which
// `above` marks in its nibbles; bytes 0 and 1 of `marks` are all zeros and all ones.
template <int BITS> INLINE u32 picked(const u32* table, u32 nibbles, u32 above, u32 marks) {
  const u32 bytes = prmt(table[0], table[1], nibbles);
  if (BITS < 4) return bytes;
  const u32 others = prmt(table[2], table[3], nibbles), mask = prmt(marks, 0, above);
  return (bytes & ~mask) | (others & mask);
}

template <int BITS>
INLINE void above_eight(u32* rows, const uint4 (&planes)[BITS], int operand, int field) {
  rows[0] = BITS == 4 ? at(planes[field % BITS], operand) >> 3 & 0x11111111 : 0;
  rows[1] = rows[0] >> 16;
}

struct Levels { u32 upper[4], lower[4]; };  // bytes of them, as the left side of a product

// Levels of two rows each of two operands, or of two fields of one. LONG: they have lower bytes.
template <bool LONG, int BITS>
INLINE Levels levels_of(const u32* table, u32 marks, const uint4 (&planes)[BITS], int operand,
                        int field, int next_operand, int next_field) {
  u32 codes[4], above[4];
  nibbles(codes, planes, operand, field);
  nibbles(codes + 2, planes, next_operand, next_field);
  above_eight(above, planes, operand, field);
  above_eight(above + 2, planes, next_operand, next_field);
  Levels levels = {};
#pragma unroll
  for (int n = 0; n < 4; n++) {
    levels.upper[n] = picked<BITS>(table, codes[n], above[n], marks);
    if (LONG)
      levels.lower[n] = picked<BITS>(table + TABLE<BITS>, codes[n], above[n], marks);
  }
  return levels;
}

template <int BITS>
INLINE void load_planes(uint4 (&planes)[BITS], u32 words_at, int chunk) {
#pragma unroll
  for (int p = 0; p < BITS; p++) planes[p] = from_shared(words_at + p * (8 * D) + chunk * 512);
}

// Eight numbers of queries.
INLINE void load_eight(float2 (&x)[4], const uint4* from) {
#if QUERY == 32
#pragma unroll
  for (int n = 0; n < 4; n += 2) {
    const uint4 words = load(from + n / 2);
    x[n] = {__uint_as_float(words.x), __uint_as_float(words.y)};
    x[n + 1] = {__uint_as_float(words.z), __uint_as_float(words.w)};
  }
#else
  const uint4 words = load(from);
#pragma unroll
  for (int n = 0; n < 4; n++) {
    const u32 both = at(words, n);
#if QUERY == 16
    x[n] = floats(both);
#else
    x[n] = {__uint_as_float(both << 16), __uint_as_float(both & 0xFFFF0000u)};
#endif
  }
#endif
}

#if QUERY == 32
INLINE void store(void* to, long i, float x) { ((float*)to)[i] = x; }
#elif QUERY == 16
INLINE void store(void* to, long i, float x) { ((u16*)to)[i] = (u16)halves(x, 0.f); }
#else
INLINE void store(void* to, long i, float x) { ((u16*)to)[i] = brain_float(x); }
#endif

// Rows of a matrix (D, D) that a warp multiplies, of 16 in a tile.
constexpr int TILES = OPERANDS > WARPS ? OPERANDS / WARPS : 1;
struct Rows { uint4 of[TILES][2][D / 32]; };

INLINE void load_rows(Rows& rows, const u16* matrix, int warp, int lane) {
#pragma unroll
  for (int m = 0; m < TILES; m++)
#pragma unroll
    for (int h = 0; h < 2; h++)
#pragma unroll
      for (int k = 0; k < D / 32; k++) {
        const int row = (warp * TILES + m) * 16 + 8 * h + lane / 4;
        rows.of[m][h][k] = *(const uint4*)(matrix + row * D + 32 * k + lane % 4 * 8);
      }
}

// Vectors of eight queries, every number in two parts of fp16, or in one that is EXACT:
// (2, 8, HALVES), of which D are used.
constexpr bool EXACT_QUERIES = QUERY != 32;
constexpr int HALVES = D + 32;                  // so that rows lie in different banks
constexpr int OF_LOWER = QUERIES * HALVES / 2;  // words before the lower parts

template <int N> struct __align__(4 * N) Words { u32 of[N]; };

INLINE u32 lower_halves(u32 upper, float2 x) {
  const float2 rounded = floats(upper);
  return halves(x.x - rounded.x, x.y - rounded.y);
}

template <bool EXACT, int N>
INLINE void put(u32* vectors, int query, int pair, const float2 (&x)[N]) {
  Words<N> upper, lower;
#pragma unroll
  for (int n = 0; n < N; n++) upper.of[n] = halves(x[n].x, x[n].y);
  u32* const to = vectors + query * (HALVES / 2) + pair;
  *(Words<N>*)to = upper;
  if (EXACT) return;
#pragma unroll
  for (int n = 0; n < N; n++) lower.of[n] = lower_halves(upper.of[n], x[n]);
  *(Words<N>*)(to + OF_LOWER) = lower;
}

template <bool EXACT> INLINE float number(const u32* vectors, int query, int channel) {
  const u16* const from = (const u16*)vectors + query * HALVES + channel;
  return floats(from[0]).x + (EXACT ? 0.f : floats(from[2 * OF_LOWER]).x);
}

// c: rows times vectors. Four sums do not wait for each other.
template <bool EXACT>
INLINE void multiply(float (&c)[TILES][4], const Rows& rows, const u32* vectors, int lane) {
  float others[TILES][3][4] = {};
  const u32* const from = vectors + lane / 4 * (HALVES / 2) + lane % 4 * 4;
#pragma unroll
  for (int k = 0; k < D / 32; k++) {
    const uint4 high = *(const uint4*)(from + 16 * k);
    const uint4 low = EXACT ? uint4{} : *(const uint4*)(from + OF_LOWER + 16 * k);
#pragma unroll
    for (int m = 0; m < TILES; m++) {
      const uint4 above = rows.of[m][0][k], below = rows.of[m][1][k];
      const uint4 front = {above.x, below.x, above.y, below.y};
      const uint4 back = {above.z, below.z, above.w, below.w};
      multiply(c[m], front, high.x, high.y);
      multiply(others[m][0], back, high.z, high.w);
      if (EXACT) continue;
      multiply(others[m][1], front, low.x, low.y);
      multiply(others[m][2], back, low.z, low.w);
    }
  }
#pragma unroll
  for (int m = 0; m < TILES; m++)
#pragma unroll
    for (int i = 0; i < 4; i++) {
      c[m][i] += others[m][0][i];
      if (!EXACT) c[m][i] += others[m][1][i] + others[m][2][i];
    }
}

INLINE float whole(u32 upper, u32 lower) { return (float)(int)upper * 256.f + (float)(int)lower; }

INLINE float sum_of_lanes(float x) {
#pragma unroll
  for (int n = 1; n < 32; n *= 2) x += __shfl_xor_sync(~0u, x, n);
  return x;
}

INLINE float largest_of_lanes(float x) {
#pragma unroll
  for (int n = 1; n < 32; n *= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, n));
  return x;
}

INLINE float largest_of_tokens(float x) {  // of a query, in all lanes
#pragma unroll
  for (int n = 4; n < 32; n *= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, n));
  return x;
}

// Sums 256 high + low over 2^bits, rounded down; bits: 0 to 31.
INLINE void shift(u32& high, u32& low, u32 bits) {
  low = ((int)low >> bits) + (__funnelshift_r(0, high, bits) >> 24);
  high = (int)high >> bits;
}

// Three bits backwards: eighths that are added before rounding, other ones to the next token, lest
// what equal weights are rounded by adds up.
INLINE int reversed(int n) { return n % 2 * 4 + n / 2 % 2 * 2 + n / 4; }

INLINE float2 turned(float2 z, float2 by) {  // conj(z e^(iθ)), as (real, imag) of mean_phases.py
  return {z.x * by.x + z.y * by.y, z.y * by.x - z.x * by.y};
}

extern "C" __global__ void __maxnreg__(REGISTERS) attend(const Arguments args) {
  extern __shared__ __align__(128) char shared[];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  // Where there are fewer pages than warps, the first ones have them and the last ones other work.
  const int from_last = WARPS - 1 - warp;
  char* const slots = shared;
  uint4* const mean_table = (uint4*)(slots + WARPS * RING);
  u32* const z = (u32*)(mean_table + FIELDS * FAST_STEPS * 32);  // (2, 8, ROW), parts of fp16
  u32* const vectors = z + 2 * QUERIES * ROW;  // queries, and outputs in the end
  float* const rotated = (float*)(vectors + 2 * OF_LOWER);
  u32* const largest = (u32*)(rotated + QUERIES * WIDE);  // of each warp, the bits of a float
  uint4* const asked = (uint4*)(largest + 8);     // a and b, (2, D / 64, 32)
  uint4* const curve_table = asked + 2 * CHUNKS * 32;
  float2* const step_table = (float2*)(curve_table + 32);
  float* const samples = (float*)(step_table + FAST);  // (blocks of 16, 8)

  const int head = blockIdx.x, split = blockIdx.y, splits = gridDim.y;
  const long first_page = (long)head * args.pages;
  const char* const keys = args.keys + first_page * KEY_BYTES;
  const char* const values = args.values + first_page * VALUE_BYTES;
  const u16* const key_scales = args.key_scales + first_page * PAGE;
  const u16* const value_scales = args.value_scales + first_page * PAGE;
  const auto run_of = [&](int length, int first) -> Run {  // of this program
    const int filled = (length + PAGE - 1) / PAGE, skipped = PADDED ? min(first / PAGE, filled) : 0;
    const int each = (u32)(filled - skipped) / (u32)splits;
    const int more = filled - skipped - each * splits;
    const int begin = skipped + split * each + min(split, more);
    return {begin, begin + each + (split < more)};
  };

  // While the launch before this one still runs, constants; and what will be read first is brought
  // into the L2 cache.
  const int text = head / args.kv_heads, head_of_text = head - text * args.kv_heads;
  const int* const own_first = args.firsts + text;
  const auto within = [&](int slot) { return min(max(slot, 0), args.pages * PAGE); };
  int length = within(early(args.length)), first = PADDED ? within(early(own_first)) : 0;
  const bool rotates = OPERANDS >= WARPS || warp < OPERANDS;  // it has rows of the matrices
  Rows rows;
  if (rotates) load_rows(rows, args.rotation, warp, lane);
  constexpr int KEY_TABLE = TABLE<KEY_BITS>, VALUE_TABLE = TABLE<VALUE_BITS>;
  u32 key_levels[2 * KEY_TABLE], value_levels[2 * VALUE_TABLE];  // upper bytes, then lower ones
#pragma unroll
  for (int i = 0; i < (1 + KEY_LONG) * KEY_TABLE; i++) key_levels[i] = args.levels[32 * i + lane];
#pragma unroll
  for (int i = 0; i < (1 + VALUE_LONG) * VALUE_TABLE; i++)
    value_levels[i] = args.levels[32 * ((1 + KEY_LONG) * KEY_TABLE + i) + lane];
  constexpr int TABLES = (1 + KEY_LONG) * KEY_TABLE + (1 + VALUE_LONG) * VALUE_TABLE;
  const u32 marks = args.levels[32 * TABLES + lane];
  u32 raised[4];
#pragma unroll
  for (int i = 0; i < 4; i++) raised[i] = args.levels[32 * (TABLES + 1 + i) + lane];
  if (CENTRED) {
    for (int i = threadIdx.x; i < FIELDS * FAST_STEPS * 32; i += THREADS)
      mean_table[i] = args.mean_table[i];
    for (int i = threadIdx.x; i < 32; i += THREADS) curve_table[i] = args.curve_table[i];
    for (int i = threadIdx.x; i < FAST; i += THREADS) step_table[i] = args.step[i];
  }
  Run run;
  int page;  // the one that is next
  const char *next_keys, *next_values, *next_key_scales, *next_value_scales;
  uint4 sample_upper[SLOW_STEPS + 1], sample_lower[SLOW_STEPS + 1];  // of a block's table
  const auto load_samples = [&](int block) {
    if (block * BLOCK < run.end + BEFORE + AFTER)
#pragma unroll
      for (int k = 0; k < SLOW_STEPS; k++) {
        const uint4* const table = args.sample_table + ((long)block * SLOW_STEPS + k) * 64 + lane;
        sample_upper[k] = table[0];
        sample_lower[k] = table[32];
      }
  };
  float cosines[TURNS + 1], sines[TURNS + 1];  // of fast pairs at the middle of a page
  const auto begin_where_length_says = [&]() {
    run = run_of(length, first);
    page = run.end - 1 - warp;
    next_keys = keys + (long)page * KEY_BYTES + MIDDLE<KEY_BYTES> + lane * 16;
    next_values = values + (long)page * VALUE_BYTES + MIDDLE<VALUE_BYTES> + lane * 16;
    next_key_scales = (const char*)(key_scales + page * PAGE) + lane / 4 * 16;
    next_value_scales = (const char*)(value_scales + page * PAGE) + lane / 4 * 16;
    if (!CENTRED) return;
    load_samples(run.begin / BLOCK + from_last);
    if (page < run.begin) return;
    const long middle = (long)(page * PAGE + PAGE / 2) * D + t;
#pragma unroll
    for (int p = 0; p < TURNS; p++)
      cosines[p] = args.cos[middle + 4 * p], sines[p] = args.sin[middle + 4 * p];
  };
  begin_where_length_says();  // if it is not the last one, that costs time and nothing else
  if (page >= run.begin) {
    prefetch<KEY_BYTES>(keys + (long)page * KEY_BYTES, lane);
    prefetch<VALUE_BYTES>(values + (long)page * VALUE_BYTES, lane);
    prefetch<2 * PAGE>(key_scales + page * PAGE, lane);
    prefetch<2 * PAGE>(value_scales + page * PAGE, lane);
  }
  if (CENTRED) {
    if (warp == 0) prefetch<2 * D>(args.key_mean + head * D, lane);
    if (warp == 1) prefetch<2 * D>(args.value_mean + head * D, lane);
  }
  // Where there are fewer than eight queries, the last is asked again.
  constexpr int EIGHTS = D / 8;  // of a query
  const int place = threadIdx.x - (THREADS - QUERIES * EIGHTS);  // among those of all queries
  const bool reads = place >= 0;
  const int row = head_of_text * args.groups + min(place / EIGHTS, args.groups - 1);
  const uint4* const own_eight = (const uint4*)args.queries +
      (text * args.query_stride + row * D + place % EIGHTS * 8) / (QUERY == 32 ? 4 : 8);
  if (reads) prefetch(own_eight);
  wait_for_launches();
  let_launches_begin();

  // Everything that is read once is asked for before any of it is used.
  float2 eight[4];
  if (reads) load_eight(eight, own_eight);
  const int pair = threadIdx.x % PAIRS;
  u16 left = 0, right = 0;  // of the mean
  if (CENTRED) {
    const u16* const from = args.key_mean + head * D + pair;
    left = load(from), right = load(from + PAIRS);
  }
  const int last_length = load(args.length), last_first = PADDED ? load(own_first) : 0;
  if (last_length != length || last_first != first) {
    length = last_length, first = last_first;
    begin_where_length_says();
  }
  const int begin = run.begin, end = run.end;
  const int sampled = begin / BLOCK * BLOCK;  // the first sample, of page `sampled` - BEFORE
  // Where a lane finds its words and scales of keys; those of values lie two slots on.
  u32 words_at = address(slots) + warp * RING + lane * 16;
  u32 scales_at = address(slots) + warp * RING + lane / 4 * 16 + WORD_BYTES;
  int to_other = SLOT;  // from this page's slot to the next one's
  const auto fetch_keys = [&](u32 words_to, u32 scales_to, bool there) {
    if (there) fetch<KEY_BYTES>(words_to, scales_to, next_keys, next_key_scales);
    next_keys -= WARPS * KEY_BYTES;
    next_key_scales -= WARPS * PAGE * 2;
    commit();
  };
  const auto fetch_values = [&](u32 words_to, u32 scales_to, bool there) {
    if (there)
      fetch<VALUE_BYTES>(words_to + 2 * SLOT, scales_to + 2 * SLOT, next_values, next_value_scales);
    next_values -= WARPS * VALUE_BYTES;
    next_value_scales -= WARPS * PAGE * 2;
    commit();
  };
  fetch_keys(words_at, scales_at, page >= begin);
  fetch_values(words_at, scales_at, page >= begin);
  if (reads) put<EXACT_QUERIES>(vectors, place / EIGHTS, place % EIGHTS * 4, eight);
  __syncthreads();
  if (CENTRED)
#pragma unroll
    for (int i = 0; i < QUERIES * PAIRS / THREADS; i++) {
      const int query = threadIdx.x / PAIRS + i * (THREADS / PAIRS);
      const auto at = [&](int channel) {
        return number<EXACT_QUERIES>(vectors, query, channel) * args.scaling;
      };
      const float2 q = {at(pair), at(pair + PAIRS)};
      const float2 mean = {floats(left).x, floats(right).x};
      const float2 own = {q.x * mean.x + q.y * mean.y, q.y * mean.x - q.x * mean.y};
      const u32 upper = halves(own.x, own.y);
      z[query * ROW + pair] = upper;
      z[(QUERIES + query) * ROW + pair] = lower_halves(upper, own);
    }
  if (rotates) {
    float c[TILES][4] = {};
    multiply<EXACT_QUERIES>(c, rows, vectors, lane);
    u32 most = 0;
#pragma unroll
    for (int m = 0; m < TILES; m++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        rotated[(2 * t + i % 2) * WIDE + (warp * TILES + m) * 16 + g + i / 2 * 8] = c[m][i];
        most = max(most, __float_as_uint(fabsf(c[m][i])));
      }
    most = largest_of(most);
    if (lane == 0) largest[warp] = most;
  }
  __syncthreads();

  float unit, raised_units;
  {
    u32 bits = 0;
#pragma unroll
    for (int w = 0; w < min(WARPS, OPERANDS); w++) bits = max(bits, largest[w]);
    const float most = __uint_as_float(bits);
    const float size = args.scaling * args.key_unit * 256.f;  // of 256 in a product
    const u32 exact = __float_as_uint(most * size / 32512.f);  // 127 · 256
    unit = __uint_as_float((exact + 0x3FFFF) & ~0x3FFFF);  // of six bits: its products are exact
    raised_units = unit * (RAISED + RAISED / 256.f);
    const float steps = most > 0.f ? size / unit : 0.f;
#pragma unroll
    for (int i = 0; rotates && i < TILES; i++) {
      const int o = warp + i * WARPS;
      const float2 left = *(const float2*)(rotated + g * WIDE + o * 16 + 2 * t);
      const float2 right = *(const float2*)(rotated + g * WIDE + o * 16 + 2 * t + 8);
      const int q[4] = {__float2int_rn(left.x * steps), __float2int_rn(left.y * steps),
                        __float2int_rn(right.x * steps), __float2int_rn(right.y * steps)};
      u32* const to = (u32*)(asked + o / 4 * 32 + lane) + o % 4;
      to[CHUNKS * 128] = prmt(prmt(q[0], q[1], 0x0040), prmt(q[2], q[3], 0x0040), 0x5410);
      to[0] = prmt(prmt(q[0] + 128, q[1] + 128, 0x0051), prmt(q[2] + 128, q[3] + 128, 0x0051),
                   0x5410);
    }
  }
  float2 turning[TURNS + 1];  // z of fast pairs at the middle of a page
  if (CENTRED) {
    u32 high[2 * SLOW_STEPS + 1], low[2 * SLOW_STEPS + 1];
#pragma unroll
    for (int i = 0; i < 2 * SLOW_STEPS; i++) {
      high[i] = z[g * ROW + FAST + 4 * i + t];
      low[i] = z[(QUERIES + g) * ROW + FAST + 4 * i + t];
    }
    for (int block = sampled / BLOCK + from_last; block * BLOCK < end + BEFORE + AFTER;) {
      float c[4] = {}, others[2][4] = {};
#pragma unroll
      for (int k = 0; k < SLOW_STEPS; k++) {
        multiply(c, sample_upper[k], high[2 * k], high[2 * k + 1]);
        multiply(others[0], sample_upper[k], low[2 * k], low[2 * k + 1]);
        multiply(others[1], sample_lower[k], high[2 * k], high[2 * k + 1]);
      }
#pragma unroll
      for (int i = 0; i < 4; i++) c[i] += others[0][i] + others[1][i];
      float* const to = samples + (block * BLOCK - sampled + g) * QUERIES + 2 * t;
      *(float2*)to = {c[0], c[1]};
      *(float2*)(to + 8 * QUERIES) = {c[2], c[3]};
      block += WARPS;
      load_samples(block);
    }
    if (page >= begin)
#pragma unroll
      for (int p = 0; p < TURNS; p++) {
        const u32* const own = z + g * ROW + t + 4 * p;
        const float2 upper = floats(own[0]), lower = floats(own[QUERIES * ROW]);
        turning[p] = turned({upper.x + lower.x, upper.y + lower.y}, {cosines[p], sines[p]});
      }
  }
  __syncthreads();

  u32 out_high[OPERANDS][4] = {}, out_low[OPERANDS][4] = {};
  float sum[2] = {};  // of queries 2t and 2t + 1, as all that follows
  // Weights are 2^(score - reference), which is to be at most 2^aim in the first page.
  float reference[2] = {};
  const float rounds = (float)(end - begin) / WARPS;
  const float aim = rounds > 1.f ? AIM + .5f * log2f(rounds) : ONLY;
  uint4 asked_high[CHUNKS], asked_low[CHUNKS];
#pragma unroll
  for (int c = 0; c < CHUNKS; c++)
    asked_high[c] = asked[c * 32 + lane], asked_low[c] = asked[(CHUNKS + c) * 32 + lane];
  const float* next_sample = samples + (page - sampled + BEFORE) * QUERIES;
  const int whole_pages = length / PAGE;
  u32 begins = ~0u;  // all ones until a warp has chosen its references, as if weights outgrew them
#pragma unroll 1
  for (; page >= begin; page -= WARPS) {
    const u32 next_words_at = words_at + to_other, next_scales_at = scales_at + to_other;
    fetch_keys(next_words_at, next_scales_at, page - WARPS >= begin);
    wait_for_all_but<2>();
    const float* const sample = next_sample;
    next_sample -= WARPS * QUERIES;
    u32 upper[FIELDS][4], lower[FIELDS][4];  // floats RAISED by whole numbers below 2^22
    uint4 key_planes[CHUNKS][KEY_BITS];
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) load_planes(key_planes[c], words_at, c);
#pragma unroll
    for (int s = 0; s < FIELDS; s++)
#pragma unroll
      for (int c = 0; c < CHUNKS; c++) {
        const uint4 high = asked_high[c], low = asked_low[c];
#pragma unroll
        for (int i = 0; i < 4; i += 2) {
          const auto a = levels_of<KEY_LONG>(key_levels, marks, key_planes[c], i, s, i + 1, s);
          const int o = c * 4 + i;
          multiply(upper[s], o ? upper[s] : raised, a.upper, at(high, i), at(high, i + 1));
          multiply(lower[s], o ? lower[s] : raised, a.upper, at(low, i), at(low, i + 1));
          if (KEY_LONG)  // 256 a + b times 256 u + v, without b v
            multiply(lower[s], lower[s], a.lower, at(high, i), at(high, i + 1));
        }
      }
    const uint4 key_scales_of_row = from_shared(scales_at);

    float score[FIELDS][4];
    float base0 = -reference[0], base1 = -reference[1];
    if (CENTRED) {
      const float2 middle = *(const float2*)(sample + 2 * t);
      base0 += middle.x, base1 += middle.y;
    }
    float base[4] = {base0, base1, base0, base1};
    if (CENTRED) {
      const float own = sample[g];
      const float* const node = sample + (2 * t - BEFORE) * QUERIES + g;
      const u32 left = halves(node[0] - own, node[QUERIES] - own);
      const u32 right = halves(node[8 * QUERIES] - own, node[9 * QUERIES] - own);
      const uint4 to_curve = curve_table[lane];
      const float2 slowest = turning[TURNS - 1];
      float curve[4] = {};  // two of a query's eight numbers, and two that nobody asks for
      multiply(curve, halves(slowest.x, slowest.y), 0, to_curve.z);
      multiply(curve, {left, 0, right, 0}, to_curve.x, to_curve.y);
#pragma unroll
      for (int k = 0; k < FAST_STEPS; k++) {
        const float2 first = turning[2 * k], second = turning[2 * k + 1];
        const u32 left = halves(first.x, first.y);
        const bool last = k + 1 == FAST_STEPS;
        const u32 right = last ? halves(curve[0], curve[1]) : halves(second.x, second.y);
#pragma unroll
        for (int s = 0; s < FIELDS; s++)
          multiply(score[s], k ? score[s] : base, mean_table[(s * FAST_STEPS + k) * 32 + lane],
                   left, right);
        turning[2 * k] = turned(first, step_table[t * TURNS + 2 * k]);
        turning[2 * k + 1] = turned(second, step_table[t * TURNS + 2 * k + 1]);
      }
    } else {
#pragma unroll
      for (int s = 0; s < FIELDS; s++)
#pragma unroll
        for (int i = 0; i < 4; i++) score[s][i] = base[i];
    }
    const auto in_units = [&](u32 x, u32 y) {  // x + y / 256, of RAISED ones
      const float upper = fmaf(__uint_as_float(x), unit, -raised_units);
      return fmaf(__uint_as_float(y), unit / 256.f, upper);
    };
#pragma unroll
    for (int s = 0; s < FIELDS; s++) {
      const float2 by = floats(at(key_scales_of_row, s));
#pragma unroll
      for (int i = 0; i < 4; i++)
        score[s][i] += in_units(upper[s][i], lower[s][i]) * (i < 2 ? by.x : by.y);
    }

    fetch_values(next_words_at, next_scales_at, page - WARPS >= begin);
    wait_for_all_but<2>();
    uint4 scales = from_shared(scales_at + 2 * SLOT);
    const int token = page * PAGE;
    const auto mask = [&]() {  // tokens that are not there
      u32 masked[FIELDS];
#pragma unroll
      for (int s = 0; s < FIELDS; s++) {
        masked[s] = at(scales, s);
#pragma unroll
        for (int h = 0; h < 2; h++) {
          const int here = token + s * 16 + h * 8 + g;
          if (here >= length || (PADDED && here < first)) {
            score[s][2 * h] = score[s][2 * h + 1] = EMPTY;
            masked[s] &= h ? 0xFFFFu : 0xFFFF0000u;  // it may be anything, which times 0 is not 0
          }
        }
      }
      scales = {masked[0], masked[1], masked[2], masked[3]};
    };
    // Weights, LIFTED: byte 2 is a of 256 a + b nearest, byte 1 b.
    u32 weights[FIELDS][2][2], bits = begins;
    float new_sum[2];
    const auto weigh = [&](int i) {  // all tokens of a lane, for one of its two queries
      new_sum[i] = sum[i];
#pragma unroll
      for (int s = 0; s < FIELDS; s++) {
        const float2 by = floats(at(scales, s));
#pragma unroll
        for (int h = 0; h < 2; h++) {
          const float weight = exp2_of(score[s][2 * h + i]);
          new_sum[i] += weight;
          const float eighths = reversed(2 * s + h) - 3.5f;
          weights[s][h][i] =
              __float_as_uint(weight * (h ? by.y : by.x) + (LIFTED + .5f + eighths / 8.f));
        }
      }
    };
    if (page >= whole_pages || (PADDED && token < first)) mask();
    if (!begins) {
      weigh(0);
      weigh(1);
#pragma unroll
      for (int s = 0; s < FIELDS; s++)
#pragma unroll
        for (int h = 0; h < 2; h++) bits |= weights[s][h][0] | weights[s][h][1];
    }
    if (__builtin_expect(__any_sync(~0u, bits & ABOVE_15_BITS), 0)) {
      float most[2] = {LOWEST, LOWEST}, widest = 0.f;  // log2 of weights, or a bit more; of scales
#pragma unroll
      for (int s = 0; s < FIELDS; s++) {
        const float2 by = floats(at(scales, s));
        widest = fmaxf(widest, fmaxf(by.x, by.y));
#pragma unroll
        for (int i = 0; i < 2; i++) most[i] = fmaxf(most[i], fmaxf(score[s][i], score[s][2 + i]));
      }
      const float size = fmaxf(log2f(widest), -100.f);
#pragma unroll
      for (int i = 0; i < 2; i++) most[i] = largest_of_tokens(most[i] + size);
      if (begins && end - begin >= TOGETHER) {
        float2* const all = (float2*)rotated + t;  // (WARPS, QUERIES / 2)
        if (g == 0) all[warp * 4] = {most[0], most[1]};
        __syncthreads();
        float2 top = {LOWEST, LOWEST};
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
          const float2 other = all[w * 4];
          most[0] = fmaxf(most[0], fminf(top.x, other.x));
          most[1] = fmaxf(most[1], fminf(top.y, other.y));
          top = {fmaxf(top.x, other.x), fmaxf(top.y, other.y)};
        }
      }
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const float by = most[i] - aim, rise = begins ? by : fmaxf(ceilf(by), 0.f);
        if (!begins && rise > 0.f) {  // in few lanes
          const u32 places = (u32)fminf(rise, 31.f);
#pragma unroll
          for (int o = 0; o < OPERANDS; o++)
#pragma unroll
            for (int n = i; n < 4; n += 2) shift(out_high[o][n], out_low[o][n], places);
          sum[i] *= exp2_of(-rise);
        }
        reference[i] += rise;
#pragma unroll
        for (int s = 0; s < FIELDS; s++) score[s][i] -= rise, score[s][2 + i] -= rise;
      }
      begins = 0;
      weigh(0);
      weigh(1);
    }
    sum[0] = new_sum[0], sum[1] = new_sum[1];
    u32 weights_high[FIELDS], weights_low[FIELDS];  // bytes a and b of query g's
#pragma unroll
    for (int s = 0; s < FIELDS; s++) {
      u32 pair[2];
#pragma unroll
      for (int h = 0; h < 2; h++)
        pair[h] = transposed(prmt(weights[s][h][0], weights[s][h][1], 0x6521));
      weights_high[s] = prmt(pair[0], pair[1], 0x7531);
      weights_low[s] = prmt(pair[0], pair[1], 0x6420);
    }
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
      uint4 planes[VALUE_BITS];
      load_planes(planes, words_at + 2 * SLOT, c);
#pragma unroll
      for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int s = 0; s < FIELDS; s += 2) {
          const auto a = levels_of<VALUE_LONG>(value_levels, marks, planes, i, s, i, s + 1);
          const u32 *const high = weights_high + s, *const low = weights_low + s;
          const int o = c * 4 + i;
          multiply_unsigned(out_low[o], out_low[o], a.upper, low[0], low[1]);
          multiply_unsigned(out_high[o], out_high[o], a.upper, high[0], high[1]);
          if (VALUE_LONG) multiply_unsigned(out_low[o], out_low[o], a.lower, high[0], high[1]);
        }
      }
    }
    words_at = next_words_at, scales_at = next_scales_at, to_other = -to_other;
  }

#pragma unroll
  for (int n = 4; n < 32; n *= 2) {
    sum[0] += __shfl_xor_sync(~0u, sum[0], n);
    sum[1] += __shfl_xor_sync(~0u, sum[1], n);
  }
  // What a warp has lies where its own pages did, if it had any.
  const int busy = min(end - begin, WARPS);
  static_assert(QUERIES * (WIDE + 2) * 4 <= RING);
  const auto parts_of = [&](int warp) { return (float*)(slots + warp * RING); };  // (8, WIDE)
  const auto sums_of = [&](int warp) { return (float2*)(parts_of(warp) + QUERIES * WIDE); };
  if (warp < busy) {
#pragma unroll
    for (int o = 0; o < OPERANDS; o++)
#pragma unroll
      for (int i = 0; i < 4; i++)
        parts_of(warp)[(2 * t + i % 2) * WIDE + o * 16 + g + i / 2 * 8] =
            whole(out_high[o][i], out_low[o][i]);
    if (g == 0) {
#pragma unroll
      for (int i = 0; i < 2; i++)
        sums_of(warp)[2 * t + i] = {sum[i] > 0.f ? reference[i] : LOWEST, sum[i]};
    }
  }
  Rows back;
  u16 value_mean[TILES][2] = {};
  if (rotates && args.attended) {
    load_rows(back, args.unrotation, warp, lane);
#pragma unroll
    for (int m = 0; CENTRED && m < TILES; m++)
#pragma unroll
      for (int h = 0; h < 2; h++)
        value_mean[m][h] = load(args.value_mean + head * D + (warp * TILES + m) * 16 + 8 * h + g);
  }
  __syncthreads();
  const bool alone = args.attended && splits == 1;
  static_assert(QUERIES % WARPS == 0);
  float* const units = (float*)largest;  // of each query's numbers in `vectors`
  const auto first_of = [&](int query) { return (long)(head * QUERIES + query) * splits; };
#pragma unroll
  for (int n = 0; n < QUERIES / WARPS; n++) {
    const int query = n * WARPS + warp;
    if (query >= args.groups) break;
    float2 sum_of[WARPS];
    float highest = LOWEST, total = 0.f;
#pragma unroll
    for (int w = 0; w < WARPS; w++) {
      sum_of[w] = w < busy ? sums_of(w)[query] : float2{LOWEST, 0.f};
      highest = fmaxf(highest, sum_of[w].x);
    }
    float x[D / 32] = {};  // channels D / 32 lane onwards
#pragma unroll
    for (int w = 0; w < WARPS; w++) {
      Words<D / 32> part = {};
      if (w < busy) part = ((const Words<D / 32>*)(parts_of(w) + query * WIDE))[lane];
      const float weight = exp2_of(sum_of[w].x - highest);
      total += weight * sum_of[w].y;
#pragma unroll
      for (int c = 0; c < D / 32; c++) x[c] += weight * __uint_as_float(part.of[c]);
    }
    const float factor = total > 0.f ? args.gain / total : 0.f;
    u32 most = 0;
#pragma unroll
    for (int c = 0; c < D / 32; c++) most = max(most, __float_as_uint(fabsf(x[c])));
    const u32 exponent = largest_of(most) & 0x7F800000u;  // all lie below twice that power of two
    const float over = __uint_as_float(0x7F000000u - exponent);
    const float unit = __uint_as_float(exponent) * factor;
    float2 both[CHUNKS];
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) both[c] = {x[2 * c] * over, x[2 * c + 1] * over};
    if (alone) {
      put<false>(vectors, query, lane * CHUNKS, both);
      if (lane == 0) units[query] = unit;
    } else {
      Words<CHUNKS> part;
#pragma unroll
      for (int c = 0; c < CHUNKS; c++) part.of[c] = halves(both[c].x, both[c].y);
      ((Words<CHUNKS>*)(args.outputs + (first_of(query) + split) * D))[lane] = part;
      const float log_sum = total > 0.f ? highest + log2f(total) : EMPTY;
      if (lane == 0) args.sums[first_of(query) + split] = {log_sum, unit};
    }
  }
  if (!args.attended) return;
  __syncthreads();
  if (!alone) {  // the last program to come weighs all splits together
    const u32 last = splits - 1;
    if (!__syncthreads_or(threadIdx.x == 0 && arrive(args.arrived + head, last) == last)) return;
#pragma unroll
    for (int n = 0; n < QUERIES / WARPS; n++) {
      const int query = n * WARPS + warp;
      if (query >= args.groups) break;
      const float2* const sums = args.sums + first_of(query);
      constexpr int LANES = D / 8, SIDE_BY_SIDE = 32 / LANES;  // of a split; splits at once
      const int eighth = lane % LANES, side = lane / LANES;
      const uint4* own = (const uint4*)(args.outputs + first_of(query) * D) + side * LANES + eighth;
      int left = splits - side;
      float highest = LOWEST, unit = LEAST_UNIT, total = 0.f, x[8] = {};
      for (int start = 0; start < splits; start += 32, left -= 32, own += 32 * LANES) {
        float2 of_lane = {EMPTY, 0.f};
        if (start + lane < splits) of_lane = load(sums + start + lane);
        uint4 parts[LANES];
#pragma unroll
        for (int n = 0; n < LANES; n++)
          parts[n] = n * SIDE_BY_SIDE < left ? own[n * SIDE_BY_SIDE * LANES] : uint4{};
        const float most = largest_of_lanes(fmaxf(of_lane.x, highest));
        const float widest = __uint_as_float(largest_of(__float_as_uint(fmaxf(of_lane.y, unit))));
        const float fade = exp2_of(highest - most), weight = exp2_of(of_lane.x - most);
        const float over = 1.f / widest, shrunk = fade * (unit * over);
        highest = most, unit = widest;
        total = total * fade + sum_of_lanes(weight);
#pragma unroll
        for (int i = 0; i < 8; i++) x[i] *= shrunk;
#pragma unroll
        for (int n = 0; n < LANES; n++) {
          if (n % 2 == 0 && n * SIDE_BY_SIDE >= splits - start) break;
          const float by = __shfl_sync(~0u, weight * (of_lane.y * over), n * SIDE_BY_SIDE + side);
#pragma unroll
          for (int i = 0; i < 4; i++) {
            const float2 both = floats(at(parts[n], i));
            x[2 * i] += by * both.x, x[2 * i + 1] += by * both.y;
          }
        }
      }
      float2 both[4];
#pragma unroll
      for (int i = 0; i < 8; i++) {
#pragma unroll
        for (int n = LANES; n < 32; n *= 2) x[i] += __shfl_xor_sync(~0u, x[i], n);
        (i % 2 ? both[i / 2].y : both[i / 2].x) = x[i];
      }
      if (side == 0) put<false>(vectors, query, eighth * 4, both);
      if (lane == 0) units[query] = total > 0.f ? unit / total : 0.f;
    }
    __syncthreads();
  }
  if (!rotates) return;
  float c[TILES][4] = {};
  multiply<false>(c, back, vectors, lane);
#pragma unroll
  for (int m = 0; m < TILES; m++)
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int query = 2 * t + i % 2, channel = (warp * TILES + m) * 16 + g + i / 2 * 8;
      if (query < args.groups)
        store(args.attended, (long)(head * args.groups + query) * D + channel,
              c[m][i] * units[query] + floats(value_mean[m][i / 2]).x);
    }
}
