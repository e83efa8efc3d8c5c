// The way back from the image to the sums of each surfel; continues surfels_blend.cu.

// What the loss of a pixel changes by, per unit of each of its sums.
struct Slopes {
  float values[VALUES], first, second, light, median, total;
};

// From the gradients of the outputs (null for none) to those of the sums.
__device__ inline Slopes slopes_of(long long at, float4 state, double reference, int first_value, int channels,
                                   const float* background, double near, double far, const float* d_colour,
                                   const float* d_alpha, const float* d_depth, const float* d_median,
                                   const float* d_normal, const float* d_distortion, const float* out_colour,
                                   const float* out_normal) {
  float light = state.x, first = state.y, second = state.z, alpha = 1.0f - light;
  Slopes s = {{0, 0, 0, 0, 0, 0, 0, 0}, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
  for (int v = 0; v < VALUES; ++v) {
    int c = first_value + v - 3;
    if (c < 0 && d_normal) {
      s.values[v] = d_normal[3 * at + c + 3];
      s.total += s.values[v] * out_normal[3 * at + c + 3];
    } else if (c >= 0 && c < channels && d_colour) {
      s.values[v] = d_colour[at * channels + c];
      float behind = background ? background[c] : 0.0f;
      s.light += s.values[v] * behind;
      s.total += s.values[v] * (out_colour[at * channels + c] - light * behind);
    }
  }
  if (first_value > 0 || !(light < 1.0f)) return s;
  if (d_alpha) s.light -= d_alpha[at];
  float low = (float)(1.0 / far), high = (float)(1.0 / near);
  float mean = (float)(reference + (double)(first / alpha));
  if (d_depth && mean >= low && mean <= high) {
    float d_mean = -d_depth[at] / (mean * mean);
    s.first += d_mean / alpha;
    s.light += d_mean * first / (alpha * alpha);
  }
  if (d_distortion && alpha * second - first * first >= 0.0f) {
    s.light -= d_distortion[at] * second;
    s.first -= 2.0f * d_distortion[at] * first;
    s.second += d_distortion[at] * alpha;
  }
  if (d_median) s.median = d_median[at];
  s.total += s.first * first + s.second * second;
  return s;
}

// The sums of one pixel's hit, in the order of ``SUMS``: r0, r1, r2 and q each by (1, dx, dy), the low-pass by (dx,
// dy), the opacity, and the values. d_alpha: what the loss changes by with the hit's alpha.
__device__ inline void sums_of(const Hit& h, const Slopes& s, float weight, float d_alpha, float d_q, float opacity,
                               float sums[SUMS]) {
  float d_power = -0.5f * h.raw * d_alpha;
  float d_disc = h.disc <= h.low_pass && h.disc < (float)MAX_SQUARE ? d_power : 0.0f;
  float d_low = h.disc <= h.low_pass ? 0.0f : d_power, per = 2.0f * __fdividef(d_disc, h.square);
  float d_planes[4] = {h.r0 * per, h.r1 * per, -h.r2 * h.disc * per, d_q};
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    sums[3 * k] = d_planes[k], sums[3 * k + 1] = d_planes[k] * h.dx, sums[3 * k + 2] = d_planes[k] * h.dy;
  }
  sums[12] = d_low * h.dx, sums[13] = d_low * h.dy;
  sums[14] = __fdividef(h.raw, opacity) * d_alpha;
#pragma unroll
  for (int v = 0; v < VALUES; ++v) sums[GEOMETRY + v] = weight * s.values[v];
  sums[SUMS - 1] = 0.0f;
}

// What the loss changes by with the inverse depth of the median hit.
__device__ inline float median_slope(float d_median, double reference, float q, double near, double far) {
  float inverse = (float)(reference + (double)q);
  bool clamped = inverse < (float)(1.0 / far) || inverse > (float)(1.0 / near);
  return clamped ? 0.0f : -d_median / (inverse * inverse);
}

