// kernels/cuda/lanes.cuh for a CPU, and what else CUDA C has that C++ lacks. Every thread of a
// program is a fiber; what lanes do together waits until all of them have come. Copies happen as
// late as they may and threads run in order, or copies at once and threads backwards (EAGER), which
// tells what lacks a barrier. Shared memory starts as NaN.

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

typedef uint32_t u32;
typedef uint16_t u16;
#define INLINE static inline
#define INLINE_MEMBER inline
#define __device__
#define __forceinline__
#define __global__
#define __shared__
#define __align__(n) __attribute__((aligned(n)))
#define __maxnreg__(n)
using std::max;
using std::min;

struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
struct uint2 { u32 x, y; };
struct uint4 { u32 x, y, z, w; };
struct Place { int x, y, z; };
struct Copy { char* to; const char* from; int bytes; };

constexpr int STACK = 1 << 17;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[STACK]};
  Place thread;
  bool done = false;
  std::deque<std::vector<Copy>> groups{1};
};

alignas(128) char shared[227 * 1024];
static Fiber* current;
static ucontext_t scheduler;
static long events;  // without one in a whole round, fibers wait for each other in vain
static Place blockIdx, gridDim;
#define threadIdx (current->thread)

static void pause() { swapcontext(&current->context, &scheduler); }

// `all` changes what the threads of one group, `size` threads each, have brought.
template <int MOST, class T, class F> static T meet(int group, int member, int size, const T& mine, F all) {
  static T brought[64][MOST], taken[64][MOST];
  static int arrived[64];
  static unsigned turns[64];
  brought[group][member] = mine;
  events++;
  if (++arrived[group] == size) {
    std::copy(brought[group], brought[group] + size, taken[group]);
    all(taken[group]);
    arrived[group] = 0;
    turns[group]++;
  } else {
    for (unsigned turn = turns[group]; turn == turns[group];) pause();
  }
  return taken[group][member];
}

template <class T, class F> static T lanes(const T& mine, F all) {
  return meet<32>(threadIdx.x / 32, threadIdx.x % 32, 32, mine, all);
}

static int threads;
static bool __syncthreads_or(bool mine) {
  return meet<1024>(0, threadIdx.x, threads, mine, [](bool* all) {
    std::fill(all, all + threads, std::count(all, all + threads, true) > 0);
  });
}
static void __syncthreads() { __syncthreads_or(false); }

template <class T> static T __shfl_xor_sync(u32, T x, int mask) {
  return lanes(x, [mask](T* all) {
    T old[32];
    std::copy(all, all + 32, old);
    for (int i = 0; i < 32; i++) all[i] = old[i ^ mask];
  });
}

template <class T> static T __shfl_sync(u32, T x, int lane) {
  struct Asked { T x; int lane; };
  return lanes(Asked{x, lane}, [](Asked* all) {
    Asked old[32];
    std::copy(all, all + 32, old);
    for (int i = 0; i < 32; i++) all[i].x = old[all[i].lane].x;
  }).x;
}

static float bits_as_float(u32 x) { float d; memcpy(&d, &x, 4); return d; }
static u32 float_as_bits(float x) { u32 d; memcpy(&d, &x, 4); return d; }
static float __uint_as_float(u32 x) { return bits_as_float(x); }
static u32 __float_as_uint(float x) { return float_as_bits(x); }
static u32 __funnelshift_r(u32 low, u32 high, u32 by) { return ((uint64_t)high << 32 | low) >> by % 32; }
static int __float2int_rn(float x) { return (int)std::nearbyint(x); }

static float half_as_float(u32 h) {
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  const float size = exponent == 31 ? (mantissa ? NAN : INFINITY)
                     : exponent     ? std::ldexp(1024 + mantissa, exponent - 25)
                                    : std::ldexp(mantissa, -24);
  return h >> 15 & 1 ? -size : size;
}

static u32 float_as_half(float x) {
  const u32 sign = std::signbit(x) ? 0x8000 : 0;
  const float size = std::fabs(x);
  if (std::isnan(x)) return sign | 0x7E00;
  if (size >= 65520) return sign | 0x7C00;
  if (size < std::ldexp(1.f, -14)) return sign | (u32)std::nearbyint(std::ldexp(size, 24));
  int exponent;
  std::frexp(size, &exponent);  // in [0.5, 1)
  return sign | (u32)(((exponent + 13) << 10) + std::nearbyint(std::ldexp(size, 11 - exponent)));
}

