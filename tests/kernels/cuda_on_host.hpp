// Enough of CUDA C++ to run the kernels of core/splatomy/kernels/cuda on the host, one block after another.
// The threads of a block are fibers that take turns at barriers and warp exchanges, as the model demands:
// what deadlocks, reads beyond a warp or depends on a barrier that is not there, fails here too.
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#define __device__
#define __global__
#define __constant__ static const
#define __shared__ static
#define __launch_bounds__(...)
#define __forceinline__ inline

struct Index3 {
  unsigned x = 0, y = 0, z = 0;
};
static Index3 threadIdx, blockIdx, blockDim, gridDim;

struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
struct int2 { int x, y; };
struct int4 { int x, y, z, w; };
struct double2 { double x, y; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
static inline double2 make_double2(double x, double y) { return {x, y}; }

template <typename A, typename B>
static inline auto min(A a, B b) { return b < a ? (decltype(a + b))b : (decltype(a + b))a; }
template <typename A, typename B>
static inline auto max(A a, B b) { return b > a ? (decltype(a + b))b : (decltype(a + b))a; }
template <typename To, typename From>
static inline To bits(From value) {
  static_assert(sizeof(To) == sizeof(From), "sizes");
  To out;
  std::memcpy(&out, &value, sizeof(To));
  return out;
}
static inline unsigned __float_as_uint(float v) { return bits<unsigned>(v); }
static inline int __float_as_int(float v) { return bits<int>(v); }
static inline float __uint_as_float(unsigned v) { return bits<float>(v); }
static inline float __int_as_float(int v) { return bits<float>(v); }
static inline long long __double_as_longlong(double v) { return bits<long long>(v); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline int __clz(int v) { return v ? __builtin_clz(v) : 32; }
static inline void sincospi(double x, double* s, double* c) {
  x = std::fmod(x, 2.0);
  *s = std::sin(M_PI * x), *c = std::cos(M_PI * x);
}
template <typename T, typename V>
static inline T atomicAdd(T* at, V value) { T old = *at; *at += (T)value; return old; }
template <typename T, typename V>
static inline T atomicMax(T* at, V value) { T old = *at; *at = std::max<T>(old, (T)value); return old; }

enum class State { ready, warp, block, done };
struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  State state = State::done;
  unsigned exchanges = 0;
};
static const size_t STACK = 256 * 1024;
static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static unsigned running = 0;
static uint64_t slots[2][1024];
static void (*body)(void*);
static void* body_arguments;

static void pause(State state) {
  fibers[running].state = state;
  swapcontext(&fibers[running].context, &scheduler);
}

static void enter() {
  body(body_arguments);
  fibers[running].state = State::done;
  swapcontext(&fibers[running].context, &scheduler);
}

static inline void __syncthreads() { pause(State::block); }
static inline void __syncwarp(unsigned = ~0u) { pause(State::warp); }

// Gives a value to the warp and waits for all its lanes; the slots then hold theirs.
template <typename T>
static const uint64_t* exchange(T value) {
  static_assert(sizeof(T) <= 8, "size");
  unsigned turn = fibers[running].exchanges++ % 2;
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof(T));
  slots[turn][running] = word;
  pause(State::warp);
  return slots[turn] + running / 32 * 32;
}
template <typename T>
static T lane_of(const uint64_t* given, unsigned lane) {
  T out;
  std::memcpy(&out, given + lane, sizeof(T));
  return out;
}
template <typename T>
static T __shfl_xor_sync(unsigned, T v, int mask) { unsigned l = running % 32; return lane_of<T>(exchange(v), l ^ mask); }
template <typename T>
static T __shfl_sync(unsigned, T v, int lane) { return lane_of<T>(exchange(v), lane % 32); }
template <typename T>
static T __shfl_up_sync(unsigned, T v, unsigned by) {
  unsigned l = running % 32;
  const uint64_t* given = exchange(v);
  return l >= by ? lane_of<T>(given, l - by) : v;
}
static inline unsigned __ballot_sync(unsigned, bool yes) {
  unsigned out = 0, first = running / 32 * 32;
  const uint64_t* given = exchange<int>(yes);
  for (unsigned l = 0; l < 32 && first + l < fibers.size(); ++l)
    if (fibers[first + l].state != State::done && given[l]) out |= 1u << l;
  return out;
}
static inline bool __any_sync(unsigned m, bool yes) { return __ballot_sync(m, yes) != 0; }
static inline bool __all_sync(unsigned m, bool yes) { return __ballot_sync(m, !yes) == 0; }
static inline int __syncthreads_count(bool yes) {
  static int count;
  count = 0;
  pause(State::block);
  count += yes;
  pause(State::block);
  int out = count;
  pause(State::block);
  return out;
}
static inline bool __syncthreads_or(bool yes) { return __syncthreads_count(yes) > 0; }

// Runs one block to its end; false if its threads wait for each other for ever.
static bool run_block(unsigned threads) {
  fibers.resize(threads);
  for (unsigned t = 0; t < threads; ++t) {
    Fiber& f = fibers[t];
    if (!f.stack) f.stack.reset(new char[STACK]);
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.get();
    f.context.uc_stack.ss_size = STACK;
    f.context.uc_link = nullptr;
    makecontext(&f.context, enter, 0);
    f.state = State::ready;
    f.exchanges = 0;
  }
  for (;;) {
    bool moved = false, alive = false;
    for (unsigned t = 0; t < threads; ++t) {
      if (fibers[t].state != State::ready) continue;
      running = t;
      threadIdx.x = t;
      swapcontext(&scheduler, &fibers[t].context);
      moved = true;
    }
    bool whole = true;
    for (unsigned first = 0; first < threads; first += 32) {
      bool all = true, any = false;
      for (unsigned t = first; t < std::min(threads, first + 32); ++t) {
        State s = fibers[t].state;
        alive |= s != State::done;
        any |= s == State::warp;
        all &= s == State::warp || s == State::done;
        whole &= s == State::block || s == State::done;
      }
      if (all && any) {
        moved = true;
        for (unsigned t = first; t < std::min(threads, first + 32); ++t)
          if (fibers[t].state == State::warp) fibers[t].state = State::ready;
      }
    }
    if (!alive) return true;
    if (whole) {
      moved = true;
      for (Fiber& f : fibers)
        if (f.state == State::block) f.state = State::ready;
    }
    if (!moved) return false;
  }
}

static int run_grid(void (*kernel)(void*), void* arguments, unsigned columns, unsigned rows, unsigned threads) {
  body = kernel, body_arguments = arguments;
  gridDim.x = columns, gridDim.y = rows, gridDim.z = 1;
  blockDim.x = threads, blockDim.y = blockDim.z = 1;
  for (unsigned y = 0; y < rows; ++y)
    for (unsigned x = 0; x < columns; ++x) {
      blockIdx.x = x, blockIdx.y = y;
      if (!run_block(threads)) return 1;
    }
  return 0;
}
