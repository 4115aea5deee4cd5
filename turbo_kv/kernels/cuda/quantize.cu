// New keys and values coded into packed pages, centred, rotated and packed. Compiled for one shape:
// D, BITS, TERMS of a compander, the width of a STATE's floats or 0 for bf16, CENTRED, WARPS of a
// program and REGISTERS.
//
// A warp owns one page of one side of a head and runs along its fields, 16 tokens each, which each
// lane copies to shared memory ahead of time, for itself alone. Words that new tokens share with
// older ones, of the first page, are asked for as early. H_D = H_(D/16) ⊗ H_16 takes the bits of a
// channel's number in any order: two bits of a lane and two of its registers are what the matrix
// unit mixes, tokens times H_16 for keys and H_16 times tokens for values, so that a lane ends up
// with what its words hold. Random signs lie in that matrix; groups are added and subtracted.
//
// A code is the whole part of a compander, an odd polynomial of y/‖y‖ that passes whole numbers
// where a codebook has its boundaries (companders.py). fp32 below 2^-126 counts by 2^-149, so that
// its bits, rounded down, are that number, and packing them saturates. Squares of levels are bytes
// that `prmt` picks and the matrix unit adds up. Knows no quantizer and no cache.

#include "lanes.cuh"

constexpr int PAGE = 64, THREADS = 32 * WARPS, FIELDS = 4, KEYS = 0, VALUES = 1;
constexpr int OPERANDS = D / 16, HALF = OPERANDS / 2;
constexpr int CHUNKS = D / 32;                      // of 32 channels; a lane has an octet of each
constexpr int OCTET = STATE == 32 ? 32 : 16;        // bytes
constexpr int PARTS = OCTET / 16;                   // of an octet that are copied at once
constexpr int FIELD = 2 * CHUNKS * OCTET * 32;      // bytes
constexpr int PLANE = 8 * D;                        // bytes
constexpr int CONSTANTS = CENTRED ? 32 * D : 0;     // bytes: means, of keys turned, of values mixed
constexpr int OWN = FIELD + CONSTANTS + PLANE;      // bytes of a warp; last, codes that wait
constexpr int TURNS = 8;                            // tokens 8 i of a page
constexpr bool EXACT = !CENTRED && STATE != 32;     // states are tf32 numbers
constexpr u32 ONE = STATE == 16 ? 0x3C00u : 0x3F80u;
constexpr u32 ONES = ONE << 16 | ONE, HALF_ONES = 0x3C003C00u, MINUS = 0x80008000u;
constexpr u32 CODES = BITS == 4 ? ~0u : BITS == 3 ? 0x77777777u : 0x33333333u;
constexpr float TINY = 1e-30f;                      // a squared norm that is divided by
constexpr float LOWERED = 1.f / (1ll << 32);        // what coordinates are multiplied by

struct Coding {
  float terms[TERMS];   // of the compander, upwards, for its 16 cells
  float middle;         // of squares that its powers count from
  float unit;           // square root of what squares count, per unit
  u32 upper[2], lower[2];  // bytes of the squares of eight levels, 255 u + v
};

struct Side {
  const char* states;    // (batch, heads, tokens, D)
  char* words;           // (batch * heads, pages, BITS, PLANE)
  u16* scales;           // (batch * heads, pages, 64), fp16
  const u16* mean;       // (batch * heads, D), fp16
  long batch, head, token;  // strides of states in bytes
  long pages;
};

struct Arguments {
  Side sides[2];
  const int* length;
  const float* cos;      // (slots, D)
  const float* sin;
  Coding codings[2];
  u32 signs[CHUNKS];     // of the rotation, a bit a channel
  int heads, tokens;
  int all_heads, groups;  // of the batch; of pages, a program each
};

INLINE bool odd(int bits) {  // has an odd number of ones, of three
  return (bits ^ bits >> 1 ^ bits >> 2) & 1;
}

