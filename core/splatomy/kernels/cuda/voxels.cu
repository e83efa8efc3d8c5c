// Voxelisation: the attenuation of Gaussians on a regular grid (I, J, K), K fastest. The geometry is in float64.
//
// A record is four float4: the offset (i, j, k) of the box's first voxel from the centre and A; bi, bj, B, c;
// D, the peak, and the box along I and J; the box along K and padding. A box is first | end << 16, empty for a
// Gaussian that is skipped. A voxel at (di, dj, dk) has the weight
// exp2(-A (dk + bi di + bj dj)^2 - B (dj + c di)^2 - D di^2): no cancellation for slanted needles.

#define BRICK 8
#define SUM_BATCH 64
#define LARGE_BOX 32768
#define MOMENTS 16

struct Place {
  double rotation[3][3], rows[3][3], centre[3], covariance[3][3], precision[3][3];
  // Gradients of the logarithm of the lattice ratio, by which the peak is divided.
  double log_centre[3], log_covariance[3][3];
};

__device__ inline double determinant_of(const double m[3][3]) {
  return m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0]) +
         m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
}

// The ratio of ``_torch.lattice_ratio`` and the gradients of its logarithm.
__device__ inline double lattice_ratio(Place& p) {
  double ratio = 1.0;
  for (int i = 0; i < 3; ++i) {
    p.log_centre[i] = 0.0;
    for (int j = 0; j < 3; ++j) p.log_covariance[i][j] = 0.0;
  }
  for (int row = 0; row < LATTICE_3_ROWS; ++row) {
    const double* v = LATTICE_3[row];
    double spread = 0.0, phase = 0.0;
    for (int i = 0; i < 3; ++i) {
      phase += v[i] * p.centre[i];
      for (int j = 0; j < 3; ++j) spread += v[i] * p.covariance[i][j] * v[j];
    }
    double exponent = 2 * PI * PI * spread;
    if (exponent > 40.0) continue;
    double sine, cosine, size = 2 * exp(-exponent);
    sincospi(2 * phase, &sine, &cosine);
    double even = size * cosine, odd = size * sine;
    ratio += even;
    for (int i = 0; i < 3; ++i) {
      p.log_centre[i] -= 2 * PI * odd * v[i];
      for (int j = 0; j < 3; ++j) p.log_covariance[i][j] -= 2 * PI * PI * even * v[i] * v[j];
    }
  }
  for (int i = 0; i < 3; ++i) {
    p.log_centre[i] /= ratio;
    for (int j = 0; j < 3; ++j) p.log_covariance[i][j] /= ratio;
  }
  return ratio;
}

// Peak at unit density on the grid, 0 for a Gaussian to be skipped; fills the place. grid: the inverse (3, 3) of
// the affine's axes, then its origin.
__device__ inline double place(const float* mean, const float* quat, const float* scale, const double* grid,
                               double cell, Place& p) {
  if (!is_usable(mean, quat, scale, 3)) return 0.0;
  rotation_of(quat, p.rotation);
  for (int i = 0; i < 3; ++i) {
    p.centre[i] = 0.0;
    for (int j = 0; j < 3; ++j) {
      p.centre[i] += grid[3 * i + j] * (mean[j] - grid[9 + j]);
      double along = 0.0;
      for (int k = 0; k < 3; ++k) along += grid[3 * i + k] * p.rotation[k][j];
      p.rows[i][j] = along * scale[j];
    }
  }
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) {
      p.covariance[i][j] = i == j ? cell : 0.0;
      for (int k = 0; k < 3; ++k) p.covariance[i][j] += p.rows[i][k] * p.rows[j][k];
    }
    if (!(p.covariance[i][i] <= MAX_VARIANCE)) return 0.0;
  }
  double(*m)[3] = p.covariance;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) {
      int a = (i + 1) % 3, b = (i + 2) % 3, c = (j + 1) % 3, d = (j + 2) % 3;
      p.precision[j][i] = m[a][c] * m[b][d] - m[a][d] * m[b][c];
    }
  double determinant = m[0][0] * p.precision[0][0] + m[0][1] * p.precision[1][0] + m[0][2] * p.precision[2][0];
  if (cell == 0) {
    // The square of the factor's determinant does not cancel for needles.
    double root = determinant_of(p.rows);
    determinant = root * root;
  }
  if (!(determinant > 0)) return 0.0;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) p.precision[i][j] /= determinant;
  if (cell == 0) return 1.0;
  double axes[3][3];
  for (int i = 0; i < 9; ++i) axes[i / 3][i % 3] = grid[i];
  double volume = (double)scale[0] * scale[1] * scale[2] * fabs(determinant_of(axes));
  return volume / sqrt(determinant) / lattice_ratio(p);
}