INLINE u32 prmt(u32 a, u32 b, u32 select) {
  const uint64_t bytes = (uint64_t)b << 32 | a;
  u32 d = 0;
  for (int i = 0; i < 4; i++) {
    const int nibble = select >> 4 * i & 15;
    u32 byte = bytes >> 8 * (nibble & 7) & 255;
    if (nibble & 8) byte = byte & 128 ? 255 : 0;
    d |= byte << 8 * i;
  }
  return d;
}

INLINE u32 upper_half(u32 a) { return a >> 16; }

template <class F> static u32 reduced(u32 a, F both) {
  return lanes(a, [both](u32* all) {
    for (int i = 1; i < 32; i++) all[0] = both(all[0], all[i]);
    std::fill(all, all + 32, all[0]);
  });
}

static bool __any_sync(u32, u32 a) { return reduced(a, [](u32 x, u32 y) { return x | y; }); }
INLINE u32 largest_of(u32 a) { return reduced(a, [](u32 x, u32 y) { return std::max(x, y); }); }

INLINE u32 halves(float low, float high) { return float_as_half(high) << 16 | float_as_half(low); }

INLINE float2 floats(u32 halves) { return {half_as_float(halves & 0xFFFF), half_as_float(halves >> 16)}; }

INLINE float exp2_of(float x) {
  const float d = std::exp2(x);
  return d < 1.17549435e-38f ? 0.f : d;
}

