// What a lane can do that C cannot say, as PTX. tests/kernels/emulated/ has the same for a CPU. Knows
// no kernel.

typedef unsigned int u32;
typedef unsigned short u16;
#define INLINE static __device__ __forceinline__

INLINE u32 prmt(u32 a, u32 b, u32 select) {
  u32 d;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(select));
  return d;
}

// A product of halves, since a shift takes the time of two.
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

// What any lane's word has.
INLINE u32 any_bits(u32 a) {
  u32 d;
  asm("redux.sync.or.b32 %0, %1, -1;" : "=r"(d) : "r"(a));
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

// Whole numbers: d = a b + c, of signed bytes; or of b unsigned.
INLINE void multiply(u32 (&d)[4], const u32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%10,%11,%12,%13};"
      : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(c[0]), "r"(c[1]),
        "r"(c[2]), "r"(c[3]));
}

INLINE void multiply_unsigned(u32 (&d)[4], const u32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%10,%11,%12,%13};"
      : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(c[0]), "r"(c[1]),
        "r"(c[2]), "r"(c[3]));
}

INLINE void multiply(float (&c)[4], const uint4& a, u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

INLINE u32 address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

template <int OFFSET> INLINE void copy16(u32 to, const void* from) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0 + %2], [%1 + %2], 16;"
               :: "r"(to), "l"(from), "n"(OFFSET) : "memory");
}

INLINE void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

INLINE void wait_for_all_but_two() { asm volatile("cp.async.wait_group 2;" ::: "memory"); }

INLINE u16 brain_float(float x) {
  u16 d;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(d) : "f"(x));
  return d;
}

// What was launched before has ended, and all that it wrote is there.
INLINE void wait_for_launches() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

// What is launched next may begin, up to where it waits.
INLINE void let_launches_begin() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
