// Surfels from near to far over a tile; continues surfels.cu. A warp's patch reaches HALF_X and HALF_Y
// pixels from its middle.

#define LOG2_E 1.4426950408889634f
#define HALF_X 3.5f
#define HALF_Y 1.5f

// A batch of a tile's surfels in shared memory.
struct Batch {
  float4 rays[PIXELS], planes[PIXELS], offsets[PIXELS], values[PIXELS][VALUES / 4];
  float slope[PIXELS], limits[PIXELS];
  int index[PIXELS];
};

// Loads one surfel of a batch. Its limit is a little more than the power at which it ends.
__device__ inline void load_surfel(Batch& batch, int k, const Surfel* surfels, int n, const float* colours,
                                   int channels, int first_value, int left, int top, double reference) {
  const Surfel& s = surfels[n];
  batch.limits[k] = 2.002f * logf(s.opacity / (float)MIN_ALPHA) + 1e-3f;
  batch.rays[k] = make_float4(s.r0x, s.r0y, s.r1x, s.r1y);
  batch.planes[k] = make_float4(s.r2, s.r2x, s.r2y, s.opacity);
  batch.offsets[k] = make_float4((float)(left - s.x), (float)(top - s.y), (float)(s.inverse - reference), s.qx);
  batch.slope[k] = s.qy;
  batch.index[k] = n;
  float values[VALUES];
#pragma unroll
  for (int v = 0; v < VALUES; ++v) {
    int at = first_value + v;
    values[v] = 0.0f;
    if (v < 3 && first_value == 0) values[v] = s.normal[v < 3 ? v : 0];
    else if (at - 3 < channels) values[v] = colours[(long long)n * channels + at - 3];
  }
  batch.values[k][0] = make_float4(values[0], values[1], values[2], values[3]);
  batch.values[k][1] = make_float4(values[4], values[5], values[6], values[7]);
}

// The eight values of one surfel of a batch.
__device__ inline void values_of(const Batch& batch, int k, float out[VALUES]) {
  float4 low = batch.values[k][0], high = batch.values[k][1];
  out[0] = low.x, out[1] = low.y, out[2] = low.z, out[3] = low.w;
  out[4] = high.x, out[5] = high.y, out[6] = high.z, out[7] = high.w;
}

struct Hit {
  float dx, dy, r0, r1, r2, square, disc, low_pass, raw, q;
  bool visible;
};

// Where a pixel's ray meets a surfel's plane, and with what opacity.
__device__ inline Hit meet(const Batch& batch, int k, float x, float y, float nearest, float farthest) {
  float4 ray = batch.rays[k], plane = batch.planes[k], offset = batch.offsets[k];
  Hit h;
  h.dx = offset.x + x, h.dy = offset.y + y;
  h.r0 = ray.x * h.dx + ray.y * h.dy, h.r1 = ray.z * h.dx + ray.w * h.dy;
  h.r2 = plane.x + plane.y * h.dx + plane.z * h.dy;
  h.square = h.r2 * h.r2 + (float)TINY;
  h.disc = fminf(__fdividef(h.r0 * h.r0 + h.r1 * h.r1, h.square), (float)MAX_SQUARE);
  h.low_pass = (float)LOW_PASS * (h.dx * h.dx + h.dy * h.dy);
  h.raw = plane.w * exp2f(-0.5f * LOG2_E * fminf(h.disc, h.low_pass));
  h.q = offset.z + offset.w * h.dx + batch.slope[k] * h.dy;
  h.visible = h.raw >= (float)MIN_ALPHA && h.q > farthest && h.q <= nearest;
  return h;
}

// A thread's pixel: its place in the tile and in the image, and the middle of its warp's patch.
struct Pixel {
  int x, y, left, top;
  long long at;
  float middle_x, middle_y;
  bool inside;
};

__device__ inline Pixel pixel_of(int width, int height) {
  int columns = (width + TILE - 1) / TILE, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  Pixel p;
  p.left = blockIdx.x % columns * TILE, p.top = blockIdx.x / columns * TILE;
  p.x = warp % 2 * 8 + lane % 8, p.y = warp / 2 * 4 + lane / 8;
  p.middle_x = (float)(warp % 2 * 8) + HALF_X, p.middle_y = (float)(warp / 2 * 4) + HALF_Y;
  p.inside = p.left + p.x < width && p.top + p.y < height;
  p.at = (long long)(p.top + p.y) * width + p.left + p.x;
  return p;
}

// The least a plane's absolute value can be in the patch about (dx, dy), with room for rounding.
__device__ inline float least_of(float slope_x, float slope_y, float dx, float dy) {
  float x = slope_x * dx, y = slope_y * dy;
  float reach = HALF_X * fabsf(slope_x) + HALF_Y * fabsf(slope_y) + 1e-6f * (fabsf(x) + fabsf(y));
  return fmaxf(fabsf(x + y) - reach, 0.0f);
}

