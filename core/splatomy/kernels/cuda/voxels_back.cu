// The way back from the volume to the parameters; continues voxels.cu.

// One lane's sums over a box: density w g times 1, i, j, k, ii, ij, ik, jj, jk, kk, then w g of four columns.
// Lanes lie along K in eights and along J in fours, and walk along I together; ``part`` of ``parts`` warps takes
// every parts-th block of lanes.
template <int COLUMNS>
__device__ inline void gather_box(const float4* record, const float* density, int columns, const float* gradients,
                                  long long stride, Grid g, int lane, int part, int parts, float sums[MOMENTS]) {
  float4 first = record[0], second = record[1], third = record[2];
  Box box = box_of(third, record[3]);
  float amounts[COLUMNS];
  for (int c = 0; c < COLUMNS; ++c) amounts[c] = c < columns ? density[c] : 0.0f;
  int across = (box.end[2] - box.low[2] + 7) / 8, blocks = across * ((box.end[1] - box.low[1] + 3) / 4);
  int depth = box.end[0] - box.low[0];
  long long plane = (long long)g.size[1] * g.size[2];
  for (int block = part; block < blocks; block += parts) {
    int k = block % across * 8 + lane % 8, j = block / across * 4 + lane / 8;
    bool inside = box.low[2] + k < box.end[2] && box.low[1] + j < box.end[1];
    // A lane outside walks along the box's corner, and counts nothing.
    k = inside ? k : 0, j = inside ? j : 0;
    float dk = first.z + (float)k, dj = first.y + (float)j, di = first.x, s0 = 0.0f, s1 = 0.0f, s2 = 0.0f;
    float shift = dk + second.y * dj;
    const float* voxel = gradients + box.low[0] * plane + (long long)(box.low[1] + j) * g.size[2] + box.low[2] + k;
#pragma unroll 4
    for (int i = 0; i < depth; ++i) {
      float t = shift + second.x * di, u = dj + second.w * di;
      float weight = exp2f(-third.x * di * di - first.w * t * t - second.z * u * u), value = 0.0f;
      weight = inside ? weight : 0.0f;
#pragma unroll
      for (int c = 0; c < COLUMNS; ++c) {
        if (c >= columns) break;
        float given = weight * voxel[c * stride];
        sums[10 + c] += given;
        value += amounts[c] * given;
      }
      s0 += value, s1 += value * di, s2 += value * di * di;
      di += 1.0f, voxel += plane;
    }
    sums[0] += s0, sums[1] += s1, sums[2] += s0 * dj, sums[3] += s0 * dk, sums[4] += s2, sums[5] += s1 * dj;
    sums[6] += s1 * dk, sums[7] += s0 * dj * dj, sums[8] += s0 * dj * dk, sums[9] += s0 * dk * dk;
  }
}

// Sixteen sums of the volume gradient under each box, (groups of columns, N, 16): one warp a Gaussian, and a
// block of them for a large one. No atomics, and no order to fix.
template <int COLUMNS>
__device__ inline void gather_all(const float4* records, const float* density, int num, int num_columns, Grid g,
                                  const float* gradients, float* moments) {
  __shared__ float parts[4][MOMENTS];
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, first_column = blockIdx.y * COLUMNS;
  int columns = min(COLUMNS, num_columns - first_column);
  long long stride = (long long)g.size[0] * g.size[1] * g.size[2];
  gradients += first_column * stride, moments += (long long)blockIdx.y * num * MOMENTS;
  for (int other = -1; other < 4; ++other) {
    bool alone = other < 0;
    int n = blockIdx.x * 4 + (alone ? warp : other);
    if (n >= num && !alone) return;
    long long volume = 0;
    if (n < num) {
      Box box = box_of(records[4ll * n + 2], records[4ll * n + 3]);
      volume = (long long)(box.end[0] - box.low[0]) * (box.end[1] - box.low[1]) * (box.end[2] - box.low[2]);
    }
    if (volume == 0 || (volume > LARGE_BOX) == alone) continue;
    float sums[MOMENTS];
    for (int k = 0; k < MOMENTS; ++k) sums[k] = 0.0f;
    gather_box<COLUMNS>(records + 4ll * n, density + (long long)n * num_columns + first_column, columns, gradients,
                        stride, g, lane, alone ? 0 : warp, alone ? 1 : 4, sums);
    float low = sum_eight(sums, lane), high = sum_eight(sums + 8, lane);
    float* out = alone ? moments + (long long)n * MOMENTS : parts[warp];
    if (lane % 4 == 0) out[lane / 4] = low, out[8 + lane / 4] = high;
    if (alone) continue;
    __syncthreads();
    if (threadIdx.x < MOMENTS)
      moments[(long long)n * MOMENTS + threadIdx.x] = parts[0][threadIdx.x] + parts[1][threadIdx.x] +
                                                      parts[2][threadIdx.x] + parts[3][threadIdx.x];
    __syncthreads();
  }
}