// Half an octet of a lane, fp32, of what it has copied.
INLINE void four(float (&x)[4], const char* copied, int half) {
#if STATE == 32
  const float4 all = *(const float4*)(copied + half * 512);
  x[0] = all.x, x[1] = all.y, x[2] = all.z, x[3] = all.w;
#else
  const uint4 all = *(const uint4*)copied;
  const u32 words[2] = {half ? all.z : all.x, half ? all.w : all.y};
#pragma unroll
  for (int i = 0; i < 2; i++) {
#if STATE == 16
    const float2 both = floats(words[i]);
    x[2 * i] = both.x, x[2 * i + 1] = both.y;
#else
    x[2 * i] = __uint_as_float(words[i] << 16);
    x[2 * i + 1] = __uint_as_float(words[i] & 0xFFFF0000u);
#endif
  }
#endif
}

// Four words of an octet of 16-bit floats, or three times four that add up to fp32.
struct Halves { u32 of[STATE == 32 ? 3 : 1][4]; };

INLINE Halves halves_of(const char* copied) {
  Halves got;
#if STATE == 32
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float x[4];
    four(x, copied, half);
#pragma unroll
    for (int n = 0; n < 3; n++)
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const u32 low = __float_as_uint(x[2 * i]), high = __float_as_uint(x[2 * i + 1]);
        got.of[n][2 * half + i] = prmt(low, high, 0x7632);
        x[2 * i] -= __uint_as_float(low & 0xFFFF0000u);
        x[2 * i + 1] -= __uint_as_float(high & 0xFFFF0000u);
      }
  }
#else
  const uint4 words = *(const uint4*)copied;
  got.of[0][0] = words.x, got.of[0][1] = words.y, got.of[0][2] = words.z, got.of[0][3] = words.w;
#endif
  return got;
}

INLINE void mix(float (&y)[4], const uint4& matrix, const Halves& x, int first) {
#pragma unroll
  for (int n = 0; n < (STATE == 32 ? 3 : 1); n++) {
    if (STATE == 16)
      multiply(y, matrix, x.of[n][first], x.of[n][first + 1]);
    else
      multiply_brain(y, matrix, x.of[n][first], x.of[n][first + 1]);
  }
}

template <int STOP> INLINE void mix_groups(float (&y)[OPERANDS][2][4]) {
#pragma unroll
  for (int step = 1; step < STOP; step *= 2)
#pragma unroll
    for (int o = 0; o < OPERANDS; o++)
      if (!(o & step))
#pragma unroll
        for (int i = 0; i < 8; i++) {
          float &left = y[o][i / 4][i % 4], &right = y[o + step][i / 4][i % 4];
          const float sum = left + right;
          right = left - right;
          left = sum;
        }
}

// What a program shares.
struct Tables {
  uint4 matrix[OPERANDS][32];  // signs times H_16; of keys in tf32, for the left eight columns
  uint2 right[OPERANDS][32];   // of keys, what differs for the others
  float turns[TURNS][2][D / 2];  // of keys, cosines and sines
  uint4 older[BITS * PLANE / 512][32];  // words of a page that begins before new tokens
};

template <int SIDE> INLINE void fill(Tables& tables, const Arguments& args, int lane, int warp) {
  const int g = lane / 4, t = lane % 4;
  const u32 odd_left = odd(2 * t & g), odd_right = odd((2 * t + 1) & g);
  for (int o = warp; o < OPERANDS; o += WARPS) {
    const u32 signs = args.signs[o / 2] >> (8 * t + o % 2 * 4);
    if (SIDE == KEYS) {
      u32 entries[4];
#pragma unroll
      for (int i = 0; i < 4; i++)  // row 2t + 8 (i / 2) + i % 2
        entries[i] = 0x3F800000u | (signs >> i ^ (i % 2 ? odd_right : odd_left)) << 31;
      tables.matrix[o][lane] = {entries[0], entries[1], entries[2], entries[3]};
      tables.right[o][lane] = {entries[2] ^ 0x80000000u, entries[3] ^ 0x80000000u};
    } else {
      const u32 row = ONES | odd_left << 15 | odd_right << 31;
      const u32 left = row ^ (signs << 15 & 0x8000u | signs << 30 & 0x80000000u);
      const u32 right = row ^ (signs << 13 & 0x8000u | signs << 28 & 0x80000000u);
      tables.matrix[o][lane] = {left, left, right, right ^ MINUS};
    }
  }
}

