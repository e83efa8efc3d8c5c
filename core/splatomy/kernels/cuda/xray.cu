// X-ray splatting: images of line integrals. Sheet dsa-4drgs, section 5; the geometry is in float64.
//
// A record is two float4: the offset (x, y) of the box's first pixel from the projected mean, -a, k; -e, the
// weight, and the box (x0 | x1 << 16, y0 | y1 << 16), empty for a Gaussian that is skipped. A pixel at (dx, dy)
// from the mean gets weight exp2(-a (dx - k dy)^2 - e dy^2): no cancellation for slanted needles.

#define TILE 16
#define SUM_BATCH 64
#define LARGE_BOX 16384

struct View {
  double rotation[3][3], axes[3][3], jacobian[2][3], rows[2][3], centre[3], ray[3], whitened[3];
  double xx, xy, yy, determinant, sharp, u, v;
  // Gradients of the logarithm of the lattice ratio, by which the peak is divided.
  double log_u, log_v, log_xx, log_xy, log_yy;
};

// The ratio of ``_torch.lattice_ratio`` and the gradients of its logarithm.
__device__ inline double lattice_ratio(View& w) {
  double ratio = 1.0;
  w.log_u = w.log_v = w.log_xx = w.log_xy = w.log_yy = 0.0;
  for (int row = 0; row < LATTICE_2_ROWS; ++row) {
    double a = LATTICE_2[row][0], b = LATTICE_2[row][1];
    double exponent = 2 * PI * PI * (a * a * w.xx + 2 * a * b * w.xy + b * b * w.yy);
    if (exponent > 40.0) continue;
    double sine, cosine, size = 2 * exp(-exponent);
    sincospi(2 * (a * w.u + b * w.v), &sine, &cosine);
    double even = size * cosine, odd = 2 * PI * size * sine;
    ratio += even;
    w.log_u -= odd * a, w.log_v -= odd * b;
    even *= 2 * PI * PI;
    w.log_xx -= even * a * a, w.log_xy -= even * a * b, w.log_yy -= even * b * b;
  }
  w.log_u /= ratio, w.log_v /= ratio, w.log_xx /= ratio, w.log_xy /= ratio, w.log_yy /= ratio;
  return ratio;
}

// Peak line integral at unit density, 0 for a Gaussian to be skipped; fills the view.
__device__ inline double project(const float* mean, const float* quat, const float* scale, const double* k,
                                 const double* pose, double cell, View& w) {
  if (!is_usable(mean, quat, scale, 3)) return 0.0;
  rotation_of(quat, w.rotation);
  for (int i = 0; i < 3; ++i) {
    w.centre[i] = pose[4 * i + 3];
    for (int j = 0; j < 3; ++j) {
      w.centre[i] += pose[4 * i + j] * mean[j];
      w.axes[i][j] = 0.0;
      for (int m = 0; m < 3; ++m) w.axes[i][j] += pose[4 * i + m] * w.rotation[m][j];
    }
  }
  double x = w.centre[0], y = w.centre[1], z = w.centre[2];
  if (!(z > NEAR_MM)) return 0.0;
  double fx = k[0], skew = k[1], fy = k[4], nearness = 1.0 / z;
  double slope_x = (fx * x + skew * y) * nearness, slope_y = fy * y * nearness;
  w.jacobian[0][0] = fx * nearness, w.jacobian[0][1] = skew * nearness;
  w.jacobian[0][2] = -slope_x * nearness, w.jacobian[1][0] = 0.0;
  w.jacobian[1][1] = fy * nearness, w.jacobian[1][2] = -slope_y * nearness;
  double per_length = 1.0 / sqrt(x * x + y * y + z * z), norm2 = 0.0;
  for (int j = 0; j < 3; ++j) w.ray[j] = w.centre[j] * per_length;
  for (int j = 0; j < 3; ++j) {
    double along = w.axes[0][j] * w.ray[0] + w.axes[1][j] * w.ray[1] + w.axes[2][j] * w.ray[2];
    w.whitened[j] = along / scale[j];
    norm2 += w.whitened[j] * w.whitened[j];
    for (int i = 0; i < 3; ++i) w.axes[i][j] *= scale[j];
    for (int i = 0; i < 2; ++i) {
      w.rows[i][j] = w.jacobian[i][0] * w.axes[0][j] + w.jacobian[i][1] * w.axes[1][j];
      w.rows[i][j] += w.jacobian[i][2] * w.axes[2][j];
    }
  }
  double *p = w.rows[0], *q = w.rows[1];
  double xx = p[0] * p[0] + p[1] * p[1] + p[2] * p[2], yy = q[0] * q[0] + q[1] * q[1] + q[2] * q[2];
  w.xy = p[0] * q[0] + p[1] * q[1] + p[2] * q[2];
  double c0 = p[1] * q[2] - p[2] * q[1], c1 = p[2] * q[0] - p[0] * q[2], c2 = p[0] * q[1] - p[1] * q[0];
  w.sharp = c0 * c0 + c1 * c1 + c2 * c2;
  w.determinant = w.sharp + cell * (xx + yy) + cell * cell;
  w.xx = xx + cell, w.yy = yy + cell;
  if (!(w.xx <= MAX_VARIANCE && w.yy <= MAX_VARIANCE && w.determinant >= MIN_DETERMINANT)) return 0.0;
  w.u = slope_x + k[2], w.v = slope_y + k[5];
  double peak = sqrt(2 * PI / norm2);
  if (cell > 0) peak *= sqrt(w.sharp / w.determinant) / lattice_ratio(w);
  return peak;
}