extern "C" __global__ void __launch_bounds__(128) gather_voxels(
    const float4* records, const float* density, int num, int num_columns, int size_i, int size_j, int size_k,
    const float* gradients, float* moments) {
  gather_all<1>(records, density, num, num_columns, grid_of(size_i, size_j, size_k), gradients, moments);
}

extern "C" __global__ void __launch_bounds__(128) gather_voxels_by_four(
    const float4* records, const float* density, int num, int num_columns, int size_i, int size_j, int size_k,
    const float* gradients, float* moments) {
  gather_all<4>(records, density, num, num_columns, grid_of(size_i, size_j, size_k), gradients, moments);
}

// From the sums of all groups of columns to the parameters, one thread a Gaussian.
extern "C" __global__ void __launch_bounds__(128) chain_voxels(
    const float* means, const float* quats, const float* scales, int num, int num_columns, int group,
    const double* grid, double cell, const float4* records, const float* moments, float* d_means, float* d_quats,
    float* d_scales, float* d_density) {
  int n = blockIdx.x * 128 + threadIdx.x;
  if (n >= num) return;
  float* d_own = d_density + (long long)n * num_columns;
  Box box = box_of(records[4ll * n + 2], records[4ll * n + 3]);
  double d_mean[3] = {0, 0, 0}, d_scale[3] = {0, 0, 0};
  float d_quat[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  if (box.end[0] > box.low[0]) {
    Place p;
    double peak = place(means + 3 * n, quats + 4 * n, scales + 3 * n, grid, cell, p), sums[10];
    for (int k = 0; k < 10; ++k) sums[k] = 0.0;
    for (int c = 0; c < num_columns; ++c) {
      const float* own = moments + ((long long)(c / group) * num + n) * MOMENTS;
      d_own[c] = (float)(peak * own[10 + c % group]);
      for (int k = 0; k < 10 && c % group == 0; ++k) sums[k] += own[k];
    }
    double second[3][3] = {{sums[4], sums[5], sums[6]}, {sums[5], sums[7], sums[8]}, {sums[6], sums[8], sums[9]}};
    // The lattice ratio divides the peak.
    double log_peak = peak * sums[0], share = cell > 0 ? log_peak : 0.0, half[3][3], d_rotation[3][3];
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) {
        half[i][j] = d_rotation[i][j] = 0.0;
        for (int k = 0; k < 3; ++k) half[i][j] += p.precision[i][k] * second[k][j];
      }
    double d_covariance[3][3];
    for (int i = 0; i < 3; ++i) {
      double d_centre = cell > 0 ? -share * p.log_centre[i] : 0.0;
      for (int j = 0; j < 3; ++j) {
        d_centre += peak * p.precision[i][j] * sums[1 + j];
        double product = half[i][0] * p.precision[0][j] + half[i][1] * p.precision[1][j] + half[i][2] * p.precision[2][j];
        d_covariance[i][j] = 0.5 * peak * product - 0.5 * share * p.precision[i][j];
        if (cell > 0) d_covariance[i][j] -= share * p.log_covariance[i][j];
      }
      for (int k = 0; k < 3; ++k) d_mean[k] += grid[3 * i + k] * d_centre;
    }
    for (int k = 0; k < 3; ++k) {
      // The peak holds the product of the scales.
      d_scale[k] = share / scales[3 * n + k];
      for (int i = 0; i < 3; ++i) {
        double d_row = 0.0;
        for (int j = 0; j < 3; ++j) d_row += 2 * d_covariance[i][j] * p.rows[j][k];
        d_scale[k] += d_row * p.rows[i][k] / scales[3 * n + k];
        for (int j = 0; j < 3; ++j) d_rotation[j][k] += grid[3 * i + j] * d_row * scales[3 * n + k];
      }
    }
    rotation_backward(quats + 4 * n, d_rotation, d_quat);
  } else {
    for (int c = 0; c < num_columns; ++c) d_own[c] = 0.0f;
  }
  for (int k = 0; k < 3; ++k) d_means[3 * n + k] = (float)d_mean[k], d_scales[3 * n + k] = (float)d_scale[k];
  for (int k = 0; k < 4; ++k) d_quats[4 * n + k] = d_quat[k];
}