// Walks the tile again from near to far: what lies behind a hit is the pixel's total less what came so far. The
// sums of a surfel are reduced over a patch before they are added to ``sums`` (groups, N, 24), or written to
// ``parts`` (groups, entries, 8, 24) for a fixed order, if that is not null.
extern "C" __global__ void __launch_bounds__(PIXELS) unblend_surfels(
    const Surfel* surfels, const u64* members, const int* counts, const int* cursors, int capacity,
    const float* colours, int num, int channels, const float* background, double near, double far, int width,
    int height, const float4* states, const float* d_colour, const float* d_alpha, const float* d_depth,
    const float* d_median, const float* d_normal, const float* d_distortion, const float* out_colour,
    const float* out_normal, float* sums, float* parts) {
  __shared__ Batch batch;
  Pixel p = pixel_of(width, height);
  int end = min(cursors[blockIdx.x], capacity), start = min(cursors[blockIdx.x] - counts[blockIdx.x], capacity);
  double reference = reference_of(surfels, members, start, end);
  float nearest = (float)(1.0 / near - reference), farthest = (float)-reference;
  int first_value = blockIdx.y * VALUES, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  float4 state = p.inside ? states[p.at] : make_float4(1.0f, 0.0f, 0.0f, 0.0f);
  Slopes s = {{0, 0, 0, 0, 0, 0, 0, 0}, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
  if (p.inside)
    s = slopes_of(p.at, state, reference, first_value, channels, background, near, far, d_colour, d_alpha, d_depth,
                  d_median, d_normal, d_distortion, out_colour, out_normal);
  int median_at = __float_as_int(state.w);
  float light = 1.0f, behind = s.total + state.x * s.light;
  sums += (long long)blockIdx.y * num * SUMS;
  bool done = !(state.x < 1.0f);
  for (int from = start; from < end; from += PIXELS) {
    if (__syncthreads_count(!done) == 0) return;
    int many = min(PIXELS, end - from);
    if (threadIdx.x < many)
      load_surfel(batch, threadIdx.x, surfels, (int)(members[from + threadIdx.x] & INDEX_MASK), colours, channels,
                  first_value, p.left, p.top, reference);
    __syncthreads();
    if (__all_sync(ALL_LANES, done)) continue;
    for (int chunk = 0; chunk < many; chunk += WARP) {
      unsigned left = __ballot_sync(ALL_LANES, chunk + lane < many && may_meet(batch, chunk + lane, p));
      for (; left; left &= left - 1) {
        int k = chunk + __ffs(left) - 1;
        Hit h = meet(batch, k, (float)p.x, (float)p.y, nearest, farthest);
        float alpha = fminf(h.raw, (float)MAX_ALPHA), after = light * (1.0f - alpha);
        if (h.visible && !(after > (float)MIN_TRANSMITTANCE)) done = true;
        bool hit = h.visible && !done;
        if (!__any_sync(ALL_LANES, hit)) continue;
        float own[SUMS];
#pragma unroll
        for (int v = 0; v < SUMS; ++v) own[v] = 0.0f;
        if (hit) {
          float weight = alpha * light, worth = s.first * h.q + s.second * h.q * h.q, given[VALUES];
          values_of(batch, k, given);
#pragma unroll
          for (int v = 0; v < VALUES; ++v) worth += s.values[v] * given[v];
          behind -= weight * worth;
          float d_alpha_here = h.raw <= (float)MAX_ALPHA ? light * worth - __fdividef(behind, 1.0f - alpha) : 0.0f;
          float d_q = weight * (s.first + 2.0f * s.second * h.q);
          if (median_at == from + k) d_q += median_slope(s.median, reference, h.q, near, far);
          sums_of(h, s, weight, d_alpha_here, d_q, batch.planes[k].w, own);
          light = after;
        }
        float low = sum_eight(own, lane), middle = sum_eight(own + 8, lane), high = sum_eight(own + 16, lane);
        int third = lane % 4, at = 8 * third + lane / 4;
        if (third == 3) continue;
        float sum = third == 0 ? low : (third == 1 ? middle : high);
        if (parts) parts[((((long long)blockIdx.y * capacity) + from + k) * 8 + warp) * SUMS + at] = sum;
        else atomicAdd(sums + (long long)batch.index[k] * SUMS + at, sum);
      }
      if (__all_sync(ALL_LANES, done)) break;
    }
  }
}

// Adds the parts of each surfel in the order of its tiles and of their patches.
extern "C" __global__ void __launch_bounds__(128) add_parts(
    const Surfel* surfels, const int4* boxes, const u64* members, const int* counts, const int* cursors, int capacity,
    int num, int width, const float* parts, float* sums) {
  int n = blockIdx.x * 4 + threadIdx.x / WARP, at = threadIdx.x % WARP;
  if (n >= num || at >= SUMS) return;
  int4 box = boxes[n];
  if (box.y <= box.x) return;
  u64 key = key_of(1.0 / surfels[n].inverse, n);
  int columns = (width + TILE - 1) / TILE;
  float total = 0.0f;
  for (int y = box.z / TILE; y <= (box.w - 1) / TILE; ++y)
    for (int x = box.x / TILE; x <= (box.y - 1) / TILE; ++x) {
      int tile = y * columns + x, high = min(cursors[tile], capacity), low = min(cursors[tile] - counts[tile], capacity);
      while (high - low > 1) {
        int middle = (low + high) / 2;
        if (members[middle] <= key) low = middle;
        else high = middle;
      }
      const float* own = parts + (((long long)blockIdx.y * capacity + low) * 8) * SUMS + at;
      for (int patch = 0; patch < 8; ++patch) total += own[patch * SUMS];
    }
  sums[((long long)blockIdx.y * num + n) * SUMS + at] = total;
}