struct Box {
  int low[3], end[3];
};

__device__ inline Box box_of(float4 third, float4 fourth) {
  unsigned sides[3] = {__float_as_uint(third.z), __float_as_uint(third.w), __float_as_uint(fourth.x)};
  Box box;
  for (int k = 0; k < 3; ++k) box.low[k] = sides[k] & 0xffffu, box.end[k] = sides[k] >> 16;
  return box;
}

struct Grid {
  int size[3], bricks[3];
};

__device__ inline Grid grid_of(int size_i, int size_j, int size_k) {
  Grid grid = {{size_i, size_j, size_k}, {0, 0, 0}};
  for (int k = 0; k < 3; ++k) grid.bricks[k] = (grid.size[k] + BRICK - 1) / BRICK;
  return grid;
}

// Records of all Gaussians, and how many of those with any density meet each brick.
extern "C" __global__ void __launch_bounds__(128) place_voxels(
    const float* means, const float* quats, const float* scales, const float* density, int num, int num_columns,
    const double* grid, int size_i, int size_j, int size_k, double cutoff, double cell, float4* records,
    int* counts) {
  int n = blockIdx.x * 128 + threadIdx.x;
  if (n >= num) return;
  Place p;
  Grid g = grid_of(size_i, size_j, size_k);
  bool good = true, any = false;
  for (int c = 0; c < num_columns; ++c) {
    float amount = density[(long long)n * num_columns + c];
    good = good && fabs((double)amount) <= MAX_DENSITY;
    any = any || amount != 0.0f;
  }
  double peak = good ? place(means + 3 * n, quats + 4 * n, scales + 3 * n, grid, cell, p) : 0.0;
  int low[3], end[3];
  good = peak > 0.0;
  for (int k = 0; k < 3 && good; ++k) {
    double half = cutoff * sqrt(p.covariance[k][k]);
    clip_range(p.centre[k] - half, p.centre[k] + half, g.size[k], low[k], end[k]);
    good = end[k] > low[k];
  }
  float4* record = records + 4ll * n;
  if (!good) {
    for (int k = 0; k < 4; ++k) record[k] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    return;
  }
  // The quadratic form with the squares completed, K first, then J. Given i and j, K has precision[2][2];
  // given i, J has the variance left / cov[0][0].
  double(*cov)[3] = p.covariance;
  double left = fmax(cov[0][0] * cov[1][1] - cov[0][1] * cov[0][1], MIN_DETERMINANT);
  double sharp = p.precision[2][2];
  record[0] = make_float4((float)(low[0] - p.centre[0]), (float)(low[1] - p.centre[1]),
                          (float)(low[2] - p.centre[2]), (float)(HALF_LOG2_E * sharp));
  record[1] = make_float4((float)(p.precision[0][2] / sharp), (float)(p.precision[1][2] / sharp),
                          (float)(HALF_LOG2_E * cov[0][0] / left), (float)(-cov[0][1] / cov[0][0]));
  record[2] = make_float4((float)(HALF_LOG2_E / cov[0][0]), (float)peak, __int_as_float(low[0] | end[0] << 16),
                          __int_as_float(low[1] | end[1] << 16));
  record[3] = make_float4(__int_as_float(low[2] | end[2] << 16), 0.0f, 0.0f, 0.0f);
  if (!any) {
    // Not listed, but still there for the gradient of its density.
    record[3].y = 1.0f;
    return;
  }
  for (int i = low[0] / BRICK; i <= (end[0] - 1) / BRICK; ++i)
    for (int j = low[1] / BRICK; j <= (end[1] - 1) / BRICK; ++j)
      for (int k = low[2] / BRICK; k <= (end[2] - 1) / BRICK; ++k)
        atomicAdd(counts + (i * g.bricks[1] + j) * g.bricks[2] + k, 1);
}