template <int SIDE> struct Coder {
  const Arguments& args;
  const Coding& coding;
  Tables& tables;
  char* const own;  // shared memory of the warp
  const int lane, g, t;
  const int first, start, stop;  // slots: of the page, of new tokens
  const char* rows;              // the lane's octets of the first token of its row
  const long place;              // of the page among a side's

  INLINE_MEMBER Coder(const Arguments& args, Tables& tables, char* own, int head, int page,
                      int start, int stop, int lane)
      : args(args), coding(args.codings[SIDE]), tables(tables), own(own), lane(lane), g(lane / 4),
        t(lane % 4), first(page * PAGE), start(start), stop(stop),
        place(head * args.sides[SIDE].pages + page) {
    const Side& side = args.sides[SIDE];
    rows = side.states + head / args.heads * side.batch + head % args.heads * side.head +
           (first + g - start) * side.token + t * OCTET;
  }

  INLINE_MEMBER uint4* words() {
    return (uint4*)(args.sides[SIDE].words + place * (BITS * PLANE)) + lane;
  }

  static INLINE_MEMBER int field_at(int turn) {
    return BITS == 3 ? (turn + 3) % FIELDS : BITS == 2 ? turn ^ 1 : turn;
  }

  INLINE_MEMBER bool any_new(int begin) { return begin < stop && begin + 16 > start; }

  // Have the next field that has new tokens on its way, from `turn` on.
  INLINE_MEMBER void fetch(int turn) {
    while (turn < FIELDS && !any_new(first + 16 * field_at(turn))) turn++;
    if (turn == FIELDS) return;
    const int field = field_at(turn);
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const int token = first + 16 * field + 8 * h + g;
      const char* const from = rows + (16 * field + 8 * h) * args.sides[SIDE].token;
      const u32 to = address(own) + h * (FIELD / 2) + lane * 16;
      const int bytes = token >= start && token < stop ? 16 : 0;
#pragma unroll
      for (int i = 0; i < CHUNKS * PARTS; i++)
        copy16_or_zeros(to + i * 512, from + i / PARTS * 4 * OCTET + i % PARTS * 16, bytes);
    }
    commit();
  }

  INLINE_MEMBER void fetch_older() {
#pragma unroll
    for (int i = 0; i < BITS * PLANE / 512; i++)
      copy16(address(tables.older[i] + lane), words() + i * 32);
  }

  INLINE_MEMBER const char* copied(int h, int chunk) {
    return own + h * (FIELD / 2) + chunk * (PARTS * 512) + lane * 16;
  }

  INLINE_MEMBER float4* constants() { return (float4*)(own + FIELD) + lane; }

  INLINE_MEMBER uint4* waiting() { return (uint4*)(own + FIELD + CONSTANTS) + lane; }

  // Means turned to token `first` + g: real and imaginary parts of half an octet.
  INLINE_MEMBER void turn_mean(const u16* mean) {
#pragma unroll
    for (int o = 0; o < HALF; o++) {
      const int place = 32 * (o / 2) + 4 * (o % 2);
      const long row = (long)(first + g) * D + place + 8 * t;
      const float4 c = *(const float4*)(args.cos + row), s = *(const float4*)(args.sin + row);
      const uint2 left = *(const uint2*)(mean + place);
      const uint2 right = *(const uint2*)(mean + place + D / 2);
      const float2 l0 = floats(left.x), l1 = floats(left.y);
      const float2 r0 = floats(right.x), r1 = floats(right.y);
      constants()[2 * o * 32] = {l0.x * c.x - r0.x * s.x, l0.y * c.y - r0.y * s.y,
                                 l1.x * c.z - r1.x * s.z, l1.y * c.w - r1.y * s.w};
      constants()[(2 * o + 1) * 32] = {r0.x * c.x + l0.x * s.x, r0.y * c.y + l0.y * s.y,
                                       r1.x * c.z + l1.x * s.z, r1.y * c.w + l1.y * s.w};
    }
  }

  // The mixed mean, negative, as sums that begin with it.
  INLINE_MEMBER void mix_mean(const u16* mean) {
#pragma unroll
    for (int o = 0; o < HALF; o++) {
      float sums[2][4] = {};
#pragma unroll
      for (int side = 0; side < 2; side++) {
        const uint4 own = tables.matrix[o + side * HALF][lane];
        const uint4 half = {own.x ^ ONES ^ HALF_ONES, own.y ^ ONES ^ HALF_ONES,
                            own.z ^ ONES ^ HALF_ONES, own.w ^ ONES ^ HALF_ONES};
        const uint2 pair = *(const uint2*)(mean + 32 * (o / 2) + o % 2 * 4 + side * (D / 2));
        multiply(sums[side], half, pair.x, pair.y);
      }
#pragma unroll
      for (int i = 0; i < 2; i++) {  // upper ones, then lower ones
        float y[4];
#pragma unroll
        for (int n = 0; n < 4; n++) y[n] = i ? sums[1][n] - sums[0][n] : -sums[0][n] - sums[1][n];
        constants()[(o + i * HALF) * 32] = {y[0], y[1], y[2], y[3]};
      }
    }
  }

  // y: mixed within groups and, of values, between a channel and that of the other half.
  INLINE_MEMBER void mixed_values(float (&y)[OPERANDS][2][4]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
#pragma unroll
      for (int o = 0; o < OPERANDS; o++) {
        float4 sum = {};
        if (CENTRED) sum = constants()[o * 32];
        y[o][h][0] = sum.x, y[o][h][1] = sum.y, y[o][h][2] = sum.z, y[o][h][3] = sum.w;
      }
#pragma unroll
      for (int k = 0; k < CHUNKS / 2; k++) {
        const Halves left = halves_of(copied(h, k));
        const Halves right = halves_of(copied(h, k + CHUNKS / 2));
#pragma unroll
        for (int e = 0; e < 2; e++) {
          const int o = 2 * k + e;
          const uint4 matrix = tables.matrix[o][lane], other = tables.matrix[o + HALF][lane];
          const uint4 minus = {other.x ^ MINUS, other.y ^ MINUS, other.z ^ MINUS, other.w ^ MINUS};
          mix(y[o][h], matrix, left, 2 * e);
          mix(y[o + HALF][h], matrix, left, 2 * e);
          mix(y[o][h], other, right, 2 * e);
          mix(y[o + HALF][h], minus, right, 2 * e);
        }
      }
    }
  }

  INLINE_MEMBER void mixed_keys(float (&y)[OPERANDS][2][4], int field) {
#pragma unroll
    for (int o = 0; o < HALF; o++) {
      const int k = o / 2, half = o % 2;
      float x[2][2][4];  // left or right, row, channel
#pragma unroll
      for (int h = 0; h < 2; h++) {
        four(x[0][h], copied(h, k), half);
        four(x[1][h], copied(h, k + CHUNKS / 2), half);
      }
      if (CENTRED) {
        const float4 a = constants()[2 * o * 32], b = constants()[(2 * o + 1) * 32];
        const float real[4] = {a.x, a.y, a.z, a.w}, imag[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
        for (int h = 0; h < 2; h++) {
          const float* const turn = tables.turns[2 * field + h][0] + 32 * k + 8 * t + 4 * half;
          const float4 c = *(const float4*)turn, s = *(const float4*)(turn + D / 2);
          const float by[4] = {c.x, c.y, c.z, c.w}, of[4] = {s.x, s.y, s.z, s.w};
#pragma unroll
          for (int i = 0; i < 4; i++) {
            x[0][h][i] = x[0][h][i] - real[i] * by[i] + imag[i] * of[i];
            x[1][h][i] = x[1][h][i] - imag[i] * by[i] - real[i] * of[i];
          }
        }
      }
#pragma unroll
      for (int side = 0; side < 2; side++) {
        float (&sums)[2][4] = y[o + side * HALF];
        const uint4 left = tables.matrix[o + side * HALF][lane];
        const uint2 right = tables.right[o + side * HALF][lane];
#pragma unroll
        for (int i = 0; i < 8; i++) sums[i / 4][i % 4] = 0.f;
#pragma unroll
        for (int q = 0; q < 2; q++) {
          u32 upper[4], lower[4];
#pragma unroll
          for (int i = 0; i < 4; i++) {
            const float number = x[side][i % 2][2 * q + i / 2];
            upper[i] = __float_as_uint(number) & (EXACT ? ~0u : ~0x1FFFu);
            lower[i] = __float_as_uint(number - __uint_as_float(upper[i]));
          }
          const u32 b0 = q ? left.z : left.x, b1 = q ? left.w : left.y;
          const u32 d0 = q ? right.x : b0, d1 = q ? right.y : b1;
          multiply_tf32(sums[0], upper, b0, b1);
          multiply_tf32(sums[1], upper, d0, d1);
          if (!EXACT) {
            multiply_tf32(sums[0], lower, b0, b1);
            multiply_tf32(sums[1], lower, d0, d1);
          }
        }
      }
    }
  }

  // Nibbles of tokens of the field at slot `begin` that come before slot `end`.
  INLINE_MEMBER u32 before(int begin, int end) {
    if (SIDE == KEYS)
      return (begin + g < end ? 0xFFFFu : 0) | (begin + 8 + g < end ? 0xFFFF0000u : 0);
    u32 row = 0;
#pragma unroll
    for (int n = 0; n < 4; n++)
      if (begin + 8 * (n / 2) + 2 * t + n % 2 < end) row |= 15u << 4 * n;
    return row << 16 | row;
  }

  // Codes of a field in `codes`, zero where no token is new, and its scales stored.
  INLINE_MEMBER void code(u32 (&codes)[OPERANDS], const float (&y)[OPERANDS][2][4], int field) {
    constexpr int TOKENS = SIDE == KEYS ? 2 : 4;  // of a lane: rows, or two columns of two tiles
    const auto token_of = [](int tile, int i) { return SIDE == KEYS ? i / 2 : tile * 2 + i % 2; };
    float square[TOKENS] = {}, inverse[TOKENS];
#pragma unroll
    for (int o = 0; o < OPERANDS; o++)
#pragma unroll
      for (int i = 0; i < 8; i++) {
        const float one = y[o][i / 4][i % 4];
        square[token_of(i / 4, i % 4)] += one * one;
      }
#pragma unroll
    for (int n = 0; n < TOKENS; n++) {
#pragma unroll
      for (int other = SIDE == KEYS ? 1 : 4; other < (SIDE == KEYS ? 4 : 32); other *= 2)
        square[n] += __shfl_xor_sync(~0u, square[n], other);
      inverse[n] = inverse_root(fmaxf(square[n], TINY));
    }
    const int begin = first + 16 * field;
    const bool whole = begin >= start && begin + 16 <= stop;
    u32 mask = CODES;
    if (!whole) mask &= before(begin, stop) & ~before(begin, start);

    u32 sums[4] = {};
    u32 pick[4];  // of values: tokens of a row, 255 times, then once
    if (SIDE == VALUES)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        const u32 row = g / 2 == t ? 255u << 16 * h + 8 * (g % 2) : 0;
        pick[h] = row, pick[2 + h] = row & 0x01010101u;
      }
#pragma unroll
    for (int o = 0; o < OPERANDS; o++) {
      int cells[8];
#pragma unroll
      for (int i = 0; i < 8; i++) {
        const int tile = i / 2 % 2, n = i / 4 * 2 + i % 2;
        const float by = inverse[token_of(tile, n)];
        const float lowered = y[o][tile][n] * (by * LOWERED);
        const float unit = TERMS > 4 ? y[o][tile][n] * by : lowered;
        const float power = unit * unit - coding.middle;
        float sum = coding.terms[TERMS - 1];
#pragma unroll
        for (int k = TERMS - 2; k >= 0; k--) sum = sum * power + coding.terms[k];
        cells[i] = floor_of_product(sum, lowered, 8);
      }
      u32 word = 0;
#pragma unroll
      for (int i = 6; i >= 0; i -= 2) word = pushed_nibbles(word, cells[i + 1], cells[i]);
      const u32 code = word >> (4 - BITS) & mask;
      codes[o] = code;

      u32 picks = code;
      if (BITS == 4) {  // levels are symmetric
        const u32 negative = ~code & 0x88888888u;
        picks = (code ^ (negative - (negative >> 3))) & 0x77777777u;
      }
      u32 upper[2], lower[2];
#pragma unroll
      for (int h = 0; h < 2; h++) {
        upper[h] = prmt(coding.upper[0], coding.upper[1], picks >> 16 * h);
        lower[h] = prmt(coding.lower[0], coding.lower[1], picks >> 16 * h);
      }
      if (SIDE == KEYS) {
        const u32 rows[4] = {upper[0], upper[1], lower[0], lower[1]};
        multiply_both_unsigned(sums, sums, rows, ~0u, 0x01010101u);
      } else {
#pragma unroll
        for (int h = 0; h < 2; h++) multiply_both_unsigned(sums, sums, pick, upper[h], lower[h]);
      }
    }

    float norm[2];  // squared, of tokens g and g + 8
    u32 total[2];
    if (SIDE == KEYS) {
      norm[0] = square[0], norm[1] = square[1];
      total[0] = sums[0], total[1] = sums[2];
    } else {
#pragma unroll
      for (int h = 0; h < 2; h++) {
        const float left = __shfl_sync(~0u, square[2 * h], g / 2);
        const float right = __shfl_sync(~0u, square[2 * h + 1], g / 2);
        norm[h] = g % 2 ? right : left;
        total[h] = sums[2 * h] + sums[2 * h + 1];
        total[h] += __shfl_xor_sync(~0u, total[h], 1);
        total[h] += __shfl_xor_sync(~0u, total[h], 2);
      }
    }
    float scale[2];
#pragma unroll
    for (int h = 0; h < 2; h++)
      scale[h] = norm[h] * inverse_root(fmaxf(norm[h], TINY)) *
                 (inverse_root((float)total[h]) * coding.unit);
    if (t == 0) {
      const u32 both = halves(scale[0], scale[1]);
      u16* const to = args.sides[SIDE].scales + place * PAGE + g * 8 + field * 2;
      if (whole) {
        *(u32*)to = both;
      } else {
#pragma unroll
        for (int h = 0; h < 2; h++) {
          const int token = begin + 8 * h + g;
          if (token >= start && token < stop) to[h] = (u16)(both >> 16 * h);
        }
      }
    }
  }

  // Words of a plane, of codes at slot `begin` and, in their upper bits, at slot `beside`.
  INLINE_MEMBER void store(const u32 (&full)[OPERANDS], int plane, int begin, int beside) {
    u32 older = 0;
    if (first < start) older = (before(begin, start) & CODES) | (before(beside, start) & ~CODES);
#pragma unroll
    for (int c = 0; c < OPERANDS / 4; c++) {
      uint4* const to = words() + (plane * (PLANE / 512) + c) * 32;
      uint4 all = {full[4 * c], full[4 * c + 1], full[4 * c + 2], full[4 * c + 3]};
      if (first < start) {
        const uint4 old = tables.older[plane * (PLANE / 512) + c][lane];
        all = {all.x | (old.x & older), all.y | (old.y & older), all.z | (old.z & older),
               all.w | (old.w & older)};
      }
      *to = all;
    }
  }

  // Have what comes first on its way.
  INLINE_MEMBER void begin() {
    if (first < start) fetch_older();
    fetch(0);
  }

  INLINE_MEMBER void run() {
#pragma unroll 1
    for (int turn = 0; turn < FIELDS; turn++) {
      const int field = field_at(turn), begin = first + 16 * field;
      u32 codes[OPERANDS] = {};
      const bool fresh = any_new(begin);
      if (fresh) {
        wait_for_all_but<0>();
        float y[OPERANDS][2][4];
        if (SIDE == KEYS)
          mixed_keys(y, field);
        else
          mixed_values(y);
        fetch(turn + 1);
        mix_groups<SIDE == KEYS ? OPERANDS : HALF>(y);
        code(codes, y, field);
      }
      if (BITS == 4) {
        if (fresh) store(codes, field, begin, begin);
        continue;
      }
      if (BITS == 3 ? turn == 0 : turn % 2 == 0) {
#pragma unroll
        for (int c = 0; c < OPERANDS / 4; c++)
          waiting()[c * 32] = {codes[4 * c], codes[4 * c + 1], codes[4 * c + 2], codes[4 * c + 3]};
        continue;
      }
      const int beside = BITS == 3 ? first + 48 : begin + 16;
      if (!fresh && !any_new(beside)) continue;
#pragma unroll
      for (int c = 0; c < OPERANDS / 4; c++) {
        const uint4 others = waiting()[c * 32];
        const u32 spare[4] = {others.x, others.y, others.z, others.w};
#pragma unroll
        for (int i = 0; i < 4; i++)
          codes[4 * c + i] |= BITS == 3 ? spare[i] << (3 - field) & 0x88888888u : spare[i] << 2;
      }
      store(codes, BITS == 3 ? field : field / 2, begin, beside);
    }
  }
};

