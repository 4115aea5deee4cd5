// What a lane can do that C cannot say, as PTX. tests/kernels/emulated/ has the same for a CPU. Knows
// no kernel.

typedef unsigned int u32;
typedef unsigned short u16;
#define INLINE_MEMBER __device__ __forceinline__
#define INLINE static INLINE_MEMBER

INLINE u32 prmt(u32 a, u32 b, u32 select) {
  u32 d;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(select));
  return d;
}

// A product of halves: a shift takes the time of two and the pipe that `prmt` takes.
INLINE u32 upper_half(u32 a) {
  u32 d;
  asm("dp2a.lo.u32.u32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(0x0100), "r"(0));
  return d;
}

INLINE u32 largest_of(u32 a) {  // of all lanes'
  u32 d;
  asm("redux.sync.max.u32 %0, %1, -1;" : "=r"(d) : "r"(a));
  return d;
}

INLINE u32 halves(float low, float high) {
  u32 d;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
  return d;
}

INLINE float2 floats(u32 halves) {
  float2 d;
  asm("{.reg .f16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}"
      : "=f"(d.x), "=f"(d.y) : "r"(halves));
  return d;
}

INLINE float exp2_of(float x) {
  float d;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(x));
  return d;
}

INLINE u32 transposed(u32 a) {
  u32 d;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(d) : "r"(a));
  return d;
}

// Whole numbers: d (16, 8) = a (16, 32) times b (32, 8) plus c, bytes with sign; of b without; of
// both without.
#define MULTIPLY_BYTES(NAME, A, B)                                                                 \
  INLINE void NAME(u32 (&d)[4], const u32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {            \
    asm("mma.sync.aligned.m16n8k32.row.col.s32." A "." B ".s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "     \
        "{%8,%9}, {%10,%11,%12,%13};"                                                              \
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])                                           \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(c[0]), "r"(c[1]),      \
          "r"(c[2]), "r"(c[3]));                                                                   \
  }
MULTIPLY_BYTES(multiply, "s8", "s8")
MULTIPLY_BYTES(multiply_unsigned, "s8", "u8")
MULTIPLY_BYTES(multiply_both_unsigned, "u8", "u8")

// d (16, 8) = a (16, 16) times b (16, 8), both fp16, plus c.
INLINE void multiply(float (&d)[4], const float (&c)[4], const uint4& a, u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%10,%11,%12,%13};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1), "f"(c[0]), "f"(c[1]), "f"(c[2]),
        "f"(c[3]));
}

INLINE void multiply(float (&c)[4], const uint4& a, u32 b0, u32 b1) { multiply(c, c, a, b0, b1); }

// c (16, 8) plus a (16, 8) times b (8, 8), both fp16.
INLINE void multiply(float (&c)[4], u32 a0, u32 a1, u32 b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a0), "r"(a1), "r"(b));
}

// c (16, 8) plus a (16, 16) times b (16, 8), both bf16.
INLINE void multiply_brain(float (&c)[4], const uint4& a, u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

// c (16, 8) plus a (16, 8) times b (8, 8), both tf32.
INLINE void multiply_tf32(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

INLINE float inverse_root(float x) {
  float d;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(x));
  return d;
}

// a b in units of 2^-149, rounded down, and `added`: the bits of a number that counts by them. Below
// zero, some negative number; from 2^23 on, some number no smaller.
INLINE int floor_of_product(float a, float b, int added) {
  float d;
  asm("fma.rm.f32 %0, %1, %2, %3;" : "=f"(d) : "f"(a), "f"(b), "f"(__int_as_float(added)));
  return __float_as_int(d);
}

// Two more nibbles below those of a word, each the nearest to a number.
INLINE u32 pushed_nibbles(u32 word, int high, int low) {
  u32 d;
  asm("cvt.pack.sat.u4.s32.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(high), "r"(low), "r"(word));
  return d;
}

INLINE u32 address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

INLINE uint4 from_shared(u32 at) { return *(const uint4*)__cvta_shared_to_generic(at); }

INLINE void copy16(u32 to, const void* from) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;"
               :: "r"(to), "l"(from) : "memory");
}

// What is read once may leave the L2 cache first: `createpolicy.fractional.L2::evict_first`, as a
// constant, which takes no registers.
constexpr unsigned long long ONCE = 0x12F0000000000000;

template <int TO, int FROM> INLINE void copy16_once(u32 to, const void* from) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint.L2::128B [%0 + %2], [%1 + %3], 16, %4;"
               :: "r"(to), "l"(from), "n"(TO), "n"(FROM), "l"(ONCE) : "memory");
}

// 16 bytes, of which `bytes` are copied and the others zero.
INLINE void copy16_or_zeros(u32 to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
               :: "r"(to), "l"(from), "r"(bytes) : "memory");
}

// Into the L2 cache, if it is not there.
INLINE void prefetch(const void* from) { asm volatile("prefetch.global.L2 [%0];" :: "l"(from)); }

// What is asked for in this place, and not where it is used: ptxas leaves such loads in order.
INLINE uint4 load(const uint4* from) {
  uint4 d;
  asm volatile("ld.relaxed.cta.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(d.x), "=r"(d.y), "=r"(d.z), "=r"(d.w) : "l"(from));
  return d;
}

INLINE float2 load(const float2* from) {
  float2 d;
  asm volatile("ld.relaxed.cta.global.v2.f32 {%0, %1}, [%2];" : "=f"(d.x), "=f"(d.y) : "l"(from));
  return d;
}

INLINE u16 load(const u16* from) {
  u16 d;
  asm volatile("ld.relaxed.cta.global.u16 %0, [%1];" : "=h"(d) : "l"(from));
  return d;
}

template <class T> INLINE T load(const T* from) {
  static_assert(sizeof(T) == 4);
  u32 d;
  asm volatile("ld.relaxed.cta.global.u32 %0, [%1];" : "=r"(d) : "l"(from));
  return (T)d;
}

// What a launch that still runs may be writing.
INLINE int early(const int* from) {
  int d;
  asm volatile("ld.relaxed.gpu.global.s32 %0, [%1];" : "=r"(d) : "l"(from));
  return d;
}

INLINE void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int GROUPS> INLINE void wait_for_all_but() {
  asm volatile("cp.async.wait_group %0;" :: "n"(GROUPS) : "memory");
}

INLINE u16 brain_float(float x) {
  u16 d;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(d) : "f"(x));
  return d;
}

// What was launched before has ended, and all that it wrote is there.
INLINE void wait_for_launches() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

// What is launched next may begin, up to where it waits.
INLINE void let_launches_begin() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

// How many have come before, of `last` + 1 that each come once: then the next are counted anew. What
// the threads of a program wrote before they met is there for those that meet after the last.
INLINE u32 arrive(u32* counter, u32 last) {
  u32 d;
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
               : "=r"(d) : "l"(counter), "r"(last) : "memory");
  return d;
}