// Writes each Gaussian to the lists of its bricks. One that finds a list's end is drawn at once, slowly; the
// host sees that from ``asked`` and has more room the next time.
extern "C" __global__ void __launch_bounds__(128) fill_voxels(
    const float4* records, const float* density, int num, int num_columns, int size_i, int size_j, int size_k,
    int capacity, const u64* totals, int* cursors, int* members, float* volumes, int* asked) {
  int n = blockIdx.x * 128 + threadIdx.x;
  if (n == 0) *asked = (int)(totals[0] > (u64)LIST_LIMIT ? (u64)LIST_LIMIT : totals[0]);
  if (n >= num) return;
  const float4* record = records + 4ll * n;
  float4 fourth = record[3], third = record[2];
  Box box = box_of(third, fourth);
  Grid g = grid_of(size_i, size_j, size_k);
  if (box.end[0] <= box.low[0] || fourth.y != 0.0f) return;
  int at[3];
  for (at[0] = box.low[0] / BRICK; at[0] <= (box.end[0] - 1) / BRICK; ++at[0])
    for (at[1] = box.low[1] / BRICK; at[1] <= (box.end[1] - 1) / BRICK; ++at[1])
      for (at[2] = box.low[2] / BRICK; at[2] <= (box.end[2] - 1) / BRICK; ++at[2]) {
        int slot = atomicAdd(cursors + (at[0] * g.bricks[1] + at[1]) * g.bricks[2] + at[2], 1);
        if (slot < capacity) {
          members[slot] = n;
          continue;
        }
        float4 first = record[0], second = record[1];
        int low[3], end[3];
        for (int k = 0; k < 3; ++k) {
          low[k] = max(box.low[k], at[k] * BRICK);
          end[k] = min(box.end[k], (at[k] + 1) * BRICK);
        }
        for (int i = low[0]; i < end[0]; ++i)
          for (int j = low[1]; j < end[1]; ++j)
            for (int k = low[2]; k < end[2]; ++k) {
              float di = first.x + (float)(i - box.low[0]), dj = first.y + (float)(j - box.low[1]);
              float dk = first.z + (float)(k - box.low[2]) + second.x * di + second.y * dj;
              dj += second.w * di;
              float value = third.y * exp2f(-first.w * dk * dk - second.z * dj * dj - third.x * di * di);
              long long voxel = ((long long)i * size_j + j) * size_k + k;
              for (int c = 0; c < num_columns; ++c)
                atomicAdd(volumes + c * (long long)size_i * size_j * size_k + voxel,
                          density[(long long)n * num_columns + c] * value);
            }
      }
}

extern "C" __global__ void __launch_bounds__(256) sort_voxels(const int4* items, const u64* totals, int* members) {
  __shared__ int room[4096];
  sort_item<int, 4096>(items, totals, members, room);
}