// Records of all Gaussians in all views, and how many of those with a weight meet each tile.
extern "C" __global__ void __launch_bounds__(128) project_xray(
    const float* means, const float* quats, const float* scales, const float* density,
    const double* intrinsics, const double* poses, int num, int width, int height, double cutoff, double cell,
    float4* records, int* counts) {
  int n = blockIdx.x * 128 + threadIdx.x, view = blockIdx.y;
  if (n >= num) return;
  View w;
  int at = view * num + n, x0 = 0, x1 = 0, y0 = 0, y1 = 0;
  float amount = density[at];
  double peak = 0.0;
  if (fabs((double)amount) <= MAX_DENSITY)
    peak = project(means + 3 * n, quats + 4 * n, scales + 3 * n, intrinsics + 9 * view, poses + 16 * view, cell, w);
  if (peak > 0.0) {
    double half_x = cutoff * sqrt(w.xx), half_y = cutoff * sqrt(w.yy);
    clip_range(w.u - half_x, w.u + half_x, width, x0, x1);
    clip_range(w.v - half_y, w.v + half_y, height, y0, y1);
  }
  if (!(x1 > x0 && y1 > y0)) {
    records[2 * at] = records[2 * at + 1] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    return;
  }
  float weight = (float)(peak * amount);
  records[2 * at] = make_float4((float)(x0 - w.u), (float)(y0 - w.v),
                                (float)(-HALF_LOG2_E * w.yy / w.determinant), (float)(w.xy / w.yy));
  records[2 * at + 1] = make_float4((float)(-HALF_LOG2_E / w.yy), weight, __int_as_float(x0 | x1 << 16),
                                    __int_as_float(y0 | y1 << 16));
  if (weight == 0.0f) return;
  int columns = (width + TILE - 1) / TILE, rows = (height + TILE - 1) / TILE;
  int* own = counts + view * columns * rows;
  for (int y = y0 / TILE; y <= (y1 - 1) / TILE; ++y)
    for (int x = x0 / TILE; x <= (x1 - 1) / TILE; ++x) atomicAdd(own + y * columns + x, 1);
}

struct Box {
  int x0, x1, y0, y1;
};

__device__ inline Box box_of(float4 second) {
  unsigned x = __float_as_uint(second.z), y = __float_as_uint(second.w);
  Box box = {(int)(x & 0xffffu), (int)(x >> 16), (int)(y & 0xffffu), (int)(y >> 16)};
  return box;
}