INLINE u16 brain_float(float x) {
  const u32 bits = float_as_bits(x);
  return (u16)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

INLINE u32 transposed(u32 a) {
  return lanes(a, [](u32* all) {
    u32 old[32];
    std::copy(all, all + 32, old);
    const auto entry = [&](int row, int column) { return old[row * 4 + column / 2] >> 16 * (column % 2) & 0xFFFF; };
    for (int i = 0; i < 32; i++) all[i] = entry(i % 4 * 2, i / 4) | entry(i % 4 * 2 + 1, i / 4) << 16;
  });
}

// c (16, 8) plus a (16, K) times b (K, 8), of which a word holds WIDE neighbours in K: a lane
// (g, t) has rows g and g + 8 and column g, at WIDE t and, past half of K, again.
template <int WIDE, int K, class Number, class Sum, class F, class G>
static void product(Number (&c)[4], const u32* a, const u32* b, F left_of, G right_of) {
  struct Operands { u32 a[4], b[2]; Number c[4]; } mine = {};
  constexpr int PARTS = K / (4 * WIDE);
  std::copy(a, a + 2 * PARTS, mine.a);
  std::copy(b, b + PARTS, mine.b);
  std::copy(c, c + 4, mine.c);
  const Operands got = lanes(mine, [left_of, right_of](Operands* all) {
    for (int i = 0; i < 32; i++)
      for (int n = 0; n < 4; n++) {
        const int row = i / 4 + n / 2 * 8, column = i % 4 * 2 + n % 2;
        Sum sum = all[i].c[n];
        for (int k = 0; k < K; k++) {
          const int part = k / (4 * WIDE), t = k % (4 * WIDE) / WIDE, place = k % WIDE;
          const u32 left = all[row % 8 * 4 + t].a[2 * part + row / 8], right = all[column * 4 + t].b[part];
          sum += (Sum)left_of(left, place) * (Sum)right_of(right, place);
        }
        all[i].c[n] = (Number)sum;
      }
  });
  std::copy(got.c, got.c + 4, c);
}

static int byte_of(u32 word, int place) { return (int8_t)(word >> 8 * place); }
static float half_of(u32 word, int place) { return half_as_float(word >> 16 * place & 0xFFFF); }

static int unsigned_byte_of(u32 word, int place) { return word >> 8 * place & 255; }

template <class F, class G>
static void whole_product(u32 (&d)[4], const u32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, F left, G right) {
  const u32 b[] = {b0, b1};
  int sums[4];
  std::copy(c, c + 4, sums);
  product<4, 32, int, int>(sums, a, b, left, right);
  std::copy(sums, sums + 4, d);
}

INLINE void multiply(u32 (&d)[4], const u32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  whole_product(d, c, a, b0, b1, byte_of, byte_of);
}

INLINE void multiply_unsigned(u32 (&d)[4], const u32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  whole_product(d, c, a, b0, b1, byte_of, unsigned_byte_of);
}

INLINE void multiply_both_unsigned(u32 (&d)[4], const u32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  whole_product(d, c, a, b0, b1, unsigned_byte_of, unsigned_byte_of);
}

INLINE void multiply(float (&c)[4], const uint4& a, u32 b0, u32 b1) {
  const u32 left[] = {a.x, a.y, a.z, a.w}, b[] = {b0, b1};
  product<2, 16, float, double>(c, left, b, half_of, half_of);
}

INLINE void multiply(float (&d)[4], const float (&c)[4], const uint4& a, u32 b0, u32 b1) {
  std::copy(c, c + 4, d);
  multiply(d, a, b0, b1);
}

INLINE void multiply(float (&c)[4], u32 a0, u32 a1, u32 b) {
  const u32 left[] = {a0, a1}, right[] = {b};
  product<2, 8, float, double>(c, left, right, half_of, half_of);
}

static float brain_of(u32 word, int place) { return bits_as_float(word >> 16 * place << 16); }
static float tf32_of(u32 word, int) { return bits_as_float(word & ~0x1FFFu); }

INLINE void multiply_brain(float (&c)[4], const uint4& a, u32 b0, u32 b1) {
  const u32 left[] = {a.x, a.y, a.z, a.w}, b[] = {b0, b1};
  product<2, 16, float, double>(c, left, b, brain_of, brain_of);
}

INLINE void multiply_tf32(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  const u32 b[] = {b0, b1};
  product<1, 8, float, double>(c, a, b, tf32_of, tf32_of);
}

INLINE float inverse_root(float x) { return 1 / std::sqrt(x); }

INLINE int floor_of_product(float a, float b, int added) {
  const double sum = std::floor(std::ldexp((double)a * b, 149) + added);
  if (std::isnan(sum)) return 0x7FFFFFFF;
  const double most = 0x7F800000;
  return sum < 0 ? (int)(0x80000000u | (u32)std::min(-sum, most)) : (int)std::min(sum, most);
}

INLINE u32 pushed_nibbles(u32 word, int high, int low) {
  const auto nibble = [](int x) { return (u32)std::min(std::max(x, 0), 15); };
  return word << 8 | nibble(high) << 4 | nibble(low);
}

INLINE u32 address(const void* p) { return (u32)((const char*)p - shared); }
INLINE uint4 from_shared(u32 at) { return *(const uint4*)(shared + at); }

static void perform(std::vector<Copy>& copies) {
  for (const Copy& copy : copies) {
    memset(copy.to, 0, 16);
    memcpy(copy.to, copy.from, copy.bytes);
  }
  copies.clear();
}

INLINE void copy16_or_zeros(u32 to, const void* from, int bytes) {
  auto& group = current->groups.back();
  group.push_back({shared + to, (const char*)from, bytes});
  if (EAGER) perform(group);
}

INLINE void copy16(u32 to, const void* from) { copy16_or_zeros(to, from, 16); }

template <int TO, int FROM> INLINE void copy16_once(u32 to, const void* from) {
  copy16(to + TO, (const char*)from + FROM);
}

template <class T> INLINE T load(const T* from) { return *from; }
INLINE void prefetch(const void*) {}
INLINE int early(const int* from) { return EAGER ? *from : -1; }

INLINE void commit() { current->groups.emplace_back(); }

template <int GROUPS> INLINE void wait_for_all_but() {  // the last group is still open
  for (auto& groups = current->groups; groups.size() > GROUPS + 1; groups.pop_front()) perform(groups.front());
}

INLINE u32 arrive(u32* counter, u32 last) {  // programs run one after another
  const u32 before = *counter;
  *counter = before < last ? before + 1 : 0;
  return before;
}

INLINE void wait_for_launches() {}
INLINE void let_launches_begin() {}

static std::function<void()> body;
static void begin() {
  body();
  current->done = true;
  events++;
  pause();
}

// Run programs (x, y). Returns 0; 1 if threads wait in vain; 2 if one writes shared memory from
// `bytes` on.
static int run(int x, int y, int size, int bytes, std::function<void()> kernel) {
  body = kernel;
  threads = size;
  gridDim = {x, y, 1};
  for (int block = 0; block < x * y; block++) {
    blockIdx = {block % x, block / x, 0};
    memset(shared, 255, sizeof shared);
    std::vector<Fiber> fibers(size);
    for (int i = 0; i < size; i++) {
      Fiber& fiber = fibers[i];
      fiber.thread = {i, 0, 0};
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = STACK;
      makecontext(&fiber.context, begin, 0);
    }
    for (bool left = true; left;) {
      left = false;
      const long before = events;
      for (int i = 0; i < size; i++)
        if (Fiber& fiber = fibers[EAGER ? size - 1 - i : i]; !fiber.done) {
          left = true;
          current = &fiber;
          swapcontext(&scheduler, &fiber.context);
        }
      if (left && events == before) return 1;
    }
    if (std::any_of(shared + bytes, shared + sizeof shared, [](char c) { return c != -1; })) return 2;
  }
  return 0;
}