// Whether a surfel may be visible in the warp's patch; it may for all that is not a number.
__device__ inline bool may_meet(const Batch& batch, int k, const Pixel& p) {
  float4 ray = batch.rays[k], plane = batch.planes[k], offset = batch.offsets[k];
  float dx = offset.x + p.middle_x, dy = offset.y + p.middle_y, limit = batch.limits[k];
  float r0 = least_of(ray.x, ray.y, dx, dy), r1 = least_of(ray.z, ray.w, dx, dy);
  float r2 = fabsf(plane.x + plane.y * dx + plane.z * dy) + HALF_X * fabsf(plane.y) + HALF_Y * fabsf(plane.z);
  float x = fmaxf(fabsf(dx) - HALF_X, 0.0f), y = fmaxf(fabsf(dy) - HALF_Y, 0.0f);
  bool beyond = r0 * r0 + r1 * r1 > 1.0001f * limit * r2 * r2 + limit * (float)TINY;
  return !(beyond && (float)LOW_PASS * (x * x + y * y) > limit);
}

// The inverse depth of a tile's nearest surfel.
__device__ inline double reference_of(const Surfel* surfels, const u64* members, int start, int end) {
  return end > start ? surfels[members[start] & INDEX_MASK].inverse : 0.0;
}

// Blends a tile; blockIdx.y counts groups of eight values: the normal and then the colours. states (H, W, 4): the
// light left, the sums of w q and w q^2 relative to the tile's reference, and the place of the median hit.
extern "C" __global__ void __launch_bounds__(PIXELS) blend_surfels(
    const Surfel* surfels, const u64* members, const int* counts, const int* cursors,
    int capacity, const float* colours, int channels, const float* background, double near, double far, int width,
    int height, float* out_colour, float* out_alpha, float* out_depth, float* out_median, float* out_normal,
    float* out_distortion, float4* states) {
  __shared__ Batch batch;
  Pixel p = pixel_of(width, height);
  int end = min(cursors[blockIdx.x], capacity), start = min(cursors[blockIdx.x] - counts[blockIdx.x], capacity);
  double reference = reference_of(surfels, members, start, end);
  float nearest = (float)(1.0 / near - reference), farthest = (float)-reference;
  float light = 1.0f, first = 0.0f, second = 0.0f, median = 0.0f, values[VALUES];
  int median_at = -1, first_value = blockIdx.y * VALUES, lane = threadIdx.x % WARP;
  bool done = !p.inside;
  for (int v = 0; v < VALUES; ++v) values[v] = 0.0f;
  for (int from = start; from < end; from += PIXELS) {
    if (__syncthreads_count(!done) == 0) break;
    int many = min(PIXELS, end - from);
    if (threadIdx.x < many)
      load_surfel(batch, threadIdx.x, surfels, (int)(members[from + threadIdx.x] & INDEX_MASK), colours, channels,
                  first_value, p.left, p.top, reference);
    __syncthreads();
    for (int chunk = 0; chunk < many; chunk += WARP) {
      // Each lane judges one surfel for the whole warp.
      unsigned left = __ballot_sync(ALL_LANES, chunk + lane < many && may_meet(batch, chunk + lane, p));
      for (; left && !done; left &= left - 1) {
        int k = chunk + __ffs(left) - 1;
        Hit h = meet(batch, k, (float)p.x, (float)p.y, nearest, farthest);
        if (!h.visible) continue;
        float alpha = fminf(h.raw, (float)MAX_ALPHA), after = light * (1.0f - alpha);
        if (!(after > (float)MIN_TRANSMITTANCE)) {
          done = true;
          break;
        }
        float weight = alpha * light;
        if (light > (float)MEDIAN_TRANSMITTANCE) median = h.q, median_at = from + k;
        first += weight * h.q, second += weight * h.q * h.q;
        float own[VALUES];
        values_of(batch, k, own);
#pragma unroll
        for (int v = 0; v < VALUES; ++v) values[v] += weight * own[v];
        light = after;
      }
      if (__all_sync(ALL_LANES, done)) break;
    }
  }
  if (!p.inside) return;
  float alpha = 1.0f - light;
#pragma unroll
  for (int v = 0; v < VALUES; ++v) {
    int c = first_value + v - 3;
    if (c < 0) out_normal[3 * p.at + c + 3] = values[v];
    else if (c < channels) out_colour[p.at * channels + c] = values[v] + (background ? light * background[c] : 0.0f);
  }
  if (blockIdx.y != 0) return;
  bool hit = light < 1.0f;
  float low = (float)(1.0 / far), high = (float)(1.0 / near);
  float mean = (float)(reference + (double)(hit ? first / alpha : 0.0f));
  out_alpha[p.at] = alpha;
  out_depth[p.at] = hit ? 1.0f / fminf(fmaxf(mean, low), high) : 0.0f;
  out_median[p.at] = hit ? 1.0f / fminf(fmaxf((float)(reference + (double)median), low), high) : 0.0f;
  out_distortion[p.at] = fmaxf(alpha * second - first * first, 0.0f);
  states[p.at] = make_float4(light, first, second, __int_as_float(median_at));
}