template <int SIDE>
INLINE void code_pages(const Arguments& args, int head, int group, char* shared) {
  Tables& tables = *(Tables*)(shared + WARPS * OWN);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  fill<SIDE>(tables, args, lane, warp);
  wait_for_launches();
  let_launches_begin();
  const int stop = *args.length, start = stop - args.tokens;
  const int page = start / PAGE + group * WARPS + warp;
  const bool there = page * PAGE < stop;
  Coder<SIDE> coder(args, tables, shared + warp * OWN, head, page, start, stop, lane);
  if (there) coder.begin();
  const u16* const mean = args.sides[SIDE].mean + head * D + 8 * (lane % 4);
  if (SIDE == KEYS && CENTRED) {
    for (int i = threadIdx.x; i < TURNS * D / 4; i += THREADS) {
      const int turn = i / (D / 4), place = i % (D / 8) * 4;
      const float* const from = (i / (D / 8) % 2 ? args.sin : args.cos) + 8 * turn * D + place;
      copy16(address((float4*)tables.turns + i), from);
    }
    commit();
    if (there) coder.turn_mean(mean);
    wait_for_all_but<0>();
  }
  __syncthreads();
  if (!there) return;
  if (SIDE == VALUES && CENTRED) coder.mix_mean(mean);
  coder.run();
}

extern "C" __global__ void __maxnreg__(REGISTERS) quantize(const Arguments args) {
  extern __shared__ __align__(128) char shared[];
  const int head = blockIdx.x / args.groups, group = blockIdx.x % args.groups;
  if (head < args.all_heads)
    code_pages<KEYS>(args, head, group, shared);
  else
    code_pages<VALUES>(args, head - args.all_heads, group, shared);
}