// Writes each Gaussian to the lists of its tiles. One that finds a list's end is drawn at once, slowly; the
// host sees that from ``asked`` and has more room the next time.
extern "C" __global__ void __launch_bounds__(128) fill_xray(
    const float4* records, int num_records, int num, int width, int height, int capacity, const u64* totals,
    int* cursors, int* members, float* images, int* asked) {
  int at = blockIdx.x * 128 + threadIdx.x;
  if (at == 0) *asked = (int)(totals[0] > (u64)LIST_LIMIT ? (u64)LIST_LIMIT : totals[0]);
  if (at >= num_records) return;
  float4 second = records[2 * at + 1];
  Box box = box_of(second);
  if (box.x1 <= box.x0 || second.y == 0.0f) return;
  int columns = (width + TILE - 1) / TILE, rows = (height + TILE - 1) / TILE, view = at / num;
  for (int y = box.y0 / TILE; y <= (box.y1 - 1) / TILE; ++y) {
    for (int x = box.x0 / TILE; x <= (box.x1 - 1) / TILE; ++x) {
      int place = atomicAdd(cursors + (view * rows + y) * columns + x, 1);
      if (place < capacity) {
        members[place] = at;
        continue;
      }
      float4 first = records[2 * at];
      for (int v = max(box.y0, y * TILE); v < min(box.y1, (y + 1) * TILE); ++v) {
        float dy = first.y + (float)(v - box.y0);
        for (int u = max(box.x0, x * TILE); u < min(box.x1, (x + 1) * TILE); ++u) {
          float t = first.x + (float)(u - box.x0) - first.w * dy;
          float value = second.y * exp2f(first.z * t * t + second.x * dy * dy);
          atomicAdd(images + ((long long)view * height + v) * width + u, value);
        }
      }
    }
  }
}

extern "C" __global__ void __launch_bounds__(256) sort_xray(const int4* items, const u64* totals, int* members) {
  __shared__ int room[4096];
  sort_item<int, 4096>(items, totals, members, room);
}

// Sums an item's Gaussians over its tile. Each lane has four pixels of a row, each warp eight rows; a batch
// lies in shared memory with masks of the tile's columns and rows inside each box.
extern "C" __global__ void __launch_bounds__(SUM_BATCH) sum_xray(
    const float4* records, const int* members, const int4* items, const u64* totals, int width, int height,
    float* images) {
  __shared__ float4 places[SUM_BATCH], rests[SUM_BATCH];
  if (blockIdx.x >= totals[1]) return;
  int4 item = items[blockIdx.x];
  int columns = (width + TILE - 1) / TILE, rows = (height + TILE - 1) / TILE;
  int view = item.x / (columns * rows), tile = item.x % (columns * rows);
  int left = tile % columns * TILE, top = tile / columns * TILE;
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  int column = lane % 4 * 4, row = lane / 4 + 8 * warp;
  unsigned warp_rows = 0xff0000u << (8 * warp), own_row = 0x10000u << row;
  float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  for (int start = item.y; start < item.z; start += SUM_BATCH) {
    __syncthreads();
    int many = min(SUM_BATCH, item.z - start);
    if (threadIdx.x < many) {
      int at = members[start + threadIdx.x];
      float4 first = records[2 * at], second = records[2 * at + 1];
      Box box = box_of(second);
      int x0 = max(box.x0 - left, 0), x1 = min(box.x1 - left, TILE);
      int y0 = max(box.y0 - top, 0), y1 = min(box.y1 - top, TILE);
      unsigned mask = ((1u << x1) - (1u << x0)) | ((1u << y1) - (1u << y0)) << 16;
      first.x += (float)(left - box.x0), first.y += (float)(top - box.y0);
      places[threadIdx.x] = first;
      rests[threadIdx.x] = make_float4(second.x, second.y, __uint_as_float(mask), 0.0f);
    }
    __syncthreads();
    for (int k = 0; k < many; ++k) {
      float4 rest = rests[k];
      unsigned mask = __float_as_uint(rest.z);
      if (!(mask & warp_rows)) continue;
      float4 place = places[k];
      float dy = place.y + (float)row, base = rest.x * dy * dy;
      float t = place.x + (float)column - place.w * dy;
      mask = mask & own_row ? mask >> column : 0u;
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        float at = t + (float)m, value = exp2f(place.z * at * at + base);
        if (mask & 1u << m) sums[m] += rest.y * value;
      }
    }
  }
  int y = top + row;
  if (y >= height) return;
  float* line = images + ((long long)view * height + y) * width + left + column;
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    if (left + column + m >= width || sums[m] == 0.0f) continue;
    // Alone, an item need not be atomic: whatever was drawn without a list is already there.
    if (item.w == 1) line[m] += sums[m];
    else atomicAdd(line + m, sums[m]);
  }
}