// Sums an item's Gaussians over its brick. Each lane has the eight voxels of a line along K, each warp four
// planes of I; a batch lies in shared memory with masks of the brick's planes, rows and columns inside each box.
template <int COLUMNS>
__device__ inline void sum_item(
    const float4* records, const int* members, const float* density, int num_columns, const int4* items,
    const u64* totals, Grid g, float* volumes) {
  __shared__ float4 firsts[SUM_BATCH], seconds[SUM_BATCH];
  __shared__ float rates[SUM_BATCH], weights[SUM_BATCH][COLUMNS];
  __shared__ unsigned masks[SUM_BATCH];
  if (blockIdx.x >= totals[1]) return;
  int4 item = items[blockIdx.x];
  int first_column = blockIdx.y * COLUMNS, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  int corner[3] = {item.x / (g.bricks[1] * g.bricks[2]) * BRICK, item.x / g.bricks[2] % g.bricks[1] * BRICK,
                   item.x % g.bricks[2] * BRICK};
  int i = lane / BRICK + 4 * warp, j = lane % BRICK;
  unsigned warp_planes = 0xf0000u << (4 * warp), own = 0x10000u << i | 0x100u << j;
  float sums[COLUMNS][BRICK];
  for (int c = 0; c < COLUMNS; ++c)
    for (int k = 0; k < BRICK; ++k) sums[c][k] = 0.0f;
  for (int start = item.y; start < item.z; start += SUM_BATCH) {
    __syncthreads();
    int many = min(SUM_BATCH, item.z - start);
    if (threadIdx.x < many) {
      int n = members[start + threadIdx.x];
      const float4* record = records + 4ll * n;
      float4 first = record[0], third = record[2];
      Box box = box_of(third, record[3]);
      unsigned mask = 0;
      for (int k = 0; k < 3; ++k) {
        int low = max(box.low[k] - corner[k], 0), end = min(box.end[k] - corner[k], BRICK);
        mask |= ((1u << end) - (1u << low)) << (16 - 8 * k);
      }
      first.x += (float)(corner[0] - box.low[0]), first.y += (float)(corner[1] - box.low[1]);
      first.z += (float)(corner[2] - box.low[2]);
      firsts[threadIdx.x] = first, seconds[threadIdx.x] = record[1];
      rates[threadIdx.x] = third.x, masks[threadIdx.x] = mask;
      for (int c = 0; c < COLUMNS; ++c)
        weights[threadIdx.x][c] =
            first_column + c < num_columns ? third.y * density[(long long)n * num_columns + first_column + c] : 0.0f;
    }
    __syncthreads();
    for (int m = 0; m < many; ++m) {
      unsigned mask = masks[m];
      if (!(mask & warp_planes)) continue;
      float4 first = firsts[m], second = seconds[m];
      float di = first.x + (float)i, dj = first.y + (float)j, t = first.z + second.x * di + second.y * dj;
      dj += second.w * di;
      float base = -(second.z * dj * dj + rates[m] * di * di);
      if ((mask & own) != own) mask = 0;
#pragma unroll
      for (int k = 0; k < BRICK; ++k) {
        float at = t + (float)k, value = exp2f(base - first.w * at * at);
        if (mask & 1u << k) {
#pragma unroll
          for (int c = 0; c < COLUMNS; ++c) sums[c][k] += weights[m][c] * value;
        }
      }
    }
  }
  i += corner[0], j += corner[1];
  if (i >= g.size[0] || j >= g.size[1]) return;
  for (int c = 0; c < COLUMNS && first_column + c < num_columns; ++c) {
    long long line = ((long long)(first_column + c) * g.size[0] + i) * g.size[1] + j;
    float* voxel = volumes + line * g.size[2] + corner[2];
#pragma unroll
    for (int k = 0; k < BRICK; ++k) {
      if (corner[2] + k >= g.size[2] || sums[c][k] == 0.0f) continue;
      // Alone, an item need not be atomic: whatever was drawn without a list is already there.
      if (item.w == 1) voxel[k] += sums[c][k];
      else atomicAdd(voxel + k, sums[c][k]);
    }
  }
}

extern "C" __global__ void __launch_bounds__(SUM_BATCH) sum_voxels(
    const float4* records, const int* members, const float* density, int num_columns, const int4* items,
    const u64* totals, int size_i, int size_j, int size_k, float* volumes) {
  Grid g = grid_of(size_i, size_j, size_k);
  sum_item<1>(records, members, density, num_columns, items, totals, g, volumes);
}

extern "C" __global__ void __launch_bounds__(SUM_BATCH) sum_voxels_by_four(
    const float4* records, const int* members, const float* density, int num_columns, const int4* items,
    const u64* totals, int size_i, int size_j, int size_k, float* volumes) {
  Grid g = grid_of(size_i, size_j, size_k);
  sum_item<4>(records, members, density, num_columns, items, totals, g, volumes);
}
